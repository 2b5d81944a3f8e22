"""Header splitting as the reference evaluation does it, so that lines stay aligned with the published labels.

A format such as `<Date> <Time> <Level>: <Content>` is compiled to one anchored expression: every `<Name>` becomes a
lazy named group, literal pieces are regular-expression text in which runs of blanks match any white space. It is
applied to the stripped line, and **lines that do not match are dropped**. This is for comparing with published tables
only; the reader that keeps every line is `nonet.logs.reading.headers`.

Memory: the contents as Python strings, the header columns as Arrow columns.
"""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa
import zstandard

from nonet.common.errors import InputError

_FIELD = re.compile(r"(<[^<>]+>)")
_CHUNK_LINES = 1 << 16
_GZIP_MAGIC, _ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SHOWN_LINES, _SHOWN_CHARACTERS = 2, 80


def compile_header(header_format: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    r"""The expression of a header format and its field names, in order.

    >>> pattern, names = compile_header(r"<Time> \[<Level>\] <Content>")
    >>> names, pattern.match("12:00  [info] all good").group("Content")
    (('Time', 'Level', 'Content'), 'all good')

    Raises:
        InputError: not a valid expression, a field twice, or no `<Content>`.
    """
    names: list[str] = []
    parts: list[str] = []
    for piece in _FIELD.split(header_format):
        if _FIELD.fullmatch(piece):
            names.append(piece[1:-1])
            parts.append(f"(?P<{names[-1]}>.*?)")
        else:
            parts.append(re.sub(" +", r"\\s+", piece))
    if "Content" not in names:
        raise InputError(f"header format {header_format!r} has no <Content> field")
    try:
        return re.compile(f"^{''.join(parts)}$"), tuple(names)
    except re.error as error:
        raise InputError(f"header format {header_format!r} is not usable: {error}") from error


def split_contents(path: Path | str, header_format: str) -> tuple[list[str], pa.Table]:
    """Split a raw log into Content and header columns, dropping the lines that do not match.

    Args:
        path: the raw log, plain, gzip or zstd. Undecodable bytes become U+FFFD; LF, CRLF and CR end a line.
        header_format: see the module.

    Returns:
        The Content of each kept line, and a table of string columns with the other fields, in the order of the format.

    Raises:
        InputError: the file cannot be read, or no line at all matches (then it shows the first lines).
    """
    pattern, names = compile_header(header_format)
    others = [name for name in names if name != "Content"]
    contents: list[str] = []
    chunks: list[pa.RecordBatch] = []
    rows: list[tuple[str | None, ...]] = []
    dropped: list[str] = []
    schema = pa.schema([(name, pa.string()) for name in others])
    for line in _stripped_lines(Path(path)):
        match = pattern.match(line)
        if match is None:
            if len(dropped) < _SHOWN_LINES:
                dropped.append(line[:_SHOWN_CHARACTERS])
            continue
        contents.append(match["Content"])
        rows.append(match.group(*others) if len(others) > 1 else tuple(match[name] for name in others))
        if len(rows) == _CHUNK_LINES:
            chunks.append(_batch(rows, schema))
            rows = []
    if not contents and dropped:
        shown = " | ".join(map(repr, dropped))
        raise InputError(f"{path}: the header format {header_format!r} matches no line; the file begins {shown}")
    chunks.append(_batch(rows, schema))
    return contents, pa.Table.from_batches(chunks, schema)


def split_by_labels(path: Path | str, label_contents: Iterable[str]) -> list[str]:
    """Contents of a raw log whose header format is not known: the ends of lines that the label file has as Content.

    Label files keep the order of the log but collapse runs of blanks, so each line is compared with the next label;
    what is returned is the raw line's text, as parsers have to see it. Lines that are no label's are dropped, as those
    that a header format does not match.

    Args:
        path: the raw log, as for `split_contents`.
        label_contents: the Content of every label, in order.

    Raises:
        InputError: the file cannot be read, or a label's Content is not found behind the ones before it.
    """
    contents: list[str] = []
    labels = iter(label_contents)
    wanted = next(labels, None)
    for line in _stripped_lines(Path(path)):
        if wanted is None:
            break
        start = _start_of(wanted, line)
        if start is not None:
            contents.append(line[start:])
            wanted = next(labels, None)
    if wanted is not None:
        raise InputError(
            f"{path}: no line ends with the Content of label row {len(contents) + 1:,} "
            f"({wanted[:_SHOWN_CHARACTERS]!r}) behind the lines of the rows before it; labels must be in the "
            "order of the log"
        )
    return contents


def _start_of(text: str, line: str) -> int | None:
    """Where the text, with other runs of blanks, begins when it ends the line; None when it does not."""
    words = text.split()
    position = len(line)
    for word in reversed(words):
        while position and line[position - 1].isspace():
            position -= 1
        if not line.endswith(word, 0, position):
            return None
        position -= len(word)
    # A header ends before the Content: in a blank or a mark, not within a word.
    is_apart = position == 0 or not words or not (line[position - 1].isalnum() and line[position].isalnum())
    while text[:1].isspace() and position and line[position - 1].isspace():
        position -= 1
    return position if is_apart else None


def _batch(rows: list[tuple[str | None, ...]], schema: pa.Schema) -> pa.RecordBatch:
    """The header fields of some lines as columns; an optional field that is not there is the empty text."""
    columns = [[value or "" for value in column] for column in zip(*rows, strict=True)] or [[] for _ in schema]
    return pa.record_batch([pa.array(column, pa.string()) for column in columns], schema=schema)


def _stripped_lines(path: Path) -> Iterator[str]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with _open_text(path) as file:
            for line in file:
                yield line.strip()
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise InputError(f"{path}: cannot be read to its end: {error}") from error


@contextmanager
def _open_text(path: Path) -> Iterator[IO[str]]:
    """The file as text, decompressed by what its first bytes say."""
    with path.open("rb") as raw:
        magic = raw.read(4)
        raw.seek(0)
        stream: IO[bytes] = raw
        if magic.startswith(_GZIP_MAGIC):
            stream = gzip.GzipFile(fileobj=raw)  # type: ignore[assignment]
        elif magic == _ZSTD_MAGIC:
            stream = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True))
        with io.TextIOWrapper(stream, encoding="utf-8", errors="replace") as text:
            yield text
