"""What is not believed of samples, and how a training job is told from inference."""

from __future__ import annotations

import math

import pytest

from nonet.power.controlling.watching import SampleGuard
from nonet.power.policies.protocol import Sample


@pytest.mark.parametrize("power_w", [math.nan, math.inf, -0.1, 0.0, 1.9, 3001.0])
def test_absurd_powers_are_refused(power_w):
    assert SampleGuard(200.0, 1000.0, 300.0).refusal(Sample(power_w, 0.0))


@pytest.mark.parametrize("power_w", [2.0, 200.0, 3000.0])
def test_what_any_of_the_budgets_allows_is_believed(power_w):
    assert SampleGuard(200.0, 1000.0, 300.0).refusal(Sample(power_w, 0.0)) == ""


def test_a_value_that_stands_still_is_believed_for_a_while_only():
    guard = SampleGuard(1000.0, 1000.0, 300.0)
    refused = [bool(guard.refusal(Sample(700.0, 2.0 * n))) for n in range(160)]
    assert (refused.index(True), sum(refused)) == (150, 10)
    assert guard.refusal(Sample(700.1, 320.0)) == ""
    assert guard.refusal(Sample(700.0, 322.0)) == ""


def swing(guard, times, low=600.0, high=900.0, period_s=2.0, by_us=False, start_s=0.0):
    for n in range(2 * times):
        guard.note(Sample(high if n % 2 else low, start_s + n * period_s), 1000.0, by_us)


def test_three_swings_within_an_hour_are_training():
    guard = SampleGuard(1000.0, 1000.0, 300.0)
    swing(guard, 2)
    assert not guard.trains(10.0)
    swing(guard, 1, start_s=1000.0)
    assert guard.trains(1003.0) and guard.trains(3600.0)
    assert not guard.trains(3700.0)


def test_what_inference_gaps_and_we_ourselves_do_is_no_training():
    guard = SampleGuard(1000.0, 1000.0, 300.0)
    swing(guard, 50, low=700.0, high=810.0)
    swing(guard, 50, period_s=60.0, start_s=1000.0)
    swing(guard, 50, by_us=True, start_s=10_000.0)
    assert not guard.trains(10_300.0)
