"""A plain count of one function's cold starts under a fixed keep-alive, most recently used pod first, for fitting."""

from __future__ import annotations

import heapq

import numpy as np
from numba import njit

from nonet.coldstart._random_kernels import mix64


@njit(cache=True, nogil=True)
def count_cold(arrive, run, keep_alive_us, concurrency, cold_us, seed, function):
    """Times of the cold starts of one function's calls (int64[n], ascending).

    An arrival takes the most recently used ready pod with fewer than `concurrency` requests in flight, or starts a pod,
    which is ready after `cold_us[mix64(seed, function, k) % n]` and runs that request. A pod idle for longer than the
    keep-alive is gone.
    """
    if concurrency == 1:
        return _count_single(arrive, run, keep_alive_us, cold_us, seed, function)
    return _count_shared(arrive, run, keep_alive_us, concurrency, cold_us, seed, function)


@njit(cache=True, nogil=True)
def _count_single(arrive, run, keep_alive_us, cold_us, seed, function):
    # Pods without a number: a heap of when busy ones end, and a stack of when idle ones fell idle, the latest on top.
    busy = [np.int64(0)]
    busy.clear()
    idle = np.empty(64, dtype=np.int64)
    bottom, top, cold = 0, 0, 0
    times = np.empty(len(arrive), dtype=np.int64)
    for i in range(len(arrive)):
        now = arrive[i]
        while len(busy) > 0 and busy[0] <= now:
            if top == len(idle):
                larger = np.empty(2 * (top - bottom) + 64, dtype=np.int64)
                larger[: top - bottom] = idle[bottom:top]
                idle, bottom, top = larger, 0, top - bottom
            idle[top] = heapq.heappop(busy)
            top += 1
        while bottom < top and idle[bottom] + keep_alive_us < now:
            bottom += 1
        begin = now
        if top > bottom:
            top -= 1
        else:
            begin += cold_us[np.int64(mix64(seed, function, cold) % np.uint64(len(cold_us)))]
            times[cold] = now
            cold += 1
        heapq.heappush(busy, begin + run[i])
    return times[:cold].copy()


@njit(cache=True, nogil=True)
def _count_shared(arrive, run, keep_alive_us, concurrency, cold_us, seed, function):
    # Columns of `pods`: requests in flight, last use, ready. `live` lists living pods, `free` numbers to take.
    pods = np.zeros((4096, 3), dtype=np.int64)
    live = np.empty(4096, dtype=np.int64)
    free = np.arange(4096)[::-1].copy()
    num_live, num_free, cold = 0, 4096, 0
    busy = [(np.int64(0), np.int64(0))]
    busy.clear()
    times = np.empty(len(arrive), dtype=np.int64)
    for i in range(len(arrive)):
        now = arrive[i]
        while len(busy) > 0 and busy[0][0] <= now:
            end, pod = heapq.heappop(busy)
            pods[pod, 0] -= 1
            pods[pod, 1] = max(pods[pod, 1], end)
        best, k = -1, 0
        while k < num_live:
            pod = live[k]
            if pods[pod, 0] == 0 and pods[pod, 1] + keep_alive_us < now:
                free[num_free] = pod
                num_free += 1
                num_live -= 1
                live[k] = live[num_live]
                continue
            if pods[pod, 2] <= now and pods[pod, 0] < concurrency and (best < 0 or pods[pod, 1] > pods[best, 1]):
                best = pod
            k += 1
        begin = now
        if best < 0:
            begin += cold_us[np.int64(mix64(seed, function, cold) % np.uint64(len(cold_us)))]
            times[cold] = now
            cold += 1
            if num_free == 0:
                # A candidate that needs thousands of shared pods is wrong anyway; what follows counts as cold.
                times[cold : cold + len(arrive) - i - 1] = arrive[i + 1 :]
                return times[: cold + len(arrive) - i - 1].copy()
            num_free -= 1
            best = free[num_free]
            live[num_live] = best
            num_live += 1
            pods[best, 0], pods[best, 2] = 0, begin
        pods[best, 0] += 1
        pods[best, 1] = now
        heapq.heappush(busy, (begin + run[i], best))
    return times[:cold].copy()
