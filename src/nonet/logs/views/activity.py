"""What a log does over time: every line labelled with its template and counted, without extracting parameters.

Two passes, as in `parse`: one learns the templates of all logs together, the other labels and counts. Memory: a few
blocks a thread, the miner, and a `Timeline`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.logs.mining._table_kernels import MAX_SAMPLE_BYTES
from nonet.logs.mining.labelling import Labeller
from nonet.logs.mining.miner import Miner
from nonet.logs.mining.template import Template
from nonet.logs.parse import Progress, parse_file
from nonet.logs.reading.records import NO_TIME, ReadReport, RecordBatch, RecordReader, read_records
from nonet.logs.views import _activity_kernels as kernels
from nonet.logs.views.period import Period, moment_text
from nonet.logs.views.timeline import Timeline

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Activity:
    """Counts of the templates of one log, or of a part of it.

    Attributes:
        source: its name.
        header: text of its header format, None for none.
        read: where every input line went.
        templates: of all logs that were learned together; `timeline` has a row for each, and a last one for lines that
            no template took (their shape was evicted).
        timeline: the counts, by time when the lines have times, else by line number.
        num_outside: records outside of the period.
        samples: the first Content counted for a row of `timeline`, cut at 512 bytes.
    """

    source: str
    header: str | None
    read: ReadReport
    templates: list[Template]
    timeline: Timeline
    num_outside: int
    samples: dict[int, str]

    @property
    def num_records(self) -> int:
        """Records counted."""
        return int(self.timeline.totals.sum())

    @property
    def num_unplaced(self) -> int:
        """Records that no template took."""
        return int(self.timeline.totals[-1])


class Observer:
    """Learns logs, then measures them with the templates of all.

    Args:
        miner: the miner to use; it may know templates already.
        threads: worker threads (default: all cores).
        progress: called as the passes go on.
        reading: options of `records.read_records`.
    """

    def __init__(
        self, miner: Miner | None = None, threads: int | None = None, progress: Progress | None = None, **reading: Any
    ) -> None:
        self.miner = Miner() if miner is None else miner
        self._threads = threads or os.cpu_count() or 1
        self._progress = progress
        self._reading = reading
        self._templates: list[Template] = []
        self._labeller: Labeller | None = None
        self._row_of_text: NDArray[np.int32] = np.empty(0, np.int32)

    def learn(self, *sources: Path) -> None:
        """Learn logs; templates are settled afterwards."""
        for source in sources:
            parse_file(source, miner=self.miner, threads=self._threads, progress=self._progress, **self._reading)
        self._templates = self.miner.templates()
        self._labeller = self.miner.labeller()
        rows = {template.text: row for row, template in enumerate(self._templates)}
        texts = self._labeller.settled.texts
        # The last text is the lone wildcard of lines without a known shape, also when a template has that text.
        self._row_of_text = np.array([*(rows[t] for t in texts[:-1]), len(rows)], np.int32)

    def newest_us(self, source: Path) -> int:
        """Time of the newest line.

        Raises:
            InputError: no line has a time.
        """
        newest = NO_TIME
        for batch in read_records(source, **self._reading):
            if batch.timestamps_us is not None and len(batch):
                newest = max(newest, int(batch.timestamps_us.max()))
        if newest == NO_TIME:
            raise _no_time(str(source))
        return newest

    def measure(self, source: Path, period: Period | None = None) -> Activity:
        """Label and count the records of a log that lie in a period.

        Raises:
            InputError: a bounded period for a log without times, or one that holds no line.
        """
        reader = read_records(source, **self._reading)
        counter = _Counter(str(source), len(self._templates) + 1, Period() if period is None else period)
        for batch, codes in in_order(lambda b: (b, self._codes(b)), self._watched(reader), self._threads):
            counter.add(batch, codes)
        counter.finish()
        header = None if reader.header is None else reader.header.text
        timeline = counter.timeline
        return Activity(
            str(source), header, reader.report, self._templates, timeline, counter.num_outside, counter.samples
        )

    def _codes(self, batch: RecordBatch) -> NDArray[np.int32]:
        """Row of the template of every record."""
        if self._labeller is None:
            raise RuntimeError("measure() needs learn() first")
        lines = self.miner.spans(batch.buffer, batch.content_starts, batch.content_ends)
        programs = self._labeller.programs(self._labeller.shapes.label(lines).entries)
        return self._row_of_text[self._labeller.settled.text_of_program[programs]]

    def _watched(self, reader: RecordReader) -> Iterator[RecordBatch]:
        for batch in reader:
            yield batch
            if self._progress is not None:
                self._progress("label", reader.blocks.bytes_read, reader.blocks.num_bytes)


class _Counter:
    """Counts the records of one log in a timeline, whose axis the first batch decides."""

    def __init__(self, source: str, num_rows: int, period: Period) -> None:
        self.timeline = Timeline(num_rows, "position")
        self.num_outside = 0
        self.samples: dict[int, str] = {}
        self._source = source
        self._period = period
        self._before: int | None = None
        self._range: tuple[int, int] | None = None  # of all records, also those outside

    def add(self, batch: RecordBatch, codes: NDArray[np.int32]) -> None:
        if self._before is None:
            self._before = _first_time(batch)
            if self._before != NO_TIME:
                self.timeline = Timeline(len(self.timeline.totals), "time")
            elif not self._period.is_all:
                raise _no_time(self._source)
        ticks = self._ticks(batch)
        low, high = int(ticks.min()), int(ticks.max())
        self._range = (low, high) if self._range is None else (min(low, self._range[0]), max(high, self._range[1]))
        inside = self._period.contains(ticks)
        self.num_outside += int((~inside).sum())
        self.timeline.add(codes[inside], ticks[inside])
        self._take_samples(batch, codes, np.flatnonzero(inside))

    def _take_samples(self, batch: RecordBatch, codes: NDArray[np.int32], inside: NDArray[np.intp]) -> None:
        rows, first = np.unique(codes[inside], return_index=True)
        for row, at in zip(rows.tolist(), inside[first].tolist(), strict=True):
            if row not in self.samples:
                start = batch.content_starts[at]
                content = batch.buffer[start : min(batch.content_ends[at], start + MAX_SAMPLE_BYTES)].tobytes()
                self.samples[row] = content.decode("utf-8", "replace")

    def finish(self) -> None:
        """Raise InputError when the period holds no record."""
        if self._range is not None and self.timeline.range is None:
            oldest, newest = map(moment_text, self._range)
            raise InputError(f"{self._source}: no line lies in the period; its lines are from {oldest} to {newest}")

    def _ticks(self, batch: RecordBatch) -> NDArray[np.int64]:
        """Time or line number of every record; a record without a time has that of the record before it."""
        if self.timeline.axis == "position":
            return batch.line_numbers
        if batch.timestamps_us is None:
            return np.full(len(batch), self._before, np.int64)
        ticks: NDArray[np.int64]
        ticks, last = kernels.fill_forward(batch.timestamps_us, NO_TIME, self._before)
        self._before = int(last)
        return ticks


def in_order(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Map over items in threads, results in order, with no more than two items a thread waiting.

    >>> list(in_order(str.upper, ["a", "b", "c"], 2))
    ['A', 'B', 'C']
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _first_time(batch: RecordBatch) -> int:
    """The first time in a batch; `NO_TIME` when it has none."""
    times = batch.timestamps_us
    if times is None or not (times != NO_TIME).any():
        return NO_TIME
    return int(times[times != NO_TIME][0])


def _no_time(source: str) -> InputError:
    return InputError(f"{source}: its lines have no time that could be read, so no period can be chosen; give --header")
