"""Times as logs write them: ISO with or without zone, with or without fractions, epoch seconds, milliseconds, finer."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

_ZONED = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z")
_LOCAL = (
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y/%m/%d %H:%M:%S%.f",
    "%d.%m.%Y %H:%M:%S%.f",
    "%d %b %Y %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%d.%m.%Y %H:%M",
)
_CLOCKS = ("%H:%M:%S%.f", "%I:%M:%S %p", "%H:%M", "%I:%M %p")
_HOUR_S = 3600.0
_SLOWEST_STEP_S = 120.0
_EPOCHS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
_EPOCH_FROM = 1e8
_MONTHS = 12


def parse_times(column: pl.Series, unit: str = "") -> tuple[NDArray[np.float64], int]:
    """Seconds, and in how many formats the column was written; NaN where a cell is no time.

    Times without a zone are UTC. `10/9/2025` has the month first when the column has a day above 12 in second place, or
    else when it then covers less time; the day first otherwise. Numbers of at least 1e11 are epoch milliseconds,
    microseconds from 1e14, nanoseconds from 1e17; smaller ones are seconds, since 1970 or since the start of the log.

    Args:
        column: texts, numbers or datetimes.
        unit: of numbers: "s", "ms", "us", "ns"; by default judged by size, cell by cell.

    >>> parse_times(pl.Series(["2024-05-10T00:00:01Z", "2024-05-10 00:00:02.5", "1715299203000", "x"]))
    (array([1.7152992e+09, 1.7152992e+09, 1.7152992e+09,           nan]), 3)
    """
    if column.dtype.is_temporal():
        return column.cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64).to_numpy() / 1e6, 1
    texts = column.cast(pl.String, strict=False).str.strip_chars().str.strip_chars('"')
    numbers = texts.cast(pl.Float64, strict=False).to_numpy().astype(np.float64)
    seconds = _epoch_seconds(numbers, unit)
    used = _num_scales(numbers)
    open_cells = np.isnan(seconds)
    # polars takes Z for a zone only when written as one.
    dated = texts.str.replace(r"[Zz]$|\s*UTC$", "+00:00")
    for pattern in (*_ZONED, *_LOCAL, *_slashed(dated)):
        if not open_cells.any():
            break
        zone = "UTC" if pattern in _ZONED else None
        parsed = dated.str.to_datetime(pattern, strict=False, time_unit="us", time_zone=zone)
        found = parsed.dt.epoch("us").cast(pl.Float64).to_numpy().astype(np.float64) / 1e6
        fits = open_cells & ~np.isnan(found)
        used += bool(fits.any())
        seconds[fits] = found[fits]
        open_cells &= ~fits
    return seconds, used


def undo_put_back(seconds: NDArray[np.float64], who: pl.Series | None = None) -> tuple[NDArray[np.float64], int]:
    """Times in order of the log, with the hour added that a clock lost when summer time ended; how often it was.

    Only where nothing else falls: a log in another order is left as it is.

    Args:
        seconds: as parsed.
        who: whose clock each is of; each must have been put back alike.

    >>> undo_put_back(np.array([0.0, 1800.0, 3598.0, 0.0, 1800.0]))
    (array([   0., 1800., 3598., 3600., 5400.]), 1)
    """
    group = pl.Series([0]).new_from_index(0, len(seconds)) if who is None else who
    frame = pl.DataFrame({"s": pl.Series(seconds).fill_nan(None), "who": group})
    step = pl.col("s").diff().over("who").fill_null(0.0)
    steps = frame.select(step=step, who="who")
    fell = steps["step"].to_numpy() < 0
    put_back = fell & (np.abs(steps["step"].to_numpy() + _HOUR_S - _SLOWEST_STEP_S / 2) <= _SLOWEST_STEP_S / 2)
    if not fell.any() or (fell & ~put_back).any():
        return seconds, 0
    lost = pl.DataFrame({"n": put_back.astype(np.int64), "who": group}).select(pl.col("n").cum_sum().over("who"))
    return seconds + _HOUR_S * lost["n"].to_numpy(), int(put_back.sum())


def _slashed(dated: pl.Series) -> list[str]:
    if not dated.str.contains("/", literal=True).any():
        return []
    return [f"{'%m/%d/%Y' if _month_first(dated) else '%d/%m/%Y'} {clock}" for clock in _CLOCKS]


def _month_first(dated: pl.Series) -> bool:
    parts = dated.drop_nulls().str.extract_groups(r"^(\d{1,2})/(\d{1,2})/(\d{4})\b").struct.unnest()
    first, second, year = (parts[name].cast(pl.Int32).drop_nulls().to_numpy() for name in parts.columns)
    if not len(first) or first.max() > _MONTHS or second.max() > _MONTHS:
        return bool(len(first) and first.max() <= _MONTHS)
    months, other = (372 * year + 31 * month + day for month, day in ((first, second), (second, first)))
    return int(np.ptp(months)) < int(np.ptp(other))


def _epoch_seconds(numbers: NDArray[np.float64], unit: str) -> NDArray[np.float64]:
    if unit:
        return numbers / {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]
    seconds = numbers.copy()
    for least, per_second in reversed(_EPOCHS):
        seconds = np.where(numbers >= least, numbers / per_second, seconds)
    return seconds


def _num_scales(numbers: NDArray[np.float64]) -> int:
    known = numbers[~np.isnan(numbers)]
    return len(set(np.digitize(known, [_EPOCH_FROM, *(least for least, _ in reversed(_EPOCHS))]).tolist()))
