"""Compiled sums for exports: calls by function and minute, and durations by function in logarithmic bins."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

BIN_WIDTH = 0.02  # of ln(microseconds): 2 %
NUM_BINS = 1300  # up to exp(26) us, 54 hours
DAY_US = 86_400_000_000


@njit(cache=True, nogil=True)
def add_calls(arrive, run, function, by_minute, durations, sums, extremes):
    """Add calls of one day.

    Args:
        arrive: int64[n], microseconds.
        run: int64[n], microseconds.
        function: int32[n].
        by_minute: int64[F, 1440]. durations: int32[F, NUM_BINS]. sums: float64[F], microseconds.
        extremes: int64[F, 2], smallest and largest run.
    """
    for i in range(len(arrive)):
        f = function[i]
        by_minute[f, (arrive[i] % DAY_US) // 60_000_000] += 1
        place = int(math.log(max(run[i], 1)) / BIN_WIDTH)
        durations[f, min(place, NUM_BINS - 1)] += 1
        sums[f] += run[i]
        extremes[f, 0] = min(extremes[f, 0], run[i])
        extremes[f, 1] = max(extremes[f, 1], run[i])


@njit(cache=True, nogil=True)
def mark_cold(arrive, function, cold_at, cold_function, first):
    """Which calls triggered a cold start: bool[n], and the next cold start to look at.

    Cold starts are in the order of their times, and so are calls; at equal times of one function the first calls are
    meant.
    """
    cold = np.zeros(len(arrive), dtype=np.bool_)
    which = np.full(len(arrive), -1, dtype=np.int64)
    at = 0
    k = first
    while k < len(cold_at) and at < len(arrive):
        while at < len(arrive) and arrive[at] < cold_at[k]:
            at += 1
        i = at
        while i < len(arrive) and arrive[i] == cold_at[k]:
            if function[i] == cold_function[k] and not cold[i]:
                cold[i] = True
                which[i] = k
                break
            i += 1
        if at >= len(arrive):
            break
        k += 1
    return cold, which, k
