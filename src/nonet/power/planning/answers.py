"""From outcomes to answers: row sizes over all seeds, and how many servers fit under a policy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nonet.power.planning.interval import Interval, mean_interval
from nonet.power.planning.outcome import CLASSES, Outcome
from nonet.power.planning.rounds import Key, holds
from nonet.power.planning.slo import NAMES, OVERLOADED, Slo, phrase


@dataclass(frozen=True, eq=False)
class Step:
    """One row size over all seeds that were run there.

    Args:
        added, fraction: servers more than the row has, and over its own.
        seeds: which were run.
        holds: whether all of them hold.
        broken: limits that one of them breaks.
        brakes, peak, uncapped_peak, longest_overload_s: worst seed.
        impact, throughput: worst seed by limit and by class.
        capped: mean over the seeds by class.
    """

    added: int
    fraction: float
    seeds: tuple[int, ...]
    holds: bool
    broken: tuple[str, ...]
    brakes: int
    peak: float
    uncapped_peak: float
    longest_overload_s: float
    impact: Mapping[str, float]
    throughput: Mapping[str, float]
    capped: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class PolicyPlan:
    """The answer for one policy.

    Args:
        policy: its name.
        num_servers: of the row.
        added: servers that fit: the largest step such that it and all smaller ones hold on every seed; 0 as well when
            not even the row as it is holds (`base_holds`).
        base_holds: whether the row without added servers holds.
        at_top: the largest step asked for holds: more may fit.
        by_seed: servers that fit by seed, -1 where the row as it is does not hold.
        interval: for the mean limit over traffic; None with one seed.
        steps: what was run, ascending.
        reason: limits that break at the next step, `reason_fraction`; empty at the top.
        limits: smallest fraction that was run at which each limit breaks.
        first_brake: smallest fraction that brakes on any seed, None when none does.
    """

    policy: str
    num_servers: int
    added: int
    base_holds: bool
    at_top: bool
    by_seed: Mapping[int, int]
    interval: Interval | None
    steps: tuple[Step, ...]
    reason: tuple[str, ...]
    reason_fraction: float | None
    limits: Mapping[str, float]
    first_brake: float | None

    @property
    def fraction(self) -> float:
        """Added servers over the row's own."""
        return self.added / self.num_servers

    @property
    def fits(self) -> bool:
        """Whether as many servers fit as the smallest step adds (or, where none was asked for, the row as it is)."""
        return self.base_holds and (self.added > 0 or self.at_top)

    @property
    def answer(self) -> Step:
        """The step of the answer (or the row as it is)."""
        return next(step for step in self.steps if step.added == self.added)

    def sentence(self) -> str:
        """The answer in one sentence."""
        overloaded = "requests pile up without end, even without a budget" if OVERLOADED in self.reason else ""
        if not self.base_holds:
            why = overloaded or f"the row as it is already breaks {phrase(self.reason)}"
            return f"No server fits under {self.policy}: {why}."
        if self.at_top and self.added == 0:
            return f"The row as it is holds under {self.policy}; no more servers were asked for."
        head = f"{self.added} more servers fit (+{self.fraction:.1%}, {self.num_servers + self.added} in all)"
        if self.interval is not None:
            high = "more" if math.isinf(self.interval.high) else f"{self.interval.high:.1%}"
            low = max(0.0, self.interval.low)
            head += f" [{self.interval.confidence:.0%} interval of the limit {low:.1%} to {high}]"
        brake = "no step that was run brakes" if self.first_brake is None else f"first brake at +{self.first_brake:.1%}"
        if self.at_top:
            return f"{head} under {self.policy}: every step asked for holds; {brake}."
        why = overloaded or f"{phrase(self.reason)} would break"
        return f"{head} under {self.policy}; at +{self.reason_fraction:.1%} {why}; {brake}."

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        interval = self.interval
        return {
            "answer": self.sentence(),
            "added": self.added,
            "fraction": self.fraction,
            "base_holds": self.base_holds,
            "at_top": self.at_top,
            "added_by_seed": {str(seed): added for seed, added in self.by_seed.items()},
            "interval": None if interval is None else [interval.low, interval.high, interval.confidence],
            "reason": list(self.reason),
            "reason_fraction": self.reason_fraction,
            "limits": dict(self.limits),
            "first_brake": self.first_brake,
            "steps": [dict(vars(step)) for step in self.steps],
        }


def conclude(
    policy: str,
    num_servers: int,
    steps: Sequence[int],
    seeds: Sequence[int],
    found: Mapping[Key, Outcome],
    slo: Slo,
    *,
    confidence: float = 0.95,
) -> PolicyPlan:
    """The answer from the outcomes of a search."""
    own = {key[1:]: outcome for key, outcome in found.items() if key[0] == policy}
    at_seed = {seed: _prefix(seed, steps, own, slo) for seed in seeds}
    worst = min(at_seed.values())
    table = tuple(step_of(added, own, slo) for added in sorted({added for _, added in own}))
    by_added = {entry.added: entry for entry in table}
    next_added = steps[worst + 1] if worst + 1 < len(steps) else None
    names = [*NAMES, *([OVERLOADED] if any(OVERLOADED in entry.broken for entry in table) else [])]
    first = {name: [entry.fraction for entry in table if name in entry.broken] for name in names}
    braking = [entry.fraction for entry in table if entry.brakes > 0]
    return PolicyPlan(
        policy=policy,
        num_servers=num_servers,
        added=steps[max(0, worst)],
        base_holds=worst >= 0,
        at_top=next_added is None,
        by_seed={seed: steps[at] if at >= 0 else -1 for seed, at in at_seed.items()},
        interval=_interval(list(at_seed.values()), steps, num_servers, confidence),
        steps=table,
        reason=by_added[next_added].broken if next_added is not None else (),
        reason_fraction=next_added / num_servers if next_added is not None else None,
        limits={name: min(fractions) for name, fractions in first.items() if fractions},
        first_brake=min(braking, default=None),
    )


def _prefix(seed: int, steps: Sequence[int], own: Mapping[tuple[int, int], Outcome], slo: Slo) -> int:
    run = [(at, own[seed, added]) for at, added in enumerate(steps) if (seed, added) in own]
    failed = min((at for at, outcome in run if not holds(outcome, slo)), default=len(steps))
    return max((at for at, _ in run if at < failed), default=-1)


def _interval(answers: Sequence[int], steps: Sequence[int], num_servers: int, confidence: float) -> Interval | None:
    if len(answers) < 2:
        return None
    width = (steps[1] - steps[0]) / num_servers if len(steps) > 1 else 0.0
    # A seed whose row as it is breaks a limit has its limit somewhere below: one step is the best that can be said.
    held = [steps[at] / num_servers if at >= 0 else -width for at in answers]
    failed = [steps[at + 1] / num_servers if at + 1 < len(steps) else math.inf for at in answers]
    return mean_interval(held, failed, confidence)


def step_of(added: int, own: Mapping[tuple[int, int], Outcome], slo: Slo) -> Step:
    """One row size over all seeds.

    Args:
        added: the row size.
        own: outcomes of one policy by (seed, added).
        slo: limits.
    """
    runs = {seed: outcome for (seed, at), outcome in sorted(own.items()) if at == added}
    outcomes = list(runs.values())
    broken = dict.fromkeys(name for o in outcomes for name in slo.broken(o.impact, o.brakes))
    return Step(
        added=added,
        fraction=outcomes[0].fraction,
        seeds=tuple(runs),
        holds=not broken,
        broken=tuple(broken),
        brakes=max(o.brakes for o in outcomes),
        peak=max(o.peak for o in outcomes),
        uncapped_peak=max(o.uncapped_peak for o in outcomes),
        longest_overload_s=max(o.longest_overload_s for o in outcomes),
        impact=_worst([o.impact for o in outcomes], max),
        throughput=_worst([o.throughput for o in outcomes], min),
        capped={name: sum(o.capped[name] for o in outcomes) / len(outcomes) for name in CLASSES},
    )


def _worst(found: Sequence[Mapping[str, float]], worst: Callable[[list[float]], float]) -> dict[str, float]:
    names = dict.fromkeys(name for one in found for name in one)
    by_name = {name: [one[name] for one in found if name in one] for name in names}
    return {n: math.nan if any(map(math.isnan, values)) else worst(values) for n, values in by_name.items()}
