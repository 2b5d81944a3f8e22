"""`plan`: how many more servers fit under the row's budget while the limits hold."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from nonet.common.errors import InputError
from nonet.common.parallel import Engine, kept_open
from nonet.power.planning.answers import PolicyPlan, conclude
from nonet.power.planning.outcome import MOST_ADDED, MakeLoad, Outcome, Runner
from nonet.power.planning.rounds import Progress, choose_engine, pooled, search_steps
from nonet.power.planning.slo import Slo
from nonet.power.planning.warnings import warnings_of
from nonet.power.policies.protocol import Policy
from nonet.power.policies.registry import build_policy
from nonet.power.profiles.profile import PowerProfile
from nonet.power.simulating.row import Row


@dataclass(frozen=True, eq=False)
class Plan:
    """What `plan` found.

    Args:
        row: without added servers.
        slo: what had to hold.
        seeds: of the traffic.
        policies: by name, the one asked for first.
        outcomes: every run.
        warnings: what to doubt, in sentences.
    """

    row: Row
    slo: Slo
    seeds: tuple[int, ...]
    policies: Mapping[str, PolicyPlan]
    outcomes: tuple[Outcome, ...]
    warnings: tuple[str, ...] = ()
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def best(self) -> PolicyPlan:
        """The answer for the policy that was asked for first."""
        return next(iter(self.policies.values()))

    def sentence(self) -> str:
        """The answer in one sentence."""
        return self.best.sentence()

    @cached_property
    def shown(self) -> Outcome:
        """The run that the page shows: the answer's, under the seed with the highest power."""
        of_answer = [o for o in self.outcomes if o.policy == self.best.policy and o.added == self.best.added]
        return max(of_answer, key=lambda outcome: outcome.peak)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "answer": self.sentence(),
            "servers": self.row.num_servers,
            "budget_w": self.row.budget.at(0.0),
            "slo": self.slo.model_dump(),
            "seeds": list(self.seeds),
            "warnings": list(self.warnings),
            "policies": {name: found.to_dict() for name, found in self.policies.items()},
        }


def plan(
    row: Row,
    make_load: MakeLoad,
    profile: PowerProfile | None = None,
    policies: Sequence[str | Policy] = ("polca",),
    slo: Slo | None = None,
    seeds: int | Sequence[int] = 3,
    max_added: float = 0.50,
    step: float = 0.025,
    days: float | None = None,
    *,
    workers: int | None = None,
    engine: Engine | None = None,
    confidence: float = 0.95,
    scan: bool = False,
    progress: Progress | None = None,
) -> Plan:
    """How many more servers fit, by policy.

    The answer is the largest step such that it and all smaller ones hold, on every seed. It is found by bisection in
    several sections with a check of the neighbours (`search`, which says what that assumes), after which the steps
    below the answer are run under the first seed; or by running every step (`scan`). The first brake is found the same
    way. Latency impact is that of `impact`: against the same servers, requests and seed without a budget. The interval
    is for the mean, over traffic, of the fraction at which a limit breaks: one seed is one draw of the traffic.

    Args:
        row: as it is today; added servers have the same mix of classes, the budget stays.
        make_load: requests for (added fraction, seed); traffic must grow with the servers. For processes and
            Ray it must be picklable: a module's function, a `functools.partial` of one, or one of `planning.traffic`.
        profile: replaces that of every server.
        policies: names or policies; the first is the one asked for.
        slo: what must hold; by default that of the POLCA evaluation.
        seeds: how many, from 1 on, or which.
        max_added: largest fraction.
        step: fraction between steps; steps that add the same number of whole servers are one.
        days: requests after this are left out.
        workers: by default one for each core.
        engine: "threads", "local" (processes) or "ray"; by default threads, processes with more than eight workers.
        confidence: of the interval.
        scan: run every step.
        progress: told the number of runs so far, and what is done.

    Raises:
        InputError: no steps, seeds or policies; a class with requests but without servers.

    >>> from nonet.power import PROFILES, Row
    >>> from nonet.power.planning.traffic import WeekTraffic
    >>> from nonet.power.load.week import WeekConfig
    >>> row = Row.uniform(10, PROFILES["a100-llama2-70b-tp8"], budget_w=60_000)
    >>> found = plan(row, WeekTraffic(WeekConfig(requests_per_s=0.5), days=0.02), seeds=2, max_added=0.2, step=0.1)
    >>> print(found.sentence())
    2 more servers fit (+20.0%, 12 in all) [95% interval of the limit 20.0% to more] under polca: every ...
    """
    num_workers = workers or len(os.sched_getaffinity(0))
    chosen_engine = choose_engine(engine, num_workers)
    chosen = _policies(policies)
    seed_list = tuple(range(1, seeds + 1)) if isinstance(seeds, int) else tuple(seeds)
    if not seed_list or len(set(seed_list)) < len(seed_list):
        raise InputError("plan: needs at least one seed, each once")
    steps = added_steps(row.num_servers, max_added, step)
    runner = Runner(row, make_load, chosen, profile, days)
    limits, sections = slo or Slo(), max(2, math.ceil(num_workers / len(seed_list)) + 1)
    with kept_open(chosen_engine, num_workers):
        found = search_steps(
            pooled(runner, num_workers, chosen_engine), steps, seed_list, tuple(chosen), limits,
            sections=len(steps) if scan else sections, scan=scan, progress=progress,
        )  # fmt: skip
    plans = {
        name: conclude(name, row.num_servers, steps, seed_list, found, limits, confidence=confidence) for name in chosen
    }
    outcomes = tuple(found[key] for key in sorted(found))
    thresholds = {name: thresholds_of(policy) for name, policy in chosen.items()}
    added, first = next(iter(plans.values())).added, next(iter(thresholds.values()))
    warnings = warnings_of(row, make_load, outcomes, added, first, seed_list)
    return Plan(row, limits, seed_list, plans, outcomes, warnings, thresholds)


def added_steps(num_servers: int, max_added: float, step: float) -> tuple[int, ...]:
    """Numbers of added servers, ascending, from 0 on, each once.

    >>> added_steps(40, 0.1, 0.025), added_steps(4, 0.5, 0.1)
    ((0, 1, 2, 3, 4), (0, 1, 2))
    """
    if not (step > 0 and 0 <= max_added <= MOST_ADDED and max_added / step <= 10_000):
        raise InputError(
            f"plan: needs a step above 0 and max_added from 0 to {MOST_ADDED:g}, got {step:g} and {max_added:g}"
        )
    count = math.floor(max_added / step + 1e-9)
    if count == 0 and max_added > 0:
        raise InputError(f"plan: a step of {step:g} is more than max_added, {max_added:g}; make it smaller")
    return tuple(sorted({round(num_servers * (1 + step * i)) - num_servers for i in range(count + 1)}))


def thresholds_of(policy: Policy) -> dict[str, float]:
    """The thresholds of a policy by name, as far as it has any."""
    config = getattr(policy, "config", None)
    names = ("t1", "t2", "threshold", "brake_at")
    return {name: float(getattr(config, name)) for name in names if getattr(config, name, None) is not None}


def _policies(policies: Sequence[str | Policy]) -> dict[str, Policy]:
    if isinstance(policies, str) or not isinstance(policies, Sequence):
        policies = (policies,)
    chosen: dict[str, Policy] = {}
    for given in policies:
        policy = build_policy(given) if isinstance(given, str) else given
        if policy.name in chosen:
            raise InputError(f"plan: policy {policy.name!r} is given twice; compare thresholds with sweep")
        chosen[policy.name] = policy
    if not chosen:
        raise InputError("plan: needs a policy")
    return chosen
