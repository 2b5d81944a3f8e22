"""The decision rule of the Knative Pod Autoscaler (KPA), and the windows of concurrency that feed it.

Every two seconds the autoscaler compares the mean concurrency of a revision over a long (stable, 60 s) and a short
(panic, 6 s) window with the target of one pod. The rates at which it may grow and shrink are bounded; a surge in the
short window starts a panic, during which the scale never falls. Averages are taken over buckets of one second, and a
window that is not full yet uses the part that is there.

Source: knative/serving, pkg/autoscaler/scaling and pkg/autoscaler/aggregation (Apache-2.0), restated.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from nonet.common.errors import InputError

TICK_S = 2.0
_MIN_TARGET = 0.01
_DIGITS = 1e6  # Knative rounds window averages down to six digits


@dataclass(frozen=True, slots=True)
class KpaSpec:
    """What a revision's annotations and the `config-autoscaler` map say; the defaults are Knative's.

    Attributes:
        target_value: concurrency of one pod that the autoscaler aims at: Knative's `target` times its utilization.
        utilization: share of the target to aim at (`target-utilization-percentage` / 100); a pod's whole capacity is
            `target_value / utilization`.
        stable_window_s: length of the long window (`window`).
        panic_window_share: short window as a share of the long one (`panic-window-percentage` / 100).
        panic_threshold: panic when the short window wants this many times the ready pods
            (`panic-threshold-percentage` / 100).
        max_up, max_down: largest factor by which one decision may grow or shrink the scale.
        target_burst_capacity: requests to have room for without the activator; 0 = never in the path, -1 = always.
        scale_to_zero_grace_s: how long the last pod waits for the activator to come into the path.
        retention_s: how long the last pod stays after the decision for zero (`scale-to-zero-pod-retention-period`).
        scale_down_delay_s: a lower scale must have been wanted for so long (`scale-down-delay`).
        activation_scale: pods to start with when the scale leaves zero (`activation-scale`).
        min_scale, max_scale: bounds on the scale that is applied; max_scale 0 = none.
        reachable: the revision has a route; without one the scale may fall to zero at once.

    >>> KpaSpec().capacity, KpaSpec.for_target(10, utilization=0.75).target_value
    (100.0, 7.5)
    """

    target_value: float = 70.0
    utilization: float = 0.7
    stable_window_s: float = 60.0
    panic_window_share: float = 0.1
    panic_threshold: float = 2.0
    max_up: float = 1000.0
    max_down: float = 2.0
    target_burst_capacity: float = 211.0
    scale_to_zero_grace_s: float = 30.0
    retention_s: float = 0.0
    scale_down_delay_s: float = 0.0
    activation_scale: int = 1
    min_scale: int = 0
    max_scale: int = 0
    reachable: bool = True

    def __post_init__(self) -> None:
        rules = (
            ("target_value", self.target_value >= _MIN_TARGET, f"at least {_MIN_TARGET}"),
            ("utilization", 0 < self.utilization <= 1, "in (0, 1]"),
            ("stable_window_s", 6 <= self.stable_window_s <= 3600, "between 6 and 3600 seconds"),
            ("panic_window_share", 0 < self.panic_window_share <= 1, "in (0, 1]"),
            ("panic_threshold", self.panic_threshold > 0, "above 0"),
            ("max_up", self.max_up > 1, "above 1"),
            ("max_down", self.max_down > 1, "above 1"),
            ("target_burst_capacity", self.target_burst_capacity >= -1, "-1 or more"),
            ("scale_down_delay_s", self.scale_down_delay_s >= 0, "0 or more"),
            ("scale_to_zero_grace_s", self.scale_to_zero_grace_s >= 0, "0 or more"),
            ("retention_s", self.retention_s >= 0, "0 or more"),
            ("activation_scale", self.activation_scale >= 0, "0 or more"),
            ("min_scale", self.min_scale >= 0, "0 or more"),
            ("max_scale", self.max_scale == 0 or self.max_scale >= self.min_scale, "0 or at least min_scale"),
        )
        for name, holds, expected in rules:
            if not holds:
                raise InputError(f"kpa: {name}={getattr(self, name)}: expected {expected}")

    @classmethod
    def for_target(cls, target: float, *, utilization: float = 0.7, **others: Any) -> KpaSpec:
        """The spec of a revision with the annotation `autoscaling.knative.dev/target`, or a container concurrency."""
        return cls(target_value=max(_MIN_TARGET, target * utilization), utilization=utilization, **others)

    @property
    def capacity(self) -> float:
        """Requests that one pod can run at once."""
        return self.target_value / self.utilization

    @property
    def panic_window_s(self) -> float:
        """Length of the short window."""
        return self.stable_window_s * self.panic_window_share


@dataclass(frozen=True, slots=True)
class Decision:
    """Pods wanted, before min and max scale; excess burst capacity, below 0 = activator in the path; panic or not."""

    pods: int
    excess_burst_capacity: int
    panicking: bool


class KpaDecider:
    """Turns window averages into a wanted number of pods; keeps the panic and the scale-down delay between calls.

    A decider that starts with more than one ready pod starts in panic, as Knative does after a restart of the
    autoscaler, so that missing history cannot shrink a running revision.

    >>> decider = KpaDecider(KpaSpec(target_value=10, utilization=1, max_up=10, max_down=10, target_burst_capacity=100))
    >>> decider.decide(now_s=0, stable=50, panic=50, ready=1)
    Decision(pods=5, excess_burst_capacity=-140, panicking=True)
    """

    def __init__(
        self,
        spec: KpaSpec,
        *,
        ready: int = 0,
        now_s: float = 0.0,
        panic_since_s: float | None = None,
        max_panic_pods: int = 0,
    ) -> None:
        self.spec = spec
        self._panic_since_s = now_s if ready > 1 else panic_since_s
        self._max_panic_pods = ready if ready > 1 else max_panic_pods
        self._delay = _DelayWindow(spec.scale_down_delay_s) if spec.scale_down_delay_s > 0 else None

    @property
    def panicking(self) -> bool:
        """Whether the decider is in panic."""
        return self._panic_since_s is not None

    def decide(self, now_s: float, stable: float, panic: float, ready: int) -> Decision:
        """Pods wanted at `now_s`, from the mean concurrency over both windows and the number of ready pods.

        Times must not fall from call to call.
        """
        spec = self.spec
        base = max(1, ready)
        wants_stable = math.ceil(stable / spec.target_value)
        wants_panic = math.ceil(panic / spec.target_value)
        bounded_stable = self._bounded(wants_stable, base)
        bounded_panic = self._bounded(wants_panic, base)
        self._update_panic(now_s, wants_panic / base)
        pods = bounded_stable
        if self._panic_since_s is not None:
            self._max_panic_pods = max(self._max_panic_pods, bounded_stable, bounded_panic)
            pods = self._max_panic_pods
        if self._delay is not None:
            delayed = self._delay.largest(now_s, pods)
            pods = delayed if spec.reachable else pods
        return Decision(pods, self._excess_burst_capacity(panic, ready), self.panicking)

    def _bounded(self, wants: int, base: int) -> int:
        spec = self.spec
        low = math.floor(base / spec.max_down) if spec.reachable else 0
        bounded = min(max(wants, low), math.ceil(spec.max_up * base))
        if spec.activation_scale > 1 and wants > 0:
            return max(bounded, spec.activation_scale)
        return bounded

    def _update_panic(self, now_s: float, surge: float) -> None:
        if surge >= self.spec.panic_threshold:
            self._panic_since_s = now_s
        elif self._panic_since_s is not None and self._panic_since_s + self.spec.stable_window_s < now_s:
            self._panic_since_s = None
            self._max_panic_pods = 0

    def _excess_burst_capacity(self, panic: float, ready: int) -> int:
        capacity = self.spec.target_burst_capacity
        if capacity == 0:
            return 0
        if capacity < 0:
            return -1
        return math.floor(ready * self.spec.capacity - capacity - panic)


class _DelayWindow:
    """The largest value recorded during the last `length_s`, in buckets of one tick."""

    def __init__(self, length_s: float) -> None:
        self._num_buckets = math.ceil(length_s / TICK_S)
        self._falling: deque[tuple[int, int]] = deque()  # (bucket, value), values strictly falling

    def largest(self, now_s: float, value: int) -> int:
        bucket = int(now_s // TICK_S)
        while self._falling and self._falling[-1][1] <= value:
            self._falling.pop()
        self._falling.append((bucket, value))
        while bucket - self._falling[0][0] >= self._num_buckets:
            self._falling.popleft()
        return self._falling[0][1]


class WindowAverage:
    """Mean of a quantity over the last `length_s`, from buckets of one second (Knative's TimedFloat64Buckets).

    A window that began less than its length ago is averaged over the buckets since the first record; after a pause
    shorter than the window, over the buckets up to the last record; after a longer one it is 0 and starts anew.
    Buckets in between without a record count as 0. Values that fall into one second add up.

    >>> window = WindowAverage(6)
    >>> for second in range(3):
    ...     window.record(second, 4.0)
    >>> window.average(2), window.average(5), window.average(8)
    (4.0, 4.0, 0.0)
    """

    def __init__(self, length_s: float) -> None:
        self._length = math.ceil(length_s)
        self._buckets = [0.0] * self._length
        self._first = 0
        self._last: int | None = None

    def record(self, time_s: float, value: float) -> None:
        """Add `value` to the bucket of `time_s`; records older than the window are ignored."""
        bucket = int(time_s)
        if self._last is None or bucket - self._last >= self._length:
            self._buckets = [0.0] * self._length
            self._first = self._last = bucket
        elif bucket > self._last:
            for skipped in range(self._last + 1, bucket + 1):
                self._buckets[skipped % self._length] = 0.0
            self._last = bucket
        elif self._last - bucket >= self._length:
            return
        else:
            self._first = min(self._first, bucket)
        self._buckets[bucket % self._length] += value

    def average(self, now_s: float) -> float:
        """The mean at `now_s`; 0 without a record in the window."""
        now = int(now_s)
        if self._last is None or now - self._last >= self._length:
            return 0.0
        stale = max(0, now - self._last)
        oldest = self._last + stale - self._length + 1
        total = sum(self._buckets[bucket % self._length] for bucket in range(oldest, self._last + 1))
        num_buckets = min(self._last - self._first + 1, self._length - stale)
        return math.floor(total / num_buckets * _DIGITS) / _DIGITS
