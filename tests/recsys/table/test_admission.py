"""Admission filters against plain counting, at thresholds around every limit that a filter may have."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.features.fid import bucket_of, bucket_owners
from nonet.recsys.table import SGD, EmbeddingTable, Zeros
from nonet.recsys.table.admission import ADMISSIONS, ExactCount, Probabilistic, SlidingSketch
from nonet.recsys.table.interfaces import Admission

THRESHOLDS = [1, 5, 15, 16, 100, 254, 255, 256, 257, 1000]
COUNTING = [ExactCount, SlidingSketch]


def once(admission: Admission, key: int, count: int = 1, now_s: int = 0) -> bool:
    return bool(admission.admit(np.array([key]), np.array([count]), now_s)[0])


def admitted_keys(admission: Admission, stream: NDArray[np.int64], batch: int) -> set[int]:
    """As a table does: it asks for the keys that it does not have, once a batch."""
    inside = np.zeros(int(stream.max()) + 1, bool)
    for start in range(0, len(stream), batch):
        keys, counts = np.unique(stream[start : start + batch], return_counts=True)
        absent = ~inside[keys]
        keys, counts = keys[absent], counts[absent]
        inside[keys[admission.admit(keys, counts, start)]] = True
    return set(np.flatnonzero(inside).tolist())


def zipf_stream(size: int, seed: int = 1) -> NDArray[np.int64]:
    drawn = np.random.default_rng(seed).zipf(1.2, size)
    return np.minimum(drawn, 1 << 20).astype(np.int64)


@pytest.mark.parametrize("kind", COUNTING)
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_a_key_enters_at_the_threshold_th_occurrence_not_before_not_after(kind: type, threshold: int) -> None:
    admission = kind(threshold)
    answers = [once(admission, -(2**63), now_s=n) for n in range(threshold)]
    assert answers == [False] * (threshold - 1) + [True]


@pytest.mark.parametrize("kind", COUNTING)
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_occurrences_within_a_batch_count_each(kind: type, threshold: int) -> None:
    admission = kind(threshold)
    assert once(admission, 7, threshold)
    if threshold > 3:
        assert not once(admission, 8, threshold - 2)
        assert not once(admission, 8)
        assert once(admission, 8)


@pytest.mark.parametrize("kind", COUNTING)
@pytest.mark.parametrize("threshold", [2, 300])
def test_a_key_that_was_admitted_starts_again_at_nothing(kind: type, threshold: int) -> None:
    admission = kind(threshold)
    for _ in range(2):
        assert not once(admission, 5, threshold - 1)
        assert once(admission, 5)


@pytest.mark.parametrize("kind", COUNTING)
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_a_zipf_stream_admits_what_counting_says(kind: type, threshold: int) -> None:
    stream = zipf_stream(200_000)
    reached = {key for key, count in Counter(stream.tolist()).items() if count >= threshold}
    admitted = admitted_keys(kind(threshold), stream, 10_000)
    assert admitted >= reached
    if kind is ExactCount:
        assert admitted == reached
    else:
        assert len(admitted - reached) <= 5  # of some 50,000 keys, at a stated rate of 2.7e-5


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [1, 5, 15, 16, 100, 1000])
def test_five_million_draws(threshold: int) -> None:
    stream = zipf_stream(5_000_000)
    keys, counts = np.unique(stream, return_counts=True)
    reached = set(keys[counts >= threshold].tolist())
    assert admitted_keys(ExactCount(threshold), stream, 50_000) == reached
    sketch = SlidingSketch(threshold, capacity=2_000_000)
    admitted = admitted_keys(sketch, stream, 50_000)
    assert admitted >= reached
    assert len(admitted - reached) <= max(3, 2 * sketch.false_admit_rate * (len(keys) - len(reached)))


KEYS = st.sampled_from([0, -1, 2**63 - 1, -(2**63), 1, 1 << 48, 2 << 48, (2 << 48) + 1])


@settings(deadline=None)  # the first example may compile
@given(st.lists(st.dictionaries(KEYS, st.integers(1, 300), max_size=5), max_size=20), st.sampled_from(COUNTING))
def test_any_history_equals_a_dict(batches: list[dict[int, int]], kind: type) -> None:
    by_slot = {1: 3, 2: 600}
    admission = kind(10, by_slot, **({"capacity": 1_000} if kind is SlidingSketch else {}))
    model: Counter[int] = Counter()
    for batch in batches:
        want = []
        for key, count in batch.items():
            model[key] += count
            want.append(model[key] >= by_slot.get((key >> 48) & 0x7FFF, 10))
            if want[-1]:
                del model[key]
        got = admission.admit(np.array(list(batch), np.int64), np.array(list(batch.values()), np.int64), 0)
        assert got.tolist() == want
        admission = continued(admission)


def continued(admission: Admission) -> Admission:
    """A fresh filter with the state of another, as after a restart."""
    fresh = replace(admission)  # type: ignore[type-var]
    fresh.load_state(admission.state())
    return fresh


def test_the_sketch_remembers_its_capacity_and_forgets_beyond() -> None:
    admission = SlidingSketch(2, capacity=6_000, splits=7)
    bytes_before = admission.num_bytes
    old = np.arange(1_000)
    ones = np.ones(1_000, np.int64)
    assert not admission.admit(old, ones, 0).any()
    for start in range(1_000, 6_000, 1_000):
        assert not admission.admit(np.arange(start, start + 1_000), ones, 0).any()
    assert admission.admit(old[:500], ones[:500], 0).all()
    for start in range(10_000, 18_000, 1_000):
        admission.admit(np.arange(start, start + 1_000), ones, 0)
    assert not admission.admit(old[500:], ones[500:], 0).any()
    assert admission.num_bytes == bytes_before < 6.5 * 6_000 + 200_000
    assert admission.num_forgotten == 0


def test_a_batch_larger_than_the_sketch_only_forgets() -> None:
    admission = SlidingSketch(3, capacity=100)
    keys = np.arange(10_000)
    assert not admission.admit(keys, np.full(10_000, 2), 0).any()
    assert admission.admit(keys, np.ones(10_000, np.int64), 0).sum() <= 200


def test_false_admits_of_the_sketch_stay_below_the_stated_rate() -> None:
    admission = SlidingSketch(2, capacity=500_000)
    keys = np.arange(500_000)
    wrong = sum(
        int(admission.admit(keys[s : s + 100_000], np.ones(100_000, np.int64), 0).sum()) for s in keys[::100_000]
    )
    assert wrong <= admission.false_admit_rate * len(keys)
    assert admission.false_admit_rate < 1e-4


def test_keys_past_255_are_forgotten_with_their_window() -> None:
    admission = SlidingSketch(1_000, capacity=600)
    assert not once(admission, -1, 999)
    for start in range(0, 10_000, 100):
        admission.admit(np.arange(start, start + 100), np.ones(100, np.int64), 0)
    assert not once(admission, -1)


def test_exact_counts_are_forgotten_by_event_time() -> None:
    admission = ExactCount(2, forget_after_s=100)
    assert not once(admission, 1, now_s=1_000)
    assert not once(admission, 2, now_s=1_090)
    assert not once(admission, 3, now_s=1_120)
    assert admission.num_waiting == 2
    assert not once(admission, 4, now_s=50)  # a late event does not turn the clock back
    assert not once(admission, 1, now_s=1_121)
    assert once(admission, 2, now_s=1_121)


@pytest.mark.parametrize("threshold", [4, 1_000])
@pytest.mark.parametrize("kind", COUNTING)
def test_counts_move_with_their_buckets_to_other_shards(kind: type, threshold: int) -> None:
    rng = np.random.default_rng(0)
    keys = rng.integers(-(2**63), 2**63 - 1, 3_000)
    counts = rng.integers(1, threshold, len(keys))
    shards = bucket_owners(4)[bucket_of(keys)]
    states = []
    for shard in range(4):
        admission = kind(threshold)
        assert not admission.admit(keys[shards == shard], counts[shards == shard], 0).any()
        states.append(admission.state())
    owners = bucket_owners(3)
    for shard in range(3):
        admission = kind(threshold)
        admission.load_state(admission.merged(states, owners == shard))
        mine = owners[bucket_of(keys)] == shard
        assert not admission.admit(keys[mine], threshold - counts[mine] - 1 + (counts[mine] == threshold - 1), 0)[
            counts[mine] < threshold - 1
        ].any()
        left = mine & (counts < threshold - 1)
        assert admission.admit(keys[left], np.ones(left.sum(), np.int64), 0).all()


@pytest.mark.parametrize("stable_s", [None, 10])
@pytest.mark.parametrize("threshold", [1, 2, 5, 16, 100])
def test_chance_unequal_admits_one_in_t_and_equal_95_percent_after_t(threshold: int, stable_s: int | None) -> None:
    n = 100_000
    keys, ones = np.random.default_rng(threshold).integers(-(2**63), 2**63 - 1, n), np.ones(n, np.int64)
    unequal = Probabilistic(threshold, stable_s=stable_s, seed=3)
    p = 1 / threshold
    assert abs(unequal.admit(keys, ones, 0).mean() - p) <= 3 * (p * (1 - p) / n) ** 0.5
    assert unequal.admit(keys, ones * threshold, 0).all()
    equal = Probabilistic(threshold, mode="equal", stable_s=stable_s, seed=4)
    inside = np.zeros(n, bool)
    for step in range(threshold):
        absent = np.flatnonzero(~inside)
        inside[absent[equal.admit(keys[absent], ones[absent], 10 * step)]] = True
    want = 1.0 if threshold == 1 else 0.95
    assert abs(inside.mean() - want) <= 3 * (0.95 * 0.05 / n) ** 0.5
    if threshold > 1:
        at_once = Probabilistic(threshold, mode="equal", stable_s=stable_s, seed=5)
        assert abs(at_once.admit(keys, ones * threshold, 0).mean() - want) <= 3 * (0.95 * 0.05 / n) ** 0.5


def test_a_stable_draw_depends_on_seed_key_and_step_alone() -> None:
    keys, ones = np.arange(1_000), np.ones(1_000, np.int64)
    a, b, other = (Probabilistic(3, stable_s=60, seed=seed) for seed in (1, 1, 2))
    whole = a.admit(keys, ones, 100)
    parts = np.concatenate([b.admit(keys[s : s + 7], ones[s : s + 7], 119) for s in range(0, 1_000, 7)])
    assert np.array_equal(whole, parts)
    assert not np.array_equal(whole, a.admit(keys, ones, 120))
    assert not np.array_equal(whole, other.admit(keys, ones, 100))


def test_draws_that_are_not_stable_go_on_after_a_restart() -> None:
    keys, ones = np.arange(1_000), np.ones(1_000, np.int64)
    admission = Probabilistic(3, seed=1)
    first = admission.admit(keys, ones, 0)
    restarted = continued(admission)
    second = admission.admit(keys, ones, 0)
    assert not np.array_equal(first, second)
    assert np.array_equal(second, restarted.admit(keys, ones, 0))


@pytest.mark.parametrize("name", list(ADMISSIONS))
def test_a_table_asks_in_training_and_never_in_a_lookup(name: str) -> None:
    admission = ADMISSIONS[name](threshold=3)
    table = EmbeddingTable(2, optimizer=SGD(1.0), initializer=Zeros(), admission=admission)
    for _ in range(10):
        table.lookup([5])
    if name == "probabilistic":
        assert admission.state()["draws"] == 0
        return
    one = np.ones((1, 2), np.float32)
    assert table.apply_gradients([5, 5], np.repeat(one, 2, axis=0)).filtered == 1
    assert table.apply_gradients([5], one).created == 1
    table.erase([5])
    assert table.apply_gradients([5], one).filtered == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ExactCount(-1), "threshold must be"),
        (lambda: ExactCount(5, {3: 1 << 25}), "threshold of slot 3"),
        (lambda: SlidingSketch(5, {32_768: 1}), "slot 32768"),
        (lambda: ExactCount(5, forget_after_s=0), "forget_after_s"),
        (lambda: SlidingSketch(splits=1), "splits"),
        (lambda: SlidingSketch(capacity=0), "capacity"),
        (lambda: Probabilistic(mode="maybe"), "mode"),
        (lambda: Probabilistic(stable_s=0), "stable_s"),
        (lambda: Probabilistic(seed=-1), "seed"),
        (lambda: SlidingSketch(capacity=10).load_state(SlidingSketch(capacity=1_000).state()), "shape"),
    ],
)
def test_wrong_options_are_refused(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]
