"""Idle times and the cheapest keep-alive against a platform that is played through."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.coldstart.simulating._overlap_kernels import peaks_by_function
from nonet.coldstart.simulating.idle_times import IdleTimes, cheapest_keep_alive_us

CALLS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 15)), min_size=1, max_size=40).map(sorted)
END = 90


def played(calls: list[tuple[int, int]], keep_alive: int) -> tuple[int, int]:
    """Cold starts and idle time of a fixed keep-alive: a list of pods, each free since some moment."""
    pods: list[int] = []
    cold = idle = 0
    for at, run in calls:
        alive = [free for free in pods if free > at or at - free <= keep_alive]
        idle += keep_alive * (len(pods) - len(alive))
        pods = alive
        ready = [free for free in pods if free <= at]
        if ready:
            pods.remove(max(ready))
            idle += at - max(ready)
        else:
            cold += 1
        pods.append(at + run)
    return cold, idle + sum(min(keep_alive, max(0, END - free)) for free in pods)


@settings(deadline=None)
@given(CALLS, st.integers(0, 40))
def test_one_pass_answers_every_keep_alive(calls: list[tuple[int, int]], keep_alive: int) -> None:
    idle = IdleTimes.of(np.array([a for a, _ in calls]), np.array([r for _, r in calls]), END)
    assert (idle.num_cold(keep_alive), idle.idle_us(keep_alive)) == played(calls, keep_alive)


@settings(deadline=None)
@given(CALLS, st.floats(0.1, 50), st.integers(0, 40))
def test_no_other_keep_alive_costs_less(calls: list[tuple[int, int]], cold_s: float, longest: int) -> None:
    idle = IdleTimes.of(np.array([a for a, _ in calls]), np.array([r for _, r in calls]), END)

    def cost(keep_alive: int) -> float:
        cold, waited = played(calls, keep_alive)
        return cold * cold_s + waited

    best = cheapest_keep_alive_us(idle, cold_s, 1.0, max_us=longest, gb_s_per_cold_s=1e-6)
    assert 0 <= best <= longest
    assert cost(best) <= min(cost(t) for t in range(longest + 1)) + 1e-6


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(0, 15)), max_size=40).map(sorted))
def test_peaks_count_what_is_under_way(calls: list[tuple[int, int, int]]) -> None:
    function, begin = np.array([f for f, _, _ in calls], np.int64), np.array([a for _, a, _ in calls], np.int64)
    end = begin + np.array([r for _, _, r in calls], np.int64)
    got = peaks_by_function(function, begin, end, 3)
    for f in range(3):
        own = [(a, a + r) for g, a, r in calls if g == f]
        under_way = [sum(a <= at and e > at for a, e in own) for at, _ in own]
        empty = [sum(a == at and e == at for a, e in own) for at, _ in own]
        assert (
            max(under_way, default=0)
            <= got[f]
            <= max((u + z for u, z in zip(under_way, empty, strict=True)), default=0)
        )
        if all(e > a for a, e in own):
            assert got[f] == max(under_way, default=0)
