"""Pools sized by DROPS, and by the rules that its authors compare it with.

`drops` learns on the training days the smallest pool of each class that serves the level, and keeps it. The others
look at the allocations of the minutes that have passed and set the pools every minute: *production* keeps a share of
idle pods, *reactive* repeats the last creation window times 1.35, *poisson* takes the rate of the last hour for that
of a Poisson process, *hourly* does so with the same hour of the day before. All need a platform with pools; where a
class has several stages, the first one is sized and the others keep theirs.

Source: DROPS (EuroSys 2026); specification A6.8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from nonet.coldstart.simulating.platform import Pools
from nonet.coldstart.simulating.policies import register
from nonet.coldstart.simulating.policies.base import RulePolicy, Setup, TickView
from nonet.coldstart.simulating.policies.peak_shaving import cold_calls
from nonet.coldstart.simulating.policies.training import Learner, Training
from nonet.coldstart.simulating.pool_sizing import (
    adjusted_level,
    poisson_size,
    pool_size,
    production_target,
    reactive_size,
)
from nonet.common.errors import InputError

MINUTE_US = 60_000_000
HOUR_MINUTES = 60
DAY_MINUTES = 1440
DEFAULT_LEVEL = 0.99


class Drops(Learner):
    """A constant size for each class, learnt from the allocations of the training days.

    Args:
        level: share of allocations to serve from the pool.
        keep_alive_us: keep-alive under which training allocations are counted.
    """

    tick_us = None

    def __init__(self, level: float = DEFAULT_LEVEL, keep_alive_us: int = MINUTE_US) -> None:
        adjusted_level(level)
        self.name = "drops"
        self.level, self._keep_alive_us = level, keep_alive_us

    def _learn(self, training: Training) -> None:
        self._at_us, self._function = cold_calls(training, self._keep_alive_us)

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy.prepare`."""
        self._check_fitted(setup)
        pools = pools_of(setup, self.name)
        classes = setup.functions.pool_class[self._function]
        target = pools.target.copy()
        for c, create_us in enumerate(pools.replenish_us):
            target[c, 0] = pool_size(self._at_us[classes == c], int(create_us), self.level)
        setup.rules.pools = replace(pools, target=target)


class OnlinePools(RulePolicy):
    """Pools set every minute from what the minutes before have shown.

    Args:
        rule: one of `RULES`.
        level: share of allocations to serve, for poisson and hourly.
        min_count: smallest pool.

    Raises:
        InputError: an unknown rule.
    """

    tick_us = MINUTE_US

    def __init__(self, rule: str, level: float = DEFAULT_LEVEL, min_count: int = 1) -> None:
        if rule not in RULES:
            raise InputError(f"drops: unknown rule {rule!r}; known: {', '.join(RULES)}")
        if not 0 < level < 1:
            raise InputError(f"drops:{rule}: level {level}: expected a share in (0, 1)")
        self.name = f"drops:{rule}"
        self.rule, self.level, self.min_count = rule, level, min_count

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy.prepare`."""
        pools = pools_of(setup, self.name)
        self.create_us, self._pool_class = pools.replenish_us, setup.functions.pool_class
        self.target = pools.target.copy()
        self._taken = np.zeros(len(pools.target), np.int64)
        self.history = np.zeros((len(pools.target), 0), np.int64)
        self._begun = False

    def on_tick(self, now_us: int, view: TickView) -> None:
        """Add a minute to the history and set every pool."""
        if not self._begun:
            self._begun = True
            return
        taken = view.pool_taken().sum(axis=1)
        self.history = np.column_stack([self.history, taken - self._taken])[:, -DAY_MINUTES - HOUR_MINUTES :]
        self._taken = taken
        known = self._pool_class >= 0
        assigned = np.bincount(self._pool_class[known], np.asarray(view.live_pods)[known], len(taken))
        stock = view.pool_stock().sum(axis=1)
        for c in range(len(taken)):
            size = RULES[self.rule](self, c, float(stock[c]), float(assigned[c]))
            self.target[c, 0] = max(self.min_count, size)
        view.set_pool_targets(self.target)


def _production(policy: OnlinePools, c: int, idle: float, assigned: float) -> int:
    """The first stage such that all stages hold what the rule wants; replacements under way are left to come."""
    present, wanted = int(policy.target[c, 0]), production_target(idle, assigned)
    size = int(np.ceil(wanted - 1e-9)) - int(policy.target[c, 1:].sum())
    if wanted == idle:
        return present
    return max(present, size) if wanted > idle else min(present, size)


def _reactive(policy: OnlinePools, c: int, idle: float, assigned: float) -> int:
    create_us = int(policy.create_us[c])
    minutes = max(1, -(-create_us // MINUTE_US))
    recent = policy.history[c, -minutes:]
    return reactive_size(float(recent.mean()) * create_us / MINUTE_US)


def _poisson(policy: OnlinePools, c: int, idle: float, assigned: float) -> int:
    recent = policy.history[c, -HOUR_MINUTES:]
    return poisson_size(float(recent.mean()) / 60, policy.create_us[c] / 1e6, 1 - policy.level)


def _hourly(policy: OnlinePools, c: int, idle: float, assigned: float) -> int:
    history = policy.history[c]
    same_hour = history[-DAY_MINUTES : len(history) - DAY_MINUTES + HOUR_MINUTES]
    seen = same_hour if len(history) >= DAY_MINUTES else history[-HOUR_MINUTES:]
    return poisson_size(float(seen.mean()) / 60, policy.create_us[c] / 1e6, 1 - policy.level)


RULES: dict[str, Callable[[OnlinePools, int, float, float], int]] = {
    "production": _production,
    "reactive": _reactive,
    "poisson": _poisson,
    "hourly": _hourly,
}
"""Size of class c from the policy's history, the pods ready in its pool, and its live pods."""


def pools_of(setup: Setup, name: str) -> Pools:
    """The pools of the platform, or of a policy joined before."""
    if setup.rules.pools is None:
        raise InputError(f"{name} sizes the platform's pools; give the platform pools")
    return setup.rules.pools


@register("drops", "pools for a service level; value: level, or production, reactive, poisson, hourly", "drops")
def _make(text: str) -> RulePolicy:
    if text in RULES:
        return OnlinePools(text)
    try:
        level = float(text) if text else DEFAULT_LEVEL
    except ValueError:
        raise InputError(f"drops: {text!r}: expected a level in (0, 1] or one of {', '.join(RULES)}") from None
    return Drops(level)
