"""What a simulation found, and tables of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nonet.coldstart.simulating.layout import (
    L_ALLOCATION,
    L_CREATE,
    L_END,
    L_FUNCTION,
    L_ORIGIN,
    L_READY,
    NUM_BINS,
    PREWARMED,
)
from nonet.common.errors import InputError
from nonet.common.jsonable import dumps

if TYPE_CHECKING:
    import polars as pl

    from nonet.coldstart.simulating.calls import Functions
    from nonet.coldstart.simulating.platform import Platform

KINDS = ("warm", "cold", "piggybacked", "delayed")
_MB_US_TO_GB_S = 1.0 / (1024 * 1_000_000)


def bin_edges() -> np.ndarray:
    """Lower edges of the histograms' bins, int64 (928,): 0, 1, .., 15, then 16 to an octave.

    >>> bin_edges()[[3, 16, 17, 32, 33]].tolist()
    [3, 16, 17, 32, 34]
    """
    at = np.arange(NUM_BINS, dtype=np.int64)
    octave = np.maximum(at // 16 - 1, 0)
    return np.where(at < 16, at, (16 + at % 16) << octave)


@dataclass(frozen=True)
class Histogram:
    """Counts of integers >= 0 in log-spaced bins (`bin_edges`): a quantile is at most 1/16 too low.

    Args:
        counts: int64 (928,).
        unit: of the values, e.g. "us".
    """

    counts: np.ndarray
    unit: str = "us"

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self.counts.sum())

    def quantile(self, q: float) -> float:
        """Lower edge of the bin that holds the value of rank ceil(q * total); NaN without values."""
        if self.total == 0:
            return float("nan")
        rank = max(int(np.ceil(q * self.total)), 1)
        return float(bin_edges()[int(np.searchsorted(np.cumsum(self.counts), rank))])

    def share_below(self, value: float) -> float:
        """Share of values in bins whose lower edge is below `value`."""
        return float(self.counts[bin_edges() < value].sum() / self.total) if self.total else float("nan")

    def cdf(self) -> tuple[np.ndarray, np.ndarray]:
        """(upper edges of the bins that hold something, share of values below them)."""
        filled = np.flatnonzero(self.counts)
        upper = np.append(bin_edges(), np.int64(1) << 60)[filled + 1]
        return upper, np.cumsum(self.counts[filled]) / max(self.total, 1)

    def to_dict(self) -> dict[str, Any]:
        """Edges and counts of the bins that hold something."""
        filled = np.flatnonzero(self.counts)
        return {"unit": self.unit, "at_least": bin_edges()[filled].tolist(), "count": self.counts[filled].tolist()}


@dataclass(frozen=True, eq=False)
class Result:
    """One simulation. Times in microseconds; pods cost time within the window `start_us .. end_us` only.

    Requests: `num_requests = num_cold + num_piggybacked + num_delayed + num_warm + num_dropped`. A cold request is
    one for which a pod was started and that ran first on a pod that got ready; a piggy-backed one waited for a pod
    that another had started, a delayed one for a busy pod (or was put off). Pods: `num_starts` on demand (more than
    `num_cold` under scale rule "race"), `num_prewarms` by orders of the policy, of which `num_wasted_prewarms` served
    nothing.

    Attributes:
        policy, platform, seed, functions: what was simulated.
        cold_by_function, requests_by_function, dropped_by_function: int64 (F,), cold requests, requests, dropped
            requests.
        starts_by_function: int64 (F,), pods started on demand.
        idle_us, busy_us, start_us_by_function: int64 (F,), pod time idle, with a request, and until ready.
        response, wait: by kind ("warm", "cold", "piggybacked", "delayed"); end - arrival, and begin of execution -
            arrival.
        utility: of all pods, (last end - ready) / cold start time, in thousandths.
        allocation_us, rest_us: sums over all pods started.
        num_refused: pre-warms that did not fit. num_unused: speculative pods that served nothing. num_put_off: cold
            starts put off. deadline_misses: requests that waited longer than their policy's deadline.
        pods_mean, pods_max: float64 and int64 (minutes,), pods alive (starting, busy or idle); the largest number is
            taken at multiples of `sample_us`.
        pods: int64 (pods, 8) of all pods started, columns `layout.L_*`, by creation, then function; None when not
            recorded.
        outcomes: int64 (requests, 2), kind and begin of execution of every request, None when not recorded.
        pool_taken: int64 (classes, stages + 1), pods taken from each stage and (last column) made from scratch, or
            None.
        pool_idle_us: int64 (classes, stages), time within the window that pods of the pools were ready and waited, or
            None.
        pool_mb_us: the same times the memory of a pod of the class, MB us.
    """

    policy: str
    platform: Platform
    seed: int
    functions: Functions
    start_us: int
    end_us: int
    num_requests: int
    num_cold: int
    num_piggybacked: int
    num_delayed: int
    num_warm: int
    num_dropped: int
    num_starts: int
    num_prewarms: int
    num_wasted_prewarms: int
    num_refused: int
    num_unused: int
    num_put_off: int
    deadline_misses: int
    allocation_us: int
    rest_us: int
    cold_by_function: np.ndarray
    requests_by_function: np.ndarray
    dropped_by_function: np.ndarray
    starts_by_function: np.ndarray
    idle_us: np.ndarray
    busy_us: np.ndarray
    start_us_by_function: np.ndarray
    response: dict[str, Histogram]
    wait: dict[str, Histogram]
    utility: Histogram
    pods_mean: np.ndarray
    pods_max: np.ndarray
    sample_us: int
    pods: np.ndarray | None
    outcomes: np.ndarray | None
    pool_taken: np.ndarray | None
    pool_idle_us: np.ndarray | None
    pool_mb_us: int

    def _mb_us(self, time_us: np.ndarray) -> int:
        return sum(int(t) * int(m) for t, m in zip(time_us, self.functions.memory_mb, strict=True))

    @property
    def idle_mb_us(self) -> int:
        """Idle pod time of functions times memory, MB us."""
        return self._mb_us(self.idle_us)

    @property
    def busy_mb_us(self) -> int:
        """Memory of pods with a request, MB us."""
        return self._mb_us(self.busy_us)

    @property
    def start_mb_us(self) -> int:
        """Memory of starting pods, MB us."""
        return self._mb_us(self.start_us_by_function)

    @property
    def wasted_gb_s(self) -> float:
        """Wasted memory, GB s (1 GB = 1,024 MB): idle pods of functions, and pods that wait in the pools."""
        return (self.idle_mb_us + self.pool_mb_us) * _MB_US_TO_GB_S

    @property
    def pool_gb_s(self) -> float:
        """Memory of pods that wait in the pools, GB s."""
        return self.pool_mb_us * _MB_US_TO_GB_S

    @property
    def allocated_gb_s(self) -> float:
        """Starting, busy and idle together, and what waits in the pools, GB s."""
        return (self.idle_mb_us + self.busy_mb_us + self.start_mb_us + self.pool_mb_us) * _MB_US_TO_GB_S

    @property
    def cold_rate(self) -> float:
        """Cold requests per request; NaN without requests."""
        return self.num_cold / self.num_requests if self.num_requests else float("nan")

    @property
    def mean_pods(self) -> float:
        """Mean number of pods alive over the window."""
        total = int(self.idle_us.sum()) + int(self.busy_us.sum()) + int(self.start_us_by_function.sum())
        return total / max(self.end_us - self.start_us, 1)

    @property
    def mean_busy_pods(self) -> float:
        """Mean number of pods with a request over the window."""
        return int(self.busy_us.sum()) / max(self.end_us - self.start_us, 1)

    def cold_rates(self) -> np.ndarray:
        """Cold requests per request of every function, float64 (F,), NaN for functions without requests."""
        with np.errstate(invalid="ignore"):
            return self.cold_by_function / np.where(self.requests_by_function > 0, self.requests_by_function, np.nan)

    def all_response(self) -> Histogram:
        """Response times of all served requests."""
        return Histogram(sum((h.counts for h in self.response.values()), np.zeros(NUM_BINS, np.int64)))

    def _started(self) -> np.ndarray:
        if self.pods is None:
            raise InputError("this simulation did not record its pods; simulate with record='pods'")
        return self.pods[self.pods[:, L_ORIGIN] != PREWARMED]

    @property
    def cold_at_us(self) -> np.ndarray:
        """When each on-demand start began, int64 (num_starts,), ascending."""
        return self._started()[:, L_CREATE]

    @property
    def cold_function(self) -> np.ndarray:
        """Functions of the on-demand starts, int64 (num_starts,)."""
        return self._started()[:, L_FUNCTION]

    @property
    def cold_total_us(self) -> np.ndarray:
        """Durations of the on-demand starts, int64 (num_starts,)."""
        started = self._started()
        return started[:, L_READY] - started[:, L_CREATE]

    def summary(self) -> dict[str, Any]:
        """The numbers of the report as plain values: counts, rates, quantiles in seconds, memory, stages."""
        rates = self.cold_rates()
        rates = rates[~np.isnan(rates)]
        response, cold = self.all_response(), self.response["cold"]
        counts = {
            name: getattr(self, name)
            for name in (
                "num_requests", "num_cold", "num_piggybacked", "num_delayed", "num_warm", "num_dropped", "num_starts",
                "num_prewarms", "num_wasted_prewarms", "num_refused", "num_unused", "num_put_off", "deadline_misses",
            )
        }  # fmt: skip
        return {
            "policy": self.policy,
            "seed": self.seed,
            **counts,
            "cold_rate": self.cold_rate,
            "cold_rate_per_function": {
                f"p{q}": float(np.quantile(rates, q / 100)) if len(rates) else None for q in (50, 75, 90)
            },
            "response_s": {f"p{q}": response.quantile(q / 100) / 1e6 for q in (50, 90, 99)},
            "cold_response_s": {f"p{q}": cold.quantile(q / 100) / 1e6 for q in (50, 90, 99)},
            "wasted_gb_s": self.wasted_gb_s,
            "pool_gb_s": self.pool_gb_s,
            "allocated_gb_s": self.allocated_gb_s,
            "utility_p50": self.utility.quantile(0.5) / 1000,
            "allocation_s": self.allocation_us / 1e6,
            "rest_s": self.rest_us / 1e6,
            "mean_pods": self.mean_pods,
            "mean_busy_pods": self.mean_busy_pods,
            "max_pods": int(self.pods_max.max(initial=0)),
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """Summary, histograms, pods by minute and counts by function as JSON text."""
        by_function = {
            "function": list(self.functions.names),
            "requests": self.requests_by_function,
            "cold": self.cold_by_function,
            "dropped": self.dropped_by_function,
            "idle_us": self.idle_us,
        }
        whole = {
            "summary": self.summary(),
            "response": {kind: h.to_dict() for kind, h in self.response.items()},
            "wait": {kind: h.to_dict() for kind, h in self.wait.items()},
            "utility": {**self.utility.to_dict(), "unit": "1/1000"},
            "pods_mean": np.round(self.pods_mean, 3),
            "pods_max": self.pods_max,
            "by_function": by_function,
            "pool_taken": self.pool_taken,
        }
        return dumps(whole, indent=indent)

    def to_trace(self, path: str | Path, *, region: str = "default", overwrite: bool = False) -> None:
        """Write functions, on-demand starts and pods of the simulation as a trace (see `TraceWriter`).

        Code, dependency and scheduling times are null, since the simulation knows only their sum; pods alive at the
        end of the window have no end.

        Raises:
            InputError: pods were not recorded, or the folder is taken.
        """
        from nonet.coldstart.simulating.to_trace import write_simulation

        self._started()
        write_simulation(self, Path(path), region, overwrite)


def compare(results: Sequence[Result]) -> pl.DataFrame:
    """One row a result: what a policy costs and what it saves, beside the first one.

    Columns: policy, requests, cold, cold_rate, cold_vs_first (ratio), piggybacked, delayed, dropped, p50_s, p99_s,
    wasted_gb_s (of it pool_gb_s), allocated_gb_s, memory_vs_first (ratio of allocated), prewarms, wasted_prewarms,
    mean_pods, deadline_misses.

    Raises:
        InputError: no results.
    """
    import polars as pl

    if not results:
        raise InputError("nothing to compare: give at least one result")
    first = results[0]

    def ratio(value: float, base: float) -> float:
        return value / base if base else float("nan")

    return pl.DataFrame(
        [
            {
                "policy": r.policy,
                "requests": r.num_requests,
                "cold": r.num_cold,
                "cold_rate": r.cold_rate,
                "cold_vs_first": ratio(r.num_cold, first.num_cold),
                "piggybacked": r.num_piggybacked,
                "delayed": r.num_delayed,
                "dropped": r.num_dropped,
                "p50_s": r.all_response().quantile(0.5) / 1e6,
                "p99_s": r.all_response().quantile(0.99) / 1e6,
                "wasted_gb_s": r.wasted_gb_s,
                "pool_gb_s": r.pool_gb_s,
                "allocated_gb_s": r.allocated_gb_s,
                "memory_vs_first": ratio(r.allocated_gb_s, first.allocated_gb_s),
                "prewarms": r.num_prewarms,
                "wasted_prewarms": r.num_wasted_prewarms,
                "mean_pods": r.mean_pods,
                "deadline_misses": r.deadline_misses,
            }
            for r in results
        ]
    )


__all__ = ["KINDS", "L_ALLOCATION", "L_END", "Histogram", "Result", "bin_edges", "compare"]
