"""Flaws of one sensor's even series: tenfold readings, and readings that stand still."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TENFOLD = 8.0
_ABOVE_USUAL = 5.0
_ENOUGH = 40
LONGEST_SPIKE_PERIODS = 3
STUCK_PERIODS = 30


def tenfold(values: Floats) -> NDArray[np.bool_]:
    """Which readings are a slipped decimal point.

    They are at least 8 times the readings before and after, for at most 3 periods, and at least 5 times the sensor's
    95 % quantile (their median when there are fewer than 40): a GPU that wakes up now and then is not meant.

    >>> tenfold(np.array([100.0, 101.0, 1020.0, 103.0, np.nan, 104.0])).tolist()
    [False, False, True, False, False, False]
    """
    marked = np.zeros(len(values), dtype=np.bool_)
    known = np.flatnonzero(np.isfinite(values))
    if len(known) < LONGEST_SPIKE_PERIODS:
        return marked
    own = values[known]
    usual = float(np.quantile(own, 0.95)) if len(own) >= _ENOUGH else float(np.median(own))
    for length in range(1, LONGEST_SPIKE_PERIODS + 1):
        if len(own) < length + 2:
            break
        around = np.maximum(own[: -length - 1], own[length + 1 :])
        windows = np.lib.stride_tricks.sliding_window_view(own, length)[1:-1]
        least = windows.min(axis=1)
        spikes = (least / TENFOLD >= around) & (least / _ABOVE_USUAL >= usual)
        for start in np.flatnonzero(spikes & (around > 0)):
            marked[known[start + 1 : start + 1 + length]] = True
    return marked


def num_stuck(values: Floats) -> int:
    """Readings within runs of at least 30 equal ones, of a sensor that changes otherwise.

    >>> num_stuck(np.concatenate([np.full(40, 7.0), [8.0, 9.0]])), num_stuck(np.full(40, 7.0))
    (40, 0)
    """
    known = values[np.isfinite(values)]
    if len(known) < STUCK_PERIODS or not (known != known[0]).any():
        return 0
    ends = np.flatnonzero(np.concatenate([known[1:] != known[:-1], [True]]))
    lengths = np.diff(np.concatenate([[-1], ends]))
    return int(lengths[lengths >= STUCK_PERIODS].sum())
