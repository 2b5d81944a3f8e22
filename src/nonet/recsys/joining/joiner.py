"""The online joiner: features and actions in, examples out, each exactly once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from types import MappingProxyType

import msgspec

from nonet.common.errors import InputError
from nonet.recsys.features.encoder import FeatureEncoder
from nonet.recsys.joining.intake import Arrival, Intake
from nonet.recsys.joining.outbox import Outbox, Parcel
from nonet.recsys.joining.settings import JoinCounts, Joining
from nonet.recsys.joining.settling import Settler, plain
from nonet.recsys.joining.store import SpillError, Store
from nonet.recsys.joining.watermarks import BEGINNING_MS, Watermarks
from nonet.recsys.joining.window import Due, Row, Window
from nonet.recsys.logs import Batch, Log, LogUnavailableError, Record
from nonet.recsys.logs.log import Position


class Checkpoint(msgspec.Struct, array_like=True):
    """All that a joiner is, beside the rows; committed together with them.

    Attributes:
        fingerprint: of the settings that rows hang on.
        epoch: how many checkpoints there have been.
        offsets: next one to read, by topic and partition.
        newest_ms: newest event, likewise.
        passed_ms: watermark.
        number: of the next feature event on disk.
        sequences: next number of an output record, by topic and partition.
        parcels: what goes out with this checkpoint.
        counts: what was counted.
    """

    fingerprint: str
    epoch: int = 0
    offsets: list[tuple[Position, int]] = []
    newest_ms: list[tuple[Position, int]] = []
    passed_ms: int = BEGINNING_MS
    number: int = 0
    sequences: list[tuple[Position, int]] = []
    parcels: list[Parcel] = []
    counts: JoinCounts = msgspec.field(default_factory=JoinCounts)


class Joiner:
    """Joins feature and action events by request and item.

    Memory: `cache_rows` rows and one checkpoint's output; the rest is on disk. Whatever kills it, it goes on from the
    last checkpoint in `folder`, and the examples are those of a run without a fault.

    Args:
        log: holds the topics; missing ones are made.
        folder: of the store on disk; one joiner has it at a time.
        joining: settings.
        clock: seconds since 1970, to tell times that lie in the future.
        encoders: by feature, for events in JSON that name raw values.
        item: the feature that names what is shown; events in JSON without it have their `item_id` there.

    Raises:
        InputError: another joiner has the folder, or it was made with other labels.
        LogUnavailableError: the broker does not answer.

    >>> from tempfile import TemporaryDirectory
    >>> from nonet.recsys import ActionEvent, Example, FeatureEvent, Label, open_log
    >>> from nonet.recsys.example import decode, encode
    >>> folder = TemporaryDirectory()
    >>> log = open_log(f"file:{folder.name}/log")
    >>> joining = Joining(labels=(Label("click", wait_ms=10_000),), allowed_lateness_ms=0)
    >>> with Joiner(log, f"{folder.name}/spill", joining) as joiner:
    ...     for item, ts_ms in ((b"i1", 1_000), (b"i2", 1_000), (b"i3", 20_000)):
    ...         shown = FeatureEvent(request_id=b"r", item_id=item, ts_ms=ts_ms)
    ...         log.publish("features", [Record(b"r", encode(shown), ts_ms)])
    ...     for item, ts_ms in ((b"i2", 5_000), (b"i3", 21_000)):  # at 21 s the wait of the first two is over
    ...         clicked = ActionEvent(request_id=b"r", item_id=item, ts_ms=ts_ms)
    ...         log.publish("actions", [Record(b"r", encode(clicked), ts_ms)])
    ...     joiner.run(until_end=True)
    >>> [(row.item_id, row.label) for row in (decode(r.payload, Example) for r in log.read("examples", 0, 0).records)]
    [(b'i1', 0.0), (b'i2', 1.0)]
    >>> folder.cleanup()
    """

    def __init__(
        self,
        log: Log,
        folder: str | Path,
        joining: Joining = Joining(),  # noqa: B008 - frozen
        *,
        clock: Callable[[], float] = time.time,
        encoders: Mapping[str, FeatureEncoder] = MappingProxyType({}),
        item: str | None = None,
    ) -> None:
        self.joining = joining
        self._encoders, self._item = encoders, item
        self._log = log
        self._clock = clock
        self._now_ms = 0
        self._store = Store(Path(folder), joining.max_spill_bytes, joining.fsync)
        try:
            self._restore(folder)
        except BaseException:
            self._store.close()
            raise

    def _restore(self, folder: str | Path) -> None:
        joining = self.joining
        meta = self._store.meta()
        last = Checkpoint(joining.fingerprint()) if meta is None else msgspec.msgpack.decode(meta, type=Checkpoint)
        if last.fingerprint != joining.fingerprint():
            raise InputError(
                f"{folder} holds rows that wait under other labels or times: {last.fingerprint}; finish them with "
                "those settings, or begin in a new folder"
            )
        self._epoch = last.epoch
        self._offsets = dict(last.offsets)
        self.counts = last.counts
        self.watermarks = Watermarks(joining.allowed_lateness_ms, dict(last.newest_ms), last.passed_ms)
        self._window = Window(joining, self._store, last.number)
        self._outbox = Outbox(self._log, joining.name, dict(last.sequences), last.parcels)
        self._settler = Settler(joining, self._outbox, self.counts)
        self._intake = Intake(joining, self._outbox, self.counts, self._encoders, self._item)
        self._horizon_ms = joining.horizon_ms
        self._waits_ms = [(n, label.wait_ms) for n, label in enumerate(joining.labels)]
        self._kinds = {kind: n for n, kind in enumerate(joining.kinds())}
        for topic in (*(label.topic for label in joining.labels), joining.dead_letters):
            if not self._log.num_partitions(topic):
                self._log.create(topic, joining.output_partitions)
        for topic in (joining.features, joining.actions):
            if not self._log.num_partitions(topic):
                self._log.create(topic)
        self._empty_since_s: dict[Position, float] = {}
        self._looked_s = self._saved_s = monotonic()
        self._num_since = 0
        self._failed: SpillError | None = None
        self._fired_ms = BEGINNING_MS  # the rows that were due by then have been looked at
        self._positions = self._all_positions()
        self._outbox.send()

    def step(self) -> int:
        """Read and join one batch, from the partition that is furthest behind in event time.

        Returns:
            Events read; 0: there were none.

        Raises:
            SpillError: the disk is full; make room and open it anew.
            LogUnavailableError: nothing has changed; call it again.
            OffsetError: records were trimmed before they were read.
        """
        if self._failed:
            raise self._failed
        try:
            self._outbox.send()
            if monotonic() - self._looked_s > 1:
                self._positions = self._all_positions()
            num = self._read_one()
            self._advance()
            behind = num and self._num_since < self.joining.checkpoint_events
            if not behind and self._is_time():
                self.checkpoint()
            return num
        except SpillError as error:
            self._failed = error
            raise

    def run(
        self,
        *,
        stop: threading.Event | None = None,
        until_end: bool = False,
        patience_s: float = 60.0,
        idle: Callable[[], None] | None = None,
    ) -> None:
        """Join until stopped, or until there is nothing left to read; then make a checkpoint.

        Args:
            stop: set it from another thread; it is looked at each second or with each batch.
            until_end: do not wait for events to come.
            patience_s: how long a broker may be gone.
            idle: is called whenever there is nothing to read.

        Raises:
            LogUnavailableError: for so long.
            SpillError: the disk is full.
        """
        well_s = monotonic()
        while not (stop and stop.is_set()):
            try:
                num = self.step()
                well_s = monotonic()
                if num == 0:
                    if until_end:
                        break
                    if idle is not None:
                        idle()
                    self._log.wait({at: self._offsets[at] for at in self._positions}, self._sleep_s())
            except LogUnavailableError:
                if monotonic() - well_s > patience_s:
                    raise
                time.sleep(min(0.5, patience_s))
        self.checkpoint()

    def finish(self) -> None:
        """The input has ended: let all time pass, so that every row that waits goes out."""
        self.watermarks.finish()
        self._fire()
        self.checkpoint()

    def checkpoint(self) -> None:
        """Write rows, offsets and output to the disk in one commit, then send the output.

        Raises:
            SpillError: the disk is full; the last checkpoint stands.
            LogUnavailableError: the checkpoint is made, its output is sent with the next step.
        """
        self._outbox.send()
        self._window.make_room(0)
        self._epoch += 1
        parcels = self._outbox.pack()
        checkpoint = Checkpoint(
            self.joining.fingerprint(),
            self._epoch,
            list(self._offsets.items()),
            list(self.watermarks.newest_ms.items()),
            self.watermarks.passed_ms,
            self._window.number,
            list(self._outbox.sequences.items()),
            parcels,
            self.counts,
        )
        self._store.commit(msgspec.msgpack.encode(checkpoint))
        self._num_since, self._saved_s = 0, monotonic()
        self._outbox.send()
        for topic in (self.joining.features, self.joining.actions):
            offsets = {at[1]: offset for at, offset in self._offsets.items() if at[0] == topic}
            self._log.commit(self.joining.name, topic, offsets)

    def close(self) -> None:
        """Give the folder back; what came after the last checkpoint is done again by the next one."""
        self._store.close()

    def __enter__(self) -> Joiner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def num_waiting(self) -> int:
        """Rows in memory and on disk, about (a row may be in both)."""
        return len(self._window.cache) + self._store.num_rows()

    @property
    def num_cached(self) -> int:
        """Rows in memory."""
        return len(self._window.cache)

    @property
    def spill_bytes(self) -> int:
        """Size of the store on disk."""
        return self._store.size_bytes()

    @property
    def offsets(self) -> dict[Position, int]:
        """Next one to read, by topic and partition."""
        return dict(self._offsets)

    def _is_time(self) -> bool:
        if not self._num_since and not self._outbox.num_written:
            return False
        enough = self._num_since >= self.joining.checkpoint_events
        return enough or monotonic() - self._saved_s >= self.joining.checkpoint_s

    def _sleep_s(self) -> float:
        return self.joining.checkpoint_s if self._num_since else min(1.0, self.joining.idle_s or 1.0)

    def _all_positions(self) -> list[Position]:
        """Every input partition; new ones are read from their beginning."""
        self._looked_s = monotonic()
        found = []
        for topic in (self.joining.features, self.joining.actions):
            num = self._log.num_partitions(topic)
            lost = [at for at in self._offsets if at[0] == topic and at[1] >= num]
            if lost:
                raise InputError(
                    f"topic {topic!r} has {num} partitions now, partition {lost[0][1]} was read; was it replaced?"
                )
            found += [(topic, partition) for partition in range(num)]
        for at in found:
            self._offsets.setdefault(at, 0)
        return found

    def _read_one(self) -> int:
        rows = self.joining.batch_rows
        newest = self.watermarks.newest_ms
        for at in sorted(self._positions, key=lambda at: newest.get(at, BEGINNING_MS)):
            batch = self._log.read(*at, self._offsets[at], rows)
            if not batch.records:
                self._empty_since_s.setdefault(at, monotonic())
                continue
            self._empty_since_s.pop(at, None)
            self._spill()
            self._now_ms = max(self._now_ms, int(self._clock() * 1000))
            join = self._join_features if at[0] == self.joining.features else self._join_actions
            join(at, batch)
            self._offsets[at] = batch.next_offset
            self._num_since += len(batch.records)
            return len(batch.records)
        return 0

    def _spill(self) -> None:
        """Room in memory for the next batch; rows leave some batches at a time, since a page is then written once."""
        joining = self.joining
        if len(self._window.cache) + joining.batch_rows > joining.cache_rows:
            self._window.make_room(joining.cache_rows // 4)

    def _advance(self) -> None:
        now_s = monotonic()
        idle = {at for at, since_s in self._empty_since_s.items() if now_s - since_s >= self.joining.idle_s}
        if self.watermarks.advance(self._positions, idle) > self._fired_ms:
            self._fire()

    def _join_features(self, at: Position, batch: Batch) -> None:
        window, counts, passed_ms = self._window, self.counts, self.watermarks.passed_ms
        counts.features += len(batch.records)
        newest_ms = BEGINNING_MS
        for key, event, record, offset in self._fetched(at, batch, self._intake.features):
            ts_ms = event.ts_ms
            newest_ms = max(newest_ms, ts_ms)
            if ts_ms < passed_ms:
                counts.late_events += 1
                if ts_ms + self._horizon_ms < passed_ms:
                    self._intake.bury("late_feature", at, record, offset)
                    continue
            row = window.get(key)
            if row is None:
                self._show(key, Row(ts_ms, plain(event, record[1])))
            elif row.is_parked:
                row.ts_ms, row.feature = ts_ms, plain(event, record.payload)
                self._unpark(row)
                self._show(key, row)
            else:
                counts.duplicate_features += 1
        self._observe(at, newest_ms)

    def _observe(self, at: Position, newest_ms: int) -> None:
        """Time passes no faster than the clock: a client whose clock is ahead must not end the wait of all others."""
        self.watermarks.observe(at, min(newest_ms, self._now_ms))

    def _fetched(self, at: Position, batch: Batch, sound: Callable[..., list[Arrival]]) -> list[Arrival]:
        arrivals = sound(at, batch, self._now_ms + self.joining.max_ahead_ms)
        self._window.fetch([arrival[0] for arrival in arrivals])
        return arrivals

    def _show(self, key: bytes, row: Row) -> None:
        for n in self._settler.at_once:
            self._settler.settle(n, key, row, row.feature)
        self._window.add(key, row)

    def _unpark(self, row: Row) -> None:
        """The row of parked actions has come; those that are too late for it go."""
        self.counts.parked -= len(row.parked)
        until_ms = row.ts_ms + self._horizon_ms
        for (_, ts_ms), payload in zip(row.actions, row.parked, strict=True):
            if ts_ms > until_ms:
                self._intake.orphan(ts_ms, payload)
        fitting = [action for action in row.actions if action[1] <= until_ms]
        row.actions, row.parked = list(dict.fromkeys(fitting)), []
        self.counts.duplicate_actions += len(fitting) - len(row.actions)

    def _join_actions(self, at: Position, batch: Batch) -> None:
        window, counts, passed_ms = self._window, self.counts, self.watermarks.passed_ms
        counts.actions += len(batch.records)
        newest_ms = BEGINNING_MS
        for key, event, record, offset in self._fetched(at, batch, self._intake.actions):
            ts_ms = event.ts_ms
            newest_ms = max(newest_ms, ts_ms)
            counts.late_events += ts_ms < passed_ms
            kind = self._kinds.get(event.action)
            if kind is None:
                counts.unused_actions += 1
                continue
            row = window.get(key)
            action = (kind, ts_ms)
            if row is None or row.is_parked:
                self._park(key, row, action, at, record, offset)
            elif ts_ms > row.ts_ms + self._horizon_ms:
                self._intake.orphan(ts_ms, record.payload)
            elif action in row.actions:
                counts.duplicate_actions += 1
            elif len(row.actions) >= self.joining.max_actions:
                self._intake.bury("too_many_actions", at, record, offset)
            else:
                row.actions.append(action)
                window.cache[key] = row
                if row.done:
                    self._correct(key, row)
        self._observe(at, newest_ms)

    def _correct(self, key: bytes, row: Row) -> None:
        feature = self._window.feature(row)
        for n in range(len(self.joining.labels)):
            if row.done >> n & 1:
                self._settler.correct(n, key, row, feature)

    def _park(
        self, key: bytes, row: Row | None, action: tuple[int, int], at: Position, record: Record, offset: int
    ) -> None:
        if row is None and action[1] + self.joining.grace_ms < self.watermarks.passed_ms:
            self._intake.orphan(action[1], record.payload)
        elif row is not None and len(row.actions) >= self.joining.max_actions:
            self._intake.bury("too_many_actions", at, record, offset)
        elif self.counts.parked >= self.joining.max_parked:
            self._intake.bury("parked_full", at, record, offset)
        else:
            self.counts.parked += 1
            if row is None:
                row = Row(0, actions=[action], parked=[record.payload])
                self._window.add(key, row)
            else:
                row.actions.append(action)
                row.parked.append(record.payload)
                self._window.cache[key] = row

    def _fire(self) -> None:
        """Look at every row that is due."""
        passed_ms = self.watermarks.passed_ms
        for part in self._window.due(passed_ms):  # a broker that is gone may break this off; then it is done again
            over: list[Due] = []
            waiting: list[Due] = []
            for key, row in part:
                is_over = self._end_parked(row) if row.is_parked else self._settle_due(key, row, passed_ms)
                (over if is_over else waiting).append((key, row))
            self._window.forget(over)
            self._window.again(waiting)
            self._spill()
            if self._outbox.num_written >= self.joining.checkpoint_events:
                self.checkpoint()
        self._fired_ms = passed_ms

    def _end_parked(self, row: Row) -> bool:
        """Whether no row can come any more for parked actions; then they become dead letters."""
        if self._window.next_tick(row) >= self.watermarks.passed_ms:
            return False
        self.counts.parked -= len(row.parked)
        for (_, ts_ms), payload in zip(row.actions, row.parked, strict=True):
            self._intake.orphan(ts_ms, payload)
        return True

    def _settle_due(self, key: bytes, row: Row, passed_ms: int) -> bool:
        """Let out the examples whose wait is over; gives whether the row is over, too."""
        for n, wait_ms in self._waits_ms:
            if not row.done >> n & 1 and row.ts_ms + wait_ms < passed_ms:
                self._settler.settle(n, key, row, self._window.feature(row))
        return self._window.last_tick(row) < passed_ms
