"""Logs as NATS JetStream streams, one for each partition; message n + 1 of a stream is the record of offset n.

Streams are named `nonet_TOPIC_PARTITION` with subject `nonet.log.TOPIC.PARTITION` (a dot in the topic is written =),
kept in files. Headers: `Nonet-Key` (base64), `Nonet-Ts`, and of a producer `Nonet-Producer` and `Nonet-Sequence`. Its
messages say which message they expect before them, so a row of them has no hole if the connection breaks; its last
sequence number is read back from the end of the stream. Committed offsets are in the bucket `nonet_groups`.
"""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import nats
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StorageType, StreamConfig
from nats.js.errors import KeyNotFoundError, NotFoundError

from nonet.recsys.logs.log import (
    Batch,
    Log,
    LogUnavailableError,
    OffsetError,
    Position,
    Producer,
    Record,
    checked_growth,
    checked_name,
    checked_offset,
    checked_partition,
    checked_records,
    fresh_part,
)

_CHUNK = 512
_TIMEOUT_S = 5.0
T = TypeVar("T")


class NatsLog(Log):
    """Topics as JetStream streams of one NATS server or cluster.

    Args:
        url: such as `nats://localhost:4222`.

    Raises:
        LogUnavailableError: no answer, or JetStream is off.
    """

    def __init__(self, url: str) -> None:
        self._where = url.rpartition("@")[2]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nats-log", daemon=True)
        self._thread.start()
        self._client: Any = None
        self._readers: dict[Position, tuple[int, Any]] = {}
        self._lasts: dict[tuple[str, int, str], int] = {}
        try:
            connecting = nats.connect(
                url, connect_timeout=2, reconnect_time_wait=0.2, max_reconnect_attempts=-1, error_cb=_quiet
            )
            self._client = self._do(connecting, _TIMEOUT_S)
        except LogUnavailableError:
            self._stop()
            raise
        self._js = self._client.jetstream(timeout=_TIMEOUT_S)

    def create(self, topic: str, num_partitions: int = 1) -> None:
        """See `Log`."""
        now = self.num_partitions(topic)
        checked_growth(topic, now, num_partitions)
        for partition in range(now, num_partitions):
            config = StreamConfig(
                name=_stream(topic, partition), subjects=[_subject(topic, partition)], storage=StorageType.FILE
            )
            self._do(self._js.add_stream(config))

    def num_partitions(self, topic: str) -> int:
        """See `Log`."""
        checked_name(topic)
        prefix = _stream(topic, 0)[:-1]
        found = self._do(self._stream_names())
        return sum(name.startswith(prefix) and name.removeprefix(prefix).isdigit() for name in found)

    async def _stream_names(self) -> list[str]:
        found: list[str] = []
        while True:
            page = [str(info.config.name) for info in await self._js.streams_info(offset=len(found))]
            found += page
            if len(page) < 256:
                return found

    def append(self, topic: str, partition: int, records: Sequence[Record], producer: Producer | None = None) -> int:
        """See `Log`."""
        checked_records(records)
        checked_partition(topic, partition, self.num_partitions(topic))
        num = 0
        try:
            if producer is None:
                fresh = records
            else:
                fresh = fresh_part(records, producer, self._last(topic, partition, producer.name))
            sequence = producer.sequence + len(records) - len(fresh) if producer else 0
            for start in range(0, len(fresh), _CHUNK):
                part = fresh[start : start + _CHUNK]
                self._do(self._publish(topic, partition, part, producer and Producer(producer.name, sequence + start)))
                num += len(part)
        except LogUnavailableError:
            if producer:
                self._lasts.pop((topic, partition, producer.name), None)
            raise
        if producer and fresh:
            self._lasts[topic, partition, producer.name] = sequence + len(fresh) - 1
        return num

    async def _publish(self, topic: str, partition: int, records: Sequence[Record], producer: Producer | None) -> None:
        subject = _subject(topic, partition)
        before = (await self._js.stream_info(_stream(topic, partition))).state.last_seq if producer else 0
        sending = []
        for n, (key, payload, ts_ms) in enumerate(records):
            headers = {"Nonet-Key": base64.b64encode(key).decode(), "Nonet-Ts": str(ts_ms)}
            if producer:
                headers["Nonet-Producer"] = producer.name
                headers["Nonet-Sequence"] = str(producer.sequence + n)
                headers["Nats-Expected-Last-Sequence"] = str(before + n)
            sending.append(asyncio.ensure_future(self._js.publish(subject, payload, headers=headers)))
        done = await asyncio.gather(*sending, return_exceptions=True)
        for outcome in done:
            if isinstance(outcome, BaseException):
                raise outcome

    def read(self, topic: str, partition: int, offset: int, max_records: int = 1000) -> Batch:
        """See `Log`."""
        messages = self._messages(topic, partition, offset, max_records)
        records = [_record(message) for message in messages]
        return Batch(records, range(offset, offset + len(records)), offset + len(records))

    def _messages(self, topic: str, partition: int, offset: int, max_records: int) -> list[Any]:
        first, end = self.offsets(topic, partition)
        checked_offset(f"{self._where} {topic} {partition}", offset, first, end)
        num = min(max_records, end - offset)
        return self._do(self._fetch(topic, partition, offset, num)) if num > 0 else []

    async def _fetch(self, topic: str, partition: int, offset: int, num: int) -> list[Any]:
        at, reader = self._readers.pop((topic, partition), (-1, None))
        if reader is not None and at != offset:
            with suppress(NatsError):
                await reader.unsubscribe()
        if at != offset:
            reader = await self._js.pull_subscribe(
                _subject(topic, partition), stream=_stream(topic, partition), config=_from(offset)
            )
        messages: list[Any] = []
        while len(messages) < num:
            messages += await reader.fetch(num - len(messages), timeout=_TIMEOUT_S)
        ends = [message.metadata.sequence.stream for message in (messages[0], messages[-1])]
        if ends != [offset + 1, offset + num]:  # a server that died may give out again, or not, what it was asked for
            raise NatsError(f"messages {ends} came instead of {offset + 1} to {offset + num}")
        self._readers[topic, partition] = (offset + num, reader)
        return messages

    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        """See `Log`."""
        try:
            state = self._do(self._js.stream_info(_stream(checked_name(topic), partition))).state
        except NotFoundError:
            checked_partition(topic, partition, self.num_partitions(topic))
            raise
        return max(state.first_seq, 1) - 1, state.last_seq

    def wait(self, positions: Mapping[Position, int], timeout_s: float) -> bool:
        """See `Log`."""
        return self._do(self._wait(positions, timeout_s), timeout_s + _TIMEOUT_S)

    async def _wait(self, positions: Mapping[Position, int], timeout_s: float) -> bool:
        come = asyncio.Event()

        async def wake(_: Any) -> None:
            come.set()

        listeners = [
            await self._js.subscribe(_subject(*at), stream=_stream(*at), cb=wake, config=_from(offset), manual_ack=True)
            for at, offset in positions.items()
        ]
        try:
            await asyncio.wait_for(come.wait(), timeout_s)
            return True
        except TimeoutError:
            return False
        finally:
            for listener in listeners:
                with suppress(NatsError):
                    await listener.unsubscribe()

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """See `Log`."""
        for partition, offset in offsets.items():
            if not 0 <= offset <= self.offsets(topic, partition)[1]:
                raise OffsetError(f"{topic} {partition}: offset {offset} does not exist, so it is not committed")
        self._do(self._put(checked_name(group, "group"), topic, offsets))

    async def _put(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        try:
            bucket = await self._js.key_value("nonet_groups")
        except NotFoundError:
            bucket = await self._js.create_key_value(bucket="nonet_groups")
        for partition, offset in offsets.items():
            await bucket.put(_group_key(group, topic, partition), str(offset).encode())

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """See `Log`."""
        num = self.num_partitions(topic)
        return self._do(self._get(checked_name(group, "group"), topic, num))

    async def _get(self, group: str, topic: str, num_partitions: int) -> dict[int, int]:
        found = {}
        with suppress(NotFoundError):  # no bucket: nothing has been committed
            bucket = await self._js.key_value("nonet_groups")
            for partition in range(num_partitions):
                with suppress(KeyNotFoundError):
                    found[partition] = int((await bucket.get(_group_key(group, topic, partition))).value or b"")
        return found

    def trim(self, topic: str, partition: int, before: int) -> None:
        """See `Log`."""
        first, end = self.offsets(topic, partition)
        checked_offset(f"{self._where} {topic} {partition}", max(before, first), first, end)
        if before > first:
            self._do(self._js.purge_stream(_stream(topic, partition), seq=before + 1))

    def close(self) -> None:
        """See `Log`."""
        with suppress(LogUnavailableError):
            self._do(self._client.close())
        self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _last(self, topic: str, partition: int, name: str) -> int:
        """Last sequence number of a producer, from the end of the stream backwards; -1: none."""
        known = self._lasts.get((topic, partition, name))
        if known is not None:
            return known
        first, end = self.offsets(topic, partition)
        while end > first:
            start = max(first, end - _CHUNK)
            for message in reversed(self._messages(topic, partition, start, end - start)):
                headers = message.headers or {}
                if headers.get("Nonet-Producer") == name:
                    return int(headers["Nonet-Sequence"])
            end = start
        return -1

    def _do(self, asked: Coroutine[Any, Any, T], timeout_s: float = 60.0) -> T:
        if self._client is not None and self._client.is_reconnecting:
            asked.close()
            raise LogUnavailableError(f"NATS at {self._where} does not answer; the connection is tried again")
        future = asyncio.run_coroutine_threadsafe(asked, self._loop)
        try:
            return future.result(timeout_s)
        except NotFoundError:
            raise
        except (NatsError, OSError, TimeoutError) as error:
            future.cancel()
            raise LogUnavailableError(f"NATS at {self._where} does not answer ({error!r}); is it running?") from error


async def _quiet(_: Exception) -> None:
    """Errors of the connection come back from the calls that meet them."""


def _escaped(topic: str) -> str:
    return topic.replace(".", "=")


def _stream(topic: str, partition: int) -> str:
    return f"nonet_{_escaped(topic)}_{partition}"


def _subject(topic: str, partition: int | str) -> str:
    return f"nonet.log.{_escaped(topic)}.{partition}"


def _group_key(group: str, topic: str, partition: int) -> str:
    return f"{_escaped(group)}.{_escaped(topic)}.{partition}"


def _from(offset: int) -> ConsumerConfig:
    return ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=offset + 1,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=60.0,
    )


def _record(message: Any) -> Record:
    headers = message.headers or {}
    ts = headers.get("Nonet-Ts")
    ts_ms = int(ts) if ts else int(message.metadata.timestamp.timestamp() * 1000)
    return Record(base64.b64decode(headers.get("Nonet-Key", "")), message.data, ts_ms)
