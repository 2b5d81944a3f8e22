"""Compiled arithmetic of a profile: what the simulator and `PowerProfile` both compute with."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def seconds_between(x: float, xs: np.ndarray, ys: np.ndarray) -> float:
    """Time at `x`, linear between the points (xs, ys) float64 (n,), xs rising.

    Beyond the last point the line of the last segment goes on, and never falls. Below the first, that of the first
    segment does, down to a tenth of the first point. One point is a constant.
    """
    n = len(xs)
    if n == 1:
        return ys[0]
    i = 1
    while i < n - 1 and x > xs[i]:
        i += 1
    slope = (ys[i] - ys[i - 1]) / (xs[i] - xs[i - 1])
    if x > xs[n - 1]:
        return ys[n - 1] + max(slope, 0.0) * (x - xs[n - 1])
    value = ys[i - 1] + slope * (x - xs[i - 1])
    if x < xs[0]:
        return max(value, 0.1 * ys[0])
    return value


@njit(cache=True, nogil=True)
def watts_between(x: float, xs: np.ndarray, ys: np.ndarray) -> float:
    """Power at `x`, linear between the points (xs, ys) float64 (n,), xs rising; constant beyond both ends."""
    n = len(xs)
    if x <= xs[0]:
        return ys[0]
    if x >= xs[n - 1]:
        return ys[n - 1]
    i = 1
    while x > xs[i]:
        i += 1
    return ys[i - 1] + (ys[i] - ys[i - 1]) / (xs[i] - xs[i - 1]) * (x - xs[i - 1])


@njit(cache=True, nogil=True)
def decode_power_factor(level: float, floor: float, exponent: float) -> float:
    """Decode power at `level` over that at 1: floor + (1 - floor) * level^exponent."""
    return floor + (1.0 - floor) * level**exponent


@njit(cache=True, nogil=True)
def decode_time_factor(level: float, fixed: float, clocked: float) -> float:
    """Decode time at `level` over that at 1: (fixed + clocked / level) / (fixed + clocked)."""
    return (fixed + clocked / level) / (fixed + clocked)
