"""Cross-region placement, the paper's fourth strategy: serve a function where its calls begin soonest.

Function f of home h goes to `argmin_r RTT(h, r) + P_cold(f) * E[cold_r] + queue_r`. P_cold is its share of cold calls
on the training days under the platform's keep-alive, E[cold_r] its mean cold start in r. Capacity counts pods:
functions choose in the order of what they gain, those that stay first, and a region that is full takes no more; what
it holds already beyond its capacity waits, so `queue_r` is the share of its pods in excess, times the mean run in the
region.

Source: the paper, section 5 (idea only); precise form: specification A5.4.
"""

from __future__ import annotations

import numpy as np

from nonet.coldstart.simulating.idle_times import IdleTimes
from nonet.coldstart.simulating.policies import register
from nonet.coldstart.simulating.policies.base import RulePolicy, Setup
from nonet.coldstart.simulating.policies.peak_shaving import cold_calls
from nonet.coldstart.simulating.policies.training import Learner, Training
from nonet.coldstart.simulating.policies.values import no_value
from nonet.coldstart.simulating.regions import Regions, arrival_functions
from nonet.common.errors import InputError


class CrossRegion(Learner):
    """Learns how often functions of a `CombinedWorkload` are cold; how far and large regions are, the platform says.

    Args:
        keep_alive_us: keep-alive under which cold calls and pods of the training days are counted.
    """

    def __init__(self, keep_alive_us: int = 60_000_000) -> None:
        self.name = "paper:region"
        self._keep_alive_us = keep_alive_us
        self.region = np.zeros(0, np.int64)

    def _learn(self, training: Training) -> None:
        num = len(training.functions)
        _, cold = cold_calls(training, self._keep_alive_us)
        self._num_calls = training.num_calls()
        self._p_cold = np.bincount(cold, minlength=num) / np.maximum(self._num_calls, 1)
        run_us = np.bincount(training.calls.function, training.calls.run_us, num)
        self._run_us = run_us / np.maximum(self._num_calls, 1)
        self._pods = mean_pods(training, self._keep_alive_us)

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy.prepare`."""
        self._check_fitted(setup)
        regions = setup.platform.regions
        if not isinstance(regions, Regions):
            raise InputError(
                f"{self.name} places functions in regions; give the platform regions and a CombinedWorkload"
            )
        arrivals, home = arrival_functions(setup.functions, regions)
        num = len(home)
        mean_cold_us = setup.cold_times.mean_total_us.reshape(len(regions), num).T
        cost_us = regions.rtt_us[home] + self._p_cold[arrivals, None] * mean_cold_us
        self.region = place(
            cost_us, self._pods[arrivals], self._num_calls[arrivals], self._run_us[arrivals], home, regions.capacity
        )
        setup.rules.route[arrivals] = self.region * num + np.arange(num)
        setup.rules.route_extra_us[arrivals] = regions.rtt_us[home, self.region]


def mean_pods(training: Training, keep_alive_us: int) -> np.ndarray:
    """Pods that each function holds on average under a fixed keep-alive, executing and idle, float64 (F,)."""
    held_us = np.zeros(len(training.functions))
    for f in np.flatnonzero(training.num_calls()):
        arrive_us, run_us = training.of_function(int(f))
        held_us[f] = run_us.sum() + IdleTimes.of(arrive_us, run_us, training.end_us).idle_us(keep_alive_us)
    return held_us / (training.end_us - training.start_us)


def place(
    cost_us: np.ndarray,
    pods: np.ndarray,
    num_calls: np.ndarray,
    run_us: np.ndarray,
    home: np.ndarray,
    capacity: np.ndarray,
) -> np.ndarray:
    """The region of every function, int64 (G,).

    Args:
        cost_us: (G, R) round trip and expected cold start.
        pods: (G,) pods that a function takes.
        num_calls: (G,) weight of a function.
        run_us: (G,) its mean run.
        home: (G,) where it is now.
        capacity: (R,) pods.

    Everybody begins at home. In the order of total gain, `calls * (cost at home - cost there)`, each function moves
    to the cheapest region that has room for it, if that is cheaper than home; a region in excess of its capacity adds
    `excess / capacity * mean run` to the cost of staying.
    """
    region = home.copy()
    load = np.bincount(home, pods, len(capacity)).astype(np.float64)
    rows = np.arange(len(home))
    best_gain = num_calls * (cost_us[rows, home] - cost_us.min(axis=1))
    for f in np.argsort(-best_gain, kind="stable"):
        here = home[f]
        excess = max(0.0, load[here] - capacity[here]) / max(capacity[here], 1e-9)
        cost = cost_us[f].astype(np.float64)
        cost[here] += excess * run_us[f]
        full = load + pods[f] > capacity
        full[here] = False
        cost[full] = np.inf
        there = int(np.argmin(cost))
        if cost[there] < cost[here]:
            region[f] = there
            load[here] -= pods[f]
            load[there] += pods[f]
    return region


@register("paper:region", "serve each function in the region where its calls begin soonest", "paper:region")
def _make(text: str) -> RulePolicy:
    no_value("paper:region", text)
    return CrossRegion()
