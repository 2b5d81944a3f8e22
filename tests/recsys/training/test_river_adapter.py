"""The adapter under river's own evaluation, against the trainer fed by hand."""

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.recsys.example import Bags, ExampleBatch
from nonet.recsys.features.encoder import FeatureEncoder
from nonet.recsys.training.metrics import auc
from nonet.recsys.training.presets import preset_table
from nonet.recsys.training.trainer import Trainer

river = pytest.importorskip("river")


def make():
    return Trainer("fm", preset_table("fm", 4, learning_rate=0.1), features=["user", "item"], num_dense=1)


def examples(size=400, seed=2):
    draw = np.random.default_rng(seed)
    for _ in range(size):
        user, item, price = int(draw.integers(0, 12)), int(draw.integers(0, 9)), float(draw.normal())
        yield {"user": user, "item": f"i{item}", "price": price}, bool(draw.random() < (0.85 if item % 2 else 0.2))


def test_progressive_validation_of_river():
    from river import evaluate, metrics

    from nonet.recsys.training.river_adapter import RiverClassifier

    model = RiverClassifier(make(), dense=["price"])
    loss = evaluate.progressive_val_score(examples(), model, metrics.LogLoss())

    trainer, labels, answers = make(), [], []
    for x, y in examples():
        ids = {
            "user": Bags.single(FeatureEncoder("user", 1).ids([str(x["user"])])),
            "item": Bags.single(FeatureEncoder("item", 2).ids([x["item"]])),
        }
        one = np.ones(1, np.float32)
        row = ExampleBatch(
            ids, np.array([[x["price"]]], np.float32), np.array([y], np.float32), one, one, np.zeros(1, int)
        )
        answers.append(float(trainer.predict(row)[0]))
        labels.append(float(y))
        trainer.step(row)
    p, y = np.array(answers), np.array(labels)
    assert loss.get() == pytest.approx(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)), rel=1e-6)
    assert auc(y[200:], p[200:]) > 0.6


def test_lists_missing_values_and_labels():
    from nonet.recsys.training.river_adapter import RiverClassifier

    model = RiverClassifier(make(), dense=["price"])
    batch = model.to_batch({"user": ["a", "b"]}, 1.0)
    assert batch.ids["user"].values.tolist() == FeatureEncoder("user", 1).ids(["a", "b"]).tolist()
    assert batch.ids["item"].offsets.tolist() == [0, 0] and batch.dense.tolist() == [[0.0]]
    model.learn_one({"user": "a"}, 1)
    model.learn_one({"user": "a", "price": float("nan")}, 1)  # left out
    assert model.trainer.steps == 1
    assert model.predict_one({"user": "a"}) is True
    assert sum(model.predict_proba_one({}).values()) == pytest.approx(1)
    with pytest.raises(InputError, match="true and false, not 'yes'"):
        model.learn_one({}, "yes")
    with pytest.raises(InputError, match="must be numbers"):
        model.learn_one({"price": "dear"}, True)
