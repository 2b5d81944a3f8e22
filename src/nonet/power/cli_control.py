"""`run`: the controller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nonet.power import cli_options as options


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(run)


def run(
    row: Annotated[Path, typer.Argument(metavar="ROW.toml", help="Servers, budget, telemetry and policy of the row.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run/--apply", help="Record what would be written, or write it to allowed servers.")
    ] = True,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="NAMES", help="Servers that may be written to, such as node[01-52].")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="One control period, then end.")] = False,
    replay: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Recorded row power instead of telemetry; always dry.")
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0.0, help="Of the replay: recorded seconds a second; 0 does not wait.")
    ] = 0.0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Control a row until it is stopped: telemetry in, caps and brakes out. Writes nothing without --apply.

    Software caps do not replace breakers.

    Examples:

        nonet power run row.toml

        nonet power run row.toml --apply --allow 'node[01-52]'

        nonet power run row.toml --replay row_power.csv
    """
    import math

    from nonet.common.console import emit_json
    from nonet.power.controlling import RunOptions, load_row_file, run_row

    options.start(quiet)
    how = RunOptions(not dry_run, tuple(allow or ()), once, replay, speed or math.inf)
    report = run_row(load_row_file(row), options=how)
    if as_json:
        commands = [
            {"time_s": at, "action": c.action, "servers": c.servers, "level": c.level, "reason": c.reason}
            for at, c in report.commands
        ]
        emit_json({"ended": report.ended, "periods": report.periods, "caps": report.caps, "commands": commands})
        return
    print(f"{report.ended}: {report.periods} periods, {len(report.commands)} commands, {report.caps} servers capped")
