"""SPES: classes of functions by their calls per minute, one pod loaded when the next call is expected.

On the training days every function gets a class (`spes_classes`). One that fits none is tried on the last quarter of
those days as pulsed, possible and correlated, and takes what costs least of cold minutes and wasted minutes, weighed
by `alpha`. In the simulation the rules of `_spes_kernels` run every minute on the calls of the minute that has
passed: a function that is to be loaded has one pod held for the next minute; pods beyond it live for one minute after
use, as any function that was just called is loaded that long.

Source: SPES (ICDE 2024); specification A6.6.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nonet.coldstart.simulating import spes_classes as classes
from nonet.coldstart.simulating._spes_kernels import SpesState, spes_minute, spes_replay
from nonet.coldstart.simulating.policies import register
from nonet.coldstart.simulating.policies.base import Orders, RulePolicy, Setup, TickView
from nonet.coldstart.simulating.policies.training import Learner, Training
from nonet.coldstart.simulating.policies.values import parse_share
from nonet.coldstart.simulating.spes_classes import SpesClass
from nonet.coldstart.simulating.spes_state import make_state
from nonet.common.errors import InputError

MINUTE_US = 60_000_000
DEFAULT_ALPHA = 0.5
_HELD_OUT_SHARE = 0.25
_MAX_LAG_MINUTES = 10
_MIN_CO_OCCURRENCE = 0.5
_MAX_GROUP = 200


class Spes(Learner):
    """Learns the classes on the training days.

    Args:
        alpha: weight of cold minutes against wasted ones in the choice for functions without a class.
        groups: int (F,), functions with the same number belong to one owner or application and may announce each other;
            None = from their names, see `groups_of_names`.
    """

    tick_us = MINUTE_US

    def __init__(self, alpha: float = DEFAULT_ALPHA, groups: Sequence[int] | None = None) -> None:
        if not 0 <= alpha <= 1:
            raise InputError(f"spes: alpha={alpha}: expected a share in [0, 1]")
        self.name = "spes"
        self.alpha, self.groups = alpha, groups
        self.classes: list[SpesClass] = []
        self._last_us = np.zeros(0, np.int64)

    def _learn(self, training: Training) -> None:
        counts = {int(f): minute_counts(training, int(f)) for f in np.flatnonzero(training.num_calls())}
        groups = groups_of_names(training.functions.names) if self.groups is None else self.groups
        self.classes = classify_all(counts, len(training.functions), groups, self.alpha)
        self._last_us = np.full(len(training.functions), -(1 << 60), np.int64)
        np.maximum.at(self._last_us, training.calls.function, training.calls.arrive_us)

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy.prepare`."""
        self._check_fitted(setup)
        setup.rules.keep_alive_us[:] = MINUTE_US
        self._state = make_state(self.classes, (self._last_us - setup.start_us) // MINUTE_US)
        self._minute = -1

    def on_tick(self, now_us: int, view: TickView) -> Orders | None:
        """Take in the calls of the last minute and hold a pod of every loaded function for the next one."""
        if self._minute >= 0:
            counts = np.bincount(view.function, minlength=len(self.classes)).astype(np.int32)
            spes_minute(self._state, counts, self._minute)
        self._minute += 1
        loaded = np.flatnonzero(self._state.loaded)
        if not len(loaded):
            return None
        ones = np.ones(len(loaded), np.int64)
        return Orders(loaded, now_us * ones, (now_us + MINUTE_US) * ones, ones, ones > 0)


def groups_of_names(names: Sequence[str]) -> list[int]:
    """Numbers of the users in "function---user---pool" (Huawei) or the applications in "application/function" (Azure).

    Any other function is alone.

    >>> groups_of_names(["f1---u1---p", "f2---u1---p", "app/f", "app/g", "lonely"])
    [0, 0, 1, 1, 2]
    """
    numbers: dict[tuple[str, str], int] = {}
    groups = []
    for name in names:
        parts = name.split("---")
        if len(parts) > 1:
            key = ("user", parts[1])
        elif "/" in name:
            key = ("application", name.rpartition("/")[0])
        else:
            key = ("alone", name)
        groups.append(numbers.setdefault(key, len(numbers)))
    return groups


def minute_counts(training: Training, f: int) -> np.ndarray:
    """Calls of function f in each minute of the training window, int32 (m,)."""
    num_minutes = -(-(training.end_us - training.start_us) // MINUTE_US)
    minutes = (training.of_function(f)[0] - training.start_us) // MINUTE_US
    return np.bincount(minutes, minlength=num_minutes).astype(np.int32)


def classify_all(
    counts: dict[int, np.ndarray], num_functions: int, groups: Sequence[int], alpha: float = DEFAULT_ALPHA
) -> list[SpesClass]:
    """The class of every function, from its counts per minute (m,); functions that are not in `counts` are unknown."""
    found = [SpesClass(classes.UNKNOWN)] * num_functions
    for f, series in counts.items():
        found[f] = classes.classify(series)
    members: dict[int, list[int]] = defaultdict(list)
    for f in counts:
        members[groups[f]].append(f)
    deterministic = list(found)
    for f, series in counts.items():
        if deterministic[f].kind == classes.UNKNOWN:
            mates = [g for g in members[groups[f]] if g != f][:_MAX_GROUP]
            found[f] = best_rule(series, {g: (counts[g], deterministic[g]) for g in mates}, alpha)
    return found


def best_rule(series: np.ndarray, mates: dict[int, tuple[np.ndarray, SpesClass]], alpha: float) -> SpesClass:
    """Pulsed, possible or correlated: what costs least on the last quarter when learnt on the first three.

    Cost = alpha * cold minutes / most cold minutes of the three + (1 - alpha) * the same of wasted minutes. The
    winner is then described on all of the series. A series too short to be divided, or without calls in the last
    quarter, stays unknown: unloaded after a minute, and classed online.
    """
    middle = int(len(series) * (1 - _HELD_OUT_SHARE))
    early, late = series[:middle], series[middle:]
    if not early.any() or not late.any():
        return classes.described(series, classes.UNKNOWN)
    candidates = [classes.described(early, classes.PULSED)]
    possible = classes.described(early, classes.POSSIBLE)
    if possible.modes:
        candidates.append(possible)
    links = announcing(early, {g: counts[:middle] for g, (counts, _) in mates.items()})
    if links:
        candidates.append(classes.described(early, classes.CORRELATED, links=links))
    costs = np.array([_held_out_cost(one, series, middle, mates) for one in candidates], np.float64)
    scale = np.maximum(costs.max(axis=0), 1)
    best = candidates[int(np.argmin(costs / scale @ [alpha, 1 - alpha]))]
    return classes.described(series, best.kind, links=best.links)


def announcing(series: np.ndarray, mates: dict[int, np.ndarray]) -> tuple[tuple[int, int], ...]:
    """Functions called at most so many minutes before at least half of the starts of the series' active runs.

    The smallest lag that reaches half is taken, from 1 to 10 minutes; a call in the very minute announces nothing.
    """
    active = series > 0
    starts = np.flatnonzero(active & ~np.concatenate([[False], active[:-1]]))
    links = []
    for g, counts in mates.items():
        totals = np.concatenate([[0], np.cumsum(counts > 0)])
        for lag in range(1, _MAX_LAG_MINUTES + 1):
            before = totals[starts] - totals[np.maximum(starts - lag, 0)]
            if np.mean(before > 0) >= _MIN_CO_OCCURRENCE:
                links.append((g, lag))
                break
    return tuple(links)


def _held_out_cost(
    candidate: SpesClass, series: np.ndarray, middle: int, mates: dict[int, tuple[np.ndarray, SpesClass]]
) -> tuple[int, int]:
    """Cold and wasted minutes of the candidate on the series from `middle` on."""
    sources = [g for g, _ in candidate.links]
    rows = [series, *(mates[g][0] for g in sources)]
    renamed = tuple((1 + k, lag) for k, (_, lag) in enumerate(candidate.links))
    own = replace(candidate, links=renamed)
    last = [int(np.flatnonzero(row[:middle])[-1]) - middle if row[:middle].any() else -(1 << 40) for row in rows]
    state: SpesState = make_state([own, *(mates[g][1] for g in sources)], np.array(last, np.int64))
    cold, wasted = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    spes_replay(state, np.stack([row[middle:] for row in rows]).astype(np.int32), cold, wasted)
    return int(cold[0]), int(wasted[0])


@register("spes", "classes of functions by their calls per minute; value: weight of cold against waste", "spes:0.5")
def _make(text: str) -> RulePolicy:
    return Spes(parse_share(text, "spes") if text else DEFAULT_ALPHA)
