"""The sweep against the engine, one keep-alive at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nonet.coldstart.bench.random_traces import random_workload
from nonet.coldstart.bench.simulator import skewed_workload
from nonet.coldstart.simulating.calls import Calls, ColdTimes, Workload
from nonet.coldstart.simulating.platform import Platform
from nonet.coldstart.simulating.sweep import Sweep, sweep
from nonet.common.errors import InputError

KEEPS_US = [0, 1, 5, 50, 3000, 100_000, 1_000_000, 60_000_000, 180_000_000, 1 << 50]


def same(a: Sweep, b: Sweep) -> bool:
    return bool((a.cold == b.cold).all() and (a.idle_us == b.idle_us).all() and (a.requests == b.requests).all())


@pytest.mark.parametrize("seed", range(40))
def test_sweep_equals_the_engine(seed: int) -> None:
    workload = random_workload(seed, num=100)
    if seed % 2:  # gaps alone decide: no cold time, concurrency 1
        ones = np.ones(len(workload.functions))
        functions = replace(workload.functions, concurrency=ones)
        cold = ColdTimes.constant(len(ones), 0)
        workload = Workload.from_arrays(workload.calls, functions, cold, start_us=0, end_us=workload.end_us, block=50)  # type: ignore[attr-defined]
    ours = sweep(workload, KEEPS_US, seed=seed)
    assert ours.exact.all()
    assert same(ours, sweep(workload, KEEPS_US, seed=seed, method="engine"))
    if seed % 2:
        assert not ours.by_engine.any()


def test_calls_apart_need_no_engine() -> None:
    rng = np.random.default_rng(0)
    arrive = np.cumsum(rng.integers(5_000_000, 200_000_000, 300))
    cold = ColdTimes([0, 3], [0, 0, 0], [1_000_000, 2_000_000, 3_000_000])
    workload = Workload.from_arrays(Calls(arrive, np.full(300, 1000), np.zeros(300, np.int32)), cold_times=cold)
    ours = sweep(workload, KEEPS_US, Platform(warm_overhead_us=7))
    assert not ours.by_engine.any()
    assert same(ours, sweep(workload, KEEPS_US, Platform(warm_overhead_us=7), method="engine"))


def test_gaps_are_marked_where_cold_starts_delay() -> None:
    workload = skewed_workload(20_000, 20)
    near = sweep(workload, KEEPS_US, method="gaps")
    assert not near.exact.any()
    exact = sweep(workload, KEEPS_US)
    # With endless keep-alives only the first burst is cold, and it is longer when starts take a second.
    assert near.num_cold[-1] < exact.num_cold[-1]
    assert abs(near.num_cold[0] / exact.num_cold[0] - 1) < 0.001
    assert (np.diff(exact.num_cold) <= 0).all()


@pytest.mark.parametrize(
    "platform", [Platform(memory_cap_mb=500), Platform(pick="oldest"), Platform(scale_rule="piggyback")]
)
def test_other_platforms(platform: Platform) -> None:
    workload = skewed_workload(500, 5)
    assert same(sweep(workload, KEEPS_US, platform), sweep(workload, KEEPS_US, platform, method="engine"))
    with pytest.raises(InputError, match="gaps"):
        sweep(workload, KEEPS_US, platform, method="gaps")


def test_refusals() -> None:
    workload = skewed_workload(10, 2)
    for keeps, method in (([], "auto"), ([-1], "auto"), ([1], "quick")):
        with pytest.raises(InputError, match="sweep"):
            sweep(workload, keeps, method=method)
