"""Peaks: the largest of each day (Figure 5), and the peak-to-trough ratio of a daily pattern (Figure 6).

The paper gives neither its smoothing nor its detector. Ours:

1. the calls of a function are added up by time of day (10-minute slots), over the whole trace, which must hold a whole
   day; a slot that it holds once more than others weighs less;
2. the profile is smoothed by a centred moving mean of one hour, around midnight;
3. a maximum counts as a peak when it exceeds the lowest trough by more than five standard deviations of the difference
   of two Poisson counts, so that noise on a constant load is none; without a peak the ratio is 1;
4. the ratio is the largest peak over the lowest trough, and a trough without any call counts as half a call.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError

SLOT_US = 600_000_000
SLOTS_PER_DAY = 144
_SMOOTH_SLOTS = 6
_SIGMAS = 5.0
_MINUTES_PER_DAY = 1440


def smoothed(values: NDArray[np.float64], width: int, *, around: bool = False) -> NDArray[np.float64]:
    """The centred moving mean over `width` values; `around` joins the two ends, else windows shrink at them.

    >>> smoothed(np.array([0.0, 3.0, 0.0]), 3).tolist()
    [1.5, 1.0, 1.5]
    """
    if width < 1:
        raise InputError(f"the smoothing width must be at least 1, got {width}")
    left, right = width // 2, width - 1 - width // 2
    if around:
        index = np.arange(-left, len(values) + right) % len(values)
        return np.convolve(values[index], np.full(width, 1 / width), mode="valid")
    sums = np.concatenate([[0.0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - left, 0)
    high = np.minimum(np.arange(len(values)) + right + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def peak_to_trough(counts: NDArray[np.float64]) -> float:
    """The ratio of a daily profile, 1 when it has no peak.

    Args:
        counts: shape (144,), calls by time of day in slots of ten minutes, summed over all days.

    Raises:
        InputError: another shape.

    >>> quiet = np.full(144, 100.0)
    >>> peak_to_trough(quiet)
    1.0
    >>> busy = quiet.copy()
    >>> busy[60:72] = 800.0
    >>> peak_to_trough(busy)
    8.0
    """
    if counts.shape != (SLOTS_PER_DAY,):
        raise InputError(f"a daily profile has {SLOTS_PER_DAY} slots, got shape {counts.shape}")
    hours = smoothed(counts, _SMOOTH_SLOTS, around=True) * _SMOOTH_SLOTS  # calls within an hour
    trough = float(hours.min())
    # From the trough around the clock, so that a peak at midnight is not cut.
    around = np.roll(hours, -int(hours.argmin()))
    height = _largest_peak(np.append(around, around[0]), trough)
    return 1.0 if height is None else height / max(trough, 0.5)


def _largest_peak(values: NDArray[np.float64], trough: float) -> float | None:
    from scipy.signal import find_peaks

    places, _ = find_peaks(values)
    if len(places) == 0:
        return None
    height = float(values[places].max())
    return height if height - trough > _SIGMAS * np.sqrt(height + trough) else None


def daily_peaks(minutes: NDArray[np.int64], load: NDArray[np.float64]) -> list[tuple[int, float]]:
    """The largest value of each 24 hours: (minute, load) for every day that has any.

    Args:
        minutes: shape (n,), rising.
        load: shape (n,), already smoothed.
    """
    found = []
    for day in np.unique(minutes // _MINUTES_PER_DAY):
        inside = np.flatnonzero(minutes // _MINUTES_PER_DAY == day)
        best = inside[int(load[inside].argmax())]
        found.append((int(minutes[best]), float(load[best])))
    return found
