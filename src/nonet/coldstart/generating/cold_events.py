"""Cold starts of a region as published: times (Figs 10c, 11), components (Figs 10a, 12, 15), functions (Figs 14, 16).

The hour is the unit: its number of cold starts is the published one (times `scale`), and all it holds is a pure
function of (seed, region, hour). At a scale below 1 the gaps are those of the whole region, stretched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from nonet.coldstart._random_kernels import mix64
from nonet.coldstart.generating._cold_kernels import (
    choose_functions,
    count_minutes,
    hour_times,
    pick_samples,
    spread_samples,
)
from nonet.coldstart.generating.components import RUNTIMES, Joint, joint
from nonet.coldstart.generating.curves import REGIONS, curve, table
from nonet.coldstart.generating.gaps import Gaps, fit_gaps
from nonet.coldstart.generating.minutes import Classes, classes, minute_sums, moods, parameters
from nonet.coldstart.generating.triggers import TRIGGERS, trigger_sums

Array = NDArray[np.float64]
TOTAL_COLD_STARTS = 11_913_857
R2_COLD_STARTS = 2_072_823
"""Exact cold starts of 31 days (sections 2.2 and 4.4 of the paper); other regions share the rest by Fig 11."""
NUM_HOURS = 744


def hourly_counts(region: str, num_hours: int = NUM_HOURS, scale: float = 1.0) -> NDArray[np.int64]:
    """Cold starts of each hour, int64[num_hours]: Fig 11, brought to the exact total; rounded so that sums stay right.

    >>> int(hourly_counts("R2").sum())
    2072823
    """
    drawn = {
        name: table("hours").filter(table("hours")["region"] == name)["cold_starts"].to_numpy() for name in REGIONS
    }
    others = sum(values.sum() for name, values in drawn.items() if name != "R2")
    factor = R2_COLD_STARTS / drawn["R2"].sum() if region == "R2" else (TOTAL_COLD_STARTS - R2_COLD_STARTS) / others
    sums = np.floor(np.cumsum(drawn[region] * factor * scale) + 0.5).astype(np.int64)
    return np.diff(sums, prepend=0)[:num_hours]


@lru_cache(maxsize=8)
def region_gaps(region: str) -> Gaps:
    """The laws of gaps of a region's 744 hours at scale 1, in seconds."""
    return fit_gaps(curve("10c", region), hourly_counts(region))


@dataclass(frozen=True)
class ColdRegion:
    """What the hours of a region share: counts, the law of gaps, joint samples and the minutes' preferences."""

    region: str
    seed: int
    counts: NDArray[np.int64]
    gaps: Gaps
    samples: Joint
    groups: Classes
    sums: Array
    edges: tuple[Array, Array]
    parts: Array

    @property
    def label(self) -> int:
        """The region's number, which separates its random streams from those of others."""
        return int(self.region[1:])

    def times_us(self, hour: int) -> NDArray[np.int64]:
        """Times of the hour's cold starts, ascending."""
        return _times(self.seed, self.label, hour, int(self.counts[hour]), self.gaps)

    def picks(self, hour: int, times_us: NDArray[np.int64]) -> NDArray[np.int64]:
        """The joint sample of each cold start, indices into `samples`."""
        key = np.uint64(mix64(self.seed, self.label * 4096 + hour, 12))
        return self.groups.order[pick_samples(key, times_us, self.sums, self.groups.at, self.groups.weight_sums)]


def _times(seed: int, label: int, hour: int, num: int, gaps: Gaps) -> NDArray[np.int64]:
    key = np.uint64(mix64(seed, label * 4096 + hour, 11))
    return hour_times(key, num, gaps.log_quantiles[gaps.level[hour]], hour * 3_600_000_000)


def minute_counts(region: str, seed: int, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cold starts of each minute, int64[60 * hours]; needs one pass over the times."""
    minutes = np.zeros(60 * len(counts), dtype=np.int64)
    gaps = region_gaps(region)
    for hour, num in enumerate(counts):
        count_minutes(_times(seed, int(region[1:]), hour, int(num), gaps), minutes)
    return minutes


def cold_region(region: str, seed: int, num_hours: int, scale: float, weights: Array | None = None) -> ColdRegion:
    """Prepare a region: about 15 MB for 31 days, whatever the number of cold starts.

    Args:
        region: "R1" .. "R5".
        seed: of all random choices.
        num_hours: at most 744.
        scale: share of the published number of cold starts.
        weights: of the minutes' moods; the fitted ones by default.
    """
    counts = hourly_counts(region, num_hours, scale)
    samples = joint(region)
    groups = classes(samples)
    minutes = minute_counts(region, seed, counts)
    mood = moods(region, seed, minutes, parameters(region) if weights is None else weights)
    parts = np.stack([samples.allocation_s, samples.code_s, samples.dependency_s, samples.scheduling_s], axis=1)
    sums = minute_sums(groups, minutes, mood)
    return ColdRegion(region, seed, counts, region_gaps(region), samples, groups, sums, slices(samples), parts)


def slices(samples: Joint) -> tuple[Array, Array]:
    """The slice of totals that each joint sample stands for: up to the middles between it and its neighbours' ranks.

    Samples of one runtime are ascending quantiles at ranks (i + 1/2) / n, so the geometric middles are the borders.
    """
    low, high = samples.total_s.copy(), samples.total_s.copy()
    for runtime in np.unique(samples.runtime):
        own = np.flatnonzero(samples.runtime == runtime)
        middle = np.sqrt(samples.total_s[own][1:] * samples.total_s[own][:-1])
        low[own[1:]], high[own[:-1]] = middle, middle
    return low, high


def _shares_of_day(weights: Array) -> Array:
    return np.cumsum(weights) / max(float(weights.sum()), 1e-300)


class ColdEvents:
    """The cold starts of one region as tables, hour by hour.

    Args:
        region: "R1" .. "R5".
        frame: functions of the region (columns function, trigger, runtime, cold_starts), among which the cold starts
            are shared.
        seed: of all random choices.
        num_hours: at most 744.
        scale: share of the published number.
    """

    def __init__(self, region: str, frame: pl.DataFrame, *, seed: int, num_hours: int, scale: float) -> None:
        self.region = region
        self._state = cold_region(region, seed, num_hours, scale)
        self._names = pa.array(frame["function"].to_list(), type=pa.string())
        self._groups = _Groups(region, frame)

    @property
    def state(self) -> ColdRegion:
        """Counts, laws and preferences of the region."""
        return self._state

    def hours(self) -> Iterator[pa.Table]:
        """One table an hour in the schema COLDSTART, times ascending; hours without a cold start are left out."""
        for hour in range(len(self._state.counts)):
            rows = self.arrays(hour)
            if len(rows["at_us"]):
                names = self._names.take(pa.array(rows.pop("function")))
                columns = {"at_us": rows.pop("at_us"), "function": names, **rows}
                columns["pod"] = pa.array([f"{self.region}-{hour}-{i}" for i in range(len(names))], type=pa.string())
                yield pa.table(columns)

    def arrays(self, hour: int) -> dict[str, NDArray[np.int64]]:
        """Columns of an hour as arrays: at_us, function (index), total_us and its four parts.

        Code and dependency times are whole milliseconds, as in the release; the parts add up to the total exactly.
        """
        state = self._state
        times = state.times_us(hour)
        picks = state.picks(hour, times)
        key = np.uint64(mix64(state.seed, state.label * 4096 + hour, 13))
        total, parts = spread_samples(key, picks, *state.edges, state.parts)
        function = self._groups.choose(np.uint64(mix64(state.seed, state.label * 4096 + hour, 14)), picks)
        names = ("allocation_us", "code_us", "dependency_us", "scheduling_us")
        return {
            "at_us": times,
            "function": function,
            "total_us": total,
            **{name: parts[:, i] for i, name in enumerate(names)},
        }


class _Groups:
    """Functions by (runtime, trigger), to choose one for a joint sample in proportion to published cold starts."""

    def __init__(self, region: str, frame: pl.DataFrame) -> None:
        samples = joint(region)
        weight = frame["cold_starts"].to_numpy().astype(np.float64)
        if region == "R2":
            self._trigger_sums, self._cell = trigger_sums()
            trigger = np.array([TRIGGERS.index(name) for name in frame["trigger"]])
            runtime = np.array([RUNTIMES.index(name) for name in frame["runtime"]])
            self._runtime = samples.runtime.astype(np.int64)
        else:
            self._trigger_sums, self._cell = np.ones((1, 1)), np.zeros(len(samples.weight), dtype=np.int64)
            trigger = runtime = np.zeros(frame.height, dtype=np.int64)
            self._runtime = np.zeros(len(samples.weight), dtype=np.int64)
        self._num_triggers = self._trigger_sums.shape[1]
        orders, sums, at = [], [], [0]
        for r in range(len(RUNTIMES)):
            for t in range(self._num_triggers):
                # Where no function has both, the trigger decides, then anything.
                for fits in ((runtime == r) & (trigger == t), trigger == t, np.ones(frame.height, dtype=bool)):
                    chosen = np.flatnonzero(fits)
                    if len(chosen):
                        break
                orders.append(chosen)
                sums.append(_shares_of_day(weight[chosen]))
                at.append(at[-1] + len(chosen))
        self._order, self._sums, self._at = np.concatenate(orders), np.concatenate(sums), np.array(at)

    def choose(self, key: np.uint64, picks: NDArray[np.int64]) -> NDArray[np.int64]:
        return choose_functions(
            key, self._cell[picks], self._runtime[picks], self._trigger_sums, self._at, self._order, self._sums
        )
