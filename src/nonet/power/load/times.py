"""Times as logs write them: ISO with or without zone, with or without fractions, epoch seconds, milliseconds, finer."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

_ISO = (
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y/%m/%d %H:%M:%S%.f",
    "%d/%m/%Y %H:%M:%S%.f",
)
_ZONED = 2
_EPOCHS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
_EPOCH_FROM = 1e8


def parse_times(column: pl.Series, unit: str = "") -> tuple[NDArray[np.float64], int]:
    """Seconds, and in how many formats the column was written; NaN where a cell is no time.

    Times without a zone are UTC. Numbers of at least 1e11 are epoch milliseconds, microseconds from 1e14, nanoseconds
    from 1e17; smaller ones are seconds, since 1970 or since the start of the log.

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
    for index, pattern in enumerate(_ISO):
        if not open_cells.any():
            break
        parsed = dated.str.to_datetime(
            pattern, strict=False, time_unit="us", time_zone="UTC" if index < _ZONED else None
        )
        found = parsed.dt.epoch("us").cast(pl.Float64).to_numpy().astype(np.float64) / 1e6
        fits = open_cells & ~np.isnan(found)
        used += bool(fits.any())
        seconds[fits] = found[fits]
        open_cells &= ~fits
    return seconds, used


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
