"""Finding the period of a timer from the times of its calls.

Calls within a second are one tick. A periodic process repeats itself after `lag` ticks, so its lag-k differences pile
up at one value: the autocorrelation of the ticks on integer seconds has a peak there. For Poisson ticks the
differences follow a Gamma law, which says how likely such a pile is by chance. The smallest lag that passes is the
period: 1 for plain timers, 2 for "at minutes 5 and 20 of each hour", and so on. Working with differences rather than
with a grid of phases serves timers that count from the end of the last run as well as those of a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError

Times: TypeAlias = NDArray[np.int64]

SECOND_US = 1_000_000
_JITTER_LEVEL = 0.99
_MIN_PERIOD_TOLERANCES = 5  # gaps within a burst pile up too, but near 0


@dataclass(frozen=True, slots=True)
class Period:
    """The call `lag` ticks ago plus `period_us` is when the next one is due.

    Attributes:
        period_us: length of the period.
        lag: ticks in one period.
        share: share of the lag-k differences within the tolerance of the period.
        p_value: chance of such a share, or a larger one, for Poisson ticks, times the lags tried.
        early_us, late_us: by how much a tick comes before or after its due time, 99th percentile of those within the
            tolerance.
    """

    period_us: int
    lag: int
    share: float
    p_value: float
    early_us: int
    late_us: int


def tick_times(call_us: Times) -> Times:
    """The first call of each run of calls that lie less than a second apart; input not falling.

    >>> tick_times(np.array([0, 400_000, 60_000_000, 60_000_001])).tolist()
    [0, 60000000]
    """
    calls = np.asarray(call_us, np.int64)
    if np.any(np.diff(calls) < 0):
        raise InputError("periodicity: call times must not fall; sort them")
    return calls[np.diff(calls, prepend=np.int64(-(2**62))) >= SECOND_US]


def find_period(
    call_us: Times,
    *,
    max_lag: int = 12,
    min_ticks: int = 5,
    min_share: float = 0.7,
    tolerance_share: float = 0.02,
    significance: float = 1e-3,
) -> Period | None:
    """The period of a function's calls, or None.

    Args:
        call_us: (n,) times of the calls, not falling.
        max_lag: most ticks in one period.
        min_ticks: fewer ticks than this give no period.
        min_share: share of differences that must lie within the tolerance.
        tolerance_share: tolerance as a share of the mean gap between ticks, at least one second; a period is at least
            five tolerances long.
        significance: largest p-value, after multiplying by the lags tried.

    >>> import numpy as np
    >>> period = find_period(np.arange(20) * 300_000_000)
    >>> period.period_us // 1_000_000, period.lag, period.share
    (300, 1, 1.0)
    >>> find_period(np.array([0, 5, 1200, 1300, 4000, 9000, 9100]) * 1_000_000) is None
    True
    """
    ticks = tick_times(call_us)
    num_lags = min(max_lag, (len(ticks) - 1) // 3 if len(ticks) >= min_ticks else 0)
    if num_lags < 1:
        return None
    mean_gap_s = (ticks[-1] - ticks[0]) / (len(ticks) - 1) / SECOND_US
    tolerance_s = max(1.0, tolerance_share * mean_gap_s)
    for lag in range(1, num_lags + 1):
        differences_us = ticks[lag:] - ticks[:-lag]
        centre_s = _densest(np.rint(differences_us / SECOND_US), tolerance_s)
        within = np.abs(differences_us / SECOND_US - centre_s) <= tolerance_s
        share = float(np.mean(within))
        if share < min_share or centre_s < _MIN_PERIOD_TOLERANCES * tolerance_s:
            continue
        p_value = num_lags * _chance(share, len(differences_us), lag, centre_s, tolerance_s, mean_gap_s)
        if p_value <= significance:
            return _described(differences_us[within], lag, share, p_value)
    return None


def _densest(seconds: NDArray[np.float64], tolerance_s: float) -> float:
    """The middle of the values in the window of +-tolerance that holds most values."""
    ordered = np.sort(seconds)
    ends = np.searchsorted(ordered, ordered + 2 * tolerance_s, side="right")
    first = int(np.argmax(ends - np.arange(len(ordered))))
    return float(np.median(ordered[first : ends[first]]))


def _chance(share: float, num: int, lag: int, centre_s: float, tolerance_s: float, mean_gap_s: float) -> float:
    """P(at least this share of independent lag-k differences of Poisson ticks within the tolerance).

    Neighbouring lag-k differences overlap, so only every k-th counts as independent; one is spent on the centre.
    """
    from scipy.stats import binom, gamma

    law = gamma(lag, scale=mean_gap_s)
    inside = float(law.cdf(centre_s + tolerance_s) - law.cdf(max(0.0, centre_s - tolerance_s)))
    independent = num // lag - 1
    return float(binom.sf(np.ceil(share * num / lag - 1e-9) - 2, independent, inside)) if independent > 0 else 1.0


def _described(differences_us: Times, lag: int, share: float, p_value: float) -> Period:
    period_us = int(np.median(differences_us))
    early_us, late_us = np.quantile(differences_us - period_us, [1 - _JITTER_LEVEL, _JITTER_LEVEL])
    return Period(period_us, lag, share, p_value, max(0, int(-early_us)), max(0, int(late_us)))
