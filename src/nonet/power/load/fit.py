"""The trace fitter: a base row whose 2-s power series has a given peak and given rises.

Peak and mean are not enough: a row that is smoother than real ones lets every policy look safe. So traffic is sought
whose largest rises within 2 s and 40 s over the whole time come as close as possible to the measured ones; being
smoother counts double. The budget follows from the peak, since it scales the series and nothing else.

A peak and a largest rise are single samples of millions, and differ from draw to draw of the same traffic. So whole
runs are made of several draws: peak and rises are medians over them, and the draw with the median peak stands for all.

What moves what: more requests at a time mean more prompts at a time, so a larger rise within 2 s; fewer mean servers
that fall idle and come back, so a larger rise within 40 s, most of all at night, which `flatness` lifts. Bursts raise
both.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from nonet.common.errors import InputError
from nonet.power.load.base_row import BaseRow, Statistics, settled_power, statistics_of
from nonet.power.load.services import POLCA_MIX, Service
from nonet.power.load.week import WeekConfig
from nonet.power.profiles.published import PROFILES
from nonet.power.simulating.engine import simulate

PUBLISHED = Statistics(peak=0.79, rise_2s=0.09, rise_40s=0.118)
"""A production row of 40 DGX-A100 with inference over six weeks: POLCA (ASPLOS 2024), table of row power."""
_CLOSE = 0.03
_SMOOTHER = 2.0
_ANY_BUDGET_W = 1e6
_SERVERS = 40
"""Of the row that the default space is for."""
_FEW = 4
"""Requests that an instance decodes at a time, about the mean of that row."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class FitSpace:
    """Values that the fitter may choose from, by knob; every combination is a candidate.

    Args:
        profile, instances_per_server, max_batch, prefill_share: of the row.
        requests_per_s, flatness, conv_share, burst_share, burst_size, burst_spread_s: of its traffic, see `WeekConfig`.
    """

    profile: tuple[str, ...] = ("a100-llama2-70b-tp4",)
    instances_per_server: tuple[int, ...] = (2,)
    max_batch: tuple[int, ...] = (32,)
    prefill_share: tuple[float, ...] = (1.0,)
    requests_per_s: tuple[float, ...] = (4.8, 5.2)
    flatness: tuple[float, ...] = (0.55, 0.6, 0.65)
    conv_share: tuple[float, ...] = (0.5,)
    burst_share: tuple[float, ...] = (0.6,)
    burst_size: tuple[float, ...] = (4.5, 5.0)
    burst_spread_s: tuple[float, ...] = (1.0,)

    @classmethod
    def of_row(cls, profile: str, num_servers: int = 40) -> FitSpace:
        """The space for another row: instances that fill each server, each as busy as those of the default row.

        >>> space = FitSpace.of_row("a100-llama2-70b-tp8", num_servers=20)
        >>> space.instances_per_server, FitSpace.of_row("a100-llama2-70b-tp4") == FitSpace()
        ((1,), True)
        """
        known, ours = PROFILES[cls.profile[0]], PROFILES[profile]
        instances = ours.server.num_gpus // ours.tensor_parallel
        num_instances = num_servers * instances / (_SERVERS * cls.instances_per_server[0])
        speed = known.decode_seconds_per_token(_FEW) / ours.decode_seconds_per_token(_FEW)
        rates = tuple(float(f"{rate * num_instances * speed:.3g}") for rate in cls.requests_per_s)
        return cls(profile=(profile,), instances_per_server=(instances,), requests_per_s=rates)

    def points(self) -> Iterator[dict[str, Any]]:
        """Every combination."""
        names = [field.name for field in fields(self)]
        for values in itertools.product(*(getattr(self, name) for name in names)):
            yield dict(zip(names, values, strict=True))


@dataclass(frozen=True)
class FitResult:
    """The best fit.

    Attributes:
        base: the row, with its statistics over the whole time, medians over the draws.
        target: what was aimed at.
        error: sum of the relative distances of the two rises from the target; what is below it counts double.
        trials: every candidate with its knobs, the statistics of its short run and, where made, its long one.
    """

    base: BaseRow
    target: Statistics
    error: float
    trials: tuple[Trial, ...]

    @property
    def is_close(self) -> bool:
        """Whether both rises are within 0.02 of the target, the tolerance of the published comparison."""
        measured = _statistics(self.base)
        return all(abs(getattr(measured, n) - getattr(self.target, n)) <= 0.02 for n in ("rise_2s", "rise_40s"))


@dataclass(frozen=True)
class Trial:
    """One candidate: its row, and the statistics over the short and the whole time."""

    base: BaseRow
    short: Statistics
    whole: Statistics | None = None


def fit(
    target: Statistics = PUBLISHED,
    space: FitSpace | None = None,
    *,
    services: tuple[Service, ...] = POLCA_MIX,
    num_servers: int = 40,
    days: float = 42.0,
    short_days: float = 7.0,
    num_trials: int = 40,
    num_confirmed: int = 5,
    num_draws: int = 5,
    seed: int = 1,
    progress: Progress | None = None,
) -> FitResult:
    """Find a base row with the statistics of `target`.

    Every candidate is simulated over `short_days`; then the most promising ones over `days`, one after the other:
    extremes grow with time, and by how much is learnt from those already confirmed. The search ends early when
    both rises are within 3 % of the target.

    Args:
        target: peak and rises to meet.
        space: the candidates.
        services: the mix of the traffic.
        num_servers: of the row; the default space is for 40, see `FitSpace.of_row`.
        days, short_days: lengths of the long and the short runs.
        num_trials: candidates that are tried; of more, a seeded sample.
        num_confirmed: candidates at most that get long runs.
        num_draws: long runs of each.
        seed: of the sample and of the first draw; the others are the next numbers.
        progress: told what is being done.

    Raises:
        InputError: an empty space, or lengths that make no sense.

    >>> few = {"days": 0.02, "short_days": 0.02, "num_trials": 2, "num_confirmed": 1, "num_draws": 1}
    >>> found = fit(Statistics(0.79, 0.2, 0.3), FitSpace.of_row("a100-llama2-70b-tp4", 4), num_servers=4, **few)
    >>> round(found.base.peak, 3), len(found.trials)
    (0.79, 2)
    """
    if not 0 < short_days <= days or min(num_confirmed, num_trials, num_draws) < 1:
        raise InputError("fit: needs 0 < short_days <= days, and at least one trial, confirmed trial and draw")
    tell = progress or (lambda _: None)
    points = list((space or FitSpace()).points())
    if not points:
        raise InputError("fit: a knob has no values to choose from")
    chosen = np.random.Generator(np.random.Philox(seed)).permutation(len(points))[:num_trials]
    trials = []
    for number, index in enumerate(sorted(chosen), start=1):
        tell(f"short run {number} of {len(chosen)}")
        base = _candidate(points[index], services, num_servers, days, seed)
        trials.append(Trial(*_measured(base, target.peak, short_days, (seed,))))
    for number in range(min(num_confirmed, len(trials))):
        growth = _growth(trials)
        open_trials = [i for i, trial in enumerate(trials) if trial.whole is None]
        best = min(open_trials, key=lambda i: _distance(_grown(trials[i].short, growth), target))
        tell(f"long runs of candidate {number + 1} of at most {num_confirmed}")
        base, whole = _measured(trials[best].base, target.peak, days, range(seed, seed + num_draws))
        trials[best] = replace(trials[best], base=base, whole=whole)
        if _off(whole.rise_2s, target.rise_2s) <= _CLOSE and _off(whole.rise_40s, target.rise_40s) <= _CLOSE:
            break
    confirmed = [trial for trial in trials if trial.whole is not None]
    winner = min(confirmed, key=lambda trial: _distance(_statistics(trial.base), target))
    return FitResult(winner.base, target, _distance(_statistics(winner.base), target), tuple(trials))


def measure(base: BaseRow, *, days: float | None = None, seed: int | None = None) -> Statistics:
    """Statistics of a base row without a policy, simulated anew under its own budget."""
    days = days or base.days
    row = base.row()
    result = simulate(row, base.load(days=days, seed=seed), drain_s=0.0)
    return statistics_of(settled_power(result.row_w, row.telemetry_period_s, days), base.budget_w)


def _candidate(
    point: dict[str, Any], services: tuple[Service, ...], num_servers: int, days: float, seed: int
) -> BaseRow:
    of_week = {name: value for name, value in point.items() if name in WeekConfig.model_fields}
    of_row = {name: value for name, value in point.items() if name in BaseRow.model_fields}
    week = WeekConfig(services=services, **of_week)
    return BaseRow(**of_row, num_servers=num_servers, budget_w=_ANY_BUDGET_W, week=week, seed=seed, days=days)


def _measured(base: BaseRow, peak: float, days: float, seeds: Sequence[int]) -> tuple[BaseRow, Statistics]:
    row = base.row()
    draws = []
    for seed in seeds:
        result = simulate(row, base.load(days=days, seed=seed), drain_s=0.0)
        power_w = settled_power(result.row_w, row.telemetry_period_s, days)
        draws.append((float(power_w.max()), seed, statistics_of(power_w, 1.0, row.telemetry_period_s)))
    middle_w, middle, _ = sorted(draws)[(len(draws) - 1) // 2]
    budget_w = float(round(middle_w / peak))
    rises_2s, rises_40s = ([getattr(found, name) for *_, found in draws] for name in ("rise_2s", "rise_40s"))
    median = Statistics(
        middle_w / budget_w, float(np.median(rises_2s)) / budget_w, float(np.median(rises_40s)) / budget_w
    )
    values = {"budget_w": budget_w, "seed": middle, **{name: getattr(median, name) for name in median.__slots__}}
    return base.model_copy(update=values), median


def _statistics(base: BaseRow) -> Statistics:
    return Statistics(base.peak or 0.0, base.rise_2s or 0.0, base.rise_40s or 0.0)


def _growth(trials: list[Trial]) -> tuple[float, float]:
    known = [(t.short, t.whole) for t in trials if t.whole is not None]
    if not known:
        return 1.0, 1.0
    rises_2s = float(np.mean([whole.rise_2s / short.rise_2s for short, whole in known]))
    return rises_2s, float(np.mean([whole.rise_40s / short.rise_40s for short, whole in known]))


def _grown(short: Statistics, growth: tuple[float, float]) -> Statistics:
    return Statistics(short.peak, short.rise_2s * growth[0], short.rise_40s * growth[1])


def _distance(found: Statistics, target: Statistics) -> float:
    return _off(found.rise_2s, target.rise_2s) + _off(found.rise_40s, target.rise_40s)


def _off(found: float, aimed: float) -> float:
    return (found - aimed) / aimed if found >= aimed else _SMOOTHER * (aimed - found) / aimed
