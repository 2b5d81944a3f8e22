"""The page: every figure, what is missing, distances, claims; and drawn by a real browser where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from nonet.coldstart.analytics.audit import audit
from nonet.coldstart.analytics.claims import paper_claims
from nonet.coldstart.analytics.figures import FIGURES
from nonet.coldstart.analytics.published import Published
from nonet.coldstart.analytics.report import analyse, write_audit_report, write_trace_report
from nonet.common.errors import InputError
from tests.coldstart.analytics.small_trace import Rows, WrittenTrace, write_trace
from tests.conftest import needs

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


def test_all_figures_stand_beside_the_published(trace: WrittenTrace, published: Published, tmp_path: Path) -> None:
    needs(CHROMIUM is not None, "no Chromium")
    assert CHROMIUM is not None
    analysed = analyse(trace, published=published)
    assert list(analysed.figures) == list(FIGURES) and analysed.missing == {}
    compared = {d.figure for d in analysed.distances}
    assert {"1", "3a", "5", "8d", "9", "10a", "12", "13", "14", "15b", "17a"} <= compared
    assert not {"10b", "10d"} & compared  # pooled over five regions there, over two here
    path = tmp_path / "r.html"
    write_trace_report(trace, path, analysed, published=published, audited=audit(paper_claims(), published))
    page = path.read_text(encoding="utf-8")
    assert all(f"Figure {name}. " in page for name in FIGURES)
    assert "6 contradicted" in page or "7 contradicted" in page
    assert "http://" not in page.split("<script")[0]
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=60000",
        "--dump-dom",
        path.as_uri(),
    ]
    drawn = subprocess.run(command, capture_output=True, text=True, check=True, timeout=180).stdout
    assert drawn.count('class="marks"') >= len(FIGURES)
    assert "This chart could not be drawn: E" not in drawn and "NaN" not in drawn.split("<body")[1].split("<script")[0]


def test_a_poor_trace_says_which_tables_are_missing(tmp_path: Path) -> None:
    cold = [{"region": "eu", "function": "f", "at_us": at * 10**7, "total_us": 10_000 + at * 37} for at in range(2)]
    written = write_trace(tmp_path / "t", Rows(coldstart=cold), 1)
    seen: list[str] = []
    analysed = analyse(written, progress=seen.append)
    assert list(analysed.figures) == ["10a", "10b", "10c", "11"] and seen == ["10a", "10b", "10c", "10d", "11"]
    assert "two different positive values" in analysed.missing["10d"]  # there is one gap
    write_trace_report(written, tmp_path / "r.html", analysed)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "the trace lacks request.arrive_us (the trace has no rows of request)" in page
    assert "4 figures of the paper were made from this trace; 33 could not be" in page
    assert "Ours and the published" not in page


def test_single_figures_and_unknown_names(trace: WrittenTrace) -> None:
    assert list(analyse(trace, names=["12", "3a"]).figures) == ["12", "3a"]
    with pytest.raises(InputError, match="unknown figure '18'"):
        analyse(trace, names=["18"])


def test_the_audit_alone(published: Published, tmp_path: Path) -> None:
    write_audit_report(tmp_path / "a.html", audit(paper_claims(), published), source="the published curves")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "large-over-small-r3" in page and "cannot be checked here" in page and "<script" not in page
