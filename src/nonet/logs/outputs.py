"""Where labelled lines go: Parquet for tools, the logpai CSV pair for papers, JSON lines for pipes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nonet.common.arrow import arrow_array, arrow_strings
from nonet.common.atomic import atomic_path, atomic_write
from nonet.common.errors import InputError
from nonet.logs.mining.template import Template, printable, restore

ROWS_PER_GROUP = 1 << 17


class Sink(Protocol):
    """Takes labelled batches in order, then the templates; a context manager that leaves nothing half-written."""

    def __enter__(self) -> Sink:
        """Open."""

    def __exit__(self, *error: object) -> None:
        """Publish what was written, or remove it when there was an error."""

    def write(self, lines: pa.Table) -> None:
        """Take some labelled lines."""

    def finish(self, templates: Sequence[Template]) -> None:
        """Take the templates, after the last lines."""


class ParquetSink:
    """`lines.parquet`, `templates.parquet` and `parameters.parquet` in a folder.

    `lines` has one row a record, `templates` one row a template, `parameters` one row a hole of a template.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._stack = ExitStack()
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []

    def __enter__(self) -> ParquetSink:
        _make_folder(self.folder)
        self._path = self._stack.enter_context(atomic_path(self.folder / "lines.parquet"))
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.close()
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    def write(self, lines: pa.Table) -> None:
        """Buffer up to a row group, then write it."""
        self._waiting.append(lines)
        if sum(len(t) for t in self._waiting) >= ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        rows = pa.concat_tables(self._waiting)
        self._waiting = []
        if self._writer is None:
            plain = {"parameters.list.element", "spacing.list.element", "raw", "line_number", "timestamp"}
            encoded = [n for n in _leaf_names(rows.schema) if n not in plain]
            self._writer = pq.ParquetWriter(
                self._path,
                rows.schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=encoded,
                write_statistics=["line_number"],
            )
        self._writer.write_table(rows, row_group_size=len(rows))

    def finish(self, templates: Sequence[Template]) -> None:
        """Write the two small tables."""
        self._flush()
        if self._writer is None:
            pq.write_table(pa.table({"line_number": pa.array([], pa.int64())}), self._path)
        with atomic_path(self.folder / "templates.parquet") as path:
            pq.write_table(templates_table(templates), path)
        with atomic_path(self.folder / "parameters.parquet") as path:
            pq.write_table(parameters_table(templates), path)


class CsvSink:
    """The logpai pair `<name>_structured.csv` and `<name>_templates.csv`.

    EventId is, as there, the first 8 hexadecimal digits of the MD5 of the template.
    """

    HOLES = (
        "line_number",
        "timestamp",
        "header_matched",
        "template_id",
        "template",
        "parameters",
        "spacing",
        "raw",
        "content",
    )

    def __init__(self, folder: str | Path, name: str) -> None:
        self.folder = Path(folder)
        self.name = name
        self._stack = ExitStack()
        self._counts: Counter[str] = Counter()
        self._header: list[str] | None = None

    def __enter__(self) -> CsvSink:
        _make_folder(self.folder)
        file: IO[str] = self._stack.enter_context(atomic_write(self.folder / f"{self.name}_structured.csv"))
        self._csv = csv.writer(file, lineterminator="\n")
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    def write(self, lines: pa.Table) -> None:
        """Write some rows."""
        fields = [n for n in lines.column_names if n not in self.HOLES]
        if self._header is None:
            self._header = ["LineId", *fields, "Content", "EventId", "EventTemplate", "ParameterList"]
            self._csv.writerow(self._header)
        for row in lines.to_pylist():
            template = row["template"]
            content = restore(template, row["parameters"], row["spacing"])
            self._counts[template] += 1
            values = [row[n] for n in fields]
            self._csv.writerow([row["line_number"], *values, content, event_id(template), template, row["parameters"]])

    def finish(self, templates: Sequence[Template]) -> None:
        """Write the template counts."""
        with atomic_write(self.folder / f"{self.name}_templates.csv") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["EventId", "EventTemplate", "Occurrences"])
            rows.writerows([event_id(t), t, n] for t, n in self._counts.most_common())


class JsonLinesSink:
    """One JSON object a line on a stream, with the OpenTelemetry attribute names for the template."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def __enter__(self) -> JsonLinesSink:
        return self

    def __exit__(self, *error: object) -> None:
        self.stream.flush()

    def write(self, lines: pa.Table) -> None:
        """Write some objects; null columns are left out."""
        text = io.StringIO()
        for row in lines.to_pylist():
            row["log.record.template"] = row.pop("template")
            if row["timestamp"] is not None if "timestamp" in row else False:
                row["timestamp"] = row["timestamp"].isoformat()
            if row.get("raw") is not None:
                row["raw"] = row["raw"].hex()
            json.dump({k: v for k, v in row.items() if v is not None}, text, ensure_ascii=False)
            text.write("\n")
        self.stream.write(text.getvalue())

    def finish(self, templates: Sequence[Template]) -> None:
        """Nothing more to say: every object holds its template."""


def event_id(template: str) -> str:
    """The logpai EventId: 8 hexadecimal digits of the MD5 of the template."""
    return hashlib.md5(template.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()[:8]


def templates_table(templates: Sequence[Template]) -> pa.Table:
    """One row a template."""
    return pa.table(
        {
            "template_id": arrow_strings([t.id for t in templates]),
            "template": arrow_strings([printable(t.text) for t in templates]),
            "typed_template": arrow_strings([printable(t.typed_text) for t in templates]),
            "count": arrow_array(np.array([t.count for t in templates], np.int64)),
            "first_record": arrow_array(np.array([t.first_seen for t in templates], np.int64)),
            "last_record": arrow_array(np.array([t.last_seen for t in templates], np.int64)),
            "sample": arrow_strings([t.sample for t in templates]),
        }
    )


def parameters_table(templates: Sequence[Template]) -> pa.Table:
    """One row a hole: template, position (0-based) and type."""
    rows = [(t.id, position, kind) for t in templates for position, kind in enumerate(t.types)]
    ids, positions, kinds = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            "template_id": arrow_strings(ids),
            "position": arrow_array(np.array(positions, np.int32)),
            "type": arrow_strings(kinds),
        }
    )


def _leaf_names(schema: pa.Schema) -> list[str]:
    return [f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name for field in schema]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made a folder for the output ({error.strerror})") from error
