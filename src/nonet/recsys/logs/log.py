"""What a log is: topics of numbered partitions, each an ordered row of records that are read by offset.

Every back end keeps the same promises, and one suite of tests holds all of them to it:

* Offsets of a partition start at 0 and rise by one for each record; trimming takes records away at the front only.
* What `append` returned from is kept as the back end's settings say, and read back byte for byte.
* A producer may repeat an append: records at or below its last sequence number are left out. With sequence numbers
  kept in its own checkpoint a writer writes exactly once, also across `kill -9`.
* `read` never waits, `wait` does, and neither polls in a loop.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import xxhash

from nonet.common.errors import InputError, NonetError

MAX_RECORD_BYTES = 64 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class OffsetError(InputError):
    """The offset lies before the first record that is left, or behind the end."""


class LogDamagedError(NonetError):
    """A record's checksum does not hold."""


class LogUnavailableError(NonetError):
    """The broker does not answer, or the disk does not take the records; nothing is lost, try again."""


class Record(NamedTuple):
    """One record.

    Attributes:
        key: decides the partition in `publish`; may be empty.
        payload: any bytes.
        ts_ms: event time in milliseconds since 1970, not negative.
    """

    key: bytes
    payload: bytes
    ts_ms: int


class Batch(NamedTuple):
    """Records of one partition, in order.

    Attributes:
        records: may be empty.
        offsets: of each.
        next_offset: where to read on.
    """

    records: list[Record]
    offsets: Sequence[int]
    next_offset: int


class Producer(NamedTuple):
    """Who appends, and the number of the first record among all that it has ever appended to this partition.

    Attributes:
        name: of one writer; two writers at the same time must not share it.
        sequence: 0 for its first record in the partition.
    """

    name: str
    sequence: int


records_of = partial(map, partial(tuple.__new__, Record))
"""Records from triples; several times faster than calling `Record` for each."""

Position = tuple[str, int]
"""Topic and partition."""


class Log(ABC):
    """A log. Instances may be used by several threads; several processes open one each."""

    @abstractmethod
    def create(self, topic: str, num_partitions: int = 1) -> None:
        """Make a topic, or add partitions to it; nothing happens if it has as many.

        Raises:
            InputError: a bad name or number, or the topic has more partitions (they cannot be taken away).
        """

    @abstractmethod
    def num_partitions(self, topic: str) -> int:
        """How many partitions a topic has now; 0: there is no such topic."""

    @abstractmethod
    def append(self, topic: str, partition: int, records: Sequence[Record], producer: Producer | None = None) -> int:
        """Append records, durably as far as the back end's settings go.

        Args:
            topic: must exist.
            partition: from 0.
            records: all or, when the process dies meanwhile, a first part of them is appended.
            producer: for appends that may be repeated.

        Returns:
            How many were appended; the others had been before.

        Raises:
            InputError: no such partition, or a record out of range.
            LogUnavailableError: the outcome is not known; repeat it.
        """

    @abstractmethod
    def read(self, topic: str, partition: int, offset: int, max_records: int = 1000) -> Batch:
        """What there is from an offset on, at least one record if there is any, without waiting.

        Raises:
            OffsetError: the records were trimmed, or the offset lies behind the end.
            LogDamagedError: a checksum does not hold.
            LogUnavailableError: no answer.
        """

    @abstractmethod
    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        """Offset of the first record that is left, and of the next one to come."""

    @abstractmethod
    def wait(self, positions: Mapping[Position, int], timeout_s: float) -> bool:
        """Sleep until one of the partitions has a record at the offset given; False: the time is over."""

    @abstractmethod
    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Keep a consumer's offsets (next one to read) by partition; others stay as they are."""

    @abstractmethod
    def committed(self, group: str, topic: str) -> dict[int, int]:
        """What has been committed; partitions without are absent."""

    @abstractmethod
    def trim(self, topic: str, partition: int, before: int) -> None:
        """Take away the records before an offset.

        Raises:
            OffsetError: behind the end.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back files and connections."""

    def publish(self, topic: str, records: Iterable[Record]) -> None:
        """Append each to the partition of its key."""
        num = self.num_partitions(topic)
        checked_partition(topic, 0, num)
        apart: dict[int, list[Record]] = {}
        for record in records:
            apart.setdefault(partition_of(record.key, num), []).append(record)
        for partition, some in sorted(apart.items()):
            self.append(topic, partition, some)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def partition_of(key: bytes, num_partitions: int) -> int:
    """The partition of a key: xxh3 modulo their number, equal in every process.

    >>> partition_of(b"user-1", 4) == partition_of(b"user-1", 4) < 4
    True
    """
    return xxhash.xxh3_64_intdigest(key) % num_partitions


def checked_name(name: str, what: str = "topic") -> str:
    """A name that every back end takes.

    Raises:
        InputError: it is not 1 to 200 letters, digits, `.`, `_` or `-`.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"{what} {name!r}: use 1 to 200 letters, digits, dots, underscores or hyphens")
    return name


def checked_partition(topic: str, partition: int, num_partitions: int) -> None:
    """Refuse a partition that is not there.

    Raises:
        InputError: no such topic or partition.
    """
    if num_partitions == 0:
        raise InputError(f"there is no topic {topic!r}; create it first")
    if not 0 <= partition < num_partitions:
        raise InputError(f"topic {topic!r} has partitions 0 to {num_partitions - 1}, not {partition}")


def checked_growth(topic: str, now: int, wanted: int) -> None:
    """Refuse fewer partitions than there are.

    Raises:
        InputError: fewer, or less than one.
    """
    if wanted < 1:
        raise InputError(f"topic {topic!r}: {wanted} partitions; at least 1 is needed")
    if wanted < now:
        raise InputError(f"topic {topic!r} has {now} partitions; it cannot have fewer ({wanted})")


def checked_records(records: Sequence[Record]) -> None:
    """Refuse what some back end could not keep.

    Raises:
        InputError: a record of more than 64 MB, a key of more than 1 MB, or a time below 0 or beyond 2^62.
    """
    if not records:
        return
    keys, payloads, times = zip(*records, strict=True)
    key_bytes, payload_bytes = max(map(len, keys)), max(map(len, payloads))
    if key_bytes > 1 << 20 or payload_bytes > MAX_RECORD_BYTES:
        size = f"a key has {key_bytes} bytes or a payload {payload_bytes}"
        raise InputError(f"{size}; a record has at most 1 MB and 64 MB")
    if not 0 <= min(times) <= max(times) < 1 << 62:
        raise InputError(f"ts_ms from {min(times)} to {max(times)}: not times in milliseconds since 1970")


def checked_offset(where: str, offset: int, first: int, end: int) -> None:
    """Refuse an offset that has no record now nor next.

    Raises:
        OffsetError: out of range.
    """
    if offset < first:
        raise OffsetError(
            f"{where}: records before offset {first} have been trimmed, {offset} is gone; read on at {first}"
        )
    if offset > end:
        raise OffsetError(f"{where}: offset {offset} lies behind the end {end}; was the log replaced?")


def fresh_part(records: Sequence[Record], producer: Producer | None, last: int) -> Sequence[Record]:
    """Records of a producer that go beyond its last sequence number.

    >>> fresh_part([Record(b"", b"a", 0), Record(b"", b"b", 0)], Producer("p", 5), last=5)
    [Record(key=b'', payload=b'b', ts_ms=0)]
    """
    return records if producer is None else records[max(0, last + 1 - producer.sequence) :]
