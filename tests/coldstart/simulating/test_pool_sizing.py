"""Pool sizes against a pool that is played through, allocation by allocation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.coldstart.simulating.pool_sizing import (
    HOUR_US,
    core_demand,
    hourly_forecast_sizes,
    pods_needed,
    poisson_size,
    pool_size,
    production_target,
    reactive_size,
)
from nonet.common.errors import InputError

ALLOCATIONS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), min_size=1, max_size=40).map(sorted)


def served_by(size: int, allocations: list[tuple[int, int]]) -> int:
    """Play a pool of `size`: who finds none ready waits outside, and still has its pod replaced."""
    ready_at = [0] * size
    served = 0
    for at, create in allocations:
        ready_at.sort()
        if ready_at and ready_at[0] <= at:
            served += 1
            ready_at[0] = at + create
    return served


@settings(deadline=None)
@given(ALLOCATIONS)
def test_need_counts_replacements_under_way(allocations: list[tuple[int, int]]) -> None:
    need = pods_needed(np.array([a for a, _ in allocations]), np.array([c for _, c in allocations]))
    for i, (at, _) in enumerate(allocations):
        assert need[i] == 1 + sum(a + c > at for a, c in allocations[:i])


@settings(deadline=None)
@given(ALLOCATIONS)
def test_the_size_for_everybody_is_the_smallest_pool_that_serves_everybody(allocations: list[tuple[int, int]]) -> None:
    at, create = np.array([a for a, _ in allocations]), np.array([c for _, c in allocations])
    size = pool_size(at, create, 1.0)
    assert served_by(size, allocations) == len(allocations)
    assert served_by(size - 1, allocations) < len(allocations)


@settings(deadline=None)
@given(ALLOCATIONS, st.sampled_from([0.5, 0.8, 0.9, 0.99]), st.booleans())
def test_the_size_is_the_smallest_with_the_share(
    allocations: list[tuple[int, int]], level: float, adjust: bool
) -> None:
    need = [1 + sum(a + c > at for a, c in allocations[:i]) for i, (at, _) in enumerate(allocations)]
    wanted = 1 - 0.5959 * (1 - level) if adjust else level
    expected = next(s for s in range(100) if sum(n <= s for n in need) >= wanted * len(need) - 1e-9)
    at, create = np.array([a for a, _ in allocations]), np.array([c for _, c in allocations])
    assert pool_size(at, create, level, adjust=adjust) == expected


def test_no_allocations_need_no_pool() -> None:
    assert pool_size(np.zeros(0, np.int64), 5, 0.99) == 0


def test_the_production_rule_keeps_its_band() -> None:
    assert [production_target(idle, 100) for idle in (10, 10.1, 39.9, 40)] == [20, 10.1, 39.9, 20]
    assert reactive_size(100) == 135
    assert reactive_size(0) == 0


@settings(deadline=None)
@given(st.floats(0.01, 20), st.floats(0.1, 20), st.sampled_from([0.001, 0.01, 0.1]))
def test_the_poisson_size_is_the_first_with_the_probability(rate: float, create: float, epsilon: float) -> None:
    mean, term, total, size = rate * create, math.exp(-rate * create), math.exp(-rate * create), 0
    while total < 1 - epsilon - 1e-12:
        size += 1
        term *= mean / size
        total += term
    assert poisson_size(rate, create, epsilon) == size


def test_poisson_arrivals_reach_the_level_of_the_poisson_size() -> None:
    rng = np.random.default_rng(1)
    at = np.cumsum(rng.exponential(0.5e6, 20_000)).astype(np.int64)
    size = poisson_size(2.0, 5.0, 0.01)
    waiting = np.mean(pods_needed(at, 5_000_000) > size + 1)  # the pool replaces one more than the window holds
    assert waiting <= 0.01


def test_the_hourly_forecast_looks_only_back() -> None:
    at = np.sort(np.random.default_rng(2).integers(0, 48 * HOUR_US, 5_000))
    whole = hourly_forecast_sizes(at, 20_000_000, 0, 48, 0.01)
    for hour in (1, 23, 24, 40):
        cut = hourly_forecast_sizes(at[at < hour * HOUR_US], 20_000_000, 0, 48, 0.01)
        assert whole[: hour + 1].tolist() == cut[: hour + 1].tolist()
    same_hour = np.sum((at >= 5 * HOUR_US) & (at < 6 * HOUR_US))
    assert whole[29] == poisson_size(same_hour / 3600, 20.0, 0.01)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12), st.integers(1, 4)), min_size=1, max_size=30).map(sorted)
)
def test_core_demand_is_what_the_window_took_less_what_it_gave(pods: list[tuple[int, int, int]]) -> None:
    begin, end = np.array([a for a, _, _ in pods]), np.array([a + life for a, life, _ in pods])
    cores = np.array([c for _, _, c in pods], float)
    got = core_demand(begin, end, cores, 7)
    for i, at in enumerate(begin):
        took = sum(cores[j] for j in range(i + 1) if at - 7 < begin[j] <= at)
        gave = sum(cores[j] for j in range(len(pods)) if at - 7 < end[j] <= at)
        assert got[i] == max(0, took - gave)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(InputError, match="not falling"):
        pods_needed(np.array([2, 1]), 1)
    with pytest.raises(InputError, match="below 0"):
        pods_needed(np.array([1, 2]), -1)
    with pytest.raises(InputError, match="service level"):
        pool_size(np.array([1]), 1, 1.5)
