"""What the daemon does not believe of a sample, and what a row must not do.

A sample that is not believed reaches nobody: the policy sees the one before grow old. Believed is what lies between a
hundredth of the lowest budget and three times the highest, as long as it moves: the same value to the last digit for
`stuck_after_s` is a sensor that stands still. A row that swings as synchronous training does is not a row to
oversubscribe.
"""

from __future__ import annotations

import math
from collections import deque

from nonet.power.policies.guards import TRAINING_RISE_2S
from nonet.power.policies.protocol import Sample

TOO_LOW, TOO_HIGH = 0.01, 3.0
"""A row draws neither a hundredth of its budget nor three times as much: its breaker would have tripped."""
TRAINING_RISES = 3
TRAINING_WINDOW_S = 3600.0
_TOGETHER_S = 40.0
"""Rows of inference rise by 12 % within this time, so a longer step between two samples says nothing."""


class SampleGuard:
    """Judges the samples of a row, one after the other.

    Args:
        lowest_budget_w: of all times.
        highest_budget_w: of all times.
        stuck_after_s: a value that stays the same for so long is not believed.

    >>> guard = SampleGuard(100.0, 100.0, stuck_after_s=300.0)
    >>> [guard.refusal(Sample(power_w, 0.0)) for power_w in (90.0, -1.0, 1000.0)]
    ['', 'negative: -1 W', 'too high: 10.0 times the budget; is one of them in another unit?']
    """

    def __init__(self, lowest_budget_w: float, highest_budget_w: float, stuck_after_s: float) -> None:
        self._low_w, self._high_w, self._stuck_after_s = lowest_budget_w, highest_budget_w, stuck_after_s
        self._value_w, self._since_s = math.nan, 0.0
        self._before: tuple[float, float] | None = None  # time, row power over budget
        self._rises: deque[float] = deque()

    def refusal(self, sample: Sample) -> str:
        """Why a sample is not believed, "" when it is."""
        power_w = sample.power_w
        if power_w != self._value_w:
            self._value_w, self._since_s = power_w, sample.measured_at_s
        if not math.isfinite(power_w):
            return "no number: the sensor or its source failed"
        if power_w < 0:
            return f"negative: {power_w:g} W"
        if power_w < TOO_LOW * self._low_w:
            return f"too low: {power_w / self._low_w:.2g} of the budget; is one of them in another unit?"
        if power_w > TOO_HIGH * self._high_w:
            return f"too high: {power_w / self._high_w:.1f} times the budget; is one of them in another unit?"
        if sample.measured_at_s - self._since_s >= self._stuck_after_s:
            return f"stuck: the same value for more than {self._stuck_after_s:g} s"
        return ""

    def note(self, sample: Sample, budget_w: float, by_us: bool) -> None:
        """A believed sample.

        Args:
            sample: the next.
            budget_w: of now, watts.
            by_us: whether the row may have risen because a brake or a cap of ours ended.
        """
        now_s, u = sample.measured_at_s, sample.power_w / budget_w
        before, self._before = self._before, (now_s, u)
        if before is not None and not by_us and now_s - before[0] <= _TOGETHER_S and u - before[1] > TRAINING_RISE_2S:
            self._rises.append(now_s)

    def trains(self, now_s: float) -> bool:
        """Whether the row has risen within the last hour as only training does; once or twice may be a restart."""
        while self._rises and now_s - self._rises[0] > TRAINING_WINDOW_S:
            self._rises.popleft()
        return len(self._rises) >= TRAINING_RISES
