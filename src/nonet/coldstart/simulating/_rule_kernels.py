"""Compiled rules: the hybrid histogram of idle times, and the priorities of idle pods."""

from __future__ import annotations

from nonet.coldstart.simulating.layout import (
    F_H_HEAD,
    F_H_HEAD_BELOW,
    F_H_NUM,
    F_H_OUT,
    F_H_SEEN,
    F_H_SQUARES,
    F_H_TAIL,
    F_H_TAIL_BELOW,
    F_LIVE,
    F_MEMORY,
    F_USES,
    HISTOGRAM_BINS,
    MINUTE_US,
    RECENT_IDLE_TIMES,
)
from nonet.common.kernels import kernel

_RANGE_US = HISTOGRAM_BINS * MINUTE_US
_LFU, _SIZE, _GREEDY_DUAL, _LANDLORD, _CIDRE = 1, 2, 3, 4, 5


@kernel
def priority_of(clock, fn, cost, eviction, f):
    """What a pod of f is worth now; see `Eviction`."""
    if eviction == _LFU:
        return float(fn[f, F_USES])
    size = float(max(fn[f, F_MEMORY], 1))
    if eviction == _SIZE:
        return -size
    if eviction == _GREEDY_DUAL:
        return clock + fn[f, F_USES] * cost[f] / size
    if eviction == _LANDLORD:
        return clock + cost[f] / size
    if eviction == _CIDRE:
        return clock + fn[f, F_USES] * cost[f] / (size * fn[f, F_LIVE])
    return 0.0


@kernel
def learn_idle_time(fn, bins, recent, f, idle_us):
    """A function was idle for `idle_us` between its last end and an arrival."""
    seen = fn[f, F_H_SEEN]
    recent[f, seen % RECENT_IDLE_TIMES] = idle_us
    fn[f, F_H_SEEN] = seen + 1
    at = idle_us // MINUTE_US
    if at >= HISTOGRAM_BINS:
        fn[f, F_H_OUT] += 1
        return
    fn[f, F_H_SQUARES] += 2 * bins[f, at] + 1
    bins[f, at] += 1
    fn[f, F_H_NUM] += 1
    _follow(fn, bins, f, at, F_H_HEAD, F_H_HEAD_BELOW, 5)
    _follow(fn, bins, f, at, F_H_TAIL, F_H_TAIL_BELOW, 99)


@kernel
def _follow(fn, bins, f, added, column, below_column, percent):
    """Keep fn[f, column] the bin of a percentile: the first with ceil(percent * n / 100) idle times up to it."""
    at, below = fn[f, column], fn[f, below_column]
    if added < at:
        below += 1
    rank = (percent * fn[f, F_H_NUM] + 99) // 100
    while rank <= below:
        at -= 1
        below -= bins[f, at]
    while rank > below + bins[f, at]:
        below += bins[f, at]
        at += 1
    fn[f, column] = at
    fn[f, below_column] = below


@kernel
def histogram_windows(fn, bins, recent, f):
    """(pre-warm, keep-alive) in us after an execution of f (A6.3).

    At least half of the idle times beyond 4 hours: predict the next. Too few or too even (coefficient of variation of
    the bin counts below 2): keep for the whole range. Else from the 5th percentile, less a tenth, to the 99th and a
    tenth.
    """
    num, out = fn[f, F_H_NUM], fn[f, F_H_OUT]
    if 2 * out >= num + out and out > 0:
        predicted = predict_idle_us(recent, f, fn[f, F_H_SEEN])
        return int(0.85 * predicted), int(0.30 * predicted)
    if HISTOGRAM_BINS * fn[f, F_H_SQUARES] < 5 * num * num or num == 0:
        return 0, _RANGE_US
    prewarm_us = 9 * fn[f, F_H_HEAD] * MINUTE_US // 10
    return prewarm_us, 11 * (fn[f, F_H_TAIL] + 1) * MINUTE_US // 10 - prewarm_us


@kernel
def predict_idle_us(recent, f, seen):
    """The next idle time by an autoregression of order 1 over the last 10, fitted by least squares.

    The paper fits ARIMA anew after every execution and does not tell its orders; AR(1) is the smallest member of that
    family that can follow a trend or an alternation. With fewer than 3 idle times, or all alike, it is their mean. It
    is kept between 0 and twice the longest of them, since a slope fitted to nearly equal idle times can point
    anywhere.
    """
    num = min(seen, RECENT_IDLE_TIMES)
    first = seen - num
    total = 0.0
    longest = 0.0
    for k in range(num):
        total += recent[f, (first + k) % RECENT_IDLE_TIMES]
        longest = max(longest, float(recent[f, (first + k) % RECENT_IDLE_TIMES]))
    if num < 3:
        return total / num
    last = float(recent[f, (seen - 1) % RECENT_IDLE_TIMES])
    pairs = num - 1
    mean_before = (total - last) / pairs
    mean_after = (total - recent[f, first % RECENT_IDLE_TIMES]) / pairs
    spread = 0.0
    together = 0.0
    for k in range(pairs):
        before = recent[f, (first + k) % RECENT_IDLE_TIMES] - mean_before
        spread += before * before
        together += before * (recent[f, (first + k + 1) % RECENT_IDLE_TIMES] - mean_after)
    if spread == 0.0:
        return total / num
    return min(max(mean_after + together / spread * (last - mean_before), 0.0), 2.0 * longest)
