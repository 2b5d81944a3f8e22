"""Shadow mode on series whose command log follows from the published table by hand."""

from __future__ import annotations

import math

import pytest

from nonet.power.policies.protocol import Action, Priority
from nonet.power.policies.registry import build_policy
from nonet.power.policies.shadow import shadow
from nonet.power.policies.view import RowView

LOW_1, LOW_2 = 1275 / 1410, 1110 / 1410


def log_of(levels, *, policy="polca", servers=4, **values):
    """Commands on a series of (samples, power over budget), two seconds each."""
    power = [u for count, u in levels for _ in range(count)]
    view = RowView.uniform(servers, 0.5, budget_w=1.0)
    found = shadow([2.0 * i for i in range(len(power))], power, build_policy(policy, **values), view)
    return [
        (one.time_s, one.command.action, one.command.servers, round(one.command.level, 4)) for one in found.commands
    ]


def test_a_quiet_row_is_left_alone():
    assert log_of([(500, 0.79)]) == []


def test_the_published_ladder_step_by_step():
    log = log_of([(50, 0.75), (50, 0.82), (50, 0.91)])
    # Mode 3 waits until mode 2 has landed (40 s) and a period has shown that it did not help.
    assert log == [
        (100.0, Action.CAP, Priority.LOW, round(LOW_1, 4)),
        (200.0, Action.CAP, Priority.LOW, round(LOW_2, 4)),
        (244.0, Action.CAP, Priority.HIGH, pytest.approx(1305 / 1410, abs=1e-3)),
    ]


def test_a_cap_is_lifted_five_points_below_its_threshold_and_not_before():
    held = log_of([(10, 0.81), (500, 0.76)])
    assert [entry[3] for entry in held] == [round(LOW_1, 4)]
    lifted = log_of([(10, 0.81), (500, 0.74)])
    assert [entry[3] for entry in lifted] == [round(LOW_1, 4), 1.0]
    assert lifted[1][0] >= 40.0  # the first cap has landed before


def test_the_brake_falls_once_for_one_excess():
    log = log_of([(10, 0.7), (40, 1.02), (200, 0.95)])
    assert [entry[1] for entry in log].count(Action.BRAKE) == 1
    assert log[0][0] == 20.0
    assert all(action is not Action.RELEASE for _, action, _, _ in log)  # 0.95 never leaves room to release


def test_only_the_brake_without_caps():
    log = log_of([(10, 0.7), (3, 1.01), (300, 0.5)], policy="no-cap", release="immediate")
    assert [entry[1] for entry in log] == [Action.BRAKE, Action.RELEASE]
    assert log[1][0] > log[0][0] + 60.0


def test_lost_telemetry_caps_and_lifts_nothing():
    log = log_of([(50, 0.7), (60, math.nan)])
    assert log[0][1:] == (Action.CAP, Priority.LOW, round(LOW_2, 4))
    assert 104.0 <= log[0][0] <= 108.0  # three periods without a sample
    assert all(level < 1.0 for _, action, _, level in log if action is Action.CAP)
