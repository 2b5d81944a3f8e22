"""Alibaba Function Compute, the trace of FaaSNet (ATC 2021): `__time__, functionName, latency, runtime, memoryMB`.

`__time__` is seconds since 1970 and taken for the arrival, `latency` is in seconds. The release has no pods and does
not say what was cold.
"""

from __future__ import annotations

import polars as pl

from nonet.coldstart.importing.base import Intake
from nonet.coldstart.importing.tabular import LINE, number, read_frames, screen, text, whole_us
from nonet.common.errors import InputError

_RULES = (
    ("no time of arrival", pl.col("arrive_us").is_null()),
    ("no function", pl.col("function").is_null()),
    ("no latency", pl.col("_duration_us").is_null()),
    ("negative duration", pl.col("_duration_us") < 0),
)


def run(intake: Intake) -> None:
    """Read every file; each stands alone."""
    for file in intake.each(resumable=True):
        names = intake.header(file)
        if not names:
            continue
        latency = next((name for name in ("latency", "latency(s)", "latency_s") if name in names), None)
        if latency is None:
            raise InputError(f"{file.name}: no column 'latency' in its header; found {', '.join(names[:12])}")
        reject = intake.refuse(file)
        for frame in read_frames(
            file, reject, columns=("__time__", "functionName", latency), optional=("runtime", "memoryMB")
        ):
            rows = frame.select(
                LINE,
                whole_us("__time__", 1e6).alias("arrive_us"),
                text("functionName").alias("function"),
                whole_us(latency, 1e6).alias("_duration_us"),
                text("runtime").alias("runtime"),
                number("memoryMB").round().cast(pl.Int32).alias("memory_mb"),
            )
            rows = screen(rows, _RULES, reject).with_columns(
                start_us="arrive_us", end_us=pl.col("arrive_us") + pl.col("_duration_us")
            )
            intake.append("request", rows.drop("memory_mb"))
            facts = rows.group_by("function", maintain_order=True).agg(
                pl.col("runtime", "memory_mb").drop_nulls().first()
            )
            intake.append("function", facts)
