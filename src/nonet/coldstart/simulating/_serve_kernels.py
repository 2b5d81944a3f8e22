"""A request meets a pod: dispatch, waiting, starting, making room."""

from __future__ import annotations

import numpy as np

from nonet.coldstart._random_kernels import mix64
from nonet.coldstart.simulating._event_kernels import event_key, pop_victim, push_event, push_victim
from nonet.coldstart.simulating._pod_kernels import (
    become_idle,
    bin_of,
    delete_pod,
    list_free,
    new_pod,
    stop_idling,
    unlist_free,
)
from nonet.coldstart.simulating._rule_kernels import priority_of
from nonet.coldstart.simulating.layout import (
    C_REPLENISH,
    C_SCRATCH,
    C_SCRATCH_TAKEN,
    COLD,
    DROPPED,
    EXPIRE,
    F_ACTIVE,
    F_ACTIVE_SINCE,
    F_ACTIVE_US,
    F_COLD,
    F_COLD_AT,
    F_COLD_END,
    F_DEADLINE,
    F_DROPPED,
    F_IN_FLIGHT,
    F_LIMIT,
    F_MEMORY,
    F_PODS,
    F_POOL,
    F_QUEUE_HEAD,
    F_QUEUE_TAIL,
    F_QUEUED,
    F_SPARE,
    F_STARTS,
    F_USES,
    FINISH,
    H_RESPONSE,
    H_WAIT,
    IDLE,
    N_ALLOCATION_US,
    N_CAP_MB,
    N_DROPPED,
    N_END,
    N_EVICTION,
    N_FREE_QUEUE,
    N_FREE_QUEUES,
    N_IDLE_MB,
    N_MISSES,
    N_OVERHEAD,
    N_POOL_STAGES,
    N_PREWARMS,
    N_RECORD_REQUESTS,
    N_REST_US,
    N_SEED,
    N_STARTS,
    N_USE_ORDER,
    N_USED_MB,
    N_VICTIMS,
    N_WARM,
    NONE,
    P_ARRIVE,
    P_DEADLINE,
    P_EXPIRE_AT,
    P_FUNCTION,
    P_INDEX,
    P_INFLIGHT,
    P_ORDER,
    P_READY,
    P_RUN,
    P_STATE,
    P_USES,
    P_VICTIM_ORDER,
    PREWARMED,
    Q_ARRIVE,
    Q_FUNCTION,
    Q_INDEX,
    Q_NEXT,
    Q_RUN,
    Q_STARTED,
    R_KIND,
    R_START,
    READY,
    S_AT,
    S_HEAD,
    S_IDLE_US,
    S_LATENCY,
    S_SIZE,
    S_TAKEN,
)
from nonet.common.kernels import kernel


@kernel
def change_active(fn, f, now, by):
    """`by` more requests of f are in flight or wait."""
    fn[f, F_ACTIVE_US] += fn[f, F_ACTIVE] * (now - fn[f, F_ACTIVE_SINCE])
    fn[f, F_ACTIVE_SINCE] = now
    fn[f, F_ACTIVE] += by


@kernel
def dispatch(s, pod, arrive_us, run_us, index, kind, now):
    """A request begins to run on a ready pod with a free slot."""
    nums, fn, pods = s.nums, s.fn, s.pods
    f = pods[pod, P_FUNCTION]
    if pods[pod, P_STATE] == IDLE:
        stop_idling(nums, fn, pods, pod, now)
    pods[pod, P_INFLIGHT] += 1
    pods[pod, P_USES] += 1
    fn[f, F_USES] += 1
    fn[f, F_IN_FLIGHT] += 1
    touch(s, pod)
    if pods[pod, P_INFLIGHT] < fn[f, F_LIMIT]:
        list_free(fn, pods, f, pod)
    else:
        unlist_free(fn, pods, f, pod)
    if s.slowdown[f] > 0.0 and pods[pod, P_INFLIGHT] > 1:
        run_us = np.int64(run_us * (1.0 + s.slowdown[f] * (pods[pod, P_INFLIGHT] - 1)))
    start = now if kind == COLD else now + nums[N_OVERHEAD]
    push_event(nums, s.events, event_key(nums, start + run_us, FINISH), pod)
    wait = start - arrive_us
    nums[N_WARM + kind] += 1
    if kind == COLD:
        fn[f, F_COLD] += 1
    if wait > fn[f, F_DEADLINE]:
        nums[N_MISSES] += 1
    s.counts[H_RESPONSE + kind, bin_of(wait + run_us)] += 1
    s.counts[H_WAIT + kind, bin_of(wait)] += 1
    if nums[N_RECORD_REQUESTS]:
        s.outcomes[index, R_KIND] = kind
        s.outcomes[index, R_START] = start


@kernel
def touch(s, pod):
    """The pod was used: its place among the victims, when there is a memory cap."""
    nums = s.nums
    nums[N_USE_ORDER] += 1
    s.pods[pod, P_ORDER] = nums[N_USE_ORDER]
    if nums[N_CAP_MB] >= 0:
        s.priority[pod] = priority_of(s.clock[0], s.fn, s.cost, nums[N_EVICTION], s.pods[pod, P_FUNCTION])


@kernel
def begin_idle(s, pod, now, deadline):
    """A pod without requests waits for some until `deadline`; its expiry and its place among the victims are noted.

    An expiry that is noted already for an earlier time notes the later one when it comes. The same holds for victims
    as long as the priority has not fallen.
    """
    nums, pods = s.nums, s.pods
    become_idle(nums, s.fn, pods, pod, now, deadline)
    nums[N_USE_ORDER] += 1
    pods[pod, P_ORDER] = nums[N_USE_ORDER]
    note_expiry(s, pod)
    # The entry that is there already was made at or below its present priority, unless it fell since.
    if nums[N_CAP_MB] >= 0 and (pods[pod, P_VICTIM_ORDER] == NONE or s.priority[pod] < s.noted[pod]):
        _note_victim(s, pod)


@kernel
def _note_victim(s, pod):
    s.pods[pod, P_VICTIM_ORDER] = s.pods[pod, P_ORDER]
    s.noted[pod] = s.priority[pod]
    push_victim(s.nums, s.victims, s.victim_priority, s.pods, s.priority[pod], s.pods[pod, P_ORDER], pod)


@kernel
def note_expiry(s, pod):
    """See that an event comes no later than 1 us after the deadline of an idle pod, if that lies in the window."""
    nums, pods = s.nums, s.pods
    at = pods[pod, P_DEADLINE] + 1
    if at <= nums[N_END] and at < pods[pod, P_EXPIRE_AT]:
        pods[pod, P_EXPIRE_AT] = at
        push_event(nums, s.events, event_key(nums, at, EXPIRE), pod)


@kernel
def make_room(s, size_mb, may_evict, now):
    """Whether `size_mb` fit under the memory cap, after evicting idle pods if need be; none if that cannot help."""
    nums, pods = s.nums, s.pods
    cap = nums[N_CAP_MB]
    if cap < 0 or nums[N_USED_MB] + size_mb <= cap:
        return True
    if not may_evict or nums[N_USED_MB] - nums[N_IDLE_MB] + size_mb > cap:
        return False
    while nums[N_USED_MB] + size_mb > cap and nums[N_VICTIMS] > 0:
        pod, order = s.victims[0, 1], s.victims[0, 0]
        pop_victim(nums, s.victims, s.victim_priority)
        if pods[pod, P_VICTIM_ORDER] != order:
            continue
        pods[pod, P_VICTIM_ORDER] = NONE
        if pods[pod, P_STATE] != IDLE:
            continue
        if pods[pod, P_ORDER] != order:
            _note_victim(s, pod)
            continue
        s.clock[0] = s.priority[pod]
        delete_pod(nums, s.fn, pods, s.log, s.samples, s.course, s.counts, pod, now)
    return nums[N_USED_MB] + size_mb <= cap


@kernel
def start_pod(s, f, now, origin):
    """Start a pod of f, its memory being there; its row. It takes the next cold time of f, and a pod of its pool."""
    nums, fn = s.nums, s.fn
    count = fn[f, F_PODS]
    fn[f, F_PODS] = count + 1
    first = fn[f, F_COLD_AT]
    sample = first
    if fn[f, F_COLD_END] - first > 1:
        sample += np.int64(mix64(nums[N_SEED], f, count) % np.uint64(fn[f, F_COLD_END] - first))
    allocation_us, rest_us = s.cold[sample, 0], s.cold[sample, 1]
    if nums[N_POOL_STAGES] > 0 and fn[f, F_POOL] >= 0:
        allocation_us = take_from_pool(s, fn[f, F_POOL], now)
    nums[N_ALLOCATION_US] += allocation_us
    nums[N_REST_US] += rest_us
    if origin == PREWARMED:
        nums[N_PREWARMS] += 1
    else:
        nums[N_STARTS] += 1
        fn[f, F_STARTS] += 1
    pod = new_pod(nums, fn, s.pods, s.log, s.samples, s.course, f, now, allocation_us, rest_us, origin)
    fn[f, F_SPARE] += fn[f, F_LIMIT]
    push_event(nums, s.events, event_key(nums, s.pods[pod, P_READY], READY), pod)
    return pod


@kernel
def take_from_pool(s, pool, now):
    """Take a pod of a class from the first stage that has one; its allocation time, that of scratch when none has."""
    pools, stages = s.pools, s.nums[N_POOL_STAGES]
    for row in range(pool * stages, (pool + 1) * stages):
        if pools[row, S_SIZE] == 0:
            continue
        at = pools[row, S_AT] + pools[row, S_HEAD]
        if s.pool_ready[at] <= now:
            end = s.nums[N_END]
            pools[row, S_IDLE_US] += min(now, end) - min(s.pool_ready[at], end)
            s.pool_ready[at] = now + s.pool_classes[pool, C_REPLENISH]
            pools[row, S_HEAD] = (pools[row, S_HEAD] + 1) % pools[row, S_SIZE]
            pools[row, S_TAKEN] += 1
            return pools[row, S_LATENCY]
    s.pool_classes[pool, C_SCRATCH_TAKEN] += 1
    return s.pool_classes[pool, C_SCRATCH]


@kernel
def start_for_request(s, f, arrive_us, run_us, index, now, origin, bound):
    """Start a pod because of a request, `bound` to it or not; False when there is no room for it."""
    if not make_room(s, s.fn[f, F_MEMORY], True, now):
        return False
    pod = start_pod(s, f, now, origin)
    if bound:
        s.pods[pod, P_ARRIVE] = arrive_us
        s.pods[pod, P_RUN] = run_us
        s.pods[pod, P_INDEX] = index
        s.fn[f, F_SPARE] -= 1
        s.fn[f, F_IN_FLIGHT] += 1
    return True


@kernel
def take_row(nums, queue, f, arrive_us, run_us, index, started):
    """A row of the table of waiting requests."""
    row = nums[N_FREE_QUEUE]
    nums[N_FREE_QUEUE] = queue[row, Q_NEXT]
    nums[N_FREE_QUEUES] -= 1
    queue[row, Q_NEXT] = NONE
    queue[row, Q_FUNCTION] = f
    queue[row, Q_ARRIVE] = arrive_us
    queue[row, Q_RUN] = run_us
    queue[row, Q_INDEX] = index
    queue[row, Q_STARTED] = started
    return row


@kernel
def free_row(nums, queue, row):
    """The inverse of `take_row`."""
    queue[row, Q_NEXT] = nums[N_FREE_QUEUE]
    nums[N_FREE_QUEUE] = row
    nums[N_FREE_QUEUES] += 1


@kernel
def enqueue(s, f, arrive_us, run_us, index, started):
    """A request waits at the end of its function's queue."""
    row = take_row(s.nums, s.queue, f, arrive_us, run_us, index, started)
    if s.fn[f, F_QUEUE_HEAD] == NONE:
        s.fn[f, F_QUEUE_HEAD] = row
    else:
        s.queue[s.fn[f, F_QUEUE_TAIL], Q_NEXT] = row
    s.fn[f, F_QUEUE_TAIL] = row
    s.fn[f, F_QUEUED] += 1


@kernel
def serve_waiting(s, pod, now, kind):
    """The first waiting request of the pod's function begins to run on it; one that started a pod itself, on a pod that
    just got ready, is cold."""
    f = s.pods[pod, P_FUNCTION]
    row = s.fn[f, F_QUEUE_HEAD]
    s.fn[f, F_QUEUE_HEAD] = s.queue[row, Q_NEXT]
    s.fn[f, F_QUEUED] -= 1
    arrive_us, run_us, index = s.queue[row, Q_ARRIVE], s.queue[row, Q_RUN], s.queue[row, Q_INDEX]
    own = s.queue[row, Q_STARTED]
    free_row(s.nums, s.queue, row)
    dispatch(s, pod, arrive_us, run_us, index, COLD if own and kind == 2 else kind, now)


@kernel
def drop(s, f, index, now):
    """A request finds no pod and no memory for one."""
    s.nums[N_DROPPED] += 1
    s.fn[f, F_DROPPED] += 1
    change_active(s.fn, f, now, -1)
    if s.nums[N_RECORD_REQUESTS]:
        s.outcomes[index, R_KIND] = DROPPED
        s.outcomes[index, R_START] = NONE
