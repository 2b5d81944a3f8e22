"""Readers beside a writer: no row is ever half of one version, or another key's."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from numba import config

from nonet.recsys.table import SGD, EmbeddingTable, TimeToLive, Zeros, helpers
from nonet.recsys.table import store as store_module
from nonet.recsys.table._row_kernels import BLOCK, STREAM_BYTES, lookup
from nonet.recsys.table.store import RowStore
from nonet.recsys.table.view import View

DIM = 40  # 160 bytes: rows cross cache lines and do not begin at one
READS = 1_000_000


def stamped(keys: np.ndarray, version: int) -> np.ndarray:
    """Rows that name their key at both ends and their version in every column between."""
    rows = np.full((len(keys), DIM), version, np.float32)
    rows[:, 0] = rows[:, -1] = keys + 1
    return rows


def count_torn(keys: np.ndarray, rows: np.ndarray) -> int:
    absent = ~rows.any(axis=1)
    whole = (rows[:, 0] == keys + 1) & (rows[:, -1] == keys + 1) & (rows[:, 1:-1] == rows[:, 1:2]).all(axis=1)
    return int((~(whole | absent)).sum())


def read_beside(
    write: Callable[[int], None], lookup: Callable[[np.ndarray], np.ndarray], num_keys: int
) -> dict[str, int]:
    """Two readers until they have read a million rows, while `write` runs again and again."""
    seen = {"reads": 0, "torn": 0, "present": 0, "writes": 0}
    problems: list[BaseException] = []
    done, counting = threading.Event(), threading.Lock()

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            while seen["reads"] < READS:
                keys = rng.integers(num_keys, size=2_000)
                rows = lookup(keys)
                counted = {"reads": len(keys), "torn": count_torn(keys, rows), "present": int(rows.any(axis=1).sum())}
                with counting:
                    for name, number in counted.items():
                        seen[name] += number
        except BaseException as error:
            problems.append(error)
        finally:
            done.set()

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(2)]
    while seen["writes"] < 16:  # compiles what it calls before anybody counts
        seen["writes"] += 1
        write(seen["writes"])
    lookup(np.arange(1))
    for reader in readers:
        reader.start()
    while not done.is_set():
        seen["writes"] += 1
        write(seen["writes"])
    for reader in readers:
        reader.join()
    assert problems == []
    return seen


def test_no_torn_row_while_rows_are_written_erased_moved_and_the_index_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "CHUNK_BYTES", 1 << 16)
    num_keys = 20_000
    store = RowStore(DIM)
    rng = np.random.default_rng(5)
    everything = np.arange(num_keys)

    def write(version: int) -> None:
        keys = rng.permutation(everything)[: num_keys // 4]
        store.put(keys, stamped(keys, version))
        if version % 4 == 0:
            store.erase(rng.permutation(everything)[: num_keys // 2])
        if version % 16 == 0:
            store.erase(everything[: num_keys * 9 // 10])
            store.compact()

    seen = read_beside(write, lambda keys: store.lookup(keys)[0], num_keys)
    assert seen["torn"] == 0
    assert seen["reads"] >= READS
    assert READS // 20 < seen["present"] < seen["reads"]
    assert store.loads_at_growth  # it did grow meanwhile
    store.check_integrity()


def test_no_torn_row_while_gradients_are_applied() -> None:
    num_keys = 3_000
    table = EmbeddingTable(DIM, optimizer=SGD(lr=1.0), initializer=Zeros(), expiry=TimeToLive(5))
    everything = np.arange(num_keys)
    table.upsert(everything, stamped(everything, 0))
    step = np.zeros((num_keys, DIM), np.float32)
    step[:, 1:-1] = -1.0

    seen = read_beside(
        lambda version: table.apply_gradients(everything, step, now_s=version) and None, table.lookup, num_keys
    )
    assert seen["torn"] == 0
    assert seen["present"] == seen["reads"]  # updates never hide a row
    assert (table.lookup(everything)[:, 1:-1] == seen["writes"]).all()


def test_no_torn_row_in_a_large_batch_of_several_threads_past_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", 2)
    monkeypatch.setattr(helpers, "_pools", [])
    num_keys = 500  # each is written while it is read
    size = 2 * helpers.PIECE
    assert size * DIM * 4 >= STREAM_BYTES
    store = RowStore(DIM)
    everything = np.arange(num_keys)
    store.put(everything, stamped(everything, 0))
    torn, stop, written = [], threading.Event(), [0]

    def write() -> None:
        while not stop.is_set():
            written[0] += 1
            store.put(everything, stamped(everything, written[0]))

    writer = threading.Thread(target=write)
    writer.start()
    keys = np.random.default_rng(0).integers(num_keys, size=size)
    for _ in range(20):
        rows, found = store.lookup(keys)
        torn.append(count_torn(keys, rows) + int((~found).sum()))
    stop.set()
    writer.join()
    assert sum(torn) == 0
    assert written[0] > 20


def test_a_key_is_never_missed_while_others_displace_it() -> None:
    store = RowStore(1)
    kept = np.arange(2_000)
    store.put(kept, (kept[:, None] + 1).astype(np.float32))
    missed, stop = [], threading.Event()

    def read() -> None:
        while not stop.is_set():
            rows, found = store.lookup(kept)
            missed.append(int((~found).sum()) + int((rows[:, 0] != kept + 1).sum()))

    reader = threading.Thread(target=read)
    reader.start()
    for version in range(300):
        others = np.arange(10_000 + version * 1_000, 10_000 + version * 1_000 + 900)
        store.put(others, np.full((900, 1), -1, np.float32))
        if version % 3:
            store.erase(others)
    stop.set()
    reader.join()
    assert len(missed) > 10
    assert sum(missed) == 0


def test_a_view_is_retired_by_growth_new_chunks_and_compaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "CHUNK_BYTES", 1 << 12)
    store = RowStore(1)

    def first_unread(view: View) -> int:
        scratch = np.empty(BLOCK, np.uint64), np.empty((3, BLOCK), np.int64)
        return lookup(view, np.arange(5), 0, 5, np.empty((5, 1), np.float32), np.empty(5, np.bool_), *scratch)

    view = store._view
    assert first_unread(view) == 5
    store.put(np.arange(40), np.ones((40, 1), np.float32))  # the first chunk
    assert first_unread(view) == 0
    view = store._view
    store.put(np.arange(70), np.ones((70, 1), np.float32))  # growth of the index
    assert first_unread(view) == 0
    store.put(np.arange(5_000), np.ones((5_000, 1), np.float32))
    view = store._view
    store.erase(np.arange(4_500))
    assert first_unread(view) == 5  # erasure shows in versions
    assert store.compact()
    assert first_unread(view) == 0
    assert first_unread(store._view) == 5


def test_displacement_and_erasure_show_in_versions_and_placing_does_not() -> None:
    store = RowStore(1, capacity=10_000)
    store.put(np.arange(5_000), np.ones((5_000, 1), np.float32))
    few_moves = int(store._versions.sum())
    store.put(np.arange(10_000), np.ones((10_000, 1), np.float32))
    assert store.loads_at_growth == []
    updates = 2 * 5_000
    assert int(store._versions.sum()) > few_moves + updates + 100  # at 0.9 of the slots, hundreds are displaced
    before = int(store._versions.sum())
    store.erase(np.arange(100))
    assert int(store._versions.sum()) == before + 200
