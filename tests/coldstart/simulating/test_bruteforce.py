"""Every policy against the plain simulator, on random traces: every request's fate, every pod's life, idle
microseconds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nonet.coldstart.bench import simulator as bench
from nonet.coldstart.bench.plain_simulator import PlainSimulator, mix64
from nonet.coldstart.bench.random_traces import compare_with_plain, random_platform, random_workload
from nonet.coldstart.simulating.calls import Calls, ColdTimes, Functions, Workload
from nonet.coldstart.simulating.platform import PICKS, SCALE_RULES, Platform
from nonet.coldstart.simulating.policies import policies
from nonet.coldstart.simulating.policies.base import NEVER_US, Chains, Orders, Prewarm, RulePolicy, Setup

NAMES = sorted(policies()[name].example for name in policies())


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_equals_the_plain_simulator(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_MOST_TICKS", 4000)
    seeds = range(24 if name == "kpa" else 16)  # it ticks each second: a third of the traces are too long
    found = [bench.bruteforce_differences(name, seed) for seed in seeds]
    assert [(seed, wrong) for seed, wrong in enumerate(found) if wrong] == []
    assert sum(wrong is not None for wrong in found) >= 8


@pytest.mark.slow
def test_a_thousand_traces() -> None:
    assert bench.bruteforce_equal(1000) == 1.0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_hypothesis_traces(data: st.DataObject) -> None:
    num = data.draw(st.integers(1, 40))
    times = st.integers(0, 30)
    arrive = np.sort(np.array(data.draw(st.lists(times, min_size=num, max_size=num)), np.int64))
    run = np.array(data.draw(st.lists(st.integers(0, 6), min_size=num, max_size=num)), np.int64)
    function = np.array(data.draw(st.lists(st.integers(0, 2), min_size=num, max_size=num)), np.int32)
    limits = data.draw(st.lists(st.integers(1, 8), min_size=3, max_size=3))
    table = Functions.make(
        3, memory_mb=data.draw(st.lists(st.integers(0, 3), min_size=3, max_size=3)), concurrency=limits
    )
    cold = ColdTimes([0, 1, 3, 4], data.draw(st.lists(st.integers(0, 3), min_size=4, max_size=4)), [0, 1, 2, 0])
    workload = Workload.from_arrays(Calls(arrive, run, function), table, cold, start_us=0, end_us=int(arrive[-1]) + 3)
    platform = Platform(
        keep_alive_us=data.draw(st.integers(0, 8)),
        memory_cap_mb=data.draw(st.none() | st.integers(0, 8)),
        pick=data.draw(st.sampled_from(PICKS)),
        scale_rule=data.draw(st.sampled_from(SCALE_RULES)),
        sample_us=1,
    )
    name = data.draw(st.sampled_from(["ka", "hist"]))
    assert compare_with_plain(workload, name, platform, seed=data.draw(st.integers(0, 9))).wrong == ()


@pytest.mark.parametrize("seed", range(40))
def test_lanes_equal_the_coupled_engine(seed: int) -> None:
    workload = random_workload(seed)
    platform = replace(random_platform(seed), scale_rule="start", memory_cap_mb=None, pools=None)
    for engine in ("lanes", "coupled"):
        assert compare_with_plain(workload, "ka", platform, seed=seed, engine=engine).wrong == ()


@pytest.mark.parametrize("name", ["gd", "cidre", "lfu", "landlord", "size"])
def test_evictions_in_a_tight_memory(name: str) -> None:
    """Pods of several uses in a cap of a few pods: priorities rise with the clock and fall with the uses left."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        num, functions = 200, 5
        arrive = np.cumsum(rng.integers(0, 3, num))
        run = rng.integers(0, 6, num)
        table = Functions.make(
            functions, memory_mb=rng.integers(1, 5, functions), concurrency=rng.integers(1, 4, functions)
        )
        cold = ColdTimes.constant(functions, 0)
        cold = ColdTimes(cold.at, rng.integers(0, 4, functions), rng.integers(0, 9, functions))
        calls = Calls(arrive, run, rng.integers(0, functions, num).astype(np.int32))
        workload = Workload.from_arrays(calls, table, cold)
        policy = f"{name}:{int(rng.integers(6, 16))}MB"
        assert compare_with_plain(workload, policy, Platform(), seed=seed).wrong == (), seed


class Everything(RulePolicy):
    """Pseudo-random orders, keep-alives, concurrency and pool sizes at every tick; chains, delays, slowdown and
    routes.
    """

    name = "everything"

    tick_us: int

    def __init__(self, seed: int, tick_us: int) -> None:
        self.tick_us, self._seed = tick_us, seed

    def prepare(self, setup: Setup) -> None:
        self._rng, num = np.random.default_rng(self._seed), len(setup.functions)
        self._setup, self.seen = setup, 0
        rules = setup.rules
        rules.delay_us[:] = self._rng.integers(0, 3, num) * self.tick_us
        rules.delay_threshold = 1
        rules.deadline_us[:] = self.tick_us
        rules.slowdown[:] = self._rng.choice([0.0, 0.1, 1.5], num)
        if self._rng.random() < 0.5:
            rules.route[:] = self._rng.integers(0, num, num)
            rules.route_extra_us[:] = self._rng.integers(0, 100, num)
        at = np.arange(num + 1)
        links = self._rng.integers(0, num, num), *(self._rng.integers(0, 3, num) * self.tick_us for _ in range(2))
        rules.chains = Chains(at, *links)

    def on_tick(self, now_us, view):  # type: ignore[no-untyped-def]
        rng, num = self._rng, len(self._setup.functions)
        self.seen += len(view.arrive_us)
        assert ((view.arrive_us >= view.last_us) & (view.arrive_us < now_us)).all()
        view.keep_alive_us[:] = rng.integers(0, 3, num) * self.tick_us
        if rng.random() < 0.3:
            view.set_concurrency(rng.integers(1, 9, num))
        if self._setup.rules.pools is not None and rng.random() < 0.5:
            view.set_pool_targets(rng.integers(0, 4, (2, 2)))
        # What is looked at decides what is done, so every column is compared.
        looked = (
            view.in_flight * 3 + view.queued * 5 + view.live_pods * 7 + view.starting_pods * 11 + view.idle_pods * 13
        )
        looked = (
            looked + view.num_requests + view.num_started + view.concurrency_us + view.last_arrive_us + view.last_end_us
        )
        looked = looked + view.used_memory_mb + int(view.pool_stock().sum()) + int(view.pool_taken().sum())
        pick = (looked + rng.integers(0, 4, num)) % 4
        return Orders(
            np.arange(num), now_us + rng.integers(-1, 3, num) * self.tick_us // 2,
            now_us + rng.integers(0, 4, num) * self.tick_us, pick, rng.random(num) < 0.5,
        )  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_every_lever_of_a_policy(seed: int) -> None:
    workload = random_workload(seed, num=80)
    tick_us = max((workload.end_us - workload.start_us) // 30, 1)
    policy = Everything(seed, tick_us)
    compared = compare_with_plain(workload, policy, random_platform(seed), seed=seed)
    assert compared.wrong == ()
    last_tick_us = tick_us * (workload.end_us // tick_us)
    assert policy.seen == sum(int(r.arrive_us < last_tick_us) for r in compared.plain.calls)


class Own:
    """A user's policy that does what it likes."""

    name = "own"
    tick_us = None

    def on_arrival(self, f, now_us, view):  # type: ignore[no-untyped-def]
        return [Prewarm(f, now_us, now_us + 40, pods=2)] if (now_us + f) % 3 == 0 and view.live_pods[f] < 3 else None

    def on_idle(self, f, now_us, view):  # type: ignore[no-untyped-def]
        return int(now_us + 5 * f + view.idle_pods[f]) % 50

    def on_tick(self, now_us, view):  # type: ignore[no-untyped-def]
        return None


@pytest.mark.parametrize("seed", range(40))
def test_a_users_policy_equals_the_plain_simulator(seed: int) -> None:
    assert compare_with_plain(random_workload(seed, num=80), Own(), random_platform(seed), seed=seed).wrong == ()


def test_the_oracle_is_right_by_hand() -> None:
    # One pod, keep-alive 10: idle exactly 10 is warm (arrival 25), idle 11 is not (arrival 41), cold takes 5.
    calls = Calls(np.array([0, 25, 41]), np.array([10, 5, 1]), np.zeros(3, np.int32))
    workload = Workload.from_arrays(calls, cold_times=ColdTimes.constant(1, 5), start_us=0, end_us=100)
    plain = PlainSimulator(workload, "ka", Platform(keep_alive_us=10))
    assert plain.outcomes == {0: ("cold", 5), 1: ("warm", 25), 2: ("cold", 46)}
    assert plain.idle_us == [10 + 10 + 10]
    assert plain.busy_us == [10 + 5 + 1]


def test_mix64_is_the_same_in_plain_integers() -> None:
    from nonet.coldstart._random_kernels import mix64 as compiled

    for a, b, c in [(0, 0, 0), (7, 3, 2**40), (2**62, 5, 1)]:
        assert mix64(a, b, c) == int(compiled(a, b, c))


def test_never_is_never() -> None:
    calls = Calls(np.array([0, 10**13]), np.zeros(2, np.int64), np.zeros(2, np.int32))
    workload = Workload.from_arrays(calls)

    class Keeps(Own):
        def on_arrival(self, f, now_us, view):  # type: ignore[no-untyped-def]
            return None

        def on_idle(self, f, now_us, view):  # type: ignore[no-untyped-def]
            return NEVER_US

    assert compare_with_plain(workload, Keeps(), Platform()).result.num_cold == 1
