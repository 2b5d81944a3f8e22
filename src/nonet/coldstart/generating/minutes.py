"""Which joint samples a minute prefers, so that the means of minutes are correlated as published (Fig 12).

Joint samples are grouped in classes: allocation stage, and thirds of the other components. Minute t prefers class c
by the factor exp(s_c . z_t), where s_c holds the class's normal scores of (code, dependency, scheduling, allocation)
and z_t is a latent mood of the minute: its hour's published means, its number of cold starts, and noise. Iterative
proportional fitting then restores both margins: each minute's number of cold starts and each class's share of the
region. So the correlations cost the published distributions nothing.

How strongly each part counts is fitted (`fitting.py`) and lies in `calibration/minutes.csv`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nonet.coldstart._random_kernels import mix64, uniforms
from nonet.coldstart.generating.components import Joint
from nonet.coldstart.generating.curves import table

Array = NDArray[np.float64]
COMPONENTS = ("code_s", "dependency_s", "scheduling_s", "allocation_s")
NUM_PARAMETERS = 18  # 4 weights of the hour, 4 of the count, 10 of the noise (lower triangle)
_ROUNDS = 12
_STRENGTH = 8.0  # bound of the exponent: a preference beyond exp(8) is a certainty


@dataclass(frozen=True)
class Classes:
    """Joint samples in the order of their classes.

    Attributes:
        order: indices of the joint samples, int64[K].
        at: class c holds `order[at[c]:at[c + 1]]`, int64[C + 1].
        weight_sums: cumulative weights in that order, float64[K].
        share: total weight of each class, float64[C].
        score: mean normal scores of the class, float64[C, 4] in the order of COMPONENTS.
    """

    order: NDArray[np.int64]
    at: NDArray[np.int64]
    weight_sums: Array
    share: Array
    score: Array


def _normal_scores(values: Array, weight: Array) -> Array:
    """Standard normal scores of weighted values; ties share their middle rank."""
    unique, inverse = np.unique(values, return_inverse=True)
    mass = np.bincount(inverse, weight, len(unique))
    middle = np.cumsum(mass) - mass / 2
    return stats.norm.ppf(np.clip(middle / mass.sum(), 1e-6, 1 - 1e-6))[inverse]


def classes(samples: Joint) -> Classes:
    """Group joint samples: stage (4) by dependency (none, low, high) by code (3) by scheduling (4)."""
    scores = np.stack([_normal_scores(getattr(samples, name), samples.weight) for name in COMPONENTS], axis=1)
    code = np.searchsorted([-0.43, 0.43], scores[:, 0])
    layered = samples.dependency_s > 0
    high = samples.dependency_s > np.median(samples.dependency_s[layered])
    scheduling = np.searchsorted([-0.67, 0.0, 0.67], scores[:, 2])
    label = ((samples.stage() * 3 + layered + high) * 3 + code) * 4 + scheduling
    _, label = np.unique(label, return_inverse=True)
    order = np.argsort(label, kind="stable")
    num = int(label.max()) + 1
    share = np.bincount(label, samples.weight, num).astype(np.float64)
    score = np.stack([np.bincount(label, samples.weight * scores[:, j], num) / share for j in range(4)], axis=1)
    at = np.concatenate(([0], np.cumsum(np.bincount(label, minlength=num))))
    return Classes(order, at, np.cumsum(samples.weight[order]), share, score)


def hour_scores(region: str, num_hours: int) -> Array:
    """Normal scores of the published mean components of each hour (Fig 11), float64[num_hours, 4]."""
    hours = table("hours").filter(table("hours")["region"] == region).head(num_hours)
    even = np.ones(num_hours)
    return np.stack([_normal_scores(hours[name].to_numpy(), even) for name in COMPONENTS], axis=1)


def moods(region: str, seed: int, counts: NDArray[np.int64], parameters: Array) -> Array:
    """The latent z_t of each minute, float64[minutes, 4].

    Args:
        region: for the published hours.
        seed: of the noise.
        counts: cold starts of each minute, whole hours.
        parameters: float64[NUM_PARAMETERS].
    """
    minutes = len(counts)
    hour = np.repeat(hour_scores(region, minutes // 60), 60, axis=0)
    count = _normal_scores(counts.astype(np.float64), np.ones(minutes))
    noise = stats.norm.ppf(uniforms(np.uint64(mix64(seed, int(region[1:]), 31)), 0, 4 * minutes).reshape(minutes, 4))
    lower = np.zeros((4, 4))
    lower[np.tril_indices(4)] = parameters[8:NUM_PARAMETERS]
    return hour * parameters[:4] + count[:, None] * parameters[4:8] + noise @ lower.T


def minute_sums(groups: Classes, counts: NDArray[np.int64], mood: Array) -> Array:
    """Cumulative shares of the classes in each minute, float64[minutes, classes].

    The margins hold: a minute's shares sum to its count, and a class's shares to its share of all.
    """
    rows = np.exp(np.clip(mood @ groups.score.T, -_STRENGTH, _STRENGTH))
    wanted = groups.share * counts.sum()
    for _ in range(_ROUNDS):
        rows *= wanted / np.maximum(counts @ (rows / np.maximum(rows.sum(axis=1, keepdims=True), 1e-300)), 1e-300)
        rows /= rows.sum(axis=1, keepdims=True)
    return np.cumsum(rows * np.maximum(counts, 1)[:, None], axis=1)


def parameters(region: str) -> Array:
    """The fitted weights of a region, float64[NUM_PARAMETERS]."""
    rows = table("minutes").filter(
        (table("minutes")["region"] == region) & (table("minutes")["index"] < NUM_PARAMETERS)
    )
    return rows.sort("index")["value"].to_numpy()
