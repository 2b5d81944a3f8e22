"""Two binary heaps over flat arrays: events by (key, sequence), and idle pods by (priority, order of use)."""

from __future__ import annotations

from nonet.coldstart.simulating.layout import (
    E_KEY,
    E_REF,
    E_SEQ,
    KINDS_PER_TIME,
    N_EVENTS,
    N_SEQ,
    N_START,
    N_VICTIMS,
    P_VICTIM_ORDER,
    V_ORDER,
    V_POD,
)
from nonet.common.kernels import inlined_kernel, kernel


@inlined_kernel
def event_key(nums, time_us, kind):
    """The first part of an event's place in the order."""
    return (time_us - nums[N_START]) * KINDS_PER_TIME + kind


@kernel
def push_event(nums, events, key, ref):
    """Add an event with the next sequence number; the caller has made room."""
    seq = nums[N_SEQ]
    nums[N_SEQ] = seq + 1
    at = nums[N_EVENTS]
    nums[N_EVENTS] = at + 1
    while at > 0:
        above = (at - 1) >> 1
        if events[above, E_KEY] <= key:  # an equal key above has a smaller sequence number
            break
        events[at, E_KEY] = events[above, E_KEY]
        events[at, E_SEQ] = events[above, E_SEQ]
        events[at, E_REF] = events[above, E_REF]
        at = above
    events[at, E_KEY] = key
    events[at, E_SEQ] = seq
    events[at, E_REF] = ref


@inlined_kernel
def _earlier(events, a, b):
    return events[a, E_KEY] < events[b, E_KEY] or (
        events[a, E_KEY] == events[b, E_KEY] and events[a, E_SEQ] < events[b, E_SEQ]
    )


@kernel
def pop_event(nums, events):
    """Remove the first event; the caller has read it."""
    size = nums[N_EVENTS] - 1
    nums[N_EVENTS] = size
    key, seq, ref = events[size, E_KEY], events[size, E_SEQ], events[size, E_REF]
    at = 0
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and _earlier(events, below + 1, below):
            below += 1
        if key < events[below, E_KEY] or (key == events[below, E_KEY] and seq < events[below, E_SEQ]):
            break
        events[at, E_KEY] = events[below, E_KEY]
        events[at, E_SEQ] = events[below, E_SEQ]
        events[at, E_REF] = events[below, E_REF]
        at = below
    events[at, E_KEY] = key
    events[at, E_SEQ] = seq
    events[at, E_REF] = ref


@kernel
def _sink(victims, priorities, size, at, priority, order, pod):
    """Put an entry at `at` or below, where it belongs."""
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        right = below + 1
        if right < size and (
            priorities[right] < priorities[below]
            or (priorities[right] == priorities[below] and victims[right, V_ORDER] < victims[below, V_ORDER])
        ):
            below = right
        if priority < priorities[below] or (priority == priorities[below] and order < victims[below, V_ORDER]):
            break
        priorities[at] = priorities[below]
        victims[at, V_ORDER] = victims[below, V_ORDER]
        victims[at, V_POD] = victims[below, V_POD]
        at = below
    priorities[at] = priority
    victims[at, V_ORDER] = order
    victims[at, V_POD] = pod


@kernel
def push_victim(nums, victims, priorities, pods, priority, order, pod):
    """Add an idle pod; entries that are out of date go first when there is no room."""
    if nums[N_VICTIMS] == len(victims):
        _clean_victims(nums, victims, priorities, pods)
    at = nums[N_VICTIMS]
    nums[N_VICTIMS] = at + 1
    while at > 0:
        above = (at - 1) >> 1
        if priorities[above] < priority or (priorities[above] == priority and victims[above, V_ORDER] < order):
            break
        priorities[at] = priorities[above]
        victims[at, V_ORDER] = victims[above, V_ORDER]
        victims[at, V_POD] = victims[above, V_POD]
        at = above
    priorities[at] = priority
    victims[at, V_ORDER] = order
    victims[at, V_POD] = pod


@kernel
def pop_victim(nums, victims, priorities):
    """Remove the first entry; the caller has read it."""
    size = nums[N_VICTIMS] - 1
    nums[N_VICTIMS] = size
    if size > 0:
        _sink(victims, priorities, size, 0, priorities[size], victims[size, V_ORDER], victims[size, V_POD])


@kernel
def _clean_victims(nums, victims, priorities, pods):
    """Keep one entry a pod at most, the one that the pod knows of, and make a heap of the rest."""
    kept = 0
    for k in range(nums[N_VICTIMS]):
        pod = victims[k, V_POD]
        if pods[pod, P_VICTIM_ORDER] == victims[k, V_ORDER]:
            priorities[kept] = priorities[k]
            victims[kept, V_ORDER] = victims[k, V_ORDER]
            victims[kept, V_POD] = pod
            kept += 1
    nums[N_VICTIMS] = kept
    for at in range(kept // 2 - 1, -1, -1):
        _sink(victims, priorities, kept, at, priorities[at], victims[at, V_ORDER], victims[at, V_POD])
