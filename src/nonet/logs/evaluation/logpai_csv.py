"""The CSV pair of the reference evaluation, written from a parser's labels.

* `<log>_structured.csv`: `LineId`, the header fields, `Content`, `EventId`, `EventTemplate`, `ParameterList`;
* `<log>_templates.csv`: `EventId`, `EventTemplate`, `Occurrences`, in order of first appearance.

An event id is the first 8 hexadecimal digits of the MD5 of the template. The parameters of a line are what the
wildcards of its template match, each as little as possible, printed as a Python list; a line that its template does
not match has none. No template can make the search explode: it is linear, see `ParameterExtractor`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import re2

from nonet.common.atomic import atomic_path
from nonet.logs.outputs import event_id
from nonet.logs.parsers.base import WILDCARD, Parsed

_CHUNK_LINES = 1 << 17
_NO_PARAMETERS = "[]"
_MAX_SEARCHED_PIECES = 64
_BLANK = " \t\n\r\f"
_BLANKS = re.compile(r"[ \t\n\r\f]+")
_ODD_BLANKS = re.compile(r"[\t\n\r\f]|  ")
_BLANKS_OR_CHARACTER = re.compile(r"[ \t\n\r\f]+|.", re.DOTALL)


class ParameterExtractor:
    """The values of a template's wildcards in its lines, each as little as possible. A blank of it stands for any run.

    With wildcards as short as possible, taking every piece between two of them at its earliest place finds the values
    without going back. Only where two pieces have to share one run of blanks is there no such fit; then RE2 searches,
    if the template has few enough wildcards for that to be quick.

    >>> ParameterExtractor("from <*> port <*>")("from 10.0.0.1  port 22")
    ('10.0.0.1', '22')
    >>> ParameterExtractor("from <*>")("to 10.0.0.1")
    ()
    """

    def __init__(self, template: str) -> None:
        self._template = template
        self._pieces = [_BLANKS.sub(" ", piece) for piece in template.split(WILDCARD)]

    def __call__(self, content: str) -> tuple[str, ...]:
        """One value a wildcard; nothing when the template does not match."""
        if len(self._pieces) == 1:
            return ()
        text, at = (content, None) if _ODD_BLANKS.search(content) is None else _single_blanks(content)
        spans = _hole_spans(self._pieces, text)
        if spans is None:
            return self._searched(content)
        return tuple(content[a:b] if at is None else content[at[a] : at[b]] for a, b in spans)

    def _searched(self, content: str) -> tuple[str, ...]:
        if len(self._pieces) > _MAX_SEARCHED_PIECES or not any(" " in piece for piece in self._pieces):
            return ()
        try:
            match = _pattern_of(self._template).fullmatch(content)
        except UnicodeEncodeError:  # lone surrogates stand for bytes that are no text
            return ()
        return () if match is None else match.groups("")


def _single_blanks(content: str) -> tuple[str, list[int]]:
    """The text with every run of blanks as one blank, and where each of its characters stood; then the end."""
    runs = list(_BLANKS_OR_CHARACTER.finditer(content))
    text = "".join(" " if run[0][0] in _BLANK else run[0] for run in runs)
    return text, [*(run.start() for run in runs), len(content)]


def _hole_spans(pieces: Sequence[str], text: str) -> list[tuple[int, int]] | None:
    """Spans between the pieces, each piece at its earliest place and the last at the end; None when they do not fit."""
    first, last = pieces[0], pieces[-1]
    if not text.startswith(first) or not text.endswith(last):
        return None
    spans, position = [], len(first)
    for piece in pieces[1:-1]:
        start = text.find(piece, position)
        if start < 0:
            return None
        spans.append((position, start))
        position = start + len(piece)
    end = len(text) - len(last)
    return [*spans, (position, end)] if position <= end else None


def write_csv_pair(folder: Path, log_name: str, contents: Sequence[str], columns: pa.Table, parsed: Parsed) -> None:
    """Write `<log_name>_structured.csv` and `<log_name>_templates.csv` into a folder, each atomically.

    Args:
        folder: must exist.
        log_name: the name of the raw log.
        contents: Content of every line.
        columns: the other header fields, one row a line.
        parsed: label of every line.
    """
    ids = pa.array([event_id(template) for template in parsed.templates], pa.string())
    texts = pa.array(parsed.templates, pa.string())
    extractors = [ParameterExtractor(template) for template in parsed.templates]
    schema = pa.schema(
        [
            ("LineId", pa.int64()),
            *((name, pa.string()) for name in columns.column_names),
            *((name, pa.string()) for name in ("Content", "EventId", "EventTemplate", "ParameterList")),
        ]
    )
    with atomic_path(folder / f"{log_name}_structured.csv") as path, pa_csv.CSVWriter(path, schema) as writer:
        for start in range(0, len(contents), _CHUNK_LINES):
            labels = parsed.labels[start : start + _CHUNK_LINES]
            lines = contents[start : start + _CHUNK_LINES]
            parameters = _parameter_lists(lines, labels.tolist(), extractors)
            header = [column.combine_chunks() for column in columns.slice(start, len(lines)).columns]
            codes = pa.array(labels)
            line_ids = pa.array(np.arange(start + 1, start + len(lines) + 1))
            arrays = [line_ids, *header, pa.array(lines, pa.string()), ids.take(codes), texts.take(codes), parameters]
            writer.write(pa.record_batch(arrays, schema=schema))
    counts = np.bincount(parsed.labels, minlength=len(parsed.templates))
    templates = pa.table({"EventId": ids, "EventTemplate": texts, "Occurrences": pa.array(counts)})
    with atomic_path(folder / f"{log_name}_templates.csv") as path:
        pa_csv.write_csv(templates, path)


def _parameter_lists(lines: Sequence[str], labels: Sequence[int], extractors: Sequence[ParameterExtractor]) -> pa.Array:
    values = (extractors[label](line) for label, line in zip(labels, lines, strict=True))
    return pa.array([repr(list(found)) if found else _NO_PARAMETERS for found in values], pa.string())


@lru_cache(1 << 12)
def _pattern_of(template: str) -> re2.Pattern:
    """The template as an expression."""
    literals = (r"\s+".join(map(re.escape, re.split(r"\s+", piece))) for piece in template.split(WILDCARD))
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    return re2.compile("(.*?)".join(literals), options)
