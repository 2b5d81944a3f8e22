"""What goes out: kept in the checkpoint first, appended to the log then, by number.

A crash between the two repeats the append with the same bytes and the same numbers, and the log leaves out what it has.
So each record is there once, though the joiner itself may read its input in another order the next time.
"""

from __future__ import annotations

import msgspec

from nonet.recsys.logs import Log, Producer, Record, partition_of
from nonet.recsys.logs.log import records_of


class Parcel(msgspec.Struct, array_like=True):
    """Records for one partition.

    Attributes:
        topic: where they go.
        partition: likewise.
        sequence: number of the first.
        records: key, payload, time.
    """

    topic: str
    partition: int
    sequence: int
    records: list[Record]


class Outbox:
    """Records on their way out.

    Args:
        log: where they go.
        producer: name of the joiner.
        sequences: next number by topic and partition, from the checkpoint.
        parcels: of the checkpoint; they are sent again.
    """

    def __init__(self, log: Log, producer: str, sequences: dict[tuple[str, int], int], parcels: list[Parcel]) -> None:
        self._log = log
        self._producer = producer
        self.sequences = sequences
        self.parcels = parcels
        self._written: dict[str, list[tuple[bytes, bytes, int]]] = {}
        self.num_written = 0

    def write(self, topic: str, key: bytes, payload: bytes, ts_ms: int) -> None:
        """Put a record in."""
        self._written.setdefault(topic, []).append((key, payload, ts_ms))
        self.num_written += 1

    def pack(self) -> list[Parcel]:
        """Number what was put in, for the checkpoint; everything earlier must have been sent.

        Raises:
            LogUnavailableError: nothing has changed.
        """
        nums = {topic: self._log.num_partitions(topic) for topic in self._written}
        self.parcels = []
        for topic, written in self._written.items():
            records = list(records_of(written))
            apart: dict[int, list[Record]] = {} if nums[topic] > 1 else {0: records}
            for record in records if nums[topic] > 1 else ():
                apart.setdefault(partition_of(record.key, nums[topic]), []).append(record)
            for partition, some in apart.items():
                sequence = self.sequences.get((topic, partition), 0)
                self.parcels.append(Parcel(topic, partition, sequence, some))
                self.sequences[topic, partition] = sequence + len(some)
        self._written, self.num_written = {}, 0
        return self.parcels

    def send(self) -> None:
        """Append what the checkpoint holds; may be repeated.

        Raises:
            LogUnavailableError: the rest is still to be sent.
        """
        while self.parcels:
            parcel = self.parcels[0]
            producer = Producer(self._producer, parcel.sequence)
            self._log.append(parcel.topic, parcel.partition, parcel.records, producer)
            del self.parcels[0]
