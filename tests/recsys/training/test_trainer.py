"""The trainer against a plain loop of torch on the same rows, and against its own contract."""

import numpy as np
import pytest
import torch
from torch import nn

from nonet.common.errors import InputError
from nonet.recsys.example import Bags, ExampleBatch
from nonet.recsys.table.embedding_table import EmbeddingTable
from nonet.recsys.table.optimizers import Adagrad
from nonet.recsys.training.metrics import Windows, auc
from nonet.recsys.training.models import MODELS, build_model
from nonet.recsys.training.presets import preset_table
from nonet.recsys.training.trainer import Positioned, Trainer
from tests.recsys.training.batches import random_batch, with_columns

LR = 0.05


def adagrad(weights):
    return torch.optim.Adagrad(weights, lr=LR, initial_accumulator_value=0.1, eps=0)


def filled(table, vocabulary=20, features=2):
    """Every id known, with rows that are not zero."""
    ids = np.concatenate([np.arange(vocabulary) + (slot << 48) for slot in range(1, features + 1)])
    rows = np.random.default_rng(9).normal(0, 0.3, (len(ids), table.dim)).astype(np.float32)
    table.upsert(ids, rows)
    return ids, rows


def plain_torch(name, ids, rows, batches, pooling, mean):
    """The same training with `EmbeddingBag` over numbered rows; gradients of the vectors summed unless `mean`."""
    number = {key: n for n, key in enumerate(ids.tolist())}
    bag = nn.EmbeddingBag.from_pretrained(torch.from_numpy(rows.copy()), freeze=False, mode=pooling)
    model = build_model(name, 2, rows.shape[1] - MODELS[name].needs_bias, batches[0].dense.shape[1], seed=4)
    sparse, dense = adagrad([bag.weight]), adagrad(model.parameters())
    for batch in batches:
        pooled = torch.stack(
            [
                bag(
                    torch.tensor([number[i] for i in b.values.tolist()], dtype=torch.long), torch.tensor(b.offsets[:-1])
                )
                for b in batch.ids.values()
            ],
            1,
        )
        x = torch.from_numpy(batch.dense)
        logits = model(pooled[:, :, 1:], x, pooled[:, :, 0]) if model.needs_bias else model(pooled, x)
        entropy = nn.functional.binary_cross_entropy_with_logits(
            logits, torch.from_numpy(batch.label), torch.from_numpy(batch.weight), reduction="sum"
        )
        sparse.zero_grad()
        dense.zero_grad()
        entropy.backward()
        for weight in [*model.parameters(), *([bag.weight] if mean else [])]:
            weight.grad /= len(batch)
        sparse.step()
        dense.step()
    return bag.weight.detach().numpy(), model.state_dict()


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize(
    ("bags", "pooling", "mean"), [(False, "sum", False), (True, "sum", False), (True, "mean", True)]
)
def test_equals_plain_torch(name, bags, pooling, mean):
    table = preset_table(name, 4, learning_rate=LR)
    ids, rows = filled(table)
    batches = [random_batch(32, num_dense=3, bags=bags, seed=seed) for seed in range(8)]
    trainer = Trainer(
        name, table, features=["a", "b"], num_dense=3, pooling=pooling, optimizer=adagrad,
        sparse_gradients="mean" if mean else "sum", seed=4,
    )  # fmt: skip
    for batch in batches:
        trainer.step(batch)
    expected_rows, expected_state = plain_torch(name, ids, rows, batches, pooling, mean)
    assert table.lookup(ids) == pytest.approx(expected_rows, abs=2e-5)
    assert np.abs(expected_rows - rows).max() > 1e-4
    for key, value in trainer.dense_state().items():
        assert value == pytest.approx(expected_state[key].numpy(), abs=2e-5)


def test_a_table_for_each_feature_equals_one_for_all():
    one = preset_table("deepfm", 4)
    apart = {name: preset_table("deepfm", 4) for name in ("a", "b")}
    trainers = [Trainer("deepfm", one, features=["a", "b"]), Trainer("deepfm", apart)]
    for seed in range(5):
        batch = random_batch(bags=seed % 2 == 0, seed=seed)
        first, second = (trainer.step(batch) for trainer in trainers)
        assert first.loss == pytest.approx(second.loss, abs=1e-6)
    for slot, table in enumerate(apart.values(), 1):
        keys = np.arange(20) + (slot << 48)
        assert table.lookup(keys) == pytest.approx(one.lookup(keys), abs=1e-6)
    assert len(trainers[1].distinct_tables) == 2 and len(trainers[0].distinct_tables) == 1


def test_answers_of_a_step_are_from_before_it():
    trainer = Trainer("deepfm", preset_table("deepfm", 4), features=["a", "b"])
    for seed in range(4):
        batch = random_batch(seed=seed)
        before = trainer.predict(batch)
        assert (trainer.step(batch).probability == before).all()
        assert (trainer.predict(batch) != before).any()


def test_predicting_changes_nothing():
    trainer = Trainer("fm", preset_table("fm", 4), features=["a", "b"])
    trainer.step(random_batch())
    trainer.distinct_tables[0].take_touched()
    size = len(trainer.distinct_tables[0])
    unknown = random_batch(vocabulary=10**9, seed=5)
    first, second = trainer.predict(unknown), trainer.predict(unknown)
    assert (first == second).all() and len(set(first.tolist())) == 1
    assert len(trainer.distinct_tables[0]) == size and len(trainer.distinct_tables[0].take_touched().upserted) == 0


@pytest.mark.parametrize("name", ["deepfm", "dlrm"])
def test_bad_rows_are_left_out_and_counted(name):
    batch = random_batch(40, num_dense=2, bags=True)
    dense, label, weight, rate = batch.dense.copy(), batch.label.copy(), batch.weight.copy(), batch.sample_rate.copy()
    dense[3, 0], dense[4, 1], label[5], label[6] = np.nan, np.inf, np.nan, 2
    weight[7], weight[8], rate[9], rate[10] = np.nan, -1, 0, 1.5
    bad = list(range(3, 11))
    spoilt = with_columns(batch, dense=dense, label=label, weight=weight, sample_rate=rate)
    whole, part = (Trainer(name, preset_table(name, 4), features=["a", "b"], num_dense=2) for _ in range(2))
    stats = whole.step(spoilt)
    clean = part.step(batch.take(np.setdiff1d(np.arange(40), bad)))
    assert (stats.rows, stats.rejected, clean.rejected) == (40, 8, 0)
    assert np.flatnonzero(np.isnan(stats.probability)).tolist() == bad
    assert stats.loss == clean.loss
    for ours, theirs in zip(whole.distinct_tables[0].export(), part.distinct_tables[0].export(), strict=True):
        assert (ours == theirs).all()
    scores = whole.predict(spoilt)
    assert np.isfinite(scores).all()
    zeroed = with_columns(batch, dense=np.where(np.isfinite(dense), dense, 0))
    assert (scores == whole.predict(zeroed)).all()
    assert np.isnan(whole.step(spoilt.take(np.array(bad))).loss)


def test_empty_batch_and_empty_bags():
    trainer = Trainer("deepfm", preset_table("deepfm", 4), features=["a", "b"])
    empty = random_batch(8).take(slice(0, 0))
    stats = trainer.step(empty)
    assert stats.rows == 0 and np.isnan(stats.loss) and len(trainer.predict(empty)) == 0 and trainer.steps == 0
    nothing = Bags(np.empty(0, np.int64), np.zeros(9, np.int64))
    bare = random_batch(8)
    bare = ExampleBatch(
        {"a": nothing, "b": nothing}, *(getattr(bare, c) for c in ("dense", "label", "weight", "sample_rate", "ts_ms"))
    )
    trainer.step(bare)
    assert len(trainer.distinct_tables[0]) == 0 and len(set(trainer.predict(bare).tolist())) == 1


def test_a_hundred_thousand_ids_in_one_example():
    trainer = Trainer("fm", preset_table("fm", 4), features=["a", "b"])
    many = Bags.of([list(range(100_000)), [1]])
    batch = random_batch(2)
    batch = ExampleBatch(
        {"a": many, "b": batch.ids["b"]}, batch.dense, batch.label, batch.weight, batch.sample_rate, batch.ts_ms
    )
    trainer.step(batch)
    assert len(trainer.distinct_tables[0]) >= 100_000 and np.isfinite(trainer.predict(batch)).all()


def test_time_of_events_stamps_the_rows():
    table = preset_table("fm", 4)
    trainer = Trainer("fm", table, features=["a", "b"])
    trainer.step(with_columns(random_batch(8), ts_ms=np.full(8, 1_700_000_000_999)))
    assert set(table.export().ts.tolist()) == {1_700_000_000}
    trainer.step(with_columns(random_batch(8), ts_ms=np.full(8, -5)))  # before 1970: does not make rows older
    assert table.export().ts.max() == 1_700_000_000


def test_training_stops_where_it_is_told():
    batches = [random_batch(10, seed=seed) for seed in range(5)]
    batches = [with_columns(b, ts_ms=np.arange(10) + 10 * n) for n, b in enumerate(batches)]
    source = [Positioned(batch, {"0": 10 * (n + 1)}) for n, batch in enumerate(batches)]

    def fresh():
        return Trainer("fm", preset_table("fm", 4), features=["a", "b"])

    by_time, by_rows, by_hand = fresh(), fresh(), fresh()
    assert by_time.train(source, until_ms=25).rows == 25
    assert by_rows.train(iter(source), max_rows=25).rows == 25
    for batch in (*batches[:2], batches[2].take(slice(0, 5))):
        by_hand.step(batch)
    for trainer in (by_time, by_rows):
        assert (trainer.tables["a"].export().rows == by_hand.tables["a"].export().rows).all()
        assert trainer.offsets == {"0": 20}  # the batch that was cut has to come again
    assert fresh().train(batches).rows == 50


def test_progressive_validation_scores_before_it_learns():
    """Labels are coins: whoever scores a row after learning from it would look good."""
    draw = np.random.default_rng(0)
    rows = random_batch(4000, vocabulary=100_000)
    rows = with_columns(rows, label=draw.integers(0, 2, 4000).astype(np.float32))
    trainer = Trainer("deepfm", preset_table("deepfm", 4), features=["a", "b"])
    windows = Windows(rows=4000)
    stats = trainer.train((rows.take(slice(n, n + 50)) for n in range(0, 4000, 50)), windows=windows)
    assert 0.47 < stats.windows[0].auc < 0.53
    assert auc(rows.label, trainer.predict(rows)) > 0.9


class Cosine(nn.Module):
    """A user's own: no bias, one weight."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, embeddings, dense):
        return self.scale * (embeddings[:, 0] * embeddings[:, 1]).sum(1)


def test_a_module_of_ones_own_learns():
    draw = np.random.default_rng(1)
    batch = random_batch(2000, vocabulary=10)
    sign = (batch.ids["a"].values + batch.ids["b"].values) % 2
    batch = with_columns(batch, label=sign.astype(np.float32))
    table = EmbeddingTable(8, optimizer=Adagrad(lr=0.1))
    trainer = Trainer(Cosine(), table, features=["a", "b"])
    for _ in range(10):
        order = draw.permutation(2000)
        for start in range(0, 2000, 50):
            trainer.step(batch.take(order[start : start + 50]))
    assert auc(batch.label, trainer.predict(batch)) > 0.95
    assert set(trainer.dense_state()) == {"scale"}


class Dropping(Cosine):
    """Random in training, not in scoring."""

    def forward(self, embeddings, dense):
        return super().forward(nn.functional.dropout(embeddings, 0.5, self.training), dense)


def test_scoring_is_in_evaluation_mode():
    table = EmbeddingTable(8)
    filled(table)
    trainer = Trainer(Dropping(), table, features=["a", "b"])
    trainer.step(random_batch())
    assert (trainer.predict(random_batch(seed=3)) == trainer.predict(random_batch(seed=3))).all()


class Wrong(nn.Module):
    def forward(self, embeddings, dense):
        return embeddings.sum(1)


def test_what_does_not_fit_says_so():
    table = preset_table("fm", 4)
    with pytest.raises(InputError, match=r"answers with shape \(64, 5\) for 64 rows"):
        Trainer(Wrong(), table, features=["a", "b"]).step(random_batch())
    with pytest.raises(InputError, match=r"lacks the features \['c'\]"):
        Trainer("fm", table, features=["a", "c"]).step(random_batch())
    with pytest.raises(InputError, match="needs their names"):
        Trainer("fm", table)
    with pytest.raises(InputError, match="one dimension"):
        Trainer("fm", {"a": table, "b": preset_table("fm", 5)})
    with pytest.raises(InputError, match="are not those of the tables"):
        Trainer("fm", {"a": table}, features=["b"])
    with pytest.raises(InputError, match="pooling"):
        Trainer("fm", table, features=["a"], pooling="max")
