"""The embedding table: keys of 64 bits to rows that never share memory with another key's.

Monolith (2022), section 2.2: reading an unknown key gives zeros and creates nothing; a gradient creates it, if it is
admitted. One writer, any number of readers in other threads.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nonet.common.errors import InputError
from nonet.recsys.table import _batch_kernels as batches
from nonet.recsys.table.expiry import FOREVER_S, Expiry, LiveKeys
from nonet.recsys.table.initializers import Initializer, Uniform
from nonet.recsys.table.interfaces import Admission
from nonet.recsys.table.optimizers import Adagrad, Optimizer
from nonet.recsys.table.segments import Placed, Segment, place
from nonet.recsys.table.store import LOWEST_LOAD, SLOT_BYTES, RowStore
from nonet.recsys.table.touched import Touched, TouchedKeys

if TYPE_CHECKING:
    from nonet.recsys.table.snapshot import Saved

_STEP_ROWS = 2048  # rows that an optimizer gets at once: they stay in the cache between gather and scatter
_NO_KEYS = np.empty(0, np.int64)


@dataclass(frozen=True)
class Applied:
    """What came of a batch of gradients.

    Args:
        updated: keys that were present and changed.
        created: keys that were admitted.
        filtered: keys that were absent and not admitted.
        left_out: gradients with NaN, infinity or a number whose square overflows float32.
        expired: keys that had to go because the ceiling of the expiry was passed.
    """

    updated: int = 0
    created: int = 0
    filtered: int = 0
    left_out: int = 0
    expired: int = 0

    def __add__(self, other: Applied) -> Applied:
        """Both together."""
        return Applied(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


class Exported(NamedTuple):
    """All of a table's rows, by ascending key: equal tables give equal bytes, whatever their history.

    Attributes:
        keys: int64 (n,).
        rows: float32 (n, dim).
        state: float32 (n, state_dim).
        ts: uint32 (n,), update times.
        counts: uint32 (n,), trainings; zeros where the expiry does not need them.
    """

    keys: NDArray[np.int64]
    rows: NDArray[np.float32]
    state: NDArray[np.float32]
    ts: NDArray[np.uint32]
    counts: NDArray[np.uint32]


class EmbeddingTable:
    """Embeddings by 64-bit key, trained row by row.

    `lookup`, `lookup_bags`, `contains` run in any thread, without locks, and see every row as it was before or after
    an update, never between. All other methods are the writer's; a lock keeps a second writer waiting.
    Memory: `num_bytes`; at most 1.35 * (12 + 4 * (dim + state_dim)) bytes a key from dim + state_dim = 8 on, beside
    8 bytes for each key that was touched since `take_touched`.

    Args:
        dim: floats a row, for one segment; or give `segments`.
        segments: slices of the row, each with optimizer and initializer.
        optimizer: with `dim`.
        initializer: with `dim`.
        admission: asked before a key enters; None admits all.
        expiry: which keys `expire` erases; None: none.
        capacity: keys to make room for at once.
        seed: of the initializers.
        name: for messages and files.
        track_touched: collect keys for `take_touched`; without it they are always empty.

    >>> from nonet.recsys.table import SGD, Zeros
    >>> table = EmbeddingTable(dim=2, optimizer=SGD(lr=1.0), initializer=Zeros())
    >>> table.apply_gradients([7, -1, 7], np.array([[1, 0], [0, 3], [1, 0]], np.float32), now_s=10)
    Applied(updated=0, created=2, filtered=0, left_out=0, expired=0)
    >>> table.lookup([7, 8]).tolist()
    [[-2.0, 0.0], [0.0, 0.0]]
    """

    def __init__(
        self,
        dim: int | None = None,
        *,
        segments: Sequence[Segment] | None = None,
        optimizer: Optimizer | None = None,
        initializer: Initializer | None = None,
        admission: Admission | None = None,
        expiry: Expiry | None = None,
        capacity: int = 0,
        seed: int = 0,
        name: str = "table",
        track_touched: bool = True,
    ) -> None:
        if (dim is None) == (segments is None):
            raise InputError(f"table {name!r}: give either dim or segments")
        if segments is not None and (optimizer is not None or initializer is not None):
            raise InputError(f"table {name!r}: with segments, each names its own optimizer and initializer")
        if dim is not None:
            segments = [Segment(dim, optimizer or Adagrad(), initializer or Uniform())]
        if not segments:
            raise InputError(f"table {name!r}: no segments; give at least one")
        if not -(1 << 63) <= seed < 1 << 63:
            raise InputError(f"table {name!r}: seed {seed} does not fit 64 bits")
        self.name, self.seed = name, seed
        self.admission, self.expiry = admission, expiry
        self.segments: tuple[Segment, ...] = tuple(segments)
        self.step = 0
        """Batches of gradients so far."""
        self.clock_s = 0
        """Newest update time, Unix seconds."""
        self._placed: tuple[Placed, ...] = place(self.segments)
        self.dim = self._placed[-1].weights.stop
        self.state_dim = self._placed[-1].state.stop
        self._first_state = np.concatenate([s.optimizer.initial_state(s.dim) for s in self.segments]).reshape(1, -1)
        counted = expiry is not None and expiry.needs_frequencies
        self._store = RowStore(self.dim, self.state_dim, counted=counted, capacity=capacity)
        self._touched = TouchedKeys() if track_touched else None
        self._writing = threading.RLock()

    def __len__(self) -> int:
        return len(self._store)

    @property
    def num_bytes(self) -> int:
        """Of index, rows and touched keys."""
        return self._store.num_bytes + (self._touched.num_bytes if self._touched else 0)

    @property
    def index_load(self) -> float:
        """Share of the index's slots in use."""
        return self._store.load

    @property
    def loads_at_growth(self) -> list[float]:
        """Load of the index at each of its growths."""
        return self._store.loads_at_growth

    # Reading, from any thread.

    def lookup(self, ids: ArrayLike, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Rows of ids; zeros for unknown ones, which are not created.

        Args:
            ids: int64 (n,).
            out: float32 (n, dim), C-contiguous, to write to. For megabytes again and again, give the same array every
                time: the system clears new memory before it hands it out, which takes as long as the lookup.

        Returns:
            float32 (n, dim); `out`, if that is given.
        """
        keys = self._ids(ids)
        if out is not None and (
            out.shape != (len(keys), self.dim) or out.dtype != np.float32 or not out.flags.c_contiguous
        ):
            raise InputError(f"table {self.name!r}: out is no C-contiguous float32 ({len(keys)}, {self.dim})")
        return self._store.lookup(keys, out)[0]

    def lookup_bags(self, values: ArrayLike, offsets: ArrayLike, mode: Literal["sum", "mean"] = "sum") -> NDArray:
        """Sum or mean of the rows of every bag.

        Args:
            values: int64 (m,), ids of all bags.
            offsets: int64 (n + 1,), bag i is `values[offsets[i]:offsets[i + 1]]`.
            mode: the mean divides by the size of the bag, unknown ids included. An empty bag gives zeros.

        Returns:
            float32 (n, dim).
        """
        keys, at = self._ids(values), self._ids(offsets)
        if mode not in ("sum", "mean"):
            raise InputError(f"table {self.name!r}: mode {mode!r}; give 'sum' or 'mean'")
        if len(at) == 0 or at[0] != 0 or at[-1] != len(keys) or (np.diff(at) < 0).any():
            raise InputError(f"table {self.name!r}: offsets must ascend from 0 to {len(keys)}")
        out = np.zeros((len(at) - 1, self.dim), np.float32)
        batches.pool(self._store.lookup(keys)[0], at, mode == "mean", out)
        return out

    def contains(self, ids: ArrayLike) -> NDArray[np.bool_]:
        """Which ids have a row, bool (n,)."""
        return self._store.contains(self._ids(ids))

    # Writing, one at a time.

    def apply_gradients(
        self, ids: ArrayLike, grads: ArrayLike, *, now_s: int = 0, counts: ArrayLike | None = None
    ) -> Applied:
        """Train: gradients of equal ids are summed, absent ids admitted or dropped, new ones initialised, all updated.

        A new key's first gradient was computed at zeros, what `lookup` gave; it is applied to the initial weights.

        Args:
            ids: int64 (n,).
            grads: float32 (n, dim); lines that are not finite are left out, the rest is applied.
            now_s: event time, Unix seconds. Updates never make a row older; a late event leaves its time as it is.
            counts: int64 (n,), occurrences that each line stands for; 1 by default.

        Returns:
            counts of what happened.

        Raises:
            InputError: shapes do not fit, or `now_s` is no uint32.
        """
        keys, gradients = self._ids(ids), self._floats(grads, len(np.atleast_1d(np.asarray(ids))))
        now_s = self._time(now_s)
        lines = np.ones(len(keys), np.int64) if counts is None else self._ids(counts)
        if len(lines) != len(keys) or (lines < 1).any():
            raise InputError(f"table {self.name!r}: counts must be {len(keys)} numbers >= 1")
        with self._writing:
            self.step += 1
            unique, sums, occurrences, left_out = _combined(keys, gradients, lines)
            rows, slots = self._store.find(unique)
            old, new = rows >= 0, rows < 0
            filtered = 0
            if self.admission is not None and new.any():
                admitted = self.admission.admit(unique[new], occurrences[new], now_s)
                filtered = len(admitted) - int(np.count_nonzero(admitted))
                new[new] = admitted
            if len(unique):
                self.clock_s = max(self.clock_s, now_s)
            self._store.stamp(slots[old], now_s)
            self._update(*_where(old, unique, rows, sums, occurrences))
            self._create(now_s, *_where(new, unique, sums, occurrences))
            if self._touched is not None:
                self._touched.upsert(unique[old | new] if filtered else unique)
            expired = self._keep_ceiling()
        return Applied(int(old.sum()), int(new.sum()), filtered, left_out, expired)

    def _update(self, keys: NDArray, rows: NDArray, gradients: NDArray, occurrences: NDArray) -> None:
        for first in range(0, len(keys), _STEP_ROWS):
            block = slice(first, first + _STEP_ROWS)
            weights, state = self._store.gather(rows[block])
            self._optimize(weights, state, gradients[block])
            self._store.scatter(keys[block], rows[block], weights, state, occurrences[block])

    def _create(self, now_s: int, keys: NDArray, gradients: NDArray, occurrences: NDArray) -> None:
        for first in range(0, len(keys), _STEP_ROWS):
            block = slice(first, first + _STEP_ROWS)
            weights = np.empty((len(keys[block]), self.dim), np.float32)
            for placed in self._placed:
                column = placed.weights.start
                placed.segment.initializer.fill(keys[block], self.seed, column, weights[:, placed.weights])
            state = np.repeat(self._first_state, len(weights), axis=0)
            self._optimize(weights, state, gradients[block])
            counts = np.minimum(occurrences[block], (1 << 32) - 1).astype(np.uint32)
            self._store.put(keys[block], weights, state, now_s, counts)

    def _optimize(self, weights: NDArray, state: NDArray, gradients: NDArray) -> None:
        for placed in self._placed:
            at = placed.weights
            placed.segment.optimizer.update(weights[:, at], state[:, placed.state], gradients[:, at], self.step)

    def upsert(self, ids: ArrayLike, rows: ArrayLike, *, now_s: int | None = None) -> int:
        """Write weights as they are: bulk insert, replicas. New keys get the optimizers' initial state.

        Args:
            ids: int64 (n,); the last of equal ids wins.
            rows: float32 (n, dim).
            now_s: event time; by default the table's clock.

        Returns:
            number of keys that are new.
        """
        keys = self._ids(ids)
        weights = self._floats(rows, len(keys))
        time_s = self.clock_s if now_s is None else self._time(now_s)
        with self._writing:
            created = self._store.put(keys, weights, self._first_state, time_s)
            if len(keys):
                self.clock_s = max(self.clock_s, time_s)
            if self._touched is not None:
                self._touched.upsert(keys, created)
            self._keep_ceiling()
        return int(np.count_nonzero(created))

    def erase(self, ids: ArrayLike) -> int:
        """Forget ids: weights, state, time and count. Returns how many were present."""
        keys = self._ids(ids)
        with self._writing:
            erased = keys[self._store.erase(keys)]
            if self._touched is not None:
                self._touched.erase(erased)
        return len(erased)

    def expire(self, now_s: int | None = None) -> NDArray[np.int64]:
        """Erase what the expiry chooses, and give memory back where much became free.

        Args:
            now_s: upper bound of the clock; a single event from the future can then not age the rest. The clock itself
                is the newest update time, so keys do not age while nothing arrives.

        Returns:
            int64, the erased keys, ascending.
        """
        bound_s = FOREVER_S if now_s is None else self._time(now_s)
        if self.expiry is None:
            return _NO_KEYS
        with self._writing:
            entries = self._store.entries()
            if self.expiry.decay_rate < 1:
                self._store.scale_counts(entries.rows, self.expiry.decay_rate)
            live = LiveKeys(
                entries.keys,
                entries.ts,
                lambda: self._store.counts(entries.rows),
                lambda: self._store.norms(entries.rows),
                self._bytes_per_key,
                min(self.clock_s, bound_s),
            )
            victims = entries.keys[self.expiry.victims(live)]
            victims.sort()
            self._store.erase(victims)
            if self._touched is not None:
                self._touched.erase(victims)
            self._store.compact()
        return victims

    @property
    def _bytes_per_key(self) -> int:
        return self._store.row_bytes + round(SLOT_BYTES / LOWEST_LOAD)

    def _keep_ceiling(self) -> int:
        if self.expiry is None:
            return 0
        ceiling = self.expiry.max_keys_of(self._bytes_per_key)
        return len(self.expire()) if ceiling is not None and len(self) > ceiling else 0

    def take_touched(self) -> Touched:
        """(upserted, erased) since the last call, each sorted; then nothing is touched. Nothing is ever dropped."""
        with self._writing:
            return self._touched.take() if self._touched is not None else Touched(_NO_KEYS, _NO_KEYS)

    # The whole of it.

    def keys(self) -> NDArray[np.int64]:
        """All keys, ascending."""
        with self._writing:
            return np.sort(self._store.entries().keys)

    def export(self) -> Exported:
        """Everything by ascending key."""
        with self._writing:
            entries = self._store.entries()
            order = np.argsort(entries.keys)
            rows = entries.rows[order]
            weights, state = self._store.gather(rows)
            return Exported(entries.keys[order], weights, state, entries.ts[order], self._store.counts(rows))

    def load(self, exported: Exported, *, step: int | None = None, clock_s: int | None = None) -> None:
        """Write exported rows with state, time and count, over what the table has; touches no key.

        Args:
            exported: of a table with the same segments.
            step: `step` of that table; None leaves this table's.
            clock_s: `clock_s` of that table; by default the newest time of the rows, if that is later than this clock.
        """
        keys = self._ids(exported.keys)
        weights = self._floats(exported.rows, len(keys))
        state = np.ascontiguousarray(exported.state, np.float32)
        if state.shape != (len(keys), self.state_dim) or not len(keys) == len(exported.ts) == len(exported.counts):
            raise InputError(f"table {self.name!r}: state has shape {state.shape}, not ({len(keys)}, {self.state_dim})")
        with self._writing:
            self._store.put(keys, weights, state, exported.ts, exported.counts, overwrite=True)
            self.step = self.step if step is None else step
            newest_s = int(exported.ts.max(initial=0))
            self.clock_s = max(self.clock_s, newest_s) if clock_s is None else clock_s

    def snapshot(self, path: str | Path, *, offsets: Mapping[str, int] | None = None) -> None:
        """Write everything to a folder, for `restore`: see `nonet.recsys.table.snapshot`.

        Args:
            path: a folder, made if need be; the snapshot in it is replaced as a whole.
            offsets: where the logs stood, by name; `read_manifest` gives them back.
        """
        from nonet.recsys.table.snapshot import save

        with self._writing:
            saved = self.saved(offsets)
        save(saved, path)

    def saved(self, offsets: Mapping[str, int] | None = None) -> Saved:
        """Everything as values, without references into the table."""
        from nonet.recsys.table.snapshot import Saved

        with self._writing:
            return Saved.of(self, offsets or {})

    @classmethod
    def restore(cls, path: str | Path, **overrides: Any) -> EmbeddingTable:
        """The table of a snapshot, bit for bit; it has touched nothing.

        Args:
            path: folder of the snapshot.
            overrides: `segments`, `admission`, `expiry`, for those of your own that no registry knows.

        Raises:
            InputError: no snapshot, a damaged one, or one of another version.
        """
        from nonet.recsys.table.snapshot import load

        return load(path).to_table(**overrides)

    def check_integrity(self) -> None:
        """Raise AssertionError, with what is wrong, unless index, rows, free rows and clock fit together."""
        with self._writing:
            self._store.check_integrity()
            if (self._store.entries().ts > self.clock_s).any():
                raise AssertionError("a row is newer than the table's clock")

    # The edge.

    def _ids(self, ids: ArrayLike) -> NDArray[np.int64]:
        keys = np.asarray(ids)
        if keys.size == 0:
            return _NO_KEYS
        if keys.ndim != 1 or keys.dtype.kind not in "iu":
            raise InputError(f"table {self.name!r}: ids are {keys.dtype} {keys.shape}; give a flat array of integers")
        if keys.dtype == np.uint64:
            return np.ascontiguousarray(keys).view(np.int64)  # the same 64 bits
        return np.ascontiguousarray(keys, np.int64)

    def _floats(self, rows: ArrayLike, count: int) -> NDArray[np.float32]:
        floats = np.ascontiguousarray(rows, np.float32)
        if count == 0 and floats.size == 0:
            return floats.reshape(0, self.dim)
        if floats.shape != (count, self.dim):
            raise InputError(f"table {self.name!r}: rows have shape {floats.shape}, the ids need ({count}, {self.dim})")
        return floats

    def _time(self, now_s: int) -> int:
        if not 0 <= now_s <= FOREVER_S:
            raise InputError(f"table {self.name!r}: now_s is {now_s}; give Unix seconds in [0, {FOREVER_S}]")
        return int(now_s)


def _where(chosen: NDArray[np.bool_], *arrays: NDArray) -> tuple[NDArray, ...]:
    """The chosen lines of every array; no copies if these are all."""
    return arrays if chosen.all() else tuple(array[chosen] for array in arrays)


def _combined(
    keys: NDArray[np.int64], gradients: NDArray[np.float32], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64], int]:
    """(unique keys, their summed gradients, their occurrences, lines left out)."""
    places = np.full(1 << max(1, (2 * len(keys) - 1).bit_length()), -1, np.int32)
    unique, sums, occurrences = np.empty_like(keys), np.empty_like(gradients), np.empty_like(counts)
    size, left_out = batches.combine(keys, gradients, counts, places, unique, sums, occurrences)
    return unique[:size], sums[:size], occurrences[:size], left_out
