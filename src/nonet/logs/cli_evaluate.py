"""The verbs `evaluate`, `twin`, `data` and `bench` of `nonet logs`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nonet.logs import cli_completion as completion
from nonet.logs import cli_options as options

if TYPE_CHECKING:
    from nonet.logs.evaluation.job import PairResult

data_app = typer.Typer(
    no_args_is_help=True,
    help="Labelled data sets: what there is, where it is, its terms; fetch and verify.",
    epilog="Example: nonet logs data list",
)


def register(app: typer.Typer) -> None:
    """Add the verbs to the room's command line."""
    app.command()(evaluate)
    app.command()(twin)
    app.add_typer(data_app, name="data")
    app.command()(bench)


def evaluate(
    data: options.Data,
    parsers: options.Parsers = "nonet",
    mode: options.Mode = "compat",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Run directory. [default: named by what is asked]")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Limit of a pair, log to CSV.")] = 43_200.0,
    memory_gib: Annotated[float | None, typer.Option(min=0.01, metavar="GIB", help="Limit of a pair's memory.")] = None,
    workers: Annotated[int, typer.Option("--workers", "-j", min=1, help="Pairs at a time; 1 for clean timing.")] = 1,
    engine: options.Engine = "local",
    resume: Annotated[bool, typer.Option(help="Go on with what the run directory holds.")] = True,
    rules: options.Rules = None,
    slices: options.Slices = None,
    settings: options.ParserSettings = None,
    keep_outputs: Annotated[bool, typer.Option("--keep-outputs", help="Keep the CSV pairs.")] = False,
    html: options.Html = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Run parsers over labelled logs and show their scores beside the published ones.

    A run that was interrupted goes on where it stopped when the same command is given again. Exit code 1 when no pair
    finished.

    Examples:

        nonet logs evaluate --parsers all --data loghub2/Linux,loghub2/Proxifier --mode compat

        nonet logs evaluate --parsers nonet,Drain --data my-labelled-logs/ -o runs/mine --html runs/mine.html

        nonet logs evaluate --parsers Drain --data loghub2/Linux --set Drain.st=0.5 --set Drain.depth=4
    """
    from nonet.common.console import emit_json
    from nonet.logs.evaluation.experiment import evaluate as compute
    from nonet.logs.evaluation.view import print_evaluation

    options.start(quiet)
    options.note_compilation()
    report = compute(
        parsers,
        data,
        mode=mode,  # type: ignore[arg-type]  # checked there
        out_dir=out,
        timeout_s=timeout,
        memory_gib=memory_gib,
        workers=workers,
        engine=engine,  # type: ignore[arg-type]  # checked there
        resume=resume,
        rules=rules,
        slices=None if slices is None else [name.strip() for name in slices.split(",")],
        settings=settings or (),
        keep_outputs=keep_outputs,
        progress=_note_pair,
    )
    if html is not None:
        report.write_html(html)
    if as_json:
        emit_json({"folder": report.folder, "rows": report.table(), "means": report.averages()})
    else:
        print_evaluation(report)
    if all(result.status != "finished" for result in report.results):
        raise typer.Exit(1)


def _note_pair(done: int, total: int, result: PairResult) -> None:
    from nonet.common.console import note

    reason = f" ({result.error})" if result.error else ""
    note(f"[{done}/{total}] {result.parser} on {result.data}: {result.status}{reason}, {result.wall_s:.1f} s")


def twin(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The log; .gz and .zst names are compressed.")
    ],
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many lines.")] = 100_000,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the labels, *.parquet or *.csv.")
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Twin of a Loghub-2.0 system, e.g. HPC. [default: a made-up service]",
            autocompletion=completion.listed(completion.systems),
        ),
    ] = None,
    templates: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Your own list: columns EventTemplate and Occurrences.")
    ] = None,
    header: Annotated[bool, typer.Option(help="Put time, level and component before the message.")] = True,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a synthetic log with labels, of any size; the same seed gives the same bytes.

    Example:

        nonet logs twin -n 1000000 --seed 1 -o twin.log --truth twin.parquet
    """
    from nonet.common.console import emit_json, progress
    from nonet.common.errors import InputError
    from nonet.logs.evaluation import twin as twins

    options.start(quiet)
    if str(out) == "-":
        raise InputError("a twin is written to a file; name one with -o (/dev/stdout for a pipe)")
    if system is not None and templates is not None:
        raise InputError("--system and --templates both name the templates; choose one")
    if system is not None:
        source = twins.system_templates(system)
    else:
        source = twins.builtin_templates() if templates is None else twins.templates_from_csv(templates)
    with progress(lines, "writing", unit="lines") as bar:
        report = twins.twin(source, lines, seed, out, truth, header=header, progress=bar.advance)
    if as_json:
        emit_json(report)
    else:
        labels = "" if truth is None else f", labels in {truth}"
        print(f"{out}: {report.num_lines:,} synthetic lines of {report.num_templates:,} templates{labels}")
        print(f"header format: {report.header_format}")


@data_app.command("list")
def data_list(as_json: options.AsJson = False) -> None:
    """List data sets: size, whether they are at hand, and their terms.

    Example: nonet logs data list
    """
    from nonet.common.console import emit_json, print_table
    from nonet.logs.evaluation.data import list_datasets

    rows = list_datasets()
    if as_json:
        emit_json(rows)
        return
    cells = [[row["name"], row["num_lines"], row["num_templates"], row["local"], row["homepage"]] for row in rows]
    print_table(["name", "lines", "templates", "at hand", "from"], cells, caption=f"terms: {rows[0]['licence']}")


Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A data set, e.g. loghub2/Linux.", autocompletion=completion.listed(completion.data_sets)
    ),
]


@data_app.command("path")
def data_path(name: Name, as_json: options.AsJson = False) -> None:
    """Print where the files of a data set are.

    Example: nonet logs data path loghub2/Linux
    """
    from nonet.logs.evaluation.data import paths_of

    _print_paths(name, paths_of(name), as_json)


@data_app.command("fetch")
def data_fetch(name: Name, as_json: options.AsJson = False, quiet: options.Quiet = False) -> None:
    """Download what is missing of a data set, with its checksum where one is known.

    Example: nonet logs data fetch loghub2/Proxifier
    """
    from nonet.logs.evaluation.data import fetch_dataset

    options.start(quiet)
    _print_paths(name, fetch_dataset(name), as_json)


def _print_paths(name: str, paths: dict[str, Path], as_json: bool) -> None:
    from nonet.common.console import emit_json
    from nonet.common.errors import InputError

    if not paths:
        raise InputError(f"{name}: no file of it is at hand; get it with: nonet logs data fetch {name}")
    if as_json:
        emit_json(paths)
    else:
        for role, path in paths.items():
            print(f"{role}\t{path}")


@data_app.command("verify")
def data_verify(name: Name, as_json: options.AsJson = False) -> None:
    """Check the files of a data set, or of a family such as loghub2k; exit code 1 when one is missing or damaged.

    Example: nonet logs data verify loghub2k/Linux
    """
    from nonet.common.console import emit_json, print_table
    from nonet.logs.evaluation.data import verify_dataset

    rows = verify_dataset(name)
    if as_json:
        emit_json(rows)
    else:
        print_table(["file", "state", "path"], [[row["file"], row["state"], row["path"]] for row in rows])
    if any(row["state"] in ("missing", "damaged") for row in rows):
        raise typer.Exit(1)


@data_app.command("rm")
def data_rm(name: Name, as_json: options.AsJson = False) -> None:
    """Delete what was downloaded of a data set; a mirror is never touched.

    Example: nonet logs data rm loghub2/Linux
    """
    from nonet.common.console import emit_json
    from nonet.logs.evaluation.data import remove_dataset

    removed = remove_dataset(name)
    if as_json:
        emit_json(removed)
    else:
        print("\n".join(map(str, removed)) or f"{name}: nothing of it was downloaded")


def bench(
    full: Annotated[bool, typer.Option("--full/--quick", help="All sizes (some minutes), or the small ones.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the findings as JSON lines.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Measure this room against its rivals and the published tables; exit code 1 when a promise is not kept.

    Example:

        nonet logs bench --quick --json findings.jsonl
    """
    from nonet.common.verbs import report_findings
    from nonet.logs.bench import bench as measure

    options.start(quiet)
    options.note_compilation()
    report_findings("logs", measure("full" if full else "quick"), json_file)
