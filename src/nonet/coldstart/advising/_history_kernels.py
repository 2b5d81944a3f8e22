"""One pass over the requests of a region, in order of time, that answers what a function was doing at given moments."""

from __future__ import annotations

import math

from nonet.common.kernels import kernel

NEXT_QUERY, NUM_NODES, FREE = 0, 1, 2
NONE = -1
MIN_LIMIT = 16
TICK_GAP_US = 1_000_000
BINS_PER_E = 100
"""Gaps between two moments lie in bins of 1 %: bin = 100 ln(seconds)."""


@kernel
def _prune(f, now_us, heads, counts, node_end, node_next, state):
    """Give the places of ended requests of f back."""
    node, kept, num = heads[f], -1, 0
    while node != -1:
        after = node_next[node]
        if node_end[node] > now_us:
            node_next[node] = kept
            kept = node
            num += 1
        else:
            node_next[node] = state[2]
            state[2] = node
        node = after
    heads[f] = kept
    counts[f] = num


@kernel
def _answer(query, query_us, query_function, in_flight, gap_us, heads, node_end, node_next, last_end):
    f, now_us = query_function[query], query_us[query]
    node, num = heads[f], 0
    while node != -1:
        num += node_end[node] > now_us
        node = node_next[node]
    in_flight[query] = num
    if last_end[f] >= 0:
        gap_us[query] = max(now_us - last_end[f], 0)


@kernel
def follow(
    arrive, end, function, warm, begin, query_us, query_function, in_flight, gap_us, state, heads, counts, limits,
    node_end, node_next, last_arrive, last_end, warm_gaps, tick_at, num_ticks, ticks,
):  # fmt: skip
    """Take calls `begin ..` of a batch; returns the first call not taken, less than their number when nodes ran out.

    Queries at t are answered before the calls that arrive at t: `in_flight` int64 (Q,), `gap_us` int64 (Q,) since the
    end of the latest request (0 while one runs, -1 for a function without an earlier call). `warm_gaps` counts the
    gaps before requests that were warm and found none of their function under way. `ticks[tick_at[f]:]` get the first
    calls of each run of calls less than a second apart, as many as there is room for.
    """
    for i in range(begin, len(arrive)):
        now_us, f = arrive[i], function[i]
        while state[NEXT_QUERY] < len(query_us) and query_us[state[NEXT_QUERY]] <= now_us:
            _answer(
                state[NEXT_QUERY], query_us, query_function, in_flight, gap_us, heads, node_end, node_next, last_end
            )
            state[NEXT_QUERY] += 1
        if counts[f] >= limits[f]:
            _prune(f, now_us, heads, counts, node_end, node_next, state)
            limits[f] = max(MIN_LIMIT, 2 * counts[f])
        if end[i] > now_us:
            node = state[FREE]
            if node != NONE:
                state[FREE] = node_next[node]
            elif state[NUM_NODES] < len(node_end):
                node = state[NUM_NODES]
                state[NUM_NODES] += 1
            else:
                return i
            node_end[node], node_next[node] = end[i], heads[f]
            heads[f] = node
            counts[f] += 1
        if warm[i] and 0 <= last_end[f] <= now_us - 1_000_000:
            place = int(BINS_PER_E * math.log((now_us - last_end[f]) / 1e6))
            warm_gaps[min(place, len(warm_gaps) - 1)] += 1
        if last_arrive[f] < 0 or now_us - last_arrive[f] >= TICK_GAP_US:
            if tick_at[f] + num_ticks[f] < tick_at[f + 1]:
                ticks[tick_at[f] + num_ticks[f]] = now_us
            num_ticks[f] += 1
        last_arrive[f] = now_us
        last_end[f] = max(last_end[f], end[i], now_us)
    return len(arrive)


@kernel
def answer_rest(query_us, query_function, in_flight, gap_us, state, heads, node_end, node_next, last_end):
    """Queries after the last call."""
    while state[NEXT_QUERY] < len(query_us):
        _answer(state[NEXT_QUERY], query_us, query_function, in_flight, gap_us, heads, node_end, node_next, last_end)
        state[NEXT_QUERY] += 1
