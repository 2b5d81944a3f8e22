"""`sweep`: thresholds T1 and T2 against added servers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nonet.common.errors import InputError
from nonet.common.parallel import Engine
from nonet.power.planning.answers import Step, step_of
from nonet.power.planning.outcome import MOST_ADDED, MakeLoad, Outcome, Runner, Task
from nonet.power.planning.rounds import choose_engine, pooled
from nonet.power.planning.slo import Slo
from nonet.power.policies.protocol import Policy
from nonet.power.policies.registry import build_policy
from nonet.power.profiles.profile import PowerProfile
from nonet.power.simulating.row import Row

Pair = tuple[float, float]
PUBLISHED: tuple[Pair, ...] = ((0.75, 0.85), (0.80, 0.89), (0.85, 0.95))
"""The pairs that the paper sweeps."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """What `sweep` found.

    Args:
        policy: its name.
        slo: limits.
        seeds: of the traffic.
        cells: by (T1, T2) and added servers, over all seeds.
    """

    policy: str
    slo: Slo
    seeds: tuple[int, ...]
    cells: dict[tuple[Pair, int], Step]

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The thresholds, ascending."""
        return tuple(sorted({pair for pair, _ in self.cells}))

    @property
    def added(self) -> tuple[int, ...]:
        """Numbers of added servers, ascending."""
        return tuple(sorted({added for _, added in self.cells}))

    def rows(self) -> list[dict[str, Any]]:
        """One flat record a cell, JSON-ready."""
        return [
            {
                "t1": pair[0],
                "t2": pair[1],
                "thresholds": label(pair),
                "added": added,
                "fraction": cell.fraction,
                "brakes": cell.brakes,
                "holds": cell.holds,
                "slo_used": self.slo.used(cell.impact),
                "peak": cell.peak,
                **cell.impact,
                "hp_capped": cell.capped["hp"],
                "lp_capped": cell.capped["lp"],
            }
            for (pair, added), cell in sorted(self.cells.items())
        ]


def label(pair: Pair) -> str:
    """Thresholds in percent.

    >>> label((0.8, 0.89))
    '80-89'
    """
    return f"{pair[0] * 100:g}-{pair[1] * 100:g}"


def threshold_grid(t1: Iterable[float], t2: Iterable[float]) -> tuple[Pair, ...]:
    """All pairs with T1 below T2.

    Raises:
        InputError: there is none.

    >>> threshold_grid((0.7, 0.8), (0.75, 0.85))
    ((0.7, 0.75), (0.7, 0.85), (0.8, 0.85))
    """
    uppers = tuple(t2)
    pairs = tuple((low, high) for low in t1 for high in uppers if low < high)
    if not pairs:
        raise InputError("sweep: every T1 of the grid is at or above every T2; lower T1 or raise T2")
    return pairs


def sweep(
    row: Row,
    make_load: MakeLoad,
    profile: PowerProfile | None = None,
    policy: str | Policy = "polca",
    thresholds: Sequence[Pair] = PUBLISHED,
    added: Sequence[float] = (0.2, 0.25, 0.3, 0.35, 0.4),
    slo: Slo | None = None,
    seeds: int | Sequence[int] = 1,
    days: float | None = None,
    *,
    workers: int | None = None,
    engine: Engine | None = None,
    progress: Callable[[int, str], None] | None = None,
) -> Sweep:
    """Brakes and latency impact by thresholds and added servers; the run without a budget is shared by all pairs.

    Args:
        row, make_load, profile, slo, seeds, days, workers, engine, progress: see `plan`.
        policy: a policy with `t1` and `t2`; its other parameters stay.
        thresholds: pairs (T1, T2).
        added: fractions.

    Raises:
        InputError: nothing to sweep, a share that is none, T1 not below T2, or a policy without the two thresholds.

    >>> from nonet.power.planning.scenario import base_scenario
    >>> scenario = base_scenario("polca-base", days=0.01)
    >>> cells = sweep(scenario.row, scenario.make_load, thresholds=[(0.8, 0.89), (0.85, 0.95)], added=[0.3]).rows()
    >>> [(cell["thresholds"], cell["added"], cell["brakes"]) for cell in cells]
    [('80-89', 12, 0), ('85-95', 12, 0)]
    """
    num_workers = workers or len(os.sched_getaffinity(0))
    chosen_engine = choose_engine(engine, num_workers)
    seed_list = tuple(range(1, seeds + 1)) if isinstance(seeds, int) else tuple(seeds)
    if not (thresholds and added and seed_list):
        raise InputError("sweep: needs thresholds, added servers and seeds")
    for fraction in added:
        if not 0 <= fraction <= MOST_ADDED:
            raise InputError(f"sweep: added servers must be shares from 0 to {MOST_ADDED:g}, got {fraction:g}")
    base = build_policy(policy) if isinstance(policy, str) else policy
    named = {label(pair): (pair, with_thresholds(base, pair)) for pair in thresholds}
    numbers = sorted({round(row.num_servers * (1 + fraction)) - row.num_servers for fraction in added})
    runner = Runner(row, make_load, {name: made for name, (_, made) in named.items()}, profile, days)
    found: dict[str, dict[tuple[int, int], Outcome]] = {name: {} for name in named}
    tasks = [Task(number, seed, tuple(named)) for number in numbers for seed in seed_list]
    for count, outcomes in enumerate(pooled(runner, num_workers, chosen_engine)(tasks), start=1):
        for outcome in outcomes:
            found[outcome.policy][outcome.seed, outcome.added] = outcome
        if progress is not None:
            progress(count * len(named), f"+{outcomes[0].added} servers, seed {outcomes[0].seed}")
    limits = slo or Slo()
    cells = {
        (pair, number): step_of(number, found[name], limits) for name, (pair, _) in named.items() for number in numbers
    }
    return Sweep(base.name, limits, seed_list, cells)


def with_thresholds(policy: Policy, pair: Pair) -> Policy:
    """The same policy with other thresholds.

    Raises:
        InputError: it has none, or T1 is not below T2.
    """
    config: Any = getattr(policy, "config", None)
    if config is None or not {"t1", "t2"} <= set(type(config).model_fields):
        raise InputError(f"sweep: policy {policy.name!r} has no t1 and t2; sweep polca")
    values = {**config.model_dump(), "t1": pair[0], "t2": pair[1]}
    made: Policy = type(policy)(**values)
    return made
