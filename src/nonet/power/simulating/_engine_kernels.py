"""The event loop: arrivals, ends of prompts, ends of decodes, changed clocks and telemetry ticks, in order of time.

At one moment ends come first, then arrivals, then clocks, then the tick. Between its own events an instance is not
touched, so where a run is interrupted changes nothing in it, bit for bit.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from nonet.common.kernels import kernel
from nonet.power.profiles._profile_kernels import seconds_between, watts_between
from nonet.power.simulating.layout import NONE, OUTSIDE, REACHED

_NEVER = np.inf
_SUM_AGAIN = 2047


@kernel
def _put(tree, leaves, i, time_s):
    # The tournament: a node holds the earlier of its two children; stop where nothing changes.
    at = leaves + i
    tree[at] = time_s
    at >>= 1
    while at >= 1:
        left, right = tree[2 * at], tree[2 * at + 1]
        earlier = left if left <= right else right
        if tree[at] == earlier:
            return
        tree[at] = earlier
        at >>= 1


@kernel
def _first(tree, leaves):
    at = 1
    while at < leaves:
        at *= 2
        if tree[at + 1] < tree[at]:
            at += 1
    return at - leaves


@kernel
def _ring(a, i):
    # Full instances share the last ring of their pool, however many slots they have.
    me = a.instances[i]
    pool = a.pools[a.servers[me.server].pool]
    return pool.first_ring + (me.load if me.load < me.slots else pool.max_load)


@kernel
def _leave_ring(a, i):
    me = a.instances[i]
    ring = _ring(a, i)
    if me.next == i:
        a.rings[ring] = NONE
        return
    a.instances[me.previous].next = me.next
    a.instances[me.next].previous = me.previous
    if a.rings[ring] == i:
        a.rings[ring] = me.next


@kernel
def _join_ring(a, i):
    # At the end: who has been at this load longest is chosen first.
    me = a.instances[i]
    ring = _ring(a, i)
    head = a.rings[ring]
    if head == NONE:
        a.rings[ring] = i
        me.previous = i
        me.next = i
        return
    last = a.instances[head].previous
    me.previous = last
    me.next = head
    a.instances[last].next = i
    a.instances[head].previous = i


@kernel
def _change_load(a, i, change):
    _leave_ring(a, i)
    a.instances[i].load += change
    _join_ring(a, i)
    pool = a.pools[a.servers[a.instances[i].server].pool]
    if a.instances[i].load < pool.min_load:
        pool.min_load = a.instances[i].load
    while pool.min_load < pool.max_load and a.rings[pool.first_ring + pool.min_load] == NONE:
        pool.min_load += 1


@kernel
def _settle(a, i, now_s):
    # Book what the instance did since its anchor.
    me = a.instances[i]
    passed_s = now_s - me.anchor_s
    if passed_s <= 0.0:
        return
    server = a.servers[me.server]
    server.idle_j += me.idle_w * passed_s
    server.prefill_j += me.prefill_w * passed_s
    server.decode_j += me.decode_w * passed_s
    if me.batch > 0:
        steps = me.token_rate * passed_s
        me.tokens += steps
        me.tokens_done += steps * me.batch
        if me.batch < server.min_batch or me.batch > server.max_batch:
            me.outside_s += passed_s
    if me.current != NONE:
        done_s = me.prefill_rate * passed_s
        me.prefill_left_s -= done_s
        me.prefill_done_s += done_s
    me.anchor_s = now_s


@kernel
def _refresh(a, i, now_s):
    # Rates, power and next event of an instance whose batch, prompt or clock has just changed; settled at now_s.
    me = a.instances[i]
    server = a.servers[me.server]
    clock = a.clock[0]
    before_w = me.idle_w + me.prefill_w + me.decode_w
    share = 0.0
    if me.current != NONE:
        share = 1.0 if me.batch == 0 else clock.prefill_share
    me.prefill_rate = share * server.prefill_speed
    me.token_rate = 0.0
    me.decode_w = 0.0
    if me.batch > 0 and share < 1.0:
        me.token_rate = (1.0 - share) * server.decode_speed / a.decode_s[server.profile, me.batch]
        gpu_w = max(server.idle_gpu_w, a.decode_gpu_w[server.profile, me.batch] * server.decode_power)
        me.decode_w = (1.0 - share) * gpu_w * server.wall_w_per_gpu_w
    me.prefill_w = 0.0
    if share > 0.0:
        gpu_w = max(server.idle_gpu_w, me.prefill_gpu_w * server.prefill_power)
        me.prefill_w = share * gpu_w * server.wall_w_per_gpu_w
    me.idle_w = 0.0
    if me.current == NONE and me.batch == 0:
        me.idle_w = server.idle_gpu_w * server.wall_w_per_gpu_w
    _schedule(a, i)
    change_w = me.idle_w + me.prefill_w + me.decode_w - before_w
    clock.tick_j += clock.row_w * (now_s - clock.row_since_s)
    clock.row_since_s = now_s
    clock.row_w += change_w
    if a.group_w.size > 0:
        group = server.group
        a.group_j[group] += a.group_w[group] * (now_s - a.group_since_s[group])
        a.group_since_s[group] = now_s
        a.group_w[group] += change_w


@kernel
def _schedule(a, i):
    me = a.instances[i]
    prefill_end_s = _NEVER
    decode_end_s = _NEVER
    if me.current != NONE:
        prefill_end_s = me.anchor_s + max(me.prefill_left_s, 0.0) / me.prefill_rate
    if me.token_rate > 0.0:
        decode_end_s = me.anchor_s + max(me.next_target - me.tokens, 0.0) / me.token_rate
    me.prefill_is_next = 1 if prefill_end_s <= decode_end_s else 0
    _put(a.tree, a.clock[0].leaves, i, min(prefill_end_s, decode_end_s))


@kernel
def _begin_prefill(a, i, request):
    me = a.instances[i]
    profile = a.servers[me.server].profile
    row = a.prompt_row[request]
    me.current = request
    me.prefill_left_s = a.prefill_s[profile, row]
    me.prefill_gpu_w = a.prefill_gpu_w[profile, row]


@kernel
def _give_slot(a, i, request):
    # The instance is settled; the caller refreshes it.
    me = a.instances[i]
    if me.current == NONE:
        _begin_prefill(a, i, request)
    else:
        at = me.wait_head + me.waiting
        if at >= a.waiting.shape[1]:
            at -= a.waiting.shape[1]
        a.waiting[i, at] = request
        me.waiting += 1
    _change_load(a, i, 1)


@kernel
def _end_prefill(a, i, now_s):
    me = a.instances[i]
    request = me.current
    me.current = NONE
    me.prefill_left_s = 0.0
    a.first_token_s[request] = now_s
    steps = a.output_tokens[request] - 1
    freed = 0
    if steps > 0:
        if me.batch == 0:
            me.tokens = 0.0
            me.next_target = _NEVER
        target = me.tokens + steps
        a.slot_target[i, me.batch] = target
        a.slot_request[i, me.batch] = request
        me.batch += 1
        me.next_target = min(me.next_target, target)
    else:
        a.finish_s[request] = now_s
        freed = 1
    if me.waiting > 0:
        _begin_prefill(a, i, a.waiting[i, me.wait_head])
        me.waiting -= 1
        me.wait_head += 1
        if me.wait_head == a.waiting.shape[1]:
            me.wait_head = 0
    return freed


@kernel
def _end_decodes(a, i, now_s):
    # The counter stands at the smallest target: all slots with that target are done.
    me = a.instances[i]
    me.tokens = me.next_target
    smallest = _NEVER
    freed = 0
    slot = 0
    while slot < me.batch:
        target = a.slot_target[i, slot]
        if target <= me.tokens:
            a.finish_s[a.slot_request[i, slot]] = now_s
            me.batch -= 1
            freed += 1
            a.slot_target[i, slot] = a.slot_target[i, me.batch]
            a.slot_request[i, slot] = a.slot_request[i, me.batch]
        else:
            smallest = min(smallest, target)
            slot += 1
    me.next_target = smallest
    return freed


@kernel
def _serve_event(a, i, now_s):
    _settle(a, i, now_s)
    if a.instances[i].prefill_is_next == 1:
        freed = _end_prefill(a, i, now_s)
    else:
        freed = _end_decodes(a, i, now_s)
    a.clock[0].num_done += freed
    if freed > 0:
        _change_load(a, i, -freed)
        pool = a.pools[a.servers[a.instances[i].server].pool]
        # A freed slot is the only one of the pool when requests wait.
        while pool.head < pool.tail and a.instances[i].load < a.instances[i].slots:
            _give_slot(a, i, a.order[pool.head])
            pool.head += 1
    _refresh(a, i, now_s)


@kernel
def _arrive(a, now_s):
    clock = a.clock[0]
    request = clock.cursor
    clock.cursor += 1
    pool = a.pools[a.pool_of[request]]
    pool.tail += 1
    if pool.min_load < pool.max_load:
        i = a.rings[pool.first_ring + pool.min_load]
        pool.head += 1
        _settle(a, i, now_s)
        _give_slot(a, i, request)
        _refresh(a, i, now_s)


@kernel
def _set_level(a, server, landing, now_s):
    first = a.servers[server].first_instance
    for i in range(first, first + a.servers[server].num_instances):
        _settle(a, i, now_s)
    me = a.servers[server]
    me.level = landing[0]
    me.prefill_speed = landing[1]
    me.prefill_power = landing[2]
    me.decode_speed = landing[3]
    me.decode_power = landing[4]
    for i in range(first, first + me.num_instances):
        _refresh(a, i, now_s)


@kernel
def _sum_again(a):
    # Thousands of additions and subtractions of the same numbers drift.
    clock = a.clock[0]
    total_w = clock.base_w
    for i in range(len(a.instances)):
        me = a.instances[i]
        total_w += me.idle_w + me.prefill_w + me.decode_w
    clock.row_w = total_w


@kernel
def _tick(a, now_s):
    # Mean powers of the period that ends; what the policy sees is the row's, or the tightest node's in its terms.
    clock = a.clock[0]
    tick = clock.tick
    clock.tick_j += clock.row_w * (now_s - clock.row_since_s)
    clock.row_since_s = now_s
    mean_w = clock.tick_j / clock.period_s
    clock.total_j += clock.tick_j
    clock.tick_j = 0.0
    a.row_w[tick] = mean_w
    seen_w = mean_w
    num_nodes = a.node_groups.shape[0]
    if num_nodes > 0:
        for group in range(len(a.group_w)):
            a.group_j[group] += a.group_w[group] * (now_s - a.group_since_s[group])
            a.group_since_s[group] = now_s
        for node in range(num_nodes):
            joules = 0.0
            for group in range(len(a.group_w)):
                if a.node_groups[node, group]:
                    joules += a.group_j[group]
            a.node_w[node, tick] = joules / clock.period_s
            seen_w = max(seen_w, joules / clock.period_s / a.node_budget_w[node] * a.node_budget_w[num_nodes])
        a.group_j[:] = 0.0
    a.seen_w[tick] = seen_w
    clock.tick = tick + 1
    if tick & _SUM_AGAIN == _SUM_AGAIN:
        _sum_again(a)


@kernel
def run(a, until_s, low_w, high_w, landing_s, landing_server, landing_values):
    """Go on up to and with `until_s`; stop earlier after a tick whose visible sample is outside (low_w, high_w).

    Args:
        a: `layout.Arrays`.
        landing_s: float64 (m,), when a server's clock changes, ascending; all at or before `until_s`.
        landing_server: int64 (m,).
        landing_values: float64 (m, 5): level, prefill speed, prefill power, decode speed, decode power.

    Returns:
        REACHED or OUTSIDE.
    """
    clock = a.clock[0]
    tree = a.tree
    leaves = clock.leaves
    num_requests = len(a.arrival_s)
    num_landings = len(landing_s)
    arrival_s = a.arrival_s[clock.cursor] if clock.cursor < num_requests else _NEVER
    tick_s = (clock.tick + 1) * clock.period_s
    landed = 0
    while True:
        end_s = tree[1]
        change_s = landing_s[landed] if landed < num_landings else _NEVER
        now_s = min(end_s, arrival_s, change_s, tick_s)
        if now_s > until_s:
            return REACHED
        if end_s == now_s:
            _serve_event(a, _first(tree, leaves), now_s)
            clock.events += 1
        elif arrival_s == now_s:
            _arrive(a, now_s)
            clock.events += 1
            arrival_s = a.arrival_s[clock.cursor] if clock.cursor < num_requests else _NEVER
        elif change_s == now_s:
            _set_level(a, landing_server[landed], landing_values[landed], now_s)
            landed += 1
        else:
            _tick(a, now_s)
            tick_s = (clock.tick + 1) * clock.period_s
            visible = clock.tick - 1 - clock.lag_ticks
            if visible >= 0:
                seen_w = a.seen_w[visible]
                if not (low_w < seen_w and seen_w < high_w):
                    return OUTSIDE


@kernel
def settle_all(a, now_s):
    """Book the work and energy of every instance up to `now_s`: at the end of a run, or to read energies."""
    for i in range(len(a.instances)):
        _settle(a, i, now_s)


@njit(cache=True, nogil=True)
def tabulate(tokens, points, seconds, watts, out_s, out_w):
    """Time and power of prompts of `tokens` (n) from the measured points (m), written to `out_s`, `out_w` (n)."""
    for i in range(len(tokens)):
        out_s[i] = seconds_between(tokens[i], points, seconds)
        out_w[i] = watts_between(tokens[i], points, watts)


@kernel
def begin(a):
    """Power, rings and event times of a row in which nothing runs yet."""
    for i in range(len(a.instances)):
        a.tree[a.clock[0].leaves + i] = _NEVER
        _refresh(a, i, 0.0)
        _join_ring(a, i)
    a.clock[0].tick_j = 0.0
    _sum_again(a)
