"""The command line of the room: `nonet logs VERB`. It parses options, calls the API and prints; no more.

`evaluate`, `twin`, `data` and `bench` are in `cli_evaluate`, shared options in `cli_options`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nonet.logs import cli_completion as completion
from nonet.logs import cli_evaluate
from nonet.logs import cli_options as options
from nonet.logs.mining.shape import Kind

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Parse logs into templates and typed parameters; evaluate log parsers at full scale.",
    epilog="Start with: nonet logs top FILE",
)
_NO_TYPE = {Kind.STAR, Kind.RAW, Kind.SPACE, Kind.REST, Kind.USER}
_TYPES = ", ".join(kind.name.lower() for kind in Kind if kind not in _NO_TYPE)


@app.command(epilog=f"Types of parameters: {_TYPES}; the name of a mask of your own; str for words.")
def parse(
    source: options.Source = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for lines, templates and parameters (Parquet)."),
    ] = None,
    csv: Annotated[
        bool, typer.Option("--csv", help="Write the pair FILE_structured.csv, FILE_templates.csv to DIR (or here).")
    ] = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="One JSON object a line on stdout, typed parameters in it.")
    ] = False,
    as_json: options.AsJson = False,
    limit: options.Limit = 20,
    header: options.Header = "auto",
    multiline: options.Multiline = "auto",
    input_format: options.InputFormat = "auto",
    json_field: options.JsonField = None,
    content_column: options.ContentColumn = None,
    mask: options.Masks = None,
    max_clusters: options.MaxClusters = None,
    state: options.State = None,
    quiet: options.Quiet = False,
) -> None:
    """Split lines into template and typed parameters, exactly.

    Every line is kept: template and parameters (and odd blanks beside them) give it back byte for byte.

    Examples:

        nonet logs parse app.log -o parsed/

        cat app.log | nonet logs parse --jsonl | jq '."log.record.template"'

        nonet logs parse app.log --mask 'req-[0-9a-f]+=request' --csv -o parsed/
    """
    from nonet.common.errors import InputError
    from nonet.logs.parse import parse_file
    from nonet.logs.views.parse_view import output_sinks, print_parse

    options.start(quiet)
    if jsonl and as_json:
        raise InputError("--json and --jsonl both write to stdout; choose one")
    with options.kept_state(mask, max_clusters, state) as miner:
        sinks = output_sinks(source, miner, out=out, csv=csv, jsonl=jsonl)
        with options.pass_progress(source) as progress:
            read = options.reading(header, multiline, input_format, json_field, content_column)
            report = parse_file(source, out=out, sinks=sinks, miner=miner, progress=progress, **read)
    if not jsonl:
        _show(report, as_json, lambda: print_parse(report, limit))


@app.command()
def top(
    source: options.Source = "",
    limit: options.Limit = 20,
    sort: Annotated[
        str,
        typer.Option(
            metavar="count|rare|new|last",
            help="Order of the rows.",
            autocompletion=completion.one_of("count", "rare", "new", "last"),
        ),
    ] = "count",
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From a time on, or a span before the newest line: 15m, 1h, 2d.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before a time; as --since.")] = None,
    samples: options.Samples = False,
    html: options.Html = None,
    as_json: options.AsJson = False,
    header: options.Header = "auto",
    multiline: options.Multiline = "auto",
    input_format: options.InputFormat = "auto",
    json_field: options.JsonField = None,
    content_column: options.ContentColumn = None,
    mask: options.Masks = None,
    quiet: options.Quiet = False,
) -> None:
    """Show templates by count, with their share, their course over time, and NEW for those of the last tenth.

    Examples:

        nonet logs top /var/log/dpkg.log

        nonet logs top app.log.zst --since 1h --sort new --samples

        nonet logs top app.log --html top.html
    """
    from nonet.logs.views.top import top as compute
    from nonet.logs.views.top_view import num_columns, print_top, write_top_html

    options.start(quiet)
    miner = options.open_miner(mask, None, None)
    with options.pass_progress(source) as progress:
        read = options.reading(header, multiline, input_format, json_field, content_column)
        report = compute(
            source,
            since=since,
            until=until,
            limit=limit,
            sort=sort,  # type: ignore[arg-type]  # checked there
            max_columns=num_columns(),
            miner=miner,
            progress=progress,
            **read,
        )
    if html is not None:
        write_top_html(report, html)
    _show(report, as_json, lambda: print_top(report, samples=samples))


@app.command()
def diff(
    before: options.Source = "",
    after: Annotated[str | None, typer.Argument(metavar="[FILE2]", help="The log to compare it with.")] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Compare FILE before and from TIME on, instead of two files.")
    ] = None,
    limit: options.Limit = 20,
    samples: options.Samples = False,
    html: options.Html = None,
    as_json: options.AsJson = False,
    header: options.Header = "auto",
    multiline: options.Multiline = "auto",
    input_format: options.InputFormat = "auto",
    json_field: options.JsonField = None,
    content_column: options.ContentColumn = None,
    mask: options.Masks = None,
    quiet: options.Quiet = False,
) -> None:
    """Show which templates are new, gone, more or less frequent between two logs or two periods.

    Examples:

        nonet logs diff yesterday.log today.log

        nonet logs diff app.log --at 2026-11-22T12:30 --samples

        nonet logs diff app.log --at 1h
    """
    from nonet.logs.views.diff import diff as compute
    from nonet.logs.views.diff_view import print_diff, write_diff_html

    options.start(quiet)
    miner = options.open_miner(mask, None, None)
    with options.pass_progress(*([before] if after is None else [before, after])) as progress:
        read = options.reading(header, multiline, input_format, json_field, content_column)
        report = compute(before, after, at=at, limit=limit, miner=miner, progress=progress, **read)
    if html is not None:
        write_diff_html(report, html)
    _show(report, as_json, lambda: print_diff(report, samples=samples))


@app.command()
def compare(
    source: options.Source = "",
    parsers: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Parsers, separated by commas: nonet, Drain, AEL, ...; all for every one.",
            autocompletion=completion.listed(completion.parsers),
        ),
    ] = "nonet,Drain,AEL,IPLoM,LFA,Spell",
    max_lines: Annotated[int, typer.Option(min=0, help="Messages to take from the front; 0 for all.")] = 100_000,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Limit for each parser.")] = 300.0,
    mode: Annotated[
        str,
        typer.Option(
            metavar="fixed|compat",
            help="Mode of the reference parsers.",
            autocompletion=completion.one_of("fixed", "compat"),
        ),
    ] = "fixed",
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
    header: options.Header = "auto",
    multiline: options.Multiline = "auto",
    input_format: options.InputFormat = "auto",
    json_field: options.JsonField = None,
    content_column: options.ContentColumn = None,
    mask: Annotated[
        list[str] | None, typer.Option("--mask", metavar="PATTERN", help="A mask that every parser is given.")
    ] = None,
    settings: options.ParserSettings = None,
    quiet: options.Quiet = False,
) -> None:
    """Compare our miner with reference parsers on a log of your own; no labels are needed.

    Exit code 1 when no parser finished.

    Examples:

        nonet logs compare app.log

        nonet logs compare app.log --parsers nonet,Drain,Spell --mask 'blk_-?[0-9]+' --json
    """
    from nonet.common.console import note
    from nonet.logs.views.compare import compare as compute
    from nonet.logs.views.compare_view import print_compare

    options.start(quiet)
    options.note_compilation()
    report = compute(
        source,
        parsers,
        max_lines=max_lines,
        timeout_s=timeout,
        masks=mask or (),
        mode=mode,  # type: ignore[arg-type]  # checked there
        settings=settings or (),
        seed=seed,
        progress=lambda one: note(f"{one.parser}: {one.status}"),
        **options.reading(header, multiline, input_format, json_field, content_column),
    )
    _show(report, as_json, lambda: print_compare(report))
    if all(one.status != "finished" for one in report.parsers):
        raise typer.Exit(1)


def _show(report: Any, as_json: bool, show: Any) -> None:
    from nonet.common.console import emit_json

    if as_json:
        emit_json(report)
    else:
        show()


cli_evaluate.register(app)
