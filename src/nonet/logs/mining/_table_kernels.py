"""The shape table: an open-addressing hash table of masked texts over flat arrays.

The hot loop of the miner. One line costs a scan, a 64-bit hash, usually one probe and one comparison of the masked
text, so a hash collision can never join two shapes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from nonet.common.kernels import inlined_kernel, kernel
from nonet.logs.mining._recognise_kernels import K_CALENDAR, K_HOST, K_ID, K_PATH
from nonet.logs.mining._scan_kernels import scan

NUM_ENTRIES, ARENA_USED, SOFT_USED, LINES, EVICTED_LINES, EVICTED_SHAPES = range(6)
MAX_SOFT_BYTES = 256  # a longer value of a soft hole counts as varied
MAX_SAMPLE_BYTES = 512
VARIED = -1
NO_HOLES, NO_TABLE = 1, 2
WEIGHT_ONE = 256  # fixed point: one line
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
SHIFT = np.uint64(32)


class Table(NamedTuple):
    """Arrays of a shape table with room for N shapes, S soft holes and A arena bytes.

    Attributes:
        slots: int32 (power of two,), entry index or -1.
        hashes, text_at, text_len: (N,) hash, arena offset and length of the masked text.
        counts, first_seen, last_seen, weights: (N,) lines, ordinals of first and last line, decayed weight.
        sample_at, sample_len: (N,) arena offset and length of the first line's Content, cut at MAX_SAMPLE_BYTES.
        soft_at, soft_num, soft_open: (N,) first soft hole, number of them, number that never varied so far.
        soft_hash, soft_value_at, soft_len: (S,) the one value seen, soft_len VARIED when there were several.
        arena: uint8 (A,), texts 8-byte aligned and zero-padded.
        meta: int64 (8,), see the index names above.
    """

    slots: np.ndarray
    hashes: np.ndarray
    text_at: np.ndarray
    text_len: np.ndarray
    counts: np.ndarray
    first_seen: np.ndarray
    last_seen: np.ndarray
    weights: np.ndarray
    sample_at: np.ndarray
    sample_len: np.ndarray
    soft_at: np.ndarray
    soft_num: np.ndarray
    soft_open: np.ndarray
    soft_hash: np.ndarray
    soft_value_at: np.ndarray
    soft_len: np.ndarray
    arena: np.ndarray
    meta: np.ndarray


@inlined_kernel
def hash_words(words, num_words):
    """64-bit multiply-xor hash of the first `num_words` uint64 words."""
    h = np.uint64(num_words) * MULTIPLIER
    for k in range(num_words):
        h = (h ^ words[k]) * MULTIPLIER
        h ^= h >> SHIFT
    h *= MULTIPLIER
    return h ^ (h >> np.uint64(29))


@inlined_kernel
def hash_bytes(buf, start, end):
    """64-bit hash of buf[start:end], byte by byte (short values only)."""
    h = np.uint64(end - start) * MULTIPLIER
    for k in range(start, end):
        h = (h ^ np.uint64(buf[k])) * MULTIPLIER
        h ^= h >> SHIFT
    return h


@inlined_kernel
def is_soft(kind):
    """Whether the hole may turn out to be a constant."""
    return kind in (K_PATH, K_HOST, K_ID, K_CALENDAR)


@inlined_kernel
def find(slots, hashes, text_at, text_len, arena_words, words, num_bytes, h):
    """(entry index or -1, slot where it is or would be) of the masked text in `words`, whose hash is `h`."""
    mask = len(slots) - 1
    slot = np.int64(h & np.uint64(mask))
    num_words = (num_bytes + 7) >> 3
    while True:
        entry = slots[slot]
        if entry < 0:
            return -1, slot
        if hashes[entry] == h and text_len[entry] == num_bytes:
            base = text_at[entry] >> 3
            k = 0
            while k < num_words and arena_words[base + k] == words[k]:
                k += 1
            if k == num_words:
                return np.int64(entry), slot
        slot = (slot + 1) & mask


@kernel
def _append(arena, used, source, start, end):
    """Copy bytes into the arena at `used`; returns the next 8-aligned offset, the gap zeroed."""
    for k in range(start, end):
        arena[used + k - start] = source[k]
    stop = used + end - start
    aligned = (stop + 7) & ~7
    for k in range(stop, aligned):
        arena[k] = 0
    return aligned


@kernel
def insert_text(table, slot, h, text, start, num_bytes):
    """Add an entry without soft holes or sample at a free slot; returns its index. The caller checked the room."""
    meta = table.meta
    entry = meta[NUM_ENTRIES]
    used = meta[ARENA_USED]
    table.slots[slot] = entry
    table.hashes[entry] = h
    table.text_at[entry], table.text_len[entry] = used, num_bytes
    meta[ARENA_USED] = _append(table.arena, used, text, start, start + num_bytes)
    table.counts[entry] = 0
    table.weights[entry] = 0
    table.soft_at[entry] = meta[SOFT_USED]
    table.soft_num[entry] = 0
    table.soft_open[entry] = 0
    table.sample_at[entry], table.sample_len[entry] = 0, 0
    meta[NUM_ENTRIES] = entry + 1
    return entry


@kernel
def _insert_line(table, slot, h, masked, num_bytes, buf, start, end, holes, first_hole, end_hole):
    """Add the shape of a line with its soft values and its sample."""
    meta = table.meta
    entry = insert_text(table, slot, h, masked, 0, num_bytes)
    for hole in range(first_hole, end_hole):
        if is_soft(holes.kinds[hole]):
            soft = meta[SOFT_USED]
            low, high = start + holes.starts[hole], start + holes.ends[hole]
            if high - low <= MAX_SOFT_BYTES:
                table.soft_hash[soft] = hash_bytes(buf, low, high)
                table.soft_value_at[soft], table.soft_len[soft] = meta[ARENA_USED], high - low
                meta[ARENA_USED] = _append(table.arena, meta[ARENA_USED], buf, low, high)
                table.soft_open[entry] += 1
            else:
                table.soft_len[soft] = VARIED
            meta[SOFT_USED] = soft + 1
            table.soft_num[entry] += 1
    length = min(end - start, MAX_SAMPLE_BYTES)
    table.sample_at[entry], table.sample_len[entry] = meta[ARENA_USED], length
    meta[ARENA_USED] = _append(table.arena, meta[ARENA_USED], buf, start, start + length)
    return entry


@inlined_kernel
def _compare_soft(soft_len, soft_hash, soft_open, soft, entry, buf, start, kinds, starts, ends, first_hole, end_hole):
    """Mark the soft holes of an entry, from index `soft` on, whose value differs from the one seen so far."""
    for hole in range(first_hole, end_hole):
        if is_soft(kinds[hole]):
            length = soft_len[soft]
            if length != VARIED:
                low, high = start + starts[hole], start + ends[hole]
                if length != high - low or soft_hash[soft] != hash_bytes(buf, low, high):
                    soft_len[soft] = VARIED
                    soft_open[entry] -= 1
            soft += 1


@kernel
def holds_constants(table, entry, buf, start, kinds, starts, ends, first_hole, end_hole):
    """Whether the line has the entry's value in every soft hole that never varied."""
    soft = table.soft_at[entry]
    for hole in range(first_hole, end_hole):
        if is_soft(kinds[hole]):
            length = table.soft_len[soft]
            if length != VARIED:
                if length != ends[hole] - starts[hole]:
                    return False
                at = table.soft_value_at[soft]
                for k in range(length):
                    if table.arena[at + k] != buf[start + starts[hole] + k]:
                        return False
            soft += 1
    return True


@inlined_kernel
def touch(counts, weights, first_seen, last_seen, entry, ordinal, half_life_shift):
    """Count one more line of an entry at `ordinal`; its weight halves every 2**half_life_shift lines."""
    if counts[entry] == 0:
        first_seen[entry] = ordinal
    else:
        age = (ordinal - last_seen[entry]) >> half_life_shift
        if age > 0:
            weights[entry] = weights[entry] >> min(age, 62)
    weights[entry] += WEIGHT_ONE
    last_seen[entry] = ordinal
    counts[entry] += 1


class Lines(NamedTuple):
    """Contents of a block.

    Attributes:
        buf: uint8.
        starts, ends: int64 (lines,), spans of the Contents.
        user_starts, user_ends, user_at: spans of user masks; line i owns [user_at[i], user_at[i + 1]).
    """

    buf: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    user_starts: np.ndarray
    user_ends: np.ndarray
    user_at: np.ndarray


class Holes(NamedTuple):
    """Outputs: line i owns holes [at[i], at[i + 1]); starts and ends are offsets from the start of the line."""

    at: np.ndarray
    kinds: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


@kernel
def _has_room(table, num_bytes, num_holes):
    """Whether one more shape surely fits."""
    meta = table.meta
    room = (num_holes + 1) * (MAX_SOFT_BYTES + 8) + num_bytes + MAX_SAMPLE_BYTES + 32
    return (
        meta[NUM_ENTRIES] < len(table.hashes)
        and meta[SOFT_USED] + num_holes <= len(table.soft_len)
        and meta[ARENA_USED] + room <= len(table.arena)
    )


@kernel
def learn(lines, first, ordinal, table, half_life_shift, masked, entries, keep_holes, holes):
    """Count the shapes of lines first, first+1, ...; stop at the line for which there is no room.

    Args:
        lines: see `Lines`.
        first: line to begin with.
        ordinal: ordinal of line 0 in the stream, for first_seen, last_seen and decay.
        table: the shape table, changed in place.
        half_life_shift: see `touch`.
        masked: scratch of one line.
        entries: int32 output (lines,), the entry of each line; valid until the next eviction.
        keep_holes: whether the holes of all lines are wanted; otherwise `holes` is scratch of one line.
        holes: see `Holes`.

    Returns:
        The first line not counted (the number of lines when all are), and what was short for it: NO_HOLES or NO_TABLE.
    """
    words, arena_words = masked.view(np.uint64), table.arena.view(np.uint64)
    # Arrays are taken out of their tuples here: inside the loop each access would count references.
    buf, line_starts, line_ends, user_starts, user_ends, user_at = lines
    hole_at, kinds, starts, ends = holes
    slots, hashes, text_at, text_len = table.slots, table.hashes, table.text_at, table.text_len
    counts, weights, first_seen, last_seen = table.counts, table.weights, table.first_seen, table.last_seen
    soft_at, soft_len, soft_hash, soft_open = table.soft_at, table.soft_len, table.soft_hash, table.soft_open
    meta = table.meta
    for line in range(first, len(line_starts)):
        start, end = line_starts[line], line_ends[line]
        hole = hole_at[line] if keep_holes else 0
        if hole + min(end - start, len(masked)) + 1 > len(kinds):
            return line, NO_HOLES
        user, user_stop = user_at[line], user_at[line + 1]
        num_bytes, end_hole = scan(
            buf, start, end, user_starts, user_ends, user, user_stop, masked, kinds, starts, ends, hole
        )
        h = hash_words(words, (num_bytes + 7) >> 3)
        entry, slot = find(slots, hashes, text_at, text_len, arena_words, words, num_bytes, h)
        if entry < 0:
            if not _has_room(table, num_bytes, end_hole - hole):
                return line, NO_TABLE
            entry = _insert_line(table, slot, h, masked, num_bytes, buf, start, end, holes, hole, end_hole)
        elif soft_open[entry]:
            soft = soft_at[entry]
            _compare_soft(soft_len, soft_hash, soft_open, soft, entry, buf, start, kinds, starts, ends, hole, end_hole)
        touch(counts, weights, first_seen, last_seen, entry, ordinal + line, half_life_shift)
        meta[LINES] += 1
        entries[line] = entry
        if keep_holes:
            hole_at[line + 1] = end_hole
    return len(line_starts), 0


@kernel
def label(lines, first, table, masked, entries, holes):
    """Look up the shapes of lines without counting, and keep their holes.

    Args:
        entries: int32 output, entry; -1 when the shape is not there or the line differs from one of its constants.
        (others as in `learn`)

    Returns:
        The first line not labelled, because its holes might not fit.
    """
    words, arena_words = masked.view(np.uint64), table.arena.view(np.uint64)
    buf, line_starts, line_ends, user_starts, user_ends, user_at = lines
    hole_at, kinds, starts, ends = holes
    slots, hashes, text_at, text_len = table.slots, table.hashes, table.text_at, table.text_len
    soft_open = table.soft_open
    for line in range(first, len(line_starts)):
        start, end = line_starts[line], line_ends[line]
        hole = hole_at[line]
        if hole + min(end - start, len(masked)) + 1 > len(kinds):
            return line
        user, user_stop = user_at[line], user_at[line + 1]
        num_bytes, end_hole = scan(
            buf, start, end, user_starts, user_ends, user, user_stop, masked, kinds, starts, ends, hole
        )
        h = hash_words(words, (num_bytes + 7) >> 3)
        entry, _ = find(slots, hashes, text_at, text_len, arena_words, words, num_bytes, h)
        if entry >= 0 and soft_open[entry]:
            if not holds_constants(table, entry, buf, start, kinds, starts, ends, hole, end_hole):
                entry = -1
        entries[line] = entry
        hole_at[line + 1] = end_hole
    return len(line_starts)


@kernel
def rebuild_slots(table):
    """Fill `slots` anew from the entries (after growing or compacting)."""
    table.slots[:] = -1
    mask = len(table.slots) - 1
    for entry in range(table.meta[NUM_ENTRIES]):
        slot = np.int64(table.hashes[entry] & np.uint64(mask))
        while table.slots[slot] >= 0:
            slot = (slot + 1) & mask
        table.slots[slot] = entry


@kernel
def copy_entries(source, target, chosen):
    """Append the chosen entries of `source` to the empty or roomy `target`; texts must not be there yet."""
    for entry in chosen:
        new = insert_text(target, 0, source.hashes[entry], source.arena, source.text_at[entry], source.text_len[entry])
        target.counts[new], target.weights[new] = source.counts[entry], source.weights[entry]
        target.first_seen[new], target.last_seen[new] = source.first_seen[entry], source.last_seen[entry]
        target.soft_num[new], target.soft_open[new] = source.soft_num[entry], source.soft_open[entry]
        for k in range(source.soft_num[entry]):
            old, soft = source.soft_at[entry] + k, target.meta[SOFT_USED]
            target.soft_hash[soft], target.soft_len[soft] = source.soft_hash[old], source.soft_len[old]
            target.soft_value_at[soft] = target.meta[ARENA_USED]
            if source.soft_len[old] > 0:
                at = source.soft_value_at[old]
                target.meta[ARENA_USED] = _append(
                    target.arena, target.meta[ARENA_USED], source.arena, at, at + source.soft_len[old]
                )
            target.meta[SOFT_USED] = soft + 1
        at = source.sample_at[entry]
        target.sample_at[new], target.sample_len[new] = target.meta[ARENA_USED], source.sample_len[entry]
        target.meta[ARENA_USED] = _append(
            target.arena, target.meta[ARENA_USED], source.arena, at, at + source.sample_len[entry]
        )
    rebuild_slots(target)


@kernel
def meet_entries(source, target, pairs, half_life_shift):
    """Add the counts of source entries to the same shapes in target, and join their soft values.

    Args:
        pairs: int64 (n, 2), entry in source, entry in target.
    """
    for row in range(len(pairs)):
        s, t = pairs[row, 0], pairs[row, 1]
        target.counts[t] += source.counts[s]
        target.weights[t] += source.weights[s]
        target.first_seen[t] = min(target.first_seen[t], source.first_seen[s])
        target.last_seen[t] = max(target.last_seen[t], source.last_seen[s])
        for k in range(source.soft_num[s]):
            old, soft = source.soft_at[s] + k, target.soft_at[t] + k
            same = source.soft_len[old] == target.soft_len[soft] and source.soft_hash[old] == target.soft_hash[soft]
            if target.soft_len[soft] != VARIED and not same:
                target.soft_len[soft] = VARIED
                target.soft_open[t] -= 1


@njit(cache=True, nogil=True)
def match_entries(source, target):
    """Entry of `target` with the same masked text for every entry of `source`, or -1; int64 (entries of source,)."""
    found = np.empty(source.meta[NUM_ENTRIES], np.int64)
    source_words, target_words = source.arena.view(np.uint64), target.arena.view(np.uint64)
    for entry in range(source.meta[NUM_ENTRIES]):
        text = source_words[source.text_at[entry] >> 3 :]
        found[entry], _ = find(
            target.slots,
            target.hashes,
            target.text_at,
            target.text_len,
            target_words,
            text,
            source.text_len[entry],
            source.hashes[entry],
        )
    return found
