"""Provisioned concurrency by the clock: what AWS has in place of a pod that is started ahead of each tick of a timer.

Application Auto Scaling switches it on and off at minutes that a cron expression names, in UTC, so this serves timers
of the clock with a period of a quarter of an hour or more that a day holds a whole number of times. It takes minutes
until the pod is there, and AWS bills whole five minutes; the pod serves until it is switched off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nonet.coldstart.simulating.periodicity import Period, tick_times
from nonet.coldstart.simulating.policies.base import Orders, RulePolicy, Setup, TickView
from nonet.coldstart.simulating.policies.training import Training

MINUTE_US = 60_000_000
PERIODS_MIN = (15, 20, 30, 60, 120, 180, 240, 360, 480, 720, 1440)
PROVISION_US = 3 * MINUTE_US
"""Asked for so long ahead: AWS promises no time, one to three minutes are common for a few pods."""
BILLED_MIN = 5
_AROUND_US = 2 * MINUTE_US
_MIN_SHARE = 0.9


@dataclass(frozen=True)
class Schedule:
    """One pod is on from minute `on_min` (of the day, UTC, modulo the period) for `length_min` minutes, every
    `period_min` minutes."""

    period_min: int
    on_min: int
    length_min: int

    @property
    def on(self) -> str:
        """The cron expression that switches it on.

        >>> Schedule(20, 12, 6).on, Schedule(720, 65, 6).on
        ('cron(12,32,52 * * * ? *)', 'cron(5 1,13 * * ? *)')
        """
        return _cron(self.on_min, self.period_min)

    @property
    def off(self) -> str:
        """The cron expression that switches it off."""
        return _cron(self.on_min + self.length_min, self.period_min)

    @property
    def billed_share(self) -> float:
        """Share of the time that is billed."""
        return min(-(-self.length_min // BILLED_MIN) * BILLED_MIN / self.period_min, 1.0)


def _cron(minute: int, period_min: int) -> str:
    times = range(minute % period_min, 1440, period_min)
    if period_min <= 60:
        return f"cron({','.join(str(t) for t in times if t < 60)} * * * ? *)"
    return f"cron({minute % 60} {','.join(str(t // 60) for t in times)} * * ? *)"


def find_schedules(periods: Mapping[int, Period], training: Training, epoch_us: int) -> dict[int, Schedule]:
    """Schedules of the timers that have one.

    Args:
        periods: of functions, by their index.
        training: the calls that the periods are of.
        epoch_us: the time 0 of the calls, in microseconds since 1970 UTC.
    """
    found = {}
    for f, period in periods.items():
        period_min = round(period.period_us / MINUTE_US)
        if period.lag != 1 or period_min not in PERIODS_MIN:
            continue
        period_us = period_min * MINUTE_US
        ticks = tick_times(training.of_function(f)[0]) + epoch_us
        due_us = int(ticks[len(ticks) // 2])
        off_us = (ticks - due_us + period_us // 2) % period_us - period_us // 2
        near = off_us[np.abs(off_us) <= _AROUND_US]
        if len(near) < _MIN_SHARE * len(ticks):
            continue  # it counts from the end of its last run, or by a clock of its own
        first = (due_us + int(near.min()) - int(training.cold_us[f]) - PROVISION_US) // MINUTE_US
        last = -(-(due_us + int(near.max())) // MINUTE_US) + 1
        if last - first < period_min:
            found[f] = Schedule(period_min, first % period_min, last - first)
    return found


class ScheduledPods(RulePolicy):
    """One pod of each function is there while its schedule is on; others go by the keep-alive."""

    def __init__(self, schedules: Mapping[int, Schedule], epoch_us: int) -> None:
        self.name = "scheduled"
        self._schedules, self._epoch_us = schedules, epoch_us

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy`."""
        self._end_us = setup.end_us
        self.tick_us = setup.end_us - setup.start_us + 1

    def on_tick(self, now_us: int, view: TickView) -> Orders:
        """The one tick, at the beginning: all times that pods are switched on."""
        parts = [(f, self._times(schedule, now_us)) for f, schedule in sorted(self._schedules.items())]
        at_us = np.concatenate([times for _, times in parts])
        function = np.repeat([f for f, _ in parts], [len(times) for _, times in parts])
        length_us = np.array([self._schedules[int(f)].length_min * MINUTE_US for f in function], np.int64)
        ones = np.ones(len(at_us), np.int64)
        return Orders(function.astype(np.int64), np.maximum(at_us, now_us), at_us + length_us, ones, ones > 0)

    def _times(self, schedule: Schedule, now_us: int) -> np.ndarray:
        period_us, length_us = schedule.period_min * MINUTE_US, schedule.length_min * MINUTE_US
        phase_us = (schedule.on_min * MINUTE_US - self._epoch_us) % period_us
        first = -(-(now_us - length_us + 1 - phase_us) // period_us)
        return np.arange(phase_us + first * period_us, self._end_us + 1, period_us, dtype=np.int64)
