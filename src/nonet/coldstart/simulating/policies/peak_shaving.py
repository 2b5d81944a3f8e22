"""Peak shaving, the paper's third strategy: asynchronous cold starts wait while the cluster is busy starting pods.

Once `threshold` pods have been started on demand within the current minute, the cold start of an asynchronous function
waits for the next minute, at most `max_delay_us`. A request that begins to run later than its deadline after it arrived
counts as a deadline miss. Synchronous functions are served at once; nobody is waiting for the others.

Source: the paper, section 5 (idea only); precise form: specification A5.3.
"""

from __future__ import annotations

import numpy as np

from nonet.coldstart.simulating._idle_kernels import NO_POD
from nonet.coldstart.simulating.calls import Functions
from nonet.coldstart.simulating.idle_times import IdleTimes
from nonet.coldstart.simulating.policies import parse_seconds_us, register
from nonet.coldstart.simulating.policies.base import RulePolicy, Setup
from nonet.coldstart.simulating.policies.training import Learner, Training
from nonet.common.errors import InputError

MINUTE_US = 60_000_000
DEFAULT_MAX_DELAY_US = 60_000_000
DEFAULT_LEVEL = 0.9
_ASYNC_WORDS = ("timer", "queue", "storage", "event", "orchestration", "obs", "kafka", "sqs", "sns", "blob")


def is_asynchronous(trigger: str) -> bool:
    """Whether nobody waits for the answer: Huawei's names end in "-A" or "-S", others are known by their words.

    >>> [is_asynchronous(t) for t in ("OBS-A", "workflow-S", "APIG-S", "queue", "http", "unknown")]
    [True, False, False, True, False, False]
    """
    if trigger.endswith(("-A", "-S")):
        return trigger.endswith("-A")
    return any(word in trigger.lower() for word in _ASYNC_WORDS)


class PeakShaving(Learner):
    """Learns the threshold: the given quantile of cold starts a minute under the platform's keep-alive.

    Args:
        max_delay_us: longest delay D of an allocation.
        deadline_us: a request must have begun to run so long after it arrived; None = D plus the 99th percentile of
            its cold start.
        threshold: allocations h in a minute that start the shaving; None = learnt.
        level: quantile of the training minutes taken as threshold.
        keep_alive_us: keep-alive under which training minutes are counted.
    """

    def __init__(
        self,
        max_delay_us: int = DEFAULT_MAX_DELAY_US,
        deadline_us: int | None = None,
        threshold: int | None = None,
        level: float = DEFAULT_LEVEL,
        keep_alive_us: int = MINUTE_US,
    ) -> None:
        if max_delay_us < 0 or not 0 <= level <= 1:
            raise InputError(f"paper:peak: max_delay_us={max_delay_us}, level={level}: expected >= 0, in [0, 1]")
        self.name = "paper:peak"
        self.max_delay_us, self.deadline_us, self.level = max_delay_us, deadline_us, level
        self.threshold, self._given, self._keep_alive_us = threshold or 0, threshold, keep_alive_us
        self._cold_us = np.zeros(0, np.int64)

    def _learn(self, training: Training) -> None:
        self._cold_us = training.cold_us
        if self._given is None:
            at_us, _ = cold_calls(training, self._keep_alive_us)
            num_minutes = max(1, -(-(training.end_us - training.start_us) // MINUTE_US))
            a_minute = np.bincount((at_us - training.start_us) // MINUTE_US, minlength=num_minutes)
            self.threshold = max(1, int(np.quantile(a_minute, self.level)))

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy.prepare`."""
        self._check_fitted(setup)
        chosen = asynchronous(setup.functions)
        deadline_us = self.max_delay_us + self._cold_us if self.deadline_us is None else self.deadline_us
        setup.rules.delay_us[:] = np.where(chosen, self.max_delay_us, 0)
        setup.rules.deadline_us[:] = np.where(chosen, deadline_us, setup.rules.deadline_us)
        setup.rules.delay_threshold = self.threshold


def asynchronous(functions: Functions) -> np.ndarray:
    """Which functions are asynchronous by their trigger, bool (F,)."""
    return np.array([is_asynchronous(trigger) for trigger in functions.trigger], bool)


def cold_calls(training: Training, keep_alive_us: int) -> tuple[np.ndarray, np.ndarray]:
    """Times, ordered, and functions of the calls that a fixed keep-alive leaves cold, if starts took no time."""
    times, functions = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for f in np.flatnonzero(training.num_calls()):
        arrive_us, run_us = training.of_function(int(f))
        found_us = IdleTimes.of(arrive_us, run_us, training.end_us).call_us
        cold = arrive_us[(found_us == NO_POD) | (found_us > keep_alive_us)]
        times.append(cold)
        functions.append(np.full(len(cold), f, np.int64))
    at_us = np.concatenate(times)
    order = np.argsort(at_us, kind="stable")
    return at_us[order], np.concatenate(functions)[order]


@register("paper:peak", "asynchronous cold starts wait in busy minutes; value: longest delay in seconds", "paper:peak")
def _make(text: str) -> RulePolicy:
    return PeakShaving(parse_seconds_us(text, "paper:peak") if text else DEFAULT_MAX_DELAY_US)
