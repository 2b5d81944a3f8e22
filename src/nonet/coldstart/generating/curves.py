"""Distribution functions read off the figures of the paper, and the other tables the generator is calibrated with.

The tables lie in `calibration/` (facts of the EuroSys 2025 paper, CC BY 4.0; `SOURCE.md` there says figure by figure
where from). A curve is a polyline of (x, cdf), straight over log x. Where the plot cuts a curve off, at cdf > 0 on
the left or < 1 on the right, it is continued to a stated end, since the mass beyond the frame has to lie somewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nonet.common.errors import InputError

REGIONS = ("R1", "R2", "R3", "R4", "R5")
LEFT_END = 0.2  # a curve cut off on the left goes down to this share of its first x
RIGHT_END_S = {"10a": 200.0, "10c": 200.0, "15a": 60.0, "15b": 30.0, "15e": 30.0, "16a": 60.0, "16b": 30.0}


@dataclass(frozen=True)
class Curve:
    """A distribution function through the points (x, cdf), straight over log x; cdf from 0 to 1, both float64[n]."""

    x: NDArray[np.float64]
    cdf: NDArray[np.float64]

    def quantile(self, probability: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """The smallest x with cdf(x) >= probability, for probabilities in [0, 1]; monotone.

        >>> Curve(np.array([1.0, 100.0]), np.array([0.0, 1.0])).quantile(0.5).round(9).item()
        10.0
        """
        return np.exp(np.interp(probability, self.cdf, np.log(self.x)))

    def probability(self, x: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """P(X <= x)."""
        return np.interp(np.log(np.maximum(x, 1e-300)), np.log(self.x), self.cdf)

    def mean(self) -> float:
        """The mean of the law, exactly (log-uniform between neighbouring points)."""
        width = np.diff(np.log(self.x))
        rise = np.diff(self.x)
        steep = width < 1e-12
        return float(np.sum(np.diff(self.cdf) * np.where(steep, self.x[1:], rise / np.where(steep, 1.0, width))))

    def scaled(self, factor: float) -> Curve:
        """The law of `factor` times X."""
        return Curve(self.x * factor, self.cdf)

    def between(self, low: float, high: float) -> Curve:
        """The law of X given low < X <= high; both must be inside of the curve's range and enclose some mass."""
        inside = (self.x > low) & (self.x < high)
        x = np.concatenate(([low], self.x[inside], [high]))
        cdf = np.concatenate(([self.probability(low)], self.cdf[inside], [self.probability(high)]))
        return Curve(x, (cdf - cdf[0]) / (cdf[-1] - cdf[0]))


@lru_cache(maxsize=16)
def table(name: str) -> pl.DataFrame:
    """The table `calibration/NAME.csv`."""
    file = resources.files("nonet.coldstart.generating") / "calibration" / f"{name}.csv"
    return pl.read_csv(file.read_bytes())


@lru_cache(maxsize=256)
def curve(figure: str, group: str) -> Curve:
    """The curve of a figure (for example "10a") and a group in it (a region, a runtime, a trigger, "all").

    Raises:
        InputError: there is no such curve; the message lists the figure's groups.

    >>> round(curve("10a", "R2").quantile(0.5).item(), 2)
    0.83
    """
    rows = table("curves").filter((pl.col("figure") == figure) & (pl.col("group") == group))
    if rows.is_empty():
        groups = table("curves").filter(pl.col("figure") == figure)["group"].unique().sort().to_list()
        raise InputError(
            f"no curve of figure {figure!r} for {group!r}; choose one of {', '.join(groups) or 'no group'}"
        )
    x, cdf = rows["x"].to_numpy(), rows["cdf"].to_numpy()
    if cdf[0] > 0.0:
        x, cdf = np.append(x[0] * LEFT_END, x), np.append(0.0, cdf)
    if cdf[-1] < 1.0:
        x, cdf = np.append(x, max(RIGHT_END_S.get(figure, 0.0), x[-1] * 1.5)), np.append(cdf, 1.0)
    return Curve(x, cdf)
