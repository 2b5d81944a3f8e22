"""The request tables of Huawei 2025: one row a request, as the worker and, where it is known, the frontend saw it.

`time_worker` and `time_frontend` are taken for the ends: in the example of the release the frontend's time is the later
one, and less the totals, the frontend begins before the worker, as it must (option `log_time=start` says otherwise). A
request arrives when the frontend begins, runs from when the worker begins, and ends when the frontend ends; without a
frontend (NaN) the worker alone counts. The two clocks differ, so a worker that begins before the frontend is moved.
"""

from __future__ import annotations

import polars as pl

from nonet.coldstart.importing.base import Intake
from nonet.coldstart.importing.duplicates import Duplicates
from nonet.coldstart.importing.sources import SourceFile
from nonet.coldstart.importing.tabular import LINE, number, read_frames, screen, text, whole_us
from nonet.coldstart.trace.schema import DAY_US
from nonet.common.errors import InputError

_COLUMNS = (
    "time_worker",
    "time_frontend",
    "requestID",
    "funcName",
    "podID",
    "userID",
    "totalCost_worker",
    "totalCost_frontend",
    "cpu_usage",
    "memory_usage",
)
_RULES = (
    ("no time", pl.col("_worker_us").is_null()),
    ("no function", pl.col("function").is_null()),
    ("no execution time", pl.col("_run_us").is_null()),
    ("negative duration", (pl.col("_run_us") < 0) | (pl.col("_total_us") < 0)),
    ("the same row a second time", pl.col("_repeated")),
)


def read_requests(intake: Intake, file: SourceFile, region: str, *, knows_cold: bool) -> None:
    """Read one file of `per_request`.

    Args:
        intake: takes the rows.
        file: the file.
        region: its region.
        knows_cold: the cold starts of the region were given, so that a request without one is warm, not unknown.

    Raises:
        InputError: a bad option, or columns are missing.
    """
    from nonet.coldstart.importing.huawei2025 import function_key, give_functions

    log_time = intake.options.get("log_time", "end")
    if log_time not in ("end", "start"):
        raise InputError(f"log_time is `end` or `start`, got {log_time!r}")
    reject = intake.refuse(file)
    duplicates = Duplicates()
    cold_ids: pl.Series | None = None
    for frame in read_frames(file, reject, columns=_COLUMNS):
        repeated = duplicates.mark(frame, list(_COLUMNS))
        rows = frame.hstack([repeated]).select(
            LINE,
            "_repeated",
            function_key(),
            text("userID").alias("user"),
            text("podID").alias("pod"),
            text("requestID").alias("request"),
            whole_us("time_worker", 1e6).alias("_worker_us"),
            whole_us("time_frontend", 1e6).alias("_frontend_us"),
            whole_us("totalCost_worker", 1e6).alias("_run_us"),
            whole_us("totalCost_frontend", 1e6).alias("_total_us"),
            number("cpu_usage").cast(pl.Float32).alias("cpu_cores"),
            number("memory_usage").cast(pl.Float32).alias("memory_mb"),
        )
        rows = _timed(screen(rows, _RULES, reject), ends=log_time == "end")
        intake.warn("request without a frontend", int(rows["_frontend_us"].null_count()))
        intake.warn("worker begins before the frontend (clock skew), moved", int(rows["_skewed"].sum()))
        if knows_cold and rows.height:
            if cold_ids is None:
                cold_ids = _cold_ids(intake, region, int(rows["arrive_us"].min() or 0))  # type: ignore[arg-type]
            rows = rows.with_columns(cold=pl.col("request").is_in(cold_ids.implode()))
        intake.append("request", rows, region)
        give_functions(intake, rows, region)


def _timed(rows: pl.DataFrame, *, ends: bool) -> pl.DataFrame:
    """The rows with arrive, start and end."""
    back = 1 if ends else 0
    worker_start = pl.col("_worker_us") - back * pl.col("_run_us")
    total = pl.coalesce("_total_us", "_run_us")
    frontend_start = pl.col("_frontend_us") - back * total
    arrive = pl.coalesce(frontend_start, worker_start)
    worker_end = worker_start + pl.col("_run_us")
    return rows.with_columns(
        arrive_us=arrive,
        start_us=pl.max_horizontal(arrive, worker_start),
        end_us=pl.max_horizontal(pl.coalesce(frontend_start + total, worker_end), worker_end, arrive),
        _skewed=(worker_start < arrive).fill_null(value=False),
    )


def _cold_ids(intake: Intake, region: str, first_us: int) -> pl.Series:
    """Ids of the requests that triggered the cold starts since the day before."""
    since_us = (first_us // DAY_US - 1) * DAY_US
    starts = intake.given("coldstart", region).filter(pl.col("at_us") >= since_us)
    return starts.select(pl.col("request").drop_nulls().unique()).collect()["request"]
