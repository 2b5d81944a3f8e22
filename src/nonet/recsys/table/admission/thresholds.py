"""How often a key must come before it gets a row: one number, or one for each slot."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.features.fid import NUM_SLOTS_V2, slot_v2

Ints = NDArray[np.int64]

MAX_THRESHOLD = 1 << 24  # counts are whole numbers in float32


class Thresholds:
    """The threshold of each key; 0 and 1 admit a key at its first occurrence.

    Args:
        default: of slots that are not named.
        by_slot: of slots, as in ids of the second layout (`features.fid`).

    Raises:
        InputError: a threshold or a slot out of range.

    >>> Thresholds(5, {3: 100}).of(np.array([3 << 48, 4 << 48])).tolist()
    [100, 5]
    """

    def __init__(self, default: int, by_slot: Mapping[int, int]) -> None:
        for slot, threshold in {-1: default, **by_slot}.items():
            if not 0 <= threshold <= MAX_THRESHOLD:
                where = f" of slot {slot}" if slot >= 0 else ""
                raise InputError(f"the admission threshold{where} must be 0..{MAX_THRESHOLD}, got {threshold}")
        wrong = [slot for slot in by_slot if not 0 <= slot < NUM_SLOTS_V2]
        if wrong:
            raise InputError(f"slot {wrong[0]} has an admission threshold but slots are 0..{NUM_SLOTS_V2 - 1}")
        self._default = default
        self._by_slot: Ints | None = None
        if by_slot:
            self._by_slot = np.full(NUM_SLOTS_V2, default, np.int64)
            self._by_slot[list(by_slot)] = list(by_slot.values())

    def of(self, keys: Ints) -> Ints:
        """Threshold of each key, int64 [n]."""
        if self._by_slot is None:
            return np.full(len(keys), self._default, np.int64)
        return self._by_slot[slot_v2(keys)]
