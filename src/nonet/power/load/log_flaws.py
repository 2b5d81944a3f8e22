"""Flaws of one sensor's readings in order of time: tenfold, zeros when nobody answered, standing still."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TENFOLD = 8.0
_ABOVE_USUAL = 5.0
_ENOUGH = 40
LONGEST_SPIKE = 3
NUM_STUCK = 30
LONGEST_ZEROS_S = 60.0


def tenfold(values: Floats) -> NDArray[np.bool_]:
    """Which readings are a slipped decimal point.

    They are at least 8 times the readings before and after, for at most 3 readings, and at least 5 times the sensor's
    95 % quantile (their median when there are fewer than 40): a GPU that wakes up now and then is not meant.

    >>> tenfold(np.array([100.0, 101.0, 1020.0, 103.0, np.nan, 104.0])).tolist()
    [False, False, True, False, False, False]
    """
    marked = np.zeros(len(values), dtype=np.bool_)
    known = np.flatnonzero(np.isfinite(values))
    if len(known) < LONGEST_SPIKE:
        return marked
    own = values[known]
    usual = float(np.quantile(own, 0.95)) if len(own) >= _ENOUGH else float(np.median(own))
    for length in range(1, LONGEST_SPIKE + 1):
        if len(own) < length + 2:
            break
        around = np.maximum(own[: -length - 1], own[length + 1 :])
        windows = np.lib.stride_tricks.sliding_window_view(own, length)[1:-1]
        least = windows.min(axis=1)
        spikes = (least / TENFOLD >= around) & (least / _ABOVE_USUAL >= usual)
        for start in np.flatnonzero(spikes & (around > 0)):
            marked[known[start + 1 : start + 1 + length]] = True
    return marked


def zeros_between(values: Floats, longest: int) -> NDArray[np.bool_]:
    """Which readings are runs of at most `longest` zeros between readings above zero: nobody answered.

    A sensor that is at zero for longer, or at the start or the end, is taken at its word: its server is off.

    >>> zeros_between(np.array([0.0, 9.0, 0.0, np.nan, 0.0, 8.0, 0.0]), 5).tolist()
    [False, False, True, False, True, False, False]
    """
    marked = np.zeros(len(values), dtype=np.bool_)
    known = np.flatnonzero(np.isfinite(values))
    above = np.flatnonzero(values[known] > 0)
    apart = np.diff(above)
    for at in np.flatnonzero((apart > 1) & (apart <= longest + 1)):
        marked[known[above[at] + 1 : above[at + 1]]] = True
    return marked


def num_stuck(values: Floats) -> int:
    """Readings within runs of at least 30 equal ones, of a sensor that changes otherwise.

    >>> num_stuck(np.concatenate([np.full(40, 7.0), [8.0, 9.0]])), num_stuck(np.full(40, 7.0))
    (40, 0)
    """
    known = values[np.isfinite(values)]
    if len(known) < NUM_STUCK or not (known != known[0]).any():
        return 0
    ends = np.flatnonzero(np.concatenate([known[1:] != known[:-1], [True]]))
    lengths = np.diff(np.concatenate([[-1], ends]))
    return int(lengths[lengths >= NUM_STUCK].sum())
