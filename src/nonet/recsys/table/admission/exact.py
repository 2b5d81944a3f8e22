"""Exact counts of keys that have no row yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.features.fid import bucket_of
from nonet.recsys.table.admission.registry import ADMISSIONS
from nonet.recsys.table.admission.thresholds import Thresholds
from nonet.recsys.table.store import RowStore

Ints = NDArray[np.int64]


class Counts:
    """How often each key came, and when last; about 25 bytes a key."""

    def __init__(self) -> None:
        self._store = RowStore(dim=1)  # a count is a weight: exact up to 2^24

    def __len__(self) -> int:
        return len(self._store)

    @property
    def num_bytes(self) -> int:
        """Of the counts."""
        return self._store.num_bytes

    def of(self, keys: Ints) -> Ints:
        """Count of each key, 0 if it is not known."""
        return self._store.lookup(keys)[0][:, 0].astype(np.int64)

    def contains(self, keys: Ints) -> NDArray[np.bool_]:
        """Which keys have a count."""
        return self._store.contains(keys)

    def put(self, keys: Ints, counts: Ints, now_s: int | Ints) -> None:
        """Write counts; the time of a key only grows."""
        times = np.asarray(np.clip(now_s, 0, 2**32 - 1), np.uint32)
        self._store.put(keys, counts[:, None].astype(np.float32), ts=times)

    def erase(self, keys: Ints) -> None:
        """Forget keys."""
        self._store.erase(keys)

    def erase_older(self, than_s: int) -> None:
        """Forget the keys that came last before `than_s`."""
        found = self._store.entries()
        self._store.erase(found.keys[found.ts < than_s])
        self._store.compact()

    def state(self) -> dict[str, Any]:
        """Arrays `keys`, `counts` and `ts`, by key."""
        found = self._store.entries()
        order = np.argsort(found.keys)
        keys = found.keys[order]
        return {"keys": keys, "counts": self.of(keys), "ts": found.ts[order].astype(np.int64)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` has given."""
        self._store = RowStore(dim=1, capacity=len(state["keys"]))
        self.put(np.asarray(state["keys"]), np.asarray(state["counts"]), np.asarray(state["ts"]))


def merged_counts(states: Sequence[Mapping[str, Any]], owned: NDArray[np.bool_]) -> dict[str, Any]:
    """States of `Counts` of several shards as one state of those keys whose bucket is owned.

    Args:
        states: of shards that share no key.
        owned: bool [1024], by bucket.
    """
    joined = {name: np.concatenate([np.asarray(state[name]) for state in states]) for name in ("keys", "counts", "ts")}
    kept = np.flatnonzero(owned[bucket_of(joined["keys"])])
    kept = kept[np.argsort(joined["keys"][kept])]
    return {name: column[kept] for name, column in joined.items()}


@ADMISSIONS.register("exact")
@dataclass(frozen=True)
class ExactCount:
    """Admits a key at its threshold-th occurrence; one instance belongs to one table.

    Every occurrence in training counts, also several in a batch. A count is forgotten once its key is admitted, so a
    key that expires later starts again at nothing. Memory: about 25 bytes for each key that waits.

    Args:
        threshold: occurrences; 0 and 1 admit at once.
        slot_thresholds: of single slots instead.
        forget_after_s: a key that did not come for so long (event time) starts again at nothing; None never forgets.

    Raises:
        InputError: a number out of range.

    >>> admission = ExactCount(threshold=3)
    >>> [bool(admission.admit(np.array([7]), np.array([count]), 0)[0]) for count in (1, 1, 1)]
    [False, False, True]
    """

    threshold: int = 1
    slot_thresholds: Mapping[int, int] = field(default_factory=dict)
    forget_after_s: int | None = None
    _thresholds: Thresholds = field(init=False, repr=False, compare=False)
    _counts: Counts = field(init=False, repr=False, compare=False)
    _clock: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.forget_after_s is not None and self.forget_after_s < 1:
            raise InputError(f"forget_after_s must be at least 1 second, got {self.forget_after_s}")
        object.__setattr__(self, "_thresholds", Thresholds(self.threshold, self.slot_thresholds))
        object.__setattr__(self, "_counts", Counts())
        object.__setattr__(self, "_clock", {"newest_s": 0, "swept_s": 0})

    @property
    def num_waiting(self) -> int:
        """Keys with a count."""
        return len(self._counts)

    @property
    def num_bytes(self) -> int:
        """Of the counts."""
        return self._counts.num_bytes

    def admit(self, keys: Ints, counts: Ints, now_s: int) -> NDArray[np.bool_]:
        """See `interfaces.Admission`."""
        self._sweep(now_s)
        thresholds = self._thresholds.of(keys)
        totals = self._counts.of(keys) + counts
        admitted: NDArray[np.bool_] = totals >= thresholds
        self._counts.erase(keys[admitted])
        self._counts.put(keys[~admitted], totals[~admitted], now_s)
        return admitted

    def _sweep(self, now_s: int) -> None:
        """Forget what is too old; the clock is the newest time seen, and a sweep is due after a tenth of the age."""
        if self.forget_after_s is None:
            return
        newest = self._clock["newest_s"] = max(self._clock["newest_s"], now_s)
        if newest - self._clock["swept_s"] >= max(1, self.forget_after_s // 10):
            self._counts.erase_older(newest - self.forget_after_s)
            self._clock["swept_s"] = newest

    def state(self) -> dict[str, Any]:
        """See `interfaces.Admission`."""
        return {**self._counts.state(), **self._clock}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See `interfaces.Admission`."""
        self._counts.load_state(state)
        self._clock.update({name: int(state[name]) for name in self._clock})

    def merged(self, states: Sequence[Mapping[str, Any]], owned: NDArray[np.bool_]) -> dict[str, Any]:
        """One state from those of several shards, for a shard that owns these buckets.

        Args:
            states: of shards that share no key.
            owned: bool [1024].
        """
        clock = {name: max(int(state[name]) for state in states) for name in self._clock}
        return {**merged_counts(states, owned), **clock}
