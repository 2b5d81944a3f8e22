"""Dynamic keep-alive, the paper's second strategy: to each function the keep-alive that would have cost least.

A plain timer with a period above the platform's keep-alive is released at once after serving, which costs no more cold
starts than before (pair it with timer pre-warm, which wakes it in time). Every other function takes `argmin_T
cost(T)` on its own idle times, cost = seconds of cold start + idle GB s at the price of FeMux. A function that was
not called in the training days keeps the platform's keep-alive.

Source: the paper, section 5 (idea only); precise form: specification A5.2.
"""

from __future__ import annotations

import numpy as np

from nonet.coldstart.simulating.idle_times import GB_S_PER_COLD_S, IdleTimes, cheapest_keep_alive_us
from nonet.coldstart.simulating.policies import parse_seconds_us, register
from nonet.coldstart.simulating.policies.base import RulePolicy, Setup
from nonet.coldstart.simulating.policies.timer_prewarm import learn_periods
from nonet.coldstart.simulating.policies.training import Learner, Training

DEFAULT_MAX_US = 3_600_000_000
_NOT_LEARNT = -1


class DynamicKeepAlive(Learner):
    """Learns idle times and periods.

    Args:
        max_us: longest keep-alive.
        gb_s_per_cold_s: idle GB s that are worth one second of cold start.
    """

    def __init__(self, max_us: int = DEFAULT_MAX_US, gb_s_per_cold_s: float = GB_S_PER_COLD_S) -> None:
        self.name = "paper:keepalive"
        self.max_us, self.gb_s_per_cold_s = max_us, gb_s_per_cold_s
        self.keep_alive_us = np.zeros(0, np.int64)
        self._period_us = np.zeros(0, np.int64)

    def _learn(self, training: Training) -> None:
        cold_s = training.cold_times.mean_total_us / 1e6
        memory_gb = training.functions.memory_mb / 1024
        self.keep_alive_us = np.full(len(training.functions), _NOT_LEARNT, np.int64)
        for f in np.flatnonzero(training.num_calls()):
            idle = IdleTimes.of(*training.of_function(int(f)), training.end_us)
            if len(idle.reused_us):
                self.keep_alive_us[f] = cheapest_keep_alive_us(
                    idle, cold_s[f], memory_gb[f], max_us=self.max_us, gb_s_per_cold_s=self.gb_s_per_cold_s
                )
        self._period_us = np.zeros(len(training.functions), np.int64)
        for periodic, period in learn_periods(training).items():
            self._period_us[periodic] = period.period_us if period.lag == 1 else 0

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy.prepare`."""
        self._check_fitted(setup)
        learnt = self.keep_alive_us != _NOT_LEARNT
        setup.rules.keep_alive_us[learnt] = self.keep_alive_us[learnt]
        setup.rules.keep_alive_us[self._period_us > setup.platform.keep_alive_us] = 0


@register(
    "paper:keepalive", "the keep-alive that costs each function least; value: longest, in seconds", "paper:keepalive"
)
def _make(text: str) -> RulePolicy:
    return DynamicKeepAlive(parse_seconds_us(text, "paper:keepalive") if text else DEFAULT_MAX_US)
