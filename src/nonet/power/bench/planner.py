"""The planner against what is known: a scan of all steps, closed forms, the binomial tail; and the time of a report."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import stats

from nonet.common.findings import Better, Finding
from nonet.power.load.base_row import load_base_row
from nonet.power.load.requests import RequestLoad
from nonet.power.planning.answers import PolicyPlan, conclude
from nonet.power.planning.outcome import Outcome, Runner, Task
from nonet.power.planning.page import write_page
from nonet.power.planning.plan import added_steps, plan
from nonet.power.planning.ribbon import Ribbon
from nonet.power.planning.rounds import Evaluate, Key, search_steps
from nonet.power.planning.scenario import base_scenario
from nonet.power.planning.slo import Slo
from nonet.power.planning.sweep import sweep
from nonet.power.planning.traffic import WeekTraffic
from nonet.power.policies.registry import build_policy
from nonet.power.profiles import PROFILES
from nonet.power.simulating.engine import simulate
from nonet.power.simulating.row import Row

Scale = Literal["quick", "full"]
_STEPS = added_steps(40, 0.5, 0.025)
_EPOCH_S = 60.0


def planner_findings(scale: Scale = "quick", progress: Callable[[str], None] | None = None) -> list[Finding]:
    """Every finding of the planner.

    Args:
        scale: "quick" tries fewer scenarios, without a promise on them. The report is for two days of traffic a seed.
        progress: told what is being done.
    """
    tell, full = progress or (lambda _: None), scale == "full"
    tell("search against a scan")
    found = [equals_scan_finding(20 if full else 6, promised=full)]
    tell("intervals against known limits")
    found.append(ci_finding(100))
    tell("overload against the binomial tail")
    found.append(binomial_finding(20_000 if full else 5_000))
    tell("a full report")
    return [*found, *seconds_findings(days=2.0)]


# -- the search against a scan of all steps


@dataclass(frozen=True)
class Scenario:
    """A small random question.

    Args:
        runner: row, traffic and policy.
        slo: what must hold.
        seeds: of the traffic.
    """

    runner: Runner
    slo: Slo
    seeds: tuple[int, ...]


def random_scenario(seed: int, hours: float = 1.0) -> Scenario:
    """A row of 40 servers for an hour of traffic, with random load, budget, policy, SLO and number of seeds."""
    draws = np.random.Generator(np.random.Philox(seed))
    base = load_base_row("polca-base")
    rate_per_s, burst_share = draws.uniform(2.0, 4.0), draws.choice([0.0, 0.2])
    week = base.week.model_copy(update={"requests_per_s": float(rate_per_s), "burst_share": float(burst_share)})
    traffic = WeekTraffic(week, hours / 24)
    row = base.row()
    peak_w = float(simulate(row, traffic(0.0, seed)).row_w.max())
    row = row.with_budget(peak_w * float(draws.uniform(1.02, 1.35)))
    policy = build_policy(str(draws.choice(["polca", "polca", "one-threshold-low", "one-threshold-all", "no-cap"])))
    slo = Slo(lp_p50=float(draws.uniform(0.005, 0.06)), lp_p99=float(draws.uniform(0.02, 0.5)))
    num_seeds = int(draws.integers(1, 4))
    seeds = tuple(int(value) for value in draws.integers(1, 10**6, num_seeds))
    return Scenario(Runner(row, traffic, {policy.name: policy}), slo, tuple(dict.fromkeys(seeds)))


def both_answers(scenario: Scenario) -> tuple[PolicyPlan, PolicyPlan]:
    """(by search, by scan); every step is run once and the search is told what it asks for."""
    name = next(iter(scenario.runner.policies))
    every = {(s, added): scenario.runner(Task(added, s, (name,)))[0] for s in scenario.seeds for added in _STEPS}

    def told(tasks: Sequence[Task]) -> Iterable[list[Outcome]]:
        return [[every[task.seed, task.added]] for task in tasks]

    searched = _answer(told, scenario.seeds, name, scenario.slo)
    scanned = {(name, *key): outcome for key, outcome in every.items()}
    return searched, conclude(name, 40, _STEPS, scenario.seeds, scanned, scenario.slo)


def _answer(evaluate: Evaluate, seeds: Sequence[int], name: str, slo: Slo) -> PolicyPlan:
    found: dict[Key, Outcome] = search_steps(evaluate, _STEPS, seeds, (name,), slo)
    return conclude(name, 40, _STEPS, seeds, found, slo)


def equals_scan_finding(num: int, *, promised: bool = True) -> Finding:
    """Share of random scenarios in which search and scan give the same answer on every seed."""
    equal, brakes, inside, runs = 0, 0, 0, []
    for seed in range(num):
        searched, scanned = both_answers(random_scenario(seed))
        equal += (searched.added, searched.base_holds, dict(searched.by_seed)) == (
            scanned.added,
            scanned.base_holds,
            dict(scanned.by_seed),
        )
        inside += scanned.base_holds and not scanned.at_top
        brakes += searched.first_brake == scanned.first_brake
        runs.append(len(searched.steps) / len(scanned.steps))
    note = (
        f"limit inside the range in {inside}; first brake equal in {brakes}; the search ran {np.mean(runs):.0%} of the"
        " steps"
    )
    data = f"synthetic, {num} scenarios of 40 servers, 21 steps"
    return _finding("planner_equals_scan", equal / num, "", "match", data, 1.0 if promised else None, note)


# -- intervals against known limits


def known_limits(mean: float, spread: float, draws: np.random.Generator) -> Evaluate:
    """Outcomes of a row whose limit, by seed, is drawn from a normal law."""
    limits: dict[int, float] = {}

    def evaluate(tasks: Sequence[Task]) -> Iterable[list[Outcome]]:
        for task in tasks:
            limit = limits.setdefault(task.seed, float(draws.normal(mean, spread)))
            yield [_synthetic(task, limit)]

    return evaluate


def _synthetic(task: Task, limit: float) -> Outcome:
    fraction = task.added / 40
    impact = {"lp_p50": max(0.0, 0.05 + 0.2 * (fraction - limit))}
    nothing = Ribbon(np.zeros((1, 5), np.float32), 0, np.zeros((1, 2), np.float32))
    capped = {"hp": 0.0, "lp": 0.0}
    return Outcome(
        policy=task.policies[0], seed=task.seed, added=task.added, fraction=fraction, requests=0, days=7.0, brakes=0,
        impact=impact, throughput={}, capped=capped, levels={}, peak=0.8, uncapped_peak=0.8, overload_s=0.0,
        longest_overload_s=0.0, overload_share=0.0, rise_2s=0.0, rise_cap=0.0, latency_s={},
        extrapolated={"prompts": 0, "batch_share": 0.0, "level_share": 0.0}, ribbon=nothing,
    )  # fmt: skip


def ci_covered(num: int, seed: int = 0) -> int:
    """Of `num` cases with known mean limit, how many have it in their 95 % interval: means from 15 % to 35 %, spreads
    from a tenth of a step to two steps, 3 to 6 seeds."""
    draws = np.random.Generator(np.random.Philox(seed))
    covered = 0
    for _ in range(num):
        mean, spread = float(draws.uniform(0.15, 0.35)), float(draws.uniform(0.0025, 0.05))
        seeds = tuple(range(int(draws.integers(3, 7))))
        interval = _answer(known_limits(mean, spread, draws), seeds, "polca", Slo()).interval
        covered += interval is not None and interval.low <= mean <= interval.high
    return covered


def ci_finding(num: int) -> Finding:
    """How many intervals cover the limit that they are for."""
    data = f"synthetic, {num} cases, limits normal over traffic with known mean"
    return _finding("ci_covers", ci_covered(num), "", "higher", data, round(0.9 * num), "95 % intervals")


# -- overload against the binomial tail


def on_off_load(fraction: float, seed: int, *, row: Row, num_epochs: int, share_on: float) -> RequestLoad:
    """Every server has one request in an epoch with probability `share_on`, or none, independently."""
    grown = row.with_added(fraction)
    draws = np.random.Generator(np.random.Philox([seed, grown.num_servers]))
    epoch, server = np.nonzero(draws.random((num_epochs, grown.num_servers)) < share_on)
    priority = np.array([int(one.priority) for one in grown.servers], np.int8)[server]
    times = epoch * _EPOCH_S + 0.5
    return RequestLoad.of(times, np.full(len(times), 1024), np.full(len(times), 256), priority=priority)


def overload_z(num_epochs: int, share_on: float = 0.4, busy_limit: int = 13) -> list[tuple[int, float, float]]:
    """By number of added servers: measured overload probability, and how many standard errors it is off the tail.

    Servers are on or off for a whole epoch, the telemetry tells the mean of an epoch, and nobody acts. The budget lies
    between `busy_limit` and one more busy server, so that overload is the tail of a binomial law.
    """
    profile = PROFILES["a100-llama2-70b-tp8"]
    options = {"max_batch": 1, "telemetry_period_s": _EPOCH_S}
    row = Row.uniform(20, profile, budget_w=1e6, **options)  # type: ignore[arg-type]
    idle_w, busy_w = _epoch_watts(row)
    found = []
    for added in (0, 2, 4, 6, 10):
        servers = row.num_servers + added
        budget_w = servers * idle_w + (busy_limit + 0.5) * (busy_w - idle_w)
        limited = row.with_budget(budget_w)
        make_load = partial(on_off_load, row=limited, num_epochs=num_epochs, share_on=share_on)
        (outcome,) = Runner(limited, make_load, {"null": build_policy("null")})(Task(added, 7, ("null",)))
        share = outcome.overload_s / _EPOCH_S / num_epochs
        tail = float(stats.binom.sf(busy_limit, servers, share_on))
        found.append((added, share, (share - tail) / np.sqrt(tail * (1 - tail) / num_epochs)))
    return found


def _epoch_watts(row: Row) -> tuple[float, float]:
    """(idle, busy) mean power of a server over an epoch, from two epochs of the row: one request in the first."""
    one = RequestLoad.of([0.5], [1024], [256], priority=[1])
    row_w = simulate(row, one, duration_s=3 * _EPOCH_S).row_w.astype(float)
    idle_w = row_w[1] / row.num_servers
    return idle_w, float(row_w[0] - row_w[1] + idle_w)


def binomial_finding(num_epochs: int) -> Finding:
    """The largest distance of a measured overload probability from the binomial tail, in standard errors."""
    found = overload_z(num_epochs)
    note = ", ".join(f"+{added}: {share:.4f}" for added, share, _ in found)
    data = f"synthetic, 20 to 30 on/off servers, {num_epochs:,} epochs"
    worst = max(abs(z) for _, _, z in found)
    return _finding("overload_vs_binomial", worst, "standard errors", "lower", data, 3.0, f"overload {note}")


# -- the time of a report


def seconds_findings(days: float, seeds: int = 3) -> list[Finding]:
    """Plan, threshold sweep and page of the paper's row, from a standing start with kernels compiled."""
    scenario = base_scenario("polca-base", days=days, seeds=seeds)
    simulate(scenario.row, scenario.make_load(0.0, 1).between(0.0, 600.0), policy=build_policy("polca"))
    start_s, cpu_s = time.perf_counter(), time.process_time()
    found = plan(**scenario.arguments())
    swept = sweep(scenario.row, scenario.make_load, slo=scenario.slo, days=days)
    with tempfile.TemporaryDirectory() as folder:
        write_page(Path(folder) / "plan.html", found, swept)
    wall_s, used_s = time.perf_counter() - start_s, time.process_time() - cpu_s
    requests = sum(outcome.requests for outcome in found.outcomes)
    data = f"synthetic, 40 servers, {days:g} days, {seeds} seeds, 21 steps, 3 thresholds x 5 sizes"
    note = f"{used_s:.0f} s of cores; {len(found.outcomes)} steps of {requests:,} requests; {found.sentence()}"
    return [
        _finding("planner_seconds", wall_s, "s", "lower", data, 60.0, note),
        _finding("planner_added", found.best.fraction, "", "higher", data, None, found.sentence()),
    ]


def _finding(
    name: str, value: float, unit: str, better: Better, data: str, promise: float | None, note: str = ""
) -> Finding:
    return Finding("power", name, float(value), unit, better, data, (), promise, note)
