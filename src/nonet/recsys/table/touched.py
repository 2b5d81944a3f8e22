"""Which keys have changed since somebody asked: what a sync has to send."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_NONE = np.empty(0, np.int64)
_MIN_PENDING = 1 << 16  # keys that are only appended before duplicates are taken out


class Touched(NamedTuple):
    """Keys to send.

    Args:
        upserted: int64, sorted, unique: written and still there.
        erased: int64, sorted, unique: were there and are gone.
    """

    upserted: NDArray[np.int64]
    erased: NDArray[np.int64]


class TouchedKeys:
    """Collects keys; the last thing that happened to a key counts. Nothing is ever dropped.

    Memory: 8 bytes for each distinct key, and for at most as many that wait for their duplicates to be taken out. Keys
    that were absent before are distinct already, so bulk inserts only append.

    >>> touched = TouchedKeys()
    >>> touched.upsert(np.array([3, 1, 3])); touched.erase(np.array([1, 9])); touched.upsert(np.array([9]))
    >>> [keys.tolist() for keys in touched.take()], len(touched)
    ([[3, 9], [1]], 0)
    """

    def __init__(self) -> None:
        self._upserted, self._erased = _NONE, _NONE
        self._new: list[NDArray[np.int64]] = []
        self._pending: list[NDArray[np.int64]] = []
        self._num_new = self._num_pending = 0

    def __len__(self) -> int:
        self._settle()
        return len(self._upserted) + len(self._erased)

    @property
    def num_bytes(self) -> int:
        """Of the keys that are held."""
        return 8 * (len(self._upserted) + len(self._erased) + self._num_new + self._num_pending)

    def upsert(self, keys: NDArray[np.int64], new: NDArray[np.bool_] | None = None) -> None:
        """Keys were written.

        Args:
            keys: int64 (n,).
            new: bool (n,), at the first occurrence of each key that was absent before; None: not known.
        """
        if new is None or new.all():  # copies are ten times as fast as choosing
            created, again = (_NONE, keys.copy()) if new is None else (keys.copy(), _NONE)
        else:
            created, again = keys[new], keys[~new]
        if len(created):
            self._new.append(created)
            self._num_new += len(created)
        if len(again):
            self._pending.append(again)
            self._num_pending += len(again)
        if self._num_pending > max(_MIN_PENDING, len(self._upserted) + self._num_new):
            self._settle()

    def erase(self, keys: NDArray[np.int64]) -> None:
        """Keys were there and were erased."""
        if len(keys) == 0:
            return
        self._settle()
        gone = _distinct(keys)
        self._upserted = _without(self._upserted, gone)
        self._erased = _distinct(self._erased, gone)

    def take(self) -> Touched:
        """What has been collected since the last call; then nothing is."""
        self._settle()
        taken = Touched(self._upserted, self._erased)
        self._upserted, self._erased = _NONE, _NONE
        return taken

    def _settle(self) -> None:
        if self._new or self._pending:
            self._upserted = _distinct(self._upserted, *self._new, *self._pending)
            self._erased = _without(self._erased, self._upserted)
            self._new, self._pending = [], []
            self._num_new = self._num_pending = 0


def _distinct(*parts: NDArray[np.int64]) -> NDArray[np.int64]:
    """All keys, sorted, each once: by sorting, ten times as fast as the hash set behind `numpy.unique`."""
    keys = np.concatenate(parts)
    keys.sort()
    return keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys


def _without(keys: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """`keys` that are not among `others`; both sorted and distinct."""
    if len(keys) == 0 or len(others) == 0:
        return keys
    place = np.minimum(np.searchsorted(others, keys), len(others) - 1)
    return keys[others[place] != keys]
