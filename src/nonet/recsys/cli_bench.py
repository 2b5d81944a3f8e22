"""The verb that measures the room beside its rivals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nonet.recsys import cli_options as options


def bench(
    full: Annotated[bool, typer.Option("--full/--quick", help="All sizes (20 minutes), or two minutes.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="These experiments only, such as speed or joiner.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the findings as JSON lines.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Measure this room against its rivals; exit code 1 when a promise is not kept.

    TFRA and TorchRec run in environments of their own, which `make bench` makes; where they lack, a note says so.

    Examples:

        nonet recsys bench --quick --json findings.jsonl

        nonet recsys bench --full --only speed --only memory
    """
    from nonet.common.verbs import report_findings
    from nonet.recsys.bench import bench as measure

    options.start(quiet)
    report_findings("recsys", measure("full" if full else "quick", only or ()), json_file)


def register(app: typer.Typer) -> None:
    """Add the verb to the room's command line."""
    app.command()(bench)
