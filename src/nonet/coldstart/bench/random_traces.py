"""Small random workloads, and the comparison of a compiled simulation with the plain one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nonet.coldstart.bench.plain_simulator import FOREVER_US, MINUTE_US, PlainSimulator
from nonet.coldstart.simulating.calls import Calls, ColdTimes, Functions, Workload
from nonet.coldstart.simulating.engine import simulate
from nonet.coldstart.simulating.platform import PICKS, SCALE_RULES, Platform, Pools
from nonet.coldstart.simulating.policies.base import Policy, RulePolicy
from nonet.coldstart.simulating.regions import CombinedWorkload, Regions
from nonet.coldstart.simulating.results import KINDS, Result, bin_edges

MEMORY_CAPS_MB = (128, 512, 1000, 2000, 5000, 10_000)
_SCALES_US = (1, 5, 50, 1000, MINUTE_US // 60, MINUTE_US, 20 * MINUTE_US, 200 * MINUTE_US)


def random_workload(seed: int, *, largest: int = 8, num: int = 200, shortest_us: int = 1) -> Workload:
    """At most `num` calls of at most 5 functions with concurrency 1 .. `largest`: ties, zero durations, several cold
    times.

    Times are multiples of a grain between `shortest_us` and hours. Functions have triggers, runtimes and one of two
    pools or none.
    """
    rng = np.random.default_rng(seed)
    functions, n = int(rng.integers(1, 6)), int(rng.integers(1, num + 1))
    scale = int(rng.choice([s for s in _SCALES_US if s >= shortest_us]))
    grain = max(scale // int(rng.choice([1, 3, 100])), shortest_us)
    arrive = np.sort(rng.integers(0, max(n // int(rng.choice([1, 2, 8])), 1), n)) * grain
    if rng.random() < 0.4:  # near-periodic calls give policies something to learn
        arrive = np.sort(np.arange(n) * grain + rng.integers(0, 2, n))
    run = (rng.integers(0, 4, n) * grain * (rng.random(n) < 0.7)).astype(np.int64)
    samples = rng.integers(1, 4, functions)
    total = int(samples.sum())
    cold = ColdTimes(
        np.concatenate([[0], np.cumsum(samples)]), rng.integers(0, 3, total) * grain, rng.integers(0, 3, total) * grain
    )
    table = Functions.make(
        functions,
        memory_mb=rng.choice([0, 1, 128, 256, 512], functions),
        concurrency=rng.integers(1, largest + 1, functions),
        pool_class=rng.integers(-1, 2, functions),
        trigger=rng.choice(["TIMER-A", "APIG-S", "OBS-A", "workflow-S"], functions).tolist(),
        runtime=rng.choice(["Python3", "Java", "Custom"], functions).tolist(),
    )
    calls = Calls(arrive + 1000, run, rng.integers(0, functions, n).astype(np.int32))
    end_us = int(arrive[-1]) + 1000 + int(rng.integers(0, 5)) * grain
    return Workload.from_arrays(calls, table, cold, start_us=0, end_us=end_us, block=int(rng.choice([1, 7, 1000])))


def random_regions(seed: int) -> CombinedWorkload:
    """Two random workloads of the same window as two regions, a random round trip apart; room for some pods or all."""
    rng = np.random.default_rng(seed)
    parts = [random_workload(2 * seed + k, num=100) for k in range(2)]
    end_us = max(part.end_us for part in parts)
    same = [
        Workload.from_arrays(_calls(part), part.functions, part.cold_times, start_us=0, end_us=end_us) for part in parts
    ]
    capacity = None if rng.random() < 0.5 else rng.uniform(0, 3, 2)
    return CombinedWorkload(same, Regions.equidistant(["a", "b"], int(rng.integers(0, end_us // 50 + 2)), capacity))


def _calls(workload: Workload) -> Calls:
    blocks = list(workload.blocks())
    return Calls(*(np.concatenate([getattr(b, name) for b in blocks]) for name in ("arrive_us", "run_us", "function")))


def random_pools(seed: int) -> Pools:
    """Two classes of two stages, small and sometimes empty."""
    rng = np.random.default_rng(seed)
    return Pools(
        rng.integers(0, 3, (2, 2)), rng.integers(0, 1000, (2, 2)), rng.integers(0, 5000, 2), rng.integers(0, 9000, 2)
    )


def random_platform(seed: int) -> Platform:
    """Any pick and scale rule, sometimes pools, a memory cap, an overhead; keep-alives that tie with gaps."""
    rng = np.random.default_rng(seed + 1)
    return Platform(
        keep_alive_us=int(rng.choice([0, 1, 5, 50, 3000, MINUTE_US // 60, MINUTE_US, 10 * MINUTE_US]))
        * int(rng.integers(1, 4)),
        memory_cap_mb=int(rng.choice(MEMORY_CAPS_MB)) if rng.random() < 0.5 else None,
        pools=random_pools(seed) if rng.random() < 0.3 else None,
        warm_overhead_us=int(rng.choice([0, 0, 3])),
        pick=PICKS[seed % 4],
        scale_rule=SCALE_RULES[(seed // 4) % 4],
    )


@dataclass(frozen=True)
class Comparison:
    """A compiled result beside the plain one: `wrong` names what differs, nothing when all is equal."""

    result: Result
    plain: PlainSimulator
    wrong: tuple[str, ...]


def compare_with_plain(
    workload: Workload,
    policy: str | RulePolicy | Policy,
    platform: Platform,
    *,
    seed: int = 0,
    engine: str = "auto",
) -> Comparison:
    """Simulate twice and compare every request's fate, every pod's life, pod time by function, counts."""
    result = simulate(workload, policy, platform, seed=seed, record="requests", engine=engine)
    plain = PlainSimulator(workload, policy, platform, seed)
    assert result.outcomes is not None and result.pods is not None
    kinds = (*KINDS, "dropped")
    outcomes = [(kinds[int(kind)], int(start)) for kind, start in result.outcomes]
    pods = sorted(tuple(int(x) for x in row[[0, 1, 2, 3, 4, 7]]) for row in result.pods)
    lives = sorted((p.f, p.create_us, p.ready_us, _end(p.last_us), _end(p.end_us), p.uses) for p in plain.pods)
    minutes = np.full(len(result.pods_mean), MINUTE_US, np.int64)
    minutes[-1] = max(result.end_us - result.start_us - (len(minutes) - 1) * MINUTE_US, 1)
    alive_us = sum(max(min(p.end_us or 0, result.end_us) - p.create_us, 0) for p in plain.pods)
    pairs = {
        "outcomes": (outcomes, [plain.outcomes[k] for k in range(len(plain.outcomes))]),
        "pods": (pods, lives),
        "idle_us": (result.idle_us.tolist(), plain.idle_us),
        "busy_us": (result.busy_us.tolist(), plain.busy_us),
        "prewarms": (result.num_prewarms, sum(p.origin == "prewarm" for p in plain.pods)),
        "wasted prewarms": (result.num_wasted_prewarms, sum(p.origin == "prewarm" and not p.uses for p in plain.pods)),
        "unused": (result.num_unused, sum(p.origin == "race" and not p.uses for p in plain.pods)),
        "waits": (np.sum([h.counts for h in result.wait.values()], axis=0).tolist(), _histogram(plain.waits)),
        "misses": (result.deadline_misses, plain.num_missed),
        "refused": (result.num_refused, plain.num_refused),
        "put off": (result.num_put_off, plain.num_put_off),
        "pool idle": ([] if result.pool_idle_us is None else result.pool_idle_us.tolist(), plain.pool_idle_us),
        "pods over time": (bool(abs(float(result.pods_mean @ minutes) - alive_us) <= 1e-6 * max(alive_us, 1)), True),
    }
    return Comparison(result, plain, tuple(name for name, (got, want) in pairs.items() if got != want))


def _histogram(values: list[int]) -> list[int]:
    at = np.searchsorted(bin_edges(), np.array(values, np.int64), side="right") - 1
    return np.bincount(at, minlength=len(bin_edges())).tolist()


def _end(time_us: int | None) -> int:
    return -1 if time_us is None or time_us >= FOREVER_US else time_us
