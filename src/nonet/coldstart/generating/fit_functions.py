"""How `calibration/functions_r2.csv` is made from Fig 14: each function's arrivals are fitted by simulating them.

For every function of Region 2 the paper gives requests and cold starts in 31 days. What is free in its process (how
many bursts, how many requests at once, how regular) is searched for until a plain simulation with a keep-alive of 60
s after the last request gives its cold starts. Cold starts are never drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nonet.coldstart._random_kernels import mix64, uniform
from nonet.coldstart.generating import envelopes
from nonet.coldstart.generating._arrival_kernels import window
from nonet.coldstart.generating._count_kernels import count_cold
from nonet.coldstart.generating.cold_times import cold_times
from nonet.coldstart.generating.curves import curve, table
from nonet.coldstart.generating.functions import MONTH_US, POOL_CLASSES, process_of, run_factors
from nonet.coldstart.generating.triggers import TRIGGERS, runtime_trigger_cold_starts, runtime_trigger_prior

NUM_FUNCTIONS = 2418
KEEP_ALIVE_US = 60_000_000
STEADY_FROM = 2_000_000
MONTH_S = MONTH_US / 1e6
CONCURRENCIES = (1, 2, 4, 10, 20, 50, 100, 200, 500, 1000)
_RUNTIMES = ("Python3", "Node.js", "Custom", "Java", "Python2", "Go1.x", "PHP7.3", "http", "C#", "unknown")
Row = dict[str, Any]


def with_hidden(figure: pl.DataFrame) -> pl.DataFrame:
    """The 2,344 visible functions and the hidden ones, so that each trigger has its share of 2,418 (Fig 8d).

    Marks hide each other where many lie, at few requests; so hidden functions are copies from there.
    """
    share = dict(zip(TRIGGERS, _shares("8d", "functions", TRIGGERS), strict=True))
    parts = [figure]
    missing = NUM_FUNCTIONS - figure.height
    lack = {
        name: max(share[name] * NUM_FUNCTIONS - figure.filter(pl.col("trigger") == name).height, 0.0)
        for name in TRIGGERS
    }
    total = sum(lack.values()) or 1.0
    sums = np.round(np.cumsum([lack[name] / total * missing for name in TRIGGERS])).astype(int)
    for name, num in zip(TRIGGERS, np.diff(sums, prepend=0), strict=True):
        crowd = figure.filter((pl.col("trigger") == name) & (pl.col("requests_31d") <= 62)).sort("requests_31d")
        if num and crowd.height:
            parts.append(crowd[((np.arange(num) + 0.5) * crowd.height / num).astype(int).tolist()])
    return pl.concat(parts).sort("trigger", "requests_31d", "cold_starts_31d")


def attributes(figure: pl.DataFrame) -> list[Row]:
    """Rows with runtime and class: the 300 with most cold starts fill shares of cold starts, the rest of functions."""
    cold = runtime_trigger_cold_starts() * float(figure["cold_starts_31d"].to_numpy().sum())
    size = _shares("8e", "functions", _RUNTIMES)
    # Fig 8e joins Go, PHP, C# and unknown runtimes as "other"; how they share it is a choice.
    size[[5, 6, 8, 9]] = _shares("8e", "functions", ("other",))[0] * np.array([0.22, 0.40, 0.08, 0.30])
    num = runtime_trigger_prior() * size[:, None]
    budget_cold = _shares("8f", "cold_starts", POOL_CLASSES) * float(figure["cold_starts_31d"].to_numpy().sum())
    budget_num = _shares("8f", "functions", POOL_CLASSES) * figure.height
    num *= np.array([figure.filter(pl.col("trigger") == name).height for name in TRIGGERS]) / num.sum(axis=0)
    rows: list[Row] = [{} for _ in range(figure.height)]
    order = np.argsort(-figure["cold_starts_31d"].to_numpy(), kind="stable")
    for place, i in enumerate(order):
        trigger, requests, colds = figure.row(int(i))
        column = TRIGGERS.index(trigger)
        big = place < 300
        runtime = int((cold[:, column] if big else num[:, column]).argmax())
        pool = int((budget_cold if big else budget_num).argmax())
        cold[runtime, column] -= colds
        num[runtime, column] -= 1
        budget_cold[pool] -= colds
        budget_num[pool] -= 1
        rows[i] = {"trigger": trigger, "runtime": _RUNTIMES[runtime], "class": POOL_CLASSES[pool],
                   "requests": round(requests), "cold_starts": round(colds)}  # fmt: skip
    return rows


def _shares(figure: str, series: str, groups: Sequence[str]) -> NDArray[np.float64]:
    """Proportions of Fig 8 for some groups, 0 for those that are not there."""
    rows = table("proportions").filter((pl.col("figure") == figure) & (pl.col("series") == series))
    share = dict(rows.select("group", "proportion").iter_rows())
    return np.array([share.get(name, 0.0) for name in groups])


def run_times_ms(rows: list[Row]) -> NDArray[np.float64]:
    """Mean execution times by Fig 3b, which counts active (function, minute) pairs: a function weighs its minutes.

    Functions with a cold start for nearly every request run longest: half of all pods are useful for more than 4.3
    times their cold start (Fig 17), and most serve one request. The largest functions have any place, by a hash.
    """
    requests = np.array([row["requests"] for row in rows], dtype=np.float64)
    weight = np.minimum(requests, 44_640.0)
    share = weight / weight.sum()
    large = requests > STEADY_FROM
    cold_ratio = np.array([row["cold_starts"] for row in rows]) / requests
    noise = np.array([uniform(np.uint64(mix64(3, 2, i)), 0) for i in range(len(rows))])
    place = np.empty(len(rows))
    order = np.argsort([mix64(3, 1, i) for i in range(len(rows))])
    place[order] = np.cumsum(share[order]) - share[order] / 2
    begin = place - share / 2
    # The others fill what the large ones leave free, the coldest last.
    order = np.argsort(np.where(large, -np.inf, np.log10(cold_ratio) + 0.5 * noise), kind="stable")[int(large.sum()) :]
    middle = np.cumsum(share[order]) - share[order] / 2
    for i in np.flatnonzero(large)[np.argsort(begin[large])]:
        middle = np.where(middle >= begin[i], middle + share[i], middle)
    place[order] = np.minimum(middle, 1.0)
    return np.clip(curve("3b", "R2").quantile(place) * 1000.0, 0.5, 60_000.0)


class Fitter:
    """Searches the process of one function after the other; `index` is its row in the final table (its random key)."""

    def __init__(self, rows: list[Row]) -> None:
        self._runs = run_factors()
        self._curves = envelopes.curves("R2")
        times, _ = cold_times("R2", pl.DataFrame([{"runtime": r["runtime"], "trigger": r["trigger"]} for r in rows]))
        self._cold_us = (times.allocation_us + times.rest_us).reshape(len(rows), -1)
        self._num = len(rows)

    def calls(self, row: Row, index: int, start_us: int, end_us: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Arrivals and execution times in a window, ascending."""
        process = np.zeros(1, dtype=process_of(pl.DataFrame([row]), 0, 2).dtype)
        process[:] = process_of(pl.DataFrame([row]), 0, 2)
        process["key"] = np.uint64(mix64(0, 7002, index))
        size = 1024
        while True:
            arrive, run, function = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int32)
            need = window(process, np.zeros(1, np.int64), self._curves, envelopes.BIN_US, self._runs, start_us, end_us,
                          arrive, run, function)  # fmt: skip
            if need <= size:
                order = np.argsort(arrive[:need], kind="stable")
                return arrive[:need][order], run[:need][order]
            size = need

    def cold(
        self, row: Row, index: int, start_us: int = 0, end_us: int = MONTH_US, ramp_us: int = 0
    ) -> NDArray[np.int64]:
        """Times of the cold starts of a window; the first `ramp_us` come up gently."""
        arrive, run = self.calls(row, index, start_us, end_us)
        if ramp_us:
            part = (arrive - start_us) / ramp_us
            keep = np.array([uniform(np.uint64(9), i) for i in range(int((part < 1).sum()))]) < part[part < 1] ** 2
            chosen = np.concatenate((np.flatnonzero(part < 1)[keep], np.flatnonzero(part >= 1)))
            arrive, run = arrive[chosen], run[chosen]
        return count_cold(arrive, run, KEEP_ALIVE_US, row["concurrency"], self._cold_us[index], 0, index)

    def fit(self, row: Row, index: int) -> Row:
        """The row with its process and `fitted`, the cold starts that the fit's simulation gave."""
        if row["requests"] > STEADY_FROM:
            return self._fit_steady(row, index)
        if row["trigger"] == "TIMER-A":
            timer = self._timer(row, index)
            timer["fitted"] = len(self.cold(timer, index))
            if abs(timer["fitted"] - row["cold_starts"]) <= max(2, 0.01 * row["cold_starts"]):
                return timer
        return self._fit_bursts(row, index)

    def _timer(self, row: Row, index: int) -> Row:
        period_s = MONTH_S / row["requests"]
        period_s = float(np.floor(period_s)) if period_s >= 2 else period_s
        stretch = period_s * row["requests"] / MONTH_S
        offset_ms = (1.0 - stretch) * MONTH_S * 1000.0 * uniform(np.uint64(mix64(4, 4, index)), 0)
        jitter = min(0.2 / period_s, 0.2)
        room_ms = 800.0 * (period_s - 60.0) if row["cold_starts"] > 0.9 * row["requests"] and period_s > 60 else np.inf
        run_ms = min(row["run_ms"], 300.0 * period_s, room_ms)
        return _process(row, bursts=row["requests"], jitter=jitter, stretch=stretch, offset_ms=offset_ms, run_ms=run_ms)

    def _fit_bursts(self, row: Row, index: int) -> Row:
        num, wanted = row["requests"], row["cold_starts"]
        together = (
            row["trigger"] in ("OBS-A", "workflow-S", "other A", "unknown") and wanted >= 30 and num >= 6 * wanted
        )
        named = "flat" if row["trigger"] == "TIMER-A" else row["trigger"]
        shapes = ((named, 0.9), (named, 0.5), ("flat", 0.5), ("flat", 0.2), ("flat", 0.05))
        best: Row | None = None
        for lanes, (envelope, jitter) in product((3.0, 1.0) if together else (1.0,), shapes):
            found = self._fit_shape(row, index, max(lanes, wanted / 18_000), envelope, jitter)
            if best is None or _miss(found) < _miss(best):
                best = found
            if _miss(best) <= max(0.02, 1.01 / wanted):
                break
        return best or row

    def _fit_shape(self, row: Row, index: int, lanes: float, envelope: str, jitter: float) -> Row:
        def make(bursts: float) -> Row:
            return _burst_row(row, max(round(bursts), 1), lanes, jitter, envelope, self._cold_us[index])

        low, high = max(0.02 * row["cold_starts"] / lanes, 1.0), max(min(row["requests"] / lanes, 42_000), 1.0)
        return self._search(make, index, row["cold_starts"], low, high)

    def _search(
        self, make: Callable[..., Row], index: int, wanted: int, low: float, high: float, rounds: int = 14
    ) -> Row:
        """Bisect a number, on a logarithmic scale, of which cold starts are a rising function with some noise."""
        best: Row | None = None
        for step in range(rounds):
            middle = high if step == 0 else low if step == 1 else float(np.sqrt(low * high))
            row = make(middle)
            row["fitted"] = len(self.cold(row, index))
            if best is None or _miss(row) < _miss(best):
                best = row
            if _miss(best) <= max(0.01, 0.5 / wanted) or (step == 0 and row["fitted"] < wanted):
                break
            if step >= 1:
                low, high = (middle, high) if row["fitted"] < wanted else (low, middle)
            if high / low < 1.0005:
                break
        return best or make(low)

    def _fit_steady(self, row: Row, index: int) -> Row:
        wanted = row["cold_starts"]
        # Few cold starts mean few pods, so requests in flight cannot be many.
        in_flight = row["requests"] / MONTH_S * row["run_ms"] / 1000.0
        row = {**row, "run_ms": row["run_ms"] * min(max(50.0, wanted / 10) / in_flight, 1.0)}
        base = {"kind": "steady", "jitter": 1.0, "envelope": row["trigger"], "spread_ms": 20.0}
        chosen, own = row, np.inf
        for concurrency in CONCURRENCIES:
            load = row["requests"] / MONTH_S * row["run_ms"] / 1000.0 * 2.0
            if load > concurrency * max(wanted / 4, 0.7) and concurrency < CONCURRENCIES[-1]:
                continue
            chosen = _process({**row, "concurrency": concurrency}, bursts=0, **base)
            own = self._stream_cold(chosen, index)
            if own <= max(0.8 * wanted, 3.0):
                break
        left = wanted - own
        if left < max(0.03 * wanted, 1.0):
            return {**chosen, "fitted": round(own)}
        # A spike that overflows the pods makes the stream overflow too, so few spikes can be many cold starts: first
        # the size of a spike with at least `each` of them, then the number of spikes.
        each = max(min(6.0, left), left / 9_000)
        low, high, size, found = 1.0, 30_000.0, 30_000.0, np.inf
        for _ in range(16):
            middle = float(np.sqrt(low * high))
            spikes = int(np.clip(left / each, 1, 9_000))
            near = self._spike_cold(_process({**chosen, "size": middle}, **{**base, "bursts": spikes}), index)
            if near >= each:
                size, found, high = middle, near, middle
            else:
                low = middle
            if each <= near < 1.02 * each or high / low < 1.001:
                break
        spikes = max(round(left / found), 1)
        return {
            **_process({**chosen, "size": size}, **{**base, "bursts": spikes}),
            "fitted": round(own + spikes * found),
        }

    def _stream_cold(self, row: Row, index: int, budget: int = 30_000_000) -> float:
        """Cold starts of the stream without spikes in 31 days: all of it, or eight windows of it where it is long."""
        if row["requests"] <= budget:
            return float(len(self.cold(row, index)))
        settle_us = 130_000_000
        span_us = int(budget / 8 / row["requests"] * MONTH_US)
        found = 0
        for i in range(8):
            start = int((i + 0.3 + 0.05 * i) / 8.0 * MONTH_US * 0.97)
            cold = self.cold(row, index, start, min(start + settle_us + span_us, MONTH_US), ramp_us=30_000_000)
            found += int((cold >= start + settle_us).sum())
        return 1.0 + found * MONTH_US / (8 * span_us)

    def _spike_cold(self, row: Row, index: int, num_windows: int = 12) -> float:
        """Mean cold starts of a spike, above those of the stream in the same seconds, from some spikes."""
        settle_us, near_us = 120_000_000, 20_000_000
        found = 0
        for i in range(min(num_windows, row["bursts"])):
            j = int((i + 0.5) * row["bursts"] / min(num_windows, row["bursts"]))
            at = max(int(self._spike_us(row, index, j)), settle_us)
            for size, sign in ((row["size"], 1), (0.0, -1)):
                cold = self.cold({**row, "size": size}, index, at - settle_us, at + near_us, ramp_us=30_000_000)
                found += sign * int((cold >= at).sum())
        return found / min(num_windows, row["bursts"])

    def _spike_us(self, row: Row, index: int, j: int) -> float:
        from nonet.coldstart.generating._arrival_kernels import time_of_load

        key = np.uint64(mix64(np.uint64(mix64(0, 7002, index)), 1, 0))
        share = (j + 0.5 + row["jitter"] * (uniform(key, 2 * j) - 0.5)) / row["bursts"]
        return float(time_of_load(self._curves[envelopes.NAMES.index(row["envelope"])], envelopes.BIN_US, share))


def _miss(row: Row) -> float:
    return abs(row["fitted"] - row["cold_starts"]) / max(row["cold_starts"], 1)


def _process(row: Row, **changes: Any) -> Row:
    blank = {
        **{"kind": "bursts", "bursts": 1, "lanes": 1.0, "jitter": 0.9, "gap_ms": 1.0, "pause_ms": 0.0},
        **{"spread_ms": 0.0, "size": 0.0, "offset_ms": 0.0, "stretch": 1.0, "envelope": "flat", "concurrency": 1},
    }
    return {**blank, **row, **changes}


def _burst_row(row: Row, bursts: int, lanes: float, jitter: float, envelope: str, cold_us: NDArray[np.int64]) -> Row:
    cell_s = MONTH_S / bursts
    rounds = max(np.ceil(row["requests"] / bursts / max(np.floor(lanes), 1.0)), 1.0)
    room_s = max(0.6 * (cell_s - 65.0), 0.3 * cell_s)
    gap_s = min(20.0, 0.7 * room_s / rounds)
    pause_s = min(1.5 * float(np.quantile(cold_us, 0.95)) / 1e6, 0.3 * room_s) if rounds > 1 else 0.0
    run_s = min(row["run_ms"] / 1000.0, 100.0 * gap_s, 0.5 * cell_s)
    spread_s = min(0.1, 0.2 * gap_s, run_s) if lanes > 1 else 0.0
    busy = run_s / gap_s if rounds > 1 else 0.0
    concurrency = next((c for c in CONCURRENCIES if busy * 2.0 <= c or c == CONCURRENCIES[-1]), 1)
    seconds = {"gap_ms": gap_s, "pause_ms": pause_s, "spread_ms": spread_s, "run_ms": run_s}
    changes = {name: 1000.0 * value for name, value in seconds.items()}
    return _process(
        row, bursts=bursts, lanes=lanes, jitter=jitter, envelope=envelope, concurrency=concurrency, **changes
    )


def fit_region_2(figure: pl.DataFrame, progress: Callable[[int, int], None] = lambda done, total: None) -> pl.DataFrame:
    """The functions of Region 2 from Fig 14 (columns trigger, requests_31d, cold_starts_31d); takes some minutes."""
    rows = attributes(with_hidden(figure))
    for row, run_ms in zip(rows, run_times_ms(rows), strict=True):
        row["run_ms"] = float(run_ms)
        row["concurrency"] = 1
        row["size"] = 0.0
    fitter = Fitter(rows)
    out = []
    for index, row in enumerate(rows):
        out.append(fitter.fit(row, index))
        progress(index + 1, len(rows))
    return pl.DataFrame(out, infer_schema_length=None)
