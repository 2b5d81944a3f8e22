"""Reads measured row power as an even series: CSV, Parquet, Prometheus range JSON, nvidia-smi and DCGM exports.

Sensors are summed: each is averaged over every period and held over gaps of up to `hold_periods`; a period in which
any sensor has nothing is a gap (NaN), never a smaller sum. A sensor is told by all its label columns together (host
and GPU). Of several columns of one quantity one is read: the row's total before its parts, the mean before minimum and
maximum. Tenfold readings, short zeros and sums above three times the budget are left out, readings that stand still are
kept; all are counted. A clock that was put back by an hour is put right.

Averages blur a rise that crosses the edge of a period: of a step, the series may show half. `shifted` has the same log
on grids that begin 1/4, 1/2 and 3/4 of a period earlier; one of the four shows at least 7/8 of a step between two
readings that lie at least a quarter of a period apart.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.power.load.log_flaws import LONGEST_ZEROS_S, num_stuck, tenfold, zeros_between
from nonet.power.load.power_columns import Unit, power_names, unit_of, watts_of
from nonet.power.load.times import parse_times, undo_put_back

_MAX_BYTES = 2 << 30
_TIME_NAMES = (
    "timestamp",
    "time",
    "ts",
    "date",
    "datetime",
    "t",
    "t_s",
    "time_s",
    "timestamp_ms",
    "epoch",
    "measured_at",
)
_SENSOR_NAMES = (
    "sensor",
    "server",
    "node",
    "rack",
    "device",
    "host",
    "hostname",
    "instance",
    "pdu",
    "outlet",
    "index",
    "gpu",
    "uuid",
    "name",
)
_LATEST_S = 1e11
_ENOUGH_TO_TELL = 3
_SLOWEST_LOG_S = 3600.0
_PLAUSIBLE = (0.02, 1.7)
_IMPOSSIBLE = 3.0
_SHIFTS = (0.25, 0.5, 0.75)


@dataclass(frozen=True, eq=False)
class PowerLog:
    """An even series of row power.

    Attributes:
        start_s: epoch seconds (or seconds of the log) of the first period's begin.
        period_s: length of a period.
        power_w: float64, mean watts by period, NaN in gaps.
        notes: what was mended, by kind, with counts.
        shifted: `power_w` on grids that begin 1/4, 1/2 and 3/4 of a period earlier; for rises.
    """

    start_s: float
    period_s: float
    power_w: NDArray[np.float64]
    notes: dict[str, int]
    shifted: tuple[NDArray[np.float64], ...] = ()


def read_power_log(
    path: str | Path,
    *,
    budget_w: float | None = None,
    unit: Unit | None = None,
    time_column: str | None = None,
    power_columns: Sequence[str] | None = None,
    sensor_column: str | None = None,
    period_s: float = 2.0,
    hold_periods: int = 2,
) -> PowerLog:
    """Read a log of row power.

    Args:
        path: .csv, .tsv, .parquet or .json (the answer of Prometheus' query_range).
        budget_w: of the row; a log that fits it only in another unit is refused.
        unit: of the power columns; by default from their names, else watts.
        time_column: by default found by name.
        power_columns: by default found by name; several are summed.
        sensor_column: by default found by name.
        period_s: of the result; a log with fewer readings keeps its own period, a multiple of this one.
        hold_periods: gaps of a sensor up to so many periods are filled with its last value.

    Raises:
        InputError: no such file, no time or power column, no usable row, or a unit that does not fit the budget.
    """
    source = Path(path)
    if not period_s > 0:
        raise InputError(f"period must be above 0 s, got {period_s}")
    frame = _read(source)
    try:
        rows, notes = _long(frame, source, time_column, power_columns, sensor_column, unit)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{source}: a column that is no plain table: {str(error).splitlines()[0]}") from error
    log = _even(rows, period_s, hold_periods, notes, source)
    if budget_w is None:
        return log
    _check_unit(log.power_w, budget_w, source)
    _count(notes, "above three times the budget, left out", int((log.power_w > _IMPOSSIBLE * budget_w).sum()))
    power_w, *shifted = (
        np.where(series > _IMPOSSIBLE * budget_w, np.nan, series) for series in (log.power_w, *log.shifted)
    )
    return replace(log, power_w=power_w, shifted=tuple(shifted))


def _read(path: Path) -> pl.DataFrame:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path}: larger than {_MAX_BYTES >> 30} GiB; split it by day")
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        if path.suffix == ".json":
            return _prometheus(json.loads(path.read_bytes()), path)
        frame = pl.read_csv(
            path, separator=_separator(path), infer_schema=False, comment_prefix="#", truncate_ragged_lines=True
        )
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (pl.exceptions.PolarsError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    return frame.rename({name: name.strip() for name in frame.columns})


def _separator(path: Path) -> str:
    if path.suffix == ".tsv":
        return "\t"
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path}: text in UTF-16; save it as UTF-8")
    lines = [line for line in head.splitlines() if line and not line.startswith(b"#")]
    header = lines[0] if lines else b""
    return max(",;\t", key=lambda mark: header.count(mark.encode()))


def _prometheus(answer: Any, path: Path) -> pl.DataFrame:
    data = answer.get("data", answer) if isinstance(answer, dict) else {}
    series = data.get("result") if isinstance(data, dict) else None
    if not isinstance(series, list) or not series:
        raise InputError(f"{path}: no series in it; give the JSON answer of Prometheus' /api/v1/query_range")
    times: list[float] = []
    watts: list[float] = []
    sensors: list[str] = []
    try:
        for one in series:
            name = json.dumps(one.get("metric", {}), sort_keys=True)
            for at, value in one["values"]:
                times.append(float(at))
                watts.append(float(value))
                sensors.append(name)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: a series without [time, value] pairs ({error!r}); use query_range") from error
    metric = str((series[0].get("metric") or {}).get("__name__", ""))
    column = "power_kw" if re.search(r"kilowatt|_kw$", metric) else "power"
    return pl.DataFrame({"timestamp": times, column: watts, "sensor": sensors})


def _long(
    frame: pl.DataFrame,
    path: Path,
    time_column: str | None,
    power_columns: Sequence[str] | None,
    sensor_column: str | None,
    unit: Unit | None,
) -> tuple[pl.DataFrame, dict[str, int]]:
    time_name = time_column or _by_name(frame.columns, _TIME_NAMES) or _with_unit(frame.columns)
    if time_name not in frame.columns:
        raise InputError(f"{path}: no time column; name it with --time-column (found {', '.join(frame.columns[:12])})")
    names = list(power_columns or power_names(frame))
    missing = [name for name in names if name not in frame.columns]
    if not names or missing:
        what = f"no column {missing[0]!r}" if missing else "no column that looks like power; name it with --column"
        raise InputError(f"{path}: {what} (found {', '.join(frame.columns[:12])})")
    labels = [sensor_column] if sensor_column else [n for n in frame.columns if n.lower() in _SENSOR_NAMES]
    if sensor_column and sensor_column not in frame.columns:
        raise InputError(f"{path}: no column {sensor_column!r} (found {', '.join(frame.columns[:12])})")
    parts_of_name = [frame[label].cast(pl.String).fill_null("") for label in labels if label not in names]
    sensor = pl.Series([""] * len(frame), dtype=pl.String)
    for part in parts_of_name:
        sensor = sensor + "/" + part
    seconds, formats = parse_times(frame[time_name], _time_unit(time_name))
    if np.isnan(seconds).all() and len(frame):
        cell = frame[time_name].cast(pl.String).drop_nulls().head(1).to_list()
        raise InputError(
            f"{path}: no cell of column {time_name!r} is a time ({', '.join(cell)}); write 2025-01-31 14:00:02"
        )
    notes = {"time formats": formats} if formats > 1 else {}
    seconds, put_back = undo_put_back(seconds, sensor)
    _count(notes, "clock put back by an hour, later times moved", put_back)
    parts = []
    for name in names:
        watts = watts_of(frame[name], unit or unit_of(name))
        parts.append(pl.DataFrame({"s": seconds, "w": watts, "sensor": sensor + f"/{name}"}))
    rows = pl.concat(parts)
    seconds = np.where(np.abs(seconds) < _LATEST_S, seconds, np.nan)
    _count(notes, "cells without a time", int(np.isnan(seconds).sum()))
    usable = rows.filter((pl.col("s").abs() < _LATEST_S) & pl.col("w").is_finite() & (pl.col("w") >= 0))
    _count(notes, "negative powers, left out", rows.filter(pl.col("w").is_finite() & (pl.col("w") < 0)).height)
    _count(notes, "powers that are no numbers, left out", rows.filter(~pl.col("w").is_finite()).height)
    if not len(frame):
        raise InputError(f"{path}: a header and no rows")
    if usable.is_empty():
        raise InputError(f"{path}: no row with a time and a power; check the columns {time_name!r} and {names[0]!r}")
    _count(notes, "out of order, sorted", int((np.diff(seconds[~np.isnan(seconds)]) < 0).sum()))
    single = usable.unique(["s", "sensor"], keep="last", maintain_order=True)
    _count(notes, "duplicates, last kept", usable.height - single.height)
    return single.sort("s"), notes


def _even(rows: pl.DataFrame, period_s: float, hold: int, notes: dict[str, int], path: Path) -> PowerLog:
    apart_s = _apart_s(rows)
    if apart_s > period_s * (hold + 1):
        period_s = float(math.ceil(apart_s / period_s - 1e-9) * period_s)
        notes["period raised to that of the log, s"] = round(period_s)
    start_s = math.floor(float(rows["s"][0]) / period_s) * period_s
    num = int(_ticks(rows, start_s, period_s)[-1]) + 1
    if num > 200_000_000 or num > 1000 * rows.height + 1000:
        raise InputError(f"{path}: {rows.height} rows over {num * period_s:.0f} s; is a time in another unit?")
    rows = _without_flaws(rows, apart_s or period_s, notes)
    total = _summed(rows, start_s, period_s, hold, num)
    _count(notes, "gaps", int(np.isnan(total).sum()))
    shifted = tuple(_summed(rows, start_s - shift * period_s, period_s, hold, num + 1) for shift in _SHIFTS)
    return PowerLog(start_s, period_s, total, notes, shifted)


def _without_flaws(rows: pl.DataFrame, apart_s: float, notes: dict[str, int]) -> pl.DataFrame:
    """The readings that are powers; what is left out is counted, as is what stands still."""
    flaws = {"tenfold readings, left out": 0, "zeros between readings, left out": 0, "stuck readings, kept": 0}
    watts = rows["w"].to_numpy()
    good = np.ones(len(watts), dtype=np.bool_)
    for own in _by_sensor(rows):
        spikes, zeros = tenfold(watts[own]), zeros_between(watts[own], max(1, int(LONGEST_ZEROS_S / apart_s)))
        for kind, count in zip(flaws, (spikes.sum(), zeros.sum(), num_stuck(watts[own])), strict=True):
            flaws[kind] += int(count)
        good[own] = ~(spikes | zeros)
    for kind, count in flaws.items():
        _count(notes, kind, count)
    return rows.filter(pl.Series(good))


def _summed(rows: pl.DataFrame, start_s: float, period_s: float, hold: int, num: int) -> NDArray[np.float64]:
    """The sum of the sensors in `num` periods from `start_s` on, NaN where one has nothing."""
    ticks, watts = _ticks(rows, start_s, period_s), rows["w"].to_numpy()
    total = np.zeros(num)
    for own in _by_sensor(rows):
        counts = np.bincount(ticks[own], minlength=num)
        sums = np.bincount(ticks[own], weights=watts[own], minlength=num)
        total += _held(np.divide(sums, counts, out=np.full(num, np.nan), where=counts > 0), hold)
    return total


def _by_sensor(rows: pl.DataFrame) -> list[NDArray[np.int64]]:
    """Rows of each sensor, in order of time."""
    codes = rows["sensor"].rank("dense").to_numpy()
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def _ticks(rows: pl.DataFrame, start_s: float, period_s: float) -> NDArray[np.int64]:
    return ((rows["s"].to_numpy() - start_s) / period_s + 1e-9).astype(np.int64)


def _apart_s(rows: pl.DataFrame) -> float:
    """The median time between two readings of a sensor; 0 when there are too few, or it is over an hour."""
    between = rows.sort(["sensor", "s"]).select(pl.col("s").diff().over("sensor")).to_series().drop_nulls()
    apart_s = float(np.median(between.to_numpy())) if len(between) >= _ENOUGH_TO_TELL else 0.0
    return apart_s if apart_s <= _SLOWEST_LOG_S else 0.0


def _held(values: NDArray[np.float64], hold: int) -> NDArray[np.float64]:
    at = np.arange(len(values))
    last = np.maximum.accumulate(np.where(np.isnan(values), -1, at))
    ages = at - last
    return np.where((last >= 0) & (ages <= hold), values[np.maximum(last, 0)], np.nan)


def _check_unit(power_w: NDArray[np.float64], budget_w: float, path: Path) -> None:
    if not (math.isfinite(budget_w) and budget_w > 0):
        raise InputError(f"budget must be above 0 W, got {budget_w}")
    middle = float(np.nanmedian(power_w)) / budget_w
    if _PLAUSIBLE[0] <= middle <= _PLAUSIBLE[1]:
        return
    hints = ((1e3, "the log in kW"), (1e-3, "the budget in kW"), (1e6, "the log in MW"), (1e-6, "the log in mW"))
    for factor, hint in hints:
        if _PLAUSIBLE[0] <= middle * factor <= _PLAUSIBLE[1]:
            raise InputError(
                f"{path}: median {middle * budget_w:.6g} W against a budget of {budget_w:.6g} W: is {hint}? say so"
            )
    raise InputError(f"{path}: median {middle * budget_w:.6g} W does not fit a budget of {budget_w:.6g} W in any unit")


def _by_name(columns: Sequence[str], known: Sequence[str]) -> str | None:
    lowered = {name.lower(): name for name in reversed(columns)}
    return next((lowered[name] for name in known if name in lowered), None)


def _with_unit(columns: Sequence[str]) -> str | None:
    return next((n for n in columns if re.sub(r"_(s|ms|us|ns)$", "", n.lower()) in _TIME_NAMES), None)


def _time_unit(name: str) -> str:
    found = re.search(r"_(ms|us|ns)$", name.lower())
    return found.group(1) if found else ""


def _count(notes: dict[str, int], kind: str, count: int) -> None:
    if count:
        notes[kind] = count
