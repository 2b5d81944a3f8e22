"""How long the pod had been idle that each call finds, when no pod is ever deleted."""

from __future__ import annotations

import numpy as np
from numba import njit

NO_POD = np.int64(-1)


@njit(cache=True, nogil=True)
def idle_gaps_kernel(arrive_us: np.ndarray, run_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Idle times met by the calls (n,) of one function, one request a pod, most recently used pod first.

    Returns (n,) idle time of the pod that serves call i, NO_POD when none is idle, and the moments since which the pods
    left over at the end are idle. Starts take no time. A pod that ends at t serves an arrival at t.
    """
    n = len(arrive_us)
    gaps = np.empty(n, np.int64)
    running = np.empty(n, np.int64)  # a binary heap of ends
    num_running = 0
    idle = np.empty(n, np.int64)  # a stack, the last one idle for the shortest time
    num_idle = 0
    for i in range(n):
        while num_running > 0 and running[0] <= arrive_us[i]:
            idle[num_idle] = running[0]
            num_idle += 1
            num_running -= 1
            sift_down(running, num_running, running[num_running])
        if num_idle > 0:
            num_idle -= 1
            gaps[i] = arrive_us[i] - idle[num_idle]
        else:
            gaps[i] = NO_POD
        sift_up(running, num_running, arrive_us[i] + run_us[i])
        num_running += 1
    left = np.empty(num_idle + num_running, np.int64)
    left[:num_idle] = idle[:num_idle]
    left[num_idle:] = running[:num_running]
    return gaps, left


@njit(cache=True, nogil=True)
def sift_up(heap: np.ndarray, at: int, value: int) -> None:
    """Put `value` into the min-heap `heap[:at]`, which grows by one."""
    while at > 0 and heap[(at - 1) // 2] > value:
        heap[at] = heap[(at - 1) // 2]
        at = (at - 1) // 2
    heap[at] = value


@njit(cache=True, nogil=True)
def sift_down(heap: np.ndarray, size: int, value: int) -> None:
    """Put `value` in the place of the smallest of the min-heap `heap[:size + 1]`, which has shrunk to `size`."""
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= value:
            break
        heap[at] = heap[child]
        at = child
    if size > 0:
        heap[at] = value
