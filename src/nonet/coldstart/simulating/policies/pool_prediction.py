"""Pool-size prediction, the paper's fifth strategy: each pool as large as the allocations of its replenish time ask
for.

On the training days the calls that the platform's keep-alive leaves cold are the allocations. For each class and hour
of the day the size is the DROPS size of the allocations in that hour, all training days together: the smallest that
serves the service level without waiting. An hour of the day that the training window does not cover takes the size of
all hours. The target is set at each hour; where a class has several stages, the first one is sized and the others
keep theirs.

Source: the paper, section 5 (idea only); precise form: specification A5.5 and A6.8.
"""

from __future__ import annotations

import numpy as np

from nonet.coldstart.simulating.policies import register
from nonet.coldstart.simulating.policies.base import RulePolicy, Setup, TickView
from nonet.coldstart.simulating.policies.drops import pools_of
from nonet.coldstart.simulating.policies.peak_shaving import cold_calls
from nonet.coldstart.simulating.policies.training import Learner, Training
from nonet.coldstart.simulating.policies.values import parse_share
from nonet.coldstart.simulating.pool_sizing import HOUR_US, adjusted_level, pods_needed

DEFAULT_LEVEL = 0.99
DAY_HOURS = 24


class PoolPrediction(Learner):
    """Learns sizes for each hour of the day; needs a platform with pools, of which it uses the replenish times.

    Args:
        level: share of allocations to serve from the pool.
        keep_alive_us: keep-alive under which training allocations are counted.
    """

    tick_us = HOUR_US

    def __init__(self, level: float = DEFAULT_LEVEL, keep_alive_us: int = 60_000_000) -> None:
        adjusted_level(level)
        self.name = "paper:pool"
        self.level, self._keep_alive_us = level, keep_alive_us
        self._at_us, self._function = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._hours: set[int] = set()

    def _learn(self, training: Training) -> None:
        self._at_us, self._function = cold_calls(training, self._keep_alive_us)
        first, last = training.start_us // HOUR_US, (training.end_us - 1) // HOUR_US
        self._hours = {hour % DAY_HOURS for hour in range(first, min(last, first + DAY_HOURS) + 1)}

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy.prepare`."""
        self._check_fitted(setup)
        pools = pools_of(setup, self.name)
        self._target = pools.target.copy()
        self.sizes = self._sizes(setup.functions.pool_class, pools.replenish_us)

    def _sizes(self, pool_class: np.ndarray, replenish_us: np.ndarray) -> np.ndarray:
        """int64 (24, classes)."""
        sizes = np.zeros((DAY_HOURS, len(replenish_us)), np.int64)
        hour = self._at_us // HOUR_US % DAY_HOURS
        for c, create_us in enumerate(replenish_us):
            chosen = pool_class[self._function] == c
            need = pods_needed(self._at_us[chosen], int(create_us))
            overall = _quantile(need, self.level)
            for h in range(DAY_HOURS):
                sizes[h, c] = _quantile(need[hour[chosen] == h], self.level) if h in self._hours else overall
        return sizes

    def on_tick(self, now_us: int, view: TickView) -> None:
        """Set the targets of this hour of the day."""
        self._target[:, 0] = self.sizes[now_us // HOUR_US % DAY_HOURS]
        view.set_pool_targets(self._target)


def _quantile(need: np.ndarray, level: float) -> int:
    """The smallest pool that serves the (adjusted) level of these needs; 0 without any."""
    if not len(need):
        return 0
    rank = int(np.ceil(adjusted_level(level) * len(need) - 1e-9))
    return int(np.partition(need, rank - 1)[rank - 1])


@register("paper:pool", "pools as large as each hour's allocations ask; value: service level", "paper:pool:0.99")
def _make(text: str) -> RulePolicy:
    return PoolPrediction(parse_share(text, "paper:pool") if text else DEFAULT_LEVEL)
