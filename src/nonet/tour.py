"""The tour: every room's quick bench, told on one self-contained HTML page.

A room takes part with `nonet.<room>.bench.bench("quick") -> list[Finding]`; `plots() -> list[(title, chart)]` in the
same module, if there is one, adds charts. A room that fails is shown with its error, and the tour goes on.
"""

from __future__ import annotations

import importlib.util
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nonet.common.console import note, print_error, print_findings, progress
from nonet.common.errors import MissingExtraError
from nonet.common.findings import Finding, write_findings
from nonet.common.machine import describe_machine
from nonet.rooms import ROOMS, Room

if TYPE_CHECKING:
    import altair

    from nonet.common.report import Block, Section, Table


@dataclass(frozen=True, slots=True)
class Visit:
    """What one room showed: its findings and charts, or the error that ended it, and how long it took."""

    room: Room
    findings: Sequence[Finding]
    charts: Sequence[tuple[str, altair.TopLevelMixin]]
    seconds: float
    error: str = ""


def run_tour(out: Path, rooms: Sequence[Room] | None = None) -> bool:
    """Visit the rooms, write `out`/index.html and `out`/findings.jsonl, print the findings.

    Args:
        out: the folder; made when it does not exist.
        rooms: all rooms of the house when None.

    Returns:
        Whether every room ran to its end. A promise that is not kept is shown, and is no failure of the tour.

    Raises:
        MissingExtraError: the page needs altair, vl-convert-python and jinja2.
    """
    _need_report_packages()
    out.mkdir(parents=True, exist_ok=True)
    rooms = list(ROOMS.values()) if rooms is None else rooms
    visits = []
    with progress(len(rooms), "tour", unit="rooms") as bar:
        for room in rooms:
            bar.describe(f"tour: {room.name}")
            note(f"tour: {room.name} - quick bench ...")
            visits.append(visit(room))
            note(f"tour: {room.name} - {'FAILED' if visits[-1].error else 'done'} in {visits[-1].seconds:.0f} s")
            bar.advance()
    machine = describe_machine()
    write_findings(out / "findings.jsonl", [f for v in visits for f in v.findings], machine)
    _write_page(out / "index.html", visits, machine)
    for one in visits:
        if one.findings:
            print_findings(one.findings, title=one.room.name)
        if one.error:
            print_error(f"room {one.room.name!r}: {one.error.splitlines()[-1]}")
    print(out / "index.html")
    return not any(one.error for one in visits)


def visit(room: Room) -> Visit:
    """Run a room's quick bench and collect its charts; any error becomes part of the result."""
    started = time.perf_counter()
    findings: Sequence[Finding] = ()
    charts: Sequence[tuple[str, Any]] = ()
    error = ""
    try:
        bench = room.load("bench")
        findings = bench.bench("quick")
        plots: Callable[[], Sequence[tuple[str, Any]]] | None = getattr(bench, "plots", None)
        charts = plots() if plots else ()
    except Exception:  # the other rooms are still worth seeing; the error is shown and fails the tour
        error = traceback.format_exc()
    return Visit(room, findings, charts, time.perf_counter() - started, error)


def _need_report_packages() -> None:
    missing = [name for name in ("altair", "jinja2", "vl_convert") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"the tour needs {', '.join(missing)}; install them with: pip install 'nonet[all]'")


def _write_page(path: Path, visits: Sequence[Visit], machine: dict[str, Any]) -> None:
    from nonet.common.report import Section, Table, write_report

    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    facts = [(name, value) for name, value in machine.items() if name != "packages"] + [("packages", versions)]
    sections = [_room_section(one) for one in visits]
    sections.append(Section("Machine", [Table(("what", "value"), facts)], "Where these numbers were measured."))
    promises = [f.kept for one in visits for f in one.findings if f.kept is not None]
    subtitle = (
        f"nonet {machine['nonet']}, {machine['measured_at']}, {machine['cpu']}, {machine['cores']} cores. "
        f"{sum(promises)} of {len(promises)} promises kept. Every number was measured by `nonet tour`, "
        "except rivals marked published."
    )
    write_report(path, "Tour of nonet", sections, subtitle=subtitle)


def _room_section(one: Visit) -> Section:
    from nonet.common.plots import findings_chart
    from nonet.common.report import Cell, Chart, Section, Table, Text, findings_table

    blocks: list[Block] = [Text([f"Rebuilds: {one.room.paper}.", f"Quick bench, {one.seconds:.0f} s."])]
    if one.error:
        blocks.append(Table(("error",), [(Cell(one.error.strip(), "code"),)], title="This room failed"))
    if one.findings:
        blocks.append(_inputs_table(one.findings))
        blocks.append(findings_table(one.findings, title="Findings beside their rivals"))
        chart = findings_chart(one.findings)
        if chart is not None:
            blocks.append(
                Chart(
                    "Ours and the rivals",
                    chart,
                    "Grey ran here on the same input; sand is published. The dashed line is the promise.",
                )
            )
    blocks += [Chart(title, chart) for title, chart in one.charts]
    return Section(one.room.name, blocks, one.room.help)


def _inputs_table(findings: Sequence[Finding]) -> Table:
    from nonet.common.report import Table

    names: dict[str, list[str]] = {}
    for finding in findings:
        names.setdefault(finding.input, []).append(finding.name)
    rows = [("synthetic" if "synthetic" in text.lower() else "real", text, ", ".join(n)) for text, n in names.items()]
    return Table(("input is", "input", "used by"), rows, title="What was run, and on which input")
