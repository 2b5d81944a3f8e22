"""Lines to records: header fields, times, multi-line joining, and an account of every input line.

Nothing is dropped. A line that does not match the header is a record of its own (the whole line as Content,
`header_matched` False) or a continuation of the record before; `ReadReport` says how many of each there were.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.logs.reading import _record_kernels
from nonet.logs.reading.csv_lines import CsvLines
from nonet.logs.reading.envelopes import (
    CriEnvelope,
    Envelope,
    EnvelopedLines,
    JsonEnvelope,
    choose_paths,
    detect_envelope,
    sample_texts,
)
from nonet.logs.reading.headers import HeaderFormat, Matches, detect_header
from nonet.logs.reading.lines import Lines, LineSource, TextLines, cut, joined, sample_lines
from nonet.logs.reading.sources import BLOCK_BYTES, MAX_LINE_BYTES, OpenedSource, Source, open_blocks
from nonet.logs.reading.timestamps import NO_TIME, TimeFields, TimeParser, find_time_fields

__all__ = ["NO_TIME", "ReadReport", "RecordBatch", "RecordReader", "read_records"]

Multiline = Literal["auto", "join", "off"]
InputFormat = Literal["auto", "text", "json", "cri", "docker"]
MULTILINE_MODES: dict[str, int] = {
    "auto": _record_kernels.AUTO,
    "join": _record_kernels.JOIN,
    "off": _record_kernels.OFF,
}
INPUT_FORMATS = ("auto", "text", "json", "cri", "docker")

SAMPLE_BYTES = 256 << 10
_ENOUGH_LINES = 100  # a header that matches none of so many first lines is refused before the file is read
MAX_RECORD_LINES = 1000
MAX_RECORD_BYTES = 1 << 20


@dataclass(slots=True)
class ReadReport:
    """Where every input line went: `lines == matched + unmatched_kept + joined`, `records == matched + unmatched_kept`.

    Attributes:
        lines: input lines (rows for CSV; a line over the length limit counts once a piece).
        records: records delivered.
        matched: records whose header matched (all records when no header is asked for).
        unmatched_kept: records without the header or without the form of their envelope, kept with the whole line as
            Content.
        joined: lines joined to the record before them, and pieces put together.
        invalid_utf8: lines that are not UTF-8; their bytes pass through.
        too_long: lines cut because they are over the length limit (once a cut).
        invalid_json, invalid_cri: lines that do not have the form of their envelope, kept as they are.
        missing_field: JSON lines without the message field, kept as they are.
        invalid_rows: CSV rows with a wrong number of columns, kept as they are.
    """

    lines: int = 0
    records: int = 0
    matched: int = 0
    unmatched_kept: int = 0
    joined: int = 0
    invalid_utf8: int = 0
    too_long: int = 0
    invalid_json: int = 0
    invalid_cri: int = 0
    missing_field: int = 0
    invalid_rows: int = 0


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Some consecutive records as spans of one byte buffer.

    Attributes:
        buffer: uint8.
        content_starts, content_ends: int64, one a record. Contents of joined records hold the line ends between their
            lines.
        names: names of the fields, in the order of the columns below.
        field_starts, field_ends: int32 (records, fields); -1 where a field is absent.
        header_matched: bool, one a record.
        line_numbers: int64, the number (from 1) of the record's first line.
        timestamps_us: int64 microseconds since 1970, `NO_TIME` where a record has none; None when the input has no
            time.
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
        return cut(self.buffer, self.content_starts.tolist(), self.content_ends.tolist())

    def field(self, name: str) -> list[bytes | None]:
        """One field of all records as Python bytes; None where it is absent."""
        column = self.names.index(name)
        starts = self.field_starts[:, column].tolist()
        values = cut(self.buffer, starts, self.field_ends[:, column].tolist())
        return [value if start >= 0 else None for value, start in zip(values, starts, strict=True)]


class HeaderChoice(NamedTuple):
    """The header in use, where its time stands, and whether a line without a time does not match (detected headers)."""

    header: HeaderFormat | None
    time_fields: TimeFields | None = None
    needs_time: bool = False


class Progress(Protocol):
    """What progress bars need of a source."""

    name: str
    num_bytes: int | None
    modified: datetime.datetime

    @property
    def bytes_read(self) -> int:
        """Bytes taken so far."""
        ...

    def close(self) -> None:
        """Close the source."""
        ...


class RecordReader(Iterator[RecordBatch]):
    """The iterator behind `read_records`.

    Attributes:
        report: the account so far; complete when the iteration ended.
        header: the header format in use, None for none.
        input_format: "text", "json", "cri", "docker" or "csv".
        blocks: name, `num_bytes` and `bytes_read` of the source, for progress bars.
    """

    def __init__(
        self,
        lines: LineSource,
        blocks: Progress,
        input_format: str,
        choice: HeaderChoice,
        multiline: Multiline,
        sample: Sequence[bytes],
    ) -> None:
        self.report = ReadReport()
        self.blocks = blocks
        self.input_format = input_format
        self.header = choice.header
        self._lines = lines
        self._choice = choice
        self._sample = sample
        self._mode = MULTILINE_MODES[multiline]
        if self.header is None:
            self._mode = min(self._mode, _record_kernels.AUTO)
        elif self.header.content_index != len(self.header.fields) - 1:
            self._mode = _record_kernels.OFF  # text after Content would end up inside a joined record
        if not lines.joins_lines and (multiline == "auto" or input_format == "csv"):
            self._mode = _record_kernels.OFF
        fields = choice.time_fields
        self._times = TimeParser(fields.form, blocks.modified) if fields is not None else None
        self._batches = self._run()

    def __iter__(self) -> RecordReader:
        return self

    def __next__(self) -> RecordBatch:
        return next(self._batches)

    def _run(self) -> Iterator[RecordBatch]:
        try:
            for lines in self._lines:
                if len(lines):
                    batch = self._convert(lines)
                    if len(batch):
                        yield batch
        finally:
            counts = self._lines.counts
            self.report.invalid_json = counts.invalid_json
            self.report.invalid_cri = counts.invalid_cri
            self.report.missing_field = counts.missing_field
            self.report.invalid_rows = counts.invalid_rows
        if self.header is not None and self.report.lines and not self.report.matched:
            raise InputError(_nothing_matches(self.blocks.name, self.header, self._sample))

    def _convert(self, lines: Lines) -> RecordBatch:
        matches, times_us = self._match(lines)
        firsts, num_lines = self._records(lines, matches.matched)
        lasts = np.append(firsts[1:], num_lines) - 1
        # Without joined lines the records are a slice, and nothing is copied.
        chosen = slice(0, num_lines) if len(firsts) == num_lines else firsts
        matched = matches.matched[chosen]
        content_starts, content_ends = lines.starts[chosen], lines.ends[lasts]
        names, field_starts, field_ends = lines.names, lines.field_starts[chosen], lines.field_ends[chosen]
        header = self.header
        if header is not None:
            header_starts, header_ends = matches.starts[chosen], matches.ends[chosen]
            content = header.content_index
            content_starts = np.where(matched, header_starts[:, content], content_starts)
            content_ends = np.where(matched & (firsts == lasts), header_ends[:, content], content_ends)
            # A field of the envelope gives way to one of the same name in the header.
            others = [column for column, name in enumerate(names) if name not in header.fields]
            names = (*header.fields, *(names[column] for column in others))
            field_starts = np.hstack((header_starts, field_starts[:, others])) if others else header_starts
            field_ends = np.hstack((header_ends, field_ends[:, others])) if others else header_ends
        self._account(lines, firsts, num_lines, matched)
        return RecordBatch(
            lines.buffer,
            content_starts,
            content_ends,
            names,
            field_starts,
            field_ends,
            matched,
            lines.numbers[chosen],
            None if times_us is None else times_us[chosen],
        )

    def _match(self, lines: Lines) -> tuple[Matches, NDArray[np.int64] | None]:
        """Header fields and times of all lines; the time of the envelope comes first."""
        if self.header is None:
            return Matches(lines.field_starts, lines.field_ends, lines.is_decoded), lines.times_us
        matches = self.header.match(lines.buffer, lines.starts, lines.ends)
        matched = matches.matched & lines.is_decoded
        times_us = lines.times_us
        fields = self._choice.time_fields
        if self._times is not None and fields is not None:
            header_times = self._times.parse(lines.buffer, *fields.spans(matches.starts, matches.ends))
            if self._choice.needs_time:
                matched &= header_times != NO_TIME
            times_us = header_times if times_us is None else times_us
        matches.starts[~matched] = -1
        matches.ends[~matched] = -1
        return Matches(matches.starts, matches.ends, matched), times_us

    def _records(self, lines: Lines, matched: NDArray[np.bool_]) -> tuple[NDArray[np.int64], int]:
        """First lines of the complete records and how many lines they use; the last record waits for the next lines."""
        if self._mode == _record_kernels.OFF:
            return np.arange(len(lines), dtype=np.int64), len(lines)
        has_header = matched if self.header is not None else np.zeros(len(lines), np.bool_)
        firsts = _record_kernels.join_lines(
            lines.buffer, lines.starts, lines.ends, has_header, self._mode, MAX_RECORD_LINES, MAX_RECORD_BYTES
        )
        if not lines.is_last_open:
            return firsts, len(lines)
        self._lines.hold_back(int(firsts[-1]))
        return firsts[:-1], int(firsts[-1])

    def _account(self, lines: Lines, firsts: NDArray[np.int64], num_lines: int, matched: NDArray[np.bool_]) -> None:
        report = self.report
        num_matched = int(np.count_nonzero(matched))
        num_sources = int(lines.num_sources[:num_lines].sum())
        report.lines += num_sources
        report.records += len(firsts)
        report.matched += num_matched
        report.unmatched_kept += len(firsts) - num_matched
        report.joined += num_sources - len(firsts)
        report.too_long += lines.is_cut
        if lines.invalid_utf8 is not None:
            report.invalid_utf8 += int(lines.invalid_utf8[:num_lines].sum())


def read_records(
    source: Source,
    *,
    header: str | HeaderFormat = "auto",
    multiline: Multiline = "auto",
    input_format: InputFormat = "auto",
    json_field: str | None = None,
    content_column: str | None = None,
    block_bytes: int = BLOCK_BYTES,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> RecordReader:
    r"""Open a log and iterate over batches of records.

    Args:
        source: a path, "-" for standard input, or a binary stream; compressed files are recognised.
        header: a format such as "<Date> <Time> <Level>: <Content>", "auto" (a common format is recognised, else none)
            or "none".
        multiline: "auto" joins lines without header that look like a continuation (indented, parts of a stack trace),
            "join" all lines without header, "off" none. In JSON lines a message is whole: there "auto" is "off".
        input_format: what is around the text; "auto" looks at the first lines.
        json_field: path of the message in JSON lines; by default a common name that most of the first lines have.
        content_column: the source is a CSV file and this column holds the messages.
        block_bytes: how much is read at a time; the records do not depend on it.
        max_line_bytes: longer lines are cut into pieces, see `open_blocks`.

    Raises:
        InputError: see `open_blocks`; an unknown option; a header format that matches nothing (found at the
                end of a short file); no
            message field.

    >>> import io
    >>> log = io.BytesIO(b"12:00 INFO: up\nnoise\n12:01 WARN: slow\n")
    >>> reader = read_records(log, header="<Time> <Level>: <Content>")
    >>> [content for batch in reader for content in batch.contents()]
    [b'up', b'noise', b'slow']
    >>> reader.report.matched, reader.report.unmatched_kept
    (2, 1)
    """
    _check_choice("multiline", multiline, tuple(MULTILINE_MODES))
    _check_choice("input_format", input_format, INPUT_FORMATS)
    if content_column is not None:
        rows = CsvLines(OpenedSource(source), content_column)
        choice = _choose_header("none" if header == "auto" else header, [], rows.name)
        return RecordReader(rows, rows.source, "csv", choice, multiline, [])
    blocks = open_blocks(source, block_bytes=block_bytes, max_line_bytes=max_line_bytes)
    try:
        sample = sample_lines(blocks.peek(SAMPLE_BYTES))
        kind, envelope = _choose_envelope(input_format, json_field, sample, blocks.name)
        lines: LineSource = TextLines(blocks)
        if envelope is not None:
            lines = EnvelopedLines(blocks, envelope)
            sample = sample_texts(envelope, sample)
        return RecordReader(lines, blocks, kind, _choose_header(header, sample, blocks.name), multiline, sample)
    except BaseException:
        blocks.close()
        raise


def _check_choice(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{option} must be one of {', '.join(known)}, not {value!r}")


def _choose_envelope(
    input_format: str, json_field: str | None, sample: Sequence[bytes], name: str
) -> tuple[str, Envelope | None]:
    is_given = input_format != "auto" or json_field is not None
    kind = input_format
    if kind == "auto":
        kind = "json" if json_field is not None else detect_envelope(sample)
    if kind == "cri":
        return kind, CriEnvelope()
    if kind in ("json", "docker"):
        paths = choose_paths(sample, "log" if kind == "docker" else json_field)
        if paths is not None:
            return kind, JsonEnvelope(paths, is_docker=kind == "docker")
        if is_given and sample:
            raise InputError(f"{name}: no common message field in the first JSON lines; name it with json_field")
    return "text", None


def _choose_header(header: str | HeaderFormat, sample: Sequence[bytes], name: str) -> HeaderChoice:
    if header == "none":
        return HeaderChoice(None)
    if header == "auto":
        found = detect_header(sample)
        if found is None:
            return HeaderChoice(None)
        return HeaderChoice(found.header, found.time_fields, needs_time=found.time_fields is not None)
    parsed = header if isinstance(header, HeaderFormat) else HeaderFormat.parse(header)
    if not sample:
        return HeaderChoice(parsed)
    buffer, starts, ends = joined(sample)
    matches = parsed.match(buffer, starts, ends)
    rows = matches.matched
    if len(sample) >= _ENOUGH_LINES and not rows.any():
        raise InputError(_nothing_matches(name, parsed, sample))
    return HeaderChoice(parsed, find_time_fields(parsed.fields, buffer, matches.starts[rows], matches.ends[rows]))


def _nothing_matches(name: str, header: HeaderFormat, sample: Sequence[bytes]) -> str:
    shown = " | ".join(repr(line[:80].decode(errors="replace")) for line in sample[:3])
    return (
        f"{name}: no line matches the header format {header.text!r} (as a regular expression: {header.pattern}); "
        f"the first lines are {shown}; mend the format, or use 'auto' or 'none'"
    )
