"""Pools made of what a workload shows."""

from __future__ import annotations

import numpy as np
import pytest

from nonet.coldstart.simulating.calls import Calls, ColdTimes, Functions, Workload
from nonet.coldstart.simulating.observed_pools import observed_pools
from nonet.common.errors import InputError


def workload(pool_class: list[int], allocation_us: list[int]) -> Workload:
    num = len(pool_class)
    functions = Functions.make(num, pool_class=np.array(pool_class))
    samples = np.tile(allocation_us, num)
    at = np.arange(num + 1) * len(allocation_us)
    cold = ColdTimes(at, samples, np.full(len(samples), 1000))
    calls = Calls(np.array([0, 1_000_000_000]), np.zeros(2, np.int64), np.zeros(2, np.int32))
    return Workload.from_arrays(calls, functions, cold)


def test_latencies_are_observed_and_sizes_follow_the_takes() -> None:
    pools = observed_pools(workload([0, 0, 1], [100, 300, 20_000, 8_000_000]), np.array([500, 500, 0]))
    assert pools.latency_us.tolist() == [[200, 20_000]] * 2
    assert pools.scratch_us.tolist() == pools.replenish_us.tolist() == [8_000_000] * 2
    # 1,000 takes in 1,000 s, replaced after 8 s: 80 in ten such times; a class without any keeps one pod
    assert pools.target.tolist() == [[80, 80], [1, 1]]


def test_the_papers_latencies_stand_in() -> None:
    pools = observed_pools(workload([0], [0]), np.array([1]))
    assert (pools.latency_us.tolist(), pools.scratch_us.tolist()) == ([[200, 15_000]], [10_200_000])


def test_no_class_no_pool() -> None:
    with pytest.raises(InputError, match="no function of this workload has a class"):
        observed_pools(workload([-1, -1], [5]), np.array([1, 1]))
