"""Which change each function should get, judged on the earlier part of a trace alone.

Tried are longer keep-alives, more requests at once on a pod, and pods that are always there, or there by the clock. A
function with a period beyond the keep-alive gets a timer that starts its pod ahead, where the platform can. A change
must save three cold starts and a tenth of the function's, and what the saved waiting is worth must exceed what the
memory costs; of several the one with the largest difference is taken. Where changes together exceed the memory that may
be added, those that save most for it go first, and a function whose change does not fit gets its next best one.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nonet.coldstart.advising.costs import Prices
from nonet.coldstart.advising.schedules import Schedule, ScheduledPods
from nonet.coldstart.advising.trials import Concurrency, MinScale, Trial, peak_pods, run_trial
from nonet.coldstart.simulating.calls import Functions, Workload
from nonet.coldstart.simulating.platform import Platform
from nonet.coldstart.simulating.policies.base import RulePolicy
from nonet.coldstart.simulating.policies.fixed import KeepAlive

Kind = Literal["prewarm", "keep-alive", "concurrency", "min-scale", "provisioned", "scheduled"]
KINDS: Mapping[str, tuple[Kind, ...]] = {
    "knative": ("prewarm", "keep-alive", "concurrency", "min-scale"),
    "openwhisk": ("prewarm", "concurrency"),
    "lambda": ("scheduled", "provisioned"),
    "any": ("prewarm", "keep-alive", "concurrency", "min-scale"),
}
"""What can be changed for a function of each platform. OpenWhisk has one keep-alive for all actions of an invoker;
Lambda releases no pod after a run, but switches provisioned concurrency on and off by the clock."""

KEEP_ALIVES_S = (120, 300, 600, 1200, 1800, 3600)
CONCURRENCIES = (2, 4, 8, 16, 32, 64)
ALWAYS: tuple[Kind, ...] = ("min-scale", "provisioned")
"""Pods that are always there; no function gets more than its own peak needs."""
_MAX_ALWAYS = 1024
_MIN_SAVED, _MIN_SHARE = 3, 0.1
_GOOD_ENOUGH = 0.9


@dataclass(frozen=True)
class Choice:
    """A change of one function: its kind, its level (seconds, requests, pods; 0 for a timer), what it did."""

    function: int
    kind: Kind
    level: int
    saved: int
    extra_gb_s: float


def policy_of_level(kind: Kind, level: int, slowdown: float, peaks: np.ndarray | None = None) -> RulePolicy:
    """The policy that gives every function a level of a kind other than "prewarm".

    Args:
        peaks: pods that each function needs at most, int64 (F,); more are not held.
    """
    if kind == "keep-alive":
        return KeepAlive(level * 1_000_000)
    if kind == "concurrency":
        return Concurrency(level, slowdown)
    return MinScale(level if peaks is None else np.minimum(level, peaks))


def levels_of(kind: Kind, keep_alive_us: int, most: int) -> Sequence[int]:
    """Levels of a kind that are worth a try; pods that are always there up to `most`, in powers of 2."""
    if kind == "keep-alive":
        return [level for level in KEEP_ALIVES_S if level * 1_000_000 > keep_alive_us]
    if kind in ALWAYS:
        return [1 << k for k in range((min(most, _MAX_ALWAYS) - 1).bit_length() + 1)]
    return CONCURRENCIES if kind == "concurrency" else ()


def memory_usd(
    kind: Kind, held: np.ndarray, base: Trial, trial: Trial, functions: Functions, span_us: int, prices: Prices
) -> np.ndarray:
    """What the memory of a change costs over a span of time, US dollars, float64 (F,).

    Provisioned concurrency is billed for all pods that are held, all the time, whatever they do; that runs on them are
    cheaper is left out. Elsewhere a pod costs the memory that it adds.

    Args:
        held: pods of each function that are billed as held, on average over the time, (F,).
    """
    if kind in ("provisioned", "scheduled"):
        gb = functions.memory_mb.astype(float) / 1024
        return held * gb * (span_us / 1e6) * prices.provisioned_usd_per_gb_s
    usd_per_gb_s = prices.provisioned_usd_per_gb_s if kind == "min-scale" else prices.idle_usd_per_gb_s
    return (trial.gb_s - base.gb_s) * usd_per_gb_s


def choose(
    earlier: Workload,
    platform: Platform,
    kinds: Sequence[Kind],
    timers: Sequence[int],
    schedules: Mapping[int, Schedule],
    epoch_us: int,
    prices: Prices,
    *,
    max_extra_memory: float,
    slowdown: float,
    seed: int,
) -> tuple[list[Choice], list[Choice]]:
    """One change at most for each function; those that fit into the memory, and those that do not.

    Args:
        earlier: the earlier part of the calls.
        platform: as it is now.
        kinds: what may be changed.
        timers: functions that get a timer, where the platform has any.
        schedules: of functions that may get provisioned concurrency by the clock; epoch_us: see `find_schedules`.
        max_extra_memory: memory that may be added, as a share of what there is.
        slowdown: see `Concurrency`.
    """
    edges = np.array([earlier.start_us, earlier.end_us])
    base = run_trial(earlier, KeepAlive(), platform, edges, seed=seed)
    options: dict[int, list[tuple[float, Choice]]] = {}
    peaks, span_us = peak_pods(earlier), earlier.end_us - earlier.start_us
    most = int(peaks[base.num_cold >= _MIN_SAVED].max(initial=1))
    for kind in kinds:
        levels = levels_of(kind, platform.keep_alive_us, most)
        policies = [policy_of_level(kind, level, slowdown, peaks) for level in levels]
        if kind == "scheduled" and schedules:
            levels, policies = [1], [ScheduledPods(schedules, epoch_us)]
        tried = [run_trial(earlier, policy, platform, edges, seed=seed) for policy in policies]
        if not tried:
            continue
        saved = np.array([base.num_cold - trial.num_cold for trial in tried])
        enough = (saved >= _MIN_SAVED) & (saved >= _MIN_SHARE * base.num_cold)
        if kind == "concurrency":
            enough &= _first_good(saved)
        worth = np.array([(base.wait_s - trial.wait_s) * prices.wait_usd_per_s for trial in tried])
        cost = [
            memory_usd(kind, _held(kind, level, peaks, schedules), base, trial, earlier.functions, span_us, prices)
            for level, trial in zip(levels, tried, strict=True)
        ]
        gain = np.where(enough, worth - np.array(cost), -np.inf)
        for f in np.flatnonzero(gain.max(axis=0) > 0).tolist():
            k = int(gain[:, f].argmax())
            extra = float(tried[k].gb_s[f] - base.gb_s[f])
            level = min(levels[k], int(peaks[f])) if kind in ALWAYS else levels[k]
            options.setdefault(f, []).append((float(gain[k, f]), Choice(f, kind, level, int(saved[k, f]), extra)))
    ranked = {f: [choice for _, choice in sorted(of, key=lambda o: -o[0])] for f, of in options.items()}
    if "prewarm" in kinds:
        ranked |= {f: [Choice(f, "prewarm", 0, int(base.num_cold[f]), 0.0)] for f in timers if base.num_cold[f]}
    return within(list(ranked.values()), max_extra_memory * float(base.gb_s.sum()))


def _held(kind: Kind, level: int, peaks: np.ndarray, schedules: Mapping[int, Schedule]) -> np.ndarray:
    """Pods of each function that are billed as held, on average."""
    if kind != "scheduled":
        return np.minimum(level, peaks)
    return np.array([schedules[f].billed_share if f in schedules else 0.0 for f in range(len(peaks))])


def _first_good(saved: np.ndarray) -> np.ndarray:
    """Of each function's levels, the lowest that saves nine tenths of what any level saves, bool (levels, F)."""
    good = saved >= _GOOD_ENOUGH * saved.max(axis=0)
    return good & (np.cumsum(good, axis=0) == 1)


def within(ranked: list[list[Choice]], room_gb_s: float) -> tuple[list[Choice], list[Choice]]:
    """One choice a function that fits into the memory, those that save most for it first; and the best ones that did
    not fit.

    Args:
        ranked: each function's choices, best first.
        room_gb_s: memory that may be added.
    """
    kept, room = [], max(room_gb_s, 0.0)
    left_out: dict[int, Choice] = {}
    waiting = [(_order(choices[0]), choices) for choices in ranked if choices]
    heapq.heapify(waiting)
    while waiting:
        _, choices = heapq.heappop(waiting)
        first, *others = choices
        if first.extra_gb_s <= room:
            kept.append(first)
            room -= max(first.extra_gb_s, 0.0)
            continue
        left_out.setdefault(first.function, first)
        if others:
            heapq.heappush(waiting, (_order(others[0]), others))
    return kept, list(left_out.values())


def _order(choice: Choice) -> tuple[bool, float, int]:
    """Least for those that should come first; no two functions have the same."""
    return choice.extra_gb_s > 0, -choice.saved / max(choice.extra_gb_s, 1e-9), choice.function
