"""The empirical law of idle times, and the keep-alive that costs least under it (specification A5.2 and A6.2).

With the most recently used pod first, which pod serves a call does not depend on the keep-alive: a call is cold when
the pod that it would find has been idle for longer. So one pass gives the idle times for every keep-alive at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nonet.coldstart.simulating._idle_kernels import NO_POD, idle_gaps_kernel

Times: TypeAlias = NDArray[np.int64]

GB_S_PER_COLD_S = 99.69
"""Idle GB s worth as much as one second of cold start (FeMux, EuroSys 2026)."""


@dataclass(frozen=True, slots=True)
class IdleTimes:
    """Idle times of the pods of one function that are never deleted.

    Attributes:
        reused_us: sorted (n,), idle times that ended with a call.
        unused_us: (m,), idle times that lasted until the end of the window.
        num_first: calls that found no idle pod at all; cold whatever the keep-alive.
        call_us: (calls,) idle time found by each call, -1 = none.
    """

    reused_us: Times
    unused_us: Times
    num_first: int
    call_us: Times

    @classmethod
    def of(cls, arrive_us: Times, run_us: Times, end_us: int) -> IdleTimes:
        """From the calls (n,) of one function, in order; the window ends at `end_us`.

        >>> idle = IdleTimes.of(np.array([0, 10, 12, 40]), np.array([5, 5, 5, 1]), 100)
        >>> idle.reused_us.tolist(), idle.unused_us.tolist(), idle.num_first
        ([5, 23], [85, 59], 2)
        """
        gaps, left = idle_gaps_kernel(np.ascontiguousarray(arrive_us), np.ascontiguousarray(run_us))
        return cls(np.sort(gaps[gaps != NO_POD]), np.maximum(end_us - left, 0), int(np.sum(gaps == NO_POD)), gaps)

    def num_cold(self, keep_alive_us: int) -> int:
        """Cold starts under a fixed keep-alive; idle exactly the keep-alive is still warm."""
        return self.num_first + len(self.reused_us) - int(np.searchsorted(self.reused_us, keep_alive_us, side="right"))

    def idle_us(self, keep_alive_us: int) -> int:
        """Idle time paid for under a fixed keep-alive."""
        return int(np.minimum(self.reused_us, keep_alive_us).sum() + np.minimum(self.unused_us, keep_alive_us).sum())


def cheapest_keep_alive_us(
    idle: IdleTimes, cold_s: float, memory_gb: float, *, max_us: int, gb_s_per_cold_s: float = GB_S_PER_COLD_S
) -> int:
    """The smallest keep-alive in [0, max_us] that minimises `cold starts * cold_s + idle GB s / gb_s_per_cold_s`.

    The cost rises between idle times and falls at them, so only 0 and the idle times themselves can be minima.
    O(n log n).

    >>> idle = IdleTimes(np.array([30_000_000] * 9 + [9_000_000_000]), np.array([]), 1, np.array([]))
    >>> cheapest_keep_alive_us(idle, cold_s=1.0, memory_gb=0.125, max_us=3_600_000_000)
    30000000
    """
    candidates = np.unique(np.concatenate([[0], idle.reused_us[idle.reused_us <= max_us]])).astype(np.int64)
    num_cold = len(idle.reused_us) - np.searchsorted(idle.reused_us, candidates, side="right")
    idle_us = _clipped_sums(idle.reused_us, candidates) + _clipped_sums(np.sort(idle.unused_us), candidates)
    cost = num_cold * cold_s + idle_us * (memory_gb / 1e6 / gb_s_per_cold_s)
    return int(candidates[int(np.argmin(cost))])


def _clipped_sums(ordered: Times, limits: Times) -> NDArray[np.float64]:
    """sum(min(value, limit)) over the sorted values, for each limit."""
    below = np.searchsorted(ordered, limits, side="right")
    sums = np.concatenate([[0.0], np.cumsum(ordered, dtype=np.float64)])
    return np.asarray(sums[below] + (len(ordered) - below) * limits.astype(np.float64))
