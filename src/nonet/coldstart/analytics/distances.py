"""How far one law or series is from another: Kolmogorov-Smirnov, the same with a reading error allowed, Pearson.

Only the part that both curves show is compared: a published plot ends at its edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nonet.coldstart.analytics.curve import Curve
from nonet.common.errors import InputError

if TYPE_CHECKING:
    from nonet.coldstart.analytics.result import FigureResult

READING_ERROR = 0.005
"""Relative error of a value read off a plot."""


@dataclass(frozen=True, slots=True)
class Distance:
    """One comparison of ours with the published.

    Attributes:
        figure: e.g. "10a".
        facet, group: which curve.
        measure: "KS", "KS within reading error", "Pearson", "mean absolute difference", "log10 ratio".
        value: its value.
        at: the x where a KS distance is largest; NaN for others.
        num: how many values were compared.
    """

    figure: str
    facet: str
    group: str
    measure: str
    value: float
    at: float
    num: int


def ks(a: Curve, b: Curve) -> tuple[float, float]:
    """The largest vertical distance of two laws where both are known, and the x of it.

    Raises:
        InputError: they have no x in common.

    >>> one, two = (Curve(np.array([1.0, e]), np.array([0.0, 1.0])) for e in (10.0, 100.0))
    >>> distance, x = ks(one, two)
    >>> round(distance, 3), round(x, 3)
    (0.5, 10.0)
    """
    x = np.union1d(a.x, b.x)
    gaps = np.concatenate([np.abs(a.at(x) - b.at(x)), np.abs(a.at(x, "left") - b.at(x, "left"))])
    return _largest(gaps, np.concatenate([x, x]))


def ks_within(a: Curve, b: Curve, relative: float = READING_ERROR) -> tuple[float, float]:
    """KS when every x may be off by the factor 1 + `relative`: what is left when a steep rise was read a little beside.

    A step at 1 ms that a plot shows at 1.003 ms is no distance here; in `ks` it is the height of the step.
    """
    shift = 1.0 + relative
    x = np.union1d(np.union1d(a.x, a.x / shift), np.union1d(b.x, b.x / shift))
    over = np.concatenate([a.at(x) - b.at(x * shift), a.at(x, "left") - b.at(x * shift, "left")])
    under = np.concatenate([b.at(x) - a.at(x * shift), b.at(x, "left") - a.at(x * shift, "left")])
    return _largest(np.maximum(np.maximum(over, under), np.where(np.isnan(over), np.nan, 0.0)), np.concatenate([x, x]))


def _largest(gaps: NDArray[np.float64], x: NDArray[np.float64]) -> tuple[float, float]:
    if np.isnan(gaps).all():
        raise InputError("the two curves have no part in common")
    best = int(np.nanargmax(gaps))
    return float(gaps[best]), float(x[best])


def pearson(a: Any, b: Any) -> float:
    """The correlation of two series of one length; NaN when one of them is constant.

    Raises:
        InputError: different lengths, or fewer than two values.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape or len(first) < 2:
        raise InputError(f"a correlation needs two series of one length >= 2, got {first.shape} and {second.shape}")
    if first.std() == 0 or second.std() == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def compare(ours: FigureResult, published: FigureResult) -> list[Distance]:
    """The distances of two results of one figure, for every group that both have.

    Laws: KS, and KS within the reading error. Series: Pearson over the x in common. Bars, matrices and medians: mean
    absolute difference (medians: of log10). Points have no pairs: their y are compared as laws.

    Raises:
        InputError: two different figures.
    """
    if ours.name != published.name:
        raise InputError(f"figure {ours.name} cannot be compared with figure {published.name}")
    by_kind = {
        "law": _compare_laws,
        "series": _compare_series,
        "points": _compare_points,
        "bars": _compare_cells,
        "matrix": _compare_cells,
        "spread": _compare_cells,
    }
    return by_kind[ours.kind](ours, published)


def _compare_laws(ours: FigureResult, published: FigureResult) -> list[Distance]:
    found = []
    for (facet, group), curve in ours.curves.items():
        other = published.curves.get((facet, group))
        if other is None:
            continue
        for measure, function in (("KS", ks), ("KS within reading error", ks_within)):
            value, at = function(curve, other)
            found.append(Distance(ours.name, facet, group, measure, value, at, curve.num))
    return found


def _compare_series(ours: FigureResult, published: FigureResult) -> list[Distance]:
    keys = ["facet", "group", "x"]
    both = (
        ours.rows.select(*keys, "y")
        .cast({"x": float, "y": float})
        .join(published.rows.select(*keys, theirs="y").cast({"x": float, "theirs": float}), on=keys, how="inner")
    )
    found = []
    for (facet, group), rows in both.group_by("facet", "group", maintain_order=True):
        present = rows.drop_nulls()
        if len(present) > 1:
            value = pearson(present["y"].to_numpy(), present["theirs"].to_numpy())
            found.append(Distance(ours.name, str(facet), str(group), "Pearson", value, float("nan"), len(present)))
    return found


def _compare_points(ours: FigureResult, published: FigureResult) -> list[Distance]:
    from nonet.coldstart.analytics.curve import curve_of_values

    found = []
    for (facet, group), rows in ours.rows.group_by("facet", "group", maintain_order=True):
        theirs = published.rows.filter((published.rows["facet"] == facet) & (published.rows["group"] == group))
        if not len(theirs):
            continue
        if len(theirs) == 1 and len(rows) == 1:
            for axis in ("x", "y"):
                ratio = float(np.log10(max(rows[axis][0], 1e-9) / theirs[axis][0]))
                found.append(
                    Distance(ours.name, str(facet), str(group), f"log10 ratio of {axis}", ratio, float("nan"), 1)
                )
            continue
        laws = [curve_of_values(frame["y"].to_numpy()) for frame in (rows, theirs) if (frame["y"] > 0).any()]
        if len(laws) == 2:
            value, at = ks(*laws)
            found.append(Distance(ours.name, str(facet), str(group), "KS of y", value, at, len(rows)))
    return found


def _compare_cells(ours: FigureResult, published: FigureResult) -> list[Distance]:
    import polars as pl

    keys, value = {
        "bars": (["facet", "group", "series"], "y"),
        "matrix": (["facet", "a", "b"], "y"),
        "spread": (["facet", "metric", "pool"], "median"),
    }[ours.kind]
    both = ours.rows.select(*keys, pl.col(value)).join(
        published.rows.select(*keys, pl.col(value).alias("theirs")), on=keys, how="inner"
    )
    off_diagonal = both.filter(pl.col("a") != pl.col("b")) if ours.kind == "matrix" else both
    is_log = ours.kind == "spread"
    measure = "mean absolute difference" + (" of log10" if is_log else "")
    found = []
    for (facet,), rows in off_diagonal.drop_nulls([value, "theirs"]).group_by("facet", maintain_order=True):
        first, second = rows[value].to_numpy(), rows["theirs"].to_numpy()
        gaps = np.abs(np.log10(first / second)) if is_log else np.abs(first - second)
        found.append(Distance(ours.name, str(facet), "", measure, float(gaps.mean()), float("nan"), len(rows)))
    return found
