"""Any table of requests: the user says which column is what, and in which unit.

`map` is `field=column:unit,...`. Fields: arrive, start, end, duration, wait, function, pod, request, cold, region,
user, runtime, trigger, cpu_cores, memory_mb (used), size_mb (of the function), cold_total and its parts allocation,
code, dependency, scheduling. Needed are `function` and enough to know the arrival: `arrive`, or `end` and `duration`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from nonet.coldstart.importing.base import Intake
from nonet.coldstart.importing.duplicates import Duplicates
from nonet.coldstart.importing.moments import UNITS_US
from nonet.coldstart.importing.pod_join import FirstCalls, judge_log
from nonet.coldstart.importing.sources import SourceFile
from nonet.coldstart.importing.tabular import LINE, header_of, is_given, number, read_frames, screen, text, whole_us
from nonet.common.errors import InputError

_MOMENTS = ("arrive", "start", "end")
_DURATIONS = ("duration", "wait", "cold_total", "allocation", "code", "dependency", "scheduling")
_TEXTS = ("function", "pod", "request", "region", "user", "runtime", "trigger")
_NUMBERS = ("cpu_cores", "memory_mb", "size_mb")
_FIELDS = (*_MOMENTS, *_DURATIONS, *_TEXTS, *_NUMBERS, "cold")
_MAX_US = 2**61


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the source and its unit ("" for the default)."""

    name: str
    unit: str


def parse_map(spec: str) -> dict[str, Column]:
    """The map that a user writes.

    Raises:
        InputError: an unknown field or unit, or a field that is needed is missing.

    >>> parse_map("arrive=ts:ms,function=fn")["arrive"]
    Column(name='ts', unit='ms')
    """
    columns: dict[str, Column] = {}
    for item in filter(None, (part.strip() for part in spec.split(","))):
        field, equals, rest = item.partition("=")
        name, _, unit = rest.rpartition(":") if ":" in rest else (rest, "", "")
        if field not in _FIELDS or not equals or not name:
            raise InputError(f"map: {item!r} is no `field=column:unit`; fields are {', '.join(_FIELDS)}")
        if unit and unit != "iso" and unit not in UNITS_US:
            raise InputError(f"map: unknown unit {unit!r} in {item!r}; units are {', '.join(UNITS_US)}, iso")
        columns[field] = Column(name, unit)
    if "arrive" not in columns and not {"end", "duration"} <= set(columns):
        raise InputError("map: name the arrival (arrive=column:unit), or both end and duration")
    return columns


def run(intake: Intake) -> None:
    """Read every table; where nothing says what was cold, it is judged by pods."""
    if "map" not in intake.options:
        first = ", ".join(header_of(intake.files[0], _delimiter(intake))) if intake.files else ""
        raise InputError(f"csv: say what the columns are: map=arrive=COLUMN:UNIT,function=COLUMN,...; found {first}")
    columns = parse_map(intake.options["map"])
    if "function" not in columns:
        raise InputError("csv: name the column of the function: function=COLUMN")
    known = intake.shared.get("pods")
    judged_by_pods = "pod" in columns and "cold" not in columns and "cold_total" not in columns
    if not judged_by_pods:
        for file in intake.each(resumable=True):
            for frame in _frames(intake, file, columns):
                _give(intake, frame, columns)
        return
    frames = (frame for file in intake.each() for frame in _frames(intake, file, columns))
    calls = FirstCalls(known, infer=intake.options.get("infer", "yes") != "no")
    for frame in judge_log(frames, calls, known, intake.spool):
        _give(intake, frame, columns)
    intake.censor(calls.num_censored)


def _delimiter(intake: Intake) -> str:
    mark = intake.options.get("delimiter", ",")
    return "\t" if mark == "tab" else mark


def _frames(intake: Intake, file: SourceFile, columns: dict[str, Column]) -> Iterator[pl.DataFrame]:
    reject = intake.refuse(file)
    duplicates = Duplicates()
    names = list(dict.fromkeys(column.name for column in columns.values()))
    for frame in read_frames(file, reject, columns=names, delimiter=_delimiter(intake)):
        rows = frame.select(LINE, *(_read(field, column, frame) for field, column in columns.items()))
        _count_unreadable(intake, frame, rows, columns)
        rows = _completed(rows, columns)
        if "request" in columns:
            repeated = duplicates.mark(rows, [name for name in rows.columns if name != LINE])
            rows = rows.with_columns(repeated & rows["request"].is_not_null())
        else:
            rows = rows.with_columns(pl.lit(value=False).alias("_repeated"))
        yield screen(rows, _RULES, reject).drop("_repeated")


def _count_unreadable(intake: Intake, frame: pl.DataFrame, rows: pl.DataFrame, columns: dict[str, Column]) -> None:
    """Cells that hold something that is no value of their field are left empty; how many there are is told."""
    for field, column in columns.items():
        if field in ("arrive", "function"):  # without these the row itself is refused
            continue
        name = f"{field}_us" if field in (*_MOMENTS, *_DURATIONS) else field
        unread = frame.filter(is_given(column.name) & rows[name].is_null()).height
        intake.warn(f"{field} that cannot be read in column {column.name!r}, left empty", unread)


_RULES = (
    ("no time of arrival", pl.col("arrive_us").is_null()),
    ("time out of range", pl.col("arrive_us").abs() > _MAX_US),
    ("no function", pl.col("function").is_null()),
    ("negative duration", pl.col("_duration_us") < 0),
    ("negative duration of a cold start", pl.col("cold_total_us") < 0),
    ("the end is before the arrival", pl.col("end_us") < pl.col("arrive_us")),
    ("the same row a second time", pl.col("_repeated")),
)


def _read(field: str, column: Column, frame: pl.DataFrame) -> pl.Expr:
    if field in _MOMENTS:
        return _moment(column, frame).alias(f"{field}_us")
    if field in _DURATIONS:
        return whole_us(column.name, UNITS_US[column.unit or "s"]).alias(f"{field}_us")
    if field in _NUMBERS:
        return number(column.name).cast(pl.Float32).alias(field)
    if field == "cold":
        word = text(column.name).str.to_lowercase()
        yes, no = (
            word.is_in(["true", "1", "1.0", "yes", "t", "y", "cold"]),
            word.is_in(["false", "0", "0.0", "no", "f"]),
        )
        return pl.when(yes).then(pl.lit(value=True)).when(no | (word == "warm")).then(pl.lit(value=False)).alias("cold")
    return text(column.name).alias(field)


def _moment(column: Column, frame: pl.DataFrame) -> pl.Expr:
    kind = frame.schema[column.name]
    if kind.is_temporal():
        return pl.col(column.name).cast(pl.Datetime("us")).cast(pl.Int64)
    if column.unit and column.unit != "iso":
        return whole_us(column.name, UNITS_US[column.unit])
    if column.unit == "" and frame.select(number(column.name).is_not_null().any()).item():
        raise InputError(f"map: the column {column.name!r} holds numbers; say their unit, e.g. {column.name}:ms")
    return iso_us(column.name)


def iso_us(name: str) -> pl.Expr:
    """A column of RFC 3339 texts (a missing zone is UTC) as int64 microseconds; null where it is none."""
    value = text(name).str.replace(" ", "T", literal=True)
    zone = value.str.extract(r"(Z|z|[+-]\d{2}:?\d{2})$").fill_null("Z")
    zone = pl.when(zone.is_in(["Z", "z"])).then(pl.lit("+00:00")).otherwise(zone)
    body = value.str.extract(r"^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})")
    fraction = value.str.extract(r"^[^.,]*[.,](\d{1,6})").fill_null("0").str.pad_end(6, "0")
    moment = (body + zone).str.to_datetime("%Y-%m-%dT%H:%M:%S%z", strict=False, time_unit="us", time_zone="UTC")
    return moment.cast(pl.Int64) + fraction.cast(pl.Int64, strict=False)


def _completed(rows: pl.DataFrame, columns: dict[str, Column]) -> pl.DataFrame:
    """The rows with arrive, start and end, as far as they follow from what is there, and a duration to be judged."""
    missing = [f"{name}_us" for name in (*_MOMENTS, "duration", "wait", "cold_total") if name not in columns]
    texts = [name for name in ("pod", "request") if name not in columns]
    rows = rows.with_columns(
        *(pl.lit(None, pl.Int64).alias(name) for name in missing), *(pl.lit(None, pl.String).alias(n) for n in texts)
    )
    wait = pl.col("wait_us").fill_null(0)
    rows = rows.with_columns(arrive_us=pl.coalesce("arrive_us", pl.col("end_us") - pl.col("duration_us") - wait))
    rows = rows.with_columns(start_us=pl.coalesce("start_us", pl.col("arrive_us") + wait))
    rows = rows.with_columns(end_us=pl.coalesce("end_us", pl.col("start_us") + pl.col("duration_us")))
    return rows.with_columns(
        _duration_us=pl.coalesce("duration_us", pl.col("end_us") - pl.col("start_us")),
        start_us=pl.max_horizontal("start_us", "arrive_us"),
    )


def _give(intake: Intake, frame: pl.DataFrame, columns: dict[str, Column]) -> None:
    """Hand over requests, the cold starts that they name, and functions; region by region."""
    if frame.is_empty():
        return
    regions = pl.col("region") if "region" in columns else pl.lit(None, pl.String)
    for (region,), rows in frame.with_columns(regions.fill_null(intake.region).alias("_region")).group_by(
        ["_region"], maintain_order=True
    ):
        name = str(region)
        if "cold_total" in columns:
            has_total = (pl.col("cold_total_us") > 0).fill_null(value=False)
            told = pl.when(has_total).then(pl.lit(value=True))  # without a length, the column itself must say so
            cold = pl.coalesce("cold", told) if "cold" in columns else has_total
            rows = rows.with_columns(cold=cold)  # noqa: PLW2901
            starts = rows.filter(has_total & pl.col("cold"))
            parts = [f"{part}_us" for part in ("allocation", "code", "dependency", "scheduling") if part in columns]
            chosen = [pl.col("arrive_us").alias("at_us"), pl.col("cold_total_us").alias("total_us")]
            intake.append("coldstart", starts.select(*chosen, "function", "pod", "request", *parts), name)
        intake.append("request", rows, name)
        extras = [field for field in ("user", "runtime", "trigger") if field in columns]
        sizes = [pl.col("size_mb").max().cast(pl.Int32).alias("memory_mb")] if "size_mb" in columns else []
        facts = rows.group_by("function", maintain_order=True).agg(
            *(pl.col(n).drop_nulls().first() for n in extras), *sizes
        )
        intake.append("function", facts, name)
