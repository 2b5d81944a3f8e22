"""A table over several shards with the face of one: keys go to shards by the owners of their 1,024 buckets."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nonet.common.errors import InputError
from nonet.recsys.features.fid import bucket_of, bucket_owners
from nonet.recsys.sharding.backends import BACKENDS, Handle, ShardDownError
from nonet.recsys.table import EmbeddingTable
from nonet.recsys.table import _batch_kernels as batches
from nonet.recsys.table.embedding_table import Applied, Exported
from nonet.recsys.table.reshard import regroup, reshard
from nonet.recsys.table.snapshot import Saved, save
from nonet.recsys.table.touched import Touched

Ints = NDArray[np.int64]
Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Shards:
    """The shards of one moment."""

    handles: tuple[Handle, ...]
    owners: Ints

    def split(self, keys: Ints) -> list[Ints]:
        """Places of the keys of each shard, in order."""
        owner = self.owners[bucket_of(keys)]
        order = np.argsort(owner, kind="stable")
        return np.split(order, np.searchsorted(owner[order], np.arange(1, len(self.handles))))


class ShardedTable:
    """An `EmbeddingTable` cut into shards. Reading is allowed in any thread, writing in one.

    Args:
        table: what the shards start from; its rows go to them, and it is not used afterwards.
        num_shards: 1..1,024.
        backend: "thread", "process" or "ray".

    Raises:
        InputError: an unknown backend, or a shard that does not start.

    >>> with ShardedTable(EmbeddingTable(2), num_shards=3) as table:
    ...     _ = table.upsert([1, -1], [[1.0, 2.0], [3.0, 4.0]])
    ...     table.lookup([-1, 1, 0]).tolist(), len(table)
    ([[3.0, 4.0], [1.0, 2.0], [0.0, 0.0]], 2)
    """

    def __init__(self, table: EmbeddingTable, num_shards: int, backend: str = "thread") -> None:
        self.name, self.dim, self.state_dim, self.segments = table.name, table.dim, table.state_dim, table.segments
        self._start = BACKENDS[backend]
        self._writing = threading.RLock()
        self._carried = Touched(np.empty(0, np.int64), np.empty(0, np.int64))
        owners = bucket_owners(num_shards)
        with tempfile.TemporaryDirectory(prefix="nonet-shards-") as folder:
            paths = []
            for number, saved in enumerate(regroup([Saved.of(table, {})], owners)):
                paths.append(Path(folder) / f"shard-{number:04d}")
                save(saved, paths[-1])
            self._shards = self._started(paths, owners)

    def _started(self, paths: Sequence[Path], owners: Ints) -> _Shards:
        handles: list[Handle] = []
        try:
            for path in paths:
                handles.append(self._start(str(path)))  # noqa: PERF401 - those that started must be ended
            _waited([handle.begin("describe") for handle in handles])
        except BaseException:
            for handle in handles:
                handle.kill()
            raise
        return _Shards(tuple(handles), owners)

    @property
    def num_shards(self) -> int:
        """How many."""
        return len(self._shards.handles)

    @property
    def owners(self) -> Ints:
        """Shard of each bucket, int64 [1024]."""
        return self._shards.owners.copy()

    def __len__(self) -> int:
        return sum(one["keys"] for one in self._all("describe"))

    @property
    def num_bytes(self) -> int:
        """Of all shards."""
        return sum(one["num_bytes"] for one in self._all("describe"))

    # Reading.

    def lookup(self, ids: ArrayLike) -> Rows:
        """As `EmbeddingTable.lookup`; each shard is asked once."""
        keys = _ids(ids)
        out = np.zeros((len(keys), self.dim), np.float32)
        for at, rows in self._asked("lookup", keys):
            out[at] = rows
        return out

    def lookup_bags(self, values: ArrayLike, offsets: ArrayLike, mode: Literal["sum", "mean"] = "sum") -> Rows:
        """As `EmbeddingTable.lookup_bags`, pooled here."""
        keys, at = _ids(values), _ids(offsets)
        if mode not in ("sum", "mean") or len(at) == 0 or at[0] != 0 or at[-1] != len(keys) or (np.diff(at) < 0).any():
            raise InputError(f"table {self.name!r}: mode {mode!r}, or offsets that do not rise from 0 to {len(keys)}")
        out = np.zeros((len(at) - 1, self.dim), np.float32)
        batches.pool(self.lookup(keys), at, mode == "mean", out)
        return out

    def contains(self, ids: ArrayLike) -> NDArray[np.bool_]:
        """Which ids have a row."""
        keys = _ids(ids)
        out = np.zeros(len(keys), bool)
        for at, here in self._asked("contains", keys):
            out[at] = here
        return out

    def keys(self) -> Ints:
        """All keys, ascending."""
        return np.sort(np.concatenate(self._all("keys")))

    def export(self) -> Exported:
        """Everything by ascending key."""
        parts = self._all("export")
        joined = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
        order = np.argsort(joined[0])
        return Exported(*(column[order] for column in joined))

    # Writing.

    def apply_gradients(
        self, ids: ArrayLike, grads: ArrayLike, *, now_s: int = 0, counts: ArrayLike | None = None
    ) -> Applied:
        """As `EmbeddingTable.apply_gradients`. Every shard takes its step, also those that have none of the keys.

        Raises:
            ShardDownError: a shard is gone; others may have applied their part (replay from a snapshot undoes that).
        """
        keys, rows = _ids(ids), np.ascontiguousarray(grads, np.float32)
        if rows.shape != (len(keys), self.dim):
            raise InputError(f"table {self.name!r}: grads have shape {rows.shape}, not ({len(keys)}, {self.dim})")
        lines = np.ones(len(keys), np.int64) if counts is None else _ids(counts)
        with self._writing:
            shards = self._shards
            places = shards.split(keys)
            begun = [
                handle.begin("apply_gradients", keys[at], rows[at], now_s, lines[at])
                for handle, at in zip(shards.handles, places, strict=True)
            ]
            return Applied(*(sum(column) for column in zip(*_waited(begun), strict=True)))

    def upsert(self, ids: ArrayLike, rows: ArrayLike, *, now_s: int | None = None) -> int:
        """As `EmbeddingTable.upsert`."""
        keys, values = _ids(ids), np.ascontiguousarray(rows, np.float32)
        with self._writing:
            shards = self._shards
            begun = [
                handle.begin("upsert", keys[at], values[at], now_s)
                for handle, at in zip(shards.handles, shards.split(keys), strict=True)
            ]
            return sum(_waited(begun))

    def erase(self, ids: ArrayLike) -> int:
        """As `EmbeddingTable.erase`."""
        with self._writing:
            return sum(count for _, count in self._asked("erase", _ids(ids)))

    def expire(self, now_s: int | None = None) -> Ints:
        """As `EmbeddingTable.expire`, each shard by its own clock and ceilings."""
        with self._writing:
            return np.sort(np.concatenate(self._all("expire", now_s)))

    def take_touched(self) -> Touched:
        """As `EmbeddingTable.take_touched`."""
        with self._writing:
            parts = [*self._all("take_touched"), list(self._carried)]
            self._carried = Touched(np.empty(0, np.int64), np.empty(0, np.int64))
        upserted, erased = (np.unique(np.concatenate(columns)) for columns in zip(*parts, strict=True))
        return Touched(upserted, np.setdiff1d(erased, upserted))

    # Snapshots, failures, other numbers of shards.

    def snapshot(self, folder: str | Path, offsets: Mapping[str, int] | None = None) -> list[Path]:
        """A snapshot of every shard, `folder/shard-0000` and so on; each is atomic.

        Args:
            folder: made if need be; its own folder must exist.
            offsets: where the example log stands.
        """
        place = Path(folder).absolute()  # a shard may have another working directory
        place.mkdir(exist_ok=True)
        paths = [place / f"shard-{number:04d}" for number in range(self.num_shards)]
        with self._writing:
            handles = self._shards.handles
            _waited([h.begin("snapshot", str(p), dict(offsets or {})) for h, p in zip(handles, paths, strict=True)])
        return paths

    def restore(self, folder: str | Path) -> dict[str, int]:
        """Every shard back to its snapshot; where the example log stood.

        Raises:
            InputError: snapshots of different moments.
        """
        with self._writing:
            begun = [
                handle.begin("restore", str(Path(folder).absolute() / f"shard-{number:04d}"))
                for number, handle in enumerate(self._shards.handles)
            ]
            stood = _waited(begun)
        if any(offsets != stood[0] for offsets in stood):
            raise InputError(f"{folder}: the shards' snapshots stand at different offsets: {stood}")
        return dict(stood[0])

    def replace(self, number: int, path: str | Path) -> None:
        """A new shard from a snapshot in the place of one that failed; the others go on as they are.

        Replicas learn of it by `DeltaPublisher.resend` of the shard's buckets.

        Args:
            number: of the shard.
            path: its snapshot.
        """
        fresh = self._start(str(Path(path).absolute()))
        try:
            fresh.begin("describe")()
        except BaseException:
            fresh.kill()
            raise
        with self._writing:
            handles = list(self._shards.handles)
            old, handles[number] = handles[number], fresh
            self._shards = _Shards(tuple(handles), self._shards.owners)
        old.kill()

    def down(self) -> list[int]:
        """Shards that do not answer."""
        found = []
        for number, handle in enumerate(self._shards.handles):
            try:
                handle.begin("describe")()
            except ShardDownError:
                found.append(number)
        return found

    def kill(self, number: int) -> None:
        """End a shard as a failure does."""
        self._shards.handles[number].kill()

    def reshard(self, num_shards: int) -> None:
        """Move all buckets to another number of shards; readers are answered by the old ones until it is done."""
        folder = Path(tempfile.mkdtemp(prefix="nonet-reshard-"))
        try:
            with self._writing:
                paths = reshard(self.snapshot(folder / "old"), num_shards, folder / "new")
                fresh = self._started(paths, bucket_owners(num_shards))
                self._carried = self.take_touched()
                old, self._shards = self._shards, fresh
            for handle in old.handles:
                handle.stop()
        finally:
            shutil.rmtree(folder)

    def check_integrity(self) -> None:
        """Of every shard; and that each has keys of its own buckets alone."""
        self._all("check_integrity")
        for number, keys in enumerate(self._all("keys")):
            if (self._shards.owners[bucket_of(keys)] != number).any():
                raise AssertionError(f"shard {number} has keys of another shard's buckets")

    def close(self) -> None:
        """End all shards."""
        for handle in self._shards.handles:
            handle.stop()

    def __enter__(self) -> ShardedTable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _all(self, operation: str, *args: Any) -> list[Any]:
        return _waited([handle.begin(operation, *args) for handle in self._shards.handles])

    def _asked(self, operation: str, keys: Ints) -> list[tuple[Ints, Any]]:
        """Places and answers, of the shards that own some of the keys."""
        shards = self._shards
        asked = [(h, at) for h, at in zip(shards.handles, shards.split(keys), strict=True) if len(at)]
        begun = [handle.begin(operation, keys[at]) for handle, at in asked]
        return list(zip([at for _, at in asked], _waited(begun), strict=True))


def _waited(begun: Sequence[Any]) -> list[Any]:
    """All answers; of several failures the first, once all have ended."""
    answers, failure = [], None
    for wait in begun:
        try:
            answers.append(wait())
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return answers


def _ids(ids: ArrayLike) -> Ints:
    keys = np.asarray(ids)
    if keys.size == 0:
        return np.empty(0, np.int64)
    if keys.ndim != 1 or keys.dtype.kind not in "iu":
        raise InputError(f"ids are {keys.dtype} {keys.shape}; give a flat array of integers")
    return np.ascontiguousarray(keys).view(np.int64) if keys.dtype == np.uint64 else keys.astype(np.int64)
