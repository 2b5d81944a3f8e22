"""Pools in the simulator under DROPS and its baselines."""

from __future__ import annotations

import numpy as np
import pytest

from nonet.coldstart.simulating.engine import simulate
from nonet.coldstart.simulating.platform import Platform, Pools
from nonet.coldstart.simulating.policies.base import TickView
from nonet.coldstart.simulating.policies.drops import RULES, Drops, OnlinePools
from nonet.coldstart.simulating.policies.peak_shaving import cold_calls
from nonet.coldstart.simulating.policies.training import split
from nonet.coldstart.simulating.pool_sizing import poisson_size
from nonet.coldstart.simulating.results import Result, compare
from nonet.common.errors import InputError
from tests.coldstart.simulating.crafted import DAY_S, SECOND, poisson, tried, workload

CREATE_S = 120


def platform(target: int) -> Platform:
    return Platform(keep_alive_us=SECOND, pools=Pools([[target]], [[20_000]], [10 * SECOND], [CREATE_S * SECOND]))


def busy():  # type: ignore[no-untyped-def]
    """Twenty functions, each quiet enough that every call needs a pod of its own: 1 allocation in 10 s, Poisson."""
    return workload([poisson(1 / 200, seed) for seed in range(20)], run_s=0.5, pool_class=0)


def missed(result: Result) -> float:
    assert result.pool_taken is not None
    return float(result.pool_taken[0, -1] / result.pool_taken.sum())


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_drops_meets_its_level_on_days_that_it_has_not_seen(level: float) -> None:
    whole = busy()
    policy = Drops(level, keep_alive_us=SECOND)
    result = tried(whole, policy, platform(1))
    assert missed(result) < 1 - level
    # The pool is no larger than it need be: for Poisson allocations it is the quantile of the creation window.
    training, _ = split(whole, DAY_S * SECOND)
    at_us, _ = cold_calls(training, SECOND)
    rate = len(at_us) / DAY_S
    assert abs(policy_size(policy) - poisson_size(rate, CREATE_S, 1 - (1 - 0.5959 * (1 - level))) - 1) <= 1


def policy_size(policy: Drops) -> int:
    from nonet.coldstart.simulating.pool_sizing import pool_size

    return pool_size(policy._at_us, CREATE_S * SECOND, policy.level)


class Logged(OnlinePools):
    def prepare(self, setup) -> None:  # type: ignore[no-untyped-def]
        super().prepare(setup)
        self.log: list[int] = []

    def on_tick(self, now_us: int, view: TickView) -> None:
        super().on_tick(now_us, view)
        self.log.append(int(self.target[0, 0]))


@pytest.mark.parametrize("rule", RULES)
def test_every_baseline_sizes_the_pool_from_what_has_passed(rule: str) -> None:
    policy = Logged(rule)
    result = tried(busy(), policy, platform(1))
    null = tried(busy(), "ka:1", platform(1))
    assert missed(result) <= missed(null)
    history, log = policy.history[0], policy.log
    assert history.sum() <= result.pool_taken.sum()  # type: ignore[union-attr]
    if rule == "reactive":
        assert log[-1] == int(np.ceil(1.35 * (history[-1] + history[-2]) - 1e-9))
    elif rule == "poisson":
        assert log[-1] == poisson_size(history[-60:].sum() / 3600, CREATE_S, 0.01)
    elif rule == "hourly":
        assert log[-1] == poisson_size(history[-1440:-1380].sum() / 3600, CREATE_S, 0.01)
        assert missed(result) < 0.02
    else:
        assert log[-1] == 1  # hardly a pod is live, so a fifth of them is less than the smallest pool


def test_the_production_rule_leaves_a_pool_alone_between_its_bounds() -> None:
    policy = OnlinePools("production")
    policy.target = np.array([[20, 100]])
    rule = RULES["production"]
    assert rule(policy, 0, 100.0, 500.0) == 20  # a fifth is idle; what is being replaced still belongs to the pool
    assert rule(policy, 0, 30.0, 500.0) == 20  # too little, but with those under way there are more than a fifth
    assert rule(policy, 0, 30.0, 1000.0) == 100  # 200 in all, of which the second stage has 100
    assert rule(policy, 0, 120.0, 300.0) <= 0  # the second stage alone is more than a fifth


def test_a_quiet_class_keeps_the_smallest_pool() -> None:
    whole = workload([np.array([100.0, DAY_S + 100.0])], pool_class=0)
    for rule in RULES:
        policy = Logged(rule, min_count=2)
        tried(whole, policy, platform(5))
        assert policy.log[-1] == 2


def test_pods_that_wait_in_a_pool_are_paid_for() -> None:
    # One pod of 512 MB waits 10 s, is taken, its successor is ready at 15 s and waits to the end; from the second
    # stage, which nobody needs, two wait all the time.
    whole = workload([np.array([10.0])], end_s=100, pool_class=0, memory_mb=512)
    pools = Pools([[1, 2]], [[20_000, 30_000]], [10 * SECOND], [5 * SECOND])
    result = simulate(whole, "none", Platform(pools=pools))
    assert result.pool_idle_us is not None
    assert result.pool_idle_us.tolist() == [[95 * SECOND, 200 * SECOND]]
    assert result.pool_gb_s == pytest.approx(295 / 2)
    assert result.wasted_gb_s == result.pool_gb_s
    without = simulate(whole, "none")
    assert (without.pool_gb_s, without.pool_idle_us) == (0, None)
    given = Pools([[1, 2]], [[20_000, 30_000]], [10 * SECOND], [5 * SECOND], memory_mb=[1024])
    assert simulate(whole, "none", Platform(pools=given)).pool_gb_s == pytest.approx(295)
    table = compare([without, result])
    assert table["pool_gb_s"].to_list() == [0, pytest.approx(147.5)]
    assert table["memory_vs_first"][1] > 100
    with pytest.raises(InputError, match="memory_mb"):
        Pools([[1]], [[1]], [1], [1], memory_mb=[-1])


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match="unknown rule"):
        OnlinePools("best")
    with pytest.raises(InputError, match="service level"):
        Drops(0)
    with pytest.raises(InputError, match="give the platform pools"):
        tried(busy(), OnlinePools("poisson"))
