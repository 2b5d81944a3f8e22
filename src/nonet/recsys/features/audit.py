"""How many values share an id: of hashed signatures, and of the hash trick that a collisionless table replaces.

The table never merges two ids, but two strings may have one signature. What to expect is a formula, what happened is
counted: exactly, or on a sample of the signatures, which sees both values of a pair or neither and so scales up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.features.fid import mix64
from nonet.recsys.features.signature import SIGNATURE_MASK, Values, hashes

Ints = NDArray[np.int64]

MD5_SPACE = 1_000_000  # with it the baseline gives Table 1 of arXiv 2209.07663 exactly
_SALT = b"audit\x1f"  # of the hash that tells values with one signature apart: 64 bits more
_COMPACT_ROWS = 1 << 20


def expected_pairs(num_values: float, bits: int = 48) -> float:
    """Pairs of distinct values that a uniform hash is expected to give one signature: n(n-1)/2 / 2^bits.

    Args:
        num_values: distinct values of one feature.
        bits: of the signature.

    >>> round(expected_pairs(3e7), 2)
    1.6
    """
    return num_values * (num_values - 1) / 2 ** (bits + 1)


def md5_hash_trick(ids: Iterable[int | str], space: int = MD5_SPACE) -> Ints:
    """The paper's baseline: `int(md5(str(id)).hexdigest(), 16) % space`.

    Args:
        ids: anything whose `str` is the id.
        space: rows of the smaller table.

    Returns:
        int64 [n], 0..space-1.

    >>> md5_hash_trick([0, 1]).tolist()
    [317850, 88411]
    """
    return np.fromiter((int(hashlib.md5(str(i).encode()).hexdigest(), 16) % space for i in ids), np.int64)


@dataclass(frozen=True, slots=True)
class Collisions:
    """What an audit found.

    Args:
        num_values: distinct values.
        num_ids: distinct ids that they have.
        num_pairs: pairs of values with one id.
        expected_pairs: what a uniform hash of 48 bits would give.
        sample_rate: part of the signatures that was looked at; the counts are of that part.
    """

    num_values: int
    num_ids: int
    num_pairs: int
    expected_pairs: float
    sample_rate: float = 1.0

    @property
    def rate(self) -> float:
        """1 - ids / values, as in Table 1 of the paper; 0 without values."""
        return 1 - self.num_ids / self.num_values if self.num_values else 0.0

    @property
    def estimated_pairs(self) -> float:
        """Pairs of the whole, from the sample."""
        return self.num_pairs / self.sample_rate


class CollisionCounter:
    """Counts the values of one feature that share a signature, over a stream of any length.

    Keeps 16 bytes for each distinct value in the sample.

    Args:
        name: of the feature.
        sample_every: look at one in so many signatures; 1 is the whole and exact (to 64 further bits of hash).
        bits: of a signature; fewer than 48 for a smaller space.

    Raises:
        InputError: a number out of range.

    >>> counter = CollisionCounter("user", bits=4)
    >>> counter.add([str(n) for n in range(100)])
    >>> counter.report().num_values, counter.report().num_ids
    (100, 16)
    """

    def __init__(self, name: str, *, sample_every: int = 1, bits: int = 48) -> None:
        if sample_every < 1:
            raise InputError(f"sample_every must be at least 1, got {sample_every}")
        if not 1 <= bits <= 48:
            raise InputError(f"a signature has 1..48 bits, got {bits}")
        self._name = name
        self._every = sample_every
        self._bits = bits
        self._seen = np.empty((0, 2), np.int64)  # signature, hash with salt; distinct
        self._waiting: list[NDArray[np.int64]] = []
        self._num_waiting = 0

    def add(self, values: Values) -> None:
        """Take in values, seen before or not.

        Args:
            values: as for `signature.signatures`.
        """
        signature = (hashes(self._name, values) & np.uint64(SIGNATURE_MASK >> (48 - self._bits))).astype(np.int64)
        check = hashes(self._name, values, salt=_SALT).view(np.int64)
        if self._every > 1:
            kept = mix64(signature) % np.uint64(self._every) == 0
            signature, check = signature[kept], check[kept]
        self._waiting.append(np.stack([signature, check], axis=1))
        self._num_waiting += len(signature)
        if self._num_waiting > max(_COMPACT_ROWS, len(self._seen)):
            self._compact()

    def report(self) -> Collisions:
        """What was found up to now."""
        self._compact()
        _, sizes = np.unique(self._seen[:, 0], return_counts=True)
        num_values = len(self._seen)
        return Collisions(
            num_values=num_values,
            num_ids=len(sizes),
            num_pairs=int((sizes * (sizes - 1) // 2).sum()),
            expected_pairs=expected_pairs(num_values * self._every, self._bits),
            sample_rate=1 / self._every,
        )

    def _compact(self) -> None:
        rows = np.concatenate([self._seen, *self._waiting])
        rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
        fresh = np.ones(len(rows), bool)
        fresh[1:] = (rows[1:] != rows[:-1]).any(axis=1)
        self._seen, self._waiting, self._num_waiting = rows[fresh], [], 0


def audit_ids(values: Values, ids: Ints) -> Collisions:
    """Exact audit of any ids that stand for values, such as those of a hash trick.

    Args:
        values: as for `signature.signatures`.
        ids: int64 [n], the id of each value.

    Raises:
        InputError: lengths differ.

    >>> audit_ids(["a", "b", "c", "a"], np.array([1, 1, 2, 1])).rate
    0.33333333333333337
    """
    told_apart = hashes("", values).view(np.int64)
    if len(told_apart) != len(ids):
        raise InputError(f"{len(told_apart)} values but {len(ids)} ids")
    pairs = np.unique(np.stack([np.asarray(ids, np.int64), told_apart], axis=1), axis=0)
    _, sizes = np.unique(pairs[:, 0], return_counts=True)
    return Collisions(len(pairs), len(sizes), int((sizes * (sizes - 1) // 2).sum()), expected_pairs(len(pairs)))
