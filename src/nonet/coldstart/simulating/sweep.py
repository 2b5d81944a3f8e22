"""Many fixed keep-alives at once: cold starts and wasted memory as functions of the keep-alive (section A6.2).

Three exact ways, chosen function by function:

* cold starts take no time, concurrency 1, most recently used pod first: idle gaps do not depend on the keep-alive T,
  since the idle pods under T are those of an endless keep-alive that fell idle within T. One simulation gives all
  gaps g, overlapping calls or not, and then `cold(T) = pods + #{g > T}`, `idle(T) = sum of min(g, T)`.
* calls of a function never overlap: one pod; K ends of its last call are carried along, cold start durations included.
* else the engine, once for each keep-alive.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nonet.coldstart.simulating import layout as at
from nonet.coldstart.simulating import state as building
from nonet.coldstart.simulating._lane_kernels import count_last_gaps, run_lanes_kernel
from nonet.coldstart.simulating._sweep_kernels import sweep_block
from nonet.coldstart.simulating.calls import Calls, ColdTimes, Functions, Workload
from nonet.coldstart.simulating.engine import as_workload, check_block, prepare, simulate
from nonet.coldstart.simulating.platform import Platform
from nonet.coldstart.simulating.policies.base import NEVER_US
from nonet.coldstart.simulating.policies.fixed import KeepAlive
from nonet.common.errors import InputError

if TYPE_CHECKING:
    from nonet.coldstart.trace.store import Trace

METHODS = ("auto", "gaps", "engine")


@dataclass(frozen=True, eq=False)
class Sweep:
    """Results of K fixed keep-alives for F functions.

    Attributes:
        keep_alive_us: int64 (K,), ascending.
        requests: int64 (F,).
        cold: int64 (F, K), cold starts.
        idle_us: int64 (F, K), idle pod time within the window.
        memory_mb: int32 (F,).
        exact: bool (F,), whether the function's numbers are what the engine would give.
        by_engine: bool (F,), functions for which the engine ran K times.
    """

    keep_alive_us: np.ndarray
    requests: np.ndarray
    cold: np.ndarray
    idle_us: np.ndarray
    memory_mb: np.ndarray
    exact: np.ndarray
    by_engine: np.ndarray

    @property
    def num_cold(self) -> np.ndarray:
        """Cold starts of all functions, int64 (K,)."""
        return self.cold.sum(axis=0)

    @property
    def cold_rate(self) -> np.ndarray:
        """Cold starts per request, float64 (K,)."""
        return self.num_cold / max(int(self.requests.sum()), 1)

    @property
    def wasted_gb_s(self) -> np.ndarray:
        """Idle memory, float64 (K,), 1 GB = 1,024 MB."""
        return (self.memory_mb[:, None] * (self.idle_us / 1e6)).sum(axis=0) / 1024


def sweep(
    workload: Workload | Trace,
    keep_alive_us: Sequence[int],
    platform: Platform | None = None,
    *,
    seed: int = 0,
    method: str = "auto",
    region: str | None = None,
) -> Sweep:
    """Simulate fixed keep-alives together.

    Args:
        workload: as in `simulate`.
        keep_alive_us: any number of keep-alives; sorted, doubles removed.
        method: "auto" is exact. "gaps" takes the first way for every function, in one pass, whatever calls overlap:
            cold start durations then delay nobody, and `exact` is False for functions that have some or a concurrency
            above 1. "engine" runs the engine for each keep-alive.
        platform: as in `simulate`.
        seed: as in `simulate`.
        region: as in `simulate`.

    Raises:
        InputError: no keep-alive or a negative one, an unknown method, or "gaps" where pods are not picked by last
            use or depend on each other (memory cap, pools, waiting).

    >>> calls = Calls(np.array([0, 50, 200]) * 1_000_000, np.zeros(3, np.int64), np.zeros(3, np.int32))
    >>> result = sweep(Workload.from_arrays(calls), [10_000_000, 60_000_000, 600_000_000])
    >>> result.num_cold.tolist()
    [3, 2, 1]
    """
    source, platform = as_workload(workload, region), platform or Platform()
    keeps = np.unique(np.asarray(list(keep_alive_us), np.int64))
    if len(keeps) == 0 or int(keeps[0]) < 0 or int(keeps[-1]) > NEVER_US:
        raise InputError("sweep: give keep-alives between 0 and NEVER_US microseconds")
    if method not in METHODS:
        raise InputError(f"sweep: unknown method {method!r}; known: {', '.join(METHODS)}")
    apart = platform.scale_rule == "start" and platform.memory_cap_mb is None and platform.pools is None
    no_delay = (
        int(source.cold_times.mean_total_us.max(initial=0)) == 0
        and int(source.functions.concurrency.max(initial=1)) == 1
    )
    simple = apart and platform.pick == "mru"
    if method == "gaps" and not simple:
        raise InputError("sweep: method 'gaps' needs pick 'mru', scale_rule 'start', no memory cap and no pools")
    if method == "gaps" or (method == "auto" and simple and no_delay):
        return _by_gaps(source, keeps, platform, seed)
    if method == "auto" and apart:
        return _by_ends(source, keeps, platform, seed)
    everything = np.ones(len(source.functions), bool)
    return _by_engine(source, keeps, platform, seed, _empty(source, len(keeps)), everything)


def _empty(source: Workload, num: int) -> Sweep:
    functions = len(source.functions)
    return Sweep(
        np.zeros(num, np.int64),
        np.zeros(functions, np.int64),
        np.zeros((functions, num), np.int64),
        np.zeros((functions, num), np.int64),
        source.functions.memory_mb,
        np.ones(functions, bool),
        np.zeros(functions, bool),
    )


@dataclass
class _Undelayed(Workload):
    """A workload whose cold starts take no time and whose pods run one request at once."""

    whole: Workload

    def __post_init__(self) -> None:
        functions = self.whole.functions
        self.functions: Functions = replace(functions, concurrency=np.ones(len(functions), np.int32))
        self.cold_times = ColdTimes.constant(len(functions), 0)
        self.start_us, self.end_us = self.whole.start_us, self.whole.end_us

    def blocks(self) -> Iterator[Calls]:
        """See `Workload.blocks`."""
        return self.whole.blocks()


def _by_gaps(source: Workload, keeps: np.ndarray, platform: Platform, seed: int) -> Sweep:
    undelayed = _Undelayed(source)
    setup = prepare(undelayed, KeepAlive(NEVER_US), platform, seed)
    state = building.build_state(setup, record_pods=False, record_requests=False, thresholds=keeps)
    for block in undelayed.blocks():
        if len(block):
            check_block(block, setup)
            state.nums[at.N_CURSOR] = 0
            while run_lanes_kernel(state, block.arrive_us, block.run_us, block.function, 0, 0, 1) == at.GROW:
                state = building.enlarge(state)
    count_last_gaps(state)
    number, total = state.gaps[:, :, 0], state.gaps[:, :, 1]
    # Above k thresholds lies what was noted under k + 1, k + 2, ...
    longer = number[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    shorter_us = total.cumsum(axis=1)[:, :-1]
    cold = state.fn[:, at.F_STARTS][:, None] + longer
    plain = np.add.reduceat(source.cold_times.allocation_us + source.cold_times.rest_us, source.cold_times.at[:-1]) == 0
    return replace(
        _empty(source, len(keeps)),
        keep_alive_us=keeps,
        requests=state.fn[:, at.F_REQUESTS].copy(),
        cold=cold,
        idle_us=shorter_us + longer * keeps + state.last_gaps,
        exact=plain & (source.functions.concurrency == 1),
    )


def _by_ends(source: Workload, keeps: np.ndarray, platform: Platform, seed: int) -> Sweep:
    num, cold_times = len(source.functions), source.cold_times
    setup = prepare(source, KeepAlive(0), platform, seed)
    found = replace(_empty(source, len(keeps)), keep_alive_us=keeps)
    overlaps, ends = np.zeros(num, bool), np.zeros((num, len(keeps)), np.int64)
    total_us = cold_times.allocation_us + cold_times.rest_us
    for block in source.blocks():
        if len(block):
            check_block(block, setup)
            sweep_block(
                block.arrive_us, block.run_us, block.function, keeps, np.int64(seed),
                np.int64(platform.warm_overhead_us), cold_times.at, total_us, found.requests, overlaps,
                ends, found.cold, found.idle_us,
            )  # fmt: skip
    called = (found.requests > 0)[:, None]
    until = np.minimum(np.minimum(ends, NEVER_US) + keeps, source.end_us)
    found.idle_us[:] += np.where(called, until - np.minimum(ends, source.end_us), 0)
    return _by_engine(source, keeps, platform, seed, found, overlaps) if overlaps.any() else found


@dataclass
class _Some(Workload):
    """The calls of some functions."""

    whole: Workload
    chosen: np.ndarray

    def __post_init__(self) -> None:
        self.functions, self.cold_times = self.whole.functions, self.whole.cold_times
        self.start_us, self.end_us = self.whole.start_us, self.whole.end_us

    def blocks(self) -> Iterator[Calls]:
        """See `Workload.blocks`."""
        for block in self.whole.blocks():
            yield block if self.chosen.all() else block.take(self.chosen[block.function])


def _by_engine(
    source: Workload, keeps: np.ndarray, platform: Platform, seed: int, found: Sweep, chosen: np.ndarray
) -> Sweep:
    some = _Some(source, chosen)
    for k, keep_us in enumerate(keeps):
        result = simulate(some, KeepAlive(int(keep_us)), platform, seed=seed, record="none")
        found.cold[chosen, k] = result.cold_by_function[chosen]
        found.idle_us[chosen, k] = result.idle_us[chosen]
        found.requests[chosen] = result.requests_by_function[chosen]
    return replace(found, keep_alive_us=keeps, by_engine=chosen)
