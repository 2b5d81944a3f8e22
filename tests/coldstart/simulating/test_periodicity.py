"""Planted periods are found, processes without one are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from nonet.coldstart.simulating.periodicity import find_period, tick_times
from nonet.common.errors import InputError

SECOND = 1_000_000


def ticks(seconds: np.ndarray) -> np.ndarray:
    return np.sort(np.asarray(seconds) * SECOND).astype(np.int64)


@pytest.mark.parametrize("period_s", [61, 90, 300, 601, 3600, 86_400])
@pytest.mark.parametrize("num", [6, 40])
def test_a_plain_timer(period_s: int, num: int) -> None:
    rng = np.random.default_rng(period_s + num)
    found = find_period(ticks(17 + period_s * np.arange(num) + rng.normal(0, 0.2, num)))
    assert found is not None
    assert found.lag == 1
    assert abs(found.period_us / SECOND - period_s) < 0.5
    assert found.early_us < 2 * SECOND
    assert found.late_us < 2 * SECOND


def test_a_timer_with_two_calls_a_period() -> None:
    hours = np.arange(24) * 3600.0
    found = find_period(ticks(np.concatenate([hours + 300, hours + 1200])))
    assert found is not None
    assert (found.lag, found.period_us) == (2, 3600 * SECOND)


def test_a_timer_that_counts_from_the_end_of_its_last_run() -> None:
    rng = np.random.default_rng(3)
    found = find_period(ticks(np.cumsum(600 + rng.uniform(0, 3, 80))))
    assert found is not None
    assert found.lag == 1
    assert 600 * SECOND <= found.period_us <= 603 * SECOND


def test_a_timer_that_calls_several_times_at_once_and_misses_some_ticks() -> None:
    rng = np.random.default_rng(4)
    kept = 300.0 * np.arange(100)[rng.random(100) > 0.1]
    found = find_period(ticks(np.concatenate([kept, kept + 0.1, kept + 0.2])))
    assert found is not None
    assert abs(found.period_us / SECOND - 300) < 0.5


def test_poisson_calls_have_no_period() -> None:
    rng = np.random.default_rng(5)
    found = [find_period(ticks(np.cumsum(rng.exponential(100, rng.integers(5, 150))))) for _ in range(400)]
    assert sum(period is not None for period in found) <= 2


def test_few_calls_have_no_period() -> None:
    assert find_period(ticks(np.arange(4) * 300.0)) is None
    assert find_period(ticks(np.zeros(0))) is None


def test_calls_of_one_second_are_one_tick() -> None:
    assert tick_times(ticks(np.array([0, 0.5, 1.2, 10, 10.9, 20]))).tolist() == [0, 10 * SECOND, 20 * SECOND]
    with pytest.raises(InputError, match="must not fall"):
        tick_times(np.array([2, 1]))
