"""The same examples to the trainer of every arm: each reads the whole log as a consumer group of its own.

An arm that learned only from what it had shown itself would be judged on other data than its rival. Here an arm that
comes later first replays what the log still holds, whoever showed it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from nonet.recsys.example import Example, ExampleBatch, decode
from nonet.recsys.logs import Log
from nonet.recsys.training.trainer import Trainer


class ArmFeed:
    """Reads examples into one trainer; offsets are committed after they were learned.

    Args:
        log: holds the topic.
        arm: name; the consumer group is `arm-{name}`.
        trainer: that learns.
        topic: of examples.
        num_dense: numbers of a row.
        batch_rows: of a step, at most.
    """

    def __init__(
        self,
        log: Log,
        arm: str,
        trainer: Trainer,
        *,
        topic: str = "examples",
        num_dense: int = 0,
        batch_rows: int = 256,
    ) -> None:
        self._log, self._topic, self._group = log, topic, f"arm-{arm}"
        self._trainer, self._num_dense, self._batch_rows = trainer, num_dense, batch_rows
        if not log.num_partitions(topic):
            log.create(topic)
        self._offsets = dict(log.committed(self._group, topic))
        self.event_ts_ms = 0
        """Newest event time that was learned."""
        self.rows = 0

    def step(self) -> int:
        """Learn one batch of each partition; how many rows that was."""
        learned = 0
        for partition in range(self._log.num_partitions(self._topic)):
            first = self._offsets.get(partition, self._log.offsets(self._topic, partition)[0])
            batch = self._log.read(self._topic, partition, first, self._batch_rows)
            if batch.records:
                rows = [decode(record.payload, Example) for record in batch.records]
                self._trainer.step(ExampleBatch.of(rows, self._trainer.features, self._num_dense))
                learned += len(rows)
                self.event_ts_ms = max(self.event_ts_ms, *(row.ts_ms for row in rows))
            if batch.records or partition not in self._offsets:
                self._offsets[partition] = batch.next_offset
                self._log.commit(self._group, self._topic, {partition: batch.next_offset})
        self.rows += learned
        return learned

    def run(self, stop: threading.Event | None = None) -> None:
        """Learn until stopped; without `stop`, until the end of the log."""
        while not (stop and stop.is_set()):
            if not self.step():
                if stop is None:
                    return
                waiting = {(self._topic, partition): offset for partition, offset in self._offsets.items()}
                self._log.wait(waiting, 0.2)


def feed_arms(log: Log, trainers: Mapping[str, Trainer], *, topic: str = "examples", num_dense: int = 0) -> None:
    """Bring every arm's trainer to the end of the log.

    Args:
        log: holds the topic.
        trainers: by arm.
        topic: of examples.
        num_dense: numbers of a row.
    """
    for arm, trainer in trainers.items():
        ArmFeed(log, arm, trainer, topic=topic, num_dense=num_dense).run()
