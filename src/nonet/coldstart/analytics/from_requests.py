"""Figures 3 to 6: load, execution time, CPU use, users, and peaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nonet.coldstart.analytics import cold_queries, peaks, request_queries
from nonet.coldstart.analytics.context import Analysis, FigureSpec
from nonet.coldstart.analytics.grouping import laws_by_region
from nonet.coldstart.analytics.queries import MINUTE_US
from nonet.coldstart.analytics.result import FigureResult, law_result
from nonet.common.errors import InputError

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import polars as pl

    from nonet.coldstart.analytics.engine import Tables

LOAD_DAYS = 3
_MINUTES_PER_DAY = 1440
_SMOOTH_MINUTES = 61


def _law_maker(
    name: str, query: Callable[[Tables], ir.Table], scale: float = 1.0, *notes: str
) -> Callable[[Analysis], FigureResult]:
    def make(analysis: Analysis) -> FigureResult:
        return law_result(name, laws_by_region(analysis.run(query(analysis.tables)), scale), notes=notes)

    return make


def _load(analysis: Analysis) -> FigureResult:
    """Figure 5: requests per minute of three days, each region from its least (0) to its largest (1) minute."""
    import polars as pl

    minutes = analysis.run(request_queries.requests_per_minute(analysis.tables))
    first = analysis.first_day if analysis.options.load_day is None else analysis.options.load_day
    days = f"days {analysis.day_text(first)} to {analysis.day_text(first + LOAD_DAYS - 1)}"
    num_minutes = LOAD_DAYS * _MINUTES_PER_DAY
    begin = max(analysis.trace.start_us // MINUTE_US - first * _MINUTES_PER_DAY, 0)
    rows, marked = [], {}
    for (region,), found in minutes.sort("region", "minute").group_by("region", maintain_order=True):
        counts = np.zeros(num_minutes)
        place = found["minute"].to_numpy() - first * _MINUTES_PER_DAY
        inside = (place >= 0) & (place < num_minutes)
        counts[place[inside]] = found["num"].to_numpy()[inside]
        if counts.min() == counts.max():
            continue
        index = np.arange(begin, int(np.flatnonzero(counts).max()) + 1)  # where the trace is
        load = (counts[index] - counts[index].min()) / max(counts[index].max() - counts[index].min(), 1.0)
        smooth = peaks.smoothed(load, _SMOOTH_MINUTES)
        rows.append(pl.DataFrame({"group": [str(region)] * len(index), "x": index, "y": load, "smooth": smooth}))
        marked[str(region)] = peaks.daily_peaks(index, smooth)
    if not rows:
        raise InputError(f"figure 5: no requests in {days}")
    table = pl.concat(rows).select(pl.lit("").alias("facet"), pl.all())
    note = f"{days}; smooth: moving mean of {_SMOOTH_MINUTES} minutes"
    extra = {"daily_peaks": marked, "first_x": first * _MINUTES_PER_DAY}
    return FigureResult("5", "series", table, notes=(note,), extra=extra)


def _peak_ratios(analysis: Analysis) -> pl.DataFrame:
    """Region, function, median (requests a day), ratio, of functions with more than 100 requests a day."""
    import polars as pl

    def make() -> pl.DataFrame:
        t = analysis.tables
        weights = _slot_weights(analysis.trace.start_us, analysis.trace.end_us)
        busy = analysis.run(request_queries.busy_functions(t)).sort("region", "function")
        slots = analysis.run(request_queries.daily_profile(t, peaks.SLOT_US))
        numbered = busy.with_row_index("index")
        placed = slots.join(numbered.select("region", "function", "index"), on=["region", "function"])
        profiles = np.zeros((len(busy), peaks.SLOTS_PER_DAY))
        profiles[placed["index"].to_numpy(), placed["slot"].to_numpy()] = placed["num"].to_numpy()
        return busy.with_columns(
            pl.Series("ratio", [peaks.peak_to_trough(profile) for profile in profiles * weights], pl.Float64)
        )

    found: pl.DataFrame = analysis.once("peak ratios", make)
    return found


def _slot_weights(start_us: int, end_us: int) -> NDArray[np.float64]:
    """What calls by time of day are multiplied with, since a trace covers some slots once more than others; mean 1.

    Raises:
        InputError: the trace does not cover every time of the day.
    """
    first, last = start_us // peaks.SLOT_US, max(end_us - 1, start_us) // peaks.SLOT_US
    covered = np.bincount(np.arange(first, last + 1) % peaks.SLOTS_PER_DAY, minlength=peaks.SLOTS_PER_DAY)
    if covered.min() == 0:
        hours = (end_us - start_us) / 3.6e9
        raise InputError(f"figure 6: a daily pattern needs a trace of a whole day, this one has {hours:.1f} hours")
    weights: NDArray[np.float64] = covered.mean() / covered
    return weights


_PEAK_NOTE = (
    "profile of one day in 10-minute slots, smoothed over an hour; a peak exceeds the trough by 5 sigma, else 1"
)


def _fig6a(analysis: Analysis) -> FigureResult:
    import polars as pl

    ratios = _peak_ratios(analysis)
    rows = ratios.select(pl.lit("").alias("facet"), pl.col("region").alias("group"), x="median", y="ratio")
    return FigureResult("6a", "points", rows, notes=(_PEAK_NOTE, "only functions with more than 100 requests a day"))


def _fig6b(analysis: Analysis) -> FigureResult:
    import polars as pl

    colds = analysis.run(cold_queries.cold_per_function(analysis.tables))
    both = _peak_ratios(analysis).join(colds, on=["region", "function"])
    rows = both.select(
        pl.lit("").alias("facet"), pl.col("region").alias("group"), pl.col("num").cast(pl.Float64).alias("x"), y="ratio"
    )
    return FigureResult("6b", "points", rows, notes=(_PEAK_NOTE, "peak-to-trough of the requests, as in 6a"))


_ARRIVALS = (("request.arrive_us",),)
_ERROR = "quantiles within 1.2 % (200 bins a decade)"


def _law_spec(
    name: str,
    title: str,
    axes: tuple[str, str],
    needs: tuple[str, ...],
    query: Callable[[Tables], ir.Table],
    scale: float,
) -> FigureSpec:
    make = _law_maker(name, query, scale, _ERROR)
    return FigureSpec(name, title, "law", *axes, needs=(needs,), make=make, log="x")


SPECS = (
    _law_spec(
        "3a",
        "Requests of a function on its median day (of the days on which it was called)",
        ("requests per day", "share of functions"),
        ("request.arrive_us",),
        request_queries.median_day_histogram,
        1.0,
    ),
    _law_spec(
        "3b",
        "Mean execution time of a function within a minute",
        ("seconds", "share of function-minutes"),
        ("request.start_us", "request.end_us"),
        request_queries.execution_histogram,
        1e6,
    ),
    _law_spec(
        "3c",
        "Mean CPU use of a function within a minute",
        ("cores", "share of function-minutes"),
        ("request.cpu_cores",),
        request_queries.cpu_histogram,
        1.0,
    ),
    _law_spec(
        "4a",
        "Functions per user",
        ("functions", "share of users"),
        ("function.user",),
        request_queries.functions_per_user,
        1.0,
    ),
    _law_spec(
        "4b",
        "Requests per user",
        ("requests in the trace", "share of users"),
        ("function.user", "request.arrive_us"),
        request_queries.requests_per_user,
        1.0,
    ),
    FigureSpec(
        name="5",
        title="Requests per minute over three days",
        kind="series",
        x="minute",
        y="load, 0 to 1",
        needs=_ARRIVALS,
        make=_load,
    ),
    FigureSpec(
        name="6a",
        title="Peak-to-trough ratio by load",
        kind="points",
        x="requests on the median day",
        y="peak-to-trough ratio",
        needs=_ARRIVALS,
        make=_fig6a,
        log="xy",
    ),
    FigureSpec(
        name="6b",
        title="Peak-to-trough ratio by cold starts",
        kind="points",
        x="cold starts in the trace",
        y="peak-to-trough ratio",
        needs=(("request.arrive_us", "coldstart.at_us"),),
        make=_fig6b,
        log="xy",
    ),
)
