"""A confidence interval for the mean limit over traffic, from the limits of a few seeds that are known up to a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nonet.common.errors import InputError


@dataclass(frozen=True, slots=True)
class Interval:
    """Ends in added servers over the row's own, and the confidence.

    Args:
        low, high: fractions; `high` is infinite when a seed held at the largest step: its limit lies beyond.
        confidence: such as 0.95.
    """

    low: float
    high: float
    confidence: float


def mean_interval(held: Sequence[float], failed: Sequence[float], confidence: float = 0.95) -> Interval:
    """Interval for the mean, over traffic, of the fraction at which the limits break.

    Each seed gives an interval: it held at one step and failed at the next. Student's t over the middles, widened by
    half the mean step at both ends, because where in its step a limit lies is not known. Seeds are independent draws
    of the traffic, limits roughly normal.

    Args:
        held: largest fraction that held, by seed; at least two.
        failed: the next one, infinite where none failed.
        confidence: of the interval.

    Raises:
        InputError: fewer than two seeds.

    >>> found = mean_interval([0.3, 0.3, 0.325], [0.325, 0.325, 0.35])
    >>> round(found.low, 3), round(found.high, 3)
    (0.272, 0.369)
    """
    if len(held) < 2 or len(held) != len(failed):
        raise InputError("interval: needs two seeds or more, each with the step that held and the next")
    lows, highs = np.asarray(held, float), np.asarray(failed, float)
    open_top = bool(np.isinf(highs).any())
    width = float((highs - lows)[np.isfinite(highs)].mean()) if np.isfinite(highs).any() else 0.0
    highs = np.where(np.isfinite(highs), highs, lows + width)
    middles = (lows + highs) / 2
    spread = float(middles.std(ddof=1)) / math.sqrt(len(middles))
    reach = float(stats.t.ppf(0.5 + confidence / 2, len(middles) - 1)) * spread
    return Interval(float(lows.mean()) - reach, math.inf if open_top else float(highs.mean()) + reach, confidence)
