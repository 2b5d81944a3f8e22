"""Examples from a log into a trainer, batch by batch."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from nonet.common.errors import InputError
from nonet.recsys.example import Example, ExampleBatch, decode
from nonet.recsys.joining import fake_negative_weights
from nonet.recsys.logs import Log, OffsetError
from nonet.recsys.sharding import ShardDownError
from nonet.recsys.training.metrics import Quality, Windows
from nonet.recsys.training.trainer import StepStats, Trainer

_KEPT_WINDOWS = 100

Seen = Callable[[Sequence[Example]], None]
"""Is told of examples before they are learned."""

Learned = Callable[[ExampleBatch, StepStats], None]
"""Is told of a batch, and what the step on it did."""


class Learner:
    """Reads a topic of examples from where the trainer stands.

    Args:
        log: holds the topic.
        topic: of examples.
        trainer: that learns; its offsets are kept up to date, for its snapshots.
        num_dense: numbers of a row.
        batch_rows: of a step, at most.
        fake_negatives: weigh for positives that come as corrections of a negative each (see `joining.labels`).
        window_rows: of progressive validation.
        seen: is told of the examples of each batch before they are learned.
        learned: is told of each batch afterwards.
        until_ms: stop before the first example from then on.
    """

    def __init__(
        self,
        log: Log,
        topic: str,
        trainer: Trainer,
        *,
        num_dense: int = 0,
        batch_rows: int = 512,
        fake_negatives: bool = False,
        window_rows: int = 1000,
        seen: Seen | None = None,
        learned: Learned | None = None,
        until_ms: int | None = None,
    ) -> None:
        self._log, self._topic, self.trainer = log, topic, trainer
        self._num_dense, self._batch_rows, self._fake_negatives = num_dense, batch_rows, fake_negatives
        self._seen, self._learned, self._until_ms = seen, learned, until_ms
        self._windows = Windows(rows=window_rows)
        self.windows: deque[Quality] = deque(maxlen=_KEPT_WINDOWS)
        """The last windows of progressive validation: each row was scored before it was learned."""
        self.rows = 0
        """Learned since the start."""
        self.rejected = 0
        """Of them left out: numbers that are not finite."""
        self.poison = 0
        """Records that are no examples; they are passed over."""
        self.trimmed = 0
        """Records that the log had dropped before they were read."""
        self.event_ts_ms = 0
        """Newest event time learned, the step that runs included: who publishes meanwhile may be that much ahead."""

    @property
    def offsets(self) -> dict[int, int]:
        """Next one to read, by partition."""
        own = f"{self._topic}:"
        return {int(name[len(own) :]): at for name, at in self.trainer.offsets.items() if name.startswith(own)}

    def step(self) -> int:
        """Learn one batch of each partition; how many records that took."""
        return sum(self._step(partition) for partition in range(self._log.num_partitions(self._topic)))

    def wait(self, timeout_s: float) -> None:
        """Sleep until there is more to learn."""
        offsets = self.offsets
        partitions = range(self._log.num_partitions(self._topic))
        self._log.wait({(self._topic, at): offsets.get(at, 0) for at in partitions}, timeout_s)

    def _step(self, partition: int) -> int:
        offset = self.offsets.get(partition, 0)
        try:
            batch = self._log.read(self._topic, partition, offset, self._batch_rows)
        except OffsetError:
            first, end = self._log.offsets(self._topic, partition)
            if offset > end:
                raise
            self.trimmed += first - offset
            batch = self._log.read(self._topic, partition, first, self._batch_rows)
        rows, taken = self._decoded([record.payload for record in batch.records])
        next_offset = batch.next_offset if taken == len(batch.records) else batch.offsets[taken]
        if rows:
            if self._seen is not None:
                self._seen(rows)
            steps = self.trainer.steps
            try:
                self._learn(rows)
            except ShardDownError:
                if self.trainer.steps > steps:  # all that is left has learned the batch: not a second time
                    self._go_to(partition, next_offset)
                raise
        if next_offset != offset:
            self._go_to(partition, next_offset)
        return taken

    def _go_to(self, partition: int, offset: int) -> None:
        self.trainer.offsets = {**self.trainer.offsets, f"{self._topic}:{partition}": offset}

    def _decoded(self, payloads: Sequence[bytes]) -> tuple[list[Example], int]:
        """Examples, and how many records they are of: those before `until_ms`."""
        rows: list[Example] = []
        for number, payload in enumerate(payloads):
            try:
                row = decode(payload, Example)
            except InputError:
                self.poison += 1
                continue
            if self._until_ms is not None and row.ts_ms >= self._until_ms:
                return rows, number
            if len(row.dense) > self._num_dense:
                self.poison += 1
            else:
                rows.append(row)
        return rows, len(payloads)

    def _learn(self, rows: Sequence[Example]) -> None:
        batch = ExampleBatch.of(rows, self.trainer.features, self._num_dense)
        self.event_ts_ms = max(self.event_ts_ms, int(batch.ts_ms.max()))
        if self._fake_negatives:
            weights = batch.weight * fake_negative_weights(batch.label, self.trainer.predict(batch))
            stats = self.trainer.step(dataclasses.replace(batch, weight=weights))
        else:
            stats = self.trainer.step(batch)
        self.windows += self._windows.add(batch.label, stats.probability, batch.weight, batch.ts_ms)
        self.rows += stats.rows
        self.rejected += stats.rejected
        if self._learned is not None:
            self._learned(batch, stats)


def named_items(rows: Iterable[Example], item: str | None) -> Iterator[tuple[str, dict[str, list[int]]]]:
    """Names and ids of the items of examples; those that no answer in JSON could name are left out.

    Args:
        rows: examples.
        item: the feature that names what is shown.
    """
    for row in rows:
        try:
            name = row.item_id.decode()
        except UnicodeDecodeError:
            continue
        if item is not None and row.ids.get(item):
            yield name, row.ids
