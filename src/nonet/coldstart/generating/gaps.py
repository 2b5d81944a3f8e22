"""Gaps between cold starts: an hour's law, such that all hours together follow the published one (Fig 10c).

Hours differ in their mean gap. Scaling one law by it would smear what the published curves show sharply, many gaps of
just 1, 2, 5 seconds, which are timers. So hours draw from the same gaps with other probabilities: the law of an hour
is the published one times exp(tilt * log gap), the tilt chosen for its mean, and a factor for each gap that all hours
share makes the mixture of all hours the published law again (iterative proportional fitting with one moment).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nonet.coldstart.generating.curves import Curve

Array = NDArray[np.float64]
TABLE = 4096
_CELLS = 2000
_LEVELS = 32
_ROUNDS = 30


@dataclass(frozen=True)
class Gaps:
    """Laws of gaps by level of mean gap.

    Attributes:
        level: the level of each hour, int64[hours].
        log_quantiles: logarithms of the quantiles (seconds) at 0, 1/TABLE, .., 1, float64[levels, TABLE + 1].
    """

    level: NDArray[np.int64]
    log_quantiles: Array


def fit_gaps(published: Curve, counts: NDArray[np.int64], hour_s: float = 3600.0) -> Gaps:
    """Laws for hours with `counts` cold starts each, whose mixture is `published`."""
    size = np.maximum(counts, 1).astype(np.float64)
    mean = hour_s / size
    low, high = np.quantile(np.log(mean), (0.002, 0.998))
    edges = np.linspace(low, high + 1e-9, _LEVELS + 1)
    level = np.clip(np.searchsorted(edges, np.log(mean), side="right") - 1, 0, _LEVELS - 1)
    used, level = np.unique(level, return_inverse=True)
    mass = np.bincount(level, size, len(used))
    wanted = np.bincount(level, hour_s * np.ones(len(size)), len(used)) / mass
    probability = _tilted(published, mass / mass.sum(), wanted)
    rank = np.linspace(0.0, 1.0, TABLE + 1)
    edges_log = np.log(published.quantile(np.linspace(0.0, 1.0, _CELLS + 1)))
    rows = [np.interp(rank, np.concatenate(([0.0], np.cumsum(row))), edges_log) for row in probability]
    return Gaps(level, np.stack(rows))


def _tilted(published: Curve, mass: Array, wanted: Array) -> Array:
    """Probabilities of the cells (equally likely in `published`) for each level, float64[levels, _CELLS]."""
    edges = published.quantile(np.linspace(0.0, 1.0, _CELLS + 1))
    width = np.maximum(np.diff(np.log(edges)), 1e-12)
    value = np.where(width > 1e-9, np.diff(edges) / width, edges[1:])  # mean of a log-uniform cell
    # Time is conserved: the mean over all hours is fixed, and a curve read off a plot misses it by a little.
    value *= float(mass @ wanted) / value.mean()
    log_value = np.log(value)
    shared = np.ones(_CELLS)
    tilt = np.zeros(len(mass))
    rows = np.empty((len(mass), _CELLS))
    for _ in range(_ROUNDS):
        for i in range(len(mass)):
            rows[i], tilt[i] = _with_mean(shared, log_value, value, wanted[i], tilt[i])
        shared /= np.maximum(mass @ rows * _CELLS, 1e-300)
    return rows


def _with_mean(shared: Array, log_value: Array, value: Array, wanted: float, tilt: float) -> tuple[Array, float]:
    """The law shared * exp(tilt * log_value) with mean `wanted`, by Newton's method on the logarithm of the mean."""
    row = shared
    for _ in range(8):
        exponent = tilt * log_value
        row = shared * np.exp(exponent - exponent.max())
        row = row / row.sum()
        mean = float(row @ value)
        slope = float(row @ (value * log_value)) / mean - float(row @ log_value)
        tilt += float(np.clip((np.log(wanted) - np.log(mean)) / max(slope, 1e-3), -0.5, 0.5))
    return row, tilt
