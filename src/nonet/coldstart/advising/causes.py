"""One main cause for each cold start, by rules in a fixed order: the first that holds decides.

 1 node-scale-up     a node had to be added, or no node had room (allocation at least half of the start)
 2 roll-out          a new revision's pods in place of those of the old one
 3 image-pull        pulling image or code took 3 s and 60 % of the start
 4 cpu-starved-init  initialisation took half of the start and a median of 3 s, on little CPU: half a core at most, and
                     twice as long as in functions with twice the CPU (or a quarter, and none to compare with)
 5 slow-dependencies deploying dependencies, or initialising, took half of the start and a median of 4 s, three times as
                     long as in other functions
 6 exhausted-pool    allocation took 3 s and 60 % of the start, five times the median: the pod was made from scratch
                     (not on Kubernetes, which has no pools)
 7 burst             requests of the function were under way, or two more of its pods started meanwhile
 8 timer             a periodic function with a period beyond the keep-alive, idle for about as long as that
 9 image-pull, cpu-starved-init, slow-dependencies, exhausted-pool again, with a second and half of the start
10 lost-pod          the function had been idle for less than the keep-alive: its pod went early
11 scale-from-zero   a rare function: idle for longer than the keep-alive, or never called before
12 unexplained       the trace does not tell

Reasons for the order: what stands before 7 makes the start slow whatever asked for it, and goes away by a change of
its own; 7 and 8 say why a pod was asked for; 9 is the weak form of the former.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from nonet.coldstart.advising.history import History
from nonet.coldstart.advising.rollouts import find_rollouts
from nonet.coldstart.simulating.periodicity import Period, find_period

TITLES = {
    "node-scale-up": "no node had room, a node was added",
    "roll-out": "a new revision was rolled out",
    "image-pull": "image or code pull",
    "cpu-starved-init": "initialisation starved of CPU",
    "slow-dependencies": "slow dependencies or initialisation",
    "exhausted-pool": "pod made from scratch, the pool was empty",
    "burst": "bursts beyond the concurrency",
    "timer": "timers with a period beyond the keep-alive",
    "lost-pod": "the pod went before its keep-alive was over",
    "scale-from-zero": "rare functions, scaled to zero",
    "unexplained": "the trace does not tell",
}
"""Every cause, in the order of the rules, and what it says."""

LAMBDA_MB_A_CORE = 1769
"""AWS gives a function of 1,769 MB one vCPU, others in proportion (Lambda developer guide, memory)."""
_STARVED_MILLICORES, _STARVED_ALONE_MILLICORES = 500, 250
_SIGNIFICANCE = 0.05
_TIMER_SLACK = 0.9
_BURST_COMPANIONS = 2
SECOND_US = 1_000_000


@dataclass(frozen=True, eq=False)
class Labelled:
    """Cold starts with their causes.

    Attributes:
        starts: the starts of the history with the column `cause` and the evidence: `pull_us`, `init_us`,
            `dependency_us`, `allocation_us`, `companions` (other starts of the function meanwhile), `cpu_millicores`,
            `concurrency`, `reference_init_us` (median initialisation of functions with twice the CPU).
        periods: index of each function that has a period.
    """

    starts: pl.DataFrame
    periods: dict[int, Period]


def label(history: History, keep_alive_us: int) -> Labelled:
    """Give each cold start its main cause.

    Args:
        history: of a region.
        keep_alive_us: how long idle pods stay.
    """
    starts = _with_stages(history)
    starts = starts.with_columns(
        companions=_companions(starts), rollout=find_rollouts(history, starts, keep_alive_us)
    ).join(_function_facts(history, starts), on="f", how="left", maintain_order="left")
    periods = find_periods(history, keep_alive_us)
    timers = pl.Series(list(periods), dtype=pl.Int32).implode()
    if "k8s" in history.formats:  # there, allocation is the scheduler's search for a node, not a pool's
        starts = starts.with_columns(pool_us=pl.lit(None, pl.Int64))
    else:
        starts = starts.with_columns(pool_us=pl.col("allocation_us"))
    rules = _rules(pl.col("f").is_in(timers), keep_alive_us, has_requests=history.num_requests > 0)
    cause = pl.lit("unexplained")
    for name, holds in reversed(rules):
        cause = pl.when(holds.fill_null(value=False)).then(pl.lit(name)).otherwise(cause)
    return Labelled(starts.with_columns(cause=cause), periods)


def find_periods(history: History, keep_alive_us: int) -> dict[int, Period]:
    """Functions with a period beyond the keep-alive. The chance of any false one in the region is at most 5 %."""
    candidates = [f for f, ticks in enumerate(history.ticks) if len(ticks) >= 5]
    significance = min(1e-3, _SIGNIFICANCE / max(len(candidates), 1))
    found = {f: find_period(history.ticks[f], significance=significance) for f in candidates}
    return {f: period for f, period in found.items() if period is not None and period.period_us > keep_alive_us}


def _with_stages(history: History) -> pl.DataFrame:
    """`pull_us`, `init_us` and `dependency_us` whichever the source tells; a dependency that is the initialisation
    (Kubernetes) counts as such."""
    starts = history.starts
    init = pl.coalesce("restore_us", pl.col("init_us") + pl.col("failed_init_us").fill_null(0))
    return starts.with_columns(
        pull_us=pl.coalesce("pull_us", "code_us"),
        init_us=init,
        dependency_us=pl.coalesce("dependency_us", init),
    )


def _companions(starts: pl.DataFrame) -> pl.Series:
    """How many other starts of the same function begin while this one goes on (a second at least), or in the second
    before it (moments may be cut to the second)."""
    moment, function = starts["moment_us"].to_numpy(), starts["f"].to_numpy()
    until = moment + np.maximum(starts["total_us"].fill_null(0).to_numpy(), SECOND_US)
    order = np.lexsort((moment, function))
    found = np.zeros(len(moment), np.int64)
    bounds = np.flatnonzero(np.diff(function[order], prepend=-1, append=-1))
    for begin, end in pairwise(bounds):
        rows = order[begin:end]
        first = np.searchsorted(moment[rows], moment[rows] - SECOND_US)
        found[rows] = np.searchsorted(moment[rows], until[rows]) - first - 1
    return pl.Series("companions", found)


def _function_facts(history: History, starts: pl.DataFrame) -> pl.DataFrame:
    """By function: CPU, concurrency, medians of initialisation and dependency, and what others take."""
    cpu = pl.col("cpu_millicores")
    if "lambda" in history.formats:
        cpu = pl.coalesce("cpu_millicores", pl.col("memory_mb") * 1000 // LAMBDA_MB_A_CORE)
    medians = starts.group_by("f").agg(
        pl.col("init_us").median().alias("own_init_us"), pl.col("dependency_us").median().alias("own_dependency_us")
    )
    facts = history.functions.select("f", "concurrency", cpu_millicores=cpu).join(medians, on="f")
    init, dependency = facts["own_init_us"].to_numpy(), facts["own_dependency_us"].to_numpy()
    cores = facts["cpu_millicores"].cast(pl.Float64).to_numpy()
    other_init = [_median(init[cores >= 2 * mine]) for mine in cores]
    return facts.with_columns(
        reference_init_us=pl.Series(other_init, dtype=pl.Float64).fill_nan(None),
        reference_dependency_us=pl.Series(_medians_of_others(dependency), dtype=pl.Float64).fill_nan(None),
    )


def _median(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _medians_of_others(values: np.ndarray) -> list[float]:
    """Median of the other known values, for each value."""
    known = np.sort(values[~np.isnan(values)])
    if len(known) < 2:
        return [float("nan")] * len(values)
    return [
        float(np.median(np.delete(known, np.searchsorted(known, value)))) if not np.isnan(value) else float("nan")
        for value in values
    ]


def _rules(is_timer: pl.Expr, keep_alive_us: int, *, has_requests: bool) -> list[tuple[str, pl.Expr]]:
    """Causes and when they hold, in order."""
    total = pl.col("total_us")
    unscheduled = (pl.col("num_failed_scheduling") > 0) & _dominates("allocation_us", 5, 0.5)
    idle = (pl.col("in_flight") == 0) & (pl.col("gap_us") >= _TIMER_SLACK * keep_alive_us)
    first = pl.col("gap_us") < 0
    burst = (pl.col("in_flight") > 0) | (pl.col("companions") >= _BURST_COMPANIONS)
    scaled_up = pl.col("node_scale_up") & (pl.col("allocation_us").is_null() | (pl.col("allocation_us") > 0.3 * total))
    return [
        ("node-scale-up", scaled_up.fill_null(value=False) | unscheduled.fill_null(value=False)),
        ("roll-out", pl.col("rollout")),
        *_stage_rules(pull=(3, 0.6), init_s=3, dependency=(4, 3), allocation=(3, 0.6)),
        ("burst", burst),
        ("timer", is_timer & (idle | first)),
        *_stage_rules(pull=(1, 0.5), init_s=1.5, dependency=(1, 2), allocation=(1, 0.5)),
        ("lost-pod", pl.lit(has_requests) & (pl.col("gap_us") >= 0) & ~idle & ~burst),
        ("scale-from-zero", first | idle),
    ]


def _dominates(column: str, seconds: float, share: float) -> pl.Expr:
    return (pl.col(column) >= seconds * SECOND_US) & (pl.col(column) >= share * pl.col("total_us"))


def _stage_rules(
    *,
    pull: tuple[float, float],
    init_s: float,
    dependency: tuple[float, float],
    allocation: tuple[float, float],
) -> list[tuple[str, pl.Expr]]:
    """The causes that make a start slow; seconds and share, and for dependencies seconds and the factor to others."""
    cpu, own, reference = pl.col("cpu_millicores"), pl.col("own_init_us"), pl.col("reference_init_us")
    slower = (cpu <= _STARVED_MILLICORES) & (own >= 2 * reference)
    alone = (cpu <= _STARVED_ALONE_MILLICORES) & reference.is_null() & (own >= 3 * SECOND_US)
    starved = (own >= init_s * SECOND_US) & (slower.fill_null(value=False) | alone.fill_null(value=False))
    others = pl.col("reference_dependency_us").fill_null(SECOND_US)
    slow = (pl.col("own_dependency_us") >= dependency[0] * SECOND_US) & (
        pl.col("own_dependency_us") >= dependency[1] * others
    )
    scratch = _dominates("pool_us", *allocation) & (pl.col("pool_us") >= 5 * pl.col("pool_us").median())
    return [
        ("image-pull", _dominates("pull_us", *pull)),
        ("cpu-starved-init", starved & _dominates("init_us", 0, 0.5)),
        ("slow-dependencies", slow & _dominates("dependency_us", 0, 0.5)),
        ("exhausted-pool", scratch),
    ]
