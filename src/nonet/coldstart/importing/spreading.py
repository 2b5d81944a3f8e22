"""Counts per step of time to single requests, spread evenly and always the same way.

The n requests of a step stand at (i + phase) / n of it, i = 0 ... n-1. The phase is a fixed number of the function, so
that a function called once a minute is called every 60 s. Durations take the values of a quantile function at the
points of a golden-ratio sequence, which fills it evenly however many are drawn.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0.6180339887498949


def phase_of(function: str) -> float:
    """A fixed number in [0, 1) of a name.

    >>> 0 <= phase_of("f") < 1, phase_of("f") == phase_of("f")
    (True, True)
    """
    digest = hashlib.blake2b(function.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def spread(
    counts: NDArray[np.int64], start_us: NDArray[np.int64], step_us: int, phases: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Moments of the requests of n steps, and which step each belongs to.

    Args:
        counts: shape (n,), requests in each step, >= 0.
        start_us: shape (n,), when each step begins.
        step_us: length of a step.
        phases: shape (n,), of the function of each step.

    Returns:
        moments and step indexes, shape (counts.sum(),), in the order of the steps.

    >>> spread(np.array([2, 0, 1]), np.array([0, 60, 120]), 60, np.full(3, 0.5))[0].tolist()
    [15, 45, 150]
    """
    step = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    within = np.arange(len(step)) - first[step]
    offset = np.floor((within + phases[step]) * step_us / np.maximum(counts[step], 1)).astype(np.int64)
    return start_us[step] + np.minimum(offset, step_us - 1), step


def durations_us(
    order: NDArray[np.int64], function: NDArray[np.int64], levels: NDArray[np.float64], values_us: NDArray[np.float64]
) -> NDArray[np.int64]:
    """One duration a request by the quantiles of its function.

    Args:
        order: shape (n,), the how-manieth request of its function each is.
        function: shape (n,), row of `values_us` of each.
        levels: shape (k,), rising from 0 to 1.
        values_us: shape (functions, k), the quantiles at `levels`, not falling along a row.
    """
    at = (order * _GOLDEN + 0.5 * _GOLDEN) % 1.0
    right = np.clip(np.searchsorted(levels, at, side="right"), 1, len(levels) - 1)
    low, high = levels[right - 1], levels[right]
    share = (at - low) / (high - low)
    below, above = values_us[function, right - 1], values_us[function, right]
    return np.rint(below + share * (above - below)).astype(np.int64)
