"""Cold-start times of each function, as samples for the simulator, from its runtime's and trigger's joint samples."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nonet.coldstart._random_kernels import mix64, uniforms
from nonet.coldstart.generating.components import RUNTIMES, joint
from nonet.coldstart.generating.triggers import TRIGGERS, trigger_sums
from nonet.coldstart.simulating.calls import ColdTimes

NUM_SAMPLES = 64


def cold_times(region: str, frame: pl.DataFrame) -> tuple[ColdTimes, NDArray[np.int64]]:
    """NUM_SAMPLES samples a function, evenly over the law of its (runtime, trigger), or of its region outside of R2.

    Also gives what the rest of each sample consists of: code, dependency, scheduling, int64[samples, 3] in
    microseconds.

    Args:
        region: "R1" .. "R5".
        frame: columns runtime and trigger, one row a function.
    """
    samples = joint(region)
    sums: dict[tuple[str, str], NDArray[np.float64]] = {}
    chosen = np.empty((frame.height, NUM_SAMPLES), dtype=np.int64)
    for f, (runtime, trigger) in enumerate(frame.select("runtime", "trigger").iter_rows()):
        if (runtime, trigger) not in sums:
            sums[runtime, trigger] = np.cumsum(_weights(region, runtime, trigger))
        law = sums[runtime, trigger]
        rank = (
            np.arange(NUM_SAMPLES) + uniforms(np.uint64(mix64(int(region[1:]), f, 17)), 0, NUM_SAMPLES)
        ) / NUM_SAMPLES
        chosen[f] = np.minimum(np.searchsorted(law, rank * law[-1]), len(law) - 1)
    flat = chosen.ravel()
    micro = [np.round(getattr(samples, name)[flat] * 1e6).astype(np.int64) for name in ("total_s", "allocation_s")]
    rest = np.maximum(micro[0] - micro[1], 0)
    code = np.minimum(np.round(samples.code_s[flat] * 1e3).astype(np.int64), rest // 1000) * 1000
    dependency = np.minimum(np.round(samples.dependency_s[flat] * 1e3).astype(np.int64), (rest - code) // 1000) * 1000
    at = np.arange(frame.height + 1, dtype=np.int64) * NUM_SAMPLES
    parts = np.stack([code, dependency, rest - code - dependency], axis=1)
    return ColdTimes(at=at, allocation_us=micro[1], rest_us=rest), parts


def _weights(region: str, runtime: str, trigger: str) -> NDArray[np.float64]:
    samples = joint(region)
    if region != "R2":
        return samples.weight
    own = samples.weight * (samples.runtime == RUNTIMES.index(runtime))
    if runtime == "Custom":
        return own  # without a pool, whatever the trigger
    cell_sums, cell = trigger_sums()
    weight = own * np.diff(cell_sums, prepend=0.0, axis=1)[cell, TRIGGERS.index(trigger)]
    return weight if weight.sum() > 1e-9 * own.sum() else own
