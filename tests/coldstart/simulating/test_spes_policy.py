"""SPES in the simulator does by the minute what its rules say."""

from __future__ import annotations

import numpy as np
import pytest

from nonet.coldstart.simulating._spes_kernels import spes_replay
from nonet.coldstart.simulating.calls import ColdTimes
from nonet.coldstart.simulating.policies.spes import Spes, minute_counts
from nonet.coldstart.simulating.policies.training import split
from nonet.coldstart.simulating.spes_state import make_state
from tests.coldstart.simulating.crafted import DAY_S, SECOND, poisson, tried, workload

MINUTE_S = 60.0


def minute_times(waits: np.ndarray, days: int) -> np.ndarray:
    minutes = np.cumsum(waits + 1)
    return minutes[minutes < days * 1440] * MINUTE_S


def mixed(days: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [
        np.arange(7, days * 1440, 30) * MINUTE_S,
        minute_times(rng.choice([10, 25, 70], 800), days),
        minute_times(rng.choice([1, 2, 3, 4], 6000), days),
        minute_times(rng.choice(np.arange(5, 300), 800), days),
        np.floor(poisson(1 / 1800, 4, days * DAY_S) / MINUTE_S) * MINUTE_S,
        np.arange(0, days * 1440) * MINUTE_S,
    ]


@pytest.mark.parametrize("groups", [None, [0, 0, 0, 0, 0, 0]])
def test_the_simulation_equals_the_replay_by_minutes(groups: list[int] | None) -> None:
    times = mixed(4)
    whole = workload(times, run_s=0, end_s=4 * DAY_S, cold_times=ColdTimes.constant(6, 0))
    policy = Spes(groups=groups)
    result = tried(whole, policy, train_s=3 * DAY_S)
    kinds = [found.name for found in policy.classes]
    assert kinds[:3] == ["regular", "appro-regular", "dense"]
    assert kinds[5] == "warm"
    counts = np.stack(
        [np.bincount((t[t >= 3 * DAY_S] // MINUTE_S - 3 * 1440).astype(int), minlength=1440) for t in times]
    )
    last = np.array([int(t[t < 3 * DAY_S].max() // MINUTE_S) - 3 * 1440 for t in times])
    cold, wasted = np.zeros(6, np.int64), np.zeros(6, np.int64)
    spes_replay(make_state(policy.classes, last), np.minimum(counts, 1).astype(np.int32), cold, wasted)
    assert result.cold_by_function.tolist() == cold.tolist()


def test_spes_wins_on_predictable_functions_and_pays_for_it_in_minutes() -> None:
    whole = workload(mixed(4)[:2], end_s=4 * DAY_S)
    null, ours = tried(whole, "ka:60", train_s=3 * DAY_S), tried(whole, Spes(), train_s=3 * DAY_S)
    assert ours.num_cold < 0.1 * null.num_cold
    # Loaded from two minutes before to two after each predicted wait, three of them, and a minute after a call.
    assert ours.idle_us.sum() <= 6 * 4 * 60 * SECOND * ours.num_requests


def test_spes_harms_no_function_that_it_cannot_predict() -> None:
    whole = workload([poisson(1 / 3000, seed, 4 * DAY_S) for seed in range(3)], end_s=4 * DAY_S)
    null, ours = tried(whole, "ka:60", train_s=3 * DAY_S), tried(whole, Spes(), train_s=3 * DAY_S)
    assert np.all(ours.cold_by_function <= null.cold_by_function)


def test_counts_are_those_of_the_minutes() -> None:
    training, _ = split(workload([np.array([0.0, 59.9, 60.0, 3600.0, 90_000.0])]), DAY_S * SECOND)
    counts = minute_counts(training, 0)
    assert len(counts) == 1440
    assert np.flatnonzero(counts).tolist() == [0, 1, 60]
    assert counts[0] == 2
