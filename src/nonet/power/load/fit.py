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
from nonet.power.profiles import PROFILES
from nonet.power.simulating.engine import simulate

PUBLISHED = Statistics(peak=0.79, rise_2s=0.09, rise_40s=0.118)
"""A production row of 40 DGX-A100 with inference over six weeks: POLCA (ASPLOS 2024), table of row power."""
_CLOSE = 0.03
_LEAST, _MOST = 0.9, 1.2
_SMOOTHER = 2.0
_ANY_BUDGET_W = 1e6
_FEW = 4
"""Requests that an instance decodes at a time, about the mean of the default row."""
_SHARES = (0.03, 0.06, 0.09, 0.12, 0.18, 0.25, 0.4)
"""Requests each second of a server like the default row's, from nearly idle to busy."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class FitSpace:
    """Values that the fitter may choose from, by knob; every combination is a candidate; `polca-base` is one.

    Args:
        profile: names of profiles.
        instances_per_server: see `Row`.
        max_batch: see `Row`.
        prefill_share: see `Row`.
        requests_per_s: of the traffic, see `WeekConfig`; so are those that follow.
        flatness: see there.
        conv_share: see there.
        burst_share: see there.
        burst_size: see there.
        burst_spread_s: see there.
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
    def of_row(cls, profile: str, num_servers: int) -> FitSpace:
        """A wide space for a row of one's own: its servers full of instances, from nearly idle to busy, calm to bursty.

        Rates follow the number of instances and how fast they decode, beside those of the default row.

        Raises:
            InputError: no such profile.

        >>> FitSpace.of_row("a100-llama2-70b-tp8", 20).instances_per_server
        (1,)
        """
        ours, known = PROFILES[profile], PROFILES[cls.profile[0]]
        instances = max(1, ours.server.num_gpus // ours.tensor_parallel)
        speed = known.decode_seconds_per_token(_FEW) / ours.decode_seconds_per_token(_FEW)
        busy = num_servers * instances / cls.instances_per_server[0] * speed
        return cls(
            profile=(profile,),
            instances_per_server=(instances,),
            prefill_share=(0.3, 1.0),
            requests_per_s=tuple(float(f"{share * busy:.3g}") for share in _SHARES),
            flatness=(0.0, 0.3, 0.6, 0.9),
            burst_share=(0.0, 0.15, 0.3, 0.45, 0.6),
            burst_size=(1.5, 3.0, 4.5, 7.0, 12.0, 20.0),
            burst_spread_s=(1.0, 4.0),
        )

    def beside(self, point: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The points that differ from `point` by one step of one knob."""
        for field in fields(self):
            values = getattr(self, field.name)
            at = values.index(point[field.name])
            for other in values[max(0, at - 1) : at] + values[at + 1 : at + 2]:
                yield {**point, field.name: other}

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
        target: peak and rises aimed at.
        error: sum of the relative distances of the two rises from the target; what is below it counts double.
        trials: every candidate with its knobs, the statistics of its short run and, where made, its long one.
    """

    base: BaseRow
    target: Statistics
    error: float
    trials: tuple[Trial, ...]

    @property
    def is_close(self) -> bool:
        """Whether both rises are from 90 % to 120 % of the target: a row much smoother makes every policy look safe."""
        return not self.shortfalls

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """What is off the target by too much, in words; empty when the fit is close."""
        found = []
        for name, window in (("rise_2s", "2 s"), ("rise_40s", "40 s")):
            got, aimed = getattr(_statistics(self.base), name), getattr(self.target, name)
            if not _LEAST * aimed <= got <= _MOST * aimed:
                kind = "smoother" if got < aimed else "rougher"
                found.append(f"rise within {window} {got:.1%} instead of {aimed:.1%}: {kind} than the target")
        return tuple(found)


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

    Candidates are simulated over `short_days`: all, or of a large space half of `num_trials` at random and the rest
    each beside the best one so far. Then the most promising ones are simulated over `days`, one after the other:
    extremes grow with time, and by how much is learnt from those already confirmed. The search ends early when
    both rises are within 3 % of the target. Whether it was met, `FitResult.shortfalls` says.

    Args:
        target: peak and rises to meet.
        space: the candidates.
        services: the mix of the traffic.
        num_servers: of the row.
        days: length of the long runs.
        short_days: length of the short runs.
        num_trials: candidates that are tried.
        num_confirmed: candidates at most that get long runs.
        num_draws: long runs of each.
        seed: of the sample and of the first draw; the others are the next numbers.
        progress: told what is being done.

    Raises:
        InputError: an empty space, lengths that make no sense, or rises that no row has.

    >>> few = {"days": 0.02, "short_days": 0.02, "num_trials": 2, "num_confirmed": 1, "num_draws": 1}
    >>> found = fit(Statistics(0.79, 0.2, 0.3), FitSpace.of_row("a100-llama2-70b-tp4", 4), num_servers=4, **few)
    >>> round(found.base.peak, 3), len(found.trials)
    (0.79, 2)
    """
    if not 0 < short_days <= days or min(num_confirmed, num_trials, num_draws) < 1:
        raise InputError("fit: needs 0 < short_days <= days, and at least one trial, confirmed trial and draw")
    if not (0 < target.rise_2s <= target.rise_40s <= 1 and target.peak > 0):
        asked = f"got {target.rise_2s:g} and {target.rise_40s:g}"
        raise InputError(f"fit: rises are shares of the budget, within 2 s no larger than within 40 s; {asked}")
    tell = progress or (lambda _: None)

    def try_out(point: dict[str, Any], number: int) -> Trial:
        tell(f"short run {number} of at most {num_trials}")
        base = _candidate(point, services, num_servers, days, seed)
        return Trial(*_measured(base, target.peak, short_days, (seed,)))

    trials = _explore(space or FitSpace(), try_out, target, num_trials, seed)
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


def _explore(
    space: FitSpace, try_out: Callable[[dict[str, Any], int], Trial], target: Statistics, num_trials: int, seed: int
) -> list[Trial]:
    points = list(space.points())
    if not points:
        raise InputError("fit: a knob has no values to choose from")
    draws = np.random.Generator(np.random.Philox(seed))
    order = draws.permutation(len(points)).tolist()
    num_random = num_trials if len(points) <= num_trials else -(-num_trials // 2)
    chosen = [points[index] for index in sorted(order[:num_random])]
    tried = [(point, try_out(point, number)) for number, point in enumerate(chosen, start=1)]
    while len(tried) < min(num_trials, len(points)):
        known = [point for point, _ in tried]
        nearest = sorted(tried, key=lambda one: _distance(one[1].short, target))
        near = next((new for point, _ in nearest if (new := [p for p in space.beside(point) if p not in known])), None)
        if near is None:
            break
        point = near[int(draws.integers(len(near)))]
        tried.append((point, try_out(point, len(tried) + 1)))
    return [trial for _, trial in tried]


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
