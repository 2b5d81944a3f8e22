"""The experiment of the paper: how many brakes, and what latency, when a row gets 30 % more servers under its budget.

The base row comes from `load.fit` (the preset holds what `fit()` finds), so it has the peak and the rises of a
measured production row. Traffic grows with the servers, the budget does not. Four policies meet the same requests; all
release a brake at once, the plainest rule, since none is published. Latency is compared with the same requests on the
same servers without a budget. The staged release is judged on its own, where the row brakes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from nonet.common.findings import Better, Finding, Rival
from nonet.common.parallel import parallel_map
from nonet.power.load.base_row import BaseRow, Statistics, load_base_row
from nonet.power.load.fit import PUBLISHED, FitResult, fit, measure
from nonet.power.load.replay import fit_to_series, replay_error
from nonet.power.load.requests import RequestLoad
from nonet.power.policies.protocol import Priority
from nonet.power.policies.registry import build_policy
from nonet.power.simulating.engine import simulate
from nonet.power.simulating.impact import impact
from nonet.power.simulating.result import Result
from nonet.power.simulating.row import Row

Scale = Literal["quick", "full"]
POLICY_NAMES = ("polca", "one-threshold-low", "one-threshold-all", "no-cap")
PRESET = "polca-base"
ADDED = 0.3
HUNGRIER = 1.05
RELEASE = "immediate"
"""How all four policies end a brake: the plainest rule."""
SEEDS = (1, 2, 3, 4, 5)
_PAPER = "Patel et al., ASPLOS 2024"
_DRAIN_S = 1800.0
_LIMITS = {"polca_hp_p50": 0.01, "polca_hp_p99": 0.05, "polca_lp_p50": 0.05, "polca_lp_p99": 0.5}


@dataclass(frozen=True)
class SeedOutcome:
    """What one seed of traffic gave.

    Attributes:
        seed: of the traffic.
        brakes: BRAKE commands by policy.
        impact: latency impact of POLCA by finding name, such as "polca_hp_p50".
        low_capped: share of the time that low-priority servers were capped under POLCA, by level.
        hungry_brakes: brakes of POLCA and No-cap with all work 5 % hungrier; empty when not run.
        peak: highest power over budget without a policy.
        base: statistics of the base row under this seed's traffic.
    """

    seed: int
    brakes: dict[str, int]
    impact: dict[str, float]
    low_capped: dict[float, float]
    hungry_brakes: dict[str, int]
    peak: float
    base: Statistics


def run_seed(seed: int, *, base: BaseRow, added: float = ADDED, days: float = 42.0) -> SeedOutcome:
    """The four policies on the traffic of one seed, and POLCA and No-cap with hungrier work."""
    row = base.row(added)
    load = base.load(days=days, seed=seed, added=added)
    uncapped = simulate(row, load, drain_s=_DRAIN_S)
    brakes, found, low_capped = {}, {}, {}
    for name in POLICY_NAMES:
        result = _under(name, row, load)
        brakes[name] = result.brakes
        if name == "polca":
            found = _impact(result, uncapped)
            levels = {level for priority, level in result.capped_s if priority is Priority.LOW}
            low_capped = {level: result.capped_share(Priority.LOW, level) for level in sorted(levels)}
    hungry = row.with_profile(row.servers[0].profile.scaled_power(HUNGRIER))
    hungry_brakes = {name: _under(name, hungry, load).brakes for name in ("polca", "no-cap")}
    alone = measure(base, days=days, seed=seed)
    return SeedOutcome(seed, brakes, found, low_capped, hungry_brakes, uncapped.peak, alone)


@dataclass(frozen=True)
class ReleaseOutcome:
    """What a rule of release costs.

    Attributes:
        brakes: BRAKE commands.
        low_braked: share of the time that low-priority servers spent under the brake.
        low_p99, high_p99: latency impact by class.
    """

    brakes: int
    low_braked: float
    low_p99: float
    high_p99: float


def staged_release(
    base: BaseRow, *, added: float = ADDED, days: float = 7.0, seed: int = 1
) -> dict[str, ReleaseOutcome]:
    """No-cap by rule of release, on the row with 30 % more servers and hungrier work."""
    row = base.row(added)
    row = row.with_profile(row.servers[0].profile.scaled_power(HUNGRIER))
    load = base.load(days=days, seed=seed, added=added)
    uncapped = simulate(row, load, drain_s=_DRAIN_S)
    found = {}
    for rule in ("staged", "immediate"):
        result = _under("no-cap", row, load, rule)
        cost = impact(result, uncapped)
        low_braked = result.capped_share(Priority.LOW)  # No-cap has no other cap than the brake
        found[rule] = ReleaseOutcome(result.brakes, low_braked, cost[Priority.LOW].p99, cost[Priority.HIGH].p99)
    return found


def headline_findings(
    scale: Scale = "quick",
    *,
    refit: bool | None = None,
    workers: int = 1,
    progress: Callable[[str], None] | None = None,
) -> list[Finding]:
    """Every finding of the experiment.

    Args:
        scale: "full" is 42 days and five seeds; "quick" a week and one, without promises that need the time.
        refit: fit the base row from scratch instead of loading the preset; by default only at full scale.
        workers: processes that share the seeds, each of about 2 GiB at full scale.
        progress: told what is being done.
    """
    tell = progress or (lambda _: None)
    full = scale == "full"
    fitted = fit(progress=progress) if (full if refit is None else refit) else None
    base = fitted.base if fitted else load_base_row(PRESET)
    days, seeds = (base.days, SEEDS) if full else (7.0, SEEDS[:1])
    outcomes = []
    for _, outcome in parallel_map(partial(run_seed, base=base, days=days), seeds, workers=workers, engine="local"):
        outcomes.append(outcome)
        tell(f"{len(outcomes)} of {len(seeds)} seeds done")
    outcomes.sort(key=lambda outcome: outcome.seed)
    return [
        *_base_findings(base, fitted, outcomes),
        _replay_finding(base),
        *_outcome_findings(outcomes, days, promised=full),
        _staged_finding(staged_release(base, days=7.0)),
    ]


def _under(name: str, row: Row, load: RequestLoad, release: str = RELEASE) -> Result:
    return simulate(row, load, policy=build_policy(name, release=release), drain_s=_DRAIN_S)


def _impact(result: Result, uncapped: Result) -> dict[str, float]:
    by_class = impact(result, uncapped)
    low, high = by_class[Priority.LOW], by_class[Priority.HIGH]
    pairs = {"polca_hp_p50": high.p50, "polca_hp_p99": high.p99, "polca_lp_p50": low.p50, "polca_lp_p99": low.p99}
    return {**pairs, "polca_hp_throughput": high.throughput, "polca_lp_throughput": low.throughput}


def _base_findings(base: BaseRow, fitted: FitResult | None, outcomes: Sequence[SeedOutcome]) -> list[Finding]:
    source = f"fitted anew, {len(fitted.trials)} candidates" if fitted else f"preset {PRESET}, as fit() finds it"
    data = f"synthetic, {base.num_servers} servers, {base.days:g} days, {base.profile}, medians over draws of traffic"
    peak_error = abs((base.peak or math.nan) - PUBLISHED.peak)
    promises = {"peak": None, "rise_2s": 0.11, "rise_40s": 0.138}
    findings = [_finding("base_peak_error", peak_error, data, "lower", 0.005)]
    for name, promise in promises.items():
        draws = ", ".join(f"{getattr(outcome.base, name):.4f}" for outcome in outcomes)
        note = f"{source}; by seed {draws}"
        rivals = (_rival(getattr(PUBLISHED, name)),)
        value = getattr(base, name) or math.nan
        findings.append(_finding(f"base_{name}", value, data, "lower" if promise else "match", promise, rivals, note))
    return findings


def _replay_finding(base: BaseRow) -> Finding:
    # The series to follow is the row's own of other traffic: what a user records.
    recorded = base.load(days=1.0, seed=base.seed + 1000)
    row = base.row()
    power_w = simulate(row, recorded, drain_s=0.0).row_w[300:]
    fitted = fit_to_series(power_w, row, services=base.week.services)
    error = replay_error(fitted, power_w, row)
    return _finding("replay_mape", error, "synthetic, one day of 2-s samples, its requests unknown", "lower", 0.03)


def _outcome_findings(outcomes: Sequence[SeedOutcome], days: float, *, promised: bool) -> Iterable[Finding]:
    data = f"synthetic, 52 servers, {days:g} days, worst of {len(outcomes)} seeds"
    brakes = {name: [outcome.brakes[name] for outcome in outcomes] for name in POLICY_NAMES}
    shares = [sum(outcome.low_capped.values()) for outcome in outcomes]
    yield _finding(
        "polca_brakes",
        max(brakes["polca"]),
        data,
        "lower",
        0,
        tuple(Rival(name, max(brakes[name]), "measured") for name in POLICY_NAMES[1:]),
        f"low priority capped {max(shares):.0%} of the time; highest power without a policy "
        f"{max(outcome.peak for outcome in outcomes):.3f} of the budget",
    )
    for name in outcomes[0].impact:
        worst = min if name.endswith("throughput") else max
        value = worst(outcome.impact[name] for outcome in outcomes)
        better: Better = "higher" if name.endswith("throughput") else "lower"
        yield _finding(name, value, data, better, _LIMITS.get(name))
    note = "by seed " + ", ".join(str(count) for count in brakes["no-cap"])
    yield _finding("nocap_brakes_min", min(brakes["no-cap"]), data, "higher", 10 if promised else None, (), note)
    fewest = all(
        outcome.brakes["polca"] < min(outcome.brakes[name] for name in POLICY_NAMES[1:]) for outcome in outcomes
    )
    note = "; ".join(f"{name} {', '.join(map(str, brakes[name]))}" for name in POLICY_NAMES)
    yield _finding("polca_fewest", float(fewest), data, "match", 1.0 if promised else None, (), note)
    yield _plus5_finding(outcomes, data)


def _plus5_finding(outcomes: Sequence[SeedOutcome], data: str) -> Finding:
    pairs = [(outcome.hungry_brakes["polca"], outcome.hungry_brakes["no-cap"]) for outcome in outcomes]
    worst = max(ours / theirs if theirs else (math.inf if ours else 0.0) for ours, theirs in pairs)
    note = "POLCA/No-cap by seed " + ", ".join(f"{ours}/{theirs}" for ours, theirs in pairs)
    return _finding("brakes_at_plus5", worst, f"{data}, all work 5 % hungrier", "lower", 0.01, (), note)


def _staged_finding(found: dict[str, ReleaseOutcome]) -> Finding:
    data = "synthetic, 52 servers, 7 days, No-cap, all work 5 % hungrier"
    staged, immediate = found["staged"], found["immediate"]
    note = (
        f"low priority under the brake {staged.low_braked:.0%} of the time (immediate {immediate.low_braked:.0%}); "
        f"LP P99 {staged.low_p99:+.0%} ({immediate.low_p99:+.0%}), "
        f"HP P99 {staged.high_p99:+.0%} ({immediate.high_p99:+.0%})"
    )
    rival = Rival("immediate release", immediate.brakes, "measured")
    return _finding("staged_release_brakes", staged.brakes, data, "lower", immediate.brakes - 1, (rival,), note)


def _rival(value: float) -> Rival:
    return Rival("production row", value, "published", _PAPER)


def _finding(
    name: str,
    value: float,
    data: str,
    better: Better,
    promise: float | None = None,
    rivals: tuple[Rival, ...] = (),
    note: str = "",
) -> Finding:
    return Finding("power", name, float(value), "", better, data, rivals, promise, note)


def outcome_table(outcomes: Sequence[SeedOutcome]) -> list[dict[str, Any]]:
    """One flat record a seed, JSON-ready."""
    return [
        {
            "seed": outcome.seed,
            **{f"brakes {name}": count for name, count in outcome.brakes.items()},
            **{f"brakes {name} +5 %": count for name, count in outcome.hungry_brakes.items()},
            **outcome.impact,
            **{f"low priority at {level:.3f}": share for level, share in outcome.low_capped.items()},
            "peak without a policy": outcome.peak,
            "base rise 2 s": outcome.base.rise_2s,
            "base rise 40 s": outcome.base.rise_40s,
        }
        for outcome in outcomes
    ]
