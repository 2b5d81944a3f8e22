"""What the tests of the importers share: ingest in a line, and rows as plain values."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nonet.coldstart.importing.base import IngestReport, ingest
from nonet.coldstart.trace.store import Trace


class Taken:
    """A finished conversion."""

    def __init__(self, report: IngestReport) -> None:
        self.report = report
        self.trace = Trace.open(report.path)

    def rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        frame = self.trace.scan(table).select(columns).collect()
        return sorted(frame.rows(), key=lambda row: tuple((value is None, value) for value in row))

    def quarantine(self) -> list[tuple[str, str]]:
        if self.report.quarantine_path is None:
            return []
        with self.report.quarantine_path.open(newline="") as file:
            return [(row["line"], row["reason"]) for row in csv.DictReader(file)]


@pytest.fixture
def take(tmp_path: Path) -> Callable[..., Taken]:
    """`take("csv", path, ..., option="value")` or `take([("k8s", [a]), ("knative", [b])])`."""

    def run(sources: Any, *paths: Path, region: str = "default", **options: str) -> Taken:
        listed = [(sources, list(paths))] if isinstance(sources, str) else sources
        out = tmp_path / f"trace-{len(list(tmp_path.glob('trace-*')))}"
        taken = Taken(ingest(listed, out, region=region, options=options))
        assert taken.trace.verify() == []
        return taken

    return run
