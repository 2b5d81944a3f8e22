"""Rows that stand in a source twice, word for word."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

_MAX_HASHES = 16 << 20


class RecentKeys:
    """Remembers at least the last million keys, one by one; for sources that are read line by line."""

    _HALF = 1_000_000

    def __init__(self) -> None:
        self._new: dict[int, int] = {}
        self._old: dict[int, int] = {}

    def seen(self, name: str, content: tuple[object, ...]) -> str:
        """ "same" when `name` came before with this content, "other" with another one, "" for a new name."""
        key, value = hash(name), hash(content)
        before = self._new.get(key, self._old.get(key))
        self._new[key] = value
        if len(self._new) >= self._HALF:
            self._old, self._new = self._new, {}
        return "" if before is None else ("same" if before == value else "other")


class Duplicates:
    """Remembers 64-bit hashes of the last 16 million rows (128 MiB) and finds the rows that came before.

    Two different rows share a hash with probability below 1e-5 over that many rows.
    """

    def __init__(self) -> None:
        self._seen: deque[NDArray[np.uint64]] = deque()
        self._num_seen = 0

    def mark(self, frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
        """Boolean, one a row: the same values in `columns` came before, in this frame or an earlier one."""
        hashes = frame.select(columns).hash_rows(seed=7).to_numpy()
        _, first = np.unique(hashes, return_index=True)
        repeated = np.ones(len(hashes), np.bool_)
        repeated[first] = False
        for block in self._seen:
            at = np.minimum(np.searchsorted(block, hashes), len(block) - 1)
            repeated |= block[at] == hashes
        self._remember(np.sort(hashes[~repeated]))
        return pl.Series("_repeated", repeated)

    def _remember(self, hashes: NDArray[np.uint64]) -> None:
        if not len(hashes):
            return
        # Blocks of doubling sizes: few searches, and each hash is merged a few times only.
        while self._seen and len(self._seen[-1]) <= 2 * len(hashes):
            merged = self._seen.pop()
            self._num_seen -= len(merged)
            hashes = np.sort(np.concatenate([merged, hashes]))
        self._seen.append(hashes)
        self._num_seen += len(hashes)
        while self._num_seen > _MAX_HASHES and len(self._seen) > 1:
            self._num_seen -= len(self._seen.popleft())
