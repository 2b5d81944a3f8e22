"""The classes of SPES: what a function's calls per minute say about when it is called next.

Waiting times (WT) are the lengths of runs of minutes without a call, active times (AT) those of runs with calls. A
function takes the first class that fits, on all days or on what is left after forgetting the first ones; one that
fits none is given the rule that would have done best on held-out days. Runs cut by the edges of the data are left out
when there are others.

Source: SPES (ICDE 2024), specification A6.6.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Counts: TypeAlias = NDArray[np.int32]

UNKNOWN, WARM, REGULAR, APPRO_REGULAR, DENSE, SUCCESSIVE, PULSED, POSSIBLE, CORRELATED = range(9)
CLASS_NAMES = (
    "unknown", "warm", "regular", "appro-regular", "dense", "successive", "pulsed", "possible", "correlated",
)  # fmt: skip
GIVE_UP_MINUTES = (1, 1 << 30, 1, 1, 5, 1, 3, 1, 1)
"""Idle minutes after which a loaded function is unloaded, by class."""

DAY_MINUTES = 1440
MAX_MODES = 5
DISCRETE_ABOVE = 10
_MIN_RUNS = 3
_WARM_SHARE = 0.001
_APPRO_MODES, _APPRO_SHARE = 3, 0.9
_APPRO_MIN_MODE_SHARE = 0.1
_DENSE_BELOW, _DENSE_MOST = 5, 10
_SUCCESSIVE_MINUTES, _SUCCESSIVE_CALLS = 10, 11
_MAX_FORGOTTEN_DAYS = 6


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of a series of counts: waiting times between active runs, lengths and calls of active runs, in order."""

    waits: NDArray[np.int64]
    active: NDArray[np.int64]
    calls: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SpesClass:
    """The class of a function and what its online rule needs.

    Attributes:
        kind: index into `CLASS_NAMES`.
        forgotten_days: days dropped from the start of the data.
        predicted: waiting times: the median (regular), the common ones (appro-regular, discrete possible), or the two
            ends of an interval (dense, possible).
        discrete: `predicted` is a set rather than an interval.
        deviation: standard deviation of the waiting times.
        modes, mode_counts: repeated waiting times, most frequent first, at most `MAX_MODES`.
        links: (function index, lag in minutes) of functions whose calls announce this one's (correlated).
    """

    kind: int
    forgotten_days: int = 0
    predicted: tuple[float, ...] = ()
    discrete: bool = False
    deviation: float = 0.0
    modes: tuple[int, ...] = ()
    mode_counts: tuple[int, ...] = ()
    links: tuple[tuple[int, int], ...] = field(default=())

    @property
    def name(self) -> str:
        """Name of the class."""
        return CLASS_NAMES[self.kind]


def runs_of(counts: Counts) -> Runs:
    """Split counts per minute (m,) into runs.

    >>> runs = runs_of(np.array([0, 2, 1, 0, 0, 3, 0, 0, 1, 0]))
    >>> runs.waits.tolist(), runs.active.tolist(), runs.calls.tolist()
    ([2, 2], [2, 1, 1], [3, 3, 1])
    """
    busy = np.concatenate([[False], counts > 0, [False]])
    edges = np.flatnonzero(busy[1:] != busy[:-1])
    starts, ends = edges[::2], edges[1::2]
    totals = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return Runs(starts[1:] - ends[:-1], ends - starts, totals[ends] - totals[starts])


def classify(counts: Counts) -> SpesClass:
    """The first deterministic class that fits, retried after forgetting the first 1 to 6 days; else UNKNOWN.

    Args:
        counts: (m,) calls per minute of the training days.

    >>> every_ten = np.zeros(3 * 1440, np.int32)
    >>> every_ten[::10] = 1
    >>> classify(every_ten).name, classify(every_ten).predicted
    ('regular', (9.0,))
    """
    num_days = len(counts) // DAY_MINUTES
    for forgotten in range(min(_MAX_FORGOTTEN_DAYS, max(0, num_days - 1)) + 1):
        rest = counts[forgotten * DAY_MINUTES :]
        kind = _deterministic_kind(rest)
        if kind != UNKNOWN:
            return described(rest, kind, forgotten)
    return described(counts, UNKNOWN)


def _deterministic_kind(counts: Counts) -> int:
    if np.count_nonzero(counts == 0) < _WARM_SHARE * len(counts):
        return WARM
    runs = runs_of(counts)
    if len(runs.active) < _MIN_RUNS:
        return UNKNOWN
    if _is_regular(runs.waits) or _is_regular(merge_fragments(runs.waits, runs.active[1:-1])):
        return REGULAR
    _, repeats = np.unique(runs.waits, return_counts=True)
    commonest = np.sum(np.sort(repeats)[-_APPRO_MODES:])
    if len(runs.waits) > _APPRO_MODES and commonest >= _APPRO_SHARE * len(
        runs.waits
    ):  # three waits are their own modes
        return APPRO_REGULAR
    if np.percentile(runs.waits, 90) < _DENSE_BELOW:
        return DENSE
    if runs.active.min() >= _SUCCESSIVE_MINUTES or runs.calls.min() >= _SUCCESSIVE_CALLS:
        return SUCCESSIVE
    return UNKNOWN


def _is_regular(waits: NDArray[np.int64]) -> bool:
    if len(waits) < _MIN_RUNS - 1:
        return False
    low, high = np.percentile(waits, [5, 95])
    return bool(high - low < 1 or np.std(waits) <= 0.01 * np.mean(waits))


def merge_fragments(waits: NDArray[np.int64], active: NDArray[np.int64]) -> NDArray[np.int64]:
    """Waiting times with those that stray calls have cut joined again.

    Neighbours shorter than the commonest long wait are added up, with the active minutes between them, as long as the
    sum does not exceed it by more than a minute.

    Args:
        waits: (n,) waiting times.
        active: (n - 1,) active minutes between them.

    >>> merge_fragments(np.array([59, 20, 38, 59]), np.array([1, 1, 1])).tolist()
    [59, 59, 59]
    """
    if len(waits) < 2:
        return waits
    values, repeats = np.unique(waits, return_counts=True)
    whole = int(values[repeats == repeats.max()][-1])
    merged = [int(waits[0])]
    for wait, between in zip(waits[1:], active, strict=True):
        joined = merged[-1] + int(between) + int(wait)
        if merged[-1] < whole and joined <= whole + 1:
            merged[-1] = joined
        else:
            merged.append(int(wait))
    return np.asarray(merged, np.int64)


def described(counts: Counts, kind: int, forgotten_days: int = 0, links: tuple[tuple[int, int], ...] = ()) -> SpesClass:
    """A class with the predictions that follow from the counts that it was found on."""
    runs = runs_of(counts)
    modes, mode_counts = repeated_waits(runs.waits)
    predicted: tuple[float, ...] = ()
    discrete = False
    if kind == REGULAR:
        predicted = (float(np.median(merge_fragments(runs.waits, runs.active[1:-1]))),)
    elif kind == APPRO_REGULAR:
        predicted, discrete = _common_waits(runs.waits), True
    elif kind == DENSE:
        low, high = (min(modes), max(modes)) if modes else (int(runs.waits.min()), int(runs.waits.max()))
        predicted = (float(low), float(min(high, _DENSE_MOST)))
    elif kind == POSSIBLE:
        predicted, discrete = prediction_of_modes(modes)
    deviation = float(np.std(runs.waits)) if len(runs.waits) else 0.0
    return SpesClass(kind, forgotten_days, predicted, discrete, deviation, modes, mode_counts, links)


def repeated_waits(waits: NDArray[np.int64]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The (at most five) waiting times seen more than once and how often, most frequent first, then shortest."""
    values, repeats = np.unique(waits, return_counts=True)
    order = [index for index in np.argsort(-repeats, kind="stable") if repeats[index] > 1][:MAX_MODES]
    return tuple(int(values[index]) for index in order), tuple(int(repeats[index]) for index in order)


def prediction_of_modes(modes: tuple[int, ...]) -> tuple[tuple[float, ...], bool]:
    """The interval that modes span, or the modes themselves when they are more than ten minutes apart.

    >>> prediction_of_modes((7, 4)), prediction_of_modes((7, 60))
    (((4.0, 7.0), False), ((7.0, 60.0), True))
    """
    if not modes:
        return (), False
    if max(modes) - min(modes) <= DISCRETE_ABOVE:
        return (float(min(modes)), float(max(modes))), False
    return tuple(float(mode) for mode in sorted(modes)), True


def _common_waits(waits: NDArray[np.int64]) -> tuple[float, ...]:
    values, repeats = np.unique(waits, return_counts=True)
    order = np.argsort(-repeats, kind="stable")[:_APPRO_MODES]
    kept = [float(values[index]) for index in order if repeats[index] > _APPRO_MIN_MODE_SHARE * len(waits)]
    return tuple(kept) if kept else tuple(float(values[index]) for index in order)
