"""A sliding sketch: counts of the keys that came lately, in about six bytes a key."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.features.fid import mix64
from nonet.recsys.table.admission import _sketch_kernels as kernels
from nonet.recsys.table.admission.exact import Counts, merged_counts
from nonet.recsys.table.admission.registry import ADMISSIONS
from nonet.recsys.table.admission.thresholds import Thresholds

Ints = NDArray[np.int64]

MAX_LOAD = 0.75  # of a split's cells when it is full; with two buckets to choose from none overflows before that


class _Cells:
    """The memory of a sketch."""

    def __init__(self, capacity: int, splits: int) -> None:
        split_keys = math.ceil(capacity / (splits - 1))
        num_buckets = math.ceil(split_keys / MAX_LOAD / kernels.CELLS)
        self.split_limit = split_keys
        self.cells = np.zeros((num_buckets, splits, kernels.CELLS), np.uint32)
        self.numbers = np.zeros(kernels.NUM_NUMBERS, np.int64)
        self.frequent = Counts()  # keys past 255 occurrences; their time is the number of rotations


@ADMISSIONS.register("sketch")
@dataclass(frozen=True)
class SlidingSketch:
    """Admits a key at its threshold-th occurrence, among the keys that came lately; one instance belongs to one table.

    A ring of splits. New counts go to the newest; once it is full, the oldest is cleared and becomes the newest. A key
    that comes again moves to the newest with its count, so what is forgotten are keys that did not come while
    `capacity` others did. A key is known by 24 bits of hash and two buckets, so a count may be taken over from another
    key: `false_admit_rate` bounds how often. Counts have 8 bits; a key that comes more often than 255 times without
    being admitted is counted exactly from there on (in a window of n occurrences at most n/256 keys), so that any
    threshold works. The design is Monolith's sliding hash filter, without its limits (counts of 4 bits, admission one
    occurrence too late).

    Args:
        threshold: occurrences; 0 and 1 admit at once.
        slot_thresholds: of single slots instead.
        capacity: keys that are remembered at least; memory is about 6.2 bytes for each, taken at once.
        splits: 2 or more; the sketch forgets in portions of capacity / (splits - 1).

    Raises:
        InputError: a number out of range.

    >>> admission = SlidingSketch(threshold=2, capacity=1000)
    >>> [bool(admission.admit(np.array([-5]), np.array([1]), 0)[0]) for _ in range(2)]
    [False, True]
    """

    threshold: int = 1
    slot_thresholds: Mapping[int, int] = field(default_factory=dict)
    capacity: int = 1_000_000
    splits: int = 7
    _thresholds: Thresholds = field(init=False, repr=False, compare=False)
    _sketch: _Cells = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.splits < 2:
            raise InputError(f"a sliding sketch needs 2 splits or more, got {self.splits}")
        if not 1 <= self.capacity < 1 << 34:
            raise InputError(f"the capacity of a sliding sketch must be 1..2^34, got {self.capacity}")
        object.__setattr__(self, "_thresholds", Thresholds(self.threshold, self.slot_thresholds))
        object.__setattr__(self, "_sketch", _Cells(self.capacity, self.splits))

    @property
    def false_admit_rate(self) -> float:
        """Bound on the chance that a new key takes over another's count: cells looked at, over 2^24 signatures.

        In a table of n shards the signatures of one shard are n times fewer.
        """
        return 2 * kernels.CELLS * self.splits / (1 << kernels.SIGNATURE_BITS)

    @property
    def num_bytes(self) -> int:
        """Of the cells and of the counts past 255."""
        return self._sketch.cells.nbytes + self._sketch.frequent.num_bytes

    @property
    def num_forgotten(self) -> int:
        """Counts that were dropped before their time because both of their buckets were full."""
        return int(self._sketch.numbers[kernels.FORGOTTEN])

    @property
    def num_rotations(self) -> int:
        """How often a split was filled."""
        return int(self._sketch.numbers[kernels.ROTATIONS])

    def admit(self, keys: Ints, counts: Ints, now_s: int) -> NDArray[np.bool_]:
        """See `interfaces.Admission`."""
        thresholds = self._thresholds.of(keys)
        frequent = self._sketch.frequent
        totals = frequent.of(keys) + counts
        rare = np.flatnonzero(totals == counts)
        totals[rare] = self._count(keys[rare], counts[rare], thresholds[rare])
        admitted: NDArray[np.bool_] = totals >= thresholds
        frequent.erase(keys[admitted])
        many = ~admitted & (totals >= kernels.MAX_COUNT)
        frequent.put(keys[many], totals[many], self.num_rotations)
        return admitted

    def _count(self, keys: Ints, counts: Ints, thresholds: Ints) -> Ints:
        sketch = self._sketch
        before = self.num_rotations
        mixed = mix64(keys)
        num_buckets = np.uint64(len(sketch.cells))
        buckets = (((mixed >> np.uint64(32)) * num_buckets) >> np.uint64(32)).astype(np.int64)
        signatures = (mixed & np.uint64((1 << kernels.SIGNATURE_BITS) - 1)).astype(np.uint32)
        totals = np.empty(len(keys), np.int64)
        kernels.count(sketch.cells, buckets, signatures, counts, thresholds, sketch.split_limit, sketch.numbers, totals)
        if self.num_rotations > before and len(sketch.frequent):
            sketch.frequent.erase_older(self.num_rotations - self.splits + 1)
        return totals

    def state(self) -> dict[str, Any]:
        """See `interfaces.Admission`."""
        sketch = self._sketch
        frequent = {f"frequent_{name}": column for name, column in sketch.frequent.state().items()}
        return {"cells": sketch.cells.copy(), "numbers": sketch.numbers.copy(), **frequent}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See `interfaces.Admission`.

        Raises:
            InputError: the state is of a sketch of another size.
        """
        sketch = self._sketch
        cells = np.asarray(state["cells"])
        if cells.shape != sketch.cells.shape:
            raise InputError(
                f"the state is of a sliding sketch of shape {cells.shape}, this one has {sketch.cells.shape}; "
                "give the capacity and splits that it was made with"
            )
        sketch.cells[:] = cells
        sketch.numbers[:] = state["numbers"]
        sketch.frequent.load_state(_frequent_of(state))

    def merged(self, states: Sequence[Mapping[str, Any]], owned: NDArray[np.bool_]) -> dict[str, Any]:
        """One state from those of several shards, for a shard that owns these buckets.

        Splits of one age come together; where they do not fit, the lowest counts are forgotten.

        Args:
            states: of shards that share no key, with sketches of one size.
            owned: bool [1024].
        """
        out = _Cells(self.capacity, self.splits)
        rotations = [int(state["numbers"][kernels.ROTATIONS]) for state in states]
        for head in range(self.splits):
            out.numbers[[kernels.HEAD, kernels.FILL]] = head, 0
            for state in states:
                source = np.asarray(state["cells"])
                age = self.splits - 1 - head
                split = source[:, (int(state["numbers"][kernels.HEAD]) - age) % self.splits]
                kernels.merge_split(np.ascontiguousarray(split), out.cells, owned, out.numbers)
        out.numbers[kernels.ROTATIONS] = max(rotations)
        out.numbers[kernels.FORGOTTEN] += sum(int(state["numbers"][kernels.FORGOTTEN]) for state in states)
        aligned = []
        for state, turned in zip(states, rotations, strict=True):
            counts = _frequent_of(state)
            aligned.append({**counts, "ts": counts["ts"] + max(rotations) - turned})
        frequent = {f"frequent_{name}": column for name, column in merged_counts(aligned, owned).items()}
        return {"cells": out.cells, "numbers": out.numbers, **frequent}


def _frequent_of(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(state[f"frequent_{name}"]) for name in ("keys", "counts", "ts")}
