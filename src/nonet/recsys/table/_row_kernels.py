"""Reading and writing rows: the batched lookup of readers, and the writer's insert, update and erase.

Every kernel takes keys in blocks and works in phases: hash a block and ask for its tags; look at the tags and ask for
the slots; look at the slots and ask for the rows; copy. Memory answers many requests at once, so a block costs little
more than its slowest miss.
"""

from __future__ import annotations

import numpy as np

from nonet.common.kernels import kernel
from nonet.recsys.table._hash_kernels import (
    candidate,
    candidate_at_home,
    landing,
    lock,
    mix64,
    prefetch_home,
    prefetch_slot,
    prefetch_tags,
    slot_of,
    stripe_address,
    tag_of,
    unlock,
)
from nonet.recsys.table._index_kernels import (
    DONE,
    FREE_HEAD,
    HIGH_WATER,
    LIVE,
    LIVE_LIMIT,
    NEEDS_PATH,
    NEEDS_ROWS,
    NEEDS_SLOTS,
    NO_ROW,
    NUM_FREE,
    ROW_LIMIT,
    entry,
    place,
    set_second,
    write_slot,
)
from nonet.recsys.table._memory_kernels import (
    QUAD_BYTES,
    address_of,
    copy_bytes,
    copy_line,
    fence_acquire,
    fence_all,
    load_u32,
    load_u64,
    prefetch,
    store_u32,
    stream_quad,
)

BLOCK = 64  # keys in flight
LINE_BYTES = 64
STREAM_BYTES = 1 << 21  # of output, from which on it is written past the cache, which it would only flush
_HALF = np.uint64(0xFFFFFFFF)
_FREE = np.uint64(0)
_ABSENT, _STALE = 0, -1  # in place of the address of a row


@kernel
def weights_address(view, row):
    """Of the weights of a row."""
    return view.bases[row >> view.row_bits] + (row & ((1 << view.row_bits) - 1)) * (view.dim << 2)


@kernel
def state_address(view, row):
    """Of the optimizer state of a row."""
    in_chunk = row & ((1 << view.row_bits) - 1)
    return view.bases[row >> view.row_bits] + (view.dim << (2 + view.row_bits)) + in_chunk * (view.state_dim << 2)


@kernel
def count_address(view, row):
    """Of the number of trainings of a row; only where `view.counted`."""
    in_chunk = row & ((1 << view.row_bits) - 1)
    width = (view.dim + view.state_dim) << (2 + view.row_bits)
    return view.bases[row >> view.row_bits] + width + (in_chunk << 2)


@kernel
def _prefetch_floats(address, num_floats):
    for line in range(0, num_floats << 2, LINE_BYTES):
        prefetch(address + line)


@kernel
def _copy_row(target, source, num_bytes):
    whole = num_bytes & ~(LINE_BYTES - 1)
    for at in range(0, whole, LINE_BYTES):
        copy_line(target + at, source + at)
    if whole < num_bytes:
        copy_bytes(target + whole, source + whole, num_bytes - whole)


@kernel
def _stream_row(target, source, num_bytes):
    whole = num_bytes & ~(LINE_BYTES - 1)
    for at in range(0, whole, LINE_BYTES):
        stream_quad(target + at, source + at)
        stream_quad(target + at + QUAD_BYTES, source + at + QUAD_BYTES)
        stream_quad(target + at + 2 * QUAD_BYTES, source + at + 2 * QUAD_BYTES)
        stream_quad(target + at + 3 * QUAD_BYTES, source + at + 3 * QUAD_BYTES)
    for at in range(whole, num_bytes, QUAD_BYTES):
        stream_quad(target + at, source + at)


@kernel
def _row_address(view, slot):
    """Of the weights behind a slot; `_STALE` if they lie in memory that this view does not know."""
    row = np.int64(load_u64(address_of(view.slots) + (slot << 4) + 8) & _HALF)
    return weights_address(view, row) if (row >> view.row_bits) < len(view.bases) else _STALE


@kernel
def _read_alone(view, key, target):
    """Copy one row, again and again until its version stands still; False if the view is retired.

    Args:
        target: address of `dim` floats; 0 to look only.

    Returns:
        1 found, 0 absent (the target is zeroed by the caller), -1 retired.
    """
    mixed = mix64(key)
    guard = stripe_address(view, mixed)
    while True:
        version = load_u32(guard)
        if load_u32(address_of(view.retired)) != 0:
            return -1
        if version & np.uint32(1):
            continue
        slot = slot_of(view, key, mixed * view.multiplier)
        source = _row_address(view, slot) if slot >= 0 else _ABSENT
        if source == _STALE:
            continue
        if target != 0 and source != _ABSENT:
            copy_bytes(target, source, view.dim << 2)
        fence_acquire()
        if load_u32(guard) == version:
            return 0 if source == _ABSENT else 1


@kernel
def _locate_block(view, keys, first, last, hashes, marks):
    """The read phases of a block: addresses of rows and the versions that they were read under.

    Args:
        hashes: uint64 (BLOCK,), scratch.
        marks: int64 (3, BLOCK), outputs: guard, version, address of the row or `_ABSENT` or `_STALE`.

    Returns:
        False if the view is retired.
    """
    for at in range(first, last):
        mixed = mix64(keys[at])
        hashes[at - first] = mixed * view.multiplier
        marks[0, at - first] = stripe_address(view, mixed)
        prefetch_home(view, hashes[at - first])
    for i in range(last - first):
        marks[1, i] = load_u32(marks[0, i])
    if load_u32(address_of(view.retired)) != 0:
        return False
    for i in range(last - first):
        marks[2, i] = candidate_at_home(view, hashes[i])
        if marks[2, i] >= 0:
            prefetch_slot(view, marks[2, i])
    for i in range(last - first):
        if marks[2, i] < 0:
            marks[2, i] = candidate(view, hashes[i])
            if marks[2, i] >= 0:
                prefetch_slot(view, marks[2, i])
    for at in range(first, last):
        i = at - first
        slot = marks[2, i]
        if slot >= 0 and view.slots[slot, 0] != keys[at]:
            slot = slot_of(view, keys[at], hashes[i])
        marks[2, i] = _row_address(view, slot) if slot >= 0 else _ABSENT
        if marks[2, i] > 0:
            _prefetch_floats(marks[2, i], view.dim)
    return True


@kernel
def lookup(view, keys, start, stop, out, found, hashes, marks):
    """Rows of keys for any number of readers beside one writer; absent keys give zeros. Never half of a row.

    Args:
        view: see `view.View`.
        keys: int64 (n,).
        start: key to begin with.
        stop: key to end before.
        out: float32 (n, dim), or (0, dim) to learn only which keys are present.
        found: bool output (n,).
        hashes: uint64 (BLOCK,), scratch.
        marks: int64 (3, BLOCK), scratch.

    Returns:
        Before which key it ended; not `stop` if the view was retired meanwhile.
    """
    num_bytes = view.dim << 2
    streams = len(out) * num_bytes >= STREAM_BYTES and ((address_of(out) | num_bytes) & (QUAD_BYTES - 1)) == 0
    first = start
    while first < stop:
        last = min(first + BLOCK, stop)
        done = first
        if _locate_block(view, keys, first, last, hashes, marks):
            done = _copy_block(view, keys, first, last, out, found, marks, streams)
        first = done
        if done < last:
            break
    if streams:
        fence_all()
    return first


@kernel
def _copy_block(view, keys, first, last, out, found, marks, streams):
    """The last phase of a block: rows to the output, again if their version has changed; see `lookup`."""
    wants_rows = len(out) > 0
    num_bytes = view.dim << 2
    for at in range(first, last):
        i = at - first
        source = marks[2, i]
        target = address_of(out) + at * num_bytes if wants_rows else 0
        if source > 0 and wants_rows:
            if streams:
                _stream_row(target, source, num_bytes)
            else:
                _copy_row(target, source, num_bytes)
        fence_acquire()
        present = 1 if source > 0 else 0
        if source == _STALE or (marks[1, i] & 1) or load_u32(marks[0, i]) != marks[1, i]:
            present = _read_alone(view, keys[at], target)
            if present < 0:
                return at
        if present == 0 and wants_rows:
            for column in range(view.dim):
                out[at, column] = 0.0
        found[at] = present == 1
    return last


@kernel
def find(view, keys, rows, slots, hashes):
    """The writer's own lookup, without versions.

    Args:
        keys: int64 (n,).
        rows: int64 output (n,), -1 where the key is absent.
        slots: int64 output (n,), likewise; valid until the next key is placed.
        hashes: uint64 (BLOCK,), scratch.
    """
    first = 0
    while first < len(keys):
        last = min(first + BLOCK, len(keys))
        for at in range(first, last):
            hashes[at - first] = mix64(keys[at]) * view.multiplier
            prefetch_tags(view, hashes[at - first])
        for at in range(first, last):
            slots[at] = candidate(view, hashes[at - first])
            if slots[at] >= 0:
                prefetch_slot(view, slots[at])
        for at in range(first, last):
            slot = slots[at]
            if slot >= 0 and view.slots[slot, 0] != keys[at]:
                slot = slot_of(view, keys[at], hashes[at - first])
            slots[at] = slot
            rows[at] = np.int64(np.uint64(view.slots[slot, 1]) & _HALF) if slot >= 0 else NO_ROW
        first = last


@kernel
def stamp(view, slots, ts):
    """Set the update time of slots, where it is newer than the one that they have."""
    for i in range(len(slots)):
        second = np.uint64(view.slots[slots[i], 1])
        if ts > np.int64(second >> np.uint64(32)):
            set_second(view, slots[i], entry(second & _HALF, ts))


@kernel
def _take_row(view, counters):
    """A free row: one that was erased, or the next one that was never used."""
    row = counters[FREE_HEAD]
    if row >= 0:
        following = load_u32(weights_address(view, row))
        counters[FREE_HEAD] = NO_ROW if following == np.uint32(0xFFFFFFFF) else np.int64(following)
        counters[NUM_FREE] -= 1
        return row
    if counters[HIGH_WATER] < counters[ROW_LIMIT]:
        counters[HIGH_WATER] += 1
        return counters[HIGH_WATER] - 1
    return NO_ROW


@kernel
def give_row(view, counters, row):
    """Put a row on the chain of free rows, which runs through their first words."""
    store_u32(weights_address(view, row), np.uint32(counters[FREE_HEAD]))
    counters[FREE_HEAD] = row
    counters[NUM_FREE] += 1


@kernel
def _write_row(view, row, weights, state, at, with_state, count):
    if view.dim > 0:
        copy_bytes(weights_address(view, row), address_of(weights) + at * (view.dim << 2), view.dim << 2)
    if with_state and view.state_dim > 0:
        from_row = at if len(state) > 1 else 0
        source = address_of(state) + from_row * (view.state_dim << 2)
        copy_bytes(state_address(view, row), source, view.state_dim << 2)
    if view.counted:
        store_u32(count_address(view, row), np.uint32(count))


@kernel
def put(view, counters, keys, start, weights, state, ts, counts, overwrite, search, hashes, created):
    """Write rows under keys, creating those that are absent.

    Args:
        counters: int64, see `_index_kernels`.
        keys: int64 (n,); the last of equal keys wins.
        start: key to begin with.
        weights: float32 (n, dim).
        state: float32 (n, state_dim), or (1, state_dim) for the same one everywhere.
        ts: uint32 (n,) or (1,), update times.
        counts: uint32 (n,) or (1,), how often the keys were trained.
        overwrite: whether keys that are present get state and counts, too.
        search: int64, see `place`.
        hashes: uint64 (BLOCK,), scratch.
        created: bool output (n,), True for keys that were absent.

    Returns:
        (how, done): `DONE` or what the caller has to provide, and how many keys are written.
    """
    first = start
    while first < len(keys):
        last = min(first + BLOCK, len(keys))
        for at in range(first, last):
            hashes[at - first] = mix64(keys[at]) * view.multiplier
            prefetch_tags(view, hashes[at - first])
        for at in range(first, last):
            prefetch_slot(view, landing(view, hashes[at - first]))  # any address may be asked for
        for at in range(first, last):
            key = keys[at]
            hashed = hashes[at - first]
            time = ts[at] if len(ts) > 1 else ts[0]
            count = counts[at] if len(counts) > 1 else counts[0]
            slot = slot_of(view, key, hashed)
            if slot >= 0:
                second = np.uint64(view.slots[slot, 1])
                row = np.int64(second & _HALF)
                guard = stripe_address(view, mix64(key))
                lock(guard)
                _write_row(view, row, weights, state, at, overwrite, count if overwrite else load_count(view, row))
                unlock(guard)
                if overwrite or np.int64(time) > np.int64(second >> np.uint64(32)):
                    set_second(view, slot, entry(row, time))
                continue
            if counters[LIVE] >= counters[LIVE_LIMIT]:
                return NEEDS_SLOTS, at
            if counters[FREE_HEAD] < 0 and counters[HIGH_WATER] >= counters[ROW_LIMIT]:
                return NEEDS_ROWS, at
            slot = place(view, hashed, search)
            if slot < 0:
                return NEEDS_PATH, at
            row = _take_row(view, counters)
            _write_row(view, row, weights, state, at, True, count)
            write_slot(view, slot, key, entry(row, time), tag_of(hashed))
            counters[LIVE] += 1
            created[at] = True
        first = last
    return DONE, len(keys)


@kernel
def load_count(view, row):
    """How often a row was trained; 0 where that is not kept."""
    return load_u32(count_address(view, row)) if view.counted else np.uint32(0)
