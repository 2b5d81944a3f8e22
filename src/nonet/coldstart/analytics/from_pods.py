"""Figures 1, 7, 8, 9, 14 and 17: regions, running pods, shares, functions, and what a pod is good for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from nonet.coldstart.analytics import cold_queries, pod_queries, request_queries
from nonet.coldstart.analytics.context import DAY_US, Analysis, FigureSpec
from nonet.coldstart.analytics.grouping import folded, laws_by_attribute
from nonet.coldstart.analytics.queries import HOUR_US, GroupBy
from nonet.coldstart.analytics.result import FigureResult, law_result
from nonet.common.errors import InputError

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import polars as pl

HOLIDAY_WINDOW = (10, 25)
"""The days that Figure 7 shows."""


def _fig1(analysis: Analysis) -> FigureResult:
    import polars as pl

    t = analysis.tables
    rows = analysis.run(pod_queries.functions_per_region(t)).rename({"num": "x"})
    pods = pod_queries.pods_per_region(t) if analysis.has("pod.pod") else cold_queries.count_by(t.coldstart, ["region"])
    for name, query in (("y", request_queries.requests_per_region(t)), ("size", pods)):
        rows = rows.join(analysis.run(query).rename({"num": name}), on="region", how="left")
    table = rows.sort("region").select(
        pl.lit("").alias("facet"),
        pl.col("region").alias("group"),
        *(pl.col(c).cast(pl.Float64) for c in ("x", "y", "size")),
    )
    notes = () if analysis.has("pod.pod") else ("no pods: the area shows cold starts, each of which made a pod",)
    return FigureResult("1", "points", table, notes=notes)


def _lives(analysis: Analysis) -> ir.Table:
    if analysis.has("pod.create_us") or analysis.has("pod.ready_us"):
        return pod_queries.pod_lives(analysis.tables, analysis.trace.end_us)
    return pod_queries.pod_lives_from_requests(analysis.tables)


def _running(analysis: Analysis, by: GroupBy | None, width_us: int) -> pl.DataFrame:
    """Mean running pods: region, [by,] slot, pods, for every slot of the trace, also those without a change."""
    return analysis.once(
        f"running pods by {by} in {width_us}",
        lambda: _mean_running(
            analysis.run(pod_queries.running_changes(analysis.tables, _lives(analysis), by, width_us)),
            *("region",) if by is None else ("region", by),
            window=(analysis.trace.start_us // width_us, max(analysis.trace.end_us - 1, 0) // width_us),
            width_us=width_us,
        ),
    )


def _mean_running(changes: pl.DataFrame, *keys: str, window: tuple[int, int], width_us: int) -> pl.DataFrame:
    import polars as pl

    first, last = window
    parts = []
    for key, rows in changes.sort("slot").group_by(*keys, maintain_order=True):
        slots, deltas, areas = (rows[name].to_numpy() for name in ("slot", "delta", "area_us"))
        start = min(first, int(slots[0]))
        num = max(last, int(slots[-1])) - start + 1
        change, area = np.zeros(num), np.zeros(num)
        change[slots - start], area[slots - start] = deltas, areas
        before = np.cumsum(change) - change
        pods = (before + area / width_us)[first - start : last - start + 1]
        frame = pl.DataFrame({"slot": np.arange(first, last + 1), "pods": pods})
        parts.append(
            frame.select(*(pl.lit(value).alias(name) for name, value in zip(keys, key, strict=True)), pl.all())
        )
    if not parts:
        raise InputError("the trace has no pod whose beginning is known")
    return pl.concat(parts).sort(*keys, "slot")


def _fig7(analysis: Analysis) -> FigureResult:
    import polars as pl

    first, last = analysis.options.window_days or _default_window(analysis)
    pods = _running(analysis, None, DAY_US).select("region", pl.col("slot").alias("day"), y="pods")
    parts = [pods.select(pl.lit("pods").alias("facet"), pl.all())]
    if analysis.has("request.cpu_cores"):
        cores = analysis.run(request_queries.daily_cpu(analysis.tables)).rename({"cores": "y"})
        parts.append(cores.select(pl.lit("mean_cpu").alias("facet"), "region", "day", "y"))
    shown = pl.concat(parts, how="vertical_relaxed").filter(pl.col("day").is_between(first, last))
    table = shown.select(
        "facet",
        pl.col("region").alias("group"),
        pl.col("day").alias("x"),
        pl.col("y") / pl.col("y").max().over("facet", "region"),
    ).sort("facet", "group", "x")
    days = f"{analysis.day_text(first)} to {analysis.day_text(last)}"
    if not len(table):
        raise InputError(f"figure 7: nothing in days {days}")
    return FigureResult("7", "series", table, notes=(f"divided by the maximum over days {days}",))


def _default_window(analysis: Analysis) -> tuple[int, int]:
    first, last = HOLIDAY_WINDOW
    covers = analysis.first_day <= first and analysis.last_day >= last
    return HOLIDAY_WINDOW if covers else (analysis.first_day, analysis.last_day)


def _pods_by(name: str, by: GroupBy) -> Callable[[Analysis], FigureResult]:
    def make(analysis: Analysis) -> FigureResult:
        import polars as pl

        pods = folded(_running(analysis, by, HOUR_US), by, "pods", analysis.options.max_groups)
        table = (
            pods.group_by("region", by, "slot")
            .agg(pl.col("pods").sum())
            .sort("region", by, "slot")
            .select(facet="region", group=by, x="slot", y="pods")
        )
        return FigureResult(name, "series", table)

    return make


def _shares_by(name: str, by: GroupBy) -> Callable[[Analysis], FigureResult]:
    def make(analysis: Analysis) -> FigureResult:
        import polars as pl

        t = analysis.tables
        counted = {"functions": analysis.run(pod_queries.functions_by(t, by))}
        if analysis.has("coldstart.at_us"):
            counted["cold_starts"] = analysis.run(cold_queries.cold_by(t, by))
        if _has_lives(analysis):
            counted["pods"] = _running(analysis, by, HOUR_US).rename({"pods": "num"})
        parts = [
            rows.group_by("region", by).agg(pl.col("num").sum().cast(pl.Float64)).with_columns(series=pl.lit(series))
            for series, rows in counted.items()
        ]
        kept = folded(
            pl.concat(parts).with_columns(share=_share(["region", "series"])), by, "share", analysis.options.max_groups
        )
        table = kept.group_by("region", by, "series").agg(pl.col("share").sum())
        rows = table.sort("region", by, "series").select(facet="region", group=by, series="series", y="share")
        return FigureResult(name, "bars", rows, notes=("pods: mean running over the trace",))

    return make


def _share(over: list[str]) -> pl.Expr:
    import polars as pl

    return pl.col("num") / pl.col("num").sum().over(over)


def _has_lives(analysis: Analysis) -> bool:
    return any(analysis.has(column) for column in ("pod.create_us", "pod.ready_us", "request.pod"))


def _fig9(analysis: Analysis) -> FigureResult:
    import polars as pl

    counts = analysis.run(pod_queries.functions_by_runtime_and_trigger(analysis.tables)).cast({"num": pl.Float64})
    kept = folded(counts, "runtime", "num", analysis.options.max_groups)
    kept = folded(kept, "trigger", "num", analysis.options.max_groups)
    kept = kept.group_by("region", "runtime", "trigger").agg(pl.col("num").sum())
    rows = (
        kept.with_columns(y=_share(["region", "runtime"]))
        .sort("region", "runtime", "trigger")
        .select(facet="region", group="runtime", series="trigger", y="y")
    )
    return FigureResult("9", "bars", rows)


def _fig14(analysis: Analysis) -> FigureResult:
    import polars as pl

    found = analysis.run(pod_queries.function_points(analysis.tables))
    rows = found.select(
        facet="region", group="trigger", x=pl.col("requests").cast(pl.Float64), y=pl.col("cold_starts").cast(pl.Float64)
    )
    return FigureResult("14", "points", rows.sort("facet", "group", "x", "y"))


def _utility_by(name: str, by: GroupBy) -> Callable[[Analysis], FigureResult]:
    def make(analysis: Analysis) -> FigureResult:
        from_requests = analysis.has("request.pod") and analysis.has("request.end_us")
        query = pod_queries.utility_histogram(analysis.tables, by, from_requests=from_requests)
        curves = laws_by_attribute(analysis.run(query), by, 1.0, analysis.options.max_groups)
        source = "the end of its last request" if from_requests else "the end of the pod minus 60 s of keep-alive"
        return law_result(name, curves, notes=(f"useful life: from ready to {source}",))

    return make


def _pod_needs(*more: str) -> tuple[tuple[str, ...], ...]:
    return (("pod.create_us", *more), ("pod.ready_us", *more), ("request.pod", *more))


def _specs_by(by: GroupBy, hours: str, shares: str) -> tuple[FigureSpec, FigureSpec]:
    column = "function.cpu_millicores" if by == "size_class" else f"function.{by}"
    label = by.replace("_", " ")
    return (
        FigureSpec(
            name=hours,
            title=f"Running pods by {label}",
            kind="series",
            x="hour",
            y="mean pods",
            needs=_pod_needs(column),
            make=_pods_by(hours, by),
        ),
        FigureSpec(
            name=shares,
            title=f"Shares of pods, cold starts and functions by {label}",
            kind="bars",
            x="share",
            y="",
            needs=((column,),),
            make=_shares_by(shares, by),
        ),
    )


def _utility_spec(name: str, by: GroupBy) -> FigureSpec:
    sources = (("request.pod", "request.end_us"), ("pod.end_us",))
    return FigureSpec(
        name=name,
        title=f"Useful life of a pod over its cold-start time, by {by}",
        kind="law",
        x="utility ratio",
        y="share of pods",
        needs=tuple(("coldstart.pod", "coldstart.total_us", f"function.{by}", *source) for source in sources),
        make=_utility_by(name, by),
        log="x",
    )


SPECS = (
    FigureSpec(
        name="1",
        title="Regions: functions, requests, pods",
        kind="points",
        x="functions",
        y="requests",
        needs=(("request.arrive_us",),),
        make=_fig1,
        log="xy",
    ),
    FigureSpec(
        name="7",
        title="Pods and CPU use around a holiday",
        kind="series",
        x="day",
        y="share of the maximum",
        needs=_pod_needs(),
        make=_fig7,
    ),
    *_specs_by("trigger", "8a", "8d"),
    *_specs_by("runtime", "8b", "8e"),
    *_specs_by("size_class", "8c", "8f"),
    FigureSpec(
        name="9",
        title="Functions of a runtime by trigger",
        kind="bars",
        x="share of functions",
        y="runtime",
        needs=(("function.runtime", "function.trigger"),),
        make=_fig9,
    ),
    FigureSpec(
        name="14",
        title="Requests and cold starts of each function",
        kind="points",
        x="requests",
        y="cold starts",
        needs=(("request.arrive_us", "coldstart.at_us"),),
        make=_fig14,
        log="xy",
    ),
    _utility_spec("17a", "runtime"),
    _utility_spec("17b", "trigger"),
)
