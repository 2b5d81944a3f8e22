"""Compiled loop of pool sizing."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def pods_needed_kernel(arrive_us: np.ndarray, create_us: np.ndarray, ready_us: np.ndarray) -> np.ndarray:
    """`need_i = 1 + #{j < i: a_j + C_j > a_i}` for arrivals (n,) not falling.

    `ready_us` holds `a_j + C_j` sorted, of the allocations with C_j > 0 only: those that are ready by a_i came before
    i, so they can be counted without asking which ones they are. A replacement that takes no time is never missing.
    """
    n = len(arrive_us)
    need = np.empty(n, np.int64)
    num_started = 0
    num_ready = 0
    for i in range(n):
        while num_ready < len(ready_us) and ready_us[num_ready] <= arrive_us[i]:
            num_ready += 1
        need[i] = 1 + num_started - num_ready
        if create_us[i] > 0:
            num_started += 1
    return need
