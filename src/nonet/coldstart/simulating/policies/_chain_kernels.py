"""Compiled counting of which function is called soon after which.

Each call of B looks back over the calls before it, as far as the window or the call of B before it: calls of A before
that one have been followed already, so every call of A counts at most once for B. Calls at the very time of B do not
announce it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

NO_CALL = -(1 << 62)


@njit(cache=True, nogil=True)
def count_followers(arrive_us: np.ndarray, function: np.ndarray, num_functions: int, window_us: int) -> np.ndarray:
    """int32 (F, F): calls of A (row) that are followed by one of B (column) within the window; calls (n,) by time."""
    counts = np.zeros((num_functions, num_functions), np.int32)
    previous = np.full(num_functions, NO_CALL, np.int64)
    for i in range(len(arrive_us)):
        b = function[i]
        begin = max(arrive_us[i] - window_us, previous[b])
        j = i - 1
        while j >= 0 and arrive_us[j] >= begin:
            if function[j] != b and arrive_us[j] < arrive_us[i]:
                counts[function[j], b] += 1
            j -= 1
        previous[b] = arrive_us[i]
    return counts


@njit(cache=True, nogil=True)
def follower_lags(
    arrive_us: np.ndarray, function: np.ndarray, window_us: int, link: np.ndarray, num_lags: int
) -> tuple[np.ndarray, np.ndarray]:
    """The lags behind those counts that belong to a link.

    `link` int32 (F, F) holds the number of a link or -1; `num_lags` is the sum of their counts. Returns for each lag
    the link int32 and the lag int64.
    """
    links = np.empty(num_lags, np.int32)
    lags = np.empty(num_lags, np.int64)
    num = 0
    previous = np.full(len(link), NO_CALL, np.int64)
    for i in range(len(arrive_us)):
        b = function[i]
        begin = max(arrive_us[i] - window_us, previous[b])
        j = i - 1
        while j >= 0 and arrive_us[j] >= begin:
            if function[j] != b and arrive_us[j] < arrive_us[i] and link[function[j], b] >= 0:
                links[num] = link[function[j], b]
                lags[num] = arrive_us[i] - arrive_us[j]
                num += 1
            j -= 1
        previous[b] = arrive_us[i]
    return links, lags
