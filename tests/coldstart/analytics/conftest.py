"""A small trace on disk, the published curves, and the rows that the trace was written from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nonet.coldstart.analytics.figures import Figures
from nonet.coldstart.analytics.published import Published
from tests.coldstart.analytics.small_trace import Rows, WrittenTrace, random_rows, write_trace
from tests.conftest import needs


@pytest.fixture(scope="session")
def rows() -> Rows:
    return random_rows()


@pytest.fixture(scope="session")
def trace(rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> WrittenTrace:
    return write_trace(tmp_path_factory.mktemp("trace"), rows, 3)


@pytest.fixture(scope="session")
def figures(trace: WrittenTrace) -> Iterator[Figures]:
    with Figures(trace) as made:
        yield made


@pytest.fixture
def published(mirror: Path) -> Published:
    folder = mirror / "coldstart" / "huawei2025_paper_digitised"
    needs(folder.is_dir(), "no digitised curves in the mirror")
    return Published.load(folder)
