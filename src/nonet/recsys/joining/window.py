"""Rows that wait: the newest in memory, the others on disk, each with the time at which it is looked at next.

A row in memory may be newer than its state on disk; the cache is written back as a whole at a checkpoint. `wheel` holds
deadlines of rows that have none on disk yet. So memory is bounded by `cache_rows` rows, whatever the delays are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice

import msgspec

from nonet.recsys.joining.settings import Joining
from nonet.recsys.joining.store import Store, place_of


class Row(msgspec.Struct, array_like=True, gc=False):
    """State of a key.

    Attributes:
        ts_ms: when it was shown; 0 while its feature event has not come ("parked").
        feature: that event in MessagePack; empty: on disk, or not come.
        number: of the feature event on disk; -1: not there.
        is_stored: there is a state on disk.
        actions: kind and time of each.
        parked: the action events themselves, while the feature event has not come.
        done: bit l: an example for label l has gone out, or was sampled out.
        positive: bit l: a positive among them, or a late one that was dropped.
    """

    ts_ms: int
    feature: bytes = b""
    number: int = -1
    is_stored: bool = False
    actions: list[tuple[int, int]] = []
    parked: list[bytes] = []
    done: int = 0
    positive: int = 0

    @property
    def is_parked(self) -> bool:
        """The feature event has not come."""
        return not self.feature and self.number < 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Row).decode

Due = tuple[bytes, Row]


class Window:
    """Rows by key.

    Args:
        joining: settings.
        store: the disk.
        number: of the next feature event on disk, from the checkpoint.
    """

    def __init__(self, joining: Joining, store: Store, number: int = 0) -> None:
        self._store = store
        self._tick_ms = joining.tick_ms
        self._horizon_ms = joining.horizon_ms
        self._batch_rows = joining.batch_rows
        self._grace_ms = joining.grace_ms
        self._waits_ms = [label.wait_ms for label in joining.labels]
        self._first_wait_ms = min(self._waits_ms)
        # Whether the last deadline of a row is a tick of its own, when all its examples are out.
        self._ends_unread = max(self._waits_ms) + self._tick_ms <= self._horizon_ms
        self._all_done = (1 << len(joining.labels)) - 1
        self.number = number
        self.cache: dict[bytes, Row] = {}
        self._wheel: dict[int, list[bytes]] = {}
        self._fetched: dict[bytes, bytes] = {}

    def fetch(self, keys: Collection[bytes]) -> None:
        """Get ready for `get` of these keys."""
        cache = self.cache
        self._fetched = self._store.rows({key for key in keys if key not in cache})

    def get(self, key: bytes) -> Row | None:
        """The row of a key that was fetched; what is changed in it has to be kept."""
        row = self.cache.get(key)
        if row is None:
            state = self._fetched.get(key)
            if state is not None:
                row = _decode(state)
        return row

    def add(self, key: bytes, row: Row) -> None:
        """Keep a row whose deadline is not on disk."""
        self.cache[key] = row
        self._wheel.setdefault(self.next_tick(row), []).append(key)

    def next_tick(self, row: Row) -> int:
        """The tick at which a row is looked at next."""
        if not row.done and (row.feature or row.number >= 0):
            at_ms = row.ts_ms + self._first_wait_ms
        elif row.is_parked:
            at_ms = max(ts_ms for _, ts_ms in row.actions) + self._grace_ms
        else:
            waits_ms = (wait for n, wait in enumerate(self._waits_ms) if not row.done >> n & 1)
            at_ms = row.ts_ms + min(waits_ms, default=self._horizon_ms)
        return -(-at_ms // self._tick_ms) * self._tick_ms

    def last_tick(self, row: Row) -> int:
        """The tick at which a shown row is forgotten."""
        return -(-(row.ts_ms + self._horizon_ms) // self._tick_ms) * self._tick_ms

    def feature(self, row: Row) -> bytes:
        """The feature event of a shown row."""
        return row.feature or self._store.payload(place_of(self.last_tick(row), row.number))

    def due(self, passed_ms: int) -> Iterator[list[Due]]:
        """Rows whose tick lies before the watermark, in parts; each is to be given to `again` or `forget`.

        Rows of one part may be looked at too early (their deadline has moved). Between parts the state is whole.
        Rows of which every example is out are forgotten here, unread.
        """
        for tick in sorted(tick for tick in self._wheel if tick < passed_ms):
            keys = self._wheel.pop(tick, [])  # empty after a checkpoint between parts: they are on disk now
            yield [(key, self.cache[key]) for key in keys if key in self.cache]
        before = place_of(min(passed_ms, 1 << 61), 0)
        while timers := self._store.due_timers(before, self._batch_rows):
            yield self._rows_of([key for _, key in timers])
        while payloads := self._store.due_payloads(before, self._batch_rows):
            keys = [value[:16] for _, value in payloads]
            if self._ends_unread:
                for key in keys:
                    self.cache.pop(key, None)
                self._store.delete_rows(keys)
                continue
            part = self._rows_of(keys)
            features = dict(zip(keys, payloads, strict=True))
            for key, row in part:
                row.feature = features[key][1][16:]
            yield part

    def _rows_of(self, keys: list[bytes]) -> list[Due]:
        self.fetch(keys)
        found = ((key, self.get(key)) for key in dict.fromkeys(keys))
        return [(key, row) for key, row in found if row is not None]

    def again(self, rows: list[Due]) -> None:
        """Rows that were due wait for their next deadlines."""
        states, timers = [], []
        for key, row in rows:
            if row.feature or not row.is_stored:
                self.add(key, row)
                continue
            if row.is_parked or row.done != self._all_done:
                tick = self.next_tick(row)
                if row.is_parked or tick < self.last_tick(row):
                    timers.append((place_of(tick, self.number), key))
                    self.number += 1
            if key not in self.cache:
                states.append((key, _encode(row)))
        self._store.put_rows(sorted(states))
        self._store.put_timers(timers)

    def forget(self, rows: list[Due]) -> None:
        """Rows that are over; their feature events have been taken off the disk, if they were there."""
        for key, _ in rows:
            self.cache.pop(key, None)
        self._store.delete_rows([key for key, row in rows if row.is_stored])

    def make_room(self, num_rows: int) -> None:
        """Write rows to disk, oldest first, so that at most so many stay in memory."""
        excess = len(self.cache) - num_rows
        if excess <= 0:
            return
        leaving = list(islice(self.cache.items(), excess))
        states, payloads, timers = [], [], []
        number = self.number
        for key, row in leaving:
            feature = row.feature
            if feature:  # neither it nor its deadlines are on disk
                tick, last = self.next_tick(row), self.last_tick(row)
                payloads.append((place_of(last, number), key + feature))
                if tick != last:
                    timers.append((place_of(tick, number), key))
                row.feature, row.number = b"", number
                number += 1
            elif row.number < 0 and not row.is_stored:
                timers.append((place_of(self.next_tick(row), number), key))
                number += 1
            row.is_stored = True
            states.append((key, _encode(row)))
            del self.cache[key]
        self.number = number
        self._store.put_rows(sorted(states))
        self._store.put_payloads(sorted(payloads))
        self._store.put_timers(sorted(timers))
        self._wheel = {}
        for key, row in self.cache.items():
            if row.feature or not row.is_stored:
                self._wheel.setdefault(self.next_tick(row), []).append(key)
