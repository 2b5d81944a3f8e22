"""Huawei Public Cloud 2025 (sir-lab/data-release, EuroSys 2025): all four kinds of tables.

What a file holds is told by its header, its region by `R1` ... `R5` in its path, so folders may be moved and zips need
no unpacking. Times are seconds since the start of day 0, costs seconds. A function is `funcName---userID---poolName`,
its pool the one of the pod. Cold starts and their pods come from `cold_start`; requests (day 30 only) from
`per_request`, cold where a cold start names their id; runtimes and triggers from `runtime_triggerType`; the wide series
of `quantiles` go to the table `series`. Deletions of pods were not released: `end_us` of pods is null.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl

from nonet.coldstart.importing.base import Intake
from nonet.coldstart.importing.duplicates import Duplicates
from nonet.coldstart.importing.huawei_requests import read_requests
from nonet.coldstart.importing.sources import SourceFile
from nonet.coldstart.importing.tabular import LINE, is_given, number, read_frames, screen, text, whole_us
from nonet.coldstart.importing.wide_series import read_wide
from nonet.common.errors import InputError

_REGION = re.compile(r"(?:^|[/_.:-])R([1-9])(?=[/_.:-]|$)")
_COLD_COLUMNS = (
    "day",
    "time",
    "funcName",
    "userID",
    "requestID",
    "totalCost_cold_start",
    "podAllocationCost",
    "deployCodeCost",
    "deployDependencyCost",
    "schedulingCost",
    "podID",
)
_PARTS = {
    "allocation_us": "podAllocationCost",
    "code_us": "deployCodeCost",
    "dependency_us": "deployDependencyCost",
    "scheduling_us": "schedulingCost",
}
_DAY_S = 86_400
_MINUTE_US = 60_000_000
_ROUNDING_US = 1_000
_POOL = r"^(.*)-[^-]*$"
_SIZES = r"^.*-(\d+)-(\d+)$"


def run(intake: Intake) -> None:
    """Cold starts first, since requests are cold by them; then requests, functions, series. Each file stands alone."""
    files: dict[str, list[SourceFile]] = {"cold": [], "request": [], "function": [], "series": []}
    for file in intake.files:
        names = intake.header(file)
        if names:
            files[_kind(file, names)].append(file)
            intake.add_region(region_of(file, intake, "R2" if file in files["function"] else ""))
    for file in intake.each(files["function"], resumable=True):
        _read_functions(intake, file, region_of(file, intake, "R2"))  # the release has this table for Region 2 only
    for file in intake.each(files["cold"], resumable=True):
        _read_cold(intake, file, region_of(file, intake))
    with_cold = {region_of(file, intake) for file in files["cold"]}
    for file in intake.each(files["request"], resumable=True):
        region = region_of(file, intake)
        read_requests(intake, file, region, knows_cold=region in with_cold)
    for file in intake.each(files["series"], resumable=True):
        metric, statistic = metric_of(file)
        rows = read_wide(intake, file, region_of(file, intake), metric=metric, statistic=statistic, step_us=_MINUTE_US)
        for _ in rows:
            pass


def _kind(file: SourceFile, names: list[str]) -> str:
    if "podAllocationCost" in names:
        return "cold"
    if "time_worker" in names:
        return "request"
    if "triggerType-invocationType" in names:
        return "function"
    if "time" in names and any("---" in name for name in names):
        return "series"
    raise InputError(
        f"{file.name}: none of the tables of Huawei 2025 (cold_start, per_request, runtime_triggerType, quantiles); "
        f"its header is {', '.join(names[:8])}"
    )


def region_of(file: SourceFile, intake: Intake, otherwise: str = "") -> str:
    """The region in a file's path, the innermost; else `otherwise`, else the one that the user named."""
    found = _REGION.findall(file.inner)
    return f"R{found[-1]}" if found else (otherwise or intake.region)


def metric_of(file: SourceFile) -> tuple[str, str]:
    """Metric and statistic in the name of the folder, e.g. ("totalCost", "quantile_050")."""
    folder = file.inner.rsplit("/", 2)[-2]
    match = re.fullmatch(r"(.+?)(?:_(avg|std|quantile_\d+))?", folder)
    return (match[1], match[2] or "") if match else (folder, "")


def function_key() -> pl.Expr:
    """`funcName---userID---poolName`; without the pool where the pod is unknown."""
    pool = text("podID").str.extract(_POOL)
    base = text("funcName") + "---" + text("userID")
    return pl.when(pool.is_null()).then(base).otherwise(base + "---" + pool).alias("function")


def sizes(pool: pl.Expr) -> list[pl.Expr]:
    """CPU (thousandths of a core) and memory (MB) in the name of a pool or function."""
    return [
        pool.str.extract(_SIZES, group).cast(pl.Int32, strict=False).alias(name)
        for group, name in ((1, "cpu_millicores"), (2, "memory_mb"))
    ]


def _read_cold(intake: Intake, file: SourceFile, region: str) -> None:
    reject = intake.refuse(file)
    duplicates = Duplicates()
    for frame in read_frames(file, reject, columns=_COLD_COLUMNS):
        repeated = duplicates.mark(frame, list(_COLD_COLUMNS))
        at_us = _cold_time()
        rows = frame.hstack([repeated]).select(
            LINE,
            "_repeated",
            at_us.alias("at_us"),
            function_key(),
            text("userID").alias("user"),
            text("podID").alias("pod"),
            text("requestID").alias("request"),
            whole_us("totalCost_cold_start", 1e6).alias("total_us"),
            *(whole_us(source, 1e6).alias(part) for part, source in _PARTS.items()),
            pl.any_horizontal(*(is_given(s) & number(s).is_null() for s in _PARTS.values())).alias("_no_number"),
            (number("day") != (at_us / 1e6 / _DAY_S).floor()).fill_null(value=False).alias("_other_day"),
        )
        rows = screen(rows, _COLD_RULES, reject)
        intake.warn("time of another day than the column day says", int(rows["_other_day"].sum()))
        parts = pl.sum_horizontal(pl.col(part) for part in _PARTS)
        apart = rows.filter(pl.all_horizontal(pl.col(part).is_not_null() for part in _PARTS))
        apart = apart.filter((pl.col("total_us") - parts).abs() > _ROUNDING_US)
        intake.warn("components that do not add up to the total (by more than 1 ms)", apart.height)
        _give_cold(intake, rows, region)


_COLD_RULES = (
    ("no time", pl.col("at_us").is_null()),
    ("no function", pl.col("function").is_null()),
    ("no total", pl.col("total_us").is_null()),
    ("a component is no number", pl.col("_no_number")),
    ("negative duration", pl.min_horizontal("total_us", *_PARTS) < 0),
    ("the same row a second time", pl.col("_repeated")),
)


def _cold_time() -> pl.Expr:
    """Microseconds since the start; a time below one day on a later day is one within that day."""
    since_start = whole_us("time", 1e6)
    day_us = number("day").cast(pl.Int64, strict=False) * (_DAY_S * 1_000_000)
    within_day = (day_us > 0) & (since_start < _DAY_S * 1_000_000)
    return pl.when(within_day.fill_null(value=False)).then(day_us + since_start).otherwise(since_start)


def _give_cold(intake: Intake, rows: pl.DataFrame, region: str) -> None:
    intake.append("coldstart", rows, region)
    pods = rows.filter(pl.col("pod").is_not_null()).select(
        "pod",
        "function",
        pl.col("at_us").alias("create_us"),
        (pl.col("at_us") + pl.col("total_us")).alias("ready_us"),
        *sizes(pl.col("function")),
    )
    intake.append("pod", pods, region)
    give_functions(intake, rows, region)


def give_functions(intake: Intake, rows: pl.DataFrame, region: str) -> None:
    """Hand over the functions (with their users) of some rows."""
    names = rows.group_by("function", maintain_order=True).agg(pl.col("user").first())
    intake.append("function", names.with_columns(sizes(pl.col("function"))), region)


def _read_functions(intake: Intake, file: SourceFile, region: str) -> None:
    reject = intake.refuse(file)
    kinds: Sequence[str] = ("runtime", "triggerType-invocationType")
    for frame in read_frames(file, reject, columns=("funcID", *kinds)):
        rows = frame.select(
            LINE,
            text("funcID").alias("function"),
            text("funcID").str.split("---").list.get(1, null_on_oob=True).alias("user"),
            text("runtime").alias("runtime"),
            # A function with several triggers has a list as text: ['APIG-S', 'TIMER-A'].
            text("triggerType-invocationType").str.replace_all(r"[\[\]'\"]", "").str.strip_chars().alias("trigger"),
        ).with_columns(sizes(pl.col("function")))
        intake.append("function", screen(rows, (("no function", pl.col("function").is_null()),), reject), region)
