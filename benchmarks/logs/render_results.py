"""Write the findings of a bench run into the results section of docs/logs.md, between its two markers.

Usage: python benchmarks/logs/render_results.py [FINDINGS.jsonl]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from nonet.common.console import format_cell
from nonet.common.findings import Finding, read_findings

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "logs.md"
MARKERS = re.compile(r"(<!-- results -->\n).*?(<!-- /results -->)", re.DOTALL)


def row(finding: Finding) -> str:
    """One line of the table."""
    rivals = "; ".join(f"{r.name}: {format_cell(r.value)} ({r.kind})" for r in finding.rivals)
    promise = (
        "" if finding.promise is None else f"{format_cell(finding.promise)} {'kept' if finding.kept else '**missed**'}"
    )
    cells = [
        f"`{finding.name}`",
        f"{format_cell(finding.value)} {finding.unit}".strip(),
        promise,
        rivals,
        finding.input,
        finding.note,
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    """Render the newest run, or the one that is named."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "results" / "latest.jsonl"
    findings = read_findings(path)
    machine = findings[0][1]
    lines = [
        f"Measured {machine['measured_at'][:10]} on {machine['cores']} cores ({machine['cpu']}).",
        "",
        "| finding | ours | promise | rivals | input | note |",
        "|---|---|---|---|---|---|",
        *(row(finding) for finding, _ in findings),
    ]
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(MARKERS.sub(lambda m: m[1] + "\n".join(lines) + "\n" + m[2], page), encoding="utf-8")


if __name__ == "__main__":
    main()
