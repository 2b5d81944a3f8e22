"""Bucketised cuckoo hashing: where a key lives, and how it is found.

A bucket has 8 slots. Its word in `view.tags` holds a byte a slot: 0 is free, otherwise 8 bits of the key's hash, so no
key has to stand for "empty". A slot is two words: the key; row number (low half) and update time (high half). Half a
bucket is one cache line, so a key that is present costs one line of the index beside its tags.

A key lives in its home bucket or in the alternative, `spread(tag) - home` modulo the number of buckets. That is an
involution (the alternative of the alternative is the home), for any number of buckets, and needs the tag alone, so
moving a slot does not read its key.

`view` is a `view.View` throughout.

Pagh and Rodler, "Cuckoo hashing" (2001); buckets and breadth-first displacement: Li et al., "Algorithmic improvements
for fast concurrent cuckoo hashing" (2014).
"""

from __future__ import annotations

import numpy as np

from nonet.common.kernels import kernel
from nonet.recsys.table._memory_kernels import (
    address_of,
    fence_release,
    load_u32,
    load_u64,
    prefetch,
    store_u32,
    trailing_zeros,
)

SLOTS = 8  # a bucket
STRIPES = 4096  # versions; a key has one of them whatever happens to its slot or row
_LOW = np.uint64(0x0101010101010101)
_SEVEN = np.uint64(0x7F7F7F7F7F7F7F7F)
BYTE = np.uint64(0xFF)
_HALF = np.uint64(0xFFFFFFFF)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_GOLDEN32 = np.uint64(0x9E3779B1)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_ONE, EIGHT = np.uint64(1), np.uint64(8)


@kernel
def mix64(key):
    """Splitmix64's finaliser: a bijection of 64 bits, the same in every process and on every machine."""
    x = np.uint64(key) + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


@kernel
def stripe_address(view, mixed):
    """Of the version that guards a key: bits of the hash that neither the tag nor the home uses."""
    stripe = (mixed >> np.uint64(10)) & np.uint64(STRIPES - 1)
    return address_of(view.versions) + np.int64(stripe << np.uint64(2))


@kernel
def lock(version_address):
    """Before a write to what a version guards: it becomes odd. There is one writer, so nobody waits."""
    store_u32(version_address, np.uint32(load_u32(version_address) + 1))
    fence_release()


@kernel
def unlock(version_address):
    """After the write: the version is even again, and another one."""
    store_u32(version_address, np.uint32(load_u32(version_address) + 1))


@kernel
def tag_of(hashed):
    """1..255, from bits 22..29."""
    tag = (hashed >> np.uint64(22)) & BYTE
    return tag if tag != np.uint64(0) else _ONE


@kernel
def home_of(hashed, num_buckets):
    """The upper half of the hash, scaled to [0, num_buckets): keeps order, so a rebuild walks memory forwards."""
    return ((hashed >> np.uint64(32)) * num_buckets) >> np.uint64(32)


@kernel
def alternative(bucket, tag, num_buckets):
    """The other bucket of a slot; an involution."""
    spread = (((tag * _GOLDEN32) & _HALF) * num_buckets) >> np.uint64(32)
    return spread - bucket if spread >= bucket else spread + num_buckets - bucket


@kernel
def _zero_bytes(word):
    """0x80 in every byte that is zero, 0 in every other."""
    return ~(((word & _SEVEN) + _SEVEN) | word | _SEVEN)


@kernel
def tag_word(view, bucket):
    """The eight tags of a bucket."""
    return load_u64(address_of(view.tags) + np.int64(bucket * EIGHT))


@kernel
def matches(word, tag):
    """0x80 in the byte of every slot that has this tag."""
    return _zero_bytes(word ^ (tag * _LOW))


@kernel
def first_slot(bucket, marks):
    """The slot of the lowest mark."""
    return np.int64(bucket * EIGHT + (trailing_zeros(marks) >> np.uint64(3)))


@kernel
def prefetch_slot(view, slot):
    """Ask for the line that holds a slot."""
    prefetch(address_of(view.slots) + (slot << 4))


@kernel
def prefetch_tags(view, hashed):
    """Ask for the tags of both buckets of a key."""
    home = home_of(hashed, view.num_buckets)
    prefetch(address_of(view.tags) + np.int64(home * EIGHT))
    other = alternative(home, tag_of(hashed), view.num_buckets)
    prefetch(address_of(view.tags) + np.int64(other * EIGHT))


@kernel
def prefetch_home(view, hashed):
    """Ask for the tags of the home alone."""
    prefetch(address_of(view.tags) + np.int64(home_of(hashed, view.num_buckets) * EIGHT))


@kernel
def candidate_at_home(view, hashed):
    """The first slot of the home with the key's tag; if there is none, -1, and the alternative's tags are asked for."""
    home = home_of(hashed, view.num_buckets)
    tag = tag_of(hashed)
    marks = matches(tag_word(view, home), tag)
    if marks != np.uint64(0):
        return first_slot(home, marks)
    prefetch(address_of(view.tags) + np.int64(alternative(home, tag, view.num_buckets) * EIGHT))
    return -1


@kernel
def candidate(view, hashed):
    """The first slot with the key's tag, from the tags alone; -1 if there is none."""
    tag = tag_of(hashed)
    bucket = home_of(hashed, view.num_buckets)
    for _ in range(2):
        marks = matches(tag_word(view, bucket), tag)
        if marks != np.uint64(0):
            return first_slot(bucket, marks)
        bucket = alternative(bucket, tag, view.num_buckets)
    return -1


@kernel
def landing(view, hashed):
    """The slot where a key seems to be, or where it would be put without displacement; -1 if both buckets are full."""
    slot = candidate(view, hashed)
    if slot >= 0:
        return slot
    bucket = home_of(hashed, view.num_buckets)
    for _ in range(2):
        free = matches(tag_word(view, bucket), np.uint64(0))
        if free != np.uint64(0):
            return first_slot(bucket, free)
        bucket = alternative(bucket, tag_of(hashed), view.num_buckets)
    return -1


@kernel
def slot_of(view, key, hashed):
    """The slot of a key, -1 if it is absent."""
    tag = tag_of(hashed)
    bucket = home_of(hashed, view.num_buckets)
    for _ in range(2):
        marks = matches(tag_word(view, bucket), tag)
        while marks != np.uint64(0):
            slot = first_slot(bucket, marks)
            if view.slots[slot, 0] == key:
                return slot
            marks &= marks - _ONE
        bucket = alternative(bucket, tag, view.num_buckets)
    return -1


@kernel
def row_in(view, slot):
    """Row number of a slot."""
    return view.slots[slot, 1] & 0xFFFFFFFF


@kernel
def entry(row, ts):
    """Second word of a slot."""
    return np.int64((np.uint64(ts) << np.uint64(32)) | np.uint64(row))
