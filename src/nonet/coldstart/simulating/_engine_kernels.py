"""The coupled engine: all functions in one order of events, state carried from block to block (section A6.1).

`run_engine` goes through events and arrivals up to a moment and can stop anywhere in between: when a table is nearly
full (the driver enlarges it) or when a Python policy has to say how long a pod is kept.
"""

from __future__ import annotations

from nonet.coldstart.simulating._event_kernels import event_key, pop_event, push_event
from nonet.coldstart.simulating._pod_kernels import become_ready, delete_pod, list_free, pick_pod, unlist_free
from nonet.coldstart.simulating._rule_kernels import histogram_windows, learn_idle_time
from nonet.coldstart.simulating._serve_kernels import (
    begin_idle,
    change_active,
    dispatch,
    drop,
    enqueue,
    free_row,
    make_room,
    note_expiry,
    serve_waiting,
    start_for_request,
    start_pod,
    take_row,
    touch,
)
from nonet.coldstart.simulating.layout import (
    ALIVE,
    ARRIVAL,
    ASK_IDLE,
    COLD,
    DELAYED,
    DONE,
    EXPIRE,
    F_ACTIVE,
    F_DELAY,
    F_FIRST,
    F_FREE_FIRST,
    F_IN_FLIGHT,
    F_KEEP_ALIVE,
    F_LAST_ARRIVE,
    F_LAST_END,
    F_LIMIT,
    F_LINK_AT,
    F_LINK_END,
    F_LIVE,
    F_MEMORY,
    F_PREWARM_AT,
    F_PREWARM_UNTIL,
    F_QUEUED,
    F_REQUESTS,
    F_SPARE,
    FINISH,
    GROW,
    IDLE,
    K_DELAY,
    K_HOLD,
    K_NEXT,
    KINDS_PER_TIME,
    MINUTE_US,
    N_ASK_POD,
    N_CURSOR,
    N_DELAY_AT,
    N_END,
    N_EVENTS,
    N_FREE_ORDER,
    N_FREE_ORDERS,
    N_FREE_PODS,
    N_FREE_QUEUES,
    N_IDLE_RULE,
    N_LOG,
    N_MARGIN,
    N_MINUTE,
    N_MINUTE_STARTS,
    N_NEED_PODS,
    N_NOW,
    N_PICK,
    N_PUT_OFF,
    N_RECORD_PODS,
    N_REFUSED,
    N_SCALE,
    N_START,
    NEVER,
    NONE,
    O_FUNCTION,
    O_HOLD,
    O_NEXT,
    O_PODS,
    O_UNTIL,
    ON_DEMAND,
    P_ARRIVE,
    P_DEADLINE,
    P_EXPIRE_AT,
    P_FREE_NEXT,
    P_FUNCTION,
    P_HOLD,
    P_INDEX,
    P_INFLIGHT,
    P_LAST_END,
    P_LISTED,
    P_NEXT,
    P_ORIGIN,
    P_RUN,
    P_STATE,
    P_UNTIL,
    PIGGYBACKED,
    PREWARM,
    PREWARMED,
    Q_ARRIVE,
    Q_FUNCTION,
    Q_INDEX,
    Q_RUN,
    READY,
    SPECULATIVE,
    WARM,
)
from nonet.common.kernels import kernel

_START, _PIGGYBACK, _WAIT, _RACE = range(4)
_FIXED, _HISTOGRAM, _ASK = range(3)


@kernel
def run_engine(s, arrive_us, run_us, function, end, base, stop_us, stop_kind):
    """Handle arrivals up to `end` (from N_CURSOR on) and events before (stop_us, stop_kind).

    Arrival k is request `base + k`. Returns DONE, GROW (nothing lost, call again) or ASK_IDLE (answer with
    `answer_idle`, then call again).
    """
    nums, events = s.nums, s.events
    stop = event_key(nums, stop_us, stop_kind)
    at = nums[N_CURSOR]
    while True:
        if _short_of_room(s):
            nums[N_CURSOR] = at
            return GROW
        limit = stop
        if at < end:
            limit = event_key(nums, arrive_us[at], ARRIVAL)
        if nums[N_EVENTS] > 0 and events[0, 0] <= limit:
            answer = _next_event(s)
            if answer != DONE:
                nums[N_CURSOR] = at
                return answer
            continue
        if at == end:
            break
        _arrival(s, function[at], arrive_us[at], run_us[at], base + at)
        at += 1
    nums[N_CURSOR] = at
    return DONE


@kernel
def _short_of_room(s):
    nums = s.nums
    margin = nums[N_MARGIN]
    return (
        nums[N_FREE_PODS] < 1 + nums[N_NEED_PODS]
        or len(s.events) - nums[N_EVENTS] < margin + nums[N_NEED_PODS]
        or nums[N_FREE_QUEUES] < 1
        or nums[N_FREE_ORDERS] < margin
        or (nums[N_RECORD_PODS] and len(s.log) - nums[N_LOG] < 1 + nums[N_NEED_PODS])
    )


@kernel
def _next_event(s):
    nums, events = s.nums, s.events
    key, ref = events[0, 0], events[0, 2]
    now, kind = nums[N_START] + key // KINDS_PER_TIME, key % KINDS_PER_TIME
    if kind == PREWARM and ref >= 0:
        nums[N_NEED_PODS] = s.orders[ref, O_PODS]
        if _short_of_room(s):
            return GROW
        nums[N_NEED_PODS] = 0
    nums[N_NOW] = now
    pop_event(nums, events)
    if kind == FINISH:
        return _finish(s, ref, now)
    if kind == EXPIRE:
        _expire(s, ref, now)
    elif kind == READY:
        return _ready(s, ref, now)
    elif kind == PREWARM:
        _order(s, ref, now)
    else:
        _put_off_arrival(s, ref, now)
    return DONE


@kernel
def _arrival(s, f, now, run_us, index):
    nums, fn = s.nums, s.fn
    nums[N_NOW] = now
    arrive_us = now
    if len(s.routes) > 0:
        arrive_us -= s.routes[f, 1]
        f = s.routes[f, 0]
    fn[f, F_REQUESTS] += 1
    if nums[N_IDLE_RULE] == _HISTOGRAM:
        fn[f, F_PREWARM_AT] = NONE
        if fn[f, F_ACTIVE] == 0 and fn[f, F_LAST_END] != NONE:
            learn_idle_time(fn, s.bins, s.recent, f, now - fn[f, F_LAST_END])
    fn[f, F_LAST_ARRIVE] = now
    change_active(fn, f, now, 1)
    for link in range(fn[f, F_LINK_AT], fn[f, F_LINK_END]):
        due = now + s.links[link, K_DELAY]
        add_order(s, s.links[link, K_NEXT], due, due + s.links[link, K_HOLD], 1, 0)
    pod = pick_pod(fn, s.pods, f, nums[N_PICK])
    if pod != NONE:
        dispatch(s, pod, arrive_us, run_us, index, WARM, now)
        return
    _without_pod(s, f, arrive_us, run_us, index, now, False)


@kernel
def _without_pod(s, f, arrive_us, run_us, index, now, late):
    """No free slot: wait, put off, start, or drop."""
    nums, fn = s.nums, s.fn
    rule = nums[N_SCALE]
    room = fn[f, F_SPARE] - fn[f, F_QUEUED] > 0
    if (rule == _PIGGYBACK and room) or (rule == _WAIT and fn[f, F_LIVE] > 0) or (rule == _RACE and room):
        enqueue(s, f, arrive_us, run_us, index, 0)
        return
    if not late and _put_off(s, f, arrive_us, run_us, index, now):
        return
    if rule == _RACE and fn[f, F_LIVE] > 0:
        started = start_for_request(s, f, arrive_us, run_us, index, now, SPECULATIVE, False)
        enqueue(s, f, arrive_us, run_us, index, 1 if started else 0)
        return
    if not start_for_request(s, f, arrive_us, run_us, index, now, ON_DEMAND, True):
        drop(s, f, index, now)


@kernel
def _put_off(s, f, arrive_us, run_us, index, now):
    """Peak shaving: count the start in its minute, and put it off when there were too many; see `Rules.delay_us`."""
    nums = s.nums
    minute = (now - nums[N_START]) // MINUTE_US
    if minute != nums[N_MINUTE]:
        nums[N_MINUTE] = minute
        nums[N_MINUTE_STARTS] = 0
    nums[N_MINUTE_STARTS] += 1
    if nums[N_MINUTE_STARTS] <= nums[N_DELAY_AT] or s.fn[f, F_DELAY] == 0:
        return False
    until = min(nums[N_START] + (minute + 1) * MINUTE_US, now + s.fn[f, F_DELAY])
    row = take_row(nums, s.queue, f, arrive_us, run_us, index, 0)
    push_event(nums, s.events, event_key(nums, until, ARRIVAL), row)
    nums[N_PUT_OFF] += 1
    return True


@kernel
def _put_off_arrival(s, row, now):
    queue = s.queue
    f, arrive_us, run_us, index = queue[row, Q_FUNCTION], queue[row, Q_ARRIVE], queue[row, Q_RUN], queue[row, Q_INDEX]
    free_row(s.nums, queue, row)
    pod = pick_pod(s.fn, s.pods, f, s.nums[N_PICK])
    if pod != NONE:
        dispatch(s, pod, arrive_us, run_us, index, DELAYED, now)
    else:
        _without_pod(s, f, arrive_us, run_us, index, now, True)


@kernel
def _ready(s, pod, now):
    """A starting pod is ready: its own request, then those that wait, as far as it has slots."""
    nums, fn, pods = s.nums, s.fn, s.pods
    f = pods[pod, P_FUNCTION]
    become_ready(nums, fn, pods, pod, now)
    fn[f, F_SPARE] -= fn[f, F_LIMIT]
    if pods[pod, P_INDEX] != NONE:
        fn[f, F_SPARE] += 1
        fn[f, F_IN_FLIGHT] -= 1
        dispatch(s, pod, pods[pod, P_ARRIVE], pods[pod, P_RUN], pods[pod, P_INDEX], COLD, now)
        pods[pod, P_INDEX] = NONE
    while fn[f, F_QUEUED] > 0 and pods[pod, P_INFLIGHT] < fn[f, F_LIMIT]:
        serve_waiting(s, pod, now, PIGGYBACKED)
    if pods[pod, P_INFLIGHT] > 0:
        return DONE
    list_free(fn, pods, f, pod)
    touch(s, pod)
    if pods[pod, P_ORIGIN] == PREWARMED:
        begin_idle(s, pod, now, max(now, pods[pod, P_UNTIL], pods[pod, P_HOLD]))
        return DONE
    return _fall_idle(s, pod, now)


@kernel
def _finish(s, pod, now):
    """A request has ended: serve one that waits, or idle when it was the last."""
    fn, pods = s.fn, s.pods
    f = pods[pod, P_FUNCTION]
    pods[pod, P_INFLIGHT] -= 1
    pods[pod, P_LAST_END] = now
    fn[f, F_LAST_END] = now
    fn[f, F_IN_FLIGHT] -= 1
    change_active(fn, f, now, -1)
    if pods[pod, P_INFLIGHT] < fn[f, F_LIMIT]:
        list_free(fn, pods, f, pod)
        if fn[f, F_QUEUED] > 0:
            serve_waiting(s, pod, now, DELAYED)
    if pods[pod, P_INFLIGHT] == 0:
        return _fall_idle(s, pod, now)
    return DONE


@kernel
def _fall_idle(s, pod, now):
    nums, f = s.nums, s.pods[pod, P_FUNCTION]
    rule = nums[N_IDLE_RULE]
    if rule == _ASK:
        nums[N_ASK_POD] = pod
        return ASK_IDLE
    keep_us = s.fn[f, F_KEEP_ALIVE]
    if rule == _HISTOGRAM:
        keep_us = _histogram_keep_us(s, f, now)
    begin_idle(s, pod, now, max(now + keep_us, s.pods[pod, P_HOLD]))
    return DONE


@kernel
def answer_idle(s, keep_us):
    """The policy's answer to ASK_IDLE."""
    pod = s.nums[N_ASK_POD]
    begin_idle(s, pod, s.nums[N_NOW], max(s.nums[N_NOW] + keep_us, s.pods[pod, P_HOLD]))


@kernel
def _histogram_keep_us(s, f, now):
    """Unload after the execution and load again before the next; a function with other requests is kept loaded."""
    fn = s.fn
    prewarm_us, keep_us = histogram_windows(fn, s.bins, s.recent, f)
    if prewarm_us == 0 or fn[f, F_ACTIVE] > 0:
        return prewarm_us + keep_us
    fn[f, F_PREWARM_AT] = now + prewarm_us
    fn[f, F_PREWARM_UNTIL] = now + prewarm_us + keep_us
    if now + prewarm_us <= s.nums[N_END]:
        push_event(s.nums, s.events, event_key(s.nums, now + prewarm_us, PREWARM), ~f)
    return 0


@kernel
def _expire(s, pod, now):
    nums, pods = s.nums, s.pods
    if pods[pod, P_EXPIRE_AT] != now:
        return
    pods[pod, P_EXPIRE_AT] = NEVER
    if pods[pod, P_STATE] != IDLE:
        return
    if pods[pod, P_DEADLINE] < now:
        delete_pod(nums, s.fn, pods, s.log, s.samples, s.course, s.counts, pod, pods[pod, P_DEADLINE])
    else:
        note_expiry(s, pod)


@kernel
def add_order(s, f, at_us, until_us, num_pods, hold):
    """Note a pre-warm or hold for later; past the window it is of no use. The caller has made room."""
    nums, orders = s.nums, s.orders
    if at_us > nums[N_END] or num_pods <= 0:
        return
    row = nums[N_FREE_ORDER]
    nums[N_FREE_ORDER] = orders[row, O_NEXT]
    nums[N_FREE_ORDERS] -= 1
    orders[row, O_FUNCTION] = f
    orders[row, O_UNTIL] = until_us
    orders[row, O_PODS] = num_pods
    orders[row, O_HOLD] = hold
    push_event(nums, s.events, event_key(nums, at_us, PREWARM), row)


@kernel
def _order(s, ref, now):
    fn, nums = s.fn, s.nums
    if ref < 0:
        f = ~ref
        if fn[f, F_PREWARM_AT] == now:
            fn[f, F_PREWARM_AT] = NONE
            if fn[f, F_LIVE] == 0:
                _prewarm(s, f, now, fn[f, F_PREWARM_UNTIL], False)
        return
    orders = s.orders
    f, until, num, hold = orders[ref, O_FUNCTION], orders[ref, O_UNTIL], orders[ref, O_PODS], orders[ref, O_HOLD]
    orders[ref, O_NEXT] = nums[N_FREE_ORDER]
    nums[N_FREE_ORDER] = ref
    nums[N_FREE_ORDERS] += 1
    if hold:
        _hold(s, f, now, until, num)
    else:
        _have_free(s, f, now, until, num)


@kernel
def _hold(s, f, now, until, num):
    """The oldest `num` live pods stay until then; start what is missing."""
    pods = s.pods
    for _ in range(num - s.fn[f, F_LIVE]):
        _prewarm(s, f, now, until, True)
    pod = s.fn[f, F_FIRST]
    while pod != NONE and num > 0:
        pods[pod, P_HOLD] = max(pods[pod, P_HOLD], until)
        _extend(s, pod, until)
        pod = pods[pod, P_NEXT]
        num -= 1


@kernel
def _have_free(s, f, now, until, num):
    """`num` pods with a free slot or starting for nobody; the idle ones among them stay until then."""
    fn, pods = s.fn, s.pods
    there = 0
    pod = fn[f, F_FREE_FIRST]
    while pod != NONE and there < num:
        there += 1
        _extend(s, pod, until)
        pod = pods[pod, P_FREE_NEXT]
    pod = fn[f, F_FIRST]
    while pod != NONE and there < num:
        if pods[pod, P_STATE] < ALIVE and pods[pod, P_INDEX] == NONE:
            there += 1
            pods[pod, P_UNTIL] = max(pods[pod, P_UNTIL], until)
        pod = pods[pod, P_NEXT]
    for _ in range(num - there):
        _prewarm(s, f, now, until, False)


@kernel
def _extend(s, pod, until):
    if s.pods[pod, P_STATE] == IDLE and s.pods[pod, P_DEADLINE] < until:
        s.pods[pod, P_DEADLINE] = until


@kernel
def _prewarm(s, f, now, until, hold):
    if not make_room(s, s.fn[f, F_MEMORY], False, now):
        s.nums[N_REFUSED] += 1
        return
    pod = start_pod(s, f, now, PREWARMED)
    s.pods[pod, P_UNTIL] = until
    if hold:
        s.pods[pod, P_HOLD] = until


@kernel
def finish_window(s):
    """After the last event: the pods that are left outlive the window."""
    for f in range(len(s.fn)):
        pod = s.fn[f, F_FIRST]
        while pod != NONE:
            after = s.pods[pod, P_NEXT]
            delete_pod(s.nums, s.fn, s.pods, s.log, s.samples, s.course, s.counts, pod, NEVER)
            pod = after


@kernel
def bring_active_to(s, now):
    """Account active requests up to a tick."""
    for f in range(len(s.fn)):
        change_active(s.fn, f, now, 0)


@kernel
def change_limits(s, limits):
    """New concurrency of every function, int64 (F,). Pods that have a free slot now count as used now, oldest first."""
    fn, pods = s.fn, s.pods
    for f in range(len(fn)):
        if limits[f] == fn[f, F_LIMIT]:
            continue
        fn[f, F_LIMIT] = limits[f]
        fn[f, F_SPARE] = 0
        pod = fn[f, F_FIRST]
        while pod != NONE:
            if pods[pod, P_STATE] < ALIVE:
                fn[f, F_SPARE] += limits[f] - (1 if pods[pod, P_INDEX] != NONE else 0)
            elif pods[pod, P_INFLIGHT] >= limits[f]:
                unlist_free(fn, pods, f, pod)
            elif not pods[pod, P_LISTED]:
                list_free(fn, pods, f, pod)
            pod = pods[pod, P_NEXT]
