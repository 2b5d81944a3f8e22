"""Deltas over a log: one publisher writes, any number of replicas read, each from its own offset.

The log keeps what was sent, so the publisher counts a message as received when the log has it. A replica that finds a
gap or damage writes to a second topic where it stands; the publisher answers on the first one.
"""

from __future__ import annotations

import time

from nonet.recsys.logs import Log, LogUnavailableError, OffsetError, Record
from nonet.recsys.syncing.frames import CorruptFrameError
from nonet.recsys.syncing.messages import Ack, Blob, Delta, Hello, decode, epochs_of
from nonet.recsys.syncing.publisher import DeltaPublisher, LinkDownError
from nonet.recsys.syncing.replica import Replica


class TopicLink:
    """Publishes to a topic, and answers those who ask for repair; attach it as one replica for all.

    Args:
        publisher: whose deltas go there.
        log: any.
        topic: of deltas, made if need be; requests come on `topic`-requests.
    """

    def __init__(self, publisher: DeltaPublisher, log: Log, topic: str = "deltas") -> None:
        self._publisher, self._log, self._topic = publisher, log, topic
        self._requests = f"{topic}-requests"
        for name in (topic, self._requests):
            if not log.num_partitions(name):
                log.create(name)
        self._offset = log.offsets(self._requests, 0)[1]  # what was asked before this run was of another incarnation
        publisher.attach(f"topic {topic}", self)

    def send(self, frame: bytes) -> bytes:
        """See `Link`."""
        message = decode(frame)
        if isinstance(message, Hello):
            return Ack(self._topic, "applied").encode()
        try:
            self._log.append(self._topic, 0, [Record(b"", frame, int(time.time() * 1000))])
        except LogUnavailableError as error:
            raise LinkDownError(str(error)) from error
        if isinstance(message, Delta):
            return Ack(self._topic, "applied", message.table, message.incarnation, message.epoch).encode()
        if isinstance(message, Blob):
            return Ack(self._topic, "applied", message.name, message.incarnation, message.version).encode()
        raise CorruptFrameError("an answer is no message for a topic")

    def repair(self) -> int:
        """Answer what replicas have asked for since the last call; how many messages that took."""
        batch = self._log.read(self._requests, 0, self._offset)
        latest = {(ask.replica, ask.table): ask for ask in map(_request, batch.records) if ask is not None}
        sent = 0
        for ask in latest.values():
            if ask.table in self._publisher.epochs:
                epochs = epochs_of(ask)
                if ask.incarnation != self._publisher.incarnation:
                    epochs[:] = 0  # of another run: they say nothing
                for delta in self._publisher.since(ask.table, epochs):
                    self.send(delta.encode())
                    sent += 1
        self._offset = batch.next_offset
        return sent


def _request(record: Record) -> Ack | None:
    try:
        message = decode(record.payload)
    except CorruptFrameError:
        return None  # the replica will ask again
    return message if isinstance(message, Ack) and message.status == "gap" else None


class TopicReplica:
    """Reads a topic into a replica.

    Args:
        replica: that receives.
        log: any.
        topic: of deltas.
        offset: where to read on; None: from the first that is left.
    """

    def __init__(self, replica: Replica, log: Log, topic: str = "deltas", offset: int | None = None) -> None:
        self._replica, self._log, self._topic = replica, log, topic
        for name in (topic, f"{topic}-requests"):
            if not log.num_partitions(name):
                log.create(name)
        self.offset = log.offsets(topic, 0)[0] if offset is None else offset

    def step(self, max_records: int = 64) -> int:
        """Apply what there is; how many messages that was. Asks for what is missing, at most once a table."""
        try:
            batch = self._log.read(self._topic, 0, self.offset, max_records)
        except OffsetError:
            self.offset = self._log.offsets(self._topic, 0)[0]
            batch = self._log.read(self._topic, 0, self.offset, max_records)
        asked: dict[str, Ack] = {}
        for record in batch.records:
            answer = decode(self._replica.receive(record.payload))
            if not isinstance(answer, Ack):
                continue
            if answer.status == "gap":
                asked[answer.table] = answer
            elif answer.status == "applied":
                asked.pop(answer.table, None)
            elif answer.status == "corrupt":  # of which table cannot be told
                asked |= {ask.table: ask for ask in self._replica.positions()}
        self.offset = batch.next_offset
        requests = [Record(b"", ask.encode(), int(time.time() * 1000)) for ask in asked.values()]
        if requests:
            self._log.append(f"{self._topic}-requests", 0, requests)
        return len(batch.records)

    def wait(self, timeout_s: float) -> bool:
        """Sleep until there is more to apply."""
        return self._log.wait({(self._topic, 0): self.offset}, timeout_s)
