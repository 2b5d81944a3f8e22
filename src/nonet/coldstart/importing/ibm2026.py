"""IBM Cloud Code Engine 2026: requests with the pods that served them, and settings of applications (EuroSys 2026).

The release is pandas pickles, which are never read here. Convert each once, where you trust them, e.g. with
`pandas.read_pickle("week_1.pickle").to_parquet("week_1.parquet")`: lists stay lists. Read are

- traffic: NamespaceHash, AppHash, InvocationTimes (s), AppExecTimes (ms), TotalExecTimes (ms), PodHash; lists a row
  (Parquet), or one request a row (CSV or Parquet);
- settings: NamespaceHash, AppHash and AppContainerRequestCpu, AppContainerRequestMemory (GB), AppContainerConcurrency,
  AppMinScale as lists over days or numbers, or the same as `cpu_vcpu_last, memory_gb_last, concurrency_last,
  min_scale_last`.

The release says which pod served a request but not when pods started: the first request of a new pod counts as cold.
A request waited for what the total has more than the execution.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from nonet.coldstart.importing.base import Intake
from nonet.coldstart.importing.pod_join import FirstCalls, judge_log
from nonet.coldstart.importing.sources import SourceFile
from nonet.coldstart.importing.tabular import LINE, number, read_frames, screen, text, whole_us
from nonet.common.errors import InputError

_LISTS = ("InvocationTimes", "AppExecTimes", "TotalExecTimes", "PodHash")
_SETTINGS = {
    "cpu_millicores": (("AppContainerRequestCpu", "cpu_vcpu_last"), 1000.0),
    "memory_mb": (("AppContainerRequestMemory", "memory_gb_last"), 1024.0),
    "concurrency": (("AppContainerConcurrency", "concurrency_last"), 1.0),
    "min_scale": (("AppMinScale", "min_scale_last"), 1.0),
}
_MAX_ROWS = 200_000
_RULES = (
    ("no time of arrival", pl.col("arrive_us").is_null()),
    ("no function", pl.col("function").is_null()),
    ("negative duration", (pl.col("_total_us") < 0) | (pl.col("_run_us") < 0)),
)


def run(intake: Intake) -> None:
    """Settings first; then the traffic, in which the first request of every pod is found."""
    names = {file: set(found) for file in intake.files if (found := intake.header(file))}
    for file in intake.each([file for file in names if "InvocationTimes" not in names[file]]):
        _read_settings(intake, file, names[file])
    traffic = [file for file in names if "InvocationTimes" in names[file]]
    frames = (frame for file in intake.each(traffic) for frame in _frames(intake, file))
    calls = FirstCalls(None, infer=intake.options.get("infer", "yes") != "no")
    for frame in judge_log(frames, calls, None, intake.spool):
        intake.append("request", frame)
        intake.append("function", frame.group_by("function", maintain_order=True).agg(pl.col("user").first()))
    intake.censor(calls.num_censored)


def _function() -> pl.Expr:
    return (text("NamespaceHash") + "/" + text("AppHash")).alias("function")


def _read_settings(intake: Intake, file: SourceFile, names: set[str]) -> None:
    found = {
        field: (next(name for name in candidates if name in names), factor)
        for field, (candidates, factor) in _SETTINGS.items()
        if names & set(candidates)
    }
    if not found:
        raise InputError(
            f"{file.name}: neither traffic (InvocationTimes) nor settings (cpu_vcpu_last, ...) of IBM 2026"
        )
    reject = intake.refuse(file)
    for frame in read_frames(file, reject):
        lists = [name for name, _ in found.values() if frame.schema[name] == pl.List]
        last = frame.with_columns(pl.col(name).list.drop_nulls().list.last() for name in lists)
        values = [
            (number(name) * factor).round().cast(pl.Int32, strict=False).alias(field)
            for field, (name, factor) in found.items()
        ]
        rows = last.select(LINE, _function(), text("NamespaceHash").alias("user"), *values)
        intake.append("function", screen(rows, _RULES[1:2], reject))


def _frames(intake: Intake, file: SourceFile) -> Iterator[pl.DataFrame]:
    reject = intake.refuse(file)
    for frame in read_frames(file, reject, columns=("NamespaceHash", "AppHash", *_LISTS)):
        for piece in _exploded(screen(frame, _ragged(frame), reject)):
            rows = piece.select(
                LINE,
                _function(),
                text("NamespaceHash").alias("user"),
                text("PodHash").alias("pod"),
                whole_us("InvocationTimes", 1e6).alias("arrive_us"),
                whole_us("AppExecTimes", 1e3).alias("_run_us"),
                whole_us("TotalExecTimes", 1e3).alias("_total_us"),
                pl.lit(None, pl.String).alias("request"),
            )
            total = pl.coalesce("_total_us", "_run_us")
            run = pl.min_horizontal(pl.coalesce("_run_us", "_total_us"), total)
            yield screen(rows, _RULES, reject).with_columns(
                end_us=pl.col("arrive_us") + total, start_us=pl.col("arrive_us") + total - run
            )


def _ragged(frame: pl.DataFrame) -> tuple[tuple[str, pl.Expr], ...]:
    """The rule that refuses an application whose lists do not fit together; none for one request a row."""
    if frame.schema["InvocationTimes"] != pl.List:
        return ()
    lengths = [pl.col(name).list.len().fill_null(0) for name in _LISTS if name in frame.columns]
    return (("lists of different lengths", pl.any_horizontal(length != lengths[0] for length in lengths[1:])),)


def _exploded(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """One request a row, at most about 200,000 at a time (one application of a week may have millions)."""
    if frame.schema["InvocationTimes"] != pl.List:
        yield frame
        return
    for row in frame.iter_slices(1):
        length = int(row["InvocationTimes"].list.len().fill_null(0)[0])
        for start in range(0, length, _MAX_ROWS):
            part = row.with_columns(pl.col(name).list.slice(start, _MAX_ROWS) for name in _LISTS)
            yield part.explode(*_LISTS)
