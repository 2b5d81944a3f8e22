"""Sizes of pools of prepared pods (OpenWhisk stem cells), by runtime and memory: what they would save and take.

A cold start that finds a prepared pod of its runtime and memory is spared its allocation; code and dependencies still
take their time. The pod is replaced in the time that an allocation takes. Sizes are chosen on the allocations of the
earlier part of a trace (DROPS, `simulating.pool_sizing`) and tried on those of the later part, with the block bootstrap
of `recommend`; every pool holds its pods all the time, and that memory is its price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nonet.coldstart.advising.configs import StemCells
from nonet.coldstart.advising.costs import MONTH_S, Prices, load_prices
from nonet.coldstart.advising.history import read_history
from nonet.coldstart.advising.intervals import ratio_interval
from nonet.coldstart.advising.keep_alive import infer_keep_alive
from nonet.coldstart.advising.recommend import Parts, region_of, split_trace
from nonet.coldstart.advising.trials import workload_of
from nonet.coldstart.simulating.calls import Workload
from nonet.coldstart.simulating.engine import simulate
from nonet.coldstart.simulating.platform import Platform
from nonet.coldstart.simulating.policies.fixed import KeepAlive
from nonet.coldstart.simulating.pool_sizing import pods_needed, pool_size
from nonet.common.errors import InputError

if TYPE_CHECKING:
    from nonet.coldstart.trace.store import Trace

DEFAULT_LEVEL = 0.95
_MIN_ALLOCATIONS = 20


@dataclass(frozen=True)
class PoolSize:
    """A pool that pays.

    Attributes:
        kind, memory_mb: runtime and memory of its pods.
        size: pods that it holds; `low_size`, `high_size`: what half, and all, of the earlier allocations needed.
        num_functions: that it serves.
        num_cold, num_served: cold starts of the later part, and those that find a pod in the pool.
        wait_saving: share of all cold start time of the region that is saved; `low`, `high`: its 95 % interval.
        extra_gb_s_per_day: memory of the pool.
        usd_per_month: price of that memory less what the saved waiting is worth; negative pays.
    """

    kind: str
    memory_mb: int
    size: int
    low_size: int
    high_size: int
    num_functions: int
    num_cold: int
    num_served: int
    wait_saving: float
    low: float
    high: float
    extra_gb_s_per_day: float
    usd_per_month: float

    def stem_cells(self) -> StemCells:
        """The pool as OpenWhisk has it."""
        return StemCells(
            self.kind, self.memory_mb, self.size, min(self.low_size, self.size), max(self.high_size, self.size)
        )


@dataclass(frozen=True, eq=False)
class _Starts:
    """On-demand starts of a part, by time: moments, functions, how long each allocation and each start takes."""

    at_us: np.ndarray
    function: np.ndarray
    allocation_us: np.ndarray
    total_us: np.ndarray


def size_pools(
    trace: Trace,
    *,
    region: str | None = None,
    keep_alive_us: int | None = None,
    level: float = DEFAULT_LEVEL,
    prices: Prices | None = None,
    seed: int = 0,
) -> list[PoolSize]:
    """Pools that pay, most saving first; none where no runtime or no allocation time is known.

    Args:
        trace: with requests and cold starts.
        region: may be left out when there is only one.
        keep_alive_us: inferred by default.
        level: share of the earlier allocations that a pool serves at once.
        prices: by default "cluster".
        seed: of the simulation and the draws.

    Raises:
        InputError: as `recommend`; a level outside of (0, 1).
    """
    if not 0 < level < 1:
        raise InputError(f"the level of a pool must lie between 0 and 1, got {level:g}")
    region = region_of(trace, region)
    history = read_history(trace, region)
    kept_us = infer_keep_alive(history, keep_alive_us).keep_alive_us
    parts = split_trace(workload_of(trace, region), history, kept_us)
    prices = prices or load_prices("cluster")
    earlier, later = (_starts(part, kept_us, seed) for part in (parts.earlier, parts.later))
    counted = (later.at_us >= parts.edges[0]) & (later.at_us <= parts.edges[-1])
    found = [
        _sized(kind, memory_mb, rows, parts, earlier, later, counted, level, prices, seed)
        for (kind, memory_mb), rows in _classes(parts.later).items()
    ]
    pays = [pool for pool in found if pool is not None and pool.low > 0 and pool.usd_per_month < 0]
    return sorted(pays, key=lambda pool: -pool.wait_saving)


def _classes(workload: Workload) -> dict[tuple[str, int], list[int]]:
    classes: dict[tuple[str, int], list[int]] = {}
    functions = workload.functions
    for f, (kind, memory_mb) in enumerate(zip(functions.runtime, functions.memory_mb.tolist(), strict=True)):
        if kind.lower() not in ("unknown", "custom", "blackbox"):
            classes.setdefault((kind, memory_mb), []).append(f)
    return classes


def _starts(workload: Workload, keep_alive_us: int, seed: int) -> _Starts:
    from nonet.coldstart.simulating.layout import L_ALLOCATION, L_CREATE, L_FUNCTION, L_ORIGIN, L_READY, PREWARMED

    pods = simulate(workload, KeepAlive(), Platform(keep_alive_us=keep_alive_us), seed=seed).pods
    if pods is None:
        raise ValueError("the simulation did not record its pods")
    pods = pods[pods[:, L_ORIGIN] != PREWARMED]
    total_us = pods[:, L_READY] - pods[:, L_CREATE]
    return _Starts(pods[:, L_CREATE], pods[:, L_FUNCTION], pods[:, L_ALLOCATION], total_us)


def _sized(
    kind: str,
    memory_mb: int,
    rows: Sequence[int],
    parts: Parts,
    earlier: _Starts,
    later: _Starts,
    counted: np.ndarray,
    level: float,
    prices: Prices,
    seed: int,
) -> PoolSize | None:
    """The pool of one class, None where there is too little to learn from or nothing to save."""
    before, after = (np.flatnonzero(np.isin(starts.function, rows)) for starts in (earlier, later))
    if len(before) < _MIN_ALLOCATIONS or not earlier.allocation_us[before].any():
        return None
    create_us = int(earlier.allocation_us[before].mean())
    needed = pods_needed(earlier.at_us[before], create_us)
    size = pool_size(earlier.at_us[before], create_us, level)
    served = np.zeros(len(later.at_us), bool)
    served[after] = pods_needed(later.at_us[after], create_us) <= size
    served &= counted
    block = np.clip(np.searchsorted(parts.edges, later.at_us, side="right") - 1, 0, len(parts.edges) - 2)
    saved_s = np.bincount(block[served], later.allocation_us[served] / 1e6, minlength=len(parts.edges) - 1)
    all_s = np.bincount(block[counted], later.total_us[counted] / 1e6, minlength=len(parts.edges) - 1) / parts.coverage
    low, high = ratio_interval(saved_s, all_s, seed=seed)
    span_s = float(parts.edges[-1] - parts.edges[0]) / 1e6
    gb = size * memory_mb / 1024
    usd_per_s = gb * prices.provisioned_usd_per_gb_s - saved_s.sum() / span_s * prices.wait_usd_per_s
    return PoolSize(
        kind=kind,
        memory_mb=memory_mb,
        size=size,
        low_size=int(np.median(needed)),
        high_size=int(needed.max()),
        num_functions=len(rows),
        num_cold=int(counted[after].sum()),
        num_served=int(served.sum()),
        wait_saving=float(saved_s.sum() / all_s.sum()) if all_s.sum() else 0.0,
        low=low,
        high=high,
        extra_gb_s_per_day=gb * 86_400,
        usd_per_month=float(usd_per_s) * MONTH_S,
    )
