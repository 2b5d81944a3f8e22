"""Tells replicas what changed in the tables of a shard, and knows what each of them has.

Every interval the touched keys of each table become an epoch of its change log. A replica is sent, from where it
stands to now, the current values of the keys that changed and tombstones for those that are gone; buckets that the log
does not list so far back are sent whole. Where it stands moves when it says so, and only then: a replica that was away
gets what it missed. (The public code of Monolith takes keys out before the push and drops them all when there are too
many; arXiv 2209.07663, section 2.3, gives no more than the push.)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError, NonetError
from nonet.recsys.features.fid import bucket_of
from nonet.recsys.syncing.changes import ChangeLog
from nonet.recsys.syncing.forms import codec_of, form_of
from nonet.recsys.syncing.frames import NUM_BUCKETS, Bools, CorruptFrameError, Ints, pack
from nonet.recsys.syncing.messages import Ack, Blob, Delta, Form, Hello, decode, epochs_of
from nonet.recsys.table.compressors import RowCodec

MAX_PENDING_KEYS = 1 << 22
MAX_MESSAGE_BYTES = 4 << 20
_HEADER_BYTES = 512


class LinkDownError(NonetError):
    """A replica does not answer; what it lacks stays pending."""


class Link(Protocol):
    """A way to a replica."""

    def send(self, frame: bytes) -> bytes | None:
        """Give a message to the replica; its answer, or None when none came.

        Raises:
            LinkDownError: it cannot be reached.
        """
        ...


class Source(Protocol):
    """What is published: an `EmbeddingTable`, or a shard of one elsewhere."""

    segments: Any

    def lookup(self, ids: Ints) -> NDArray[np.float32]:
        """Current rows."""
        ...

    def contains(self, ids: Ints) -> Bools:
        """Which are there."""
        ...

    def keys(self) -> Ints:
        """All that are there."""
        ...

    def take_touched(self) -> Any:
        """(upserted, erased) since the last call."""
        ...


@dataclass(slots=True)
class _Stream:
    """One table of the publisher."""

    table: Source
    codec: RowCodec
    form: Form
    log: ChangeLog
    event_ts_ms: int = 0


@dataclass(slots=True)
class _Subscriber:
    """What is known of one replica."""

    link: Link
    cursors: dict[str, Ints]
    versions: dict[str, int] = field(default_factory=dict)
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """What one interval sent, over all replicas.

    Args:
        touched: keys that changed or went, by table; tables without are absent.
        messages: deltas and blobs.
        payload_bytes: of them.
        acknowledged: messages that a replica has.
        behind: replicas that still lack something.
        refused: replicas that cannot take the tables, with the reason.
    """

    touched: Mapping[str, int]
    messages: int
    payload_bytes: int
    acknowledged: int
    behind: tuple[str, ...]
    refused: Mapping[str, str]


class DeltaPublisher:
    """Publishes the tables of one shard.

    Memory: 24 bytes a pending key (at most `max_pending_keys` a table), 8 KB a table and replica.

    Args:
        tables: by name.
        shard: number, for the gauges of replicas.
        buckets: bool [1024], those that the shard owns; all by default.
        codecs: form in which rows travel, by table; by default what the segments say, or float32.
        max_pending_keys: of a table; beyond it the fullest buckets are sent whole to who lacks something of them.
        max_message_bytes: larger deltas are cut by bucket.
        incarnation: number of this run, larger than that of all runs before; by default the time in nanoseconds.

    Raises:
        InputError: no tables, or numbers out of range.

    >>> from nonet.recsys import EmbeddingTable, InProcessLink, Replica
    >>> table, replica = EmbeddingTable(2, name="user"), Replica({"user": 2})
    >>> publisher = DeltaPublisher({"user": table})
    >>> publisher.attach("a", InProcessLink(replica))
    >>> _ = table.upsert([5, 6], [[1.0, 2.0], [3.0, 4.0]])
    >>> publisher.publish(event_ts_ms=4000).behind, replica.lookup([6]).tolist()
    ((), [[3.0, 4.0]])
    >>> _ = table.erase([6])
    >>> publisher.publish(event_ts_ms=5000).behind, replica.lookup([6]).tolist()
    ((), [[0.0, 0.0]])
    """

    def __init__(
        self,
        tables: Mapping[str, Source],
        *,
        shard: int = 0,
        buckets: Bools | None = None,
        codecs: Mapping[str, RowCodec] | None = None,
        max_pending_keys: int = MAX_PENDING_KEYS,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        incarnation: int | None = None,
    ) -> None:
        if not tables:
            raise InputError("a publisher needs a table")
        if max_message_bytes < 2 * _HEADER_BYTES:
            raise InputError(f"max_message_bytes must be at least {2 * _HEADER_BYTES}, got {max_message_bytes}")
        owned = np.ones(NUM_BUCKETS, bool) if buckets is None else np.asarray(buckets, bool)
        if owned.shape != (NUM_BUCKETS,) or not owned.any():
            raise InputError(f"buckets must be bool [{NUM_BUCKETS}] with one that is owned, got {owned.shape}")
        self.shard = shard
        self.incarnation = time.time_ns() if incarnation is None else incarnation
        self._max_message_bytes = max_message_bytes
        self._streams: dict[str, _Stream] = {}
        for name, table in tables.items():
            codec = (codecs or {}).get(name) or codec_of(table)
            self._streams[name] = _Stream(table, codec, form_of(codec), ChangeLog(owned, max_pending_keys))
        self._blobs: dict[str, Blob] = {}
        self._subscribers: dict[str, _Subscriber] = {}
        self._publishing = threading.RLock()

    # Who is told.

    def attach(self, name: str, link: Link) -> None:
        """Add a replica; it gets everything with the next `publish`.

        Raises:
            InputError: the name is taken, or the replica's tables differ.
        """
        with self._publishing:
            if name in self._subscribers:
                raise InputError(f"a replica {name!r} is attached already; detach it first")
            subscriber = _Subscriber(link, {table: np.zeros(NUM_BUCKETS, np.int64) for table in self._streams})
            hello = Hello({table: stream.form for table, stream in self._streams.items()})
            answer = self._ask(subscriber, hello)
            if answer is not None and answer.status == "refused":
                raise InputError(f"replica {name!r} refuses: {answer.reason}")
            self._subscribers[name] = subscriber

    def detach(self, name: str) -> None:
        """Forget a replica, and what was kept for it."""
        with self._publishing:
            self._subscribers.pop(name, None)
            self._trim()

    def put_dense(self, name: str, arrays: Mapping[str, NDArray[Any]], *, event_ts_ms: int = 0) -> int:
        """A new version of dense parameters, sent with the next `publish`; its number."""
        with self._publishing:
            version = self._blobs[name].version + 1 if name in self._blobs else 1
            copied = {key: np.array(array) for key, array in arrays.items()}
            self._blobs[name] = Blob(name, self.incarnation, version, copied, event_ts_ms)
            return version

    def resend(self, table: str, buckets: Bools) -> None:
        """Send buckets whole with the next `publish`, such as those of a shard that went back to a snapshot.

        Args:
            table: its name.
            buckets: bool [1024].
        """
        with self._publishing:
            self._streams[table].log.forget(buckets)

    # What is told.

    @property
    def epochs(self) -> dict[str, int]:
        """Of each table."""
        return {name: stream.log.epoch for name, stream in self._streams.items()}

    @property
    def pending(self) -> dict[str, int]:
        """Keys that some replica lacks, by table; buckets that go whole do not count."""
        return {name: len(stream.log) for name, stream in self._streams.items()}

    def publish(self, *, event_ts_ms: int = 0) -> Published:
        """One interval: take what was touched, send every replica what it lacks.

        Args:
            event_ts_ms: newest event time that the tables have learned from.
        """
        with self._publishing:
            touched = self._collect(event_ts_ms)
            counts = [0, 0, 0]
            behind = []
            for name, subscriber in self._subscribers.items():
                if not subscriber.refused and not self._serve(subscriber, counts):
                    behind.append(name)
            self._trim()
            refused = {name: one.refused for name, one in self._subscribers.items() if one.refused}
            return Published(touched, counts[0], counts[1], counts[2], tuple(behind), refused)

    def since(self, table: str, cursors: Ints) -> Iterator[Delta]:
        """The deltas that bring a replica from where it stands to now.

        Args:
            table: its name.
            cursors: int64 [1024], the epochs of its buckets under this incarnation; zeros: it has nothing.
        """
        stream = self._streams[table]
        changed, whole = stream.log.since(cursors)
        epoch = stream.log.epoch
        if whole.any():
            present = stream.table.keys()
            changed = np.union1d(changed, present[whole[bucket_of(present)]])
        owner = bucket_of(changed)
        late = stream.log.buckets & (cursors < epoch)
        rest = late & ~whole
        for n, prev_epoch in enumerate(np.unique(cursors[rest]).tolist() or [epoch]):
            group = rest & (cursors == prev_epoch)
            if n == 0:
                group |= whole  # to those it does not matter where the replica stands
            for part in self._cut(owner, group, 8 + stream.codec.row_bytes):
                yield self._delta(table, prev_epoch, epoch, part, whole & part, changed[part[owner]])

    def _collect(self, event_ts_ms: int) -> dict[str, int]:
        touched = {}
        for name, stream in self._streams.items():
            stream.event_ts_ms = max(stream.event_ts_ms, event_ts_ms)  # of a restored table, too: nothing is touched
            upserted, erased = stream.table.take_touched()
            if len(upserted) + len(erased):
                touched[name] = len(upserted) + len(erased)
                stream.log.record(np.concatenate([upserted, erased]))
        return touched

    def _serve(self, subscriber: _Subscriber, counts: list[int]) -> bool:
        """Send one replica what it lacks; whether it then has everything."""
        try:
            for name in self._streams:
                # A gap says where the replica stands: once more from there.
                if not self._has_all(subscriber, name) and self._bring(subscriber, name, counts):
                    self._bring(subscriber, name, counts)
            for name, blob in self._blobs.items():
                if subscriber.versions.get(name, 0) < blob.version:
                    self._deliver(subscriber, blob, counts)
        except LinkDownError:
            return False
        return all(self._has_all(subscriber, name) for name in self._streams) and all(
            subscriber.versions.get(name, 0) >= blob.version for name, blob in self._blobs.items()
        )

    def _has_all(self, subscriber: _Subscriber, table: str) -> bool:
        log = self._streams[table].log
        return bool((subscriber.cursors[table][log.buckets] >= log.epoch).all())

    def _bring(self, subscriber: _Subscriber, table: str, counts: list[int]) -> bool:
        """Send what changed since the replica's cursors; whether it has reported a gap."""
        cursors = subscriber.cursors[table]
        before = cursors.copy()
        for delta in self.since(table, before):
            self._deliver(subscriber, delta, counts)
        return bool((cursors < before).any())

    def _deliver(self, subscriber: _Subscriber, message: Delta | Blob, counts: list[int]) -> None:
        frame = message.encode()
        counts[0] += 1
        counts[1] += len(frame)
        answer = self._ask(subscriber, frame)
        if answer is None:
            return
        if answer.status == "refused":
            subscriber.refused = answer.reason
        elif answer.incarnation != self.incarnation:
            return  # it could not read the message
        elif isinstance(message, Blob):
            subscriber.versions[message.name] = answer.epoch
            counts[2] += 1
        elif answer.status == "gap":
            subscriber.cursors[message.table][message.buckets] = epochs_of(answer)[message.buckets]
        elif (answer.table, answer.epoch) == (message.table, message.epoch):
            subscriber.cursors[message.table][message.buckets] = message.epoch
            counts[2] += 1

    def _ask(self, subscriber: _Subscriber, message: bytes | Hello) -> Ack | None:
        answer = subscriber.link.send(pack(message) if isinstance(message, Hello) else message)
        if answer is None:
            return None
        try:
            decoded = decode(answer)
        except CorruptFrameError:
            return None
        return decoded if isinstance(decoded, Ack) else None

    def _delta(self, table: str, prev: int, epoch: int, buckets: Bools, whole: Bools, keys: Ints) -> Delta:
        stream = self._streams[table]
        here = stream.table.contains(keys)
        present = keys[here]
        gone = keys[~here & ~whole[bucket_of(keys)]]  # a bucket that goes whole needs no tombstones
        rows = np.empty((0, stream.codec.row_bytes), np.uint8)
        if len(present):
            rows = stream.codec.encode(stream.table.lookup(present))
        return Delta(
            table,
            self.shard,
            self.incarnation,
            prev,
            epoch,
            buckets,
            whole,
            stream.form,
            present,
            rows,
            gone,
            stream.event_ts_ms,
        )

    def _cut(self, owner: Ints, group: Bools, key_bytes: int) -> Iterator[Bools]:
        """Sets of buckets whose keys fit a message; a bucket is never cut."""
        if not group.any():
            return
        sizes = np.bincount(owner, minlength=NUM_BUCKETS) * key_bytes
        room = self._max_message_bytes - _HEADER_BYTES
        part, filled = np.zeros(NUM_BUCKETS, bool), 0
        for bucket in np.flatnonzero(group).tolist():
            if filled and filled + sizes[bucket] > room:
                yield part
                part, filled = np.zeros(NUM_BUCKETS, bool), 0
            part[bucket] = True
            filled += int(sizes[bucket])
        yield part

    def _trim(self) -> None:
        for name, stream in self._streams.items():
            waiting = [one.cursors[name] for one in self._subscribers.values() if not one.refused]
            everything = np.full(NUM_BUCKETS, stream.log.epoch)
            stream.log.trim(np.minimum.reduce([everything, *waiting]))


class SyncLoop:
    """Publishes every interval from a thread of its own.

    Args:
        publisher: of the shard.
        interval_s: from one start to the next, > 0.
        event_ts_ms: asked before each interval for the newest event time learned.

    Raises:
        InputError: another interval.
    """

    def __init__(self, publisher: DeltaPublisher, interval_s: float, event_ts_ms: Callable[[], int]) -> None:
        if not interval_s > 0:
            raise InputError(f"interval_s must be above 0, got {interval_s}")
        self._publisher, self._interval_s, self._event_ts_ms = publisher, interval_s, event_ts_ms
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)
        self.failure: Exception | None = None
        """What ended the thread, if something has."""
        self.last: Published | None = None

    def start(self) -> SyncLoop:
        """Begin."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End after the interval that runs, then publish once more what is left.

        Raises:
            Exception: what ended the thread before.
        """
        self._stopping.set()
        self._thread.join()
        if self.failure is not None:
            raise self.failure
        self.last = self._publisher.publish(event_ts_ms=self._event_ts_ms())

    def _run(self) -> None:
        due_s = time.monotonic() + self._interval_s
        while not self._stopping.wait(max(0.0, due_s - time.monotonic())):
            try:
                self.last = self._publisher.publish(event_ts_ms=self._event_ts_ms())
            except Exception as error:
                self.failure = error
                return
            due_s = max(due_s + self._interval_s, time.monotonic())
