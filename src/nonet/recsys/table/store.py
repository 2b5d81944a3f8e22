"""The store under an embedding table: a cuckoo index over an arena of rows, one writer, readers without locks.

The index grows when it is 94 % full, by a quarter (or by what a batch needs), so bytes a key stay close to their
minimum at every size; rows stay where they are. A key that finds no place in an index that is less than 90 % full
meets keys chosen against the hash: the index is rebuilt under another multiplier of the hash, which scatters them.
The arena grows by chunks. Erased rows are used again; when less than half of the rows are in use after an expiry,
rows move together and whole chunks, and the index's surplus, go back to the system.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.table import _batch_kernels as batches
from nonet.recsys.table import _index_kernels as index
from nonet.recsys.table import _row_kernels as rows_of
from nonet.recsys.table._hash_kernels import SLOTS, STRIPES
from nonet.recsys.table.helpers import in_pieces
from nonet.recsys.table.memory import mapped, mapped_array
from nonet.recsys.table.view import View

FULL = 0.94  # of the slots, when the index grows
CROWDED = 0.90  # below this load a key without a place means a bad hash, not a full index
GROWTH = 1.25
ROOMY = 0.90  # load after growing for a known number of keys
LOWEST_LOAD = FULL / GROWTH
SLOT_BYTES = 17
CHUNK_BYTES = 1 << 22
MIN_BUCKETS = 8
MULTIPLIERS = 64  # tries of the hash before giving up on a set of keys
SPARSE = 0.5  # in use, below this `compact` gives memory back
SMALL_CHUNKS = 8  # chunks before the arena asks for huge pages, unless one is filled at once
_WORD = 0xFFFFFFFFFFFFFFFF


class Entries(NamedTuple):
    """Keys of a store with their places.

    Args:
        keys: int64 (n,).
        rows: int64 (n,), row numbers.
        ts: uint32 (n,), update times.
    """

    keys: NDArray[np.int64]
    rows: NDArray[np.int64]
    ts: NDArray[np.uint32]


@dataclass(frozen=True)
class _Index:
    tags: NDArray[np.uint64]
    slots: NDArray[np.int64]
    attempt: int

    @classmethod
    def empty(cls, num_buckets: int, attempt: int = 0) -> _Index:
        slots = mapped_array(num_buckets * SLOTS * 2, np.int64).reshape(-1, 2)
        return cls(mapped_array(num_buckets, np.uint64), slots, attempt)

    @property
    def multiplier(self) -> np.uint64:
        """Odd; 1 at first."""
        return np.uint64(pow(0xD1342543DE82EF95, self.attempt, _WORD + 1))


@dataclass
class _Arena:
    """Chunks `[weights | state | counts]` of `2 ** row_bits` rows each."""

    row_bytes: int
    row_bits: int
    chunks: tuple[NDArray[np.uint8], ...] = ()
    bases: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    @classmethod
    def of_rows(cls, row_bytes: int) -> _Arena:
        return cls(row_bytes, max(6, math.floor(math.log2(CHUNK_BYTES / row_bytes))))

    @property
    def num_rows(self) -> int:
        return len(self.chunks) << self.row_bits

    def resize(self, num_chunks: int, num_coming: int = 0) -> None:
        """Add or drop chunks at the end, for so many rows that come at once; readers of an older view keep theirs."""
        chunks = self.chunks[:num_chunks]
        while len(chunks) < num_chunks:
            huge = len(chunks) >= SMALL_CHUNKS or num_coming >= 1 << self.row_bits
            memory = mapped(self.row_bytes << self.row_bits, huge)
            chunks = (*chunks, np.frombuffer(memory, np.uint8))
        self.chunks = chunks
        self.bases = np.array([chunk.ctypes.data for chunk in chunks], np.int64)


class RowStore:
    """Rows of weights and optimizer state by 64-bit key; every key is legal.

    `lookup` may run in any number of threads beside one writer; all else is the writer's. Memory is bounded by the
    rows in use: about 17 / 0.75 to 17 / 0.94 bytes of index a key, the row, and less than one chunk (4 MB).

    Args:
        dim: floats of weights a row, >= 1.
        state_dim: floats of state a row.
        counted: keep the number of trainings of a key, 4 bytes.
        capacity: keys to make room for at once.

    >>> store = RowStore(dim=2)
    >>> store.put(np.array([7, -1]), np.array([[1, 2], [3, 4]], np.float32)).sum()
    np.int64(2)
    >>> store.lookup(np.array([-1, 0]))[0].tolist()
    [[3.0, 4.0], [0.0, 0.0]]
    """

    def __init__(self, dim: int, state_dim: int = 0, *, counted: bool = False, capacity: int = 0) -> None:
        if dim < 1 or state_dim < 0 or capacity < 0:
            raise InputError(
                f"row store: dim {dim}, state_dim {state_dim}, capacity {capacity}: needs dim >= 1 and the others >= 0"
            )
        self.dim, self.state_dim, self.counted = dim, state_dim, counted
        self.loads_at_growth: list[float] = []
        self._versions = mapped_array(STRIPES, np.uint32)
        self._counters = np.zeros(index.NUM_COUNTERS, np.int64)
        self._counters[index.FREE_HEAD] = index.NO_ROW
        self._search = np.empty((index.MAX_NODES, 4), np.int64)
        self._hashes = np.empty(rows_of.BLOCK, np.uint64)
        self._index = _Index.empty(_buckets_for(capacity))
        self._arena = _Arena.of_rows(4 * (dim + state_dim + counted))
        self._published: tuple[View, tuple[NDArray[np.uint8], ...]] | None = None
        self._publish()

    def __len__(self) -> int:
        return int(self._counters[index.LIVE])

    @property
    def row_bytes(self) -> int:
        """Of one row in the arena."""
        return self._arena.row_bytes

    @property
    def load(self) -> float:
        """Share of the index's slots in use."""
        return len(self) / len(self._index.slots)

    @property
    def num_bytes(self) -> int:
        """Of the index and of the rows that were ever used since the last `compact`."""
        used = int(self._counters[index.HIGH_WATER]) * self.row_bytes
        return len(self._index.slots) * SLOT_BYTES + used + self._versions.nbytes

    @property
    def _view(self) -> View:
        assert self._published is not None
        return self._published[0]

    def _publish(self) -> None:
        """Publish a view of index and arena; only then is the old one retired, and only then may anything change."""
        old = self._published
        view = View(
            self._index.tags,
            self._index.slots,
            np.uint64(len(self._index.tags)),
            self._index.multiplier,
            self._versions,
            np.zeros(1, np.uint32),
            self._arena.bases,
            self._arena.row_bits,
            self.dim,
            self.state_dim,
            int(self.counted),
        )
        # One assignment: who holds the pair keeps the chunks alive that the view's addresses point into.
        self._published = (view, self._arena.chunks)
        self._counters[index.ROW_LIMIT] = self._arena.num_rows
        self._counters[index.LIVE_LIMIT] = int(FULL * len(self._index.slots))
        if old is not None:
            index.retire(old[0])

    # Readers.

    def lookup(self, keys: NDArray[np.int64], out: NDArray[np.float32] | None = None) -> tuple[NDArray, NDArray]:
        """Weights of keys, from any thread.

        Args:
            keys: int64 (n,).
            out: float32 (n, dim) to write to, C-contiguous; by default a new array.

        Returns:
            (weights float32 (n, dim), found bool (n,)); zeros for absent keys. A row is never half old, half new.
        """
        if out is None:
            out = np.empty((len(keys), self.dim), np.float32)
        return out, self._look(keys, out)

    def contains(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which keys are present, from any thread."""
        return self._look(keys, np.empty((0, self.dim), np.float32))

    def _look(self, keys: NDArray[np.int64], out: NDArray[np.float32]) -> NDArray[np.bool_]:
        found = np.empty(len(keys), np.bool_)

        def piece(first: int, last: int) -> None:
            hashes, marks = np.empty(rows_of.BLOCK, np.uint64), np.empty((3, rows_of.BLOCK), np.int64)
            while first < last:
                published = self._published
                assert published is not None
                first = rows_of.lookup(published[0], keys, first, last, out, found, hashes, marks)

        in_pieces(len(keys), piece)
        return found

    # The writer.

    def find(self, keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(rows, slots) of keys, -1 where absent; slots are valid until the next `put`."""
        rows, slots = np.empty(len(keys), np.int64), np.empty(len(keys), np.int64)
        rows_of.find(self._view, keys, rows, slots, self._hashes)
        return rows, slots

    def stamp(self, slots: NDArray[np.int64], ts: int) -> None:
        """Raise the update time of slots to `ts`."""
        rows_of.stamp(self._view, slots, ts)

    def put(
        self,
        keys: NDArray[np.int64],
        weights: NDArray[np.float32],
        state: NDArray[np.float32] | None = None,
        ts: NDArray[np.uint32] | int = 0,
        counts: NDArray[np.uint32] | None = None,
        *,
        overwrite: bool = False,
    ) -> NDArray[np.bool_]:
        """Write rows; the last of equal keys wins.

        Args:
            keys: int64 (n,).
            weights: float32 (n, dim).
            state: float32 (n, state_dim), or (1, state_dim) for all; zeros by default.
            ts: update times, one a key or one for all.
            counts: uint32 (n,), trainings of the keys; 0 by default.
            overwrite: give state, count and time also to keys that are present; otherwise these keep state and count,
                and their time only grows.

        Returns:
            bool (n,): the key was absent.
        """
        if state is None:
            state = np.zeros((1, self.state_dim), np.float32)
        times = np.atleast_1d(np.asarray(ts, np.uint32))
        trainings = np.zeros(1, np.uint32) if counts is None else counts
        created = np.zeros(len(keys), np.bool_)
        done = 0
        while done < len(keys):
            how, done = rows_of.put(
                self._view,
                self._counters,
                keys,
                done,
                weights,
                state,
                times,
                trainings,
                overwrite,
                self._search,
                self._hashes,
                created,
            )
            if how == index.NEEDS_ROWS:
                self._arena.resize(len(self._arena.chunks) + 1, len(keys) - done)
                self._publish()
            elif how != index.DONE:
                self._make_slots(len(keys) - done, crowded=how == index.NEEDS_SLOTS)
        return created

    def _make_slots(self, num_coming: int, crowded: bool) -> None:
        """Grow the index, or, where it has room and a key still found no place, hash it anew at the same size."""
        num_slots = len(self._index.slots)
        if crowded or self.load >= CROWDED:
            self.loads_at_growth.append(self.load)
            num_buckets = max(math.ceil(num_slots * GROWTH / SLOTS), _buckets_for(len(self) + num_coming))
            self._rebuild(num_buckets, self._index.attempt)
        else:
            self._rebuild(len(self._index.tags), self._index.attempt + 1)

    def _rebuild(self, num_buckets: int, attempt: int) -> None:
        for following in range(attempt, attempt + MULTIPLIERS):
            new = _Index.empty(num_buckets, following)
            view = self._view._replace(
                tags=new.tags, slots=new.slots, num_buckets=np.uint64(num_buckets), multiplier=new.multiplier
            )
            if index.rebuild(self._view, view, self._search):
                self._index = new
                self._publish()
                return
        raise RuntimeError(f"row store: {len(self)} keys fit {num_buckets} buckets under none of {MULTIPLIERS} hashes")

    def gather(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(weights (n, dim), state (n, state_dim)) of row numbers."""
        weights = np.empty((len(rows), self.dim), np.float32)
        state = np.empty((len(rows), self.state_dim), np.float32)
        batches.gather(self._view, rows, weights, state)
        return weights, state

    def scatter(
        self,
        keys: NDArray[np.int64],
        rows: NDArray[np.int64],
        weights: NDArray[np.float32],
        state: NDArray[np.float32],
        occurrences: NDArray[np.int64],
    ) -> None:
        """Write rows back that `gather` has given, and add to their counts of trainings."""
        batches.scatter(self._view, keys, rows, weights, state, occurrences)

    def erase(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Forget keys; True for those that were present (the first of equal ones)."""
        erased = np.zeros(len(keys), np.bool_)
        batches.erase(self._view, self._counters, keys, erased)
        return erased

    def entries(self) -> Entries:
        """Every key with its row and time, in no particular order."""
        size = len(self)
        found = Entries(mapped_array(size, np.int64), mapped_array(size, np.int64), mapped_array(size, np.uint32))
        index.scan(self._view, *found)
        return found

    def counts(self, rows: NDArray[np.int64]) -> NDArray[np.uint32]:
        """How often rows were trained; zeros where that is not kept."""
        counts = np.zeros(len(rows), np.uint32)
        batches.gather_counts(self._view, rows, counts)
        return counts

    def scale_counts(self, rows: NDArray[np.int64], rate: float) -> None:
        """Let the numbers of trainings fade: times `rate`, rounded down; needs `counted`."""
        batches.scale_counts(self._view, rows, rate)

    def norms(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """L2 norms of the weights of rows."""
        norms = np.empty(len(rows), np.float32)
        batches.gather_norms(self._view, rows, norms)
        return norms

    def compact(self) -> bool:
        """Give memory back if under half of the rows are in use: move rows together, drop chunks, shrink the index."""
        high_water = int(self._counters[index.HIGH_WATER])
        rows_a_chunk = 1 << self._arena.row_bits
        num_chunks = math.ceil(len(self) / rows_a_chunk)
        if len(self) >= SPARSE * high_water or num_chunks == len(self._arena.chunks):
            return False
        limit = num_chunks * rows_a_chunk
        free = mapped_array(limit, np.int64)
        used, num_free = batches.move_down(self._view, limit, mapped_array(limit, np.bool_), free)
        self._arena.resize(num_chunks)
        self._counters[index.HIGH_WATER] = limit
        self._counters[[index.FREE_HEAD, index.NUM_FREE]] = index.NO_ROW, 0
        self._rebuild(_buckets_for(len(self)), self._index.attempt)
        batches.chain(self._view, self._counters, free, used, num_free)
        return True

    def check_integrity(self) -> None:
        """Compare index, arena and counters with each other.

        Raises:
            AssertionError: one line that says what does not fit.
        """
        size, high_water = len(self), int(self._counters[index.HIGH_WATER])
        if index.num_used(self._view) != size:
            raise AssertionError(f"the index holds other than {size} keys")
        found = self.entries()
        rows, slots = self.find(found.keys)
        if len(np.unique(found.keys)) != size or not np.array_equal(rows, found.rows) or (slots < 0).any():
            raise AssertionError("a key lies twice, or where it is not found")
        free = np.empty(int(self._counters[index.NUM_FREE]), np.int64)
        if batches.walk_free(self._view, self._counters, free) != len(free):
            raise AssertionError("the chain of free rows is shorter or longer than counted")
        every = np.sort(np.concatenate([found.rows, free]))
        if not np.array_equal(every, np.arange(high_water)):
            raise AssertionError("a row is used twice, or neither used nor free")
        if (self._versions & 1).any():
            raise AssertionError("a version is odd although nobody writes")


def _buckets_for(num_keys: int) -> int:
    return max(MIN_BUCKETS, math.ceil(num_keys / ROOMY / SLOTS))
