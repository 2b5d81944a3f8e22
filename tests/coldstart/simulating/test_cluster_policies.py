"""Knative, OpenWhisk and IceBreaker on loads whose outcome is known."""

from __future__ import annotations

import numpy as np
import pytest

from nonet.coldstart.simulating.engine import simulate
from nonet.coldstart.simulating.kpa import KpaSpec
from nonet.coldstart.simulating.layout import L_CREATE, L_END, L_FUNCTION
from nonet.coldstart.simulating.policies.base import Joined, Orders, Prewarm, RulePolicy, Setup, TickView
from nonet.coldstart.simulating.policies.icebreaker import IceBreaker
from nonet.coldstart.simulating.policies.knative import Knative
from nonet.coldstart.simulating.policies.openwhisk import OpenWhisk, StemCell
from nonet.coldstart.simulating.results import Result
from nonet.common.errors import InputError
from tests.coldstart.simulating.crafted import HOUR_S, SECOND, poisson, workload


def pods_at(result: Result, time_s: float, f: int = 0) -> int:
    """Live pods of a function at a moment."""
    pods = result.pods
    assert pods is not None
    own = pods[pods[:, L_FUNCTION] == f]
    ends = np.where(own[:, L_END] < 0, 1 << 60, own[:, L_END])  # -1: alive at the end of the window
    return int(np.sum((own[:, L_CREATE] <= time_s * SECOND) & (ends > time_s * SECOND)))


class Watched(Knative):
    """Knative that keeps the concurrency and the pods of every decision."""

    def prepare(self, setup) -> None:  # type: ignore[no-untyped-def]
        super().prepare(setup)
        self.log: list[tuple[int, float, int, int]] = []

    def on_tick(self, now_us: int, view: TickView) -> Orders | None:
        ready = int(view.live_pods[0] - view.starting_pods[0])
        orders = super().on_tick(now_us, view)
        second = now_us // SECOND
        bucket = self._state.buckets[0, second // self._bucket_s % self._state.buckets.shape[1]]
        self.log.append((second, float(bucket), ready, int(self._state.desired[0])))
        return orders


def test_steady_load_gets_the_pods_of_its_concurrency() -> None:
    # 30 requests under way at any time; a pod takes 10, the target is 7: five pods.
    whole = workload(
        [np.repeat(np.arange(0, 600, 10.0), 30) + np.tile(np.arange(30) / 3, 60)], run_s=10.0, end_s=900, concurrency=10
    )
    result = simulate(whole, Knative())
    assert pods_at(result, 500) == 5
    assert result.num_cold == 1  # the activator asked for one pod, the autoscaler for the others
    # Without load: the stable window empties, the last pod goes with it.
    assert pods_at(result, 640) >= 1
    assert pods_at(result, 690) == 0


def test_buckets_hold_the_mean_concurrency_of_each_second() -> None:
    whole = workload([np.array([10.25, 10.5, 12.0])], run_s=1.0, end_s=100, cold_s=0, allocation_s=0, concurrency=10)
    policy = Watched(KpaSpec(stable_window_s=61))  # an odd window needs buckets of one second
    simulate(whole, policy)
    by_second = {second: concurrency for second, concurrency, _, _ in policy.log}
    assert by_second[11] == pytest.approx(0.75 + 0.5)  # the second from 10 to 11
    assert by_second[12] == pytest.approx(0.25 + 0.5)
    assert by_second[13] == pytest.approx(1.0)
    assert by_second[14] == 0


@pytest.mark.parametrize(("window_s", "max_up", "cold_s"), [(60, 1000.0, 1.0), (61, 1000.0, 1.0), (60, 2.0, 25.0)])
def test_decisions_in_the_simulator_are_those_of_the_plain_decider(window_s: int, max_up: float, cold_s: float) -> None:
    from nonet.coldstart.simulating.kpa import KpaDecider, WindowAverage

    rng = np.random.default_rng(2)
    bursts = np.concatenate([start + rng.uniform(0, 3, 200) for start in (100, 105, 400, 900, 1450)])
    load = poisson(2.0, 3, 1200)
    whole = workload([np.concatenate([load[load > 40], bursts])], run_s=1.5, end_s=1500, cold_s=cold_s, concurrency=10)
    policy = Watched(KpaSpec(stable_window_s=window_s, max_up=max_up))  # buckets of two seconds, of one
    simulate(whole, policy)
    decider, stable, panic = (
        KpaDecider(KpaSpec(7.0, 0.7, window_s, max_up=max_up)),
        WindowAverage(window_s),
        WindowAverage(6 + window_s % 2),
    )
    panicked = 0
    for second, concurrency, ready, desired in policy.log:
        for window in (stable, panic) if ready or concurrency else ():
            for part in range(policy._bucket_s):
                window.record(second - policy._bucket_s + 1 + part, concurrency / policy._bucket_s)
        if second % 2 == 0 and (ready or stable.average(second) > 0):
            decision = decider.decide(second, stable.average(second), panic.average(second), ready)
            assert decision.pods == desired
            panicked += decision.panicking
    assert panicked > 30


def test_a_burst_from_zero_is_not_diluted_by_the_seconds_before_it() -> None:
    # 20 requests at 605 s, one a pod: the one second that was recorded says 20, so ceil(20 / 0.7) pods at the next
    # decision, although nothing was recorded since the call at 10 s.
    whole = workload([np.append(np.array([10.0]), np.full(20, 605.0))], run_s=100.0, end_s=800)
    result = simulate(whole, Knative())
    assert pods_at(result, 600) == 0
    assert pods_at(result, 607) == 29
    assert result.num_piggybacked == 19


def test_a_pod_that_nobody_uses_stays_for_a_stable_window() -> None:
    class One(RulePolicy):
        """Orders a pod at 100 s, for five seconds."""

        name, tick_us = "one", 100 * SECOND

        def prepare(self, setup: Setup) -> None:
            pass

        def on_tick(self, now_us: int, view: TickView) -> list[Prewarm] | None:
            return [Prewarm(0, now_us, now_us + 5 * SECOND)] if now_us == 100 * SECOND else None

    whole = workload([np.zeros(0)], end_s=300)
    result = simulate(whole, Joined([Knative(), One()]))
    assert [pods_at(result, t) for t in (101, 150, 159, 164)] == [1, 1, 1, 0]


def test_retention_and_grace_keep_the_last_pod() -> None:
    whole = workload([np.array([10.0])], end_s=400)
    plain = simulate(whole, Knative())
    kept = simulate(whole, Knative(KpaSpec(retention_s=100)))
    graced = simulate(whole, Knative(KpaSpec(target_burst_capacity=0)))  # the activator has to come into the path first
    ends = [int(result.pods[0, L_END]) / SECOND for result in (plain, kept, graced)]  # type: ignore[index]
    assert 68 <= ends[0] <= 78
    assert 98 <= ends[1] - ends[0] <= 102
    assert 28 <= ends[2] - ends[0] <= 32


def test_min_and_max_scale_bound_the_pods() -> None:
    load = np.repeat(np.arange(0, 300, 1.0), 20)
    whole = workload([load], run_s=1.0, end_s=600, concurrency=1)
    assert pods_at(simulate(whole, Knative(KpaSpec(max_scale=3))), 200) == 3
    assert pods_at(simulate(whole, Knative(KpaSpec(min_scale=2))), 599) == 2
    with pytest.raises(InputError, match="no scale_down_delay_s"):
        Knative(KpaSpec(scale_down_delay_s=30))


def test_openwhisk_deletes_after_ten_idle_minutes() -> None:
    whole = workload([np.array([0.0, 600.0, 1201.0, 1900.0])], run_s=0.0, end_s=3000, cold_s=0, allocation_s=0)
    result = simulate(whole, OpenWhisk(()))
    assert result.num_cold == 3  # exactly ten minutes are still warm, a second more is not


def test_stem_cells_match_kind_and_memory_exactly() -> None:
    times = [np.array([10.0])] * 3
    whole = workload(times, end_s=100, runtime=["nodejs", "nodejs", "python"], memory_mb=[256, 512, 256])
    cells = [StemCell("nodejs", 256, initial_count=1, max_count=0)]
    result = simulate(whole, OpenWhisk(cells))
    assert result.pool_taken is not None
    assert result.pool_taken.tolist() == [[1, 0]]
    waited = result.cold_total_us
    assert sorted(waited.tolist()) == [
        SECOND // 2,
        SECOND,
        SECOND,
    ]  # a stem cell leaves only what comes after allocation
    assert whole.functions.pool_class.tolist() == [-1, -1, -1]  # the workload itself is as it was


def test_reactive_stem_cells_follow_the_cold_starts_of_the_last_minute() -> None:
    burst = 60.0 + np.arange(6)
    times = np.concatenate([burst, [150.0, 151.0, 152.0, 153.0, 154.0]])
    whole = workload([times], run_s=300.0, end_s=700, cold_s=31, allocation_s=30, runtime=["k"])

    class Logged(OpenWhisk):
        def on_tick(self, now_us: int, view: TickView) -> None:
            super().on_tick(now_us, view)
            seen.append(int(self._target[0, 0]))

    seen: list[int] = []
    cell = StemCell("k", 128, initial_count=1, min_count=1, max_count=4, threshold=2, increment=1)
    simulate(whole, Logged([cell]))
    # Of the first burst one takes the stem cell, five are cold: 5 // 2 cells, wanted at the next tick. By 150 s they
    # are ready, two of five take them, three are cold: 3 // 2 is less, and two minutes after the rise it holds.
    assert seen[:3] == [1, 1, 2]
    assert seen[3:] == [2, 1, 1, 1, 1, 1, 1, 1, 1]
    none: list[int] = []
    seen = none
    simulate(whole, Logged([StemCell("k", 128, initial_count=3, min_count=1, max_count=0)]))
    assert set(none) == {3}


def test_icebreaker_holds_pods_for_waves_that_come_back() -> None:
    # Every ten minutes two minutes of load: beyond a keep-alive of a minute, within an hour's harmonics.
    calls = np.concatenate([start + np.arange(0, 120, 2.0) for start in np.arange(0, 8 * HOUR_S, 600)])
    whole = workload([np.repeat(calls, 3)], run_s=1.5, end_s=8 * HOUR_S)
    null, ours = simulate(whole, "ka:60"), simulate(whole, IceBreaker())
    assert ours.num_cold < 0.75 * null.num_cold  # ten harmonics raise a fifth of the time to half its height
    assert ours.idle_us.sum() < 4 * null.idle_us.sum()


def test_icebreaker_forecasts_nothing_from_nothing() -> None:
    whole = workload([np.array([10.0]), poisson(1 / 4000, 1, 6 * HOUR_S)], run_s=0.1, end_s=6 * HOUR_S)
    null, ours = simulate(whole, "ka:60"), simulate(whole, IceBreaker())
    assert np.all(ours.cold_by_function <= null.cold_by_function)
    assert ours.idle_us.sum() <= null.idle_us.sum() + 60 * SECOND * ours.num_prewarms


def test_icebreaker_counts_requests_that_go_on_from_minute_to_minute() -> None:
    whole = workload([np.array([30.0, 250.0])], run_s=150.0, end_s=600)
    policy = IceBreaker()
    simulate(whole, policy)
    # From 30 to 180 s and from 250 to 400 s: minutes 0 to 2 and 4 to 6 (7 would begin at 420 s).
    assert policy._window[0, -10:].tolist() == [1, 1, 1, 0, 1, 1, 1, 0, 0, 0]


def test_icebreaker_needs_a_pod_for_as_many_requests_as_one_runs() -> None:
    whole = workload([np.full(5, 30.0)], run_s=10.0, end_s=120, concurrency=2)
    policy = IceBreaker()
    simulate(whole, policy)
    assert policy._window[0, -2:].tolist() == [3, 0]
