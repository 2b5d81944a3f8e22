"""Final states of one or several engines into a `Result`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nonet.coldstart.simulating import layout as at
from nonet.coldstart.simulating.layout import State
from nonet.coldstart.simulating.policies.base import Setup
from nonet.coldstart.simulating.results import KINDS, Histogram, Result
from nonet.coldstart.simulating.view import pool_idle_us, pool_taken


def assemble(states: Sequence[State], setup: Setup, policy: str, record: str) -> Result:
    """Sum the states, each of other functions, in an order that does not depend on how functions were divided."""
    nums = sum((state.nums for state in states), np.zeros(at.NUM_NUMS, np.int64))
    fn = sum((state.fn for state in states), np.zeros((len(setup.functions), at.NUM_FN), np.int64))
    counts = sum((state.counts for state in states), np.zeros((at.NUM_COUNTS, at.NUM_BINS), np.int64))
    mean, largest = pods_over_time(
        sum((state.samples for state in states[1:]), states[0].samples.copy()),
        sum((state.course for state in states[1:]), states[0].course.copy()),
        int(states[0].nums[at.N_SAMPLE]),
        setup.end_us - setup.start_us,
    )
    pools = setup.rules.pools
    pool_us = pool_idle_us(states[0]) if pools is not None else None
    pool_mb = pools.pod_memory_mb(setup.functions) if pools is not None else np.zeros(0, np.int64)
    return Result(
        policy=policy,
        platform=setup.platform,
        seed=setup.seed,
        functions=setup.functions,
        start_us=setup.start_us,
        end_us=setup.end_us,
        num_requests=int(fn[:, at.F_REQUESTS].sum()),
        num_cold=int(nums[at.N_COLD]),
        num_piggybacked=int(nums[at.N_PIGGYBACKED]),
        num_delayed=int(nums[at.N_DELAYED]),
        num_warm=int(nums[at.N_WARM]),
        num_dropped=int(nums[at.N_DROPPED]),
        num_starts=int(nums[at.N_STARTS]),
        num_prewarms=int(nums[at.N_PREWARMS]),
        num_wasted_prewarms=int(nums[at.N_WASTED]),
        num_refused=int(nums[at.N_REFUSED]),
        num_unused=int(nums[at.N_UNUSED]),
        num_put_off=int(nums[at.N_PUT_OFF]),
        deadline_misses=int(nums[at.N_MISSES]),
        allocation_us=int(nums[at.N_ALLOCATION_US]),
        rest_us=int(nums[at.N_REST_US]),
        cold_by_function=fn[:, at.F_COLD].copy(),
        requests_by_function=fn[:, at.F_REQUESTS].copy(),
        dropped_by_function=fn[:, at.F_DROPPED].copy(),
        starts_by_function=fn[:, at.F_STARTS].copy(),
        idle_us=fn[:, at.F_IDLE_US].copy(),
        busy_us=fn[:, at.F_BUSY_US].copy(),
        start_us_by_function=fn[:, at.F_START_US].copy(),
        response={kind: Histogram(counts[at.H_RESPONSE + k]) for k, kind in enumerate(KINDS)},
        wait={kind: Histogram(counts[at.H_WAIT + k]) for k, kind in enumerate(KINDS)},
        utility=Histogram(counts[at.H_UTILITY], "1/1000"),
        pods_mean=mean,
        pods_max=largest,
        sample_us=int(states[0].nums[at.N_SAMPLE]),
        pods=None if record == "none" else _pods(states),
        outcomes=_outcomes(states) if record == "requests" else None,
        pool_taken=pool_taken(states[0]) if pools is not None else None,
        pool_idle_us=pool_us,
        pool_mb_us=0
        if pool_us is None
        else sum(int(t) * int(m) for t, m in zip(pool_us.sum(axis=1), pool_mb, strict=True)),
    )


def pods_over_time(
    samples: np.ndarray, course: np.ndarray, sample_us: int, window_us: int
) -> tuple[np.ndarray, np.ndarray]:
    """(mean float64, largest int64) number of pods alive in each minute that the window touches."""
    minutes = max(-(-window_us // at.MINUTE_US), 1)
    whole = np.cumsum(course[at.T_WHOLE])[:minutes]
    length = np.full(minutes, at.MINUTE_US, np.int64)
    length[-1] = max(window_us - (minutes - 1) * at.MINUTE_US, 1)
    # A pod that lives through the last, shorter minute ends at the edge of the window and is taken off there.
    mean = (course[at.T_PART][:minutes] + whole * at.MINUTE_US) / length
    alive = np.cumsum(samples[: window_us // sample_us + 1])
    minute = np.minimum(np.arange(len(alive), dtype=np.int64) * sample_us // at.MINUTE_US, minutes - 1)
    largest = np.zeros(minutes, np.int64)
    np.maximum.at(largest, minute, alive)
    return mean, largest


def _pods(states: Sequence[State]) -> np.ndarray:
    rows = np.concatenate([state.log[: state.nums[at.N_LOG]] for state in states])
    # Stable: pods of one function keep the order in which they were started.
    return rows[np.lexsort((rows[:, at.L_FUNCTION], rows[:, at.L_CREATE]))]


def _outcomes(states: Sequence[State]) -> np.ndarray:
    """Each shard holds rows for all requests and fills in its own."""
    num = int(sum(state.fn[:, at.F_REQUESTS].sum() for state in states))
    merged = np.zeros((num, 2), np.int64)
    for state in states:
        merged += np.pad(state.outcomes, ((0, max(num - len(state.outcomes), 0)), (0, 0)))[:num]
    return merged
