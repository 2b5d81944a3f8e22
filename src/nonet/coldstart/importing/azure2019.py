"""Azure Functions 2019 (ATC 2020): calls per function and minute, with durations and memory.

Read are `invocations_per_function_md.anon.dNN.csv` (NN = 1 is day 0), `function_durations_percentiles.anon.dNN.csv`
(ms, without cold starts) and `app_memory_percentiles.anon.dNN.csv`. The calls of a minute are spread evenly in it (see
`spreading`), durations follow the percentiles of the function on that day. Without percentiles, the end is null. The
trace does not say what was cold. A function is `HashApp/HashFunction`; memory is the application's.

14 days are about 12.5 billion calls: name one day's files, or keep a share of the applications.
"""

from __future__ import annotations

import re

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nonet.coldstart.importing.base import Intake, Reject
from nonet.coldstart.importing.sources import SourceFile
from nonet.coldstart.importing.spreading import durations_us, phase_of, spread
from nonet.coldstart.importing.tabular import LINE, number, read_frames, screen, text
from nonet.common.errors import InputError

_NAME = re.compile(r"(invocations_per_function|function_durations|app_memory)[^/]*?\.d(\d+)\.")
_MINUTES = [str(minute) for minute in range(1, 1441)]
_MINUTE_US, _DAY_US = 60_000_000, 86_400_000_000
_LEVELS = np.array([0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0])
_PERCENTILES = [f"percentile_Average_{level}" for level in (0, 1, 25, 50, 75, 99, 100)]
_CHUNK_REQUESTS = 500_000

_Durations = tuple[dict[str, int], NDArray[np.float64]]


def run(intake: Intake) -> None:
    """Memory of all days, then each day of calls with its durations; days stand alone."""
    share = _share(intake)
    kinds: dict[str, dict[int, SourceFile]] = {}
    for file in intake.files:
        match = _NAME.search(file.inner.rsplit("/", 1)[-1])
        if match is None:
            raise InputError(f"{file.name}: not named like a file of Azure Functions 2019, e.g. ...anon.d01.csv")
        kinds.setdefault(match[1], {})[int(match[2]) - 1] = file
    memory_mb = _memory(intake, list(kinds.get("app_memory", {}).values()), share)
    for day, file in sorted(kinds.get("invocations_per_function", {}).items()):
        for _ in intake.each([file], resumable=True):
            beside = kinds.get("function_durations", {}).get(day)
            durations = _read_durations(intake, beside, share) if beside else ({}, np.empty((0, len(_LEVELS))))
            _read_day(intake, file, day, durations, memory_mb, share)


def _share(intake: Intake) -> float:
    value = intake.options.get("share", "1")
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise InputError(f"share is a number above 0 and up to 1, got {value!r}")
    return share


def _kept(frame: pl.DataFrame, share: float) -> pl.DataFrame:
    if share == 1:
        return frame
    return frame.filter([phase_of(app) < share for app in frame["HashApp"].fill_null("").to_list()])


def _function() -> pl.Expr:
    return (text("HashApp") + "/" + text("HashFunction")).alias("function")


def _memory(intake: Intake, files: list[SourceFile], share: float) -> dict[str, int]:
    """Mean allocated memory of each application over all days, weighted by samples."""
    sums: dict[str, tuple[float, float]] = {}
    rules = (("no memory", pl.col("_mb").is_null()), ("negative memory", pl.col("_mb") < 0))
    for file in intake.each(files):
        reject = intake.refuse(file)
        for frame in read_frames(file, reject, columns=("HashApp", "SampleCount", "AverageAllocatedMb")):
            rows = _kept(frame, share).select(
                LINE,
                text("HashApp"),
                number("AverageAllocatedMb").alias("_mb"),
                number("SampleCount").alias("_samples"),
            )
            rows = screen(rows, rules, reject)
            for app, mb, samples in rows.select("HashApp", "_mb", pl.col("_samples").fill_null(1.0)).iter_rows():
                total, weight = sums.get(app, (0.0, 0.0))
                sums[app] = total + mb * samples, weight + samples
    return {app: round(total / weight) for app, (total, weight) in sums.items() if weight > 0}


def _read_durations(intake: Intake, file: SourceFile, share: float) -> _Durations:
    """Rows by function, and their percentiles in microseconds, shape (functions, 7)."""
    reject = intake.refuse(file)
    rows: dict[str, int] = {}
    tables: list[NDArray[np.float64]] = []
    bad = pl.any_horizontal(number(name).is_null() | (number(name) < 0) for name in _PERCENTILES)
    if not intake.is_sound(file):
        return {}, np.empty((0, len(_LEVELS)))
    for frame in read_frames(file, reject, columns=("HashApp", "HashFunction", *_PERCENTILES)):
        good = screen(_kept(frame, share), (("a percentile is missing or negative", bad),), reject)
        names = good.select(_function())["function"].to_list()
        values = good.select(number(name) for name in _PERCENTILES).to_numpy() * 1000.0
        tables.append(np.maximum.accumulate(values, axis=1))
        rows.update({name: len(rows) + i for i, name in enumerate(names) if name not in rows})
    table = np.concatenate(tables) if tables else np.empty((0, len(_LEVELS)))
    return rows, table


def _read_day(
    intake: Intake, file: SourceFile, day: int, durations: _Durations, memory_mb: dict[str, int], share: float
) -> None:
    reject = intake.refuse(file)
    columns = ("HashOwner", "HashApp", "HashFunction", "Trigger", *_MINUTES)
    for frame in read_frames(file, reject, columns=columns):
        rows, counts = _counts(_kept(frame, share), reject)
        if rows.is_empty():
            continue
        intake.append(
            "function",
            rows.select(
                "function",
                text("HashOwner").alias("user"),
                text("Trigger").alias("trigger"),
                pl.col("HashApp").replace_strict(memory_mb, default=None, return_dtype=pl.Int32).alias("memory_mb"),
            ),
        )
        _give_calls(intake, rows["function"].to_list(), counts, day, durations)


def _counts(frame: pl.DataFrame, reject: Reject) -> tuple[pl.DataFrame, NDArray[np.int64]]:
    """The sound rows and their counts, shape (rows, 1440); an empty cell is no call."""
    cells = frame.select(pl.col(_MINUTES).str.strip_chars())
    values = cells.select(pl.all().cast(pl.Float64, strict=False)).to_numpy()
    unread = ~np.isfinite(values)
    if unread.any():
        blank = cells.select(pl.all().fill_null("") == "").to_numpy()
        values = np.where(blank, 0.0, values)
        unread &= ~blank
    bad = (unread | (values < 0) | (values % 1 != 0)).any(axis=1)
    rules = (
        ("no function", pl.col("function").is_null()),
        ("a count is negative or no whole number", pl.col("_bad")),
    )
    judged = frame.select(
        LINE, "HashOwner", "HashApp", "HashFunction", "Trigger", _function(), pl.lit(pl.Series("_bad", bad))
    ).with_row_index("_row")
    good = screen(judged, rules, reject)
    return good, values[good["_row"].to_numpy()].astype(np.int64)


def _give_calls(intake: Intake, names: list[str], counts: NDArray[np.int64], day: int, durations: _Durations) -> None:
    rows_of, table_us = durations
    row, minute = np.nonzero(counts)
    cell = counts[row, minute]
    # How many calls of the same function come before each cell, for the sequence of durations.
    before = (np.cumsum(counts, axis=1) - counts)[row, minute]
    phases = np.array([phase_of(name) for name in names])
    table_row = np.array([rows_of.get(name, -1) for name in names])
    functions = pl.Series("function", names, pl.String)
    cuts = np.searchsorted(np.cumsum(cell), np.arange(_CHUNK_REQUESTS, int(cell.sum()), _CHUNK_REQUESTS))
    for start, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(cell)], strict=True):
        part = slice(start, end)
        start_us = day * _DAY_US + minute[part].astype(np.int64) * _MINUTE_US
        arrive_us, step = spread(cell[part], start_us, _MINUTE_US, phases[row[part]])
        own = row[part][step]
        first = np.cumsum(cell[part]) - cell[part]
        order = before[part][step] + np.arange(len(step)) - first[step]
        known = table_row[own] >= 0
        run_us = np.zeros(len(own), np.int64)
        if known.any():
            run_us[known] = durations_us(order[known], table_row[own][known], _LEVELS, table_us)
        frame = pl.DataFrame(
            {
                "arrive_us": arrive_us,
                "start_us": arrive_us,
                "end_us": arrive_us + run_us,
                "function": functions.gather(own.astype(np.uint32)),
                "_known": known,
            }
        )
        intake.append("request", frame.with_columns(pl.when("_known").then("end_us").alias("end_us")))
