"""Strategies whose price the simulation charges: slower shared pods, and round trips to other regions."""

from __future__ import annotations

import numpy as np
import pytest

from nonet.coldstart.bench.random_traces import compare_with_plain
from nonet.coldstart.simulating.engine import simulate
from nonet.coldstart.simulating.platform import Platform
from nonet.coldstart.simulating.policies.concurrency_adjustment import ConcurrencyAdjustment
from nonet.coldstart.simulating.policies.cross_region import CrossRegion
from nonet.coldstart.simulating.policies.training import fit, split
from nonet.coldstart.simulating.regions import CombinedWorkload, Regions
from tests.coldstart.simulating.crafted import DAY_S, SECOND, poisson, tried, workload

RTT_US = 80_000


def test_more_requests_a_pod_start_fewer_pods() -> None:
    bursts = (np.arange(50, 2 * DAY_S, 3600.0)[:, None] + np.arange(12) * 0.01).ravel()
    # A pod is there before the burst, so that the burst shares it.
    whole = workload([np.concatenate([bursts, np.arange(40, 2 * DAY_S, 3600.0)])], run_s=2.0, cold_s=3.0)
    platform = Platform(scale_rule="piggyback")
    null, ours = tried(whole, "ka:60", platform), tried(whole, ConcurrencyAdjustment(0.1, 1.5), platform)
    assert ours.num_cold < 0.3 * null.num_cold
    # The price: the sixth request at once takes 1.5 times as long.
    slowest = 3 * SECOND
    assert ours.response["warm"].quantile(1.0) > 2.7 * SECOND > null.response["warm"].quantile(1.0)
    assert ours.response["warm"].quantile(1.0) <= slowest


def test_concurrency_changes_nothing_for_calls_that_never_meet() -> None:
    whole = workload([np.arange(0, 2 * DAY_S, 600.0)], run_s=2.0)
    null, ours = tried(whole, "ka:60"), tried(whole, ConcurrencyAdjustment(0.1, 1.5))
    assert ours.num_cold == null.num_cold
    assert ours.busy_us.tolist() == null.busy_us.tolist()


def regions(slow_cold_s: float, capacity: list[float] | None = None) -> tuple[CombinedWorkload, Platform]:
    slow = workload([poisson(1 / 600, 1), np.arange(0, 2 * DAY_S, 30.0)], cold_s=slow_cold_s, allocation_s=0.1)
    quick = workload([poisson(1 / 900, 2)], cold_s=0.2, allocation_s=0.1)
    both = Regions(["R1", "R3"], [[0, RTT_US], [RTT_US, 0]], capacity)
    return CombinedWorkload([slow, quick], both), Platform(regions=both)


def mean_start_us(result) -> float:  # type: ignore[no-untyped-def]
    """Mean cold start of those requests that had one."""
    return float(result.cold_total_us.sum()) / result.num_requests


def test_rare_functions_of_a_slow_region_are_served_where_starts_are_quick() -> None:
    combined, platform = regions(4.0)
    policy = CrossRegion()
    null, ours = tried(combined, "ka:60", platform), tried(combined, policy, platform)
    # The rare one moves; the timer of 30 s is always warm, so a round trip would buy nothing; the quick ones stay.
    assert policy.region.tolist() == [1, 0, 1]
    assert ours.requests_by_function.reshape(2, 3)[1, 0] == null.requests_by_function.reshape(2, 3)[0, 0] > 0
    assert ours.requests_by_function.sum() == null.requests_by_function.sum()
    moved = int(ours.requests_by_function.reshape(2, 3)[1, 0])
    gain_us = (mean_start_us(null) - mean_start_us(ours)) * null.num_requests
    assert gain_us > 10 * moved * RTT_US  # what the round trips cost is little beside it


def test_the_round_trip_is_waited_for() -> None:
    combined, platform = regions(4.0)
    policy = CrossRegion()
    training, rest = split(combined, DAY_S * SECOND)
    fit(policy, training)
    ours = simulate(rest, policy, platform, record="requests")
    waits = ours.wait["warm"]
    moved = ours.requests_by_function.reshape(2, 3)[1, 0] - ours.cold_by_function.reshape(2, 3)[1, 0]
    assert waits.total - waits.share_below(RTT_US * 15 // 16) * waits.total == moved


def test_equal_regions_are_left_alone() -> None:
    combined, platform = regions(0.2)
    policy = CrossRegion()
    null, ours = tried(combined, "ka:60", platform), tried(combined, policy, platform)
    assert policy.region.tolist() == [0, 0, 1]
    assert ours.cold_by_function.tolist() == null.cold_by_function.tolist()


def test_a_region_without_room_takes_nobody() -> None:
    combined, platform = regions(4.0, capacity=[100.0, 0.1])
    policy = CrossRegion()
    tried(combined, policy, platform)
    assert policy.region.tolist() == [0, 0, 1]


@pytest.mark.parametrize("seed", range(10))
def test_routed_calls_are_simulated_as_by_the_plain_simulator(seed: int) -> None:
    rng = np.random.default_rng(seed)
    end_s = 4000.0
    parts = [
        workload(
            [np.sort(rng.uniform(0, end_s, 40)) for _ in range(2)],
            run_s=5.0,
            end_s=end_s,
            cold_s=float(cold_s),
            allocation_s=0.1,
            concurrency=[1, 2],
        )
        for cold_s in (6, 0.2)
    ]
    both = Regions.equidistant(["a", "b"], RTT_US, [50.0, float(rng.uniform(0.5, 3))])
    training, rest = split(CombinedWorkload(parts, both), 2000 * SECOND)
    policy = CrossRegion()
    fit(policy, training)
    compared = compare_with_plain(rest, policy, Platform(regions=both), seed=seed)
    assert compared.wrong == ()
    assert 1 in policy.region[:2].tolist() or both.capacity[1] < 2
