"""The peak detector on profiles whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.coldstart.analytics.from_requests import _slot_weights
from nonet.coldstart.analytics.peaks import daily_peaks, peak_to_trough, smoothed
from nonet.common.errors import InputError


@pytest.mark.parametrize("level", [1.0, 30.0, 1e6])
def test_noise_on_a_constant_load_is_no_peak(level: float) -> None:
    rng = np.random.default_rng(3)
    assert [peak_to_trough(rng.poisson(level, 144).astype(float)) for _ in range(200)] == [1.0] * 200


@pytest.mark.parametrize("start", [0, 40, 140])
def test_an_hour_of_more_calls_is_found_anywhere_in_the_day(start: int) -> None:
    profile = np.full(144, 100.0)
    profile[np.arange(start, start + 6) % 144] = 2500.0
    assert peak_to_trough(profile) == pytest.approx(25.0)


def test_a_sine_of_known_swing() -> None:
    profile = 1e6 * (1 + 0.6 * np.sin(np.arange(144) / 144 * 2 * np.pi))
    assert peak_to_trough(profile) == pytest.approx(4.0, rel=0.01)


def test_a_silent_trough_counts_as_half_a_call() -> None:
    profile = np.zeros(144)
    profile[60:66] = 50.0
    assert peak_to_trough(profile) == pytest.approx(300 / 0.5)


def test_a_slot_that_a_trace_holds_twice_weighs_half() -> None:
    even = _slot_weights(0, 3 * 86_400_000_000)
    assert (even == 1).all()
    half = _slot_weights(0, 36 * 3_600_000_000)  # a day and a half: the mornings twice
    assert half[:72].tolist() == [0.75] * 72 and half[72:].tolist() == [1.5] * 72
    with pytest.raises(InputError, match=r"whole day, this one has 23\.0 hours"):
        _slot_weights(0, 23 * 3_600_000_000)


def test_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match="144 slots"):
        peak_to_trough(np.zeros(24))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.integers(1, 8))
def test_the_moving_mean_is_that_of_a_loop(values: list[float], width: int) -> None:
    left, right = width // 2, width - 1 - width // 2
    expected = [np.mean(values[max(i - left, 0) : i + right + 1]) for i in range(len(values))]
    assert smoothed(np.array(values), width) == pytest.approx(expected, abs=1e-9)
    if width <= len(values):
        around = [
            np.mean([values[j % len(values)] for j in range(i - left, i + right + 1)]) for i in range(len(values))
        ]
        assert smoothed(np.array(values), width, around=True) == pytest.approx(around, abs=1e-9)


def test_the_largest_of_each_day() -> None:
    minutes = np.arange(0, 2880, 10)
    load = np.where(minutes == 700, 5.0, np.where(minutes == 2000, 7.0, 1.0))
    assert daily_peaks(minutes, load) == [(700, 5.0), (2000, 7.0)]
