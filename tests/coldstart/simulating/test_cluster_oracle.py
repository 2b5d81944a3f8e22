"""Policies that fixed pools or a fixed concurrency describe, against platforms and functions that have them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nonet.coldstart.bench.random_traces import random_workload
from nonet.coldstart.simulating.calls import Functions, Workload
from nonet.coldstart.simulating.engine import simulate
from nonet.coldstart.simulating.platform import Platform, Pools
from nonet.coldstart.simulating.policies.concurrency_adjustment import ConcurrencyAdjustment
from nonet.coldstart.simulating.policies.openwhisk import IDLE_US, OpenWhisk, StemCell
from nonet.coldstart.simulating.results import Result


def assert_same(one: Result, other: Result) -> None:
    assert one.outcomes is not None
    assert one.outcomes.tolist() == other.outcomes.tolist()  # type: ignore[union-attr]
    assert one.pods.tolist() == other.pods.tolist()  # type: ignore[union-attr]


def with_functions(whole: Workload, functions: Functions) -> Workload:
    return Workload.from_arrays(
        whole.calls,  # type: ignore[attr-defined]
        functions,
        whole.cold_times,
        start_us=whole.start_us,
        end_us=whole.end_us,
    )


@pytest.mark.parametrize("seed", range(25))
def test_openwhisk_with_fixed_stem_cells_equals_the_plain_simulator(seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = random_workload(seed)
    num = len(whole.functions)
    kinds = rng.choice(["a", "b"], num).tolist()
    memory = rng.choice([128, 256], num)
    whole = with_functions(whole, replace(whole.functions, runtime=kinds, memory_mb=memory))
    cells = [StemCell("a", 128, int(rng.integers(0, 3)), max_count=0), StemCell("b", 256, 1, max_count=0)]
    policy = OpenWhisk(cells, stem_us=int(rng.integers(0, 5)))
    result = simulate(whole, policy, record="requests")

    pool_class = np.array([[("a", 128), ("b", 256)].index((k, m)) if (k, m) in [("a", 128), ("b", 256)] else -1
                           for k, m in zip(kinds, memory.tolist(), strict=True)], np.int32)  # fmt: skip
    plain = with_functions(whole, replace(whole.functions, pool_class=pool_class))
    at, allocation = whole.cold_times.at, whole.cold_times.allocation_us
    means = [sum(allocation[at[f] : at[f + 1]].tolist()) / (at[f + 1] - at[f]) for f in range(num)]
    scratch = []
    for k in range(2):
        own = [means[f] for f in range(num) if pool_class[f] == k]
        scratch.append(int(sum(own) / len(own)) if own else 0)
    pools = Pools([[cell.initial_count] for cell in cells], [[policy.stem_us]] * 2, scratch, scratch)
    expected = simulate(plain, f"ka:{IDLE_US // 1_000_000}", Platform(pools=pools), record="requests")
    assert_same(result, expected)


@pytest.mark.parametrize("seed", range(20))
def test_a_raised_concurrency_equals_functions_that_have_it(seed: int) -> None:
    whole = random_workload(seed, largest=2)
    policy = ConcurrencyAdjustment(0.0)
    policy.concurrency = np.random.default_rng(seed).integers(1, 9, len(whole.functions)).astype(np.int64)
    policy._trained_until_us, policy._num_functions = 0, len(whole.functions)
    result = simulate(whole, policy, record="requests")
    raised = with_functions(whole, replace(whole.functions, concurrency=policy.concurrency))
    assert_same(result, simulate(raised, "ka:60", record="requests"))
