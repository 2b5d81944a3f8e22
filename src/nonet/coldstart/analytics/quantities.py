"""Quantities that a claim can be about: each computes one number from figures, with the numbers that led to it.

A quantity asks a `FigureSource` for figures and does not care whether they are published ones or those of a trace. It
raises `InputError` when the source does not hold what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nonet.coldstart.analytics.curve import Curve
from nonet.coldstart.analytics.distances import ks
from nonet.coldstart.analytics.result import FigureResult
from nonet.coldstart.laws import LogNormal, Weibull
from nonet.common.errors import InputError
from nonet.common.registry import Registry


class FigureSource(Protocol):
    """Where figures come from: `Published`, or `Figures` of a trace."""

    @property
    def regions(self) -> tuple[str, ...]:
        """The regions that the figures are of."""
        ...

    @property
    def num_days(self) -> float:
        """How long a time they show."""
        ...

    def figure(self, name: str) -> FigureResult:
        """A figure; InputError when it is not to be had."""
        ...


@dataclass(frozen=True, slots=True)
class Measured:
    """A number and what it was computed from (JSON-ready)."""

    value: float
    evidence: Mapping[str, Any] = field(default_factory=dict)


Quantity = Callable[..., Measured]
QUANTITIES: Registry[Quantity] = Registry("quantity")


@QUANTITIES.register("median")
def median(source: FigureSource, figure: str, group: str, facet: str | None = None) -> Measured:
    """The median of a law."""
    return quantile(source, figure, group, 0.5, facet)


@QUANTITIES.register("quantile")
def quantile(source: FigureSource, figure: str, group: str, share: float, facet: str | None = None) -> Measured:
    """The x below which `share` of a law lies."""
    value = float(source.figure(figure).curve(group, facet).quantile(share)[0])
    return Measured(_known(value, f"figure {figure} ends before share {share:g} of {group}"), {"x": value})


@QUANTITIES.register("share_below")
def share_below(source: FigureSource, figure: str, group: str, x: float, facet: str | None = None) -> Measured:
    """The share of a law that is <= x."""
    value = float(source.figure(figure).curve(group, facet).at(x)[0])
    return Measured(_known(value, f"figure {figure} does not show {group} at {x:g}"), {"share": value})


@QUANTITIES.register("share_above")
def share_above(source: FigureSource, figure: str, group: str, x: float, facet: str | None = None) -> Measured:
    """The share of a law that is > x."""
    below = share_below(source, figure, group, x, facet).value
    return Measured(1.0 - below, {"share up to x": below})


@QUANTITIES.register("share_between")
def share_between(
    source: FigureSource, figure: str, group: str, low: float, high: float, facet: str | None = None
) -> Measured:
    """The share of a law in (low, high]."""
    curve = source.figure(figure).curve(group, facet)
    shares = curve.at([low, high])
    value = float(shares[1] - shares[0])
    evidence = {"share up to low": float(shares[0]), "share up to high": float(shares[1])}
    return Measured(_known(value, f"figure {figure} does not show {group} from {low:g} to {high:g}"), evidence)


@QUANTITIES.register("median_ratio")
def median_ratio(source: FigureSource, figure: str, group: str, other: str, facet: str | None = None) -> Measured:
    """The median of one group over that of another."""
    first, second = (median(source, figure, name, facet).value for name in (group, other))
    return Measured(first / second, {group: first, other: second})


@QUANTITIES.register("is_largest_median")
def is_largest_median(source: FigureSource, figure: str, group: str, facet: str | None = None) -> Measured:
    """1 when a group has the largest median of its facet, else 0."""
    curves = source.figure(figure).curves
    medians = {
        name: curve.median for (place, name), curve in curves.items() if facet in (None, place) and name != "all"
    }
    if group not in medians:
        raise InputError(f"figure {figure} has no group {group!r}")
    return Measured(float(medians[group] >= max(medians.values())), medians)


@QUANTITIES.register("law_moment")
def law_moment(source: FigureSource, figure: str, moment: str) -> Measured:
    """Mean or standard deviation ("mean", "sd"; seconds) of the law drawn beside a pooled curve (10b, 10d).

    The parameters are read off the drawn fit by least squares over its shares.
    """
    if moment not in ("mean", "sd"):
        raise InputError(f"law_moment: moment must be 'mean' or 'sd', got {moment!r}")
    curve = source.figure(figure).curve("fit")
    law = _read_law(curve, Weibull if figure == "10d" else LogNormal)
    mean, sd = law.moments()
    parameters = {name: float(getattr(law, name)) for name in law.__dataclass_fields__}
    return Measured(mean if moment == "mean" else sd, parameters | {"mean": mean, "sd": sd})


def _read_law(curve: Curve, kind: type[LogNormal] | type[Weibull]) -> LogNormal | Weibull:
    from scipy import optimize

    first = kind.fit(curve.sample(2_000))
    names = list(first.__dataclass_fields__)

    def gaps(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        law = kind(**{**dict(zip(names, parameters.tolist(), strict=True)), names[1]: abs(float(parameters[1]))})
        return law.cdf(curve.x) - curve.cdf

    found = optimize.least_squares(gaps, [getattr(first, name) for name in names])
    return kind(*(float(value) for value in found.x))


@QUANTITIES.register("law_distance")
def law_distance(source: FigureSource, figure: str) -> Measured:
    """KS between a pooled curve and the law drawn beside it."""
    result = source.figure(figure)
    value, at = ks(result.curve("all"), result.curve("fit"))
    return Measured(value, {"at": at})


@QUANTITIES.register("sum_over_time")
def sum_over_time(source: FigureSource, figure: str, group: str, facet: str | None = None) -> Measured:
    """The sum of a series, over all facets unless one is given."""
    _, y = _series(source, figure, group, facet)
    return Measured(float(y.sum()), {"values": len(y)})


@QUANTITIES.register("mean_part")
def mean_part(source: FigureSource, part: str, facet: str) -> Measured:
    """The mean seconds of a part of a cold start ("total", "code", ...) in a region, over all its cold starts."""
    counts, means = _hours(source, part, facet)
    return Measured(float((counts * means).sum() / counts.sum()), {"cold starts": float(counts.sum())})


@QUANTITIES.register("share_of_mean")
def share_of_mean(source: FigureSource, part: str, facet: str) -> Measured:
    """The share of a component in the mean cold-start time of a region."""
    whole, own = (mean_part(source, name, facet).value for name in ("total", part))
    return Measured(own / whole, {"total_s": whole, f"{part}_s": own})


def _hours(source: FigureSource, part: str, facet: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    hours, counts = _series(source, "11", "cold_starts", facet)
    others, means = _series(source, "11", part, facet)
    if len(hours) != len(others):
        raise InputError(f"figure 11: {part} is not known for every hour of {facet}")
    return counts, means


@QUANTITIES.register("daily_peak_to_trough")
def daily_peak_to_trough(
    source: FigureSource,
    figure: str,
    group: str,
    facet: str | None = None,
    first_day: int = 0,
    last_day: int = 1_000_000,
) -> Measured:
    """The largest over the smallest hour of the mean day, over the whole days from `first_day` to `last_day`."""
    x, y = _series(source, figure, group, facet)
    hours = x.astype(int)
    whole = [day for day in np.unique(hours // 24) if first_day <= day <= last_day and (hours // 24 == day).sum() == 24]
    if not whole:
        raise InputError(f"figure {figure}: {group} has no whole day from {first_day} to {last_day}")
    inside = np.isin(hours // 24, whole)
    profile = np.array([y[inside & (hours % 24 == hour)].mean() for hour in range(24)])
    if profile.min() <= 0:
        raise InputError(f"figure {figure}: {group} has an hour of the day without any value")
    value = float(profile.max() / profile.min())
    return Measured(value, {"days": len(whole), "peak at hour": int(profile.argmax()), "peak": float(profile.max())})


@QUANTITIES.register("ratio_of_days")
def ratio_of_days(
    source: FigureSource, figure: str, group: str, days: list[int], over: list[int], facet: str | None = None
) -> Measured:
    """The mean of a series over some days, divided by its mean over others (days from 0)."""
    x, y = _series(source, figure, group, facet)
    parts = [y[np.isin(x.astype(int) // 24, wanted)] for wanted in (days, over)]
    if not all(len(part) for part in parts) or parts[1].mean() == 0:
        raise InputError(f"figure {figure} does not show these days")
    first, second = (float(part.mean()) for part in parts)
    return Measured(first / second, {"days": first, "over": second})


@QUANTITIES.register("extreme_of_sum")
def extreme_of_sum(source: FigureSource, figure: str, facet: str, which: str) -> Measured:
    """The largest ("max") or smallest ("min") hour of all groups of a facet together."""
    if which not in ("max", "min"):
        raise InputError(f"extreme_of_sum: which must be 'max' or 'min', got {which!r}")
    x, y = _stacked(source, figure, facet)
    index = int(y.argmax() if which == "max" else y.argmin())
    return Measured(float(y[index]), {"at hour": float(x[index])})


@QUANTITIES.register("weekday_over_weekend")
def weekday_over_weekend(source: FigureSource, figure: str, facet: str, weekend: list[int], last_day: int) -> Measured:
    """Mean of the weekdays over mean of the weekend days up to `last_day`, all groups of a facet together.

    Args:
        source: where the figure comes from.
        figure: an hourly figure, e.g. "8a".
        facet: the region.
        weekend: days (from 0) that are weekend.
        last_day: days after it are left out (a holiday begins).
    """
    x, y = _stacked(source, figure, facet)
    days = x.astype(int) // 24
    rest = np.isin(days, weekend)
    inside = days <= last_day
    parts = [y[inside & ~rest], y[inside & rest]]
    if not all(len(part) for part in parts) or parts[1].mean() == 0:
        raise InputError(f"figure {figure}: no such days")
    week, end = (float(part.mean()) for part in parts)
    return Measured(week / end, {"weekdays": week, "weekend": end})


@QUANTITIES.register("first_day_back")
def first_day_back(source: FigureSource, group: str, facet: str = "pods", last_workday: int = 13) -> Measured:
    """Figure 7: the first day after the holiday's low that is more than half-way back to the last workday's level."""
    days, level = _series(source, "7", group, facet)
    after = days > last_workday
    if not (days == last_workday).any() or not after.any():
        raise InputError(f"figure 7 does not show day {last_workday} and days after it")
    before = float(level[days == last_workday][0])
    low = int(level[after].argmin())
    half = (before + float(level[after][low])) / 2
    back = np.flatnonzero((days > days[after][low]) & (level >= half))
    if len(back) == 0:
        raise InputError(f"figure 7: {group} does not come back to the level of day {last_workday}")
    around = {f"day {int(days[i])}": float(level[i]) for i in range(max(back[0] - 1, 0), min(back[0] + 3, len(days)))}
    return Measured(float(days[back[0]]), {f"day {last_workday}": before, **around})


@QUANTITIES.register("bar")
def bar(source: FigureSource, figure: str, facet: str, group: str, series: str) -> Measured:
    """The height of one bar (Figures 8d-f, 9)."""
    value = _one(source.figure(figure), "y", facet=facet, group=group, series=series)
    return Measured(value)


@QUANTITIES.register("correlation")
def correlation(source: FigureSource, facet: str, a: str, b: str) -> Measured:
    """Figure 12: the Spearman correlation of two quantities in a region."""
    return Measured(_one(source.figure("12"), "y", facet=facet, a=a, b=b))


@QUANTITIES.register("pool_median")
def pool_median(source: FigureSource, facet: str, metric: str, pool: str) -> Measured:
    """Figure 13: a median in seconds; pool "large:small" is the ratio of two."""
    return Measured(_one(source.figure("13"), "median", facet=facet, metric=metric, pool=pool))


@QUANTITIES.register("pool_median_ratio")
def pool_median_ratio(source: FigureSource, facet: str, metric: str) -> Measured:
    """Figure 13: the median of the large pools over that of the small ones."""
    large, small = (pool_median(source, facet, metric, pool).value for pool in ("large", "small"))
    return Measured(large / small, {"large_s": large, "small_s": small})


def _one(result: FigureResult, column: str, **where: str) -> float:
    import polars as pl

    rows = result.rows.filter(*(pl.col(name) == value for name, value in where.items()))
    if len(rows) != 1 or rows[column][0] is None:
        wanted = ", ".join(f"{name} {value}" for name, value in where.items())
        raise InputError(f"figure {result.name} has no value for {wanted}")
    return float(rows[column][0])


def _series(
    source: FigureSource, figure: str, group: str, facet: str | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = source.figure(figure).xy(group, facet)
    if len(x) == 0:
        raise InputError(f"figure {figure} has no group {group!r}" + (f" in {facet}" if facet else ""))
    return np.asarray(x, np.float64), np.asarray(y, np.float64)


def _stacked(source: FigureSource, figure: str, facet: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    import polars as pl

    rows = source.figure(figure).rows.filter(pl.col("facet") == facet)
    if len(rows) == 0:
        raise InputError(f"figure {figure} does not show {facet}")
    total = rows.group_by("x").agg(pl.col("y").sum()).sort("x")
    return total["x"].to_numpy().astype(np.float64), total["y"].to_numpy().astype(np.float64)


def _known(value: float, why_not: str) -> float:
    if np.isnan(value):
        raise InputError(why_not)
    return value
