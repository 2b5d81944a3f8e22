"""What the verbs `bench` and `fetch` of every room do once their options are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from nonet.common.console import emit_json, note, print_findings, print_table
from nonet.common.findings import Finding, write_findings
from nonet.common.machine import describe_machine


def report_findings(room: str, findings: Sequence[Finding], json_file: Path | None) -> None:
    """Print the findings of a room's bench, and write them as JSON lines.

    Args:
        room: its name.
        findings: what was measured.
        json_file: where to write them, with the machine; None does not.

    Raises:
        typer.Exit: code 1 when a promise is not kept.
    """
    if json_file is not None:
        write_findings(json_file, findings, describe_machine())
    print_findings(findings, title=f"nonet {room} bench")
    if any(finding.kept is False for finding in findings):
        raise typer.Exit(1)


def show_datasets(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """List data sets with their terms.

    Args:
        rows: with name, num_files, local, licence and homepage.
        as_json: the rows as they are.
    """
    if as_json:
        emit_json(rows)
        return
    names = ("name", "num_files", "local", "licence", "homepage")
    print_table(["name", "files", "at hand", "terms", "from"], [[row[name] for name in names] for row in rows])


def fetch_datasets(names: Iterable[str], fetch: Callable[[str], Mapping[str, Path]], as_json: bool) -> None:
    """Fetch data sets one after the other, and print where their files are.

    Args:
        names: which.
        fetch: gets one; its files by role.
        as_json: one document, by name and role.
    """
    found = {}
    for name in names:
        note(f"fetching {name} ...")
        found[name] = fetch(name)
    if as_json:
        emit_json(found)
        return
    for name, paths in found.items():
        for path in paths.values():
            print(f"{name}\t{path}")
