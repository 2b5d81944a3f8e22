"""Write the findings of a bench run into the results section of a room's page, between its two markers.

Usage: python benchmarks/render_results.py ROOM [FINDINGS.jsonl]

Without a file, the newest run of benchmarks/ROOM/results/ is taken, by the time at which it was measured.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nonet.common.console import format_cell
from nonet.common.findings import Finding, read_findings

HERE = Path(__file__).parent
MARKERS = re.compile(r"(<!-- results -->\n).*?(<!-- /results -->)", re.DOTALL)

Measured = Sequence[tuple[Finding, dict[str, Any]]]


def row(finding: Finding, mark: str = "") -> str:
    """One line of the table; the mark says on which machine it was measured."""
    rivals = "; ".join(f"{r.name}: {_with_unit(r.value, r.unit)} ({r.kind})" for r in finding.rivals)
    promise = (
        "" if finding.promise is None else f"{format_cell(finding.promise)} {'kept' if finding.kept else '**missed**'}"
    )
    cells = [
        f"`{finding.name}`{mark}",
        _with_unit(finding.value, finding.unit),
        promise,
        rivals,
        finding.input,
        finding.note,
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _with_unit(value: float, unit: str) -> str:
    return f"{format_cell(value)} {unit}".strip()


def rendered(page: str, findings: Measured) -> str:
    """The page with the table of the findings between its markers; the same again when it stands there already.

    Raises:
        ValueError: no findings, or not exactly one pair of markers.
    """
    if not findings:
        raise ValueError("no findings to render")
    if len(MARKERS.findall(page)) != 1:
        raise ValueError("the page needs one pair of markers: <!-- results --> and <!-- /results -->")
    machines = [f"{machine['cores']} cores ({machine['cpu']})" for _, machine in findings]
    marks = {machine: "†" * number for number, machine in enumerate(dict.fromkeys(machines))}
    told = ", ".join(f"lines with {mark} on {machine}" if mark else machine for machine, mark in marks.items())
    days = sorted({machine["measured_at"][:10] for _, machine in findings})
    lines = [
        f"Measured {' to '.join(dict.fromkeys((days[0], days[-1])))} on {told}.",
        "",
        "| finding | ours | promise | rivals | input | note |",
        "|---|---|---|---|---|---|",
        *(row(finding, marks[machine]) for (finding, _), machine in zip(findings, machines, strict=True)),
    ]
    return MARKERS.sub(lambda m: m[1] + "\n".join(lines) + "\n" + m[2], page)


def page_of(room: str) -> Path:
    """The page that shows a room's results."""
    return HERE.parent / "docs" / f"{room}.md"


def runs(room: str) -> list[Measured]:
    """The committed runs of a room, oldest first."""
    found = [read_findings(path) for path in sorted((HERE / room / "results").glob("*.jsonl"))]
    return sorted((run for run in found if run), key=lambda run: str(run[0][1]["measured_at"]))


def main() -> None:
    """Render the newest run of a room, or the one that is named."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    room = sys.argv[1]
    known = runs(room) if len(sys.argv) < 3 else [read_findings(sys.argv[2])]
    if not known:
        sys.exit(f"error: no findings of {room}; make some with: make bench")
    page = page_of(room)
    page.write_text(rendered(page.read_text(encoding="utf-8"), known[-1]), encoding="utf-8")


if __name__ == "__main__":
    main()
