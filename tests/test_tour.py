"""The tour: one page of all rooms, also when a room fails."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import altair as alt
import pytest

from nonet import tour
from nonet.cli import main
from nonet.common import console
from nonet.common.findings import Finding, Rival, read_findings
from nonet.rooms import ROOMS, Room

GOOD = Room("good", "Does its work.", "A paper")
BAD = Room("bad", "Does not.", "Another paper")
FINDING = Finding("good", "speed", 30.0, "x", "higher", "synthetic lines", (Rival("drain3", 2.0, "measured"),), 40.0)


@pytest.fixture
def scales(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two rooms: one that works and one that raises. The list holds the scales that benches were asked for."""
    monkeypatch.setitem(console._state, "quiet", False)  # put back after the test, whatever --quiet did
    asked: list[str] = []
    good, bad = ModuleType("good"), ModuleType("bad")

    def bench(scale: str) -> list[Finding]:
        asked.append(scale)
        return [FINDING]

    def fail(scale: str) -> list[Finding]:
        raise RuntimeError("the rival is <gone>")

    good.bench, bad.bench = bench, fail  # type: ignore[attr-defined]
    line = alt.Chart(alt.Data(values=[{"x": 1, "y": 2}])).mark_point().encode(x="x:Q", y="y:Q")
    good.plots = lambda: [("Cost grows with size", line)]  # type: ignore[attr-defined]
    monkeypatch.setattr(Room, "load", lambda self, module: {"good": good, "bad": bad}[self.name])
    return asked


def test_the_page_tells_what_was_run_and_keeps_the_findings(
    scales: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tour.run_tour(tmp_path / "new" / "tour", [GOOD]) is True
    assert scales == ["quick"]
    page = (tmp_path / "new" / "tour" / "index.html").read_text()
    for words in (
        "Does its work.",
        "A paper",
        "synthetic lines",
        "drain3",
        "NOT KEPT",
        "Cost grows with size",
        "cores",
    ):
        assert words in page
    [(finding, machine)] = read_findings(tmp_path / "new" / "tour" / "findings.jsonl")
    assert finding == FINDING
    assert machine["python"]
    shown = capsys.readouterr()
    assert "15x" in shown.out
    assert "good - done in" in shown.err


def test_a_room_that_fails_is_shown_and_the_others_are_visited(
    scales: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tour.run_tour(tmp_path, [BAD, GOOD]) is False
    page = (tmp_path / "index.html").read_text()
    assert "RuntimeError: the rival is &lt;gone&gt;" in page
    assert "synthetic lines" in page
    assert len(read_findings(tmp_path / "findings.jsonl")) == 1
    error = capsys.readouterr().err
    assert "error: room 'bad': RuntimeError: the rival is <gone>" in error


def test_the_command_exits_1_when_a_room_fails(
    scales: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tour, "ROOMS", {"bad": BAD})
    with pytest.raises(SystemExit) as ended:
        main(["tour", "--quiet", "--out", str(tmp_path)])
    assert ended.value.code == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == str(tmp_path / "index.html")
    assert shown.err.count("\n") == 1


def test_every_room_has_a_quick_bench() -> None:
    for room in ROOMS.values():
        assert callable(room.load("bench").bench)
