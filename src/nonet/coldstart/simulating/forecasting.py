"""The forecaster of IceBreaker: the lowest harmonics of the last hour, extrapolated by one minute.

A straight line is fitted and taken off, the Fourier transform's mean and `num_harmonics` lowest harmonics are kept and
read beyond the end of the window, and the line is put back. All of it is linear in the window, so the value one step
ahead is a fixed weighted sum of its points: one product forecasts every function at once.

Source: IceBreaker (ASPLOS 2022) as restated by FeMux (EuroSys 2026); specification A6.7.
"""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError

Series: TypeAlias = NDArray[np.float64]

WINDOW_MINUTES = 60
NUM_HARMONICS = 10


def fourier_extrapolate(window: Series, num_ahead: int = 1, num_harmonics: int = NUM_HARMONICS) -> Series:
    """Values after the window's end, unrounded.

    Args:
        window: (..., n) equally spaced values, n >= 2, the newest last.
        num_ahead: steps to extrapolate.
        num_harmonics: harmonics to keep, from the lowest; (n - 1) // 2 or more keeps all of them.

    Returns:
        (..., num_ahead).

    >>> import numpy as np
    >>> wave = 5 + 3 * np.cos(2 * np.pi * np.arange(60) / 12)
    >>> bool(abs(fourier_extrapolate(wave)[0] - 8) < 0.5)
    True
    """
    values = np.asarray(window, np.float64)
    if values.shape[-1] < 2 or num_ahead < 1 or num_harmonics < 0:
        raise InputError(
            f"fourier_extrapolate: window of {values.shape[-1]} points, num_ahead={num_ahead}, "
            f"num_harmonics={num_harmonics}: expected >= 2, >= 1, >= 0"
        )
    return values @ _weights(values.shape[-1], num_ahead, num_harmonics)


@cache
def _weights(num_points: int, num_ahead: int, num_harmonics: int) -> Series:
    """(n, num_ahead): what each point of a window weighs in each extrapolated value: unit windows, forecast."""
    time = np.arange(num_points)
    centred = time - time.mean()
    slope = centred / np.sum(centred**2)  # a window's slope is its product with this
    level = np.eye(num_points) - np.outer(slope, time)  # rows: unit windows, their slope taken off
    spectrum = np.fft.fft(level, axis=1) / num_points
    frequency = np.fft.fftfreq(num_points)
    kept = np.argsort(np.abs(frequency), kind="stable")[: 1 + 2 * num_harmonics]
    ahead = np.arange(num_points, num_points + num_ahead)
    waves = np.exp(2j * np.pi * np.outer(frequency[kept], ahead))
    return np.real(spectrum[:, kept] @ waves) + np.outer(slope, ahead)


def pods_forecast(window: Series, num_harmonics: int = NUM_HARMONICS) -> NDArray[np.int64]:
    """Pods for the next step: the forecast of concurrency, rounded half to even, not below 0.

    >>> import numpy as np
    >>> pods_forecast(np.full((2, 60), 3.0)).tolist()
    [3, 3]
    """
    ahead = fourier_extrapolate(window, 1, num_harmonics)[..., 0]
    return np.maximum(np.rint(np.round(ahead, 9)), 0).astype(np.int64)
