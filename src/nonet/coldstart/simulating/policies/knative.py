"""Knative: pods follow the decisions of its autoscaler (KPA), requests wait in the activator.

The concurrency of each function (executing and waiting) goes into buckets of a second, every two seconds the autoscaler
decides, and the pods wanted are started or drained. An arrival never adds a pod, except from zero, where the
activator asks for one at once. The last pod of an idle function goes when the function has been active for a stable
window, the activator is in its path (else after the grace period), and the retention is over.

Source: knative/serving, pkg/autoscaler and pkg/reconciler/autoscaling/kpa (Apache-2.0), restated; specification A6.9.
Not modelled: network programming, scrape sampling, the scale-down delay, the initial scale of a new revision. A pod
beyond the wanted number serves on, after the older ones, until a decision finds it idle; Knative takes it out.
"""

from __future__ import annotations

import math

import numpy as np

from nonet.coldstart.simulating._kpa_kernels import NOT_PANICKING, KpaArrays, kpa_decide
from nonet.coldstart.simulating.kpa import TICK_S, KpaSpec
from nonet.coldstart.simulating.policies import register
from nonet.coldstart.simulating.policies.base import Orders, RulePolicy, Setup, TickView
from nonet.coldstart.simulating.policies.values import parse_share
from nonet.common.errors import InputError

SECOND_US = 1_000_000
_TICK = int(TICK_S)
_TICK_US = _TICK * SECOND_US
_FELT_S = 6.1e-5  # request-seconds that keep a window's mean, rounded down to six digits, above 0 until they leave it


class Knative(RulePolicy):
    """One KPA a function; its target is the function's concurrency.

    Args:
        spec: settings of all functions; its `target_value` is replaced by concurrency * utilization.

    Raises:
        InputError: a scale-down delay, or a stable window that is no whole number of seconds.
    """

    def __init__(self, spec: KpaSpec | None = None) -> None:
        self.name = "kpa"
        self.spec = spec or KpaSpec()
        if self.spec.scale_down_delay_s or self.spec.stable_window_s != int(self.spec.stable_window_s):
            raise InputError("kpa: the policy takes no scale_down_delay_s, and whole seconds for stable_window_s")
        self._stable_s, self._panic_s = int(self.spec.stable_window_s), math.ceil(self.spec.panic_window_s)
        # Windows of even length hold the same seconds when buckets are two seconds long, which halves the ticks.
        self._bucket_s = 1 if self._stable_s % _TICK or self._panic_s % _TICK else _TICK
        self.tick_us = self._bucket_s * SECOND_US

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy.prepare`."""
        num = len(setup.functions)
        rules, spec = setup.rules, self.spec
        rules.scale_rule = "wait"
        rules.pick = "oldest"
        rules.keep_alive_us[:] = _TICK_US
        self._start_us = setup.start_us
        self._target = rules.concurrency * spec.utilization
        self._capacity = rules.concurrency.astype(np.float64)
        self._numbers = (
            self._bucket_s,
            self._panic_s,
            float(spec.panic_threshold),
            float(spec.max_up),
            float(spec.max_down),
            float(spec.target_burst_capacity),
            int(spec.activation_scale),
        )
        ones = np.ones(num, np.int64)
        buckets = np.zeros((num, self._stable_s // self._bucket_s))
        self._state = KpaArrays(buckets, NOT_PANICKING * ones, *(0 * ones for _ in range(5)))
        self._recorded = NOT_PANICKING * ones  # second of the last record
        self._seen_us = np.zeros(num, np.int64)
        self._active_since_us = -ones
        self._zero_since_us = -ones
        self._needed_until_us = 0 * ones  # the window has felt a request until then, so one pod at least is wanted
        self._one_until_us = 0 * ones  # until when one pod has been ordered

    def on_tick(self, now_us: int, view: TickView) -> Orders | None:
        """Fill a bucket; at every second second decide and order."""
        second = (now_us - self._start_us) // SECOND_US
        buckets = self._state.buckets
        passed = (view.concurrency_us - self._seen_us) / SECOND_US
        buckets[:, second // self._bucket_s % buckets.shape[1]] = passed
        self._seen_us = view.concurrency_us.copy()
        self._needed_until_us[passed > _FELT_S] = now_us + self._stable_s * SECOND_US
        live = np.asarray(view.live_pods)
        self._record(second, (live > 0) | (passed > 0), view)
        if second % _TICK:
            return None
        active = (live > 0) | (buckets.sum(axis=1) > 0)
        kpa_decide(self._state, second, live - view.starting_pods, self._target, self._capacity, self._numbers, active)
        return self._orders(now_us, self._applied(now_us, live))

    def _record(self, second: int, reported: np.ndarray, view: TickView) -> None:
        """Begin a window anew where neither a pod nor a request had anything to report for its length."""
        recorded = self._recorded
        if (reported & (second - recorded >= self._panic_s)).any():
            first = np.full(len(reported), second + 1)
            np.minimum.at(first, view.function, (view.arrive_us - self._start_us) // SECOND_US + 1)
            first = np.where(first > second, second - self._bucket_s + 1, first)
            for begins, length_s in (
                (self._state.stable_from, self._stable_s),
                (self._state.panic_from, self._panic_s),
            ):
                anew = reported & (first - recorded >= length_s)
                begins[anew] = first[anew]
        recorded[reported] = second

    def _applied(self, now_us: int, live: np.ndarray) -> np.ndarray:
        """The wanted pods within min and max scale, with the last pod kept as long as Knative keeps it."""
        spec, state = self.spec, self._state
        self._active_since_us = np.where(
            live > 0, np.where(self._active_since_us < 0, now_us, self._active_since_us), -1
        )
        zero = (state.desired == 0) & (live > 0)
        self._zero_since_us = np.where(zero, np.where(self._zero_since_us < 0, now_us, self._zero_since_us), -1)
        in_path = (state.excess < 0) if spec.target_burst_capacity else np.zeros(len(live), bool)
        grace_us = np.where(in_path, 0, int(spec.scale_to_zero_grace_s * SECOND_US))
        wait_us = np.maximum(grace_us, int(spec.retention_s * SECOND_US))
        stays = zero & (
            (now_us - self._active_since_us < int(spec.stable_window_s * SECOND_US))
            | (now_us - self._zero_since_us < wait_us)
        )
        pods = np.maximum(np.where(stays, 1, state.desired), spec.min_scale)
        return np.minimum(pods, spec.max_scale) if spec.max_scale else pods

    def _orders(self, now_us: int, pods: np.ndarray) -> Orders | None:
        """Hold the pods until the next decision; a single one for as long as it is certain to be wanted."""
        next_us = now_us + _TICK_US
        until_us = np.where(pods == 1, np.maximum(self._needed_until_us, next_us), next_us)
        wanted = np.flatnonzero((pods > 1) | ((pods == 1) & (self._one_until_us < next_us)))
        if not len(wanted):
            return None
        single = wanted[pods[wanted] == 1]
        self._one_until_us[single] = until_us[single]
        ones = np.ones(len(wanted), np.int64)
        return Orders(wanted, now_us * ones, until_us[wanted], pods[wanted], ones > 0)


@register("kpa", "pods follow the Knative autoscaler; value: utilization target in (0, 1]", "kpa")
def _make(text: str) -> RulePolicy:
    return Knative(KpaSpec(utilization=parse_share(text, "kpa")) if text else None)
