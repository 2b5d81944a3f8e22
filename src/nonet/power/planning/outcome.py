"""One run under a policy, judged against the same servers, requests and seed without a budget."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nonet.power.load.requests import RequestLoad
from nonet.power.load.rises import rise
from nonet.power.planning.ribbon import Ribbon, ribbon
from nonet.power.policies.protocol import Policy, Priority
from nonet.power.profiles.profile import PowerProfile
from nonet.power.simulating.engine import simulate
from nonet.power.simulating.result import Result
from nonet.power.simulating.row import Row

MakeLoad = Callable[[float, int], RequestLoad]
MOST_ADDED = 10.0
"""Added servers over the row's own, at most: what is beyond is a slip of the pen."""
CLASSES = {"hp": Priority.HIGH, "lp": Priority.LOW}
LATENCY_QS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
"""Quantiles of the latency curves."""
_WARM_UP_S = 600.0
_DAY_S = 86_400.0


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a policy did on a row with added servers, under the traffic of one seed.

    Args:
        policy, seed: which.
        added: servers more than the row has; `fraction` of its own.
        requests, days: size and length of the traffic.
        brakes: BRAKE commands.
        impact: by limit ("hp_p50", ...), latency over the uncapped run's, less one; inf when it never ended, NaN when
            the uncapped run already did not. A class without requests is left out.
        throughput: by class ("hp", "lp"), output tokens over the uncapped run's, less one.
        capped: by class, part of the server time below full clock; `levels` by class and level.
        peak, uncapped_peak: highest sample over budget, under the policy and without one.
        overload_s, longest_overload_s: time above the budget.
        overload_share: part of the run's samples above the budget.
        rise_2s, rise_cap: largest rise of power of the uncapped run within 2 s, and until a cap lands, over the least
            budget; NaN on short runs.
        latency_s: by class, float64 (2, quantiles): at `LATENCY_QS`, under the policy and without one.
        extrapolated: what the profile had to guess: "prompts" (count), "batch_share", "level_share" (parts).
        ribbon: power by hour.
    """

    policy: str
    seed: int
    added: int
    fraction: float
    requests: int
    days: float
    brakes: int
    impact: Mapping[str, float]
    throughput: Mapping[str, float]
    capped: Mapping[str, float]
    levels: Mapping[str, Mapping[float, float]]
    peak: float
    uncapped_peak: float
    overload_s: float
    longest_overload_s: float
    overload_share: float
    rise_2s: float
    rise_cap: float
    latency_s: Mapping[str, NDArray[np.float64]]
    extrapolated: Mapping[str, float]
    ribbon: Ribbon


@dataclass(frozen=True)
class Task:
    """One row size under one seed's traffic, for some of the policies."""

    added: int
    seed: int
    policies: tuple[str, ...]


@dataclass(frozen=True)
class Runner:
    """Runs tasks; picklable when `make_load` and the policies are, so that it can be sent to other processes.

    Args:
        row: without added servers.
        make_load: requests for (added fraction, seed).
        policies: by name; each run starts from a copy.
        profile: replaces that of every server.
        days: requests after this are left out.
        drain_s: how long a run may go on after the last arrival.
    """

    row: Row
    make_load: MakeLoad
    policies: Mapping[str, Policy]
    profile: PowerProfile | None = None
    days: float | None = None
    drain_s: float = 1800.0

    def __call__(self, task: Task) -> list[Outcome]:
        """The outcomes of a task, one a policy."""
        fraction = task.added / self.row.num_servers
        row = self.row.with_added(fraction)
        load = self.make_load(fraction, task.seed)
        if self.days is not None and load.duration_s > self.days * _DAY_S:
            load = load.between(0.0, self.days * _DAY_S)
        uncapped: Result | None = None
        found = []
        for name in task.policies:
            policy = copy.deepcopy(self.policies[name])  # tasks may share this process; simulate resets it
            result = simulate(row, load, self.profile, policy, seed=task.seed, drain_s=self.drain_s)
            if result.commands.num_rows == 0:
                plain = result  # nothing was ordered: the run without a policy is this one
            else:
                uncapped = uncapped or simulate(row, load, self.profile, seed=task.seed, drain_s=self.drain_s)
                plain = uncapped
            found.append(judge(name, task.added, fraction, result, plain))
        return found


def judge(policy: str, added: int, fraction: float, result: Result, uncapped: Result) -> Outcome:
    """The outcome of a run, given its uncapped twin (or itself, when the policy ordered nothing)."""
    impact: dict[str, float] = {}
    throughput: dict[str, float] = {}
    latency: dict[str, NDArray[np.float64]] = {}
    for name, priority in CLASSES.items():
        ours = _quantiles(result, priority)
        if ours is None:
            continue
        plain = ours if uncapped is result else _quantiles(uncapped, priority)
        latency[name] = np.array([ours, plain])
        for q in (50, 99):
            at = LATENCY_QS.index(q / 100)
            impact[f"{name}_p{q}"] = _over(float(latency[name][0, at]), float(latency[name][1, at]))
        tokens = uncapped.tokens(priority)
        throughput[name] = result.tokens(priority) / tokens - 1.0 if tokens else math.nan
    u, period_s, end_s = result.utilization, result.period_s, result.load.duration_s
    power_w = uncapped.row_w[int(_WARM_UP_S / period_s) : int(end_s / period_s)].astype(np.float64)
    settled = power_w / _least_budget_w(uncapped.row, end_s)
    cap_s = result.row.cap_latency.most_s
    doubt = result.extrapolation
    return Outcome(
        policy=policy,
        seed=result.seed,
        added=added,
        fraction=fraction,
        requests=len(result.load),
        days=end_s / _DAY_S,
        brakes=result.brakes,
        impact=impact,
        throughput=throughput,
        capped={name: result.capped_share(priority) for name, priority in CLASSES.items()},
        levels={name: _levels(result, priority) for name, priority in CLASSES.items()},
        peak=float(u.max(initial=0.0)),
        uncapped_peak=uncapped.peak,
        overload_s=result.overload_s,
        longest_overload_s=result.longest_overload_s,
        overload_share=float((u > 1.0).mean()) if len(u) else 0.0,
        rise_2s=rise(settled, 2.0, period_s) if len(settled) > 1 else math.nan,
        rise_cap=rise(settled, max(cap_s, period_s), period_s) if len(settled) > 1 else math.nan,
        latency_s=latency,
        extrapolated={
            "prompts": doubt.prompts,
            "batch_share": doubt.batch_share,
            "level_share": doubt.level_share,
        },
        ribbon=ribbon(u, period_s, end_s),
    )


def _least_budget_w(row: Row, end_s: float) -> float:
    # A budget that falls is no rise of power: rises are told in the least budget of the run.
    budget = row.row_budget
    return min(watts for start_s, watts in zip(budget.starts_s, budget.watts, strict=True) if start_s <= end_s)


def _levels(result: Result, priority: Priority) -> dict[float, float]:
    levels = sorted({level for found, level in result.capped_s if found == priority})
    return {level: result.capped_share(priority, level) for level in levels}


def _quantiles(result: Result, priority: Priority) -> NDArray[np.float64] | None:
    values = result.e2e_s[result.load.priority == int(priority)]
    return quantiles(values, LATENCY_QS) if len(values) else None


def quantiles(values: NDArray[np.float64], qs: Sequence[float]) -> NDArray[np.float64]:
    """Quantiles, linear between ranks, with NaN (never finished) as infinite; one pass for all.

    >>> quantiles(np.array([1.0, 3.0, np.nan, 2.0]), (0.5, 0.99)).tolist()
    [2.5, inf]
    """
    at = np.asarray(qs) * (len(values) - 1)
    low = at.astype(int)
    high = np.minimum(low + 1, len(values) - 1)
    parted = np.partition(values, np.unique(np.r_[low, high]))  # NaN sorts last
    first, second = (np.where(np.isnan(parted[k]), np.inf, parted[k]) for k in (low, high))
    share = at - low
    with np.errstate(invalid="ignore"):
        between = first + share * (second - first)
    return np.where((share == 0) | (first == second), first, between)


def _over(ours: float, plain: float) -> float:
    return math.nan if math.isinf(plain) else ours / plain - 1.0
