"""Timer pre-warm, the paper's first strategy: start a pod just before a periodic call is due, release it at once after.

A call at t announces the call at t + period. The pod is ordered for `t + period - lead` with lead = the 99th
percentile of the function's cold start + how early its ticks come + a margin, and waits until the tick is late by as
much. A tick that fails to come breaks the chain: the next one is cold, and begins it anew. One pod is ordered, also
for functions whose ticks call several times at once.

Source: the paper, section 5 (idea only); precise form: specification A5.1.
"""

from __future__ import annotations

import numpy as np

from nonet.coldstart.simulating.periodicity import Period, find_period
from nonet.coldstart.simulating.policies import parse_seconds_us, register
from nonet.coldstart.simulating.policies.base import Chains, RulePolicy, Setup
from nonet.coldstart.simulating.policies.training import Learner, Training

DEFAULT_MARGIN_US = 500_000


class TimerPrewarm(Learner):
    """Learns the period of every function; those without one, or with one within the keep-alive, are left alone.

    Args:
        margin_us: added to the lead, and to how long a late tick is waited for.
    """

    def __init__(self, margin_us: int = DEFAULT_MARGIN_US) -> None:
        self.name = "paper:timer"
        self.margin_us = margin_us
        self.periods: dict[int, Period] = {}
        self._cold_us = np.zeros(0, np.int64)

    def _learn(self, training: Training) -> None:
        self.periods = learn_periods(training)
        self._cold_us = training.cold_us

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy.prepare`."""
        self._check_fitted(setup)
        at = np.zeros(len(setup.functions) + 1, np.int64)
        delay_us, hold_us, functions = [], [], []
        for f, period in sorted(self.periods.items()):
            lead_us = int(self._cold_us[f]) + period.early_us + self.margin_us
            if period.period_us <= max(setup.platform.keep_alive_us, lead_us):
                continue
            at[f + 1] = 1
            functions.append(f)
            delay_us.append(period.period_us - lead_us)
            hold_us.append(lead_us + period.late_us + self.margin_us)
            setup.rules.keep_alive_us[f] = 0
        add_chains(setup, Chains(np.cumsum(at), *(np.array(part, np.int64) for part in (functions, delay_us, hold_us))))


def learn_periods(training: Training) -> dict[int, Period]:
    """The period of every function that has one."""
    found = {}
    for f in np.flatnonzero(training.num_calls()):
        period = find_period(training.of_function(int(f))[0])
        if period is not None:
            found[int(f)] = period
    return found


def add_chains(setup: Setup, more: Chains) -> None:
    """Put `more` beside the chains that a joined policy may have written already."""
    old = setup.rules.chains
    if old is None:
        setup.rules.chains = more
        return
    source = np.concatenate([np.repeat(np.arange(len(part.at) - 1), np.diff(part.at)) for part in (old, more)])
    order = np.argsort(source, kind="stable")
    at = np.searchsorted(source[order], np.arange(len(old.at)))
    columns = [np.concatenate([getattr(old, n), getattr(more, n)])[order] for n in ("next", "delay_us", "hold_us")]
    setup.rules.chains = Chains(at.astype(np.int64), *columns)


@register(
    "paper:timer", "pre-warm periodic functions just before they are due; value: margin in seconds", "paper:timer"
)
def _make(text: str) -> RulePolicy:
    return TimerPrewarm(parse_seconds_us(text, "paper:timer") if text else DEFAULT_MARGIN_US)
