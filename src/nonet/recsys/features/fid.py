"""Feature ids: slot and signature in one 64-bit number, and which bucket owns an id.

v1: bits 63..54 slot, bits 53..0 signature. v2: bit 63 is 0, bits 62..48 slot, bits 47..0 signature. Since the slot is
in the id, features of one shape can share a table. The layouts are those of Monolith (arXiv 2209.07663, public code).

A table is cut into 1,024 buckets by a hash of the id, and a shard owns buckets: another number of shards moves whole
buckets and never splits one (TorchRec RFC-0002).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nonet.common.errors import InputError

Ints = NDArray[np.int64]

NUM_SLOTS_V1 = 1 << 10
NUM_SLOTS_V2 = 1 << 15
SIGNATURE_BITS_V1 = 54
SIGNATURE_BITS_V2 = 48
NUM_BUCKETS = 1024

_MASK_V1 = np.int64((1 << SIGNATURE_BITS_V1) - 1)
_MASK_V2 = np.int64((1 << SIGNATURE_BITS_V2) - 1)


def fid_v1(slot: int | ArrayLike, signature: ArrayLike) -> Ints:
    """Ids of the first layout; the signature's lower 54 bits count, and slots from 512 make negative ids.

    Args:
        slot: 0..1,023, one or one per signature.
        signature: int64 [n].

    Raises:
        InputError: a slot out of range.

    >>> slot_v1(fid_v1(1023, [5, 6])).tolist()
    [1023, 1023]
    """
    slots = _checked_slots(slot, NUM_SLOTS_V1, "v1")
    composed: Ints = (slots << np.int64(SIGNATURE_BITS_V1)) | (_int64(signature, "signatures") & _MASK_V1)
    return composed


def fid_v2(slot: int | ArrayLike, signature: ArrayLike) -> Ints:
    """Ids of the second layout; the signature's lower 48 bits count.

    Args:
        slot: 0..32,767, one or one per signature.
        signature: int64 [n].

    Raises:
        InputError: a slot out of range.

    >>> [hex(fid) for fid in fid_v2(0x7FFF, [1, -1]).tolist()]
    ['0x7fff000000000001', '0x7fffffffffffffff']
    """
    slots = _checked_slots(slot, NUM_SLOTS_V2, "v2")
    composed: Ints = (slots << np.int64(SIGNATURE_BITS_V2)) | (_int64(signature, "signatures") & _MASK_V2)
    return composed


def slot_v1(fids: ArrayLike) -> Ints:
    """Slots of ids of the first layout."""
    return (_int64(fids, "ids") >> np.int64(SIGNATURE_BITS_V1)) & np.int64(NUM_SLOTS_V1 - 1)


def slot_v2(fids: ArrayLike) -> Ints:
    """Slots of ids of the second layout; bit 63 is passed over."""
    return (_int64(fids, "ids") >> np.int64(SIGNATURE_BITS_V2)) & np.int64(NUM_SLOTS_V2 - 1)


def signature_v1(fids: ArrayLike) -> Ints:
    """The lower 54 bits."""
    return _int64(fids, "ids") & _MASK_V1


def signature_v2(fids: ArrayLike) -> Ints:
    """The lower 48 bits."""
    return _int64(fids, "ids") & _MASK_V2


@dataclass(frozen=True, slots=True)
class Converted:
    """Ids in the second layout, and what the six lost bits did.

    Args:
        fids: int64 [n], in the order given.
        num_before: distinct ids before.
        num_after: distinct ids after.
        merged: int64 [m], rising: the distinct new ids that stand for more than one old id each.
    """

    fids: Ints
    num_before: int
    num_after: int
    merged: Ints

    @property
    def num_lost(self) -> int:
        """Ids that no longer have a vector of their own."""
        return self.num_before - self.num_after


def v1_to_v2(fids: ArrayLike) -> Converted:
    """Ids of the first layout in the second, whose signatures are 6 bits shorter, so ids may merge.

    Args:
        fids: int64 [n], first layout.

    >>> report = v1_to_v2(fid_v1(3, [1, 1 + (1 << 48), 2]))
    >>> report.num_lost, report.merged.tolist() == fid_v2(3, [1]).tolist()
    (1, True)
    """
    old = _int64(fids, "ids")
    distinct = np.unique(old)
    renamed = fid_v2(slot_v1(distinct), distinct)
    after, counts = np.unique(renamed, return_counts=True)
    return Converted(fid_v2(slot_v1(old), old), len(distinct), len(after), after[counts > 1])


def mix64(keys: ArrayLike) -> NDArray[np.uint64]:
    """The finaliser of splitmix64, a bijection of 64 bits: the table's own hash, the same in every process.

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).

    >>> hex(mix64([0])[0])
    '0xe220a8397b1dcdaf'
    """
    x = _int64(keys, "keys").view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed


def bucket_of(keys: ArrayLike) -> Ints:
    """The bucket of each key, 0..1,023: `mix64(key) % 1024`.

    >>> bucket_of([0, -1]).tolist()
    [431, 32]
    """
    return (mix64(keys) & np.uint64(NUM_BUCKETS - 1)).astype(np.int64)


def bucket_owners(num_shards: int) -> Ints:
    """Which shard owns each bucket: runs of equal length, to one bucket.

    Args:
        num_shards: 1..1,024.

    Returns:
        int64 [1024], rising.

    Raises:
        InputError: a number of shards out of range.

    >>> np.bincount(bucket_owners(3)).tolist()
    [342, 341, 341]
    """
    if not 1 <= num_shards <= NUM_BUCKETS:
        raise InputError(f"the number of shards must be 1..{NUM_BUCKETS}, got {num_shards}")
    return np.arange(NUM_BUCKETS, dtype=np.int64) * num_shards // NUM_BUCKETS


def _int64(values: ArrayLike, what: str) -> Ints:
    array = np.atleast_1d(np.asarray(values))
    if array.size == 0:
        return np.empty(array.shape, np.int64)
    if array.dtype == np.uint64:
        return np.ascontiguousarray(array).view(np.int64)
    if array.dtype.kind not in "iu":
        raise InputError(f"{what} must be integers of 64 bits, got {array.dtype}")
    return np.ascontiguousarray(array, np.int64)


def _checked_slots(slot: int | ArrayLike, limit: int, layout: str) -> Ints:
    slots = np.asarray(slot)
    if slots.dtype.kind not in "iu":
        raise InputError(f"a slot must be an integer, got {slots.dtype}")
    wrong = (slots < 0) | (slots >= limit)
    if wrong.any():
        first = np.atleast_1d(slots)[np.atleast_1d(wrong)][0]
        raise InputError(f"slot {first} is out of range: ids of layout {layout} have slots 0..{limit - 1}")
    return slots.astype(np.int64)
