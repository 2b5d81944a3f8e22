"""Azure Functions 2021: one row an invocation, `app, func, end_timestamp, duration` (seconds; SOSP 2021).

The arrival is the end less the duration, which does not include cold starts; the trace does not say what was cold.
A function is `app/func`, its user unknown.
"""

from __future__ import annotations

import polars as pl

from nonet.coldstart.importing.base import Intake
from nonet.coldstart.importing.duplicates import Duplicates
from nonet.coldstart.importing.tabular import LINE, read_frames, screen, text, whole_us

_RULES = (
    ("no end", pl.col("end_us").is_null()),
    ("no function", pl.col("function").is_null()),
    ("no duration", pl.col("_duration_us").is_null()),
    ("negative duration", pl.col("_duration_us") < 0),
)


def run(intake: Intake) -> None:
    """Read every file; each stands alone."""
    for file in intake.each(resumable=True):
        reject = intake.refuse(file)
        duplicates = Duplicates()
        for frame in read_frames(file, reject, columns=("app", "func", "end_timestamp", "duration")):
            rows = frame.select(
                LINE,
                (text("app") + "/" + text("func")).alias("function"),
                whole_us("end_timestamp", 1e6).alias("end_us"),
                whole_us("duration", 1e6).alias("_duration_us"),
            ).with_columns(arrive_us=pl.col("end_us") - pl.col("_duration_us"))
            rows = screen(rows, _RULES, reject).with_columns(start_us="arrive_us")
            again = duplicates.mark(rows, ["function", "end_us", "_duration_us"]) if rows.height else None
            intake.warn("the same function, end and duration more than once", 0 if again is None else int(again.sum()))
            intake.append("request", rows)
            intake.append("function", rows.select("function").unique(maintain_order=True))
