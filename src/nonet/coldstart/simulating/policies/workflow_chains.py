"""Workflow chains, the paper's sixth strategy: when A is called, warm the B that follows it.

B follows A when `P(B is called within (t, t + window] | A is called at t) >= theta` on the training days. The pod of
B is ordered when A is called, or later by as much as the quickest followers take longer than B's cold start, and
waits until the window ends. Functions so busy that they would follow anything (their mean gap is below twice the
window) are no links, and a function does not follow itself.

Source: the paper, section 5 (idea only); precise form: specification A5.6.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nonet.coldstart.simulating.policies import register
from nonet.coldstart.simulating.policies._chain_kernels import count_followers, follower_lags
from nonet.coldstart.simulating.policies.base import Chains, RulePolicy, Setup
from nonet.coldstart.simulating.policies.timer_prewarm import add_chains
from nonet.coldstart.simulating.policies.training import Learner, Training
from nonet.coldstart.simulating.policies.values import parse_share
from nonet.common.errors import InputError

DEFAULT_THETA = 0.5
DEFAULT_WINDOW_US = 60_000_000
_MIN_CALLS = 5
_MAX_FUNCTIONS = 4096
_QUICKEST = 0.05


@dataclass(frozen=True, slots=True)
class Link:
    """`then` follows `first` with this probability, after a lag of which a twentieth is shorter than `quick_us`."""

    first: int
    then: int
    probability: float
    quick_us: int


class WorkflowChains(Learner):
    """Learns which functions announce which.

    Args:
        theta: smallest probability of a link.
        window_us: how long after A the call of B may come.
    """

    def __init__(self, theta: float = DEFAULT_THETA, window_us: int = DEFAULT_WINDOW_US) -> None:
        if not 0 < theta <= 1 or window_us <= 0:
            raise InputError(f"paper:workflow: theta={theta}, window_us={window_us}: expected in (0, 1], above 0")
        self.name = "paper:workflow"
        self.theta, self.window_us = theta, window_us
        self.links: list[Link] = []
        self._cold_us = np.zeros(0, np.int64)

    def _learn(self, training: Training) -> None:
        self._cold_us = training.cold_us
        self.links = find_links(training, self.theta, self.window_us)

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy.prepare`."""
        self._check_fitted(setup)
        first = np.array([link.first for link in self.links], np.int64)
        then = np.array([link.then for link in self.links], np.int64)
        quick_us = np.array([link.quick_us for link in self.links], np.int64)
        delay_us = np.maximum(0, quick_us - self._cold_us[then]) if len(then) else quick_us
        at = np.searchsorted(first, np.arange(len(setup.functions) + 1)).astype(np.int64)
        add_chains(setup, Chains(at, then, delay_us, self.window_us - delay_us))


def find_links(training: Training, theta: float, window_us: int) -> list[Link]:
    """All links of the training calls, ordered by `first`, then `then`.

    Time grows with the calls of quiet functions times the calls that fall into one window; memory is 4 bytes a pair
    of quiet functions, of which the `_MAX_FUNCTIONS` with the most calls are looked at.
    """
    num_calls = training.num_calls()
    span_us = training.end_us - training.start_us
    quiet = np.flatnonzero((num_calls >= _MIN_CALLS) & (num_calls * 2 * window_us < span_us))
    quiet = np.sort(quiet[np.argsort(-num_calls[quiet], kind="stable")[:_MAX_FUNCTIONS]])
    position = np.full(len(num_calls), -1, np.int64)
    position[quiet] = np.arange(len(quiet))
    chosen = position[training.calls.function] >= 0
    arrive_us, function = training.calls.arrive_us[chosen], position[training.calls.function[chosen]]
    followed = count_followers(arrive_us, function, len(quiet), window_us)
    probability = followed / np.maximum(num_calls[quiet], 1)[:, None]
    first, then = np.nonzero(probability >= theta)
    number = np.full(followed.shape, -1, np.int32)
    number[first, then] = np.arange(len(first))
    links, lags = follower_lags(arrive_us, function, window_us, number, int(followed[first, then].sum()))
    quick_us = [int(np.quantile(lags[links == k], _QUICKEST)) for k in range(len(first))]
    return [
        Link(int(quiet[a]), int(quiet[b]), float(probability[a, b]), quick)
        for a, b, quick in zip(first, then, quick_us, strict=True)
    ]


@register(
    "paper:workflow", "warm the functions that follow a called one; value: smallest probability", "paper:workflow:0.5"
)
def _make(text: str) -> RulePolicy:
    return WorkflowChains(parse_share(text, "paper:workflow") if text else DEFAULT_THETA)
