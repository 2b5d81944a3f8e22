"""Which columns of a log are powers, in which unit, and what their cells say in watts."""

from __future__ import annotations

import math
import re
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

Unit = Literal["W", "kW", "MW", "mW"]
_TO_W = {"W": 1.0, "kW": 1e3, "MW": 1e6, "mW": 1e-3}
_POWER = re.compile(r"power|watt|utili[sz]ation|(^|[^a-z])k?w($|[^a-z])|^u$", re.IGNORECASE)
_NOT_POWER = re.compile(r"limit|cap|budget|violation|factor|management|state|supply", re.IGNORECASE)
_SHARE = re.compile(r"utili[sz]ation|^u$|%", re.IGNORECASE)
_TOTAL = re.compile(r"(^|[^a-z])(row|total|sum)($|[^a-z])", re.IGNORECASE)
_MEAN = re.compile(r"(^|[^a-z])(avg|average|mean)($|[^a-z])", re.IGNORECASE)
_STATISTIC = re.compile(
    r"(^|[^a-z])(avg|average|mean|min|minimum|max|maximum|peak|instant|std|p\d+|median)($|[^a-z])", re.IGNORECASE
)
_WITH_UNIT = r"^\s*-?\d[\d.,]*\s*[kKmM]?W\s*$"


def power_names(frame: pl.DataFrame) -> list[str]:
    """The columns to sum: powers with a number in them, one of each quantity."""
    names = [n for n in frame.columns if _POWER.search(n) and not _NOT_POWER.search(n)]
    if not names:
        names = [n for n in frame.columns if frame[n].dtype == pl.String and frame[n].str.contains(_WITH_UNIT).any()]
    names = [n for n in names if not _SHARE.search(n)] or names
    names = [n for n in names if not np.isnan(watts_of(frame[n], "W")).all()] or names
    totals = [n for n in names if _TOTAL.search(n)]
    one_of: dict[str, str] = {}
    for name in totals or names:
        quantity = re.sub(r"[^a-z0-9]+", " ", _STATISTIC.sub(" ", name.lower())).strip()
        plain, mean = not _STATISTIC.search(name), bool(_MEAN.search(name))
        if quantity not in one_of or plain or (mean and _STATISTIC.search(one_of[quantity])):
            one_of[quantity] = name
    return list(one_of.values())


def unit_of(name: str) -> Unit:
    """The unit in a column's name, else watts."""
    if re.search(r"kilowatt|(^|[^a-z])kw($|[^a-z])", name, re.IGNORECASE):
        return "kW"
    if re.search(r"\[mW\]|\(mW\)|milliwatt|_mw$", name):
        return "mW"
    if re.search(r"megawatt|(^|[^a-zA-Z])MW($|[^a-zA-Z])", name):
        return "MW"
    return "W"


def watts_of(column: pl.Series, unit: Unit) -> NDArray[np.float64]:
    """Watts of a column; a unit written in a cell goes before that of the column, a decimal comma is one."""
    scale: Any = _TO_W[unit]
    if column.dtype == pl.String:
        cells = column.str.strip_chars()
        own = cells.str.extract(r"([kKmM]?[wW])$", 1)
        known = {"w": 1.0, "kw": 1e3, "Mw": 1e6, "mw": 1e-3}
        marks = own.str.slice(0, 1).str.replace("K", "k") + own.str.slice(1).str.to_lowercase()
        factors = marks.str.replace("W", "w").replace_strict(known, default=None, return_dtype=pl.Float64)
        scale = factors.fill_null(_TO_W[unit]).to_numpy()
        column = cells.str.replace(r"\s*[kKmM]?[wW]$", "").str.replace(r"^(-?\d+),(\d+)$", "$1.$2")
        grouped = column.str.contains(r"^-?\d{1,3}(,\d{3})+\.\d+$")
        column = pl.select(pl.when(grouped).then(column.str.replace_all(",", "")).otherwise(column)).to_series()
    return column.cast(pl.Float64, strict=False).fill_null(math.nan).to_numpy().astype(np.float64) * scale
