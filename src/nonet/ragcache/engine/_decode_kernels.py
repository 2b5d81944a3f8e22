"""Attention of single rows over keys that lie anywhere in the pool, without copying them together first."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange


@njit(cache=True, parallel=True, fastmath=True, nogil=True)
def decode_attention(queries, keys, values, slots, added, starts, cos, sin, scale, out):
    """Attend from one row of each sequence.

    Args:
        queries: float32 [r, heads, d], rotated.
        keys: float32 [pool slots, kv_heads, d] of one layer, not rotated.
        values: likewise.
        slots: int64 [total], slots of the keys of all sequences, one after the other.
        added: int64 [total], of each key the slot whose key and value are added to its own, -1 for none.
        starts: int64 [r + 1], where each sequence's keys begin in `slots`.
        cos: float32 [total, d], of the keys' positions.
        sin: likewise.
        scale: of the scores.
        out: float32 [r, heads, d], written.
    """
    num_rows, num_heads, d = queries.shape
    num_kv = keys.shape[1]
    group = num_heads // num_kv
    half = d // 2
    for task in prange(num_rows * num_kv):
        row, kv = task // num_kv, task % num_kv
        first, last = starts[row], starts[row + 1]
        scores = np.empty((group, last - first), np.float32)
        turned, moved = np.empty(d, np.float32), np.empty(d, np.float32)
        top = np.full(group, -np.inf, np.float32)
        for i in range(last - first):
            key, more = keys[slots[first + i], kv], added[first + i]
            if more >= 0:
                for j in range(d):
                    moved[j] = key[j] + keys[more, kv, j]
                key = moved
            c, s = cos[first + i], sin[first + i]
            for j in range(half):
                turned[j] = key[j] * c[j] - key[half + j] * s[j]
                turned[half + j] = key[half + j] * c[j] + key[j] * s[j]
            for g in range(group):
                query = queries[row, kv * group + g]
                total = np.float32(0.0)
                for j in range(d):
                    total += query[j] * turned[j]
                total *= scale
                scores[g, i] = total
                top[g] = max(top[g], total)
        for g in range(group):
            mass = np.float32(0.0)
            for i in range(last - first):
                scores[g, i] = math.exp(scores[g, i] - top[g])
                mass += scores[g, i]
            for j in range(d):
                out[row, kv * group + g, j] = 0.0
            top[g] = mass
        for i in range(last - first):
            value, more = values[slots[first + i], kv], added[first + i]
            if more >= 0:
                for j in range(d):
                    moved[j] = value[j] + values[more, kv, j]
                value = moved
            for g in range(group):
                weight = scores[g, i] / top[g]
                for j in range(d):
                    out[row, kv * group + g, j] += weight * value[j]
