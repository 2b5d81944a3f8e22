"""The engine from outside: conservation, shards, blocks, user policies, refusals, and what a result can tell."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest

from nonet.coldstart.bench.random_traces import random_workload
from nonet.coldstart.bench.simulator import skewed_workload
from nonet.coldstart.simulating import state as building
from nonet.coldstart.simulating.calls import ArrayWorkload, Calls, ColdTimes, Functions, Workload
from nonet.coldstart.simulating.engine import prepare, simulate
from nonet.coldstart.simulating.platform import Platform, Pools
from nonet.coldstart.simulating.policies import parse_policy, policies
from nonet.coldstart.simulating.policies.base import Prewarm
from nonet.coldstart.simulating.policies.fixed import KeepAlive
from nonet.coldstart.simulating.results import Result, bin_edges, compare
from nonet.common.errors import InputError

SECOND = 1_000_000
OWN = (
    "none",
    "ka:60",
    "ka:600",
    "hist",
    "gd:8GB",
    "lru:8GB",
    "lfu:8GB",
    "size:8GB",
    "ttl:600,8GB",
    "landlord:8GB",
    "cidre:8GB",
)
SMALL = tuple(name.replace("8GB", "3GB") for name in OWN)


def fingerprint(result: Result) -> tuple:
    return (result.to_json(), None if result.pods is None else result.pods.tobytes())


@pytest.fixture(scope="module")
def crafted() -> Workload:
    """Bursts, periods and sizes that no two rules treat alike."""
    rng = np.random.default_rng(5)
    minutes = [np.arange(0, 3000, step) + shift for step, shift in ((7, 0), (13, 3), (90, 1), (1, 0.5), (300, 2))]
    burst = np.repeat(rng.uniform(0, 3000, 40), 6)
    times = [*minutes, burst, rng.uniform(0, 3000, 400)]
    arrive = np.concatenate(times) * 60 * SECOND
    function = np.repeat(np.arange(len(times)), [len(t) for t in times])
    order = np.argsort(arrive, kind="stable")
    runs = rng.integers(1, 20, len(arrive)) * SECOND
    calls = Calls(arrive[order].astype(np.int64), runs, function[order].astype(np.int32))
    table = Functions.make(len(times), memory_mb=[512, 256, 1024, 256, 900, 300, 700])
    cold = ColdTimes(np.arange(8), np.zeros(7), np.array([1, 4, 2, 9, 3, 30, 5]) * SECOND)
    return Workload.from_arrays(calls, table, cold)


@pytest.mark.parametrize("name", SMALL)
def test_conformance(name: str, crafted: Workload) -> None:
    result, again = (simulate(crafted, name, seed=3) for _ in range(2))
    assert fingerprint(result) == fingerprint(again)
    kinds = result.num_cold + result.num_warm + result.num_piggybacked + result.num_delayed + result.num_dropped
    assert kinds == result.num_requests == len(crafted.calls)  # type: ignore[attr-defined]
    for column in (result.idle_us, result.busy_us, result.start_us_by_function):
        assert (column >= 0).all()
    assert result.cold_by_function.sum() == result.num_cold
    assert result.num_starts == len(result.cold_at_us)
    served = result.num_requests - result.num_dropped
    assert sum(h.total for h in result.wait.values()) == sum(h.total for h in result.response.values()) == served
    assert result.utility.total == result.num_starts + result.num_prewarms
    assert (np.diff(result.cold_at_us) >= 0).all()


def test_policies_differ_in_pairs(crafted: Workload) -> None:
    found = {name: simulate(crafted, name) for name in SMALL}
    marks = {n: (r.num_cold, r.num_dropped, tuple(r.idle_us), tuple(r.cold_by_function)) for n, r in found.items()}
    assert [(a, b) for a, b in combinations(SMALL, 2) if marks[a] == marks[b]] == []


@pytest.mark.parametrize("shards", [2, 3, 16])
def test_any_number_of_shards(shards: int) -> None:
    workload = skewed_workload(30_000, 40)
    assert fingerprint(simulate(workload, "ka:60", shards=shards)) == fingerprint(simulate(workload, "ka:60"))


@pytest.mark.parametrize("name", ["ka:60", "hist", "gd:3GB"])
def test_any_size_of_blocks(name: str) -> None:
    whole = skewed_workload(5_000, 20)
    assert isinstance(whole, ArrayWorkload)
    pieces = Workload.from_arrays(whole.calls, whole.functions, whole.cold_times, block=17)
    assert fingerprint(simulate(whole, name)) == fingerprint(simulate(pieces, name))


class KeepMinute:
    """The rule of `ka:60` in Python."""

    def on_arrival(self, f, now_us, view):  # type: ignore[no-untyped-def]
        return None

    def on_idle(self, f, now_us, view):  # type: ignore[no-untyped-def]
        return 60 * SECOND

    def on_tick(self, now_us, view):  # type: ignore[no-untyped-def]
        return None


def test_a_python_policy_gives_what_the_compiled_one_gives() -> None:
    workload = skewed_workload(3_000, 20)
    own, compiled = simulate(workload, KeepMinute()), simulate(workload, "ka:60")
    assert own.policy == "KeepMinute"
    assert own.pods is not None and compiled.pods is not None and (own.pods == compiled.pods).all()
    assert own.idle_us.tolist() == compiled.idle_us.tolist()


@pytest.mark.parametrize("answer", [None, "soon", -1, float("inf"), float("nan")])
def test_an_answer_of_a_python_policy_that_is_no_time_is_refused(answer: object) -> None:
    class Wrong(KeepMinute):
        name = "mine"

        def on_idle(self, f, now_us, view):  # type: ignore[no-untyped-def]
            return answer

    with pytest.raises(InputError, match=r"policy 'mine': on_idle gave .*; give microseconds"):
        simulate(skewed_workload(10, 2), Wrong())


class Ahead(KeepMinute):
    """Loads a second before the next call of a timer of 100 s."""

    tick_us = 100 * SECOND

    def on_idle(self, f, now_us, view):  # type: ignore[no-untyped-def]
        return 0

    def on_tick(self, now_us, view):  # type: ignore[no-untyped-def]
        return [Prewarm(0, now_us + 40 * SECOND, now_us + 60 * SECOND)]


def test_prewarms_ahead_of_a_timer() -> None:
    arrive = np.arange(50 * SECOND, 5000 * SECOND, 100 * SECOND)
    workload = Workload.from_arrays(Calls(arrive, np.zeros(50, np.int64), np.zeros(50, np.int32)), start_us=0)
    result = simulate(workload, Ahead())
    assert (result.num_cold, result.num_warm, result.num_prewarms, result.num_wasted_prewarms) == (0, 50, 50, 0)
    assert result.idle_us.tolist() == [50 * 9 * SECOND]  # ready at 41 s, used at 50 s


def test_pools_fall_back_to_scratch() -> None:
    arrive = np.array([0, 1, 2, 3, 2000])
    calls = Calls(arrive, np.full(5, 10**6), np.zeros(5, np.int32))
    pools = Pools([[1, 2]], [[5, 70]], [900], [1500])
    workload = Workload.from_arrays(calls, Functions.make(1, pool_class=0), ColdTimes.constant(1, 0))
    result = simulate(workload, "ka:60", Platform(pools=pools))
    assert result.cold_total_us.tolist() == [5, 70, 70, 900, 5]
    assert result.pool_taken is not None and result.pool_taken.tolist() == [[2, 2, 1]]


def test_a_cap_smaller_than_a_function_drops_it_and_counts() -> None:
    calls = Calls(np.arange(3), np.zeros(3, np.int64), np.array([0, 1, 0], np.int32))
    result = simulate(Workload.from_arrays(calls, Functions.make(2, memory_mb=[4000, 100])), "lru:1GB")
    assert result.dropped_by_function.tolist() == [2, 0]
    assert (result.num_dropped, result.num_cold) == (2, 1)


def test_a_hundred_thousand_functions_of_one_call() -> None:
    num = 100_000
    calls = Calls(np.arange(num) * 1000, np.full(num, 10), np.arange(num, dtype=np.int32))
    result = simulate(Workload.from_arrays(calls), "ka:60")
    assert result.num_cold == num
    assert int(result.pods_max.max()) == 61_000 + 1  # starting 1 s, idle 60 s, both ends


def test_no_calls_at_all() -> None:
    none = np.zeros(0, np.int64)
    result = simulate(Workload.from_arrays(Calls(none, none, none)), "ka:60")
    assert result.num_requests == 0 and np.isnan(result.cold_rate)
    json.loads(result.to_json())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kaa:60", "did you mean 'ka'"),
        ("ka:x", "no number of seconds"),
        ("ka:-1", "at least 0"),
        ("gd", "needs a memory cap"),
        ("gd:8", "no memory"),
        ("none:1", "takes no value"),
        ("hist:3", "takes no value"),
        ("ttl:1,2,8GB", "SECONDS,MEMORY"),
        ("", "unknown policy"),
    ],
)
def test_refused_names(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        simulate(skewed_workload(10, 2), parse_policy(text))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"record": "all"}, "unknown record"),
        ({"shards": 0}, "shards"),
        ({"engine": "fast"}, "cannot run"),
        ({"platform": Platform(memory_cap_mb=10), "engine": "lanes"}, "cannot run"),
    ],
)
def test_refused_options(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        simulate(skewed_workload(10, 2), "ka:60", **options)


@pytest.mark.parametrize(
    "options", [{"pick": "lru"}, {"scale_rule": "x"}, {"memory_cap_mb": -1}, {"keep_alive_us": -1}, {"sample_us": 0}]
)
def test_refused_platforms(options: dict) -> None:
    with pytest.raises(InputError, match="platform"):
        Platform(**options)


def test_refused_calls() -> None:
    zero = np.zeros(2, np.int32)
    for calls, message in (
        (Calls(np.array([5, 4]), zero, zero), "backwards"),
        (Calls(np.array([0, 1]), np.array([0, -1]), zero), "negative"),
        (Calls(np.array([0, 1]), zero[:1], zero), "runs"),
        (Calls(np.array([0, 1]), zero, zero - 1), "negative"),
    ):
        with pytest.raises(InputError, match=message):
            Workload.from_arrays(calls)
    with pytest.raises(InputError, match="there are 1"):
        Workload.from_arrays(Calls(np.array([0, 1]), zero, zero + 1), Functions.make(1))


def test_a_policy_must_have_its_methods() -> None:
    with pytest.raises(InputError, match="is no policy"):
        simulate(skewed_workload(10, 2), object())  # type: ignore[arg-type]


def test_state_agrees_with_itself_after_every_block() -> None:
    from nonet.coldstart.simulating._engine_kernels import run_engine

    workload = random_workload(3)
    setup = prepare(workload, KeepAlive(1000), Platform(memory_cap_mb=2000), 0)
    state = building.build_state(setup, record_pods=True, record_requests=False)
    for block in workload.blocks():
        state.nums[building.at.N_CURSOR] = 0
        arguments = (block.arrive_us, block.run_us, block.function, len(block), 0, int(block.arrive_us[-1]), 0)
        while run_engine(state, *arguments) == building.at.GROW:
            state = building.enlarge(state)
        building.check_integrity(state)
    state.fn[0, building.at.F_LIVE] += 1
    with pytest.raises(RuntimeError, match="live pods of 0"):
        building.check_integrity(state)


def test_compare_and_json(crafted: Workload) -> None:
    table = compare([simulate(crafted, name) for name in ("ka:60", "none")])
    assert table["policy"].to_list() == ["ka:60", "none"]
    assert table["cold_vs_first"][0] == 1.0 < table["cold_vs_first"][1]
    told = json.loads(simulate(crafted, "ka:60").to_json())
    assert told["summary"]["num_cold"] == table["cold"][0]
    assert sum(told["by_function"]["cold"]) == table["cold"][0]
    with pytest.raises(InputError, match="nothing to compare"):
        compare([])


def test_bins_hold_what_they_say() -> None:
    from numba import njit

    from nonet.coldstart.simulating._pod_kernels import bin_of

    binned = njit(bin_of.py_func)
    edges = bin_edges()
    for value in [*range(100), 12345, 10**9, 2**40 - 1, 2**40, 2**40 + 1, 2**59]:
        at = binned(value)
        assert edges[at] <= value and (at + 1 == len(edges) or value < edges[at + 1])


def test_registered_names_have_help() -> None:
    for name in policies():
        kind = policies()[name]
        assert kind.help and parse_policy(kind.example).name
