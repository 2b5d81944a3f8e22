"""Clocks that fall back or leap ahead: a policy settles, holds and goes blind anew, and raises nothing for it."""

from __future__ import annotations

import math

import pytest

from nonet.power.policies import POLICIES, Action, RowView, Sample, build_policy

BUDGET_W = 200e3
BRAKING = sorted(set(POLICIES) - {"null"})
CAPPING = sorted(set(BRAKING) - {"no-cap"})


class Driven:
    """A policy whose commands land at once; tells what each call ordered."""

    def __init__(self, name):
        self.policy, self.view = build_policy(name), RowView.uniform(10, 0.5, BUDGET_W)
        self.levels = [1.0] * 10

    def ask(self, now_s, u, measured_at_s=None):
        sample = Sample(u * BUDGET_W, now_s if measured_at_s is None else measured_at_s)
        commands, raised = self.policy.decide(now_s, sample, self.view), False
        for command in commands:
            if command.action is Action.CAP:
                told = command.servers if isinstance(command.servers, tuple) else None
                for server, priority in enumerate(self.view.priorities):
                    if server in told if told is not None else priority == command.servers:
                        raised |= command.level > self.levels[server]
                        self.levels[server] = command.level
        self.view.cap_levels = list(self.levels)
        return {str(command.action) for command in commands} | ({"raise"} if raised else set())

    def first(self, wanted, start_s, u, num=400):
        return next((t for t in (start_s + 2.0 * k for k in range(num)) if wanted in self.ask(t, u)), math.inf)


@pytest.mark.parametrize("name", CAPPING)
def test_a_clock_that_falls_back_settles_anew(name):
    row = Driven(name)
    row.ask(9_998.0, 0.7)
    assert "cap" in row.ask(10_000.0, 0.995)
    assert 100.0 + 42.0 < row.first("raise", 100.0, 0.5) < 150.0


@pytest.mark.parametrize("name", BRAKING)
def test_a_clock_that_falls_back_holds_the_brake_anew(name):
    row = Driven(name)
    assert "brake" in row.ask(10_000.0, 1.05)
    released_s = row.first("release", 100.0, 0.3)
    assert 160.0 < released_s < 170.0
    again_s = row.first("release", 50.0, 0.3)  # and in the middle of the release
    assert 110.0 < again_s < 120.0


@pytest.mark.parametrize("name", CAPPING)
def test_samples_of_the_old_clock_leave_a_policy_blind(name):
    row = Driven(name)
    row.ask(10_000.0, 0.5)
    orders = [row.ask(100.0 + 2.0 * k, 0.5, measured_at_s=10_000.0) for k in range(10)]
    assert orders[:4] == [set()] * 4 and {"cap"} in orders
    assert min(row.levels) < 1.0


@pytest.mark.parametrize("name", BRAKING)
def test_a_clock_that_leaps_ahead_raises_nothing_on_the_old_sample(name):
    row = Driven(name)
    row.ask(998.0, 0.7)
    row.ask(1_000.0, 0.995)
    row.ask(1_002.0, 1.05)
    for k in range(20):
        assert not {"raise", "release"} & row.ask(5_000.0 + 2.0 * k, 0.3, measured_at_s=1_002.0)
    assert row.first("release", 5_040.0, 0.3) == 5_040.0


@pytest.mark.parametrize("name", BRAKING)
@pytest.mark.parametrize("jump_s", [-900.0, 900.0])
def test_the_brake_falls_at_once_after_a_jump(name, jump_s):
    row = Driven(name)
    for k in range(5):
        row.ask(1_000.0 + 2.0 * k, 0.9)
    assert "brake" in row.ask(1_010.0 + jump_s, 1.05)
