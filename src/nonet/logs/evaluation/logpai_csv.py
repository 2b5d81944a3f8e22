"""The CSV pair of the reference evaluation, written from a parser's labels.

* `<log>_structured.csv`: `LineId`, the header fields, `Content`, `EventId`, `EventTemplate`, `ParameterList`;
* `<log>_templates.csv`: `EventId`, `EventTemplate`, `Occurrences`, in order of first appearance.

An event id is the first 8 hexadecimal digits of the MD5 of the template. The parameters of a line are what the
wildcards of its template match, each as little as possible, printed as a Python list; a line that its template does
not match has none. The expressions run in RE2, so no template can make them explode.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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


class ParameterExtractor:
    """The values of a template's wildcards in its lines.

    >>> ParameterExtractor("from <*> port <*>")("from 10.0.0.1  port 22")
    ('10.0.0.1', '22')
    >>> ParameterExtractor("from <*>")("to 10.0.0.1")
    ()
    """

    def __init__(self, template: str) -> None:
        self._pattern = _compiled(template) if WILDCARD in template else None

    def __call__(self, content: str) -> tuple[str, ...]:
        """One value a wildcard; nothing when the template does not match."""
        match = self._pattern.fullmatch(content) if self._pattern is not None else None
        return match.groups("") if match is not None else ()


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


def _compiled(template: str) -> re2.Pattern | None:
    """The template as an expression; None when it is too large for RE2 (thousands of wildcards)."""
    literals = (r"\s+".join(map(re.escape, re.split(r"\s+", piece))) for piece in template.split(WILDCARD))
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    try:
        return re2.compile("(.*?)".join(literals), options)
    except re2.error:
        return None
