"""Wide tables of series (a row a step of time, a column a function) to rows of the table `series`."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from nonet.coldstart.importing.base import Intake
from nonet.coldstart.importing.sources import SourceFile
from nonet.coldstart.importing.tabular import LINE, is_given, number, read_frames, screen, whole_us
from nonet.common.errors import InputError

_ROWS = 20


def read_wide(
    intake: Intake,
    file: SourceFile,
    region: str,
    *,
    metric: str,
    statistic: str,
    step_us: int,
    day_column: str = "day",
) -> Iterator[pl.DataFrame]:
    """Read one file and hand its rows over; empty and NaN cells have no row. Nothing happens before it is iterated.

    Args:
        intake: takes the rows.
        file: a CSV with the columns `time` (seconds since the start, or since the start of the day in `day_column`) and
            one a function.
        region, metric, statistic, step_us: what every row says.
        day_column: a column that is no function; it may be missing.

    Yields:
        the rows that were handed over: at_us, function, value, ...

    Raises:
        InputError: there is no column `time`.
    """
    reject = intake.refuse(file)
    for frame in read_frames(file, reject):
        if "time" not in frame.columns:
            raise InputError(f"{file.name}: no column 'time' in its header; found {', '.join(frame.columns[:8])}")
        day = number(day_column) if day_column in frame.columns else pl.lit(0.0)
        # A time below one day on a later day is one within that day.
        within = (day > 0) & (number("time") < 86_400)
        at_us = whole_us("time", 1e6) + pl.when(within).then(day * 86_400e6).otherwise(0.0).cast(pl.Int64)
        timed = frame.with_columns(at_us.alias("at_us"))
        timed = screen(timed.select(LINE, "at_us"), (("no time", pl.col("at_us").is_null()),), reject).join(
            timed.drop("at_us"), on=LINE, how="left", maintain_order="left"
        )
        names = [name for name in frame.columns if name not in (LINE, "time", day_column)]
        for piece in timed.iter_slices(_ROWS):
            yield _give(intake, piece, names, region, metric, statistic, step_us, file)


def _give(
    intake: Intake,
    piece: pl.DataFrame,
    names: list[str],
    region: str,
    metric: str,
    statistic: str,
    step_us: int,
    file: SourceFile,
) -> pl.DataFrame:
    cells = piece.unpivot(on=names, index=[LINE, "at_us"], variable_name="function", value_name="_cell")
    given = cells.filter(is_given("_cell")).with_columns(number("_cell").alias("value"))
    rules = (("a value is no number", pl.col("value").is_null()),)
    rows = screen(given.drop("at_us").hstack(given.select("at_us")), rules, intake.refuse(file))
    rows = rows.with_columns(metric=pl.lit(metric), statistic=pl.lit(statistic), step_us=pl.lit(step_us, pl.Int64))
    intake.append("series", rows, region)
    intake.append("function", rows.select("function").unique(maintain_order=True), region)
    return rows
