"""Algorithm 1: what is measured before what is learned, by which copy, at what cost."""

from itertools import pairwise

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.recsys.example import Bags, ExampleBatch
from nonet.recsys.freshness.drift import Drift
from nonet.recsys.freshness.serving_copy import ServingCopy, pass_on
from nonet.recsys.freshness.setup import Setup
from nonet.recsys.freshness.simulate import simulate
from nonet.recsys.training.metrics import auc
from tests.recsys.training.batches import random_batch, with_columns

SMALL = Setup(dim=4, hidden=(8,), batch_rows=64)


def test_a_copy_changes_only_when_it_is_synced():
    trainer = SMALL.trainer(("a", "b"))
    for seed in range(3):
        trainer.step(random_batch(seed=seed))
    copy = ServingCopy(trainer)
    batch = random_batch(seed=9)
    before = copy.predict(batch)
    assert (before == trainer.predict(batch)).all()
    for seed in range(3, 6):
        trainer.step(random_batch(seed=seed))
    pass_on(trainer, [copy])
    assert (copy.predict(batch) == before).all() and (trainer.predict(batch) != before).any()
    copy.sync()
    assert (copy.predict(batch) == trainer.predict(batch)).all()


def test_a_sync_carries_what_was_touched_and_tombstones():
    trainer = SMALL.trainer(("a", "b"))
    trainer.step(random_batch(200, seed=1))
    table = trainer.distinct_tables[0]
    pass_on(trainer, [])
    early, late = ServingCopy(trainer), ServingCopy(trainer)
    batch = random_batch(10, seed=2)
    trainer.step(batch)
    keys = np.unique(np.concatenate([bags.values for bags in batch.ids.values()]))
    table.erase(keys[:2])
    pass_on(trainer, [early, late])
    cost = early.sync()
    assert cost.rows == len(keys) and cost.sparse_bytes == (len(keys) - 2) * (8 + 4 * 5) + 2 * 8
    assert cost.dense_bytes == sum(value.nbytes for value in trainer.dense_state().values())
    assert early.sync().rows == 0
    table.upsert(keys[:1], np.ones((1, 5), np.float32))  # comes back before the other copy syncs
    pass_on(trainer, [early, late])
    assert late.sync().rows == len(keys) and early.sync().rows == 1
    rows = random_batch(50, seed=3)
    assert (late.predict(rows) == trainer.predict(rows)).all() and (early.predict(rows) == late.predict(rows)).all()


def by_hand(data, shards, seed, setup, history=5 / 7):
    """Algorithm 1, where the trainer itself is the copy that was synced at the start of a shard."""
    cut = int(len(data) * history)
    trainer = setup.trainer(tuple(data.ids), data.dense.shape[1], seed)
    setup.learn(trainer, data.take(slice(0, cut)))
    rest = data.take(slice(cut, len(data)))
    frozen = trainer.predict(rest)
    bounds = np.linspace(0, len(rest), shards + 1).astype(int)
    answers, touched = [], []
    for start, stop in pairwise(bounds):
        part = rest.take(slice(int(start), int(stop)))
        answers.append(trainer.predict(part))
        setup.learn(trainer, part)
        touched.append(len(np.unique(np.concatenate([bags.values for bags in part.ids.values()]))))
    parts = [auc(rest.label[a:b], p) for a, b, p in zip(bounds[:-1], bounds[1:], answers, strict=True)]
    colds = [auc(rest.label[a:b], frozen[a:b]) for a, b in pairwise(bounds)]
    return parts, colds, auc(rest.label, np.concatenate(answers)), auc(rest.label, frozen), touched


def test_equals_the_algorithm_written_plainly():
    data = Drift(rows=3000, users=50, items=30, seed=1).log().examples
    result = simulate(data, shards=[6], seeds=[3], setup=SMALL)
    online, frozen, pooled, pooled_frozen, touched = by_hand(data, 6, 3, SMALL)
    assert [s.online_auc for s in result.shards] == pytest.approx(online, abs=1e-12)
    assert [s.frozen_auc for s in result.shards] == pytest.approx(frozen, abs=1e-12)
    run, line = result.runs[0], result.table()[0]
    assert (run.pooled_online_auc, run.pooled_frozen_auc) == pytest.approx((pooled, pooled_frozen), abs=1e-12)
    assert line.gain == pytest.approx(np.mean(online) - np.mean(frozen))
    assert [s.sync_rows for s in result.shards] == [0, *touched[:-1]]
    assert run.sync_rows == pytest.approx(np.mean(touched[:-1]))
    assert run.sync_bytes == pytest.approx(np.mean(touched[:-1]) * (8 + 4 * 5) + run.dense_bytes)
    assert sum(s.rows for s in result.shards) == result.online_rows == 3000 - result.history_rows


def test_labels_of_coins_gain_nothing():
    """If a row were learned before it is scored, unique ids would give it away."""
    size = 4000
    draw = np.random.default_rng(2)
    data = with_columns(
        random_batch(size, vocabulary=10**8),
        label=draw.integers(0, 2, size).astype(np.float32),
        ts_ms=np.arange(size, dtype=np.int64),
    )
    line = simulate(data, shards=[20], seeds=[0], setup=SMALL).table()[0]
    assert 0.45 < line.pooled_online_auc < 0.55


def test_fresher_is_better_where_the_truth_moves_and_the_oracle_is_the_ceiling():
    """One id whose click rate flips every so often: the last shards tell all."""
    size, period = 14_000, 1000
    which = np.arange(size) % 2
    flip = (np.arange(size) // period) % 2
    draw = np.random.default_rng(3)
    label = (draw.random(size) < np.where(which == flip, 0.9, 0.1)).astype(np.float32)
    ones = np.ones(size, np.float32)
    data = ExampleBatch(
        {"a": Bags.single(which)}, np.zeros((size, 0), np.float32), label, ones, ones.copy(), np.arange(size) * 1000
    )
    fast = Setup("lr", 1, batch_rows=20, learning_rate=2.0)
    lines = {line.num_shards: line for line in simulate(data, shards=[2, 40], seeds=[0], setup=fast).table()}
    assert lines[40].pooled_online_auc > 0.6 > lines[2].pooled_online_auc
    assert lines[40].pooled_online_auc < auc(label[10_000:], np.where(which == flip, 0.9, 0.1)[10_000:])
    assert lines[40].interval_s == pytest.approx(100, rel=0.01)
    assert lines[40].bytes_per_day == pytest.approx(lines[40].sync_bytes * 864, rel=0.01)


def test_several_intervals_share_one_pass_and_seeds_repeat():
    data = Drift(rows=2000, users=50, items=30, seed=1).log().examples
    first = simulate(data, shards=[4, 10], seeds=[0, 1], setup=SMALL)
    assert first == simulate(data, shards=[4, 10], seeds=[0, 1], setup=SMALL)
    assert [(run.num_shards, run.seed) for run in first.runs] == [(4, 0), (10, 0), (4, 1), (10, 1)]
    assert len(first.shards) == 28 and len(first.table()) == 2
    spread = np.std([run.online_auc - run.frozen_auc for run in first.runs if run.num_shards == 4])
    assert first.table()[0].gain_spread == pytest.approx(spread)
    # One shard is never synced before it ends: it is the frozen model.
    alone = simulate(data, shards=[1], seeds=[0], setup=SMALL).runs[0]
    assert alone.online_auc == alone.frozen_auc and alone.sync_rows == 0


def test_a_trainer_of_ones_own():
    data = Drift(rows=1000, seed=1).log().examples
    made = []

    def make(seed):
        made.append(seed)
        return Setup("lr", 1).trainer(tuple(data.ids), 0, seed)

    simulate(data, shards=[3], seeds=[7, 8], make_trainer=make)
    assert made == [7, 8]


def test_what_cannot_be_cut():
    data = Drift(rows=100, seed=1).log().examples
    with pytest.raises(InputError, match="every shard needs a row"):
        simulate(data, shards=[50])
    with pytest.raises(InputError, match="every shard needs a row"):
        simulate(data, shards=[2], history=1.0)
    with pytest.raises(InputError, match="order of their time"):
        simulate(data.take(slice(None, None, -1)), shards=[2])
