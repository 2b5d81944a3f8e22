"""Most requests of each function under way at once."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def peaks_by_function(function: np.ndarray, begin_us: np.ndarray, end_us: np.ndarray, num_functions: int) -> np.ndarray:
    """int64 (F,): the peak of overlapping intervals (n,), grouped by function and ordered by begin within one.

    One that ends at t does not meet one that begins at t, but an empty interval counts while it begins.
    """
    peak = np.zeros(num_functions, np.int64)
    first = 0
    while first < len(function):
        last = first
        while last < len(function) and function[last] == function[first]:
            last += 1
        ends = np.sort(end_us[first:last])
        num_ended = 0
        for i in range(first, last):
            while ends[num_ended] <= begin_us[i] and num_ended < i - first:
                num_ended += 1
            peak[function[first]] = max(peak[function[first]], i - first + 1 - num_ended)
        first = last
    return peak
