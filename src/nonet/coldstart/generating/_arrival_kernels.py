"""Compiled loops of the arrivals: requests of one function in a window of time, and the order by time of many.

A request is a pure function of (function key, index); a window only decides which indices are looked at. Three kinds:

BURSTS  n requests in B bursts, one in each of B equal shares of the function's load; in a burst, rounds of `lanes`
requests at
        nearly the same moment follow each other every `gap_us`, after a pause of `pause_us` behind the first round, as
        clients wait for a first answer (periodic timers: one request a burst, hardly any jitter)
STEADY  a stream without pauses, jittered around even spacing in load, and B spikes of `size` requests at once
POISSON a Poisson process; it begins afresh each minute, which it may since it has no memory
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from nonet.coldstart._random_kernels import bits, finalise, mix64, uniform
from nonet.common.kernels import kernel

BURSTS, STEADY, POISSON = 0, 1, 2
MINUTE_US = 60_000_000
RUN_TABLE = 1024
RAMP_FROM_US, RAMP_TO_US = 20_000_000, 140_000_000
_UNIT = 1.0 / 9007199254740992.0
_DIGIT = 13


@kernel
def load_before(curve, bin_us, t_us):
    """Share of the load before `t_us`; `curve` is float64[bins + 1] from 0 to 1, straight within a bin of `bin_us`."""
    place = t_us / bin_us
    if place <= 0.0:
        return 0.0
    i = int(place)
    if i >= len(curve) - 1:
        return 1.0
    return curve[i] + (curve[i + 1] - curve[i]) * (place - i)


@kernel
def time_of_load(curve, bin_us, share):
    """The time in microseconds before which `share` of the load lies, float64."""
    low, high = 0, len(curve) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if curve[middle] <= share:
            low = middle
        else:
            high = middle
    width = curve[high] - curve[low]
    return (low + ((share - curve[low]) / width if width > 0.0 else 0.0)) * bin_us


@kernel
def _run(word, mean_us, runs):
    return max(np.int64(mean_us * runs[word & np.uint64(RUN_TABLE - 1)]), np.int64(1))


@kernel
def _burst_start(f, key, j, curve, bin_us):
    # U is centred, so a burst stays in its own share of the load for jitter <= 1.
    share = (j + 0.5 + f.jitter * (uniform(key, 2 * j) - 0.5)) / f.bursts
    return f.offset_us + time_of_load(curve, bin_us, share) * f.stretch


@kernel
def bursts(f, curve, bin_us, runs, start_us, end_us, arrive, run, at):
    """Write the requests of a BURSTS function in [start_us, end_us) from `at` on, unordered; the next free place.

    With arrays too short, the place is still counted up, so a caller learns the size.
    """
    key = mix64(f.key, 1, 0)
    first = load_before(curve, bin_us, (start_us - f.longest_us - f.offset_us) / f.stretch)
    last = load_before(curve, bin_us, (end_us - f.offset_us) / f.stretch)
    low = max(np.int64(first * f.bursts) - 1, 0)
    high = min(np.int64(last * f.bursts) + 2, f.bursts)
    for j in range(low, high):
        begin = _burst_start(f, key, j, curve, bin_us)
        from_index = j * f.requests // f.bursts
        num = (j + 1) * f.requests // f.bursts - from_index
        lanes = max(np.int64(f.lanes + uniform(key, 2 * j + 1)), 1)
        q_low = max(np.int64((start_us - begin - f.spread_us - f.pause_us) / f.gap_us) - 1, 0)
        q_high = min(np.int64((end_us - begin) / f.gap_us) + 2, (num + lanes - 1) // lanes)
        for q in range(q_low, q_high):
            late_us = f.pause_us + 0.5 * f.gap_us * uniform(key, 3_000_000_007 + from_index + q) if q > 0 else 0.0
            round_us = begin + f.gap_us * q + late_us
            for r in range(q * lanes, min((q + 1) * lanes, num)):
                word = bits(f.key, from_index + r)
                t = np.int64(round_us + f.spread_us * (r > 0) * (word >> np.uint64(11)) * _UNIT)
                if start_us <= t < end_us:
                    if at < len(arrive):
                        arrive[at] = t
                        run[at] = _run(word, f.run_us, runs)
                    at += 1
    return at


@kernel
def steady(f, curve, bin_us, runs, start_us, end_us, arrive, run, at):
    """As `bursts`, for STEADY and a window inside of one bin; first the stream, ascending, then spikes."""
    before = load_before(curve, bin_us, start_us) * f.requests
    after = load_before(curve, bin_us, end_us) * f.requests
    if after > before:
        slope = (end_us - start_us) / (after - before)
        for i in range(max(np.int64(before) - 1, 0), np.int64(after) + 1):
            word = bits(f.key, i)
            position = i + f.jitter * (word >> np.uint64(11)) * _UNIT
            if position < before or position >= after:
                continue
            t = np.int64(start_us + (position - before) * slope)
            if t < RAMP_TO_US and i > 0:
                # The stream starts gently: one request, a pause in which its pod starts, then a ramp.
                part = max(t - RAMP_FROM_US, 0) / (RAMP_TO_US - RAMP_FROM_US)
                if (finalise(word) >> np.uint64(11)) * _UNIT >= part * part:
                    continue
            if at < len(arrive):
                arrive[at] = min(t, end_us - 1)
                run[at] = _run(word, f.run_us, runs)
            at += 1
    if f.bursts == 0:
        return at
    key = mix64(f.key, 1, 0)
    low = max(np.int64(load_before(curve, bin_us, start_us - f.spread_us) * f.bursts) - 1, 0)
    high = min(np.int64(load_before(curve, bin_us, end_us) * f.bursts) + 2, f.bursts)
    for j in range(low, high):
        begin = _burst_start(f, key, j, curve, bin_us)
        if begin < start_us - f.spread_us or begin >= end_us:
            continue
        own = mix64(f.key, 2, j)
        for r in range(np.int64(f.size + uniform(key, 2 * j + 1))):
            word = bits(own, r)
            t = np.int64(begin + f.spread_us * (word >> np.uint64(11)) * _UNIT)
            if start_us <= t < end_us:
                if at < len(arrive):
                    arrive[at] = t
                    run[at] = _run(word, f.run_us, runs)
                at += 1
    return at


@kernel
def poisson(f, runs, start_us, end_us, arrive, run, at):
    """As `bursts`, for a POISSON function, ascending; windows begin and end at whole minutes."""
    mean_gap_us = 1e6 / f.size
    for minute in range(start_us // MINUTE_US, (end_us + MINUTE_US - 1) // MINUTE_US):
        key = mix64(f.key, 3, minute)
        t = 0.0
        i = 0
        while True:
            word = bits(key, i)
            t -= math.log(((word >> np.uint64(11)) + 0.5) * _UNIT) * mean_gap_us
            if t >= MINUTE_US:
                break
            at_us = minute * MINUTE_US + np.int64(t)
            if start_us <= at_us < end_us:
                if at < len(arrive):
                    arrive[at] = at_us
                    run[at] = _run(finalise(word), f.run_us, runs)
                at += 1
            i += 1
    return at


@njit(cache=True, nogil=True)
def window(functions, chosen, curves, bin_us, runs, start_us, end_us, arrive, run, function):
    """Requests of the functions `chosen` (int64, indices) in [start_us, end_us), function by function; their number.

    `functions` is a structured array (`functions.PROCESS`). Arrays too short are filled and the number needed is
    returned.
    """
    at = 0
    for f in chosen:
        before = at
        own = functions[f]
        curve = curves[own.envelope]
        if own.kind == STEADY:
            begin = start_us
            while begin < end_us:
                end = min((begin // MINUTE_US + 1) * MINUTE_US, end_us)
                at = steady(own, curve, bin_us, runs, begin, end, arrive, run, at)
                begin = end
        elif own.kind == POISSON:
            at = poisson(own, runs, start_us, end_us, arrive, run, at)
        else:
            at = bursts(own, curve, bin_us, runs, start_us, end_us, arrive, run, at)
        for i in range(before, min(at, len(function))):
            function[i] = f
    return at


@njit(cache=True, nogil=True)
def order_by_time(arrive, start_us, span_us):
    """Stable order of `arrive` (int64[n], within `span_us` of `start_us`), int64[n]: radix sort, 13 bits a pass."""
    num = len(arrive)
    order = np.arange(num)
    other = np.empty(num, dtype=np.int64)
    counts = np.empty(1 << _DIGIT, dtype=np.int64)
    shift = 0
    while span_us >> shift:
        counts[:] = 0
        for i in range(num):
            counts[((arrive[i] - start_us) >> shift) & ((1 << _DIGIT) - 1)] += 1
        total = 0
        for i in range(1 << _DIGIT):
            counts[i], total = total, total + counts[i]
        for i in range(num):
            digit = ((arrive[order[i]] - start_us) >> shift) & ((1 << _DIGIT) - 1)
            other[counts[digit]] = order[i]
            counts[digit] += 1
        order, other = other, order
        shift += _DIGIT
    return order


@njit(cache=True, nogil=True)
def hash_calls(hashes, arrive, run, function):
    """Fold calls into one running hash for each function (uint64[F]), in their order."""
    for i in range(len(arrive)):
        f = function[i]
        hashes[f] = finalise(
            hashes[f] ^ finalise(np.uint64(arrive[i]) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(run[i]))
        )
