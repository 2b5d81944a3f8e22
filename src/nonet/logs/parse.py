"""Parsing a file: one pass that learns, one that labels, both over blocks on all cores.

Because templates are a function of all shapes, every line gets the template that the whole file supports, not the one
that was known when it was read. Memory does not grow with the file: blocks are kept for the second pass while they fit
`KEEP_BYTES`, beyond that the file is read again.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nonet.common.arrow import arrow_array
from nonet.logs.mining.crew import Crew, Seen
from nonet.logs.mining.extraction import string_array
from nonet.logs.mining.miner import Miner
from nonet.logs.mining.template import Template
from nonet.logs.outputs import ParquetSink, Sink
from nonet.logs.reading.records import ReadReport, RecordBatch, RecordReader, read_records
from nonet.logs.reading.sources import name_of, rereadable

KEEP_BYTES = 512 << 20
_MAX_WAITING = 4  # batches read ahead of the threads
Progress = Callable[[str, int, int | None], None]
"""Called with ("learn" or "label", bytes done, bytes in all or None)."""


@dataclass(frozen=True, slots=True)
class ParseReport:
    """What `parse_file` did.

    Attributes:
        source: the path, or "standard input".
        header: text of the header format in use, None for none.
        read: where every input line went.
        templates: by count.
        num_lines: records labelled; equals `read.records`.
        num_unplaced: records whose shape was evicted, labelled with the lone wildcard.
        learn_s, settle_s, label_s: seconds of the passes.
        outputs: files written.
    """

    source: str
    header: str | None
    read: ReadReport
    templates: list[Template]
    num_lines: int
    num_unplaced: int
    learn_s: float
    settle_s: float
    label_s: float
    outputs: tuple[Path, ...] = field(default=())


def parse_file(
    source: str | Path,
    *,
    out: str | Path | None = None,
    sinks: Sequence[Sink] = (),
    miner: Miner | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    **reading: Any,
) -> ParseReport:
    """Parse a log file: header, masks, templates, parameters; Parquet out.

    Args:
        source: a path (plain, gzip, zstd, ...), or "-" for standard input, which is spooled to a temporary file.
        out: folder for `lines.parquet`, `templates.parquet`, `parameters.parquet`; None writes no Parquet.
        sinks: other outputs.
        miner: a miner to go on with (and to keep); by default a new one.
        threads: worker threads (default: all cores).
        progress: called from this thread as the passes go on.
        reading: options of `records.read_records`: header, multiline, json_field, content_column, ...

    Raises:
        InputError: the input cannot be read, or the header format matches nothing.

    Memory: `KEEP_BYTES` of input, a few blocks a thread, and the miner.
    """
    miner = Miner() if miner is None else miner
    num_forgotten_before = miner.num_evicted_lines
    threads = threads or os.cpu_count() or 1
    all_sinks = [*([ParquetSink(out)] if out is not None else []), *sinks]
    with rereadable(source) as path, ExitStack() as stack:
        clock = time.perf_counter()
        batches = _Batches(path, progress, reading)
        crew = stack.enter_context(Crew(miner, threads))
        batches.first(crew)
        learned = time.perf_counter()
        crew.settle()
        settled = time.perf_counter()
        num_lines = num_unplaced = 0
        opened = [stack.enter_context(sink) for sink in all_sinks]
        for table, unplaced in _label(crew, batches) if opened else ():
            num_lines, num_unplaced = num_lines + len(table), num_unplaced + unplaced
            for sink in opened:
                sink.write(table)
        templates = miner.templates()
        for sink in opened:
            sink.finish(templates)
    return ParseReport(
        source=name_of(source),
        header=batches.header,
        read=batches.report,
        templates=templates,
        num_lines=num_lines if opened else batches.report.records,
        num_unplaced=num_unplaced if opened else miner.num_evicted_lines - num_forgotten_before,
        learn_s=learned - clock,
        settle_s=settled - learned,
        label_s=time.perf_counter() - settled,
        outputs=tuple(sink.folder for sink in all_sinks if isinstance(sink, ParquetSink)),
    )


class _Batches:
    """The record batches of a source, twice: kept in memory while they fit, else read again."""

    def __init__(self, path: Path, progress: Progress | None, reading: dict[str, Any]) -> None:
        self._path = path
        self._progress = progress
        self._reading = reading
        self._kept: deque[tuple[RecordBatch, Future[Seen]]] | None = deque()
        self.report = ReadReport()
        self.header: str | None = None

    def first(self, crew: Crew) -> None:
        """Read everything, giving each batch to the crew to learn."""
        kept_bytes = 0
        waiting: deque[Future[Seen]] = deque()
        reader = read_records(self._path, **self._reading)
        for batch in self._watched(reader, "learn"):
            waiting.append(crew.learn(batch.buffer, batch.content_starts, batch.content_ends))
            if len(waiting) > _MAX_WAITING:
                kept_bytes += waiting.popleft().result().nbytes
            kept_bytes += batch.buffer.nbytes + 2 * batch.field_starts.nbytes + 40 * len(batch)
            if self._kept is not None:
                self._kept.append((batch, waiting[-1]))
                if kept_bytes > KEEP_BYTES:
                    self._kept = None
        for future in waiting:
            future.result()
        self.report = reader.report
        self.header = None if reader.header is None else reader.header.text

    def second(self) -> Iterator[tuple[RecordBatch, Seen | None]]:
        """Everything once more, with what the first pass knows where it was kept."""
        if self._kept is None:
            for batch in self._watched(read_records(self._path, **self._reading), "label"):
                yield batch, None
            return
        while self._kept:
            batch, seen = self._kept.popleft()
            yield batch, seen.result()

    def _watched(self, reader: RecordReader, phase: str) -> Iterator[RecordBatch]:
        for batch in reader:
            yield batch
            if self._progress is not None:
                self._progress(phase, reader.blocks.bytes_read, reader.blocks.num_bytes)


def _label(crew: Crew, batches: _Batches) -> Iterator[tuple[pa.Table, int]]:
    """Labelled tables in order of the file, and how many of their lines no template took."""
    waiting: deque[tuple[RecordBatch, Future[tuple[pa.Table, int]]]] = deque()

    def oldest() -> tuple[pa.Table, int]:
        batch, future = waiting.popleft()
        table, num_unplaced = future.result()
        return with_fields(batch, table), num_unplaced

    for batch, seen in batches.second():
        spans = (batch.buffer, batch.content_starts, batch.content_ends)
        waiting.append((batch, crew.label_anew(*spans) if seen is None else crew.label(seen)))
        if len(waiting) > _MAX_WAITING:
            yield oldest()
    while waiting:
        yield oldest()


def with_fields(batch: RecordBatch, labelled: pa.Table) -> pa.Table:
    """`line_number`, the header fields, `timestamp` and `header_matched` in front of the columns of the labeller."""
    columns: dict[str, pa.Array] = {"line_number": arrow_array(batch.line_numbers)}
    content = batch.names.index("Content") if "Content" in batch.names else -1
    for number, name in enumerate(batch.names):
        if number != content:
            columns[name] = _field(batch, number)
    if batch.timestamps_us is not None:
        none = batch.timestamps_us == np.iinfo(np.int64).min
        columns["timestamp"] = arrow_array(batch.timestamps_us, pa.timestamp("us"), none)
    columns["header_matched"] = arrow_array(batch.header_matched)
    for name in labelled.column_names:
        columns[name] = labelled[name]
    return pa.table(columns)


def _field(batch: RecordBatch, number: int) -> pa.Array:
    starts = batch.field_starts[:, number].astype(np.int64)
    ends = np.maximum(batch.field_ends[:, number].astype(np.int64), starts)
    absent = starts < 0
    starts[absent], ends[absent] = 0, 0
    values = string_array(batch.buffer, starts, ends)
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        values = string_array(batch.buffer, starts, ends, some_invalid=True)
    if not absent.any():
        return values
    import pyarrow.compute as pc  # slow to import, and few logs have lines without header

    return pc.if_else(arrow_array(absent), pa.scalar(None, pa.string()), values)
