"""The state of a simulation as arrays: names of their columns, for the compiled kernels and for who reads them
afterwards.

Tables are int64, one row a thing, so that what belongs together lies in one or two cache lines. Times are microseconds
since the epoch of the trace. Lists are doubly linked rows; -1 ends a list.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NONE = -1
NEVER = 1 << 60
MINUTE_US = 60_000_000

# Kinds of events at equal times, in this order. TICK has no events of its own: the driver stops the kernel there.
READY, FINISH, EXPIRE, TICK, PREWARM, ARRIVAL = range(6)
KINDS_PER_TIME = 8

# Kinds of served requests; DROPPED is an outcome, not a row of the histograms.
WARM, COLD, PIGGYBACKED, DELAYED, DROPPED = range(5)

# What the kernel answers.
DONE, GROW, ASK_IDLE = range(3)

# State.nums: settings, then counters.
(
    N_START, N_END, N_SCALE, N_PICK, N_IDLE_RULE, N_EVICTION, N_CAP_MB, N_OVERHEAD, N_SEED, N_SAMPLE, N_DELAY_AT,
    N_RECORD_PODS, N_RECORD_REQUESTS, N_POOL_STAGES, N_MARGIN,
    N_SEQ, N_EVENTS, N_VICTIMS, N_USE_ORDER, N_FREE_POD, N_FREE_PODS, N_FREE_QUEUE, N_FREE_QUEUES, N_FREE_ORDER,
    N_FREE_ORDERS, N_LOG, N_USED_MB, N_IDLE_MB, N_CURSOR, N_NEED_PODS, N_ASK_POD, N_MINUTE, N_MINUTE_STARTS, N_NOW,
    N_WARM, N_COLD, N_PIGGYBACKED, N_DELAYED, N_DROPPED, N_STARTS, N_PREWARMS, N_REFUSED, N_WASTED, N_UNUSED, N_MISSES,
    N_PUT_OFF, N_ALLOCATION_US, N_REST_US, N_FREE_FLIGHT, N_FREE_FLIGHTS,
    NUM_NUMS,
) = range(51)  # fmt: skip

# State.fn: one row a function. What every request needs comes first, in the same cache lines.
(
    F_REQUESTS, F_FLIGHT, F_FREE_FIRST, F_FREE_LAST, F_KEEP_ALIVE, F_LIMIT, F_DEADLINE, F_IDLE,
    F_IDLE_US, F_BUSY_US, F_MEMORY, F_USES, F_IN_FLIGHT, F_ACTIVE, F_ACTIVE_US, F_ACTIVE_SINCE,
    F_QUEUED, F_LAST_ARRIVE, F_LAST_END, F_LIVE, F_LINK_AT, F_LINK_END, F_PREWARM_AT, F_PREWARM_UNTIL,
    F_H_NUM, F_H_OUT, F_H_SQUARES, F_H_HEAD, F_H_HEAD_BELOW, F_H_TAIL, F_H_TAIL_BELOW, F_H_SEEN,
    F_FIRST, F_LAST, F_PODS, F_COLD, F_STARTS, F_START_US, F_STARTING, F_SPARE,
    F_COLD_AT, F_COLD_END, F_DELAY, F_POOL, F_QUEUE_HEAD, F_QUEUE_TAIL, F_DROPPED,
    NUM_FN,
) = range(48)  # fmt: skip

# State.pods: one row a pod. ALIVE = ready and not idle. A free row has P_STATE 0 and links to the next free row in
# P_NEXT.
FREE, STARTING, ALIVE, IDLE = range(4)
(
    P_STATE, P_FUNCTION, P_INFLIGHT, P_USES, P_LISTED, P_FREE_PREV, P_FREE_NEXT, P_IDLE_SINCE,
    P_BUSY_SINCE, P_DEADLINE, P_LAST_END, P_ORDER, P_EXPIRE_AT, P_HOLD, P_INDEX, P_VICTIM_ORDER,
    P_CREATE, P_READY, P_ORIGIN, P_LOG, P_PREV, P_NEXT, P_ARRIVE, P_RUN, P_UNTIL,
    NUM_POD,
) = range(26)  # fmt: skip
ON_DEMAND, PREWARMED, SPECULATIVE = range(3)

# State.queue: waiting or put off requests. State.orders: pre-warms to come. Both link free rows through column 0.
Q_NEXT, Q_FUNCTION, Q_ARRIVE, Q_RUN, Q_INDEX, Q_STARTED, NUM_QUEUE = range(7)
O_NEXT, O_FUNCTION, O_UNTIL, O_PODS, O_HOLD, NUM_ORDER = range(6)
# State.events: a binary heap ordered by (key, seq); key = (time - start) * KINDS_PER_TIME + kind.
E_KEY, E_SEQ, E_REF, NUM_EVENT = range(4)
# State.victims: a binary heap of idle pods ordered by (State.victim_priority, order).
V_ORDER, V_POD, NUM_VICTIM = range(3)
# State.flights (lanes only): a pairing heap a function (root F_FLIGHT) of pods getting ready and requests under way,
# ordered by (key, seq); key = 2 * time, + 1 for the end of a request. Free rows are linked by X_SIBLING.
X_KEY, X_SEQ, X_POD, X_CHILD, X_SIBLING, NUM_FLIGHT = range(6)
# State.links: calls that announce calls.
K_NEXT, K_DELAY, K_HOLD = range(3)
# State.pools: one row a (class, stage). State.pool_classes: one row a class.
S_AT, S_SIZE, S_HEAD, S_LATENCY, S_TAKEN, S_IDLE_US, NUM_STAGE = range(7)
C_SCRATCH, C_REPLENISH, C_SCRATCH_TAKEN = range(3)
# State.log: one row a pod ever started. L_END is -1 for a pod alive at the end of the window.
L_FUNCTION, L_CREATE, L_READY, L_LAST_END, L_END, L_ALLOCATION, L_ORIGIN, L_USES, NUM_LOG = range(9)
# State.outcomes: one row a request.
R_KIND, R_START = range(2)

# State.counts: rows of log-spaced histograms: response times by kind, waits by kind, utility of pods in thousandths.
H_RESPONSE, H_WAIT, H_UTILITY, NUM_COUNTS = 0, 4, 8, 9
NUM_BINS = 928
# State.course: pod time of the minute in which a pod starts or ends, and whole minutes as differences.
T_PART, T_WHOLE = range(2)

HISTOGRAM_BINS = 240  # 1 minute each: 4 hours
RECENT_IDLE_TIMES = 10


class State(NamedTuple):
    """All arrays of one engine. See the names above for their columns; F functions, others grow as needed."""

    nums: np.ndarray
    clock: np.ndarray  # float64 (1,), priority of the last evicted pod
    fn: np.ndarray
    cost: np.ndarray  # float64 (F,)
    slowdown: np.ndarray  # float64 (F,)
    routes: np.ndarray  # int64 (F, 2) or (0, 2): who serves, added wait
    pods: np.ndarray
    priority: np.ndarray  # float64 (pods,), now
    noted: np.ndarray  # float64 (pods,), of the entry among the victims
    events: np.ndarray
    flights: np.ndarray
    victims: np.ndarray
    victim_priority: np.ndarray  # float64
    queue: np.ndarray
    orders: np.ndarray
    log: np.ndarray
    counts: np.ndarray
    samples: np.ndarray  # int64 (samples,), pods alive as differences
    course: np.ndarray  # int64 (2, minutes): T_PART, T_WHOLE
    bins: np.ndarray  # int32 (F or 0, HISTOGRAM_BINS)
    recent: np.ndarray  # int64 (F or 0, RECENT_IDLE_TIMES)
    cold: np.ndarray  # int64 (samples, 2): allocation, rest
    links: np.ndarray
    pools: np.ndarray
    pool_classes: np.ndarray
    pool_ready: np.ndarray  # int64: ready times of the pods of each stage, rings
    outcomes: np.ndarray
    thresholds: np.ndarray  # int64 (K,), ascending; none when gaps are not counted
    gaps: np.ndarray  # int64 (F, K + 1, 2): number and sum of idle gaps above k thresholds (lanes only)
    last_gaps: np.ndarray  # int64 (F, K): idle time after the last use of each pod, for each threshold as keep-alive
