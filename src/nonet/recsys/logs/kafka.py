"""Logs over the Kafka protocol, by librdkafka; settings are spelled as Kafka's own, such as `bootstrap.servers`.

Partitions are assigned by hand; no consumer group has to form, a group's name is used for its offsets alone. A
producer's name and sequence numbers travel in the headers `nonet-producer` and `nonet-sequence`, and its last number is
read back from the end of the partition. Broker-side transactions are not needed.

Tansu 0.6 reports the first offset of the last batch as the end of a partition: give it `batch.num.messages=1`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Producer as KafkaProducer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from nonet.common.errors import InputError, NonetError
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

_CHUNK = 1000
_TIMEOUT_S = 5.0
T = TypeVar("T")


class KafkaLog(Log):
    """Topics of a Kafka cluster.

    Args:
        settings: librdkafka's; `bootstrap.servers` is needed. Appends wait for all replicas unless `acks` says else.

    Raises:
        InputError: librdkafka does not know a setting.
        LogUnavailableError: no answer.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._where = str(settings.get("bootstrap.servers", ""))
        quiet: dict[str, Any] = {"log_level": 0, "error_cb": lambda _: None}
        producing: dict[str, Any] = {
            "acks": "all",
            "enable.idempotence": True,
            "enable.gapless.guarantee": True,
            "linger.ms": 1,
            "message.timeout.ms": int(_TIMEOUT_S * 1000),
        }
        self._producing = {**producing, **settings, **quiet}
        self._consuming = {
            "group.id": "nonet",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 50,
            **settings,
            **quiet,
        }
        self._readers: dict[Position, tuple[int, Any]] = {}
        self._groups: dict[str, Any] = {}
        self._joining = threading.Lock()
        self._waiters: list[Any] = []  # those that nobody waits with now: a consumer has one assignment
        self._lasts: dict[tuple[str, int, str], int] = {}
        try:
            self._admin = AdminClient({**settings, **quiet})
            self._producer: Any = KafkaProducer(self._producing)
            self._asker: Any = Consumer(self._consuming)
        except KafkaException as error:
            raise InputError(f"Kafka settings {dict(settings)}: {error.args[0].str()}") from error
        self._do(lambda: self._admin.list_topics(timeout=_TIMEOUT_S))

    def create(self, topic: str, num_partitions: int = 1) -> None:
        """See `Log`."""
        now = self.num_partitions(topic)
        checked_growth(topic, now, num_partitions)
        if now == num_partitions:
            return
        if now == 0:
            asked = self._admin.create_topics([NewTopic(topic, num_partitions)], request_timeout=_TIMEOUT_S)
        else:
            asked = self._admin.create_partitions([NewPartitions(topic, num_partitions)], request_timeout=_TIMEOUT_S)
        self._do(asked[topic].result)
        end_s = time.monotonic() + _TIMEOUT_S
        while self.num_partitions(topic) < num_partitions:  # brokers learn of it one after the other
            if time.monotonic() > end_s:
                raise LogUnavailableError(
                    f"Kafka at {self._where} has not made {num_partitions} partitions of {topic!r}"
                )
            time.sleep(0.02)

    def num_partitions(self, topic: str) -> int:
        """See `Log`."""
        checked_name(topic)
        about = self._do(lambda: self._admin.list_topics(timeout=_TIMEOUT_S)).topics.get(topic)
        return len(about.partitions) if about else 0

    def append(self, topic: str, partition: int, records: Sequence[Record], producer: Producer | None = None) -> int:
        """See `Log`."""
        checked_records(records)
        checked_partition(topic, partition, self.num_partitions(topic))
        if not records:
            return 0
        fresh = fresh_part(records, producer, self._last(topic, partition, producer.name)) if producer else records
        sequence = producer.sequence + len(records) - len(fresh) if producer else 0
        errors: list[Any] = []

        def delivered(error: Any, _: Any) -> None:
            if error:
                errors.append(error)

        for n, (key, payload, ts_ms) in enumerate(fresh):
            headers = {} if ts_ms else {"nonet-ts": "0"}  # librdkafka takes 0 for now
            if producer:
                headers |= {"nonet-producer": producer.name, "nonet-sequence": str(sequence + n)}
            self._produce(topic, payload, key, partition, ts_ms, headers, delivered, errors)
        num_left = self._producer.flush(2 * _TIMEOUT_S)
        if errors or num_left:
            if producer:
                self._lasts.pop((topic, partition, producer.name), None)
            self._producer.purge()
            self._producer = KafkaProducer(self._producing)
            why = errors[0].str() if errors else "no answer"
            raise LogUnavailableError(f"Kafka at {self._where} has not taken {len(errors) or num_left} records: {why}")
        if producer and fresh:
            self._lasts[topic, partition, producer.name] = sequence + len(fresh) - 1
        return len(fresh)

    def _produce(
        self,
        topic: str,
        payload: bytes,
        key: bytes,
        partition: int,
        ts_ms: int,
        headers: dict[str, str],
        delivered: Callable,
        errors: list[Any],
    ) -> None:
        while not errors:
            try:
                self._producer.produce(
                    topic, payload, key, partition, on_delivery=delivered, timestamp=ts_ms, headers=headers
                )
                return
            except BufferError:
                self._producer.poll(0.1)  # room comes with deliveries
            except KafkaException as error:
                errors.append(error.args[0])

    def read(self, topic: str, partition: int, offset: int, max_records: int = 1000) -> Batch:
        """See `Log`."""
        messages = self._messages(topic, partition, offset, max_records)
        offsets = [message.offset() for message in messages]
        return Batch([_record(message) for message in messages], offsets, offsets[-1] + 1 if offsets else offset)

    def _messages(self, topic: str, partition: int, offset: int, max_records: int) -> list[Any]:
        first, end = self.offsets(topic, partition)
        checked_offset(f"{self._where} {topic} {partition}", offset, first, end)
        num = min(max_records, end - offset)
        if num <= 0:
            return []
        at, reader = self._readers.pop((topic, partition), None) or (-1, Consumer(self._consuming))
        if at != offset:
            reader.assign([TopicPartition(topic, partition, offset)])
        messages: list[Any] = self._do(lambda: reader.consume(num, _TIMEOUT_S))
        for message in messages:
            if message.error():
                reader.close()
                raise LogUnavailableError(f"Kafka at {self._where}, {topic} {partition}: {message.error().str()}")
        if not messages:
            reader.close()
            raise LogUnavailableError(f"Kafka at {self._where} gives no records of {topic} {partition}")
        self._readers[topic, partition] = (messages[-1].offset() + 1, reader)
        return messages

    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        """See `Log`."""
        at = TopicPartition(checked_name(topic), partition)
        try:
            return self._asker.get_watermark_offsets(at, timeout=_TIMEOUT_S)
        except KafkaException as error:
            checked_partition(topic, partition, self.num_partitions(topic))
            raise self._unavailable(error) from error

    def wait(self, positions: Mapping[Position, int], timeout_s: float) -> bool:
        """See `Log`."""
        try:
            waiter = self._waiters.pop()
        except IndexError:
            waiter = Consumer(self._consuming)
        waiter.assign([TopicPartition(*at, offset) for at, offset in positions.items()])
        try:
            end_s = time.monotonic() + timeout_s
            while time.monotonic() < end_s:
                message = self._do(lambda: waiter.poll(max(0.0, end_s - time.monotonic())))
                if message is not None and not message.error():
                    return True
            return False
        finally:
            waiter.unassign()
            self._waiters.append(waiter)

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """See `Log`."""
        for partition, offset in offsets.items():
            if not 0 <= offset <= self.offsets(topic, partition)[1]:
                raise OffsetError(f"{topic} {partition}: offset {offset} does not exist, so it is not committed")
        if offsets:
            kept = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
            self._do(lambda: self._group(group).commit(offsets=kept, asynchronous=False))

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """See `Log`."""
        asked = [TopicPartition(topic, partition) for partition in range(self.num_partitions(topic))]
        found = self._do(lambda: self._group(group).committed(asked, timeout=_TIMEOUT_S)) if asked else []
        return {at.partition: at.offset for at in found if at.offset >= 0}

    def trim(self, topic: str, partition: int, before: int) -> None:
        """See `Log`."""
        first, end = self.offsets(topic, partition)
        checked_offset(f"{self._where} {topic} {partition}", max(before, first), first, end)
        if before > first:
            at = TopicPartition(topic, partition, before)
            self._do(self._admin.delete_records([at], request_timeout=_TIMEOUT_S)[at].result)

    def close(self) -> None:
        """See `Log`."""
        self._producer.flush(_TIMEOUT_S)
        readers = [reader for _, reader in self._readers.values()]
        for consumer in (*readers, *self._groups.values(), *self._waiters, self._asker):
            consumer.close()

    def _group(self, group: str) -> Any:
        with self._joining:
            if group not in self._groups:
                self._groups[group] = Consumer({**self._consuming, "group.id": checked_name(group, "group")})
            return self._groups[group]

    def _last(self, topic: str, partition: int, name: str) -> int:
        """Last sequence number of a producer, from the end of the partition backwards; -1: none."""
        known = self._lasts.get((topic, partition, name))
        if known is not None:
            return known
        first, end = self.offsets(topic, partition)
        while end > first:
            start = max(first, end - _CHUNK)
            for message in reversed(self._messages(topic, partition, start, end - start)):
                headers = dict(message.headers() or [])
                if headers.get("nonet-producer") == name.encode():
                    return int(headers["nonet-sequence"] or -1)
            end = start
        return -1

    def _do(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except KafkaException as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: KafkaException) -> NonetError:
        what: KafkaError = error.args[0]
        if what.code() == KafkaError._UNSUPPORTED_FEATURE:
            return InputError(f"Kafka at {self._where}: {what.str()}; use another broker or do without")
        return LogUnavailableError(f"Kafka at {self._where}: {what.str()} ({what.name()})")


def _record(message: Any) -> Record:
    headers = dict(message.headers() or [])
    ts_ms = 0 if "nonet-ts" in headers else max(0, message.timestamp()[1])
    return Record(message.key() or b"", message.value() or b"", ts_ms)
