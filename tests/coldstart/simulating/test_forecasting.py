"""The Fourier forecast against the transform written out, harmonic by harmonic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.coldstart.simulating.forecasting import fourier_extrapolate, pods_forecast
from nonet.common.errors import InputError


def written_out(window: list[float], ahead: int, harmonics: int) -> float:
    """Least-squares slope off, discrete Fourier sums of the lowest frequencies, read at n - 1 + ahead, slope back."""
    n = len(window)
    middle = (n - 1) / 2
    slope = sum((t - middle) * x for t, x in enumerate(window)) / sum((t - middle) ** 2 for t in range(n))
    level = [x - slope * t for t, x in enumerate(window)]
    at = n - 1 + ahead
    value = sum(level) / n
    for k in range(1, harmonics + 1):
        if 2 * k > n:
            break
        cosine = sum(x * math.cos(2 * math.pi * k * t / n) for t, x in enumerate(level)) / n
        sine = sum(x * math.sin(2 * math.pi * k * t / n) for t, x in enumerate(level)) / n
        both = 1 if 2 * k == n else 2
        value += both * (cosine * math.cos(2 * math.pi * k * at / n) + sine * math.sin(2 * math.pi * k * at / n))
    return value + slope * at


@settings(deadline=None)
@given(st.lists(st.floats(0, 50), min_size=4, max_size=60), st.integers(0, 12), st.integers(1, 3))
def test_extrapolation_equals_the_sums_written_out(window: list[float], harmonics: int, ahead: int) -> None:
    got = fourier_extrapolate(np.array(window), ahead, harmonics)
    for step in range(ahead):
        assert got[step] == pytest.approx(written_out(window, step + 1, harmonics), abs=1e-6)


def test_a_line_goes_on_and_a_wave_comes_back() -> None:
    time = np.arange(60)
    assert fourier_extrapolate(2.0 * time, 1, 0)[0] == pytest.approx(2 * 29.5 + 2 * 30.5 - 0.0, abs=2)
    phases = np.arange(15)[:, None]
    waves = 10 + 4 * np.sin(2 * np.pi * (np.arange(61) + phases) / 15)
    errors = np.abs(fourier_extrapolate(waves[:, :60])[:, 0] - waves[:, 60])
    assert np.mean(errors) < 0.4 * np.mean(np.abs(waves[:, 60] - 10))  # the error of forecasting the mean


def test_pods_are_whole_and_not_negative() -> None:
    falling = np.linspace(5, 0, 60)
    assert pods_forecast(np.stack([falling - 3, np.full(60, 2.4)])).tolist() == [0, 2]


def test_wrong_input_is_refused() -> None:
    with pytest.raises(InputError, match="fourier_extrapolate"):
        fourier_extrapolate(np.ones(1))
