"""The writer's side of the index: places for new keys, displacement, erasure, rebuilding.

Who places a key writes the tag last, so that a reader that sees the key sees its row. Erasing and displacing bump the
version of the key's stripe; so does every write to its row. A reader that found the version even and unchanged has
read one state of its key, whoever used the slot or the row before or after.
"""

from __future__ import annotations

import numpy as np

from nonet.common.kernels import kernel
from nonet.recsys.table._hash_kernels import (
    BYTE,
    EIGHT,
    SLOTS,
    alternative,
    first_slot,
    home_of,
    lock,
    matches,
    mix64,
    prefetch_tags,
    stripe_address,
    tag_of,
    tag_word,
    unlock,
)
from nonet.recsys.table._memory_kernels import address_of, fence_release, store_u32, store_u64

MAX_PATH = 5  # displacements that make room for one key
MAX_NODES = 2048  # buckets that the search for them looks at

# The writer's counters, an int64 array.
LIVE, LIVE_LIMIT, FREE_HEAD, NUM_FREE, HIGH_WATER, ROW_LIMIT = range(6)
NUM_COUNTERS = 6
NO_ROW = -1  # also the end of the chain of free rows

# How the placing of keys ended.
DONE, NEEDS_SLOTS, NEEDS_PATH, NEEDS_ROWS = range(4)

_FREE = np.uint64(0)
_BLOCK = 32  # keys that a rebuild hashes ahead


@kernel
def entry(row, ts):
    """Second word of a slot: update time in the upper half, row in the lower."""
    return np.int64((np.uint64(ts) << np.uint64(32)) | np.uint64(row))


@kernel
def tag_at(view, slot):
    """0 where the slot is free."""
    shift = (np.uint64(slot) & np.uint64(7)) << np.uint64(3)
    return (view.tags[np.uint64(slot) >> np.uint64(3)] >> shift) & BYTE


@kernel
def set_tag(view, slot, tag):
    """Publish a slot, or free it with tag 0."""
    bucket = np.uint64(slot) >> np.uint64(3)
    shift = (np.uint64(slot) & np.uint64(7)) << np.uint64(3)
    word = view.tags[bucket] & ~(BYTE << shift)
    store_u64(address_of(view.tags) + np.int64(bucket * EIGHT), word | (tag << shift))


@kernel
def set_second(view, slot, second):
    """Row and time of a slot in one store."""
    store_u64(address_of(view.slots) + (slot << 4) + 8, np.uint64(second))


@kernel
def write_slot(view, slot, key, second, tag):
    """Put a key into a free slot."""
    view.slots[slot, 0] = key
    view.slots[slot, 1] = second
    set_tag(view, slot, tag)


@kernel
def _move(view, source, target):
    """Displace: first both slots hold the key, then the target alone."""
    key = view.slots[source, 0]
    guard = stripe_address(view, mix64(key))
    lock(guard)
    write_slot(view, target, key, view.slots[source, 1], tag_at(view, source))
    set_tag(view, source, _FREE)
    unlock(guard)


@kernel
def _on_path(search, node, bucket):
    while node >= 0:
        if search[node, 0] == bucket:
            return True
        node = search[node, 1]
    return False


@kernel
def _shift(view, search, node, slot, hole):
    """Move the slots of a path, last one first; returns the hole in the root bucket."""
    while True:
        source = search[node, 0] * SLOTS + slot
        _move(view, source, hole)
        hole = source
        slot = search[node, 2]
        node = search[node, 1]
        if node < 0:
            return hole


@kernel
def _make_room(view, home, other, search):
    """A free slot in one of two full buckets, after displacements; -1 if no path of `MAX_PATH` moves is found.

    Args:
        search: int64 (MAX_NODES, 4), memory of the search: bucket, parent, slot in the parent's bucket, depth.
    """
    search[0, 0], search[0, 1], search[0, 2], search[0, 3] = np.int64(home), -1, -1, 1
    search[1, 0], search[1, 1], search[1, 2], search[1, 3] = np.int64(other), -1, -1, 1
    size = 2
    at = 0
    while at < size:
        bucket = np.uint64(search[at, 0])
        word = view.tags[bucket]
        for slot in range(SLOTS):
            tag = (word >> np.uint64(slot << 3)) & BYTE
            target = alternative(bucket, tag, view.num_buckets)
            free = matches(view.tags[target], _FREE)
            if free != _FREE:
                return _shift(view, search, at, slot, first_slot(target, free))
            if search[at, 3] < MAX_PATH and size < len(search) and not _on_path(search, at, np.int64(target)):
                search[size, 0], search[size, 1], search[size, 2] = np.int64(target), at, slot
                search[size, 3] = search[at, 3] + 1
                size += 1
        at += 1
    return -1


@kernel
def place(view, hashed, search):
    """A free slot for a key that is absent, -1 if none can be made."""
    home = home_of(hashed, view.num_buckets)
    free = matches(tag_word(view, home), _FREE)
    if free != _FREE:
        return first_slot(home, free)
    other = alternative(home, tag_of(hashed), view.num_buckets)
    free = matches(tag_word(view, other), _FREE)
    if free != _FREE:
        return first_slot(other, free)
    return _make_room(view, home, other, search)


@kernel
def rebuild(old, new, search):
    """Place every key of one index in another, empty one; False if a key found no place.

    The home keeps the order of the hashes, so both are walked forwards but for the keys in their alternatives.
    """
    first = np.int64(0)
    num_slots = len(old.slots)
    while first < num_slots:
        last = min(first + _BLOCK, num_slots)
        for slot in range(first, last):
            prefetch_tags(new, mix64(old.slots[slot, 0]) * new.multiplier)
        for slot in range(first, last):
            if tag_at(old, slot) == _FREE:
                continue
            hashed = mix64(old.slots[slot, 0]) * new.multiplier
            target = place(new, hashed, search)
            if target < 0:
                return False
            write_slot(new, target, old.slots[slot, 0], old.slots[slot, 1], tag_of(hashed))
        first = last
    return True


@kernel
def retire(view):
    """Tell readers of a view that there is a newer one, before anything that it sees changes."""
    store_u32(address_of(view.retired), np.uint32(1))
    fence_release()


@kernel
def num_used(view):
    """Slots that hold a key."""
    size = 0
    for slot in range(len(view.slots)):
        size += tag_at(view, slot) != _FREE
    return size


@kernel
def scan(view, keys, rows, ts):
    """Every key with its row and update time, in the order of the slots; returns how many.

    Args:
        keys: int64 output.
        rows: int64 output.
        ts: uint32 output.
    """
    size = 0
    for slot in range(len(view.slots)):
        if tag_at(view, slot) != _FREE:
            second = np.uint64(view.slots[slot, 1])
            keys[size] = view.slots[slot, 0]
            rows[size] = np.int64(second & np.uint64(0xFFFFFFFF))
            ts[size] = np.uint32(second >> np.uint64(32))
            size += 1
    return size
