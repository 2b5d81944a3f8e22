"""The batch stage: rows of a file or examples of a log, each scored before it is learned."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.config import JobFile
from nonet.recsys.example import Example, ExampleBatch
from nonet.recsys.features.encoder import FeatureEncoder
from nonet.recsys.logs import Log
from nonet.recsys.reading.blocks import BadLines
from nonet.recsys.reading.examples import concatenate, to_batch
from nonet.recsys.reading.formats import Format
from nonet.recsys.reading.frames import read_frames
from nonet.recsys.running.keeping import ItemIds
from nonet.recsys.running.learning import Learner, named_items
from nonet.recsys.running.parts import data_format
from nonet.recsys.training.metrics import Quality, Windows, measure
from nonet.recsys.training.trainer import StepStats, Trainer

Advance = Callable[[float], None]
"""Is told how many more rows are learned."""


@dataclass(slots=True)
class Trained:
    """What a batch stage did.

    Args:
        rows: learned, all epochs together.
        rejected: of them left out: numbers that are not finite.
        bad_lines: of the file, passed over.
        seconds: taken, reading included.
        windows: of progressive validation in the first epoch; the last may be shorter.
        whole: all of the first epoch.
        event_ts_ms: newest event time learned.
        keys: rows of each table afterwards.
        admitted: share of the updates of keys that met a row or made one; the rest waits for its threshold.
        num_bytes: of the tables.
        peak_bytes: memory of the process at its highest.
        items: seen, with the ids of their features.
    """

    rows: int = 0
    rejected: int = 0
    bad_lines: int = 0
    seconds: float = 0.0
    windows: list[Quality] = field(default_factory=list)
    whole: Quality | None = None
    event_ts_ms: int = 0
    keys: dict[str, int] = field(default_factory=dict)
    admitted: float = 1.0
    num_bytes: int = 0
    peak_bytes: int = 0
    items: ItemIds = field(default_factory=dict)

    @property
    def rows_per_s(self) -> float:
        """Learned in a second."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0


class FileRows:
    """The rows of a file with the ids of a job.

    Args:
        path: of the file.
        form: its format.
        encoders: of the job's features.
        item: the feature that names what is shown; None collects no items.
        attributes: features that come with it.
        bad: what to do with bad lines.
        max_rows: of the file, from its start.
    """

    def __init__(
        self,
        path: Path,
        form: Format,
        encoders: dict[str, FeatureEncoder],
        *,
        item: str | None = None,
        attributes: tuple[str, ...] = (),
        bad: BadLines | None = None,
        max_rows: int | None = None,
    ) -> None:
        self.path, self.form, self.bad = path, form, bad or BadLines()
        self._encoders, self._item, self._own = encoders, item, (item or "", *attributes)
        self._max_rows = max_rows
        self.items: ItemIds = {}

    @classmethod
    def of(
        cls, job: JobFile, path: Path, *, kind: str | None = None, label: str | None = None, **more: Any
    ) -> FileRows:
        """The rows of a file for a job.

        Args:
            job: says how the file is read and what the features are.
            path: of the file.
            kind: another format than the job's.
            label: another rule for positives.
            more: as for the class.

        Raises:
            InputError: a format without the job's features.
        """
        features = job.features
        form = data_format(job, path, kind=kind, label=label)
        return cls(
            path,
            form,
            features.encoders(job.dictionaries),
            item=features.item,
            attributes=tuple(features.item_attributes),
            **more,
        )

    def frames(self) -> Iterator[ExampleBatch]:
        """In the order of the file, in blocks of its size; numbers as the job orders them."""
        for frame in read_frames(self.path, self.form, bad=self.bad, max_rows=self._max_rows):
            batch = to_batch(frame, self.form, self._encoders)
            self._collect(frame, batch)
            yield batch

    def batches(self, rows: int) -> Iterator[ExampleBatch]:
        """In the order of the file."""
        for block in self.frames():
            yield from _cut(block, rows)

    def sorted(self) -> ExampleBatch:
        """All rows by time, held in memory.

        Raises:
            InputError: there is none.
        """
        parts = list(self.frames())
        if not parts:
            raise InputError(f"{self.path}: no rows")
        whole = concatenate(parts)
        return whole.take(np.argsort(whole.ts_ms, kind="stable"))

    def _collect(self, frame: pl.DataFrame, batch: ExampleBatch) -> None:
        if self._item is None:
            return
        names = frame[self._item]
        for at in names.is_first_distinct().arg_true().to_list():
            name = names[at]
            if name and name not in self.items:
                self.items[name] = {own: [int(batch.ids[own].values[at])] for own in self._own}


def train_file(
    trainer: Trainer,
    source: FileRows,
    *,
    batch_rows: int,
    epochs: int = 1,
    one_pass: bool = False,
    until_ms: int | None = None,
    window_rows: int = 10_000,
    advance: Advance | None = None,
) -> Trained:
    """Learn from a file.

    Args:
        trainer: that learns.
        source: rows.
        batch_rows: of a step.
        epochs: times through; validated in the first.
        one_pass: once, in the order of the file and in bounded memory, instead of by time.
        until_ms: rows from then on are left for later.
        window_rows: of progressive validation.
        advance: is told of rows as they are learned.

    Raises:
        InputError: as reading does; several epochs of one pass.
    """
    if one_pass and epochs != 1:
        raise InputError(f"one pass is one epoch, not {epochs}; leave one of both out")
    started = time.perf_counter()
    watch = _Watch(window_rows, advance)
    if one_pass:
        for batch in source.batches(batch_rows):
            watch.step(trainer, _until(batch, until_ms), is_first=True)
    else:
        rows = _until(source.sorted(), until_ms)
        for epoch in range(epochs):
            for batch in _cut(rows, batch_rows):
                watch.step(trainer, batch, is_first=epoch == 0)
    if not watch.done.rows:
        raise InputError(f"{source.path}: no rows" + ("" if until_ms is None else " before --until"))
    watch.done.items, watch.done.bad_lines = source.items, source.bad.count
    return watch.end(trainer, time.perf_counter() - started)


def train_log(
    trainer: Trainer,
    log: Log,
    job: JobFile,
    *,
    until_ms: int | None = None,
    window_rows: int = 10_000,
    advance: Advance | None = None,
) -> Trained:
    """Learn the examples of a log, from where the trainer stands to the end; it stands there afterwards.

    Args:
        trainer: that learns.
        log: holds the examples of the job.
        job: names the topic.
        until_ms: stop before the first batch with an example from then on.
        window_rows: of progressive validation.
        advance: is told of rows as they are learned.

    Raises:
        InputError: no such topic, or nothing to learn.
    """
    topic = job.log.topic("examples")
    if not log.num_partitions(topic):
        raise InputError(f"the log has no topic {topic!r}; run the joiner first: nonet recsys up")
    started = time.perf_counter()
    watch = _Watch(window_rows, advance)
    learner = Learner(
        log,
        topic,
        trainer,
        num_dense=len(job.features.dense),
        batch_rows=job.trainer.batch_size,
        fake_negatives=job.labels.late == "fake_negative",
        seen=lambda rows: _collect(rows, job, watch.done.items),
        until_ms=until_ms,
        learned=watch.add,
    )
    while learner.step():
        pass
    if not watch.done.rows:
        raise InputError(f"topic {topic!r}: no examples to learn")
    watch.done.bad_lines = learner.poison
    return watch.end(trainer, time.perf_counter() - started)


class _Watch:
    """Progressive validation and sums over the batches of a stage."""

    def __init__(self, window_rows: int, advance: Advance | None) -> None:
        self.done = Trained()
        self._windows = Windows(rows=window_rows)
        self._advance = advance
        self._scored: list[NDArray[np.float32]] = []
        self._span_ms: list[int] = []

    def step(self, trainer: Trainer, batch: ExampleBatch, *, is_first: bool) -> None:
        if not len(batch):
            return
        stats = trainer.step(batch)
        self.add(batch, stats, is_first=is_first)

    def add(self, batch: ExampleBatch, stats: StepStats, *, is_first: bool = True) -> None:
        """Rows that were scored before they were learned; in the first epoch that tells something."""
        done, span_ms = self.done, (int(batch.ts_ms.min()), int(batch.ts_ms.max()))
        done.rows += stats.rows
        done.rejected += stats.rejected
        done.event_ts_ms = max(done.event_ts_ms, span_ms[1])
        if is_first:
            done.windows += self._windows.add(batch.label, stats.probability, batch.weight, batch.ts_ms)
            self._scored.append(np.stack([batch.label, stats.probability, batch.weight]))
            self._span_ms += span_ms
        if self._advance is not None:
            self._advance(len(batch))

    def end(self, trainer: Trainer, seconds: float) -> Trained:
        done = self.done
        done.windows += self._windows.flush()
        label, probability, weight = np.concatenate(self._scored, axis=1)
        whole = measure(label, probability, weight)
        done.whole = replace(whole, first_ts_ms=min(self._span_ms), last_ts_ms=max(self._span_ms))
        done.seconds = seconds
        done.keys = {table.name: len(table) for table in trainer.distinct_tables}
        done.num_bytes = sum(table.num_bytes for table in trainer.distinct_tables)
        applied = trainer.applied
        tried = applied.updated + applied.created + applied.filtered
        done.admitted = (applied.updated + applied.created) / tried if tried else 1.0
        done.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return done


def _cut(rows: ExampleBatch, size: int) -> Iterator[ExampleBatch]:
    for start in range(0, len(rows), size):
        yield rows.take(slice(start, start + size))


def _until(rows: ExampleBatch, until_ms: int | None) -> ExampleBatch:
    return rows if until_ms is None else rows.take(np.flatnonzero(rows.ts_ms < until_ms))


def _collect(rows: Sequence[Example], job: JobFile, items: ItemIds) -> None:
    own = (job.features.item or "", *job.features.item_attributes)
    for name, ids in named_items(rows, job.features.item):
        if name not in items:
            items[name] = {feature: list(ids.get(feature, ())) for feature in own}
