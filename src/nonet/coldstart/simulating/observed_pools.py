"""Pools of prepared pods for a workload whose platform does not tell them: latencies observed, sizes assumed.

Allocation times fall apart into stages (Figures 15b and 16b of the paper): a pod of the nearest pool within
milliseconds, one of a wider pool within tens of milliseconds, one made from scratch after seconds. The latency of each
stage is the median of what the workload's own samples have there, and the paper's where they have none.

What is *assumed*: a taken pod is replaced after the scratch time, and each stage of a class begins with as many pods
as are taken on average in ten such times. Policies that size pools start from there, the others keep it.
"""

from __future__ import annotations

import numpy as np

from nonet.coldstart.simulating.calls import ColdTimes, Workload
from nonet.coldstart.simulating.platform import Pools
from nonet.common.errors import InputError

_NEAR_US, _SCRATCH_US = 5_000, 5_000_000  # bounds between the stages
_PAPER_US = (200, 15_000, 10_200_000)  # Region 2: nearest pool, wider pool, from scratch
_REPLENISH_TIMES = 10


def observed_pools(workload: Workload, num_cold: np.ndarray) -> Pools:
    """Two stages for every pool class of a workload.

    Args:
        workload: its functions name the classes.
        num_cold: int64 (F,), cold starts of each function in the workload, for instance under a fixed keep-alive.

    Raises:
        InputError: no function of the workload has a pool class.
    """
    classes = workload.functions.pool_class
    num = int(classes.max(initial=-1)) + 1
    if num == 0:
        raise InputError("no function of this workload has a class (CPU and memory) that a pool could be made for")
    near, wide, scratch = _stage_latencies(workload.cold_times)
    seconds = max((workload.end_us - workload.start_us) / 1e6, 1.0)
    takes = np.bincount(classes[classes >= 0], np.asarray(num_cold)[classes >= 0], num)
    target = np.maximum(1, np.ceil(takes / seconds * scratch / 1e6 * _REPLENISH_TIMES)).astype(np.int64)
    return Pools(
        target=np.stack([target, target], axis=1),
        latency_us=np.tile([near, wide], (num, 1)),
        scratch_us=np.full(num, scratch),
        replenish_us=np.full(num, scratch),
        names=tuple(f"class {index}" for index in range(num)),
    )


def _stage_latencies(cold_times: ColdTimes) -> tuple[int, int, int]:
    taken = cold_times.allocation_us
    parts = (
        taken[(taken > 0) & (taken <= _NEAR_US)],
        taken[(taken > _NEAR_US) & (taken <= _SCRATCH_US)],
        taken[taken > _SCRATCH_US],
    )
    near, wide, scratch = (
        int(np.median(part)) if len(part) else default for part, default in zip(parts, _PAPER_US, strict=True)
    )
    return near, wide, scratch
