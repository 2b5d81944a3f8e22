"""Admission by chance: no memory at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.features.fid import mix64
from nonet.recsys.table.admission.registry import ADMISSIONS
from nonet.recsys.table.admission.thresholds import Thresholds

Ints = NDArray[np.int64]

MISSED = 0.05  # "equal" admits all but so many after `threshold` occurrences


@ADMISSIONS.register("probabilistic")
@dataclass(frozen=True)
class Probabilistic:
    """Admits a key that came c times in a batch with a probability; one instance belongs to one table.

    "unequal": min(1, c/t), so on average at the t-th occurrence. "equal": 1 - (1-p)^c with p = 1 - 0.05^(1/t), so
    that t occurrences admit 95 % however they are spread over batches.

    Args:
        threshold: t; 0 and 1 admit at once.
        slot_thresholds: of single slots instead.
        mode: "unequal" or "equal".
        seed: of the draws.
        stable_s: None draws anew each time, in the order of the batches. Otherwise a draw depends on the seed, the
            key, and the event time in steps of so many seconds: shards, replays and restarts then agree without any
            state, and a key has one draw a step.

    Raises:
        InputError: another mode, or a number out of range.

    >>> admission = Probabilistic(threshold=4, stable_s=60)
    >>> keys = np.arange(1000)
    >>> first = admission.admit(keys, np.ones(1000, np.int64), 30)
    >>> bool((first == admission.admit(keys, np.ones(1000, np.int64), 59)).all()), 200 < first.sum() < 300
    (True, np.True_)
    """

    threshold: int = 1
    slot_thresholds: Mapping[int, int] = field(default_factory=dict)
    mode: str = "unequal"
    seed: int = 0
    stable_s: int | None = None
    _thresholds: Thresholds = field(init=False, repr=False, compare=False)
    _numbers: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.mode not in ("unequal", "equal"):
            raise InputError(f"probabilistic admission: mode must be 'unequal' or 'equal', got {self.mode!r}")
        if self.stable_s is not None and self.stable_s < 1:
            raise InputError(f"probabilistic admission: stable_s must be at least 1, got {self.stable_s}")
        if not 0 <= self.seed < 1 << 63:
            raise InputError(f"probabilistic admission: the seed must be 0..2^63-1, got {self.seed}")
        object.__setattr__(self, "_thresholds", Thresholds(self.threshold, self.slot_thresholds))
        object.__setattr__(self, "_numbers", {"draws": 0})

    def admit(self, keys: Ints, counts: Ints, now_s: int) -> NDArray[np.bool_]:
        """See `interfaces.Admission`."""
        return self._draw(keys, now_s) < self.probability(keys, counts)

    def probability(self, keys: Ints, counts: Ints) -> NDArray[np.float64]:
        """With which each key is admitted, [n]; 1 where the threshold is 0 or 1."""
        thresholds = np.maximum(self._thresholds.of(keys), 1)
        if self.mode == "unequal":
            return np.asarray(np.minimum(counts / thresholds, 1.0), np.float64)
        return np.where(thresholds == 1, 1.0, 1.0 - MISSED ** (counts / thresholds))

    def _draw(self, keys: Ints, now_s: int) -> NDArray[np.float64]:
        """Uniform in [0, 1), 53 bits of a hash."""
        if self.stable_s is None:
            start = self._numbers["draws"]
            self._numbers["draws"] += len(keys)
            salted = np.arange(start, start + len(keys))
        else:
            salted = keys ^ mix64([max(0, now_s) // self.stable_s])[0].astype(np.int64)
        mixed = mix64(mix64(salted).astype(np.int64) ^ mix64([self.seed]).view(np.int64)[0])
        return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def state(self) -> dict[str, Any]:
        """See `interfaces.Admission`."""
        return dict(self._numbers)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See `interfaces.Admission`."""
        self._numbers["draws"] = int(state["draws"])

    def merged(self, states: Sequence[Mapping[str, Any]], owned: NDArray[np.bool_]) -> dict[str, Any]:
        """One state from those of several shards, for a shard that owns these buckets: draws go on behind the furthest.

        Args:
            states: of the shards.
            owned: not used.
        """
        return {"draws": max(int(state["draws"]) for state in states)}
