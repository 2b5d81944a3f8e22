"""Compiled loops of the cold-start events: times within an hour, and the choice of joint samples within a minute."""

from __future__ import annotations

import numpy as np
from numba import njit

from nonet.coldstart._random_kernels import mix64, uniform
from nonet.common.kernels import kernel

HOUR_US = 3_600_000_000
MINUTE_US = 60_000_000


@kernel
def table_quantile(log_table, probability):
    """The exponential of `log_table` (float64[n + 1], at 0, 1/n, ..., 1), read at `probability` in (0, 1)."""
    position = probability * (len(log_table) - 1)
    left = min(int(position), len(log_table) - 2)
    part = position - left
    return np.exp(log_table[left] * (1.0 - part) + log_table[left + 1] * part)


@njit(cache=True, nogil=True)
def hour_times(key, num, log_gaps, start_us):
    """`num` ascending times in the hour that begins at `start_us`, int64[num].

    The gaps follow the law `log_gaps` (logarithms of quantiles), one from each of `num` equally likely slices in random
    order, so that their sum is close to an hour; they are scaled to fill it. A share of the first gap lies in the hour
    before.
    """
    times = np.empty(num, dtype=np.int64)
    gaps = np.empty(num, dtype=np.float64)
    total = 0.0
    for i in range(num):
        gaps[i] = table_quantile(log_gaps, (i + uniform(key, i)) / num)
        total += gaps[i]
    for i in range(num - 1, 0, -1):
        j = min(int(uniform(key, num + i) * (i + 1)), i)
        gaps[i], gaps[j] = gaps[j], gaps[i]
    at = 0.0
    if num > 0:
        at = -uniform(key, 2 * num) * gaps[0]
    for i in range(num):
        at += gaps[i]
        times[i] = start_us + min(np.int64(at / total * HOUR_US), HOUR_US - 1)
    return times


@njit(cache=True, nogil=True)
def count_minutes(times_us, counts):
    """Add to `counts` (int64[minutes]) the number of times in each minute."""
    for i in range(len(times_us)):
        counts[times_us[i] // MINUTE_US] += 1


@kernel
def _first_at_least(sums, value):
    low, high = 0, len(sums) - 1
    while low < high:
        middle = (low + high) // 2
        if sums[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def pick(minute_sums, class_at, weight_sums, first, second):
    """Index of a sample: a class by `first` from the minute's cumulative shares, a sample of the class by `second`.

    `weight_sums` are cumulative weights of all samples, which are sorted by class; class c has
    `class_at[c]:class_at[c+1]`.
    """
    chosen = _first_at_least(minute_sums, first * minute_sums[len(minute_sums) - 1])
    low, high = class_at[chosen], class_at[chosen + 1]
    before = weight_sums[low - 1] if low > 0 else 0.0
    return low + _first_at_least(weight_sums[low:high], before + second * (weight_sums[high - 1] - before))


@njit(cache=True, nogil=True)
def pick_samples(key, times_us, minute_sums, class_at, weight_sums):
    """A sample for each time (int64[n], microseconds): indices int64[n]; `minute_sums` is (minutes, classes)."""
    out = np.empty(len(times_us), dtype=np.int64)
    for i in range(len(times_us)):
        row = minute_sums[times_us[i] // MINUTE_US]
        own = np.uint64(mix64(key, times_us[i] // MINUTE_US, i))
        out[i] = pick(row, class_at, weight_sums, uniform(own, 0), uniform(own, 1))
    return out


@njit(cache=True, nogil=True)
def minute_means(key, counts, minute_sums, class_at, weight_sums, values):
    """Means by minute of sampled rows of `values` (samples, columns): float64 (minutes, columns), NaN where empty."""
    out = np.full((len(counts), values.shape[1]), np.nan)
    for minute in range(len(counts)):
        if counts[minute] == 0:
            continue
        out[minute] = 0.0
        for i in range(counts[minute]):
            own = np.uint64(mix64(key, minute, i))
            chosen = pick(minute_sums[minute], class_at, weight_sums, uniform(own, 0), uniform(own, 1))
            for j in range(values.shape[1]):
                out[minute, j] += values[chosen, j]
        out[minute] /= counts[minute]
    return out


@njit(cache=True, nogil=True)
def spread_samples(key, picks, low_s, high_s, parts_s):
    """Cold starts from joint samples, spread over each sample's slice of the law of totals.

    Args:
        key: of the stream.
        picks: int64[n], joint samples.
        low_s: float64[K], from where the slice of totals goes that a sample stands for.
        high_s: float64[K], where it ends.
        parts_s: float64[K, 4], allocation, code, dependency, scheduling.

    Returns:
        Totals int64[n] and parts int64[n, 4] in microseconds; each row adds up to its total.
    """
    total = np.empty(len(picks), dtype=np.int64)
    parts = np.empty((len(picks), 4), dtype=np.int64)
    for i in range(len(picks)):
        k = picks[i]
        value = low_s[k] * (high_s[k] / low_s[k]) ** uniform(key, i)
        total[i] = max(np.int64(value * 1e6), 1)
        factor = value / (parts_s[k, 0] + parts_s[k, 1] + parts_s[k, 2] + parts_s[k, 3])
        parts[i, 0] = min(np.int64(parts_s[k, 0] * factor * 1e6), total[i])
        left = total[i] - parts[i, 0]
        for j in (1, 2):
            parts[i, j] = min(np.int64(parts_s[k, j] * factor * 1e3 + 0.5), left // 1000) * 1000
            left -= parts[i, j]
        parts[i, 3] = left
    return total, parts


@njit(cache=True, nogil=True)
def choose_functions(key, cell, runtime, trigger_sums, at, order, sums):
    """A function for each cold start, int64[n]: a trigger by its cell, then a function of that runtime and trigger.

    Group g = runtime * triggers + trigger has the functions `order[at[g]:at[g + 1]]` with cumulative shares `sums`.
    """
    out = np.empty(len(cell), dtype=np.int64)
    for i in range(len(cell)):
        row = trigger_sums[cell[i]]
        trigger = _first_at_least(row, uniform(key, 2 * i) * row[len(row) - 1])
        group = runtime[i] * len(row) + trigger
        low, high = at[group], at[group + 1]
        out[i] = order[low + _first_at_least(sums[low:high], uniform(key, 2 * i + 1))]
    return out
