"""The functions of a region and the processes that fire them.

Region 2: `calibration/functions_r2.csv`, one row a function of Fig 14 (requests and cold starts of 31 days, trigger),
74 hidden ones added, with runtime, class and a process fitted by simulation (`fit_functions.py`). The other regions
publish no functions; theirs take requests from Fig 3a, triggers and classes from Region 2, and the process of the
Region 2 function of the same trigger with the nearest number of requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nonet.coldstart._random_kernels import keys, mix64, uniforms
from nonet.coldstart.generating import envelopes
from nonet.coldstart.generating._arrival_kernels import BURSTS, POISSON, RUN_TABLE, STEADY
from nonet.coldstart.generating.curves import curve, table
from nonet.coldstart.generating.triggers import TRIGGERS
from nonet.coldstart.simulating.calls import Functions

KINDS = {"bursts": BURSTS, "steady": STEADY, "poisson": POISSON}
MONTH_US = 31 * 86_400_000_000
RUN_SIGMA = 0.25
POOL_CLASSES = ("300-128", "400-256", "600-512", "1000-1024", "other")
CLASS_SIZE = {"300-128": (300, 128), "400-256": (400, 256), "600-512": (600, 512), "1000-1024": (1000, 1024),
              "other": (2200, 4096)}  # fmt: skip

PROCESS = np.dtype(
    [
        ("key", np.uint64),
        ("requests", np.int64),
        ("bursts", np.int64),
        ("lanes", np.float64),
        ("jitter", np.float64),
        ("gap_us", np.float64),
        ("pause_us", np.float64),
        ("spread_us", np.float64),
        ("size", np.float64),
        ("offset_us", np.float64),
        ("stretch", np.float64),
        ("longest_us", np.float64),
        ("run_us", np.float64),
        ("envelope", np.int32),
        ("kind", np.int32),
    ]
)
"""One function's process (`_arrival_kernels.py`). `size` is requests of a spike, or requests per second of POISSON."""


@dataclass(frozen=True)
class FunctionTable:
    """Functions of one region with their processes.

    Attributes:
        frame: one row a function: function, trigger, runtime, class, concurrency, requests, cold_starts (published,
            31 days).
        process: PROCESS[F].
    """

    frame: pl.DataFrame
    process: NDArray[np.void]

    def functions(self) -> Functions:
        """As the simulator wants them. Pool classes are rows of POOL_CLASSES; Custom images have no pool."""
        frame = self.frame
        size = [CLASS_SIZE[name] for name in frame["class"]]
        pool = [
            -1 if runtime == "Custom" else POOL_CLASSES.index(name)
            for runtime, name in frame.select("runtime", "class").iter_rows()
        ]
        return Functions(
            names=frame["function"].to_list(),
            memory_mb=np.array([memory for _, memory in size], dtype=np.int32),
            cpu_millicores=np.array([cpu for cpu, _ in size], dtype=np.int32),
            concurrency=frame["concurrency"].to_numpy().astype(np.int32),
            pool_class=np.array(pool, dtype=np.int32),
            trigger=frame["trigger"].to_list(),
            runtime=frame["runtime"].to_list(),
        )

    def sample(self, scale: float) -> FunctionTable:
        """Every (1 / scale)-th function of those sorted by trigger and requests.

        Where the sample begins decides which of the few largest functions are in it (one makes two thirds of Region 2's
        requests). Of 64 beginnings in the first step, taken is the one whose cold starts by trigger are near to
        `scale` times all, and whose requests are few: a sample is for looking at cold starts without the bulk of the
        largest functions.
        """
        if scale >= 1.0:
            return self
        order = self.frame.with_row_index("row").sort("trigger", "requests", "row")["row"].to_numpy()
        num = max(round(len(order) * scale), 1)
        trigger = self.frame["trigger"].to_numpy()
        cold = self.frame["cold_starts"].to_numpy().astype(np.float64)
        requests = self.frame["requests"].to_numpy().astype(np.float64)
        best, least = order[:num], np.inf
        for start in (np.arange(64) + 0.5) / 64:
            chosen = np.sort(order[((np.arange(num) + start) * len(order) / num).astype(np.int64)])
            miss = max(
                abs(cold[chosen][trigger[chosen] == t].sum() - scale * cold[trigger == t].sum()) for t in set(trigger)
            )
            loss = miss / cold.sum() + 0.5 * requests[chosen].sum() / requests.sum()
            if loss < least:
                best, least = chosen, loss
        return FunctionTable(self.frame[best.tolist()], self.process[best])


def run_factors() -> NDArray[np.float64]:
    """Quantiles of the execution time over its mean within a function, float64[RUN_TABLE] (log-normal, sigma 0.25)."""
    from scipy import stats

    rank = (np.arange(RUN_TABLE) + 0.5) / RUN_TABLE
    values = np.exp(RUN_SIGMA * stats.norm.ppf(rank))
    return values / values.mean()


def process_of(frame: pl.DataFrame, seed: int, region: int) -> NDArray[np.void]:
    """Processes from the columns of `calibration/functions_r2.csv`; keys by row, so none depends on others."""
    process = np.zeros(frame.height, dtype=PROCESS)
    for name in ("requests", "bursts"):
        process[name] = frame[name].to_numpy().astype(np.int64)
    for name in ("lanes", "jitter", "size", "stretch"):
        process[name] = frame[name].to_numpy()
    for name in ("gap", "pause", "spread", "run", "offset"):
        process[f"{name}_us"] = frame[f"{name}_ms"].to_numpy() * 1000.0
    process["kind"] = [KINDS[name] for name in frame["kind"]]
    process["envelope"] = [envelopes.NAMES.index(name) for name in frame["envelope"]]
    process["key"] = keys(seed, 7000 + region, frame.height)
    rounds = np.ceil(
        np.ceil(process["requests"] / np.maximum(process["bursts"], 1)) / np.maximum(np.floor(process["lanes"]), 1)
    )
    process["longest_us"] = process["gap_us"] * (rounds + 1) + process["pause_us"] + process["spread_us"]
    return process


@lru_cache(maxsize=2)
def region_2() -> pl.DataFrame:
    """The calibrated functions of Region 2, 2,418 rows."""
    frame = table("functions_r2")
    return frame.with_columns(pl.Series("function", [f"r2-f{i:04d}" for i in range(frame.height)]))


@lru_cache(maxsize=4)
def other_region(region: str) -> pl.DataFrame:
    """Functions of a region of which only the distribution of requests is published, in the columns of `region_2`."""
    row = table("regions").filter(pl.col("region") == region)
    num, total = int(row["functions"][0]), float(row["requests"][0])
    rank = (np.arange(num) + 0.5) / num
    requests = np.maximum(np.round(31.0 * curve("3a", region).quantile(rank)), 1.0)
    # The median day of the largest functions says little about their sum, so the top hundredth carries the difference.
    top = rank > 0.99
    requests[top] *= max((total - requests[~top].sum()) / requests[top].sum(), 1e-3)
    requests = np.maximum(np.round(requests), 1.0)
    base = region_2()
    order = np.argsort(uniforms(np.uint64(mix64(5, int(region[1:]), 1)), 0, num))
    share = np.array([base.filter(pl.col("trigger") == name).height for name in TRIGGERS]) / base.height
    trigger = np.searchsorted(np.cumsum(share), (np.arange(num) + 0.5) / num)[order]
    # No timer fires more often than Region 2's fastest: functions beyond that swap their trigger with small ones.
    timers = base.filter(pl.col("trigger") == "TIMER-A")["requests"].to_numpy()
    fast = np.flatnonzero((trigger == TRIGGERS.index("TIMER-A")) & (requests > timers.max()))
    others = np.flatnonzero((trigger != TRIGGERS.index("TIMER-A")) & (requests <= timers.max()))[: len(fast)]
    trigger[fast], trigger[others] = trigger[others], trigger[fast]
    hours = table("hours").filter(pl.col("region") == region)
    wanted = float(hours["cold_starts"].to_numpy().sum())
    _leave_room(trigger, requests, wanted)
    parts = []
    for i, name in enumerate(TRIGGERS):
        models = base.filter(pl.col("trigger") == name).sort("requests")
        mine = requests[trigger == i]
        near = np.abs(np.log(mine)[:, None] - np.log(models["requests"].to_numpy())[None, :]).argmin(axis=1)
        parts.append(_like(models[near.tolist()], mine))
    frame = _with_total(pl.concat(parts), wanted)
    prefix = region.lower()
    return frame.with_columns(pl.Series("function", [f"{prefix}-f{i:04d}" for i in range(frame.height)]))


def _leave_room(trigger: NDArray[np.int64], requests: NDArray[np.float64], wanted: float) -> None:
    """Swap triggers until the timers by themselves, cold at each call, stay below a region's cold starts.

    The most called of those slower than the keep-alive changes with the least called function that is none.
    """
    timer = TRIGGERS.index("TIMER-A")
    cold = np.where(requests < MONTH_US / 60e6, requests, 0.0)
    while float(cold[trigger == timer].sum()) + np.count_nonzero(trigger != timer) > wanted:
        most = int(np.argmax(np.where(trigger == timer, cold, -1.0)))
        least = int(np.argmin(np.where(trigger != timer, requests, np.inf)))
        if requests[least] >= cold[most]:
            return
        trigger[most], trigger[least] = trigger[least], trigger[most]


def _with_total(frame: pl.DataFrame, wanted: float) -> pl.DataFrame:
    """Bursts and cold starts of all but timers scaled to the region's published cold starts, as far as that goes."""
    cold, requests, bursts = (
        frame[name].to_numpy().astype(np.float64) for name in ("cold_starts", "requests", "bursts")
    )
    free = (frame["trigger"] != "TIMER-A").to_numpy() & (bursts > 0)
    low, high = 1e-4, 1e4
    scaled = cold
    for _ in range(60):
        factor = np.sqrt(low * high)
        scaled = np.where(free, np.clip(np.round(cold * factor), 1.0, requests), cold)
        low, high = (factor, high) if scaled.sum() < wanted else (low, factor)
    bursts = np.where(free, np.clip(np.round(bursts * scaled / cold), 1.0, requests), bursts)
    return frame.with_columns(
        pl.Series("cold_starts", scaled.astype(np.int64)), pl.Series("bursts", bursts.astype(np.int64))
    )


def _like(models: pl.DataFrame, requests: NDArray[np.float64]) -> pl.DataFrame:
    """The models' rows with other numbers of requests; bursts and cold starts follow in proportion."""
    factor = requests / models["requests"].to_numpy()
    bursts = np.clip(
        np.round(models["bursts"].to_numpy() * factor), np.minimum(models["bursts"].to_numpy(), 1), requests
    )
    cold = np.clip(np.round(models["cold_starts"].to_numpy() * factor), 1, requests)
    steady = (models["kind"] == "steady").to_numpy()
    bursts = np.where(steady, models["bursts"].to_numpy(), bursts)
    # A periodic timer: whole seconds where it is slower than one a second; warm when no slower than the keep-alive.
    timer = ((models["trigger"] == "TIMER-A") & (models["bursts"] == models["requests"])).to_numpy()
    period_s = MONTH_US / 1e6 / requests
    period_s = np.where(period_s >= 2.0, np.floor(period_s), period_s)
    stretch = np.where(timer, period_s * requests / (MONTH_US / 1e6), models["stretch"].to_numpy())
    cold = np.where(timer, np.where(period_s - models["run_ms"].to_numpy() / 1000.0 > 60.0, requests, 1.0), cold)
    bursts = np.where(timer, requests, bursts)
    return models.with_columns(
        pl.Series("requests", requests.astype(np.int64)),
        pl.Series("bursts", bursts.astype(np.int64)),
        pl.Series("cold_starts", cold.astype(np.int64)),
        pl.Series("stretch", stretch),
        pl.Series("offset_ms", np.where(timer, 0.0, models["offset_ms"].to_numpy())),
        pl.Series("gap_ms", models["gap_ms"].to_numpy() / np.maximum(factor, 1.0)),
    )
