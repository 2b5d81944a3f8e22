"""Whole batches of rows: gather and scatter for the optimizers, erasure, moving rows together, bags, duplicates."""

from __future__ import annotations

import math

import numpy as np

from nonet.common.kernels import kernel
from nonet.recsys.table._hash_kernels import SLOTS, lock, mix64, slot_of, stripe_address, unlock
from nonet.recsys.table._index_kernels import FREE_HEAD, LIVE, NO_ROW, entry, set_second, set_tag, tag_at
from nonet.recsys.table._memory_kernels import address_of, copy_bytes, load_f32, load_u32, prefetch, store_u32
from nonet.recsys.table._row_kernels import (
    LINE_BYTES,
    count_address,
    give_row,
    load_count,
    state_address,
    weights_address,
)

_AHEAD = 8  # rows that are asked for before they are needed
_HASH_AHEAD = 16  # and places of keys among the distinct ones
_FREE = np.uint64(0)
_HALF = np.uint64(0xFFFFFFFF)


@kernel
def _prefetch_row(view, row):
    for line in range(0, view.dim << 2, LINE_BYTES):
        prefetch(weights_address(view, row) + line)
    for line in range(0, view.state_dim << 2, LINE_BYTES):
        prefetch(state_address(view, row) + line)


@kernel
def gather(view, rows, weights, state):
    """Copy weights and state of rows out, by the writer.

    Args:
        rows: int64 (n,), none of them negative.
        weights: float32 output (n, dim).
        state: float32 output (n, state_dim).
    """
    for i in range(len(rows)):
        if i + _AHEAD < len(rows):
            _prefetch_row(view, rows[i + _AHEAD])
        copy_bytes(address_of(weights) + i * (view.dim << 2), weights_address(view, rows[i]), view.dim << 2)
        if view.state_dim > 0:
            target = address_of(state) + i * (view.state_dim << 2)
            copy_bytes(target, state_address(view, rows[i]), view.state_dim << 2)


@kernel
def scatter(view, keys, rows, weights, state, occurrences):
    """Copy weights and state back, each row under the version of its key.

    Args:
        keys: int64 (n,), whose rows these are.
        rows: int64 (n,).
        weights: float32 (n, dim).
        state: float32 (n, state_dim).
        occurrences: int64 (n,), added to the count of trainings where that is kept; it stops at 2**32 - 1.
    """
    for i in range(len(rows)):
        guard = stripe_address(view, mix64(keys[i]))
        lock(guard)
        copy_bytes(weights_address(view, rows[i]), address_of(weights) + i * (view.dim << 2), view.dim << 2)
        unlock(guard)
        if view.state_dim > 0:
            source = address_of(state) + i * (view.state_dim << 2)
            copy_bytes(state_address(view, rows[i]), source, view.state_dim << 2)
        if view.counted:
            total = np.int64(load_count(view, rows[i])) + occurrences[i]
            store_u32(count_address(view, rows[i]), np.uint32(min(total, np.int64(0xFFFFFFFF))))


@kernel
def gather_counts(view, rows, counts):
    """How often rows were trained (uint32 output); only where that is kept."""
    for i in range(len(rows)):
        counts[i] = load_count(view, rows[i])


@kernel
def scale_counts(view, rows, rate):
    """Multiply how often rows were trained by a rate of 0..1, rounded down; only where that is kept."""
    for i in range(len(rows)):
        store_u32(count_address(view, rows[i]), np.uint32(np.float64(load_count(view, rows[i])) * rate))


@kernel
def gather_norms(view, rows, norms):
    """L2 norms of the weights of rows (float32 output)."""
    for i in range(len(rows)):
        square = 0.0
        for column in range(view.dim):
            weight = np.float64(load_f32(weights_address(view, rows[i]) + (column << 2)))
            square += weight * weight
        norms[i] = math.sqrt(square)


@kernel
def erase(view, counters, keys, erased):
    """Forget keys; their rows go to the free ones.

    Args:
        counters: int64, see `_index_kernels`.
        keys: int64 (n,); absent ones and repetitions are passed over.
        erased: bool output (n,).
    """
    for at in range(len(keys)):
        mixed = mix64(keys[at])
        slot = slot_of(view, keys[at], mixed * view.multiplier)
        if slot < 0:
            continue
        row = np.int64(np.uint64(view.slots[slot, 1]) & _HALF)
        guard = stripe_address(view, mixed)
        lock(guard)
        set_tag(view, slot, _FREE)
        give_row(view, counters, row)
        unlock(guard)
        counters[LIVE] -= 1
        erased[at] = True


@kernel
def move_down(view, limit, taken, free):
    """Move every row at or above `limit` to a free row below it.

    Args:
        limit: row number.
        taken: bool (limit,), scratch, all False.
        free: int64 (limit,), scratch; holds the rows that are still free afterwards, from `used` on.

    Returns:
        (used, num_free): the free rows below the limit are `free[used:num_free]`.
    """
    num_slots = len(view.tags) * SLOTS
    for slot in range(num_slots):
        if tag_at(view, slot) != _FREE:
            row = np.int64(np.uint64(view.slots[slot, 1]) & _HALF)
            if row < limit:
                taken[row] = True
    num_free = 0
    for row in range(limit):
        if not taken[row]:
            free[num_free] = row
            num_free += 1
    used = 0
    for slot in range(num_slots):
        if tag_at(view, slot) == _FREE:
            continue
        second = np.uint64(view.slots[slot, 1])
        row = np.int64(second & _HALF)
        if row < limit:
            continue
        target = free[used]
        used += 1
        guard = stripe_address(view, mix64(view.slots[slot, 0]))
        lock(guard)
        copy_bytes(weights_address(view, target), weights_address(view, row), view.dim << 2)
        if view.state_dim > 0:
            copy_bytes(state_address(view, target), state_address(view, row), view.state_dim << 2)
        if view.counted:
            store_u32(count_address(view, target), load_count(view, row))
        set_second(view, slot, entry(target, second >> np.uint64(32)))
        unlock(guard)
    return used, num_free


@kernel
def chain(view, counters, rows, first, last):
    """Make the rows `rows[first:last]` the free ones, the lowest to be used first."""
    for i in range(last - 1, first - 1, -1):
        give_row(view, counters, rows[i])


@kernel
def walk_free(view, counters, rows):
    """The chain of free rows (int64 output); returns its length, one more than `rows` holds if it goes on."""
    size = 0
    row = counters[FREE_HEAD]
    while row >= 0 and size < len(rows):
        rows[size] = row
        size += 1
        following = load_u32(weights_address(view, row))
        row = NO_ROW if following == np.uint32(0xFFFFFFFF) else np.int64(following)
    return size if row < 0 else size + 1


@kernel
def pool(rows, offsets, mean, out):
    """Sum or mean of the rows of every bag.

    Args:
        rows: float32 (values, dim).
        offsets: int64 (bags + 1,).
        mean: divide by the size of the bag, unknown keys included; an empty bag gives zeros.
        out: float32 output (bags, dim), zeros.
    """
    for bag in range(len(offsets) - 1):
        for at in range(offsets[bag], offsets[bag + 1]):
            for column in range(rows.shape[1]):
                out[bag, column] += rows[at, column]
        size = offsets[bag + 1] - offsets[bag]
        if mean and size > 1:
            for column in range(rows.shape[1]):
                out[bag, column] /= size


@kernel
def _is_usable(gradient):
    # A square that overflows would freeze every accumulator that it enters.
    bad = 0
    for column in range(len(gradient)):
        bad += not np.isfinite(gradient[column] * gradient[column])
    return bad == 0


@kernel
def combine(keys, gradients, counts, places, unique, sums, occurrences):
    """Sum the gradients of equal keys, in the order of their first occurrence.

    Args:
        keys: int64 (n,).
        gradients: float32 (n, dim).
        counts: int64 (n,), occurrences that each line stands for.
        places: int32 (power of two >= 2 n,), scratch, all -1.
        unique: int64 output (n,).
        sums: float32 output (n, dim).
        occurrences: int64 output (n,).

    Returns:
        (num_unique, num_left_out): lines with a NaN, an infinite or a too large number (its square overflows) are left
        out; so is a key whose sum is one.
    """
    mask = np.uint64(len(places) - 1)
    size = 0
    left_out = 0
    for at in range(len(keys)):
        if at + _HASH_AHEAD < len(keys):
            ahead = mix64(keys[at + _HASH_AHEAD]) & mask
            prefetch(address_of(places) + np.int64(ahead << np.uint64(2)))
        if not _is_usable(gradients[at]):
            left_out += 1
            continue
        place = mix64(keys[at]) & mask
        while places[place] >= 0 and unique[places[place]] != keys[at]:
            place = (place + np.uint64(1)) & mask
        i = np.int64(places[place])
        if i < 0:
            places[place] = size
            unique[size] = keys[at]
            occurrences[size] = counts[at]
            for column in range(sums.shape[1]):
                sums[size, column] = gradients[at, column]
            size += 1
        else:
            occurrences[i] += counts[at]
            for column in range(sums.shape[1]):
                sums[i, column] += gradients[at, column]
    kept = 0
    for i in range(size):
        if not _is_usable(sums[i]):
            left_out += 1
            continue
        if kept < i:
            unique[kept] = unique[i]
            occurrences[kept] = occurrences[i]
            for column in range(sums.shape[1]):
                sums[kept, column] = sums[i, column]
        kept += 1
    return kept, left_out
