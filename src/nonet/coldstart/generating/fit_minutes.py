"""How the weights in `calibration/minutes.csv` are found: a seeded search on the published correlations (Fig 12).

A candidate's minutes are sampled for some days, the Spearman matrix of their means is taken, and a step that brings
it nearer to the published one is kept (a (1+1) evolution strategy with the one-fifth rule).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nonet.coldstart._random_kernels import mix64
from nonet.coldstart.generating._cold_kernels import minute_means
from nonet.coldstart.generating.cold_events import hourly_counts, minute_counts
from nonet.coldstart.generating.components import joint, other_joint
from nonet.coldstart.generating.curves import table
from nonet.coldstart.generating.minutes import NUM_PARAMETERS, classes, minute_sums, moods

Array = NDArray[np.float64]
COLUMNS = ("total_s", "code_s", "dependency_s", "scheduling_s", "allocation_s")
QUANTITIES = ("cold_start_time", "deploy_code", "deploy_dep", "scheduling", "pod_alloc", "num_cold_starts")


def published_spearman(region: str) -> Array:
    """The printed matrix of Fig 12, float64[6, 6] in the order of QUANTITIES."""
    matrix = np.eye(len(QUANTITIES))
    for a, b, value in (
        table("spearman").filter(table("spearman")["region"] == region).select("a", "b", "spearman").rows()
    ):
        matrix[QUANTITIES.index(a), QUANTITIES.index(b)] = value
    return matrix


def minute_spearman(means: Array, counts: NDArray[np.int64]) -> Array:
    """Spearman matrix over minutes with a cold start, float64[6, 6]; `means` is (minutes, 5) as COLUMNS."""
    busy = counts > 0
    return np.asarray(stats.spearmanr(np.column_stack([means[busy], counts[busy]])).statistic)


def mean_absolute_error(ours: Array, published: Array) -> float:
    """Over the 15 pairs of different quantities."""
    upper = np.triu_indices(len(ours), 1)
    return float(np.abs(ours - published)[upper].mean())


def _hourly_agreement(means: Array, counts: NDArray[np.int64], region: str) -> float:
    """Mean Spearman correlation of the hourly mean components with the published ones (Fig 11)."""
    hours = len(counts) // 60
    sums = np.nansum((means * counts[:, None]).reshape(hours, 60, -1), axis=1)
    ours = sums / np.maximum(counts.reshape(hours, 60).sum(axis=1), 1)[:, None]
    published = table("hours").filter(table("hours")["region"] == region).head(hours)
    return float(np.mean([stats.spearmanr(ours[:, i], published[name]).statistic for i, name in enumerate(COLUMNS)]))


def fit_moods(region: str, *, num_days: int = 6, rounds: int = 400, seed: int = 1) -> tuple[Array, float]:
    """The weights of a region, float64[21] (18 of the moods, 3 of `other_joint`), and their error with other noise."""
    counts = minute_counts(region, seed, hourly_counts(region, 24 * num_days))
    published = published_spearman(region)

    def means(weights: Array, noise: int) -> Array:
        samples = joint(region) if region == "R2" else other_joint(region, weights[NUM_PARAMETERS:])
        groups = classes(samples)
        values = np.stack([getattr(samples, name) for name in COLUMNS], axis=1)[groups.order]
        sums = minute_sums(groups, counts, moods(region, noise, counts, weights))
        return minute_means(np.uint64(mix64(noise, 5, 5)), counts, sums, groups.at, groups.weight_sums, values)

    def loss(weights: Array) -> float:
        found = means(weights, seed)
        error = mean_absolute_error(minute_spearman(found, counts), published)
        return error + 0.1 * (1.0 - _hourly_agreement(found, counts, region)) + 0.001 * float(np.abs(weights).mean())

    random = np.random.default_rng(seed)
    best = np.concatenate([np.full(4, 0.3), np.zeros(NUM_PARAMETERS - 4), [0.5, 0.5, 0.5]])
    least, step = loss(best), 0.4
    for _ in range(rounds):
        candidate = best + step * random.standard_normal(len(best)) * (random.random(len(best)) < 0.3)
        found = loss(candidate)
        better = found < least
        step = min(max(step * (1.22 if better else 0.95), 0.03), 0.6)
        if better:
            best, least = candidate, found
    return best, mean_absolute_error(minute_spearman(means(best, seed + 1), counts), published)
