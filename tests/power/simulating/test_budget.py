"""Budgets over time and what fails: each step and each node by hand."""

from __future__ import annotations

import math
from dataclasses import replace

from nonet.power.simulating.budget import BudgetSchedule, FeedFailure, PowerNode
from tests.power.simulating.test_plant import a_row


def test_a_failure_concerns_its_own_node_only():
    rack = PowerNode("rack", BudgetSchedule.constant(8_000.0), (0, 1))
    row = replace(a_row(1.0), nodes=(rack,), failures=(FeedFailure(10.0, 20.0, 0.5),))
    assert [row.row_budget.at(t) for t in (9.9, 10.0, 19.9, 20.0)] == [37_000.0, 18_500.0, 18_500.0, 37_000.0]
    assert row.node_budgets[0].at(15.0) == 8_000.0
    row = replace(row, failures=(FeedFailure(10.0, math.inf, 0.25, "rack"),))
    assert (row.row_budget.at(15.0), row.node_budgets[0].at(15.0), row.node_budgets[0].at(1e9)) == (37e3, 2e3, 2e3)


def test_failures_that_overlap_multiply_and_steps_begin_on_time():
    row = replace(a_row(1.0), failures=(FeedFailure(10.0, 30.0, 0.5), FeedFailure(20.0, 40.0, 0.5)))
    budget = row.row_budget
    assert [budget.at(t) / 37_000.0 for t in (0.0, 10.0, 20.0, 30.0, 40.0)] == [1.0, 0.5, 0.25, 0.5, 1.0]
    assert [budget.next_change_s(t) for t in (0.0, 10.0, 35.0, 40.0)] == [10.0, 20.0, 40.0, math.inf]


def test_a_change_within_a_step_leaves_the_other_steps():
    budget = BudgetSchedule((0.0, 100.0), (50e3, 60e3)).between(90.0, 110.0, 40e3)
    assert (budget.starts_s, budget.watts) == ((0.0, 90.0, 100.0, 110.0), (50e3, 40e3, 40e3, 60e3))
