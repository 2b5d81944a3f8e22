"""Lines to records: header fields, multi-line joining, and an account of every input line.

Nothing is dropped. A line that does not match the header is a record of its own (the whole line as Content, `header_matched`
False) or a continuation of the record before; `ReadReport` says how many of each there were.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.logs import _line_kernels, _record_kernels
from nonet.logs.headers import HeaderFormat, Matches, detect
from nonet.logs.sources import BLOCK_BYTES, MAX_LINE_BYTES, Block, BlockReader, Source, open_blocks

Multiline = Literal["auto", "join", "off"]
MULTILINE_MODES: dict[str, int] = {"auto": _record_kernels.AUTO, "join": _record_kernels.JOIN, "off": _record_kernels.OFF}

SAMPLE_BYTES = 256 << 10
SAMPLE_LINES = 1000
MAX_RECORD_LINES = 1000
MAX_RECORD_BYTES = 1 << 20
_ENOUGH_SAMPLE_LINES = 100  # an explicit header that matches none of so many lines is wrong


@dataclass(slots=True)
class ReadReport:
    """Where every input line went: `lines == matched + unmatched_kept + joined`, `records == matched + unmatched_kept`.

    Attributes:
        lines: input lines.
        records: records delivered.
        matched: records whose header matched (all records when no header is asked for).
        unmatched_kept: records without the header, kept with the whole line as Content.
        joined: lines joined to the record before them.
        invalid_utf8: lines that are not UTF-8; their bytes pass through.
        too_long: pieces of lines over the length limit.
    """

    lines: int = 0
    records: int = 0
    matched: int = 0
    unmatched_kept: int = 0
    joined: int = 0
    invalid_utf8: int = 0
    too_long: int = 0


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Some consecutive records as spans of one byte buffer.

    Attributes:
        buffer: uint8.
        content_starts, content_ends: int64, one a record. Contents of joined records hold the newlines between their lines.
        names: names of the fields, in the order of the columns below.
        field_starts, field_ends: int32 (records, fields); -1 where a field is absent.
        header_matched: bool, one a record.
        line_numbers: int64, the number (from 1) of the record's first line.
        timestamps_us: int64 microseconds since 1970 or None when the records have no time; `NO_TIME` where one has none.
    """

    buffer: NDArray[np.uint8]
    content_starts: NDArray[np.int64]
    content_ends: NDArray[np.int64]
    names: tuple[str, ...]
    field_starts: NDArray[np.int32]
    field_ends: NDArray[np.int32]
    header_matched: NDArray[np.bool_]
    line_numbers: NDArray[np.int64]
    timestamps_us: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.content_starts)

    def contents(self) -> list[bytes]:
        """All contents as Python bytes."""
        return _cut(self.buffer, self.content_starts.tolist(), self.content_ends.tolist())

    def field(self, name: str) -> list[bytes | None]:
        """One field of all records as Python bytes; None where it is absent."""
        column = self.names.index(name)
        starts = self.field_starts[:, column].tolist()
        cut = _cut(self.buffer, starts, self.field_ends[:, column].tolist())
        return [value if start >= 0 else None for value, start in zip(cut, starts, strict=True)]


class RecordReader(Iterator[RecordBatch]):
    """The iterator behind `read_records`.

    Attributes:
        report: the account so far; complete when the iteration ended.
        header: the header format in use, None for none.
        blocks: the underlying reader (its `num_bytes` and `bytes_read` drive progress bars).
    """

    def __init__(self, blocks: BlockReader, header: str | HeaderFormat, multiline: Multiline) -> None:
        if multiline not in MULTILINE_MODES:
            raise InputError(f"multiline must be one of {', '.join(MULTILINE_MODES)}, got {multiline!r}")
        self.blocks = blocks
        self.report = ReadReport()
        self._sample = _sample_lines(blocks.peek(SAMPLE_BYTES))
        self.header = _choose_header(header, self._sample)
        self._mode = MULTILINE_MODES[multiline]
        if self.header is None:
            self._mode = min(self._mode, _record_kernels.AUTO)
        elif self.header.content_index != len(self.header.fields) - 1:
            self._mode = _record_kernels.OFF  # text after Content would end up inside a joined record
        self._batches = self._run()

    def __iter__(self) -> RecordReader:
        return self

    def __next__(self) -> RecordBatch:
        return next(self._batches)

    def _run(self) -> Iterator[RecordBatch]:
        for block in self.blocks:
            batch = self._convert(block)
            if len(batch):
                yield batch
        if self.header is not None and self.report.lines and not self.report.matched:
            raise InputError(_nothing_matches(self.blocks.name, self.header, self._sample))

    def _convert(self, block: Block) -> RecordBatch:
        starts, ends = _line_kernels.split_lines(block.buffer)
        header = self.header
        if header is None:
            fields = np.empty((len(starts), 0), np.int32)
            matches = Matches(fields, fields, np.ones(len(starts), np.bool_))
        else:
            matches = header.match(block.buffer, starts, ends)
        firsts, num_lines = self._records(block, starts, ends, matches.matched)
        lasts = np.append(firsts[1:], num_lines) - 1
        matched = matches.matched[firsts]
        content_starts, content_ends = starts[firsts], ends[lasts]
        if header is not None:
            content = header.content_index
            content_starts = np.where(matched, matches.starts[firsts, content], content_starts)
            alone = matched & (firsts == lasts)
            content_ends = np.where(alone, matches.ends[firsts, content], content_ends)
        self._account(block, starts[:num_lines], ends[:num_lines], matched)
        return RecordBatch(
            block.buffer,
            content_starts,
            content_ends,
            header.fields if header else (),
            matches.starts[firsts],
            matches.ends[firsts],
            matched,
            block.first_line + firsts,
        )

    def _records(
        self, block: Block, starts: NDArray[np.int64], ends: NDArray[np.int64], matched: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], int]:
        """First lines of the complete records and the number of lines they use; the last record waits for its next line."""
        if self._mode == _record_kernels.OFF or not len(starts):
            return np.arange(len(starts), dtype=np.int64), len(starts)
        has_header = matched if self.header is not None else np.zeros(len(starts), np.bool_)
        firsts = _record_kernels.join_lines(
            block.buffer, starts, ends, has_header, self._mode, MAX_RECORD_LINES, MAX_RECORD_BYTES
        )
        if block.at_end or block.is_cut:
            return firsts, len(starts)
        self.blocks.hold_back(len(block.buffer) - int(starts[firsts[-1]]))
        return firsts[:-1], int(firsts[-1])

    def _account(
        self, block: Block, starts: NDArray[np.int64], ends: NDArray[np.int64], matched: NDArray[np.bool_]
    ) -> None:
        report = self.report
        num_matched = int(np.count_nonzero(matched))
        report.lines += len(starts)
        report.records += len(matched)
        report.matched += num_matched
        report.unmatched_kept += len(matched) - num_matched
        report.joined += len(starts) - len(matched)
        report.too_long += block.is_cut
        if _record_kernels.has_high_bytes(block.buffer):
            report.invalid_utf8 += _record_kernels.count_invalid_utf8(block.buffer, starts, ends)


def read_records(
    source: Source,
    *,
    header: str | HeaderFormat = "auto",
    multiline: Multiline = "auto",
    block_bytes: int = BLOCK_BYTES,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> RecordReader:
    r"""Open a log and iterate over batches of records.

    Args:
        source: a path, "-" for standard input, or a binary stream; compressed files are recognised.
        header: a format such as "<Date> <Time> <Level>: <Content>", "auto" (a common format is recognised, else none) or "none".
        multiline: "auto" joins lines without header that look like a continuation (indented, parts of a stack trace), "join" all
            lines without header, "off" none.
        block_bytes: how much is read at a time; the records do not depend on it.
        max_line_bytes: longer lines are cut into pieces, see `open_blocks`.

    Raises:
        InputError: see `open_blocks`; and a header format that matches nothing.

    >>> import io
    >>> reader = read_records(io.BytesIO(b"12:00 INFO: up\nnoise\n12:01 WARN: slow\n"), header="<Time> <Level>: <Content>")
    >>> [content for batch in reader for content in batch.contents()]
    [b'up', b'noise', b'slow']
    >>> reader.report.matched, reader.report.unmatched_kept
    (2, 1)
    """
    blocks = open_blocks(source, block_bytes=block_bytes, max_line_bytes=max_line_bytes)
    try:
        return RecordReader(blocks, header, multiline)
    except BaseException:
        blocks.close()
        raise


def _cut(buffer: NDArray[np.uint8], starts: list[int], ends: list[int]) -> list[bytes]:
    data = buffer.tobytes()
    return [data[start:end] for start, end in zip(starts, ends, strict=True)]


def _sample_lines(sample: NDArray[np.uint8]) -> list[bytes]:
    starts, ends = _line_kernels.split_lines(sample)
    return _cut(sample, starts[:SAMPLE_LINES].tolist(), ends[:SAMPLE_LINES].tolist())


def _choose_header(header: str | HeaderFormat, sample: list[bytes]) -> HeaderFormat | None:
    if isinstance(header, HeaderFormat):
        return header
    if header == "none":
        return None
    return detect(sample) if header == "auto" else HeaderFormat.parse(header)


def _nothing_matches(name: str, header: HeaderFormat, sample: list[bytes]) -> str:
    shown = " | ".join(repr(line[:80].decode(errors="replace")) for line in sample[:3])
    return (
        f"{name}: no line matches the header format {header.text!r} (as a regular expression: {header.pattern}); "
        f"the first lines are {shown}; mend the format, or use 'auto' or 'none'"
    )
