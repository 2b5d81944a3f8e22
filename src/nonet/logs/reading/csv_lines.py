"""Messages from a column of a CSV file, read block by block."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from nonet.common.errors import InputError
from nonet.logs.reading.compression import ByteStream
from nonet.logs.reading.lines import Int64s, LineCounts, Lines, as_array, invalid_per_line
from nonet.logs.reading.sources import OpenedSource

CSV_BLOCK_BYTES = 8 << 20
_HEAD_BYTES = 256 << 10


class _StreamFile(io.RawIOBase):
    """A stream as a file, its first bytes put back."""

    def __init__(self, head: bytes, stream: ByteStream) -> None:
        self._head = head
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        if self._head:
            count = min(len(view), len(self._head))
            view[:count] = self._head[:count]
            self._head = self._head[count:]
            return count
        return self._stream.readinto(view)


class CsvLines:
    """One text a row. A row with a wrong number of columns is kept as it is and counted; it follows the rows of its
    block.

    Attributes:
        source: the opened file.

    Raises:
        InputError: no such column; while iterating, a row that is longer than a block (8 MiB) or a damaged archive.
    """

    joins_lines = False

    def __init__(self, source: OpenedSource, content_column: str) -> None:
        self.source = source
        self.name = source.name
        self.counts = LineCounts()
        self._content = content_column
        head = bytearray(_HEAD_BYTES)
        count = 0
        while count < _HEAD_BYTES and (more := source.stream.readinto(memoryview(head)[count:])):
            count += more
        self._file = io.BufferedReader(_StreamFile(bytes(head[:count]), source.stream), CSV_BLOCK_BYTES)
        self._columns = _column_names(bytes(head[:count]))
        self._invalid: list[tuple[int, bytes]] = []
        if self._columns and content_column not in self._columns:
            raise InputError(
                f"{self.name}: no column {content_column!r}; the columns are {', '.join(map(repr, self._columns[:20]))}"
            )

    def __iter__(self) -> Iterator[Lines]:
        number = 1
        if self._columns:
            try:
                for batch in self._open():
                    lines = self._convert(batch, number)
                    number += len(lines)
                    yield lines
                if self._invalid:
                    yield self._convert(None, number)
            except pa.ArrowInvalid as error:
                raise InputError(
                    f"{self.name}: not readable as CSV near row {number:,} ({str(error).splitlines()[0]})"
                ) from None
        failure = self.source.stream.failure
        self.source.close()
        if failure:
            raise InputError(f"{self.name}: {failure} after row {number - 1:,}; everything before it was read")

    def hold_back(self, first: int) -> None:
        """See `LineSource`: rows are whole, none is ever held back."""
        raise ValueError("rows of a table are whole; none can be held back")

    def _open(self) -> arrow_csv.CSVStreamingReader:
        return arrow_csv.open_csv(
            pa.PythonFile(self._file, mode="r"),
            arrow_csv.ReadOptions(use_threads=False, block_size=CSV_BLOCK_BYTES),
            arrow_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=self._keep_invalid),
            arrow_csv.ConvertOptions(
                check_utf8=False, column_types=dict.fromkeys(self._columns, pa.binary()), strings_can_be_null=False
            ),
        )

    def _keep_invalid(self, row: arrow_csv.InvalidRow) -> str:
        self._invalid.append((row.number or 0, row.text.encode(errors="replace")))
        return "skip"

    def _convert(self, batch: pa.RecordBatch | None, number: int) -> Lines:
        others = [name for name in self._columns if name != self._content]
        names = [self._content, *others]
        invalid, self._invalid = self._invalid, []
        columns = [_spans(batch.column(self._columns.index(name))) for name in names] if batch is not None else []
        num_rows = batch.num_rows if batch is not None else 0
        extra = [text for _, text in invalid]
        buffers = [column[0] for column in columns] + [as_array(b"".join(extra))]
        offsets = np.cumsum([0, *(len(buffer) for buffer in buffers)], dtype=np.int64)
        extra_ends = offsets[-2] + np.cumsum([len(text) for text in extra], dtype=np.int64)
        extra_starts = extra_ends - np.array([len(text) for text in extra], np.int64)
        num_lines = num_rows + len(extra)
        field_starts = np.full((num_lines, len(others)), -1, np.int32)
        field_ends = np.full((num_lines, len(others)), -1, np.int32)
        starts, ends = extra_starts, extra_ends
        for k, (_, column_starts, column_ends) in enumerate(columns):
            if k == 0:
                starts = np.append(column_starts + offsets[0], extra_starts)
                ends = np.append(column_ends + offsets[0], extra_ends)
            else:
                field_starts[:num_rows, k - 1] = column_starts + offsets[k]
                field_ends[:num_rows, k - 1] = column_ends + offsets[k]
        self.counts.invalid_rows += len(extra)
        buffer = np.concatenate(buffers)
        return Lines(
            buffer,
            starts,
            ends,
            numbers=number + np.arange(num_lines, dtype=np.int64),
            num_sources=np.ones(num_lines, np.int64),
            is_decoded=np.arange(num_lines) < num_rows,
            names=tuple(others),
            field_starts=field_starts,
            field_ends=field_ends,
            is_last_open=False,
            invalid_utf8=invalid_per_line(buffer, starts, ends),
        )


def _column_names(head: bytes) -> list[str]:
    text = head.removeprefix(b"\xef\xbb\xbf").decode(errors="replace")
    return next(csv.reader(io.StringIO(text, newline="")), [])


def _spans(column: pa.Array) -> tuple[NDArray[np.uint8], Int64s, Int64s]:
    """Data of a binary column and the spans of its values."""
    _, offsets_buffer, data = column.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    values = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return values, offsets[:-1], offsets[1:]
