"""Concurrency adjustment, the paper's seventh strategy: let a pod run more requests at once, while they stay quick
enough.

Requests that share a pod slow each other down: the k-th at once runs `1 + slowdown * (k - 1)` times as long. A
function's concurrency is raised to the largest c whose 99th percentile of execution, all c sharing, stays within the
bound, but not beyond the most requests that it ever had under way at once. The slowdown is charged in the simulation
too.

Source: the paper, section 5 (idea only); precise form: specification A5.7.
"""

from __future__ import annotations

import numpy as np

from nonet.coldstart.simulating.policies import register
from nonet.coldstart.simulating.policies.base import RulePolicy, Setup
from nonet.coldstart.simulating.policies.training import Learner, Training
from nonet.coldstart.simulating.policies.values import parse_share
from nonet.common.errors import InputError

DEFAULT_SLOWDOWN = 0.1
DEFAULT_BOUND = 1.5
DEFAULT_MAX_CONCURRENCY = 100
_RUN_LEVEL = 0.99


class ConcurrencyAdjustment(Learner):
    """Learns how long executions are and how many overlap.

    Args:
        slowdown: added share of run time for each other request on the pod.
        bound: 99th percentile of execution allowed, as a multiple of today's.
        bound_us: the same as a time for all functions; a function already above it is left alone. None = use `bound`.
        max_concurrency: never more than this.
    """

    def __init__(
        self,
        slowdown: float = DEFAULT_SLOWDOWN,
        bound: float = DEFAULT_BOUND,
        bound_us: int | None = None,
        max_concurrency: int = DEFAULT_MAX_CONCURRENCY,
    ) -> None:
        if slowdown < 0 or bound < 1 or max_concurrency < 1:
            raise InputError(
                f"paper:concurrency: slowdown={slowdown}, bound={bound}, max_concurrency={max_concurrency}: "
                "expected >= 0, >= 1, >= 1"
            )
        self.name = "paper:concurrency"
        self.slowdown, self.bound, self.bound_us, self.max_concurrency = slowdown, bound, bound_us, max_concurrency
        self.concurrency = np.zeros(0, np.int64)

    def _learn(self, training: Training) -> None:
        self.concurrency = training.functions.concurrency.astype(np.int64)
        for f in np.flatnonzero(training.num_calls()):
            arrive_us, run_us = training.of_function(int(f))
            allowed = self._allowed(float(np.quantile(run_us, _RUN_LEVEL)), int(self.concurrency[f]))
            cold_us = int(training.cold_us[f])
            wanted = min(allowed, peak_overlap(arrive_us, run_us + cold_us), self.max_concurrency)
            self.concurrency[f] = max(int(self.concurrency[f]), wanted)

    def _allowed(self, run_us: float, today: int) -> int:
        """The largest c with `run * (1 + slowdown * (c - today)) <= bound`; `run` was measured today."""
        bound_us = self.bound * run_us if self.bound_us is None else float(self.bound_us)
        if run_us > bound_us:
            return today
        if self.slowdown == 0 or run_us == 0:
            return self.max_concurrency
        return today + int((bound_us / run_us - 1) / self.slowdown + 1e-9)

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy.prepare`."""
        self._check_fitted(setup)
        setup.rules.concurrency[:] = self.concurrency
        setup.rules.slowdown[:] = self.slowdown


def peak_overlap(arrive_us: np.ndarray, run_us: np.ndarray) -> int:
    """Most requests under way at once; one that ends at t does not meet one that arrives at t.

    >>> peak_overlap(np.array([0, 5, 10]), np.array([10, 1, 1]))
    2
    """
    under_way = np.arange(1, len(arrive_us) + 1) - np.searchsorted(np.sort(arrive_us + run_us), arrive_us, side="right")
    return int(under_way.max()) if len(under_way) else 0


@register(
    "paper:concurrency", "more requests a pod while they stay quick enough; value: slowdown", "paper:concurrency:0.1"
)
def _make(text: str) -> RulePolicy:
    return ConcurrencyAdjustment(parse_share(text, "paper:concurrency") if text else DEFAULT_SLOWDOWN)
