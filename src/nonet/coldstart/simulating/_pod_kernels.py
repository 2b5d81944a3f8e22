"""Pods: their rows, the two lists of each function, and the time that they cost.

Every function has a list of all its live pods, oldest first (P_PREV, P_NEXT), and one of its ready pods with a free
slot, most recently used first (P_FREE_PREV, P_FREE_NEXT). Tables are passed one by one here: a kernel that takes few
arrays is called fast, and these are called for every request.
"""

from __future__ import annotations

import numpy as np

from nonet.coldstart.simulating.layout import (
    ALIVE,
    F_BUSY_US,
    F_FIRST,
    F_FREE_FIRST,
    F_FREE_LAST,
    F_IDLE,
    F_IDLE_US,
    F_LAST,
    F_LIVE,
    F_MEMORY,
    F_START_US,
    F_STARTING,
    F_USES,
    FREE,
    H_UTILITY,
    IDLE,
    L_ALLOCATION,
    L_CREATE,
    L_END,
    L_FUNCTION,
    L_LAST_END,
    L_ORIGIN,
    L_READY,
    L_USES,
    MINUTE_US,
    N_END,
    N_FREE_POD,
    N_FREE_PODS,
    N_IDLE_MB,
    N_LOG,
    N_RECORD_PODS,
    N_SAMPLE,
    N_START,
    N_UNUSED,
    N_USED_MB,
    N_WASTED,
    NEVER,
    NONE,
    P_BUSY_SINCE,
    P_CREATE,
    P_DEADLINE,
    P_EXPIRE_AT,
    P_FREE_NEXT,
    P_FREE_PREV,
    P_FUNCTION,
    P_HOLD,
    P_IDLE_SINCE,
    P_INDEX,
    P_INFLIGHT,
    P_LAST_END,
    P_LISTED,
    P_LOG,
    P_NEXT,
    P_ORIGIN,
    P_PREV,
    P_READY,
    P_STATE,
    P_UNTIL,
    P_USES,
    P_VICTIM_ORDER,
    PREWARMED,
    SPECULATIVE,
    STARTING,
    T_PART,
    T_WHOLE,
)
from nonet.common.kernels import inlined_kernel, kernel

_BIN_OFFSET = 16416  # (1023 + 4) * 16 - 16: the bin of 16 is 16


@inlined_kernel
def bin_of(value):
    """The bin of an integer >= 0: itself below 16, else 16 bins an octave (so the edges are within 1/16)."""
    if value < 16:
        return np.int64(value)
    return (np.float64(value).view(np.int64) >> 48) - _BIN_OFFSET


@inlined_kernel
def within(nums, time_us):
    """The moment of the window that is nearest to a time."""
    return min(max(time_us, nums[N_START]), nums[N_END])


@kernel
def count_alive(nums, samples, course, time_us, sign):
    """A pod begins (sign 1) or ends (-1) to be alive; what lies outside of the window counts at its edge."""
    since = within(nums, time_us) - nums[N_START]
    samples[(since + nums[N_SAMPLE] - 1) // nums[N_SAMPLE]] += sign
    minute = since // MINUTE_US
    course[T_PART, minute] += sign * ((minute + 1) * MINUTE_US - since)
    course[T_WHOLE, minute + 1] += sign


@kernel
def list_free(fn, pods, f, pod):
    """Put a pod at the front of its function's list of pods with a free slot, wherever it was."""
    if fn[f, F_FREE_FIRST] == pod:
        return
    if pods[pod, P_LISTED]:
        unlist_free(fn, pods, f, pod)
    first = fn[f, F_FREE_FIRST]
    pods[pod, P_FREE_PREV] = NONE
    pods[pod, P_FREE_NEXT] = first
    if first == NONE:
        fn[f, F_FREE_LAST] = pod
    else:
        pods[first, P_FREE_PREV] = pod
    fn[f, F_FREE_FIRST] = pod
    pods[pod, P_LISTED] = 1


@kernel
def unlist_free(fn, pods, f, pod):
    """Take a pod out of that list, if it is in it."""
    if not pods[pod, P_LISTED]:
        return
    before, after = pods[pod, P_FREE_PREV], pods[pod, P_FREE_NEXT]
    if before == NONE:
        fn[f, F_FREE_FIRST] = after
    else:
        pods[before, P_FREE_NEXT] = after
    if after == NONE:
        fn[f, F_FREE_LAST] = before
    else:
        pods[after, P_FREE_PREV] = before
    pods[pod, P_LISTED] = 0


@kernel
def new_pod(nums, fn, pods, log, samples, course, f, now, allocation_us, rest_us, origin):
    """A starting pod of function f without a request; its row. The caller has made room."""
    pod = nums[N_FREE_POD]
    nums[N_FREE_POD] = pods[pod, P_NEXT]
    nums[N_FREE_PODS] -= 1
    row = pods[pod]
    row[:] = 0
    row[P_STATE] = STARTING
    row[P_FUNCTION] = f
    row[P_CREATE] = now
    row[P_READY] = now + allocation_us + rest_us
    row[P_ORIGIN] = origin
    row[P_EXPIRE_AT] = NEVER
    row[P_HOLD] = -NEVER
    row[P_UNTIL] = -NEVER
    row[P_LAST_END] = NONE
    row[P_INDEX] = NONE
    row[P_VICTIM_ORDER] = NONE
    last = fn[f, F_LAST]
    row[P_PREV] = last
    row[P_NEXT] = NONE
    if last == NONE:
        fn[f, F_FIRST] = pod
    else:
        pods[last, P_NEXT] = pod
    fn[f, F_LAST] = pod
    fn[f, F_LIVE] += 1
    fn[f, F_STARTING] += 1
    nums[N_USED_MB] += fn[f, F_MEMORY]
    count_alive(nums, samples, course, now, 1)
    if nums[N_RECORD_PODS]:
        at = nums[N_LOG]
        nums[N_LOG] = at + 1
        row[P_LOG] = at
        log[at, L_FUNCTION] = f
        log[at, L_CREATE] = now
        log[at, L_READY] = row[P_READY]
        log[at, L_LAST_END] = NONE
        log[at, L_END] = NONE
        log[at, L_ALLOCATION] = allocation_us
        log[at, L_ORIGIN] = origin
        log[at, L_USES] = 0
    return pod


@kernel
def become_ready(nums, fn, pods, pod, now):
    """A starting pod is ready: its starting time is accounted."""
    f = pods[pod, P_FUNCTION]
    pods[pod, P_STATE] = ALIVE
    fn[f, F_STARTING] -= 1
    fn[f, F_START_US] += within(nums, now) - within(nums, pods[pod, P_CREATE])
    pods[pod, P_BUSY_SINCE] = now


@kernel
def become_idle(nums, fn, pods, pod, now, deadline):
    """A ready pod without requests begins to idle, until `deadline`."""
    f = pods[pod, P_FUNCTION]
    fn[f, F_BUSY_US] += within(nums, now) - within(nums, pods[pod, P_BUSY_SINCE])
    fn[f, F_IDLE] += 1
    nums[N_IDLE_MB] += fn[f, F_MEMORY]
    pods[pod, P_STATE] = IDLE
    pods[pod, P_IDLE_SINCE] = now
    pods[pod, P_DEADLINE] = deadline


@kernel
def stop_idling(nums, fn, pods, pod, now):
    """An idle pod gets a request or goes: its idle time is accounted."""
    f = pods[pod, P_FUNCTION]
    fn[f, F_IDLE_US] += within(nums, now) - within(nums, pods[pod, P_IDLE_SINCE])
    fn[f, F_IDLE] -= 1
    nums[N_IDLE_MB] -= fn[f, F_MEMORY]
    pods[pod, P_STATE] = ALIVE
    pods[pod, P_BUSY_SINCE] = now


@kernel
def delete_pod(nums, fn, pods, log, samples, course, counts, pod, now):
    """Delete an idle pod at `now` (its deadline when it expires); at NEVER it outlives the window."""
    f = pods[pod, P_FUNCTION]
    stop_idling(nums, fn, pods, pod, now)
    unlist_free(fn, pods, f, pod)
    before, after = pods[pod, P_PREV], pods[pod, P_NEXT]
    if before == NONE:
        fn[f, F_FIRST] = after
    else:
        pods[before, P_NEXT] = after
    if after == NONE:
        fn[f, F_LAST] = before
    else:
        pods[after, P_PREV] = before
    fn[f, F_LIVE] -= 1
    fn[f, F_USES] -= pods[pod, P_USES]
    nums[N_USED_MB] -= fn[f, F_MEMORY]
    count_alive(nums, samples, course, now, -1)
    _count_utility(nums, pods, counts, pod)
    if nums[N_RECORD_PODS]:
        at = pods[pod, P_LOG]
        log[at, L_LAST_END] = pods[pod, P_LAST_END]
        log[at, L_END] = now if now < NEVER else NONE
        log[at, L_USES] = pods[pod, P_USES]
    pods[pod, P_STATE] = FREE
    pods[pod, P_VICTIM_ORDER] = NONE
    pods[pod, P_EXPIRE_AT] = NEVER
    pods[pod, P_NEXT] = nums[N_FREE_POD]
    nums[N_FREE_POD] = pod
    nums[N_FREE_PODS] += 1


@kernel
def _count_utility(nums, pods, counts, pod):
    """Useful lifetime (last end - ready) over cold start time, in thousandths; pods that nobody used."""
    useful = 0
    if pods[pod, P_USES]:
        useful = pods[pod, P_LAST_END] - pods[pod, P_READY]
    elif pods[pod, P_ORIGIN] == PREWARMED:
        nums[N_WASTED] += 1
    elif pods[pod, P_ORIGIN] == SPECULATIVE:
        nums[N_UNUSED] += 1
    cold = max(pods[pod, P_READY] - pods[pod, P_CREATE], 1)
    counts[H_UTILITY, bin_of(min(useful, NEVER // 1000) * 1000 // cold)] += 1


@kernel
def pick_pod(fn, pods, f, rule):
    """The ready pod of f with a free slot that serves next, or -1; rule: 0 mru, 1 oldest, 2 newest, 3 least loaded."""
    best = fn[f, F_FREE_FIRST]
    if best == NONE or rule == 0:
        return best
    if rule == 3:
        pod = pods[best, P_FREE_NEXT]
        while pod != NONE:
            if pods[pod, P_INFLIGHT] < pods[best, P_INFLIGHT]:
                best = pod
            pod = pods[pod, P_FREE_NEXT]
        return best
    pod = fn[f, F_FIRST] if rule == 1 else fn[f, F_LAST]
    column = P_NEXT if rule == 1 else P_PREV
    while pod != NONE and not pods[pod, P_LISTED]:
        pod = pods[pod, column]
    return pod
