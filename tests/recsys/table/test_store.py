"""The store against a dict: hypothesis, hostile keys, growth, memory that goes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.recsys.table import store as store_module
from nonet.recsys.table._hash_kernels import alternative, home_of, mix64, tag_of
from nonet.recsys.table.oracle import colliding_keys, hostile_keys
from nonet.recsys.table.store import CROWDED, RowStore

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
# Few distinct keys, so that operations meet; some of them extreme, some in the same two buckets.
SOME_KEYS = st.sampled_from([0, -1, (1 << 63) - 1, -(1 << 63), *range(2, 40), *colliding_keys(40).tolist()])
BATCHES = st.lists(SOME_KEYS | INT64, max_size=60)


def rows_for(keys: np.ndarray, version: int, dim: int) -> np.ndarray:
    return (np.arange(len(keys))[:, None] + version * 100 + np.arange(dim) / 8).astype(np.float32)


@given(st.lists(st.tuples(st.sampled_from(["put", "erase", "compact"]), BATCHES), max_size=30))
@settings(max_examples=60, deadline=None)
def test_store_equals_a_dict(operations: list[tuple[str, list[int]]]) -> None:
    store, model = RowStore(3, 1), {}
    for version, (operation, batch) in enumerate(operations):
        keys = np.array(batch, np.int64)
        if operation == "put":
            rows = rows_for(keys, version, 3)
            created = store.put(keys, rows, rows[:, :1].copy(), ts=version)
            assert created.sum() == len(set(batch) - set(model))
            model.update(dict(zip(batch, rows.tolist(), strict=True)))
        elif operation == "erase":
            assert store.erase(keys).sum() == len(set(batch) & set(model))
            for key in batch:
                model.pop(key, None)
        else:
            store.compact()
        store.check_integrity()
        assert len(store) == len(model)
    entries = store.entries()
    assert sorted(entries.keys.tolist()) == sorted(model)
    everything = np.array([*model, 123456789], np.int64)
    rows, found = store.lookup(everything)
    assert found.tolist() == [key in model for key in everything.tolist()]
    assert rows.tolist() == [model.get(key, [0.0] * 3) for key in everything.tolist()]


@given(INT64, st.integers(1, 1 << 40))
def test_alternative_is_an_involution(key: int, num_buckets: int) -> None:
    num_buckets = num_buckets % ((1 << 31) - 1) + 1
    # A kernel called from Python answers with a plain int; typed again it stays 64 bits unsigned.
    hashed, size = np.uint64(mix64(np.int64(key))), np.uint64(num_buckets)
    home, tag = np.uint64(home_of(hashed, size)), np.uint64(tag_of(hashed))
    other = np.uint64(alternative(home, tag, size))
    assert 0 <= home < num_buckets
    assert 0 <= other < num_buckets
    assert alternative(other, tag, size) == home
    assert 1 <= tag <= 255


def test_mix64_is_splitmix64() -> None:
    # The first outputs of the published generator with seed 0 are mix64 of 0, golden, 2 golden...
    golden = 0x9E3779B97F4A7C15
    first = [mix64(np.uint64(i * golden % (1 << 64)).astype(np.int64)) for i in range(3)]
    assert [int(x) for x in first] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@pytest.mark.parametrize("others", [0, 40, 5_000])
def test_forty_keys_of_the_same_two_buckets_are_all_kept(others: int) -> None:
    keys = colliding_keys(40, seed=7)
    hashes = [np.uint64(mix64(key)) for key in keys]
    size = np.uint64(1 << 30)
    assert len({(home_of(h, size), tag_of(h)) for h in hashes}) == 1  # they do meet, even in an index of this size
    store = RowStore(2)
    store.put(np.arange(others), np.zeros((others, 2), np.float32))
    rows = rows_for(keys, 1, 2)
    for at in range(len(keys)):
        store.put(keys[at : at + 1], rows[at : at + 1])
        store.check_integrity()
    assert np.array_equal(store.lookup(keys)[0], rows)
    assert len(store) == others + 40
    # Bounded: the hash is changed at the same size, not the size doubled until 64 bits differ.
    assert store.load > 0.3
    assert all(load >= CROWDED for load in store.loads_at_growth)


def test_hostile_keys_in_one_batch_and_one_by_one() -> None:
    keys = np.unique(hostile_keys(4_000))
    rows = rows_for(keys, 0, 2)
    whole, single = RowStore(2), RowStore(2)
    whole.put(keys, rows)
    for at in range(len(keys)):
        single.put(keys[at : at + 1], rows[at : at + 1])
    for store in (whole, single):
        store.check_integrity()
        assert np.array_equal(store.lookup(keys)[0], rows)
        assert not store.contains(keys[keys > 10**6] - 1)[~np.isin(keys[keys > 10**6] - 1, keys)].any()


@pytest.mark.parametrize("size", [100, 1_000, 10_000, 50_000, 333_333])
def test_growth_waits_until_the_index_is_full_and_does_not_move_rows(size: int) -> None:
    store = RowStore(1)
    keys = np.random.default_rng(size).permutation(size)
    first = keys[:50]
    store.put(first, np.ones((50, 1), np.float32))
    before = store.find(first)[0]
    for part in np.array_split(keys, 20):
        store.put(part, np.ones((len(part), 1), np.float32))
    assert np.array_equal(store.find(first)[0], before)
    assert store.loads_at_growth
    assert min(store.loads_at_growth) >= 0.90
    assert store.load >= store_module.LOWEST_LOAD - 0.08  # of the smallest indexes, a bucket is much
    store.check_integrity()


def test_an_erased_row_is_used_again_and_remembers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "CHUNK_BYTES", 1 << 12)
    store = RowStore(4, 4, counted=True)
    keys = np.arange(1_000)
    store.put(
        keys, np.full((1_000, 4), 9, np.float32), np.full((1_000, 4), 9, np.float32), 9, np.full(1_000, 9, np.uint32)
    )
    used = store.num_bytes
    store.erase(keys)
    store.put(keys + 5_000, np.zeros((1_000, 4), np.float32))
    assert store.num_bytes == used
    rows, _ = store.find(keys + 5_000)
    weights, state = store.gather(rows)
    assert not weights.any()
    assert not state.any()
    assert not store.counts(rows).any()
    assert not store.entries().ts.any()
    store.check_integrity()


def test_compact_gives_chunks_back_and_keeps_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "CHUNK_BYTES", 1 << 14)
    store = RowStore(4, 2, counted=True)
    rng = np.random.default_rng(0)
    keys = rng.integers(-(1 << 62), 1 << 62, 20_000)
    weights, state = rng.random((20_000, 4), np.float32), rng.random((20_000, 2), np.float32)
    counts = np.arange(20_000, dtype=np.uint32)
    store.put(keys, weights, state, counts, counts)
    full = store.num_bytes
    kept = rng.random(20_000) < 0.1
    store.erase(keys[~kept])
    assert store.compact()
    store.check_integrity()
    assert store.num_bytes < 0.2 * full
    rows, _ = store.find(keys[kept])
    got = store.gather(rows)
    assert np.array_equal(got[0], weights[kept])
    assert np.array_equal(got[1], state[kept])
    assert np.array_equal(store.counts(rows), counts[kept])
    store.put(keys, weights)  # and grows again
    store.check_integrity()
    assert np.array_equal(store.lookup(keys)[0], weights)


def test_integrity_check_sees_damage() -> None:
    def damaged() -> RowStore:
        store = RowStore(2)
        store.put(np.arange(100), np.zeros((100, 2), np.float32))
        store.erase(np.arange(10))
        return store

    view = (store := damaged())._view
    view.slots[view.slots[:, 0] == 50, 1] = 3  # two keys, one row
    with pytest.raises(AssertionError, match="row is used twice"):
        store.check_integrity()
    view = (store := damaged())._view
    view.slots[view.slots[:, 0] == 50, 0] = 51  # in a bucket of another key
    with pytest.raises(AssertionError, match="lies twice"):
        store.check_integrity()
    store = damaged()
    store._counters[0] += 1
    with pytest.raises(AssertionError, match="other than 91"):
        store.check_integrity()
    store = damaged()
    store._counters[3] += 1
    with pytest.raises(AssertionError, match="chain"):
        store.check_integrity()
    store = damaged()
    store._versions[5] = 1
    with pytest.raises(AssertionError, match="odd"):
        store.check_integrity()


@pytest.mark.parametrize(("dim", "state_dim", "capacity"), [(0, 0, 0), (1, -1, 0), (1, 0, -1)])
def test_impossible_rows_are_refused(dim: int, state_dim: int, capacity: int) -> None:
    with pytest.raises(InputError, match="row store"):
        RowStore(dim, state_dim, capacity=capacity)
