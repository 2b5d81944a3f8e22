"""The Knative autoscaler for many revisions at once; `kpa.KpaDecider` says the same of one."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from nonet.common.kernels import kernel

NOT_PANICKING = -(1 << 62)
DIGITS = 1e6


class KpaArrays(NamedTuple):
    """State of F revisions.

    Attributes:
        buckets: float64 (F, W), request-seconds of the last W buckets, a ring over the stable window; a bucket is one
            or two seconds long and ends at the second that it is filled.
        panic_since: int64 (F,) second of the last surge, or NOT_PANICKING.
        max_panic_pods: int64 (F,).
        desired, excess: int64 (F,), pods wanted and excess burst capacity of the last decision.
        stable_from, panic_from: int64 (F,), second of the first record in each window; a window without a record for
            its whole length begins anew.
    """

    buckets: np.ndarray
    panic_since: np.ndarray
    max_panic_pods: np.ndarray
    desired: np.ndarray
    excess: np.ndarray
    stable_from: np.ndarray
    panic_from: np.ndarray


@kernel
def window_mean(buckets: np.ndarray, second: int, length_s: int, bucket_s: int, first: int) -> float:
    """Mean over the last `length_s` seconds, that of `second` included, or over as many as there are since `first`.

    `length_s` and `second` are multiples of `bucket_s`. Second 0 is a bucket of its own.
    """
    newest = second // bucket_s
    total = 0.0
    for back in range(min(length_s // bucket_s, newest + 1)):
        total += buckets[(newest - back) % len(buckets)]
    return math.floor(total / max(min(length_s, second - first + 1), 1) * DIGITS) / DIGITS


@njit(cache=True, nogil=True)
def kpa_decide(
    state: KpaArrays,
    second: int,
    ready: np.ndarray,
    target: np.ndarray,
    capacity: np.ndarray,
    numbers: tuple[int, int, float, float, float, float, int],
    active: np.ndarray,
) -> None:
    """Decide for every active revision at `second`.

    `ready` int64 (F,), `target` and `capacity` float64 (F,), `active` bool (F,): an inactive one wants 0 pods.
    `numbers`: seconds of a bucket, panic window in seconds, panic threshold, largest factors up and down, target burst
    capacity, activation scale.
    """
    bucket_s, panic_s, threshold, max_up, max_down, burst, activation = numbers
    stable_s = state.buckets.shape[1] * bucket_s
    for f in range(len(ready)):
        if not active[f]:
            state.desired[f] = 0
            state.panic_since[f] = NOT_PANICKING
            state.max_panic_pods[f] = 0
            continue
        base = max(1, ready[f])
        stable = window_mean(state.buckets[f], second, stable_s, bucket_s, state.stable_from[f])
        panic = window_mean(state.buckets[f], second, panic_s, bucket_s, state.panic_from[f])
        wants_stable = math.ceil(stable / target[f])
        wants_panic = math.ceil(panic / target[f])
        low = math.floor(base / max_down)
        high = math.ceil(max_up * base)
        pods_stable = min(max(wants_stable, low), high)
        pods_panic = min(max(wants_panic, low), high)
        if activation > 1 and wants_stable > 0:
            pods_stable = max(pods_stable, activation)
        if activation > 1 and wants_panic > 0:
            pods_panic = max(pods_panic, activation)
        if wants_panic / base >= threshold:
            state.panic_since[f] = second
        elif state.panic_since[f] != NOT_PANICKING and state.panic_since[f] + stable_s < second:
            state.panic_since[f] = NOT_PANICKING
            state.max_panic_pods[f] = 0
        if state.panic_since[f] != NOT_PANICKING:
            state.max_panic_pods[f] = max(state.max_panic_pods[f], pods_stable, pods_panic)
            pods_stable = state.max_panic_pods[f]
        state.desired[f] = pods_stable
        if burst < 0:
            state.excess[f] = -1
        elif burst == 0:
            state.excess[f] = 0
        else:
            state.excess[f] = math.floor(ready[f] * capacity[f] - burst - panic)
