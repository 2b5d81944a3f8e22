"""The command line of the room: `nonet coldstart VERB`. It parses options, calls the API and prints; no more.

`simulate` is in `cli_simulate`, `explain`, `recommend` and `check` in `cli_advise`, shared options in `cli_options`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nonet.coldstart import cli_advise, cli_simulate
from nonet.coldstart import cli_options as options

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Cold starts of serverless functions: where they come from, and what would cut them.",
    epilog="Start with: nonet coldstart ingest --from k8s:pods.json -o trace/",
)
Sources = Annotated[
    list[str],
    typer.Option(
        "--from",
        metavar="FORMAT:PATH[,PATH]",
        help="What to read; several are joined (pods with request logs). Formats: nonet coldstart formats.",
    ),
]


@app.command()
def ingest(
    sources: Sources,
    out: options.Out,
    region: Annotated[str, typer.Option(metavar="NAME", help="Region of sources that do not say.")] = "default",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An option of a format, see: nonet coldstart formats."),
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Convert logs or a published trace into one schema; what cannot be used is kept aside with the reason.

    Examples:

        nonet coldstart ingest --from k8s:pods.json,events.json --from knative:access.log -o trace/

        nonet coldstart ingest --from lambda:cloudwatch.txt -o trace/

        nonet coldstart ingest --from csv:calls.csv --set 'map=arrive=ts:ms,end=done:ms,function=fn' -o trace/
    """
    from nonet.coldstart.importing.base import ingest as convert
    from nonet.common.console import emit_json

    options.start(quiet)
    report = convert(
        [options.source_of(text) for text in sources],
        out,
        region=region,
        options=options.named_values(settings),
        overwrite=overwrite,
    )
    if as_json:
        emit_json(report)
    else:
        print("\n".join(report.lines()))


@app.command()
def formats(as_json: options.AsJson = False) -> None:
    """List the formats that `ingest` reads, what files each expects, and its options.

    Example: nonet coldstart formats
    """
    from nonet.coldstart.importing.base import describe_importers
    from nonet.common.console import emit_json, print_table

    rows = describe_importers()
    if as_json:
        emit_json(rows)
        return
    print_table(["format", "what it is", "files"], [[row["name"], row["help"], row["files"]] for row in rows])
    named = [[row["name"], name, text] for row in rows for name, text in row["options"].items()]
    print_table(["format", "option of --set", "what it does"], named)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A data set or family; none lists them.")] = "",
    region: Annotated[
        list[int] | None, typer.Option(min=1, max=5, help="Regions of huawei2025; all by default.")
    ] = None,
    tables: Annotated[str, typer.Option(metavar="NAMES", help="Tables of huawei2025, separated by commas.")] = "",
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Download published traces into the cache, or list them with their terms.

    Examples:

        nonet coldstart fetch

        nonet coldstart fetch huawei2025 --region 2 --tables cold,runtime
    """
    from nonet.coldstart import data
    from nonet.common.verbs import fetch_datasets, show_datasets

    options.start(quiet)
    if not name:
        show_datasets(data.list_datasets(), as_json)
        return
    wanted = [table.strip() for table in tables.split(",") if table.strip()]
    fetch_datasets(data.select(name, regions=region or (), tables=wanted), data.fetch_dataset, as_json)


@app.command()
def generate(
    out: options.Out,
    preset: Annotated[
        str, typer.Option(metavar="NAME", help="huawei2025, huawei2025:R1 to R5, or poisson:functions=100,rate=0.01.")
    ] = "huawei2025:R2",
    days: options.Days = 31,
    scale: options.Scale = 1.0,
    seed: options.Seed = 0,
    events: Annotated[
        str, typer.Option(metavar="all|cold", help="Requests, or only the published cold starts.")
    ] = "all",
    also: Annotated[
        str, typer.Option(metavar="NAMES", help="Other formats to write besides: invitro, azure2021.")
    ] = "",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a synthetic trace after the published curves; the same seed gives the same bytes.

    Example: nonet coldstart generate --preset huawei2025:R2 --days 2 --scale 0.02 -o trace/
    """
    from nonet.coldstart.generating.exports import write
    from nonet.coldstart.generating.presets import generate as make
    from nonet.common.console import progress

    options.start(quiet)
    workload = make(preset, days=days, scale=scale, seed=seed, events=events)
    formats = [name.strip() for name in also.split(",") if name.strip()]
    with progress(1.0, "generating") as bar:
        done = 0.0

        def advance(share: float) -> None:
            nonlocal done
            bar.advance(share - done)
            done = share

        path = write(workload, out, formats, overwrite=overwrite, progress=advance)
    from nonet.coldstart.trace.store import Trace

    trace = Trace.open(path)
    counts = ", ".join(f"{number:,} {table} rows" for table, number in trace.counts.items() if number)
    print(f"{path}: synthetic, {preset}, {days} days, scale {scale:g}, seed {seed}: {counts}")


@app.command()
def report(
    trace: options.TraceFolder,
    html: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The page.")] = Path("coldstart.html"),
    figures: Annotated[str, typer.Option(metavar="NAMES", help="Only these figures, such as 3a,10a.")] = "",
    compare_published: Annotated[
        bool, typer.Option("--compare-published", help="Draw the published curves beside ours, with the distance.")
    ] = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Write one page with the paper's figures over a trace; it says what a missing figure lacks.

    Example: nonet coldstart report trace/ -o report.html --compare-published
    """
    from nonet.coldstart.analytics.audit import audit as check
    from nonet.coldstart.analytics.claims import paper_claims
    from nonet.coldstart.analytics.published import Published
    from nonet.coldstart.analytics.report import analyse, write_trace_report
    from nonet.coldstart.trace.store import Trace
    from nonet.common.console import emit_json, note

    options.start(quiet)
    opened = Trace.open(trace)
    published = Published.load() if compare_published else None
    names = [name.strip() for name in figures.split(",") if name.strip()] or None
    found = analyse(opened, published=published, names=names, progress=lambda name: note(f"figure {name} ..."))
    audited = check(paper_claims(), published) if published is not None else []
    write_trace_report(opened, html, found, published=published, audited=audited)
    if as_json:
        emit_json({"figures": sorted(found.figures), "missing": found.missing, "distances": found.distances})
    else:
        print(f"{html}: {len(found.figures)} figures, {len(found.missing)} not possible with this trace")


@app.command()
def audit(
    trace: Annotated[
        Path | None, typer.Argument(metavar="[TRACE]", help="Check against a trace; else against the published curves.")
    ] = None,
    claims: Annotated[
        Path | None, typer.Option(metavar="TOML", help="Claims of your own instead of the paper's.")
    ] = None,
    html: options.Html = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Check numeric claims against data: the paper's own by default. Exit code 1 when one is contradicted.

    Example: nonet coldstart audit --html audit.html
    """
    from nonet.coldstart.analytics import audit as auditing
    from nonet.coldstart.analytics.claims import paper_claims, read_claims
    from nonet.coldstart.analytics.figures import Figures
    from nonet.coldstart.analytics.published import Published
    from nonet.coldstart.analytics.report import write_audit_report
    from nonet.coldstart.trace.store import Trace
    from nonet.common.console import emit_json, print_table

    options.start(quiet)
    wanted = paper_claims() if claims is None else read_claims(claims)
    if trace is None:
        results = auditing.audit(wanted, Published.load())
    else:
        with Figures(Trace.open(trace)) as figures:
            results = auditing.audit(wanted, figures)
    if html is not None:
        write_audit_report(html, results, source="the published curves" if trace is None else str(trace))
    if as_json:
        emit_json([result.to_dict() for result in results])
    else:
        shown = auditing.findings(results)
        rows = [[r.claim.id, r.claim.text, r.claim.stated(), _short(r.computed), r.verdict, r.reason] for r in shown]
        print_table(["claim", "what it says", "stated", "computed", "verdict", "why"], rows)
        print(", ".join(f"{number} {verdict}" for verdict, number in auditing.counts(results).items()))
    if any(result.verdict == auditing.CONTRADICTED for result in results):
        raise typer.Exit(1)


def _short(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


cli_simulate.register(app)
cli_advise.register(app)
