"""Large batches: pieces in several threads, outputs that are written past the cache; the plain index is the oracle."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from numba import config

from nonet.recsys.table import helpers
from nonet.recsys.table._row_kernels import STREAM_BYTES
from nonet.recsys.table.helpers import PIECE, in_pieces
from nonet.recsys.table.store import RowStore


@pytest.mark.parametrize("num_threads", [1, 2, 5])
@pytest.mark.parametrize("size", [0, 1, 2 * PIECE - 1, 2 * PIECE, 11 * PIECE + 7])
def test_every_number_is_done_once(num_threads: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", num_threads)
    monkeypatch.setattr(helpers, "_pools", [])
    times = np.zeros(size, np.int64)

    def piece(first: int, last: int) -> None:
        times[first:last] += 1

    in_pieces(size, piece)
    assert (times == 1).all()


def test_pieces_run_at_once_and_what_a_helper_raises_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", 2)
    monkeypatch.setattr(helpers, "_pools", [])
    met = threading.Barrier(2, timeout=20)
    caller = threading.get_ident()

    def piece(_first: int, _last: int) -> None:
        met.wait()  # breaks unless two are under way
        if threading.get_ident() != caller:
            raise ValueError("of a helper")

    with pytest.raises(ValueError, match="of a helper"):
        in_pieces(2 * PIECE, piece)


def test_a_helper_that_is_busy_elsewhere_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", 2)
    monkeypatch.setattr(helpers, "_pools", [])
    go_on = threading.Event()
    busy = helpers._pool().submit(go_on.wait, 20)
    done: list[int] = []
    in_pieces(4 * PIECE, lambda first, last: done.extend(range(first, last)))
    assert not busy.done()
    assert done == list(range(4 * PIECE))
    go_on.set()


@pytest.mark.parametrize("dim", [3, 4, 16, 20])
@pytest.mark.parametrize("shift", [0, 1, 4])  # floats from a multiple of 64 bytes: streamed, not aligned, streamed
def test_a_large_lookup_equals_indexing(dim: int, shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", 3)
    monkeypatch.setattr(helpers, "_pools", [])
    rng = np.random.default_rng(dim)
    size = max(3 * PIECE, STREAM_BYTES // (4 * dim)) + 5
    keys = rng.permutation(np.arange(-5_000, 5_000))
    rows = rng.standard_normal((len(keys), dim), np.float32)
    store = RowStore(dim)
    store.put(keys, rows)
    asked = rng.integers(-1, len(keys), size)
    expected = np.where(asked[:, None] >= 0, rows[asked], np.float32(0))
    memory = np.full(size * dim + 32, np.nan, np.float32)
    start = (-memory.ctypes.data % 64) // 4 + shift
    out = memory[start : start + size * dim].reshape(size, dim)
    given, found = store.lookup(np.where(asked >= 0, keys[asked], 1 << 40), out)
    assert given is out
    assert np.array_equal(out, expected)
    assert np.array_equal(found, asked >= 0)
    assert np.isnan(memory[:start]).all() and np.isnan(memory[start + size * dim :]).all()
