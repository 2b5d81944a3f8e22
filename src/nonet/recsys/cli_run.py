"""`up`, which runs a job, and `train`, its batch stage."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nonet.recsys import cli_options as options

if TYPE_CHECKING:
    from nonet.recsys.running.batch_stage import Trained
    from nonet.recsys.running.loop import Loop


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(train)
    app.command()(up)


def train(
    data: Annotated[Path | None, typer.Option(metavar="FILE", help="Rows, also .gz and .zst.")] = None,
    log: Annotated[
        str | None, typer.Option(metavar="URL", help="Examples of a log instead: file:DIR, kafka://HOST:PORT, ...")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="SNAPSHOT", help="Folder; a snapshot in it is replaced.")
    ] = Path("snapshots"),
    job: options.Job = None,
    arm: options.OfArm = None,
    preset: Annotated[str, typer.Option(metavar="deepfm|dlrm|fm|lr", help="Model, when there is no --job.")] = "deepfm",
    begin: options.Begin = None,
    one_pass: options.OnePass = False,
    epochs: Annotated[int, typer.Option(metavar="N", min=1, help="Times through the rows.")] = 1,
    until: options.Until = None,
    kind: options.Format = None,
    label: options.Label = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Pass over bad lines, and count them.")] = False,
    window: Annotated[int, typer.Option(metavar="N", min=1, help="Rows that a line of the table sums up.")] = 10_000,
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Of network and tables. [default: the job's]")
    ] = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Learn from a file or a log, and show how well.

    Every row is scored before it is learned. The result is a snapshot, from which `up` goes on when it is the job's.

    \b
    Examples:
      nonet recsys train --data ratings.csv -o snapshots
      nonet recsys train --data ratings.csv --job movies/job.yaml \\
          --until 1998-03-01 -o movies/snapshots
      nonet recsys train --data ratings.csv --job movies/job.yaml \\
          --arm wide -o movies/snapshots
      nonet recsys train --log file:shop/log --job shop/job.yaml \\
          --from shop/snapshots -o better
    """
    from nonet.common.console import note, progress
    from nonet.common.errors import InputError
    from nonet.recsys.logs import open_log
    from nonet.recsys.reading.blocks import BadLines
    from nonet.recsys.running import keeping
    from nonet.recsys.running.arms import arm_job
    from nonet.recsys.running.batch_stage import FileRows, train_file, train_log
    from nonet.recsys.running.control import refuse_running
    from nonet.recsys.running.parts import build_trainer

    options.start(quiet)
    if (data is None) == (log is None):
        raise InputError("give --data FILE, or --log URL")
    refuse_running(out)
    settings = keeping.job_of(begin) if begin and not job else options.job_of(job, data, kind, label, preset)
    if arm is not None:
        settings, out = arm_job(settings, arm), keeping.arm_place(out, arm)
    settings = options.with_seed(settings, seed)
    if begin and data:  # the examples of a log have their ids already
        keeping.bring_back_dictionaries(begin, settings)
    trainer, items, event_ts_ms = keeping.load(begin, settings) if begin else (build_trainer(settings), {}, 0)
    with progress(None, "learning", unit="rows") as bar:
        told: dict[str, Any] = {"window_rows": window, "advance": bar.advance}
        told["until_ms"] = None if until is None else options.time_ms(until)
        if data is not None:
            source = FileRows.of(settings, data, kind=kind, label=label, bad=BadLines("skip" if skip_bad else "raise"))
            rows = settings.trainer.batch_size
            done = train_file(trainer, source, batch_rows=rows, epochs=epochs, one_pass=one_pass, **told)
            for line in source.bad.first:
                note(f"passed over: {line}")
        else:
            with open_log(log or "") as opened:
                done = train_log(trainer, opened, settings, **told)
    keeping.save(out, settings, trainer, {**items, **done.items}, event_ts_ms=max(event_ts_ms, done.event_ts_ms))
    _print_trained(done, out, as_json)


def _print_trained(done: Trained, out: Path, as_json: bool) -> None:
    from nonet.common.console import emit_json, print_table

    if as_json:
        emit_json({**options.without(asdict(done), "items"), "rows_per_s": done.rows_per_s, "snapshot": out})
        return
    lines = [*((options.day(w.first_ts_ms), w) for w in done.windows), *([("whole", done.whole)] if done.whole else [])]
    rows = [
        [name, w.rows, w.positives / max(w.rows, 1), w.auc, w.normalised_entropy, w.log_loss, w.calibration]
        for name, w in lines
    ]
    print_table(
        ["from", "rows", "positive", "AUC", "NE", "log loss", "calibration"],
        rows,
        title="Progressive validation: each row was scored before it was learned",
        caption="NE below 1 is better than the mean rate; calibration is expected over observed positives.",
    )
    keys = ", ".join(f"{name} {count:,}" for name, count in done.keys.items())
    print(f"{done.rows:,} rows, {done.rows_per_s:,.0f} rows/s; keys: {keys}; admitted {done.admitted:.1%} of updates")
    print(f"tables {done.num_bytes / 1e6:,.1f} MB, process {done.peak_bytes / 1e6:,.0f} MB at most; snapshot: {out}")


def up(
    job: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="Job file, such as of `nonet recsys init`.")],
    items: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Items and attributes: .csv, .tsv, .jsonl, .parquet.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Address to bind; a wide one needs --api-key. [default: the job's]"),
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="N", min=0, max=65535, help="0 takes a free one. [default: the job's]")
    ] = None,
    api_key: options.ApiKey = "",
    quiet: options.Quiet = False,
) -> None:
    """Run the whole loop on this machine, until SIGTERM.

    Log, joiner, trainer, shards, sync and server. It begins with the job's last snapshot, and writes one at the end.

    \b
    Examples:
      nonet recsys up movies/job.yaml
      nonet recsys up shop/job.yaml --items items.csv
      RECSYS_API_KEY=secret nonet recsys up shop/job.yaml --host 0.0.0.0
    """
    import signal

    from nonet.common.console import note
    from nonet.recsys.config import load_job
    from nonet.recsys.running.items import read_items
    from nonet.recsys.running.loop import Loop

    options.start(quiet)
    settings = load_job(job)
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = settings.model_copy(update={"http": settings.http.model_copy(update=given)})
    features = settings.features
    known = read_items(items, features.item or "item", features.item_attributes) if items is not None else {}
    loop = Loop(settings, items=known, token=api_key or None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.finish())
    with loop:
        _say_how(loop, bool(api_key))
        loop.wait()
        note("ending: joining and learning what is read, then a snapshot ...")


def _say_how(loop: Loop, needs_key: bool) -> None:
    from nonet.common.console import note

    key = " -H 'authorization: Bearer KEY'" if needs_key else ""
    json = f"-H 'content-type: application/json'{key}"
    labels = loop.job.labels
    print(f"serving {len(loop.catalogue):,} items at {loop.address}", flush=True)
    if not len(loop.catalogue):
        note("no item is known yet, and none can be recommended: name some with --items FILE, or train on a log")
    if len(shares := loop.recommender.assignment.shares) > 1:
        note("arms: " + ", ".join(f"{name} {share / sum(shares.values()):.1%}" for name, share in shares.items()))
    note(f"""
what to show     curl {json} -d '{{"user": "u1", "k": 5}}' {loop.address}/v1/recommend
what was done    curl {json} -d '{{"request_id": "...", "item": "...", "action": "{labels.positive[0]}"}}' \
{loop.address}/v1/actions
how it is        curl{key} {loop.address}/v1/status   (also /readyz, /metrics)
An action is learned {labels.wait + loop.job.joiner.allowed_lateness:g} s after its row was shown, and served at most \
{loop.job.sync_interval:g} s later.
""")
