"""`recommend`: changes of policy with what they would save and what memory they would take.

Changes are chosen on the earlier part of a trace (`choices`) and tried on the later one; what is reported is the trial.
The later part begins with a warm-up whose cold starts are not counted. Intervals are of a block bootstrap over time
(`intervals`). Functions do not touch each other here, so savings of different functions add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from nonet.coldstart.advising.choices import ALWAYS, KINDS, Choice, Kind, choose, memory_usd, policy_of_level
from nonet.coldstart.advising.costs import MONTH_S, Prices, load_prices
from nonet.coldstart.advising.history import History, read_history
from nonet.coldstart.advising.intervals import block_edges, ratio_interval
from nonet.coldstart.advising.keep_alive import KeepAlive as KeptAlive
from nonet.coldstart.advising.keep_alive import infer_keep_alive
from nonet.coldstart.advising.moments import moment_text
from nonet.coldstart.advising.schedules import Schedule, ScheduledPods, find_schedules
from nonet.coldstart.advising.trials import UNKNOWN_COLD_US, MinScale, Trial, run_trial, workload_of
from nonet.coldstart.simulating.calls import Calls, Workload
from nonet.coldstart.simulating.platform import Platform
from nonet.coldstart.simulating.policies.base import RulePolicy
from nonet.coldstart.simulating.policies.fixed import KeepAlive
from nonet.coldstart.simulating.policies.timer_prewarm import DEFAULT_MARGIN_US, TimerPrewarm
from nonet.coldstart.simulating.policies.training import Training, Window, split
from nonet.common.errors import InputError

if TYPE_CHECKING:
    from nonet.coldstart.trace.store import Trace

DAY_US = 86_400_000_000
MAX_CALLS = 10_000_000
_MIN_COVERAGE = 0.9
MIN_SAVING = 0.002
_WARM_UP_US, _WARM_UP_SHARE = 600_000_000, 0.1
_PLATFORM_OF = {"lambda": "lambda", "openwhisk": "openwhisk", "knative": "knative", "k8s": "knative"}


@dataclass(frozen=True)
class Recommendation:
    """One change.

    Attributes:
        kind: "prewarm", "keep-alive", "concurrency", "min-scale", "provisioned" or "scheduled".
        title: what to do.
        functions: which it concerns.
        settings: what to set, a dictionary for each function: `keep_alive_s`, `concurrency`, `min_scale`,
            `provisioned`, `scheduled` (pods) from `on` to `off` (cron expressions, UTC), or `period_s`, `lead_s` (start
            a pod so long before it is due), `hold_s` (and keep it so long, or until it has served).
        num_cold, num_saved: cold starts of these functions in the later part now, and how many fewer.
        saving: `num_saved` per cold start of the whole region; `low`, `high`: its 95 % interval.
        wait_saving: the same of the seconds that users wait for pods (also for pods that others started).
        extra_memory: memory of all pods, added as a share of what there is; negative when it saves some.
        extra_gb_s_per_day: the same, absolute.
        saving_per_memory: `saving / extra_memory`, None where no memory is added.
        usd_per_month: price of the added memory less what the saved waiting is worth; negative pays.
    """

    kind: Kind
    title: str
    functions: tuple[str, ...]
    settings: tuple[dict[str, Any], ...]
    num_cold: int
    num_saved: int
    saving: float
    low: float
    high: float
    wait_saving: float
    extra_memory: float
    extra_gb_s_per_day: float
    saving_per_memory: float | None
    usd_per_month: float


@dataclass(frozen=True)
class Rejected:
    """A change that was tried and not recommended, and why."""

    title: str
    reason: str
    saving: float
    extra_memory: float


@dataclass(frozen=True)
class Advice:
    """What `recommend` found for one region.

    Attributes:
        source, region, platform: what and where.
        keep_alive: how long the platform keeps idle pods, and how that is known.
        fitted: beginning and end of the earlier part.
        tested: beginning and end of the later part, after its warm-up.
        num_cold: cold starts of the later part as simulated today; `num_observed` as the trace has them, None when it
            tells of none. Where the two differ much, the simulation misses something that the platform does.
        recommendations: most saving per memory first; those that add no memory come first.
        rejected: what was tried and does not pay.
        saving, low, high, extra_memory: of all recommendations together.
        coverage: share of the observed cold starts in functions that were looked at (all but in very large traces);
            the rest counts as not saved, its memory is left out of account.
        prices: the name of the prices behind "does not pay", and `wait_usd_per_s`.
        num_requests: of the later part, after its warm-up.
        gb_s_per_day: memory of all pods there as simulated today.
        assumed_cold_s: what a cold start is taken to last, None when the trace tells.
    """

    source: str
    region: str
    platform: str
    keep_alive: KeptAlive
    fitted: tuple[str, str]
    tested: tuple[str, str]
    num_cold: int
    num_observed: int | None
    recommendations: tuple[Recommendation, ...]
    rejected: tuple[Rejected, ...]
    saving: float
    low: float
    high: float
    extra_memory: float
    coverage: float
    prices: str
    wait_usd_per_s: float
    num_requests: int
    gb_s_per_day: float
    assumed_cold_s: float | None


@dataclass(frozen=True, eq=False)
class Parts:
    """The two parts of a trace.

    Attributes:
        training, earlier: the earlier part, in memory and as a workload.
        later: the later part with its warm-up.
        edges: of the blocks of time after the warm-up, int64.
        coverage: share of the trace's cold starts in functions that are looked at.
    """

    training: Training
    earlier: Workload
    later: Workload
    edges: np.ndarray
    coverage: float


def recommend(
    trace: Trace,
    *,
    region: str | None = None,
    keep_alive_us: int | None = None,
    max_extra_memory: float = 0.1,
    platform: str | None = None,
    prices: Prices | None = None,
    slowdown: float = 0.0,
    cold_us: int | None = None,
    seed: int = 0,
) -> Advice:
    """Find changes that cut cold starts and pay.

    Args:
        trace: with requests. Of more than 10 M, functions with the most requests for each cold start are left out as
            long as nine tenths of the cold starts remain (`Advice.coverage`), else only the last part is used. Memory:
            about 60 bytes a request that is used, 64 a pod of a simulation.
        region: which; may be left out when there is only one.
        keep_alive_us: how long the platform keeps idle pods; inferred by default.
        max_extra_memory: memory that may be added, as a share of what all pods take now.
        platform: "knative", "openwhisk", "lambda" or "any", what can be changed; by default what the logs are of.
        prices: decide what pays; by default "lambda-x86" for Lambda, else "cluster".
        slowdown: by what share each further request on a pod slows a request down, for changes of concurrency. The
            trace cannot tell; 0 = requests wait for something else than the CPU.
        cold_us: duration of a cold start where the trace tells none; a second by default.
        seed: of simulations and draws.

    Raises:
        InputError: no requests, a region that must be named, an option out of range, or a trace too short to split.
    """
    region = region_of(trace, region)
    cold_us, untimed = UNKNOWN_COLD_US if cold_us is None else cold_us, not trace.days("coldstart", region)
    _check_numbers(max_extra_memory, cold_us)
    history = read_history(trace, region)
    kept = infer_keep_alive(history, keep_alive_us)
    platform = _known_platform(platform, history.formats)
    prices = prices or load_prices("lambda-x86" if platform == "lambda" else "cluster")
    whole = workload_of(trace, region, cold_us)
    shared = int(whole.functions.concurrency.max()) > 1 or "concurrency" in KINDS[platform]
    world = Platform(keep_alive_us=kept.keep_alive_us, scale_rule="piggyback" if shared else "start")
    parts = split_trace(whole, history, kept.keep_alive_us)
    timer = TimerPrewarm()
    timer.fit(parts.training)
    timers = _timers(timer, parts.training, kept.keep_alive_us)
    schedules, epoch_us = _schedules(trace, timer, parts.training)
    choices, left_out = choose(
        parts.earlier, world, KINDS[platform], timers, schedules, epoch_us, prices,
        max_extra_memory=max_extra_memory, slowdown=slowdown, seed=seed,
    )  # fmt: skip
    evaluation = _Evaluation(parts, world, timer, schedules, epoch_us, prices, slowdown, seed)
    accepted, rejected = evaluation.judged(_grouped(choices), max_extra_memory)
    observed = history.starts.filter(pl.col("moment_us").is_between(int(parts.edges[0]), int(parts.edges[-1])))
    together, low, high = evaluation.saving([rec for rec, _ in accepted], [group for _, group in accepted])
    return Advice(
        source=trace.source,
        region=region,
        platform=platform,
        keep_alive=kept,
        fitted=(moment_text(trace, parts.training.start_us), moment_text(trace, parts.training.end_us)),
        tested=(moment_text(trace, int(parts.edges[0])), moment_text(trace, int(parts.edges[-1]))),
        num_cold=int(evaluation.base.cold.sum()),
        num_observed=observed.height if history.starts.height else None,
        recommendations=tuple(rec for rec, _ in accepted),
        rejected=(*rejected, *evaluation.left_out(_grouped(left_out))),
        saving=together,
        low=low,
        high=high,
        extra_memory=sum(rec.extra_memory for rec, _ in accepted),
        coverage=parts.coverage,
        prices=prices.name,
        wait_usd_per_s=prices.wait_usd_per_s,
        num_requests=sum(int((block.arrive_us >= parts.edges[0]).sum()) for block in parts.later.blocks()),
        gb_s_per_day=float(evaluation.base.gb_s.sum()) * DAY_US / (parts.later.end_us - parts.later.start_us),
        assumed_cold_s=cold_us / 1e6 if untimed else None,
    )


def _check_numbers(max_extra_memory: float, cold_us: int) -> None:
    if not max_extra_memory >= 0:
        raise InputError(f"max_extra_memory must be at least 0, got {max_extra_memory:g}")
    if cold_us < 1:
        raise InputError(f"a cold start must last at least a microsecond, got {cold_us / 1e6:g} s")


def _known_platform(platform: str | None, formats: tuple[str, ...]) -> str:
    """The platform that was named, else the one that the logs are of."""
    platform = platform or next((_PLATFORM_OF[name] for name in formats if name in _PLATFORM_OF), "any")
    if platform not in KINDS:
        raise InputError(f"unknown platform {platform!r}; choose one of {', '.join(KINDS)}")
    return platform


def region_of(trace: Trace, region: str | None) -> str:
    """The region to look at.

    Raises:
        InputError: no requests, or a region that must be named.
    """
    if not trace.counts.get("request"):
        raise InputError(f"{trace.path}: no requests, so no policy can be tried; ingest a source that has them")
    if region is None:
        if len(trace.regions) != 1:
            raise InputError(f"{trace.path}: name one of its regions: {', '.join(trace.regions) or 'none'}")
        return trace.regions[0]
    return region


def split_trace(whole: Workload, history: History, keep_alive_us: int) -> Parts:
    """The earlier half to choose on, the later one to try on; at midnight when there are two days or more.

    Raises:
        InputError: a trace too short to split.
    """
    chosen, coverage = _coverage(whole, history)
    start_us, end_us = whole.start_us, whole.end_us
    if chosen is None and history.num_requests > MAX_CALLS:
        start_us = end_us - int((end_us - start_us) * MAX_CALLS / history.num_requests)
    middle_us = (start_us + end_us) // 2
    if end_us - start_us >= 2 * DAY_US:
        middle_us = max(middle_us // DAY_US * DAY_US, start_us + DAY_US)
    warm_up_us = min(max(2 * keep_alive_us, _WARM_UP_US), int((end_us - middle_us) * _WARM_UP_SHARE))
    if end_us - middle_us < 4 * max(keep_alive_us, 1):
        raise InputError(
            f"the trace spans {(end_us - start_us) / 1e6:,.0f} s, too short to learn from one part and try on another "
            f"with a keep-alive of {keep_alive_us / 1e6:g} s; give at least {8 * keep_alive_us / 1e6:,.0f} s"
        )
    used = _in_memory(Window(whole, start_us, end_us), chosen)
    training, later = split(used, middle_us - start_us)
    edges = block_edges(middle_us + warm_up_us, end_us, keep_alive_us)
    return Parts(training, Window(used, start_us, middle_us), later, edges, coverage)


def _coverage(whole: Workload, history: History) -> tuple[np.ndarray | None, float]:
    """Of a trace with too many requests, the functions to look at (bool (F,), None for all) and their share of the cold
    starts: those with the fewest requests for each cold start."""
    if history.num_requests <= MAX_CALLS or not history.starts.height:
        return None, 1.0
    counts = dict(history.starts.group_by("function").len().iter_rows())
    calls = np.array([history.calls.get(name, 0) for name in whole.functions.names], np.int64)
    cold = np.array([counts.get(name, 0) for name in whole.functions.names], np.int64)
    order = np.argsort(calls / np.maximum(cold, 0.5), kind="stable")
    chosen = np.zeros(len(calls), bool)
    chosen[order[np.cumsum(calls[order]) <= MAX_CALLS]] = True
    coverage = float(cold[chosen].sum() / max(cold.sum(), 1))
    return (chosen, coverage) if coverage >= _MIN_COVERAGE else (None, 1.0)


def _in_memory(window: Window, chosen: np.ndarray | None) -> Workload:
    """The calls of a window, of some functions or all, read once."""
    parts = [block if chosen is None else block.take(chosen[block.function]) for block in window.blocks()]
    calls = Calls(
        np.concatenate([part.arrive_us for part in parts] or [np.zeros(0, np.int64)]),
        np.concatenate([part.run_us for part in parts] or [np.zeros(0, np.int64)]),
        np.concatenate([part.function for part in parts] or [np.zeros(0, np.int32)]),
    )
    return Workload.from_arrays(
        calls, window.functions, window.cold_times, start_us=window.start_us, end_us=window.end_us
    )


def _timers(timer: TimerPrewarm, training: Training, keep_alive_us: int) -> list[int]:
    """Functions that the timer policy serves (its own conditions)."""
    return [
        f
        for f, period in timer.periods.items()
        if period.period_us > max(keep_alive_us, int(training.cold_us[f]) + period.early_us + DEFAULT_MARGIN_US)
    ]


def _schedules(trace: Trace, timer: TimerPrewarm, training: Training) -> tuple[dict[int, Schedule], int]:
    """Timers of the clock, and the epoch of the trace in us; a relative trace has no clock."""
    if trace.epoch is None:
        return {}, 0
    epoch_us = round(datetime.fromisoformat(trace.epoch).timestamp() * 1e6)
    return find_schedules(timer.periods, training, epoch_us), epoch_us


Group = list[Choice]


def _grouped(choices: Sequence[Choice]) -> list[Group]:
    """Choices that are told together: all timers, functions with the same new keep-alive; others stand alone."""
    groups: dict[tuple[Any, ...], Group] = {}
    for choice in choices:
        together = choice.kind in ("prewarm", "keep-alive")
        groups.setdefault((choice.kind, choice.level, -1 if together else choice.function), []).append(choice)
    return list(groups.values())


def objection(rec: Recommendation, room: float) -> str:
    """Why a change is not recommended where memory may grow by `room`; "" when it is."""
    if not rec.low > 0:
        return "the interval of its saving includes 0 on the later part"
    if rec.saving < MIN_SAVING:
        return f"it saves less than {MIN_SAVING:.1%} of the cold starts"
    if rec.usd_per_month >= 0:
        return "its memory costs more than the saved waiting is worth"
    if rec.extra_memory > room:
        return f"it needs {rec.extra_memory:.1%} more memory, {max(room, 0.0):.1%} are left"
    return ""


class _Evaluation:
    """Trials on the later part."""

    def __init__(
        self, parts: Parts, world: Platform, timer: TimerPrewarm, schedules: dict[int, Schedule], epoch_us: int,
        prices: Prices, slowdown: float, seed: int,
    ) -> None:  # fmt: skip
        self._parts, self._world, self._timer = parts, world, timer
        self._schedules, self._epoch_us = schedules, epoch_us
        self._prices, self._slowdown, self._seed = prices, slowdown, seed
        self._trials: dict[tuple[Kind, int], Trial] = {}
        self._held: list[tuple[np.ndarray, Trial]] = []
        self.base = run_trial(parts.later, KeepAlive(), world, parts.edges, seed=seed)

    def judged(
        self, groups: list[Group], max_extra_memory: float
    ) -> tuple[list[tuple[Recommendation, Group]], list[Rejected]]:
        """Groups that pay, in order, within the memory; and the others."""
        self._hold(groups)
        tried = [(self._recommendation(group), group) for group in groups]
        tried.sort(key=lambda pair: (pair[0].extra_memory > 0, -(pair[0].saving_per_memory or pair[0].saving)))
        accepted, rejected, room = [], [], max_extra_memory
        for rec, group in tried:
            reason = objection(rec, room)
            if reason:
                rejected.append(Rejected(rec.title, reason, rec.saving, rec.extra_memory))
            else:
                accepted.append((rec, group))
                room -= max(rec.extra_memory, 0.0)
        return accepted, rejected

    def left_out(self, groups: list[Group]) -> list[Rejected]:
        """What the earlier part left out for want of memory, with its numbers on the later one."""
        self._hold(groups)
        recs = [self._recommendation(group) for group in groups]
        reason = "it needs more memory than may be added beside the others"
        return [Rejected(rec.title, reason, rec.saving, rec.extra_memory) for rec in recs]

    def saving(self, recs: list[Recommendation], groups: list[Group]) -> tuple[float, float, float]:
        """Saving of several changes together, with its interval."""
        if not recs:
            return 0.0, 0.0, 0.0
        saved = sum((self._saved(group) for group in groups), np.zeros(len(self._parts.edges) - 1, np.int64))
        return self._ratio(saved)

    def _ratio(self, saved: np.ndarray) -> tuple[float, float, float]:
        all_cold = self.base.cold.sum(axis=0) / self._parts.coverage
        low, high = ratio_interval(saved, all_cold, seed=self._seed)
        return float(saved.sum() / all_cold.sum()) if all_cold.sum() else 0.0, low, high

    def _trial(self, group: Group) -> Trial:
        kind, level = group[0].kind, group[0].level
        if kind in ALWAYS:
            return next(trial for pods, trial in self._held if all(pods[c.function] == c.level for c in group))
        if (kind, level) not in self._trials:
            self._trials[kind, level] = self._run(self._policy(kind, level))
        return self._trials[kind, level]

    def _hold(self, groups: list[Group]) -> None:
        """One trial of all pods that these groups hold; functions have different numbers of them."""
        pods = np.zeros(len(self._parts.later.functions), np.int64)
        for choice in (choice for group in groups for choice in group if choice.kind in ALWAYS):
            pods[choice.function] = choice.level
        if pods.any():
            self._held.append((pods, self._run(MinScale(pods))))

    def _policy(self, kind: Kind, level: int) -> RulePolicy:
        if kind == "scheduled":
            return ScheduledPods(self._schedules, self._epoch_us)
        return self._timer if kind == "prewarm" else policy_of_level(kind, level, self._slowdown)

    def _run(self, policy: RulePolicy) -> Trial:
        return run_trial(self._parts.later, policy, self._world, self._parts.edges, seed=self._seed)

    def _saved(self, group: Group) -> np.ndarray:
        trial, rows = self._trial(group), [choice.function for choice in group]
        return (self.base.cold[rows] - trial.cold[rows]).sum(axis=0)

    def _recommendation(self, group: Group) -> Recommendation:
        kind, level = group[0].kind, group[0].level
        trial, rows = self._trial(group), [choice.function for choice in group]
        saving, low, high = self._ratio(self._saved(group))
        extra_gb_s = float((trial.gb_s[rows] - self.base.gb_s[rows]).sum())
        saved_s = float((self.base.wait_s[rows] - trial.wait_s[rows]).sum())
        extra = extra_gb_s / max(float(self.base.gb_s.sum()), 1e-9)
        # Memory is of the whole later part, waiting of its counted part.
        span_s = (self._parts.later.end_us - self._parts.later.start_us) / 1e6
        counted_s = float(self._parts.edges[-1] - self._parts.edges[0]) / 1e6
        later = self._parts.later
        share = self._schedules[rows[0]].billed_share if kind == "scheduled" else 1.0
        held, span_us = np.full(len(later.functions), level * share), later.end_us - later.start_us
        memory = memory_usd(kind, held, self.base, trial, later.functions, span_us, self._prices)[rows].sum()
        usd = float(memory) / span_s - saved_s * self._prices.wait_usd_per_s / counted_s
        names = self._parts.later.functions.names
        settings = tuple(self._setting(kind, level, f) for f in rows)
        return Recommendation(
            kind=kind,
            title=self._title(kind, level, rows, settings),
            functions=tuple(names[f] for f in rows),
            settings=settings,
            num_cold=int(self.base.cold[rows].sum()),
            num_saved=int(self._saved(group).sum()),
            saving=saving,
            low=low,
            high=high,
            wait_saving=saved_s * self._parts.coverage / max(float(self.base.wait_s.sum()), 1e-9),
            extra_memory=extra,
            extra_gb_s_per_day=extra_gb_s / span_s * 86_400,
            saving_per_memory=saving / extra if extra > 0 else None,
            usd_per_month=usd * MONTH_S,
        )

    def _setting(self, kind: Kind, level: int, f: int) -> dict[str, Any]:
        function = {"function": self._parts.later.functions.names[f]}
        if kind == "prewarm":
            period = self._timer.periods[f]
            lead_us = int(self._parts.training.cold_us[f]) + period.early_us + DEFAULT_MARGIN_US
            hold_us = lead_us + period.late_us + DEFAULT_MARGIN_US
            times = {"period_s": period.period_us / 1e6, "lead_s": lead_us / 1e6, "hold_s": hold_us / 1e6}
            return {**function, **times, "keep_alive_s": 0}
        if kind == "scheduled":
            return {**function, "scheduled": level, "on": self._schedules[f].on, "off": self._schedules[f].off}
        name = {"keep-alive": "keep_alive_s", "min-scale": "min_scale"}.get(kind, kind)
        return {**function, name: level}

    def _title(self, kind: Kind, level: int, rows: list[int], settings: tuple[dict[str, Any], ...]) -> str:
        functions = self._parts.later.functions
        first = functions.names[rows[0]]
        several = f"{len(rows)} functions" if len(rows) > 1 else first
        if kind == "prewarm":
            lead_s = max(setting["lead_s"] for setting in settings)
            timers = f"{len(rows)} timers" if len(rows) > 1 else f"the timer {first}"
            return f"pre-warm {timers} {lead_s:.1f} s ahead, release after the run"
        if kind == "keep-alive":
            return f"{several}: keep-alive {self._world.keep_alive_us / 1e6:g} -> {level} s"
        if kind == "concurrency":
            return f"{first}: concurrency {int(functions.concurrency[rows[0]])} -> {level}"
        if kind == "scheduled":
            return f"{first}: provisioned concurrency {level} from {settings[0]['on']} to {settings[0]['off']}"
        return f"{first}: {'provisioned concurrency' if kind == 'provisioned' else 'min-scale'} {level}"
