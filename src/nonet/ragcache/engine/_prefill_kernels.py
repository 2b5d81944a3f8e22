"""Keys and values from anywhere in the pool into one place by head, the keys turned on the way."""

from __future__ import annotations

from numba import njit


@njit(cache=True, fastmath=True, nogil=True)
def gather_turned(keys, values, slots, added, cos, sin, first, last, out_keys, out_values):
    """Copy some rows of a view; every row is read once and written once.

    Args:
        keys: float32 [pool slots, kv_heads, d] of one layer, not rotated.
        values: likewise.
        slots: int64 [k].
        added: int64 [k], of each row the slot whose key and value are added to its own, -1 for none.
        cos: float32 [k, d], of the keys' positions.
        sin: likewise.
        first: first of the rows to copy, within 0 and k.
        last: the one after the last.
        out_keys: float32 [kv_heads, k, d], written.
        out_values: likewise.
    """
    num_kv, d = keys.shape[1], keys.shape[2]
    half = d // 2
    for i in range(first, last):
        slot, more = slots[i], added[i]
        for kv in range(num_kv):
            if more >= 0:
                for j in range(half):
                    left = keys[slot, kv, j] + keys[more, kv, j]
                    right = keys[slot, kv, half + j] + keys[more, kv, half + j]
                    out_keys[kv, i, j] = left * cos[i, j] - right * sin[i, j]
                    out_keys[kv, i, half + j] = right * cos[i, j] + left * sin[i, j]
                for j in range(d):
                    out_values[kv, i, j] = values[slot, kv, j] + values[more, kv, j]
                continue
            for j in range(half):
                left, right = keys[slot, kv, j], keys[slot, kv, half + j]
                out_keys[kv, i, j] = left * cos[i, j] - right * sin[i, j]
                out_keys[kv, i, half + j] = right * cos[i, j] + left * sin[i, j]
            for j in range(d):
                out_values[kv, i, j] = values[slot, kv, j]
