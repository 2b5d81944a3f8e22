"""Counting in the sliding sketch.

`cells` is uint32 [buckets, splits, 16]: the upper 24 bits are a signature, the lower 8 a count of 1..255; 0 is free. A
key has two buckets, the same ones in every split, and lies in one cell of one split at most. What a bucket has in all
splits lies together, so a key costs two places in memory.
"""

from __future__ import annotations

import numpy as np

from nonet.common.kernels import kernel

CELLS = 16  # a bucket, one cache line
MAX_COUNT = 255
SIGNATURE_BITS = 24
NO_LIMIT = 1 << 62

# The numbers beside the cells, an int64 array.
HEAD, FILL, ROTATIONS, FORGOTTEN = range(4)
NUM_NUMBERS = 4

_SHIFT = np.uint32(8)
_COUNT = np.uint32(255)


@kernel
def other_bucket(bucket, signature, num_buckets):
    """An involution: the other bucket of the other bucket is the first one."""
    spread = (np.int64(signature) * 0x5BD1E995 >> 7) % num_buckets
    return spread - bucket if spread >= bucket else spread + num_buckets - bucket


@kernel
def _find(bucket, signature):
    """Place among the cells of a bucket [splits * 16], -1 if there is none; without branches, so in vectors."""
    found = np.int32(-1)
    for n in range(len(bucket)):
        found = max(found, np.int32(n) if bucket[n] >> _SHIFT == signature and bucket[n] != 0 else np.int32(-1))
    return found


@kernel
def _num_used(cells):
    used = 0
    for n in range(CELLS):
        used += cells[n] != 0
    return used


@kernel
def _weakest(cells):
    """The cell with the lowest count; a free one if there is one."""
    best = 0
    for n in range(1, CELLS):
        if cells[n] & _COUNT < cells[best] & _COUNT:
            best = n
    return best


@kernel
def _take(cells, bucket, other, signature, numbers):
    """Remove the key's cell and give its count; 0 if there is none."""
    for at in (bucket, other):
        every = cells[at].reshape(-1)
        n = _find(every, signature)
        if n >= 0:
            count = np.int64(every[n] & _COUNT)
            every[n] = 0
            if n // CELLS == numbers[HEAD]:
                numbers[FILL] -= 1
            return count
    return 0


@kernel
def place(cells, bucket, signature, count, split_limit, numbers):
    """Write a cell into the head; a full head makes the oldest split the new head, and what it had is forgotten.

    Args:
        cells: see above.
        bucket: one of the key's.
        signature: uint32.
        count: 1..255.
        split_limit: cells in use at which a head is full.
        numbers: int64 [4].
    """
    if numbers[FILL] >= split_limit:
        numbers[HEAD] = (numbers[HEAD] + 1) % cells.shape[1]
        numbers[FILL] = 0
        numbers[ROTATIONS] += 1
        for at in range(len(cells)):
            for n in range(CELLS):
                cells[at, numbers[HEAD], n] = 0
    head = numbers[HEAD]
    other = other_bucket(bucket, signature, len(cells))
    if _num_used(cells[other, head]) < _num_used(cells[bucket, head]):
        bucket = other
    n = _weakest(cells[bucket, head])
    if cells[bucket, head, n] != 0:
        numbers[FORGOTTEN] += 1
        numbers[FILL] -= 1
    cells[bucket, head, n] = (np.uint32(signature) << _SHIFT) | np.uint32(count)
    numbers[FILL] += 1


@kernel
def count(cells, buckets, signatures, counts, thresholds, split_limit, numbers, totals):
    """Note occurrences and give the totals. Whose total reaches its threshold or 255 leaves the sketch.

    Args:
        cells: see above.
        buckets: int64 [n], the home of each key.
        signatures: uint32 [n].
        counts: int64 [n], occurrences, 1 or more.
        thresholds: int64 [n].
        split_limit: as for `place`.
        numbers: int64 [4].
        totals: int64 [n], written.
    """
    for row in range(len(buckets)):
        other = other_bucket(buckets[row], signatures[row], len(cells))
        seen = _take(cells, buckets[row], other, signatures[row], numbers)
        totals[row] = seen + counts[row]
        if totals[row] < thresholds[row] and totals[row] < MAX_COUNT:
            place(cells, buckets[row], signatures[row], totals[row], split_limit, numbers)


@kernel
def merge_split(source, cells, owned, numbers):
    """Write the cells of a split of another shard into the head, those whose bucket of the table is owned.

    Args:
        source: uint32 [buckets, 16], of the same size.
        cells: see above.
        owned: bool [1024]; the lower 10 bits of a signature are the bucket of the table.
        numbers: int64 [4].
    """
    for bucket in range(len(source)):
        for n in range(CELLS):
            cell = source[bucket, n]
            if cell != 0 and owned[(cell >> _SHIFT) & np.uint32(1023)]:
                place(cells, bucket, cell >> _SHIFT, np.int64(cell & _COUNT), NO_LIMIT, numbers)
