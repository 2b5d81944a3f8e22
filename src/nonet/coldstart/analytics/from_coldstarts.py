"""Figures 10 to 13, 15 and 16: cold-start times, the times between them, components, correlations, pool sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from nonet.coldstart.analytics import cold_queries
from nonet.coldstart.analytics.cold_queries import PARTS
from nonet.coldstart.analytics.context import Analysis, FigureSpec
from nonet.coldstart.analytics.curve import Curve
from nonet.coldstart.analytics.distances import ks
from nonet.coldstart.analytics.grouping import laws_by_attribute, laws_by_region, pooled_law
from nonet.coldstart.analytics.queries import GroupBy
from nonet.coldstart.analytics.result import FigureResult, law_result
from nonet.coldstart.laws import LogNormal, Weibull
from nonet.common.errors import InputError

if TYPE_CHECKING:
    import polars as pl

_US = 1e6
_FIT_VALUES = 50_000
_LAW_POINTS = 300
_TAIL = 1e-4  # left out at either end of a drawn fit
QUANTITIES = (*PARTS, "count")
"""What Figure 12 correlates: per-minute means of the parts, and the number of cold starts."""


def _totals(analysis: Analysis) -> pl.DataFrame:
    found: pl.DataFrame = analysis.once(
        "cold totals", lambda: analysis.run(cold_queries.cold_histogram(analysis.tables, "total"))
    )
    return found


def _gaps(analysis: Analysis) -> pl.DataFrame:
    found: pl.DataFrame = analysis.once("cold gaps", lambda: analysis.run(cold_queries.gap_histogram(analysis.tables)))
    return found


def _fig10a(analysis: Analysis) -> FigureResult:
    return law_result("10a", laws_by_region(_totals(analysis), _US))


def _fig10c(analysis: Analysis) -> FigureResult:
    return law_result("10c", laws_by_region(_gaps(analysis), _US))


def _fig10b(analysis: Analysis) -> FigureResult:
    return _with_fit("10b", pooled_law(_totals(analysis), _US), LogNormal)


def _fig10d(analysis: Analysis) -> FigureResult:
    return _with_fit("10d", pooled_law(_gaps(analysis), _US), Weibull)


def _with_fit(name: str, law: Curve, kind: type[LogNormal] | type[Weibull]) -> FigureResult:
    """The pooled law beside its maximum-likelihood fit (on 50,000 of its quantiles)."""
    fitted = kind.fit(law.sample(_FIT_VALUES))
    ends = fitted.quantile([_TAIL, 1 - _TAIL])
    x = np.geomspace(min(law.x[0], ends[0]), max(law.x[-1], ends[1]), _LAW_POINTS)
    drawn = Curve(x, fitted.cdf(x))
    mean, sd = fitted.moments()
    parameters = {name: getattr(fitted, name) for name in fitted.__dataclass_fields__}
    extra = {"law": kind.__name__, **parameters, "mean_s": mean, "sd_s": sd, "ks": ks(law, drawn)[0]}
    return law_result(name, {("", "all"): law, ("", "fit"): drawn}, extra=extra)


def _fig11(analysis: Analysis) -> FigureResult:
    import polars as pl

    hours = analysis.run(cold_queries.hourly_parts(analysis.tables)).sort("region", "hour")
    columns = {"cold_starts": pl.col("num").cast(pl.Float64), **{part: pl.col(part) / _US for part in PARTS}}
    parts = [
        hours.select(facet="region", group=pl.lit(name), x="hour", y=values)
        for name, values in columns.items()
        if name == "cold_starts" or analysis.has(f"coldstart.{name}_us")
    ]
    return FigureResult("11", "series", pl.concat(parts))


def _fig12(analysis: Analysis) -> FigureResult:
    import polars as pl

    minutes = analysis.run(cold_queries.minute_parts(analysis.tables)).rename({"num": "count"})
    names = [name for name in QUANTITIES if name == "count" or analysis.has(f"coldstart.{name}_us")]
    rows: list[tuple[str, str, str, float, float]] = []
    for (region,), found in minutes.sort("region").group_by("region", maintain_order=True):
        rows += [(str(region), a, b, *_spearman(found, a, b)) for a in names for b in names]
    schema = {"facet": pl.String, "a": pl.String, "b": pl.String, "y": pl.Float64, "p": pl.Float64}
    table = pl.DataFrame(rows, schema, orient="row").with_columns(pl.col("y", "p").fill_nan(None))
    return FigureResult("12", "matrix", table, notes=("minutes without a cold start are left out", "a star: p < 0.05"))


def _spearman(minutes: pl.DataFrame, a: str, b: str) -> tuple[float, float]:
    from scipy import stats

    both = minutes.select(minutes[a].alias("a"), minutes[b].alias("b")).drop_nulls()
    if len(both) < 3 or both["a"].n_unique() < 2 or both["b"].n_unique() < 2:
        return float("nan"), float("nan")
    found = stats.spearmanr(both["a"].to_numpy(), both["b"].to_numpy())
    return float(found.statistic), float(found.pvalue)


def _fig13(analysis: Analysis) -> FigureResult:
    import polars as pl

    rows, curves = [], {}
    for part in PARTS:
        if not analysis.has(f"coldstart.{part}_us"):
            continue
        bins = analysis.run(cold_queries.cold_histogram_by(analysis.tables, part, "pool"))
        bins = bins.filter(pl.col("pool") != "unknown")
        for (region,), found in bins.sort("region").group_by("region", maintain_order=True):
            for (_, pool), curve in laws_by_attribute(found, "pool", _US, 2).items():
                if pool == "all":
                    continue
                curves[(f"{region} {part}", pool)] = curve
                rows.append(
                    (str(region), part, pool, *(float(q) for q in curve.quantile([0.25, 0.5, 0.75])), curve.num)
                )
    if not rows:
        raise InputError("figure 13: no cold start of a function whose size is known")
    schema: dict[str, Any] = {"facet": pl.String, "metric": pl.String, "pool": pl.String}
    schema |= {"p25": pl.Float64, "median": pl.Float64, "p75": pl.Float64, "num": pl.Int64}
    table = _with_ratios(pl.DataFrame(rows, schema, orient="row"))
    return FigureResult("13", "spread", table, curves, notes=("a dependency time of 0 is left out", "seconds"))


def _with_ratios(table: pl.DataFrame) -> pl.DataFrame:
    """The table with a row "large:small" of each metric, the ratio of the medians."""
    import polars as pl

    wide = table.filter(pl.col("pool") == "large").join(
        table.filter(pl.col("pool") == "small"), on=["facet", "metric"], suffix="_small"
    )
    none = pl.lit(None, pl.Float64)
    ratios = wide.select(
        "facet",
        "metric",
        pl.lit("large:small").alias("pool"),
        none.alias("p25"),
        pl.col("median") / pl.col("median_small"),
        none.alias("p75"),
        pl.col("num") + pl.col("num_small"),
    )
    return pl.concat([table, ratios])


def _by_attribute(name: str, part: str, by: GroupBy) -> Callable[[Analysis], FigureResult]:
    def make(analysis: Analysis) -> FigureResult:
        bins = analysis.run(cold_queries.cold_histogram_by(analysis.tables, part, by))
        curves = laws_by_attribute(bins, by, _US, analysis.options.max_groups)
        notes = ("a time of 0 (no layers) is left out",) if part == "dependency" else ()
        return law_result(name, curves, notes=notes)

    return make


_PART_TITLES = {
    "total": "Cold-start time",
    "allocation": "Pod allocation",
    "code": "Code deployment",
    "dependency": "Dependency deployment",
    "scheduling": "Scheduling",
}


def _law_spec(name: str, title: str, needs: tuple[str, ...], make: Callable[[Analysis], FigureResult]) -> FigureSpec:
    return FigureSpec(name, title, "law", "seconds", "share of cold starts", needs=(needs,), make=make, log="x")


def _spec_by(name: str, part: str, by: GroupBy) -> FigureSpec:
    needs = (f"coldstart.{part}_us", f"function.{by}")
    return _law_spec(name, f"{_PART_TITLES[part]} by {by}", needs, _by_attribute(name, part, by))


_PARTS_BY_LETTER = dict(zip("abcde", ("total", "allocation", "code", "dependency", "scheduling"), strict=True))
_TOTAL = ("coldstart.total_us",)

SPECS = (
    _law_spec("10a", "Cold-start time by region", _TOTAL, _fig10a),
    _law_spec("10b", "Cold-start time, all regions, and a LogNormal fit", _TOTAL, _fig10b),
    _law_spec("10c", "Time between cold starts by region", _TOTAL, _fig10c),
    _law_spec("10d", "Time between cold starts, all regions, and a Weibull fit", _TOTAL, _fig10d),
    FigureSpec(
        name="11",
        title="Mean components and cold starts by hour",
        kind="series",
        x="hour",
        y="seconds; cold starts",
        needs=(_TOTAL,),
        make=_fig11,
    ),
    FigureSpec(
        name="12",
        title="Spearman correlation of per-minute means",
        kind="matrix",
        x="",
        y="",
        needs=(("coldstart.total_us", "coldstart.allocation_us"),),
        make=_fig12,
    ),
    FigureSpec(
        name="13",
        title="Components in small (up to 400 millicores and 256 MB) and large pools",
        kind="spread",
        x="seconds",
        y="",
        needs=(("coldstart.total_us", "function.cpu_millicores", "function.memory_mb"),),
        make=_fig13,
        log="x",
    ),
    *(_spec_by(f"15{letter}", part, "runtime") for letter, part in _PARTS_BY_LETTER.items()),
    *(_spec_by(f"16{letter}", part, "trigger") for letter, part in _PARTS_BY_LETTER.items()),
)
