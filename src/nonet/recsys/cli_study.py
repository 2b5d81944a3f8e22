"""`simulate` and `doctor`: what a log would gain, and how a job is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nonet.recsys import cli_options as options

if TYPE_CHECKING:
    from nonet.recsys.running.checking import Check


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(simulate)
    app.command()(doctor)


def simulate(
    data: Annotated[Path, typer.Option(metavar="FILE", help="Rows with their times, also .gz and .zst.")],
    shards: Annotated[
        str, typer.Option(metavar="N,N,...", help="How often to sync over the newest rows.")
    ] = "10,50,100",
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, max=100, help="Runs of each, with other first weights.")
    ] = 3,
    history: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            min=0.01,
            max=0.99,
            show_default="5/7",
            help="Share of the rows, the oldest, to begin with.",
        ),
    ] = 5 / 7,
    job: options.Job = None,
    kind: options.Format = None,
    label: options.Label = None,
    max_rows: Annotated[int | None, typer.Option(metavar="N", min=2, help="Only the first rows of the file.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Pass over bad lines, and count them.")] = False,
    seed: options.Seed = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE.html", help="Page with charts.")] = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Say what fresher syncs would have bought, on your log.

    The paper's Algorithm 1: learn from the older rows; then, shard by shard of the newest, sync a serving copy, score
    the shard with it, learn from the shard. A copy that is never synced again stands beside it.

    \b
    Examples:
      nonet recsys simulate --data ratings.csv --shards 10,50,100 -o fresh.html
      nonet recsys simulate --data clicks.csv --job shop/job.yaml --seeds 1
      nonet recsys simulate --data train.txt --format criteo --max-rows 1000000
    """
    from nonet.common.console import emit_json, note, print_table
    from nonet.common.errors import InputError
    from nonet.recsys.freshness.simulate import simulate as run
    from nonet.recsys.reading.blocks import BadLines
    from nonet.recsys.running import reporting
    from nonet.recsys.running.batch_stage import FileRows
    from nonet.recsys.running.parts import build_trainer

    options.start(quiet)
    numbers = options.whole_numbers(shards, "--shards")
    bad = BadLines("skip" if skip_bad else "raise")
    settings = options.job_of(job, data, kind, label, "deepfm")
    source = FileRows.of(settings, data, kind=kind, label=label, bad=bad, max_rows=max_rows)
    rows, rule = source.sorted(), source.form.label
    note(f"{data}: {len(rows):,} rows, {float(rows.label.mean()):.1%} positive by {rule}")
    for line in bad.first:
        note(f"passed over: {line}")
    if len(set(rows.label.tolist())) < 2:
        raise InputError(f"{data}: all rows are alike by the rule {rule!r}; say which are positive with --label")
    make = None if job is None else lambda number: build_trainer(options.with_seed(settings, number))
    done = run(rows, shards=numbers, seeds=range(seed, seed + seeds), history=history, make_trainer=make)
    if out is not None:
        reporting.write_page(out, done, f"{data.name}, positive: {rule}, {seeds} seeds")
    if as_json:
        lines = [asdict(line) for line in done.table()]
        emit_json({"verdict": reporting.verdict(done), "table": lines, "history_rows": done.history_rows, "page": out})
        return
    print_table(reporting.COLUMNS, reporting.freshness_rows(done))
    print(reporting.verdict(done))
    if out is not None:
        print(f"page: {out}")


def doctor(
    source: Annotated[
        Path,
        typer.Argument(metavar="JOB.yaml|SNAPSHOT|DATA", help="A job, running or not; a snapshot; a file of rows."),
    ],
    kind: options.Format = None,
    label: options.Label = None,
    api_key: options.ApiKey = "",
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Look for what is wrong; exit 1 when something is.

    Of a job: damage, lag, staleness, calibration, dead letters. Of a snapshot: damage, NaN, collisions of hashed ids.
    Of rows: bad lines, labels of one kind, order, collisions.

    \b
    Examples:
      nonet recsys doctor shop/job.yaml
      nonet recsys doctor backup/monday
      nonet recsys doctor ratings.csv
    """
    from nonet.common.console import emit_json, print_table
    from nonet.recsys.running.checking import check

    options.start(quiet)
    found = check(source, kind=kind, label=label, token=api_key)
    if as_json:
        emit_json([asdict(one) for one in found])
    else:
        print_table(["what", "how it is", "state", "what to do"], [_cells(one) for one in found])
    if any(one.state == "bad" for one in found):
        raise typer.Exit(1)


def _cells(one: Check) -> list[Any]:
    state = {"good": "ok", "bad": "LOOK"}.get(one.state, "")
    return [one.name, one.value, state, one.advice if one.state == "bad" else ""]
