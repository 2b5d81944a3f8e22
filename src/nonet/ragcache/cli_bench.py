"""The verb `bench` of `nonet ragcache`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nonet.ragcache import cli_options as options


def bench(
    full: Annotated[bool, typer.Option("--full/--quick", help="All sizes (hours), or some minutes.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="These experiments only, such as quality or peers.")
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Your own, for quality: JSON lines with question, top5 (chunk ids), answer."),
    ] = None,
    chunks: Annotated[Path | None, typer.Option(metavar="FILE", help="JSON lines with chunk_id and text.")] = None,
    arrivals: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Replay a request trace's times and lengths: Azure LLM, BurstGPT, ShareGPT, Mooncake."
        ),
    ] = None,
    model: options.Model = "smollm2",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the findings as JSON lines.")
    ] = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Measure this room against its rivals and full recomputation; exit code 1 when a promise is not kept.

    With --questions only quality is measured, with --arrivals only the load of that trace, unless --only says more.

    Examples:

        nonet ragcache bench --quick --json findings.jsonl

        nonet ragcache bench --full --questions asked.jsonl --chunks chunks.jsonl

        nonet ragcache bench --arrivals AzureLLMInferenceTrace_conv.csv
    """
    from nonet.common.verbs import report_findings
    from nonet.ragcache.bench import bench as measure

    options.start(quiet, threads)
    found = measure(
        "full" if full else "quick",
        only or (),
        model=model,
        questions=questions,
        chunks=chunks,
        arrivals=arrivals,
    )
    report_findings("ragcache", found, json_file)
