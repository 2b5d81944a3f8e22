"""Several regions as one workload, and where functions are placed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.coldstart.simulating.calls import ColdTimes
from nonet.coldstart.simulating.policies.cross_region import mean_pods, place
from nonet.coldstart.simulating.policies.training import split
from nonet.coldstart.simulating.regions import CombinedWorkload, Regions, arrival_functions
from nonet.common.errors import InputError
from tests.coldstart.simulating.crafted import DAY_S, SECOND, poisson, workload

NEAR = Regions(["R1", "R3"], [[0, 40_000], [40_000, 0]])


def two_regions(end_s: float = 2 * DAY_S) -> CombinedWorkload:
    slow = workload([poisson(1 / 600, 1, end_s), np.arange(0, end_s, 30.0)], end_s=end_s, cold_s=4.0)
    quick = workload([poisson(1 / 900, 2, end_s)], end_s=end_s, cold_s=0.2, allocation_s=0.1)
    return CombinedWorkload([slow, quick], NEAR)


def test_calls_are_merged_under_their_homes() -> None:
    rng = np.random.default_rng(1)
    parts = [
        workload([np.sort(rng.uniform(0, 100, n)) for n in sizes], end_s=100) for sizes in ((30, 50), (20,), (40, 1))
    ]
    for part, block in zip(parts, (7, 3, 100), strict=True):
        part.block = block  # type: ignore[attr-defined]
    combined = CombinedWorkload(parts, Regions(["a", "b", "c"], np.zeros((3, 3))))
    blocks = list(combined.blocks())
    arrive = np.concatenate([block.arrive_us for block in blocks])
    function = np.concatenate([block.function for block in blocks])
    assert len(arrive) == 141
    assert np.all(np.diff(arrive) >= 0)
    expected = []
    for home, (part, offset) in enumerate(zip(parts, (0, 2, 3), strict=True)):
        for block in part.blocks():
            expected += [
                (int(t), home * 5 + offset + int(f)) for t, f in zip(block.arrive_us, block.function, strict=True)
            ]
    assert sorted(zip(arrive.tolist(), function.tolist(), strict=True)) == sorted(expected)
    arrivals, home = arrival_functions(combined.functions, combined.regions)
    assert home.tolist() == [0, 0, 1, 2, 2]
    assert set(function.tolist()) == set(arrivals.tolist())
    assert combined.functions.names[5 + 3] == "c/f0@b"


def test_cold_starts_elsewhere_are_scaled_by_the_regions() -> None:
    one = workload(
        [np.array([1.0])] * 2,
        end_s=10,
        cold_times=ColdTimes(np.array([0, 1, 2]), np.array([1, 3]) * SECOND, np.array([1, 3]) * SECOND),
    )
    other = workload([np.array([1.0])], end_s=10, cold_s=1.0, allocation_s=0.25)
    combined = CombinedWorkload([one, other], NEAR)
    assert combined.mean_cold_us().tolist() == [4 * SECOND, SECOND]
    assert (combined.cold_times.mean_total_us / SECOND).tolist() == [2, 6, 4, 0.5, 1.5, 1]


def test_every_region_has_pools_of_its_own() -> None:
    # Class 0 of the first workload is of the size of class 1 of the second.
    one = workload([np.array([1.0])] * 2, end_s=10, memory_mb=[128, 256], pool_class=[0, -1])
    other = workload([np.array([1.0])] * 2, end_s=10, memory_mb=[512, 128], pool_class=[0, 1])
    combined = CombinedWorkload([one, other], NEAR)
    assert combined.num_classes == 2
    assert combined.functions.pool_class.tolist() == [0, -1, 1, 0, 2, -1, 3, 2]


def test_regions_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="windows"):
        CombinedWorkload([workload([np.array([1.0])], end_s=5), workload([np.array([1.0])], end_s=6)], NEAR)
    with pytest.raises(InputError, match="give one a region"):
        CombinedWorkload([workload([np.array([1.0])], end_s=5)], NEAR)
    with pytest.raises(InputError, match="diagonal"):
        Regions(["a"], [[5]])
    with pytest.raises(InputError, match=r"need rtt_us \(2, 2\)"):
        Regions(["a", "b"], [[0]])
    with pytest.raises(InputError, match="not those of a combined workload"):
        arrival_functions(workload([np.array([1.0])] * 2, end_s=5).functions, NEAR)


COSTS = st.lists(
    st.tuples(st.integers(0, 2), st.floats(0.1, 3), st.integers(1, 50), st.tuples(*[st.integers(1, 1000)] * 3)),
    min_size=1,
    max_size=12,
)


@settings(deadline=None)
@given(COSTS)
def test_without_limits_everybody_goes_where_it_is_cheapest(functions: list) -> None:
    home = np.array([h for h, _, _, _ in functions])
    pods, calls = np.array([p for _, p, _, _ in functions]), np.array([c for _, _, c, _ in functions])
    cost = np.array([c for _, _, _, c in functions])
    got = place(cost, pods, calls, np.ones(len(home)), home, np.full(3, np.inf))
    assert cost[np.arange(len(home)), got].tolist() == cost.min(axis=1).tolist()
    assert all(got[f] == home[f] for f in range(len(home)) if cost[f, home[f]] == cost[f].min())


@settings(deadline=None)
@given(COSTS, st.tuples(*[st.floats(0.5, 8)] * 3))
def test_nobody_moves_into_a_full_region_or_for_nothing(functions: list, capacity: tuple[float, float, float]) -> None:
    home = np.array([h for h, _, _, _ in functions])
    pods, calls = np.array([p for _, p, _, _ in functions]), np.array([c for _, _, c, _ in functions])
    cost = np.array([c for _, _, _, c in functions])
    got = place(cost, pods, calls, np.zeros(len(home)), home, np.array(capacity))
    before, after = np.bincount(home, pods, 3), np.bincount(got, pods, 3)
    assert np.all(after <= np.maximum(before, capacity) + 1e-9)
    for f in np.flatnonzero(got != home):
        assert cost[f, got[f]] < cost[f, home[f]]


def test_an_overfull_home_is_left_sooner() -> None:
    cost = np.array([[100, 140]] * 3)
    stays = place(cost, np.ones(3), np.ones(3), np.full(3, 50.0), np.zeros(3, int), np.array([3.0, 9.0]))
    leaves = place(cost, np.ones(3), np.ones(3), np.full(3, 50.0), np.zeros(3, int), np.array([1.0, 9.0]))
    assert stays.tolist() == [0, 0, 0]
    assert leaves.tolist() == [1, 1, 0]  # 100 + 2 * 50 > 140, 100 + 50 > 140, 100 < 140


def test_mean_pods_are_those_of_the_simulation() -> None:
    whole = workload([poisson(1 / 100, 1), poisson(1 / 50, 2)], run_s=20.0, cold_s=0, allocation_s=0)
    training, _ = split(whole, DAY_S * SECOND)
    from nonet.coldstart.simulating.engine import simulate
    from nonet.coldstart.simulating.policies.training import Window

    result = simulate(Window(whole, 0, DAY_S * SECOND), "ka:60")
    held = (result.idle_us + result.busy_us) / (DAY_S * SECOND)
    assert mean_pods(training, 60 * SECOND) == pytest.approx(held, rel=0.01)
