"""The results on the room's page: the table of a committed run, rendered the same however often."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nonet.common.findings import Finding, Rival
from nonet.rooms import ROOMS

ROOT = Path(__file__).resolve().parents[1]
MACHINE: dict[str, Any] = {"measured_at": "2026-11-23T01:02:03", "cores": 2, "cpu": "a CPU"}
PAGE = "before\n<!-- results -->\nold\n<!-- /results -->\nafter\n"


@pytest.fixture(scope="module")
def render() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_results", ROOT / "benchmarks" / "render_results.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def finding(**changes: Any) -> Finding:
    fields: dict[str, Any] = {"value": 3.0, "unit": "x", "better": "higher", "input": "a|b", "promise": 2.0}
    return Finding("logs", "speed", **{**fields, **changes})


@pytest.mark.parametrize("room", ROOMS)
def test_the_page_shows_a_committed_run(render: ModuleType, room: str) -> None:
    page = render.page_of(room).read_text("utf-8")
    assert page in [render.rendered(page, run) for run in render.runs(room)]


def test_rendering_replaces_what_stands_between_the_markers_only(render: ModuleType) -> None:
    once = render.rendered(PAGE, [(finding(rivals=(Rival("peer", 1.5, "measured"),)), MACHINE)])
    assert once.startswith("before\n<!-- results -->\nMeasured 2026-11-23 on 2 cores (a CPU).\n")
    assert once.endswith("<!-- /results -->\nafter\n") and "old" not in once
    assert "| `speed` | 3 x | 2 kept | peer: 1.5 (measured) | a\\|b |  |" in once
    assert render.rendered(once, [(finding(rivals=(Rival("peer", 1.5, "measured"),)), MACHINE)]) == once


def test_a_rival_with_a_unit_of_its_own_shows_it(render: ModuleType) -> None:
    rivals = (Rival("slow", 5.137, "measured", unit="s"), Rival("half", 0.5, "measured"))
    page = render.rendered(PAGE, [(finding(rivals=rivals), MACHINE)])
    assert "| slow: 5.137 s (measured); half: 0.5 (measured) |" in page


def test_lines_of_other_machines_are_marked(render: ModuleType) -> None:
    other = {**MACHINE, "cpu": "another"}
    page = render.rendered(PAGE, [(finding(), MACHINE), (finding(value=4.0), other), (finding(value=5.0), MACHINE)])
    assert f"({MACHINE['cpu']}), lines with † on {MACHINE['cores']} cores (another)." in page
    assert "| `speed`† | 4 x |" in page and "| `speed` | 5 x |" in page


def test_a_run_that_took_several_days_says_from_when_to_when(render: ModuleType) -> None:
    later = {**MACHINE, "measured_at": "2026-12-02T01:00:00+00:00"}
    page = render.rendered(PAGE, [(finding(), later), (finding(), MACHINE), (finding(), later)])
    assert "Measured 2026-11-23 to 2026-12-02 on 2 cores (a CPU)." in page


def test_a_missed_promise_is_said(render: ModuleType) -> None:
    assert "| 2 **missed** |" in render.rendered(PAGE, [(finding(value=1.0), MACHINE)])


@pytest.mark.parametrize("page", ["no markers", PAGE * 2])
def test_a_page_without_one_pair_of_markers_is_refused(render: ModuleType, page: str) -> None:
    with pytest.raises(ValueError, match="markers"):
        render.rendered(page, [(finding(), MACHINE)])
    with pytest.raises(ValueError, match="no findings"):
        render.rendered(PAGE, [])
