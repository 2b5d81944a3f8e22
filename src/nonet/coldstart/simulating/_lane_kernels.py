"""Lanes: each function by itself, without a common order of events. Fixed keep-alive, no memory cap, a pod for every
arrival without a free slot.

What happens to a function is worked off when its next request arrives, in the same order as the coupled engine would
do it.
"""

from __future__ import annotations

import numpy as np

from nonet.coldstart._random_kernels import mix64
from nonet.coldstart.simulating._pod_kernels import (
    become_idle,
    become_ready,
    bin_of,
    delete_pod,
    list_free,
    new_pod,
    pick_pod,
    stop_idling,
    unlist_free,
)
from nonet.coldstart.simulating.layout import (
    COLD,
    DONE,
    F_COLD,
    F_COLD_AT,
    F_COLD_END,
    F_DEADLINE,
    F_FLIGHT,
    F_FREE_FIRST,
    F_FREE_LAST,
    F_KEEP_ALIVE,
    F_LIMIT,
    F_PODS,
    F_REQUESTS,
    F_STARTS,
    GROW,
    H_RESPONSE,
    H_WAIT,
    IDLE,
    N_ALLOCATION_US,
    N_CURSOR,
    N_END,
    N_FREE_FLIGHT,
    N_FREE_FLIGHTS,
    N_FREE_PODS,
    N_LOG,
    N_MISSES,
    N_OVERHEAD,
    N_PICK,
    N_RECORD_PODS,
    N_RECORD_REQUESTS,
    N_REST_US,
    N_SEED,
    N_SEQ,
    N_STARTS,
    N_WARM,
    NEVER,
    NONE,
    ON_DEMAND,
    P_ARRIVE,
    P_DEADLINE,
    P_FREE_NEXT,
    P_FREE_PREV,
    P_FUNCTION,
    P_IDLE_SINCE,
    P_INDEX,
    P_INFLIGHT,
    P_LAST_END,
    P_READY,
    P_RUN,
    P_STATE,
    P_USES,
    R_KIND,
    R_START,
    WARM,
    X_CHILD,
    X_KEY,
    X_POD,
    X_SEQ,
    X_SIBLING,
)
from nonet.common.kernels import inlined_kernel, kernel


@kernel
def run_lanes_kernel(s, arrive_us, run_us, function, base, shard, num_shards):
    """Handle a block of calls from N_CURSOR on, those of functions f with `f % num_shards == shard`.

    Returns DONE, or GROW when a table is nearly full (call again).
    """
    nums, fn, pods, flights, counts = s.nums, s.fn, s.pods, s.flights, s.counts
    at = nums[N_CURSOR]
    answer = DONE
    rule = nums[N_PICK]
    num_thresholds = len(s.thresholds)
    record_pods, log_size = nums[N_RECORD_PODS], len(s.log)
    while at < len(arrive_us):
        if nums[N_FREE_FLIGHTS] < 1 or nums[N_FREE_PODS] < 1 or (record_pods and nums[N_LOG] == log_size):
            answer = GROW
            break
        f, now = np.int64(function[at]), arrive_us[at]
        if num_shards > 1 and f % num_shards != shard:
            at += 1
            continue
        fn[f, F_REQUESTS] += 1
        _work_off(nums, fn, pods, flights, counts, s.outcomes, f, 2 * now + 1)
        last = fn[f, F_FREE_LAST]
        if last != NONE and (pods[last, P_STATE] != IDLE or pods[last, P_DEADLINE] < now):
            _delete_expired(s, f, now)
        pod = pick_pod(fn, pods, f, rule)
        if pod != NONE:
            if num_thresholds > 0 and pods[pod, P_STATE] == IDLE:
                count_gap(s.thresholds, s.gaps, f, now - pods[pod, P_IDLE_SINCE])
            _dispatch(nums, fn, pods, flights, counts, s.outcomes, pod, now, run_us[at], base + at, WARM, now, NONE)
        else:
            _start(s, f, now, run_us[at], base + at)
        at += 1
    nums[N_CURSOR] = at
    return answer


@kernel
def count_gap(thresholds, gaps, f, gap_us):
    """Note an idle gap of f under the number of thresholds that it exceeds."""
    low, high = 0, len(thresholds)
    while low < high:
        middle = (low + high) >> 1
        if thresholds[middle] < gap_us:
            low = middle + 1
        else:
            high = middle
    gaps[f, low, 0] += 1
    gaps[f, low, 1] += gap_us


@kernel
def count_last_gaps(s):
    """Before `finish_lanes`, with keep-alives that never end: idle time from the last use of each pod to the end of the
    window; it is no cold start, so it is noted apart."""
    nums, fn, pods = s.nums, s.fn, s.pods
    for f in range(len(fn)):
        _work_off(nums, fn, pods, s.flights, s.counts, s.outcomes, f, NEVER * 4)
        pod = fn[f, F_FREE_FIRST]
        while pod != NONE:
            idle_us = nums[N_END] - min(pods[pod, P_IDLE_SINCE], nums[N_END])
            for k in range(len(s.thresholds)):
                s.last_gaps[f, k] += min(idle_us, s.thresholds[k])
            pod = pods[pod, P_FREE_NEXT]


@kernel
def finish_lanes(s):
    """After the last call: work off the rest; pods that are left outlive the window or expire."""
    for f in range(len(s.fn)):
        _work_off(s.nums, s.fn, s.pods, s.flights, s.counts, s.outcomes, f, NEVER * 4)
        _delete_expired(s, f, NEVER)


@inlined_kernel
def _work_off(nums, fn, pods, flights, counts, outcomes, f, until_key):
    """Pods of f that got ready and requests that ended up to a moment, in order."""
    while fn[f, F_FLIGHT] != NONE and flights[fn[f, F_FLIGHT], X_KEY] <= until_key:
        _next_flight(nums, fn, pods, flights, counts, outcomes, f)


@kernel
def _next_flight(nums, fn, pods, flights, counts, outcomes, f):
    flight = fn[f, F_FLIGHT]
    fn[f, F_FLIGHT] = _pop_flight(flights, flight)
    now, is_end, pod = flights[flight, X_KEY] >> 1, flights[flight, X_KEY] & 1, flights[flight, X_POD]
    if not is_end:
        become_ready(nums, fn, pods, pod, now)
        arrive_us, run_us, index = pods[pod, P_ARRIVE], pods[pod, P_RUN], pods[pod, P_INDEX]
        _dispatch(nums, fn, pods, flights, counts, outcomes, pod, arrive_us, run_us, index, COLD, now, flight)
        return
    flights[flight, X_SIBLING] = nums[N_FREE_FLIGHT]
    nums[N_FREE_FLIGHT] = flight
    nums[N_FREE_FLIGHTS] += 1
    pods[pod, P_INFLIGHT] -= 1
    pods[pod, P_LAST_END] = now
    list_free(fn, pods, f, pod)
    if pods[pod, P_INFLIGHT] == 0:
        become_idle(nums, fn, pods, pod, now, now + fn[f, F_KEEP_ALIVE])


@kernel
def _delete_expired(s, f, now):
    """Delete idle pods of f whose deadline is past; the keep-alive of a function being constant, the least recently
    used ones.

    At NEVER: all pods, those whose deadline lies beyond the window as outliving it.
    """
    pods = s.pods
    pod = s.fn[f, F_FREE_LAST]
    while pod != NONE:
        before = pods[pod, P_FREE_PREV]
        if pods[pod, P_STATE] == IDLE:
            deadline = pods[pod, P_DEADLINE]
            if deadline >= now and now < NEVER:
                break
            outlives = now == NEVER and deadline >= s.nums[N_END]
            delete_pod(s.nums, s.fn, pods, s.log, s.samples, s.course, s.counts, pod, NEVER if outlives else deadline)
        pod = before


@kernel
def _dispatch(nums, fn, pods, flights, counts, outcomes, pod, arrive_us, run_us, index, kind, now, flight):
    f = pods[pod, P_FUNCTION]
    if pods[pod, P_STATE] == IDLE:
        stop_idling(nums, fn, pods, pod, now)
    inflight = pods[pod, P_INFLIGHT] + 1
    pods[pod, P_INFLIGHT] = inflight
    pods[pod, P_USES] += 1
    if inflight < fn[f, F_LIMIT]:
        list_free(fn, pods, f, pod)
    else:
        unlist_free(fn, pods, f, pod)
    start = now if kind == COLD else now + nums[N_OVERHEAD]
    _push_flight(nums, fn, flights, f, pod, 2 * (start + run_us) + 1, flight)
    wait = start - arrive_us
    nums[N_WARM + kind] += 1
    if wait > fn[f, F_DEADLINE]:
        nums[N_MISSES] += 1
    counts[H_RESPONSE + kind, bin_of(wait + run_us)] += 1
    counts[H_WAIT + kind, bin_of(wait)] += 1
    if nums[N_RECORD_REQUESTS]:
        outcomes[index, R_KIND] = kind
        outcomes[index, R_START] = start


@kernel
def _start(s, f, now, run_us, index):
    nums, fn, pods = s.nums, s.fn, s.pods
    count = fn[f, F_PODS]
    fn[f, F_PODS] = count + 1
    sample = fn[f, F_COLD_AT]
    if fn[f, F_COLD_END] - sample > 1:
        sample += np.int64(mix64(nums[N_SEED], f, count) % np.uint64(fn[f, F_COLD_END] - sample))
    allocation_us, rest_us = s.cold[sample, 0], s.cold[sample, 1]
    nums[N_ALLOCATION_US] += allocation_us
    nums[N_REST_US] += rest_us
    nums[N_STARTS] += 1
    fn[f, F_STARTS] += 1
    fn[f, F_COLD] += 1
    pod = new_pod(nums, fn, pods, s.log, s.samples, s.course, f, now, allocation_us, rest_us, ON_DEMAND)
    pods[pod, P_ARRIVE] = now
    pods[pod, P_RUN] = run_us
    pods[pod, P_INDEX] = index
    _push_flight(nums, fn, s.flights, f, pod, 2 * pods[pod, P_READY], NONE)


@kernel
def _push_flight(nums, fn, flights, f, pod, key, flight):
    """Add to the heap of f, in row `flight` or a free one."""
    if flight == NONE:
        flight = nums[N_FREE_FLIGHT]
        nums[N_FREE_FLIGHT] = flights[flight, X_SIBLING]
        nums[N_FREE_FLIGHTS] -= 1
    flights[flight, X_KEY] = key
    flights[flight, X_SEQ] = nums[N_SEQ]
    nums[N_SEQ] += 1
    flights[flight, X_POD] = pod
    flights[flight, X_CHILD] = NONE
    flights[flight, X_SIBLING] = NONE
    root = fn[f, F_FLIGHT]
    fn[f, F_FLIGHT] = flight if root == NONE else _meld(flights, root, flight)


@inlined_kernel
def _meld(flights, a, b):
    """The root of two heaps joined: the later root becomes the first child of the earlier one."""
    earlier = flights[a, X_KEY] < flights[b, X_KEY] or (
        flights[a, X_KEY] == flights[b, X_KEY] and flights[a, X_SEQ] < flights[b, X_SEQ]
    )
    first = a if earlier else b
    later = b if earlier else a
    flights[later, X_SIBLING] = flights[first, X_CHILD]
    flights[first, X_CHILD] = later
    return first


@kernel
def _pop_flight(flights, root):
    """The root of what is left of a heap without its root: children melded in pairs, then the pairs, last first."""
    child = flights[root, X_CHILD]
    if child == NONE:
        return np.int64(NONE)
    pairs = np.int64(NONE)
    while child != NONE:
        other = flights[child, X_SIBLING]
        flights[child, X_SIBLING] = NONE
        after = np.int64(NONE)
        if other != NONE:
            after = flights[other, X_SIBLING]
            flights[other, X_SIBLING] = NONE
            child = _meld(flights, child, other)
        flights[child, X_SIBLING] = pairs
        pairs = child
        child = after
    whole = pairs
    pairs = flights[whole, X_SIBLING]
    flights[whole, X_SIBLING] = NONE
    while pairs != NONE:
        after = flights[pairs, X_SIBLING]
        flights[pairs, X_SIBLING] = NONE
        whole = _meld(flights, whole, pairs)
        pairs = after
    return whole
