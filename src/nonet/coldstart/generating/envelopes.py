"""How the load of a function spreads over 31 days, as cumulative curves.

Time of day comes from the three published days (Fig 5, mean of the three), days from the mean pods of each day by
trigger in Region 2 (Fig 8a: weekdays, weekends, the holiday of days 14 to 23) or of the region (Fig 7). Timers ignore
both. Fig 5 is normalised to 0..1; how deep its night is, is a choice (`_DEPTH`), within the peak-to-trough ratios of
Fig 6.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nonet.coldstart.generating.curves import table

Array = NDArray[np.float64]
NUM_DAYS = 31
BIN_US = 600_000_000
BINS_A_DAY = 144
FLAT = 0
NAMES = ("flat", "TIMER-A", "workflow-S", "OBS-A", "unknown", "APIG-S", "other A", "other S")
"""Envelopes by row of `curves`; FLAT is without any change."""
_DEPTH = {"APIG-S": 2.0, "other S": 2.0, "unknown": 2.0, "workflow-S": 1.0, "OBS-A": 1.0, "other A": 1.0}
_WEEKEND = 0.75  # days of week 1 and 2 in Fig 8a (days 1, 2, 8, 9) against the others


@lru_cache(maxsize=8)
def curves(region: str) -> Array:
    """Cumulative load of each envelope, float64[len(NAMES), bins + 1], each row from 0 to 1."""
    rows = table("load").filter(pl.col("region") == region)
    bins = np.full((3, BINS_A_DAY), np.nan)
    minute = rows["minute"].to_numpy()
    bins[minute // 1440, minute % 1440 // 10] = rows["load"].to_numpy()
    day = np.nanmean(bins, axis=0)
    out = [np.linspace(0.0, 1.0, NUM_DAYS * BINS_A_DAY + 1)]
    for name in NAMES[1:]:
        shape = 1.0 + _DEPTH.get(name, 0.0) * day
        load = np.concatenate([factor * shape for factor in _days(region, name)])
        out.append(np.concatenate(([0.0], np.cumsum(load))) / load.sum())
    out[1] = out[0]
    return np.stack(out)


def _days(region: str, trigger: str) -> Array:
    if region == "R2":
        rows = table("days").filter(pl.col("trigger") == trigger).sort("day")
        return rows["pods"].to_numpy().astype(np.float64)
    drawn = table("holiday").filter((pl.col("metric") == "pods") & (pl.col("region") == region)).sort("day")
    factor = np.array([_WEEKEND if day % 7 in (1, 2) else 1.0 for day in range(NUM_DAYS)])
    usual = drawn.filter(pl.col("day").is_in([10, 11, 12, 13]))["proportion"].mean()
    factor[drawn["day"].to_numpy()] = drawn["proportion"].to_numpy() / usual
    return factor
