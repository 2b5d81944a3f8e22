"""`parse` for people and pipes: where its lines go, and what it says at the end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO

import pyarrow as pa

from nonet.logs.mining.miner import Miner
from nonet.logs.outputs import CsvSink, JsonLinesSink, Sink
from nonet.logs.parse import ParseReport
from nonet.logs.views.text_table import print_rows, terminal_width

_ENOUGH_LINES_FOR_SPEED = 100_000


class TypedJsonLinesSink(JsonLinesSink):
    """As `JsonLinesSink`, with the type of every parameter: `{"type": "ip", "value": "10.0.0.1"}`."""

    def __init__(self, stream: IO[str], miner: Miner) -> None:
        super().__init__(stream)
        self._miner = miner
        self._types: dict[str, tuple[str, ...]] = {}

    def __enter__(self) -> TypedJsonLinesSink:
        return self

    def write(self, lines: pa.Table) -> None:
        """Write some objects."""
        if not self._types:
            self._types = {template.id: template.types for template in self._miner.templates()}
        ids, values = lines["template_id"].to_pylist(), lines["parameters"].to_pylist()
        typed = [
            [{"type": kind, "value": value} for kind, value in zip(self._types.get(one, ("str",)), its, strict=True)]
            for one, its in zip(ids, values, strict=True)
        ]
        kind = pa.list_(pa.struct([("type", pa.string()), ("value", pa.string())]))
        at = lines.column_names.index("parameters")
        super().write(lines.set_column(at, "parameters", pa.array(typed, kind)))


def output_sinks(source: str, miner: Miner, *, out: Path | None, csv: bool, jsonl: bool) -> list[Sink]:
    """The outputs beside Parquet."""
    sinks: list[Sink] = []
    if csv:
        name = "stdin" if source == "-" else Path(source).name
        sinks.append(CsvSink(out or Path(), name))
    if jsonl:
        sinks.append(TypedJsonLinesSink(sys.stdout, miner))
    return sinks


def print_parse(report: ParseReport, limit: int = 20) -> None:
    """The most frequent templates, and where every line went.

    Args:
        report: what `parse_file` gave.
        limit: templates to show; 0 for all.
    """
    shown = report.templates[: limit or None]
    rows = [[f"{template.count:,}", template.id, template.typed_text] for template in shown]
    print_rows(["count", "id", "template"], rows, 1, terminal_width())
    left = len(report.templates) - len(shown)
    if left:
        print(f"\n{left:,} more templates (--limit 0 shows all)")
    print(f"\n{_account(report)}")
    for path in report.outputs:
        print(f"written: {path}")


def _account(report: ParseReport) -> str:
    read = report.read
    seconds = report.learn_s + report.settle_s + report.label_s
    parts = [f"{read.lines:,} lines", f"{read.records:,} records", f"{len(report.templates):,} templates"]
    for number, what in (
        (read.joined, "lines joined to the one before"),
        (read.unmatched_kept, "records without the header (kept)"),
        (read.invalid_utf8, "lines that are not UTF-8 (kept)"),
        (read.too_long, "lines cut for their length"),
        (report.num_unplaced, "records of forgotten templates"),
    ):
        if number:
            parts.append(f"{number:,} {what}")
    # Below this, most of the time goes into loading compiled kernels.
    speed = f" ({read.lines / seconds:,.0f} lines/s)" if read.lines >= _ENOUGH_LINES_FOR_SPEED else ""
    header = "no header" if report.header is None else f"header {report.header}"
    return f"{report.source}: {', '.join(parts)}; {seconds:.2f} s{speed}; {header}"
