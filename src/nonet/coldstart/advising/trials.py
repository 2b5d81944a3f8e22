"""Policies tried on a part of a trace, with their numbers by function and by block of time.

Functions do not touch each other here (no memory cap, no pools), so one simulation tells for every function what it
would gain, whichever functions take part in the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nonet.coldstart.simulating._overlap_kernels import peaks_by_function
from nonet.coldstart.simulating.calls import Calls, ColdTimes, Workload
from nonet.coldstart.simulating.engine import simulate
from nonet.coldstart.simulating.platform import Platform
from nonet.coldstart.simulating.policies.base import Orders, RulePolicy, Setup, TickView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nonet.coldstart.simulating.calls import Functions
    from nonet.coldstart.trace.store import Trace

_MB_US_TO_GB_S = 1 / (1024 * 1e6)
UNKNOWN_COLD_US = 1_000_000
"""A cold start of a trace that tells no duration."""


class Concurrency(RulePolicy):
    """Requests that a pod runs at once, where functions have less.

    Args:
        concurrency: the least that every function gets.
        slowdown: share by which each further request on a pod slows a request down.
    """

    def __init__(self, concurrency: int, slowdown: float = 0.0) -> None:
        self.name = f"concurrency:{concurrency}"
        self._concurrency, self._slowdown = concurrency, slowdown

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy`."""
        setup.rules.concurrency[:] = np.maximum(setup.rules.concurrency, self._concurrency)
        setup.rules.slowdown[:] = self._slowdown


class MinScale(RulePolicy):
    """So many pods of every function are always there; those beyond go by the keep-alive.

    Args:
        pods: int64 (F,), or one number for all.
    """

    def __init__(self, pods: int | np.ndarray) -> None:
        self.name = "min-scale"
        self._pods = pods

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy`."""
        self._num, self._end_us = len(setup.functions), setup.end_us
        self.tick_us = setup.end_us - setup.start_us + 1

    def on_tick(self, now_us: int, view: TickView) -> Orders:
        """The one tick, at the beginning: hold the pods until the end."""
        ones = np.ones(self._num, np.int64)
        functions = np.arange(self._num, dtype=np.int64)
        return Orders(functions, ones * now_us, ones * (self._end_us + 1), ones * self._pods, ones > 0)


def peak_pods(workload: Workload) -> np.ndarray:
    """Pods that each function's requests keep busy at once at most, one at least, int64 (F,)."""
    blocks = list(workload.blocks())
    function = np.concatenate([block.function for block in blocks] or [np.zeros(0, np.int32)])
    arrive_us = np.concatenate([block.arrive_us for block in blocks] or [np.zeros(0, np.int64)])
    run_us = np.concatenate([block.run_us for block in blocks] or [np.zeros(0, np.int64)])
    order = np.argsort(function, kind="stable")
    begin_us = arrive_us[order]
    peaks = peaks_by_function(function[order], begin_us, begin_us + run_us[order], len(workload.functions))
    return np.maximum(-(-peaks // workload.functions.concurrency), 1).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Trial:
    """What a policy did, by function.

    Attributes:
        cold: int64 (F, blocks), cold starts on demand that began in each block.
        wait_s: float64 (F,), seconds that requests waited for a pod, those included that only waited for the pod of
            another one.
        gb_s: float64 (F,), memory of all pods over the whole window, GB s.
    """

    cold: np.ndarray
    wait_s: np.ndarray
    gb_s: np.ndarray

    @property
    def num_cold(self) -> np.ndarray:
        """Cold starts of each function, int64 (F,)."""
        return self.cold.sum(axis=1)


def run_trial(workload: Workload, policy: RulePolicy, platform: Platform, edges: np.ndarray, *, seed: int = 0) -> Trial:
    """Simulate a policy; cold starts and requests before the first edge warm up and are not counted.

    Memory: 16 bytes a request and 64 a pod.

    Args:
        edges: int64 (blocks + 1,), ascending.
    """
    result = simulate(workload, policy, platform, seed=seed, record="requests")
    block = np.searchsorted(edges, result.cold_at_us, side="right") - 1
    block[result.cold_at_us == edges[-1]] = len(edges) - 2
    inside = (block >= 0) & (block < len(edges) - 1)
    num, num_blocks = len(workload.functions), len(edges) - 1
    place = result.cold_function[inside] * num_blocks + block[inside]
    cold = np.bincount(place, minlength=num * num_blocks).reshape(num, num_blocks)
    wait_s = _waits_s(workload, result.outcomes, int(edges[0]))
    pod_us = result.idle_us + result.busy_us + result.start_us_by_function
    memory_mb = workload.functions.memory_mb.astype(np.float64)
    return Trial(cold.astype(np.int64), wait_s, pod_us * memory_mb * _MB_US_TO_GB_S)


def _waits_s(workload: Workload, outcomes: np.ndarray | None, since_us: int) -> np.ndarray:
    """Seconds from arrival to execution of the requests that arrive from `since_us` on, by function."""
    if outcomes is None:
        raise ValueError("the simulation did not record its requests")
    wait_s, at = np.zeros(len(workload.functions)), 0
    for block in workload.blocks():
        begin_us = outcomes[at : at + len(block), 1]
        waited = np.where(block.arrive_us >= since_us, begin_us - block.arrive_us, 0)
        wait_s += np.bincount(block.function, waited / 1e6, minlength=len(wait_s))
        at += len(block)
    return wait_s


def workload_of(trace: Trace, region: str, cold_us: int = UNKNOWN_COLD_US) -> Workload:
    """The requests of a region; where the trace tells no cold start's duration, each takes `cold_us`.

    Raises:
        InputError: no requests, or an unknown region.
    """
    if trace.days("coldstart", region):
        return Workload.from_trace(trace, region)
    return _Untimed(trace, region, cold_us)


class _Untimed(Workload):
    """Requests of a region without cold start times."""

    def __init__(self, trace: Trace, region: str, cold_us: int) -> None:
        from nonet.coldstart.simulating.from_trace import read_functions

        self._trace, self._region = trace, region
        self.functions: Functions = read_functions(trace, region)
        self.cold_times = ColdTimes.constant(len(self.functions), cold_us)
        self.start_us, self.end_us = trace.start_us, trace.end_us

    def blocks(self) -> Iterator[Calls]:
        """See `Workload.blocks`."""
        from nonet.coldstart.simulating.from_trace import read_calls

        for calls, _ in read_calls(self._trace, self._region, self.functions.names):
            yield calls
