"""The hybrid histogram's choices, from idle times that are made to lie on either side of each bound."""

from __future__ import annotations

import numpy as np
import pytest

from nonet.coldstart.simulating.calls import Calls, ColdTimes, Functions, Workload
from nonet.coldstart.simulating.engine import simulate
from nonet.coldstart.simulating.layout import L_END, L_LAST_END
from nonet.coldstart.simulating.platform import Platform
from nonet.coldstart.simulating.results import Result

MINUTE = 60_000_000


def after_idle_times(minutes: np.ndarray, **platform: int) -> Result:
    """Calls without duration with these idle times between them, and a day after the last."""
    arrive = np.concatenate([[0], np.cumsum(np.rint(minutes * MINUTE).astype(np.int64))])
    calls = Calls(arrive, np.zeros(len(arrive), np.int64), np.zeros(len(arrive), np.int32))
    cold = ColdTimes.constant(1, 0)
    workload = Workload.from_arrays(calls, cold_times=cold, end_us=int(arrive[-1]) + 1440 * MINUTE)
    return simulate(workload, "hist", Platform(**platform))


def last_two(result: Result) -> list[float]:
    """Minutes that the last pods lived after their last use (a pod of no use: from its creation)."""
    assert result.pods is not None
    rows = result.pods[-2:]
    since = np.where(rows[:, L_LAST_END] < 0, rows[:, 1], rows[:, L_LAST_END])
    return ((rows[:, L_END] - since) / MINUTE).tolist()


@pytest.mark.parametrize(("num_bins", "representative"), [(47, True), (48, True), (49, False), (240, False)])
def test_even_bins_are_no_pattern(num_bins: int, representative: bool) -> None:
    idle = np.arange(num_bins) + 0.5
    counts = np.bincount(idle.astype(int), minlength=240)
    assert (counts.std() / counts.mean() < 2) == (not representative)  # 48 of 240 bins: exactly 2
    kept = last_two(after_idle_times(idle))[-1]
    assert (kept == 240) == (not representative)


def test_the_windows_are_those_of_the_percentiles() -> None:
    idle = np.repeat([20.5, 30.5], [50, 50])
    result = after_idle_times(idle)
    unloaded, loaded = last_two(result)
    # 5th percentile in the bin of 20, 99th in that of 30: gone at once, back after 18 minutes, until 1.1 * 31.
    assert unloaded == 0
    assert loaded == pytest.approx(1.1 * 31 - 0.9 * 20)
    assert result.pods is not None
    assert (result.pods[-1, 1] - result.pods[-2, L_LAST_END]) / MINUTE == pytest.approx(18)


@pytest.mark.parametrize(("num_long", "predicts"), [(10, True), (9, False)])
def test_half_of_the_idle_times_beyond_the_range_are_predicted(num_long: int, predicts: bool) -> None:
    idle = np.concatenate([np.full(10, 30.5), np.full(num_long, 300.0)])
    unloaded, loaded = last_two(after_idle_times(idle))
    assert unloaded == 0
    # The last ten (all 300 minutes, or one of 30 among them) against a histogram of one bin.
    assert loaded == pytest.approx(0.30 * 300 if predicts else 1.1 * 31 - 0.9 * 30)


def test_a_load_that_was_planned_is_forgotten_when_the_call_came_and_was_dropped() -> None:
    # f0 is due at 54 minutes; a call at 40 has no room beside f1's running request and is dropped.
    times = np.append(np.arange(0, 601, 60), 640) * MINUTE
    calls = Calls(
        np.append(times[:-1], [635 * MINUTE, times[-1]]),
        np.append(np.zeros(len(times) - 1, np.int64), [60 * MINUTE, 0]),
        np.append(np.zeros(len(times) - 1), [1, 0]).astype(np.int32),
    )
    workload = Workload.from_arrays(
        calls, Functions.make(2, memory_mb=[10, 100]), ColdTimes.constant(2, 0), end_us=720 * MINUTE
    )
    result = simulate(workload, "hist", Platform(memory_cap_mb=100))
    assert result.num_dropped == 1
    assert result.num_refused == 0  # the load at 654 would have been refused, had it not been forgotten
