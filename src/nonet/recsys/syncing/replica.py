"""A serving copy of tables that changes by deltas alone.

Each of the 1,024 buckets of a table stands at an epoch of one publisher's run. A delta that starts later than a bucket
stands is a gap: nothing of it is applied, and the answer says where the buckets stand. What is known already is
answered as applied. So deltas may be lost, repeated, reordered or damaged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.features.fid import bucket_of
from nonet.recsys.syncing.forms import codec_of, form_of
from nonet.recsys.syncing.frames import NUM_BUCKETS, Bools, CorruptFrameError, Ints
from nonet.recsys.syncing.messages import Ack, Blob, Delta, Form, Hello, decode
from nonet.recsys.table import SGD, EmbeddingTable
from nonet.recsys.table.compressors import RowCodec

Rows = NDArray[np.float32]
Follower = Callable[[str, Ints, Rows, Ints], None]
"""Is told after a delta: table, upserted keys, their rows, erased keys."""

_NO_KEYS = np.empty(0, np.int64)


@dataclass(slots=True)
class _Copy:
    """One table of a replica."""

    table: EmbeddingTable
    codec: RowCodec
    form: Form
    epochs: Ints = field(default_factory=lambda: np.zeros(NUM_BUCKETS, np.int64))
    incarnations: Ints = field(default_factory=lambda: np.zeros(NUM_BUCKETS, np.int64))


class Replica:
    """Tables and dense parameters as a publisher last told them. Reading is lock-free, from any thread.

    Args:
        tables: of each its dim, or the codec in which its rows travel (the publisher's must be the same).
        name: in answers and metrics.

    Raises:
        InputError: no table.

    >>> from nonet.recsys.syncing import DeltaPublisher, InProcessLink
    >>> table, replica = EmbeddingTable(2, name="user"), Replica({"user": 2})
    >>> publisher = DeltaPublisher({"user": table})
    >>> publisher.attach("a", InProcessLink(replica))
    >>> _ = table.upsert([5], [[1.0, 2.0]])
    >>> replica.lookup([5]).tolist(), publisher.publish(event_ts_ms=4000).behind, replica.lookup([5]).tolist()
    ([[0.0, 0.0]], (), [[1.0, 2.0]])
    >>> replica.staleness_s(now_s=10.0)
    6.0
    """

    def __init__(self, tables: Mapping[str, int | RowCodec], name: str = "replica") -> None:
        if not tables:
            raise InputError(f"replica {name!r} has no tables; name at least one with its dim")
        self.name = name
        self._copies: dict[str, _Copy] = {}
        for table, shape in tables.items():
            codec = codec_of(shape)
            # A replica does not train: an optimizer without state keeps its rows as short as they can be.
            own = EmbeddingTable(codec.dim, optimizer=SGD(), name=table, track_touched=False)
            self._copies[table] = _Copy(own, codec, form_of(codec))
        self._blobs: dict[str, Blob] = {}
        self._event_ts_ms: dict[tuple[str, int], int] = {}
        self._followers: list[Follower] = []
        self._blob_followers: list[Callable[[Blob], None]] = []
        self._applying = threading.Lock()
        self.counts = {"applied": 0, "known": 0, "gap": 0, "corrupt": 0, "refused": 0}
        """Messages by what came of them."""

    # Reading.

    @property
    def tables(self) -> dict[str, EmbeddingTable]:
        """The copies by name; to read only."""
        return {name: copy.table for name, copy in self._copies.items()}

    def table(self, name: str = "") -> EmbeddingTable:
        """One copy; the name may be left out where there is one.

        Raises:
            InputError: no such table.
        """
        name = name or (next(iter(self._copies)) if len(self._copies) == 1 else name)
        if name not in self._copies:
            raise InputError(f"replica {self.name!r} has no table {name!r} (known: {', '.join(self._copies)})")
        return self._copies[name].table

    def lookup(self, ids: Any, table: str = "") -> Rows:
        """Rows float32 [n, dim] of int64 [n]; zeros for unknown ids."""
        return self.table(table).lookup(ids)

    def lookup_bags(self, values: Any, offsets: Any, mode: Literal["sum", "mean"] = "sum", table: str = "") -> Rows:
        """Pooled rows float32 [n, dim] of n bags."""
        return self.table(table).lookup_bags(values, offsets, mode)

    def fetch(self, table: str, ids: Ints) -> tuple[Rows, Bools]:
        """Rows float32 [n, dim], and which ids are there."""
        own = self.table(table)
        return own.lookup(ids), own.contains(ids)

    def dense(self, name: str) -> Blob | None:
        """The newest dense parameters of a model, or None before the first."""
        return self._blobs.get(name)

    @property
    def epochs(self) -> dict[str, Ints]:
        """Of each table int64 [1024], the epoch at which each bucket stands; 0: nothing yet."""
        return {name: copy.epochs.copy() for name, copy in self._copies.items()}

    @property
    def epoch(self) -> int:
        """The highest epoch of any table."""
        return max(int(copy.epochs.max()) for copy in self._copies.values())

    def staleness_s(self, now_s: float, table: str | None = None, shard: int | None = None) -> float:
        """Now less the newest event time that has been applied; infinite before the first event.

        Args:
            now_s: Unix seconds.
            table: of this table alone.
            shard: of this shard alone.
        """
        known = [
            ts_ms
            for (of_table, of_shard), ts_ms in list(self._event_ts_ms.items())
            if table in (None, of_table) and shard in (None, of_shard) and ts_ms > 0
        ]
        return now_s - max(known) / 1000 if known else float("inf")

    def follow(self, follower: Follower) -> None:
        """Tell `follower` of all changes from now on, in the applying thread, after readers can see them."""
        with self._applying:
            self._followers.append(follower)

    def follow_dense(self, follower: Callable[[Blob], None]) -> None:
        """Tell `follower` of each new version of dense parameters; of those that are there at once."""
        with self._applying:
            self._blob_followers.append(follower)
            for blob in self._blobs.values():
                follower(blob)

    def positions(self) -> list[Ack]:
        """Where every table stands, as reports of gaps: what to ask a publisher with for what is missing."""
        asked = []
        for name, copy in self._copies.items():
            newest = int(copy.incarnations.max())
            stands = np.where(copy.incarnations == newest, copy.epochs, 0).astype("<i8")
            asked.append(Ack(self.name, "gap", name, newest, epochs=stands.tobytes()))
        return asked

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep messages waiting meanwhile; reading goes on."""
        with self._applying:
            yield

    # Applying.

    def receive(self, frame: bytes) -> bytes:
        """A message of a publisher to an answer, both as frames; never raises for what the message holds."""
        try:
            message = decode(frame)
        except CorruptFrameError as error:
            self.counts["corrupt"] += 1
            return Ack(self.name, "corrupt", reason=str(error)).encode()
        if isinstance(message, Delta):
            return self.apply(message).encode()
        if isinstance(message, Blob):
            return self.apply_dense(message).encode()
        if isinstance(message, Hello):
            wrong = [self._mismatch(name, form) for name, form in message.forms.items()]
            reason = "; ".join(filter(None, wrong))
            return Ack(self.name, "refused" if reason else "applied", reason=reason).encode()
        return self._refused(message.table, message.incarnation, "an answer is no message for a replica").encode()

    def apply(self, delta: Delta) -> Ack:
        """Apply a delta, row by row atomically for readers, or say why not."""
        reason = self._mismatch(delta.table, delta.form)
        if reason:
            return self._refused(delta.table, delta.incarnation, reason)
        copy = self._copies[delta.table]
        with self._applying:
            if (copy.incarnations[delta.buckets] > delta.incarnation).any():
                reason = f"table {delta.table!r}: a later publisher owns these buckets; stop this one"
                return self._refused(delta.table, delta.incarnation, reason)
            stands = np.where(copy.incarnations == delta.incarnation, copy.epochs, 0)
            behind = delta.buckets & (stands < delta.epoch)
            if (stands[behind & ~delta.whole] < delta.prev_epoch).any():
                self.counts["gap"] += 1
                at = stands.astype("<i8").tobytes()
                return Ack(self.name, "gap", delta.table, delta.incarnation, delta.epoch, epochs=at)
            if behind.any():
                self._write(copy, delta, behind)
                copy.incarnations[behind], copy.epochs[behind] = delta.incarnation, delta.epoch
                source = (delta.table, delta.shard)
                self._event_ts_ms[source] = max(delta.event_ts_ms, self._event_ts_ms.get(source, 0))
            self.counts["applied" if behind.any() else "known"] += 1
        return Ack(self.name, "applied", delta.table, delta.incarnation, delta.epoch)

    def apply_dense(self, blob: Blob) -> Ack:
        """Take dense parameters unless newer ones are there."""
        with self._applying:
            own = self._blobs.get(blob.name)
            is_new = own is None or (blob.incarnation, blob.version) > (own.incarnation, own.version)
            if is_new:
                self._blobs[blob.name] = blob
                for follower in self._blob_followers:
                    follower(blob)
            self.counts["applied" if is_new else "known"] += 1
        return Ack(self.name, "applied", blob.name, blob.incarnation, blob.version)

    def _write(self, copy: _Copy, delta: Delta, behind: Bools) -> None:
        keys, rows, gone = delta.keys, copy.codec.decode(delta.rows), delta.tombstones
        if not np.array_equal(behind, delta.buckets):  # some buckets stand later than this
            kept = behind[bucket_of(keys)]
            keys, rows, gone = keys[kept], rows[kept], gone[behind[bucket_of(gone)]]
        whole = delta.whole & behind
        if whole.any() and len(copy.table):
            present = copy.table.keys()
            gone = np.union1d(gone, np.setdiff1d(present[whole[bucket_of(present)]], keys))
        copy.table.upsert(keys, rows)
        copy.table.erase(gone)
        for follower in self._followers:
            follower(delta.table, keys, rows, gone)

    def _mismatch(self, table: str, form: Form) -> str:
        if table not in self._copies:
            return f"replica {self.name!r} has no table {table!r} (it has {', '.join(self._copies)})"
        own = self._copies[table].form
        if own == form:
            return ""
        dims = [sum(dim for dim, _ in one) for one in (form, own)]
        if dims[0] != dims[1]:
            return f"table {table!r}: the publisher's rows have dim {dims[0]}, replica {self.name!r} has {dims[1]}"
        return f"table {table!r}: the publisher's rows come as {form}, replica {self.name!r} expects {own}"

    def _refused(self, table: str, incarnation: int, reason: str) -> Ack:
        self.counts["refused"] += 1
        return Ack(self.name, "refused", table, incarnation, reason=reason)

    def check_integrity(self) -> None:
        """Raise AssertionError unless the copies are sound."""
        for copy in self._copies.values():
            copy.table.check_integrity()
