"""Which trigger a cold start of Region 2 had, given its runtime, its pod-allocation stage and its total time.

Published are the distribution of totals (Fig 16a) and of allocation (Fig 16b) by trigger, leaving unknown triggers
out, the triggers' shares of cold starts (Fig 8d) and of each runtime's functions (Fig 9). Iterative proportional
fitting gives the table that starts from Fig 9 and meets the other margins; what is left is unknown.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nonet.coldstart.generating.components import RUNTIMES, STAGES_S, Joint, joint
from nonet.coldstart.generating.curves import Curve, curve, table

Array = NDArray[np.float64]
TRIGGERS = ("TIMER-A", "workflow-S", "OBS-A", "unknown", "APIG-S", "other A", "other S")
NUM_TIME_BINS = 40
_ROUNDS = 300


def _shares(figure: str, series: str) -> dict[str, float]:
    rows = table("proportions").filter((pl.col("figure") == figure) & (pl.col("series") == series))
    return dict(rows.select("group", "proportion").rows())


def cold_start_shares() -> Array:
    """Share of Region 2's cold starts by trigger (Fig 8d), float64[7] in the order of TRIGGERS, sum 1."""
    shares = _shares("8d", "cold_starts")
    out = np.array([shares[name] for name in TRIGGERS])
    return out / out.sum()


def runtime_trigger_prior() -> Array:
    """P(trigger | runtime) over functions (Fig 9), floored at 0.002, float64[runtimes, triggers]."""
    prior = np.full((len(RUNTIMES), len(TRIGGERS)), 0.002)
    for runtime, trigger, share in (
        table("trigger_by_runtime").select("runtime", "trigger", "share_of_functions").rows()
    ):
        prior[RUNTIMES.index(runtime), TRIGGERS.index(trigger)] += share
    prior[RUNTIMES.index("unknown"), :] += 1.0 / len(TRIGGERS)
    return prior / prior.sum(axis=1, keepdims=True)


@lru_cache(maxsize=1)
def time_edges_s() -> Array:
    """Inner bounds of the bins of total time: equally likely for all of Region 2, and finer at the frame of Fig 16."""
    inner = curve("15a", "all").quantile(np.arange(1, NUM_TIME_BINS) / NUM_TIME_BINS)
    return np.unique(np.concatenate((inner, [10.0, 10.5, 12.0, 15.0, 19.0])))


@lru_cache(maxsize=1)
def trigger_sums() -> tuple[Array, NDArray[np.int64]]:
    """Cumulative P(trigger | cell), float64[cells, 7], and the cell of each joint sample of Region 2, int64[K]."""
    samples = joint("R2")
    cell = cells(samples)
    num_times = len(time_edges_s()) + 1
    runtime, stage, time = np.unravel_index(np.arange(len(RUNTIMES) * 4 * num_times), (len(RUNTIMES), 4, num_times))
    mass = np.bincount(cell, samples.weight, len(runtime))
    value = mass[:, None] * runtime_trigger_prior()[runtime]
    shares = cold_start_shares()
    known = [i for i, name in enumerate(TRIGGERS) if name != "unknown"]
    by_time = np.stack([_masses(curve("16a", TRIGGERS[i]), time_edges_s()) * shares[i] for i in known], axis=1)
    by_stage = np.stack([_masses(curve("16b", TRIGGERS[i]), np.array(STAGES_S)) * shares[i] for i in known], axis=1)
    for _ in range(_ROUNDS):
        for margin, label, num in ((by_time, time, num_times), (by_stage, stage, 4)):
            have = np.stack([np.bincount(label, value[:, i], num) for i in known], axis=1)
            value[:, known] *= (margin / np.maximum(have, 1e-15))[label]
        value[:, 3] *= shares[3] / max(value[:, 3].sum(), 1e-15)
        value *= (mass / np.maximum(value.sum(axis=1), 1e-15))[:, None]
    rows = value / np.maximum(value.sum(axis=1, keepdims=True), 1e-15)
    return np.cumsum(rows, axis=1), cell


def cells(samples: Joint) -> NDArray[np.int64]:
    """The cell (runtime, stage, bin of total time) of each joint sample, int64[K]."""
    num_times = len(time_edges_s()) + 1
    time = np.searchsorted(time_edges_s(), samples.total_s, side="left")
    return (np.maximum(samples.runtime, 0).astype(np.int64) * 4 + samples.stage()) * num_times + time


def _masses(law: Curve, edges: Array) -> Array:
    probability = law.probability(edges)
    return np.diff(np.concatenate(([0.0], probability, [1.0])))


def runtime_trigger_cold_starts() -> Array:
    """Joint share of cold starts by (runtime, trigger), float64[runtimes, triggers], sum 1."""
    sums, cell = trigger_sums()
    samples = joint("R2")
    rows = np.diff(sums, prepend=0.0, axis=1)[cell] * samples.weight[:, None]
    return np.stack([np.bincount(samples.runtime, rows[:, i], len(RUNTIMES)) for i in range(len(TRIGGERS))], axis=1)
