"""The page: every figure, what is missing, distances, claims; and drawn by a real browser where there is one."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nonet.coldstart.analytics.audit import audit
from nonet.coldstart.analytics.charts import figure_chart
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
    assert drawn.count('<a download="chart.csv"') == len(FIGURES)
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


def test_own_logs_have_dates_and_nothing_published(tmp_path: Path) -> None:
    start_us = 1_777_881_730_000_000  # 2026-05-04 08:02:10
    calls = [
        {"region": "eu", "function": "f", "arrive_us": start_us + at * 10_000_000, "pod": "p"} for at in range(2000)
    ]
    written = write_trace(tmp_path / "t", Rows(request=calls), 1)
    dated = replace(written, epoch="1970-01-01T00:00:00Z", start_us=start_us, end_us=start_us + 2000 * 10_000_000)
    analysed = analyse(dated)
    x, _ = analysed.figures["5"].xy("eu")
    assert x[0] == 8 * 60 + 2  # not midnight: before the trace nothing is known
    assert "needs a trace of a whole day, this one has 5.6 hours" in analysed.missing["6a"]
    assert analysed.figures["7"].notes == ("divided by the maximum over days 2026-05-04 to 2026-05-04",)
    for name, moment_ms in (("5", start_us // 60_000_000 * 60_000), ("7", 20_577 * 86_400_000)):
        spec = figure_chart(FIGURES[name], analysed.figures[name], None, dated.epoch).to_dict()
        assert spec["encoding"]["x"]["type"] == "temporal" and "strokeDash" not in spec["encoding"]
        assert float(drawn_rows(spec)[0]["x"]) == pytest.approx(moment_ms, abs=60_000)  # drawn are means of slots
    spec = figure_chart(FIGURES["1"], analysed.figures["1"], None).to_dict()
    assert max(spec["encoding"]["size"]["legend"]["values"]) <= 1 and "shape" not in spec["encoding"]


def drawn_rows(spec: dict[str, Any]) -> list[dict[str, str]]:
    text = spec["datasets"][spec["data"]["name"]] if "name" in spec["data"] else spec["data"]["values"]
    return list(csv.DictReader(io.StringIO(text)))


def test_counts_of_the_published_have_axes_of_their_own_and_the_time_of_ours(
    trace: WrittenTrace, published: Published
) -> None:
    analysed = analyse(trace, names=["8a", "6a", "11", "10a"])
    panels = {}
    for name, result in analysed.figures.items():
        rows = drawn_rows(figure_chart(FIGURES[name], result, published.figure(name)).to_dict())
        panels[name] = {row.get("panel", "") for row in rows}
        if name in ("8a", "11"):
            assert max(float(row["x"]) for row in rows if row["who"] == "published") <= 71
    assert {"R2, this trace", "R2, published"} <= panels["8a"]
    assert panels["6a"] <= {"this trace", "published"} and panels["10a"] == {""}
    assert {"R2, code", "R2, cold starts, this trace", "R2, cold starts, published"} <= panels["11"]


def test_the_distance_stands_under_its_figure_and_the_table_after_all(
    trace: WrittenTrace, published: Published, tmp_path: Path
) -> None:
    analysed = analyse(trace, published=published, names=["10a", "12"])
    write_trace_report(trace, tmp_path / "r.html", analysed, published=published)
    page = (tmp_path / "r.html").read_text(encoding="utf-8").split('<script type="module">')[0]
    first = next(d for d in analysed.distances if (d.figure, d.group) == ("10a", "R1"))
    assert f"To the published: KS R1 {first.value:.3g}, R2 " in page
    assert page.index("Figure 10a.") < page.index("Figure 12.") < page.index("<h2>Ours and the published</h2>")


def test_single_figures_and_unknown_names(trace: WrittenTrace) -> None:
    assert list(analyse(trace, names=["12", "3a"]).figures) == ["12", "3a"]
    with pytest.raises(InputError, match="unknown figure '18'"):
        analyse(trace, names=["18"])


def test_the_audit_alone(published: Published, tmp_path: Path) -> None:
    write_audit_report(tmp_path / "a.html", audit(paper_claims(), published), source="the published curves")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "large-over-small-r3" in page and "cannot be checked here" in page and "<script" not in page
