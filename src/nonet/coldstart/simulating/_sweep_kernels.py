"""Many fixed keep-alives in one pass over calls that do not overlap."""

from __future__ import annotations

import numpy as np
from numba import njit

from nonet.coldstart._random_kernels import mix64


@njit(cache=True, nogil=True)
def sweep_block(
    arrive_us, run_us, function, keep_us, seed, overhead_us, cold_at, cold_us, requests, overlaps, end_us, cold, idle_us
):
    """Carry every function through a block under each of K keep-alives, function by function.

    A function whose calls overlap under any keep-alive is marked in `overlaps` (bool (F,)) and left.

    Args:
        keep_us: int64 (K,).
        cold_at: int64 (F + 1,), where the samples of each function begin.
        cold_us: int64 (samples,), jagged samples of cold start times.
        requests: int64 (F,), calls so far.
        end_us: int64 (F, K), end of the last call.
        cold: int64 (F, K), cold starts.
        idle_us: int64 (F, K), idle time.
    """
    at = np.zeros(len(requests) + 1, np.int64)
    for f in function:
        at[f + 1] += 1
    at = np.cumsum(at)
    order = np.empty(len(function), np.int32)
    for k in range(len(function)):
        order[at[function[k]]] = k
        at[function[k]] += 1
    for call in order:
        f, now = function[call], arrive_us[call]
        first = requests[f] == 0
        requests[f] += 1
        if overlaps[f]:
            continue
        ends, colds, idles = end_us[f], cold[f], idle_us[f]
        warm_end = now + overhead_us + run_us[call]
        overlap = False
        for k in range(len(keep_us)):
            gap = now - ends[k]
            overlap |= gap < 0 and not first
            ends[k] = warm_end
            if first or gap > keep_us[k]:
                sample = cold_at[f]
                num = cold_at[f + 1] - sample
                if num > 1:
                    sample += np.int64(mix64(seed, f, colds[k]) % np.uint64(num))
                ends[k] = now + cold_us[sample] + run_us[call]
                colds[k] += 1
                gap = 0 if first else keep_us[k]
            idles[k] += gap
        overlaps[f] = overlap
