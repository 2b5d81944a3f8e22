"""An empirical law as a polyline: cumulative shares over a positive quantity, read along its logarithm.

Published curves and ours have the same form, so that both are interpolated and compared by the same code. A curve knows
what it does not know: one that a plot cut off at its right edge has no 99th percentile there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError

BINS_PER_DECADE = 200
"""Width of a histogram bin: values in one bin differ by at most 10**(1/200) - 1 = 1.16 %."""

NOT_POSITIVE = -1_000_000
"""The bin of values <= 0, which have no logarithm."""

_SLACK = 0.0005  # published shares are read off to about this


@dataclass(frozen=True, slots=True)
class Curve:
    """Cumulative shares `cdf` at `x`; between two vertices linear in log10(x), two vertices at one x are a step.

    Attributes:
        x: shape (n,), positive, non-decreasing.
        cdf: shape (n,), non-decreasing, in [0, 1].
        below: the share below `x[0]`; NaN when unknown (the plot was cut there).
        above: the share up to any point above `x[-1]`: 1, or NaN when unknown.
        num: how many values it was made from; 0 when unknown.
    """

    x: NDArray[np.float64]
    cdf: NDArray[np.float64]
    below: float = 0.0
    above: float = 1.0
    num: int = 0

    def __post_init__(self) -> None:
        ordered = len(self.x) == len(self.cdf) > 0 and bool(
            (np.diff(self.x) >= 0).all() and (np.diff(self.cdf) >= 0).all()
        )
        if not ordered or self.x[0] <= 0:
            raise InputError("a curve needs positive x and shares, both in rising order and of one length")

    @property
    def is_cut_left(self) -> bool:
        """Whether an unknown part of the law lies below `x[0]`."""
        return bool(np.isnan(self.below))

    @property
    def is_cut_right(self) -> bool:
        """Whether an unknown part of the law lies above `x[-1]`."""
        return bool(np.isnan(self.above))

    def at(self, x: Any, side: Literal["right", "left"] = "right") -> NDArray[np.float64]:
        """The share of values <= x ("right") or < x ("left"); NaN where the curve was cut.

        >>> curve = Curve(np.array([1.0, 100.0]), np.array([0.0, 1.0]))
        >>> curve.at([0.5, 10.0, 1000.0]).tolist()
        [0.0, 0.5, 1.0]
        """
        points = np.atleast_1d(np.asarray(x, np.float64))
        last = len(self.x) - 1
        count = np.searchsorted(self.x, points, side=side)
        right = np.clip(count, min(1, last), last)
        left = np.maximum(right - 1, 0)
        start, end = np.log(self.x[left]), np.log(self.x[right])
        part = (np.log(np.maximum(points, 1e-300)) - start) / np.where(end > start, end - start, 1.0)
        inside = self.cdf[left] + np.clip(part, 0.0, 1.0) * (self.cdf[right] - self.cdf[left])
        beyond = np.where(points > self.x[-1], self.above, self.cdf[-1])
        return np.where(count == 0, self.below, np.where(count > last, beyond, inside))

    def quantile(self, shares: Any) -> NDArray[np.float64]:
        """The smallest x whose share reaches each of `shares`; NaN where the curve was cut, 0 below `below`.

        >>> Curve(np.array([1.0, 100.0]), np.array([0.0, 1.0])).quantile([0.5]).tolist()
        [10.0...]
        """
        wanted = np.atleast_1d(np.asarray(shares, np.float64))
        last = len(self.x) - 1
        index = np.searchsorted(self.cdf, wanted, side="left")
        right = np.clip(index, min(1, last), last)
        left = np.maximum(right - 1, 0)
        rise = self.cdf[right] - self.cdf[left]
        part = np.clip((wanted - self.cdf[left]) / np.where(rise > 0, rise, 1.0), 0.0, 1.0)
        inside = np.exp(np.log(self.x[left]) + part * (np.log(self.x[right]) - np.log(self.x[left])))
        unknown_low = self.is_cut_left & (wanted < self.cdf[0] - _SLACK)
        first = np.where(unknown_low, np.nan, np.where(wanted <= self.below, 0.0, self.x[0]))
        first = np.where((wanted <= self.below) & (self.below == 0.0), self.x[0], first)
        end = np.where(self.is_cut_right & (wanted > self.cdf[-1] + _SLACK), np.nan, self.x[-1])
        return np.where(index == 0, first, np.where(index > last, end, inside))

    @property
    def median(self) -> float:
        """The 50th percentile."""
        return float(self.quantile(0.5)[0])

    def sample(self, num: int) -> NDArray[np.float64]:
        """`num` values that follow the law, its quantiles at evenly spaced shares; cut-off parts are left out."""
        first = self.cdf[0] if self.is_cut_left or self.below > 0 else 0.0
        last = self.cdf[-1] if self.is_cut_right else 1.0
        return self.quantile(first + (np.arange(num) + 0.5) / num * (last - first))


def published_curve(x: Sequence[float], cdf: Sequence[float]) -> Curve:
    """A curve from the vertices of a drawn line: made monotone, and cut where it does not reach 0 or 1."""
    order = np.argsort(np.asarray(x, np.float64), kind="stable")
    shares = np.maximum.accumulate(np.clip(np.asarray(cdf, np.float64)[order], 0.0, 1.0))
    below = 0.0 if shares[0] <= _SLACK else np.nan
    above = 1.0 if shares[-1] >= 1.0 - _SLACK else np.nan
    return Curve(np.asarray(x, np.float64)[order], shares, below, above)


def curve_of_values(values: Any) -> Curve:
    """The exact law of some values: a step at each; values <= 0 count as lying below the smallest positive one.

    Raises:
        InputError: no value is positive.

    >>> curve_of_values([0.0, 2.0, 2.0, 4.0]).at([1.0, 2.0, 4.0]).tolist()
    [0.25, 0.75, 1.0]
    """
    values = np.asarray(values, np.float64)
    low, counts = np.unique(values[values > 0], return_counts=True)
    num_rest = int((values <= 0).sum())
    return curve_of_bins(low, low, counts, num_rest)


def curve_of_bins(low: Any, high: Any, counts: Any, num_not_positive: int = 0) -> Curve:
    """The law of a histogram whose bins know their smallest and largest value: exact at those, linear between.

    Args:
        low: shape (n,), smallest value of each bin, rising.
        high: shape (n,), its largest value.
        counts: shape (n,), its number of values.
        num_not_positive: values <= 0 beside them.

    Raises:
        InputError: there is no positive value.
    """
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    if len(low) == 0:
        raise InputError("no positive value: a law over log10(x) cannot be drawn")
    ends = np.cumsum(np.asarray(counts, np.int64)) + num_not_positive
    total = int(ends[-1])
    starts = np.concatenate([[num_not_positive], ends[:-1]])
    x = np.column_stack([low, high]).ravel()
    shares = np.column_stack([starts, ends]).ravel() / total
    return Curve(x, shares, num_not_positive / total, 1.0, total)
