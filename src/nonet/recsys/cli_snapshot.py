"""`snapshot` and `restore`: copies of what a job keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nonet.recsys import cli_options as options

Shards = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, max=1024, help="Write each table in so many shards. [default: as it is]"),
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(snapshot)
    app.command()(restore)


def snapshot(
    source: Annotated[Path, typer.Argument(metavar="JOB.yaml|SNAPSHOT", help="Job, running or not, or a snapshot.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the copy, or of the export.")],
    shards: Shards = None,
    export: Annotated[
        str | None, typer.Option(metavar="parquet|safetensors", help="Write the rows for others to read instead.")
    ] = None,
    api_key: options.ApiKey = "",
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Copy what a job has learned, or export its rows.

    Every file is checked. A job that runs on this machine writes a fresh snapshot first, and runs on.

    \b
    Examples:
      nonet recsys snapshot shop/job.yaml -o backup/monday
      nonet recsys snapshot shop/job.yaml -o rows --export parquet
      nonet recsys snapshot backup/monday -o four --shards 4
    """
    from nonet.common.console import emit_json, note
    from nonet.recsys.running import keeping
    from nonet.recsys.running.control import ask_running, refuse_running, running_at

    options.start(quiet)
    refuse_running(out)
    place = options.snapshot_place(source)
    running = running_at(place) if source.is_file() else None
    if running is not None:
        ask_running(running, "POST", "/v1/snapshot", api_key)
        note(f"the job at {running['address']} has written a fresh snapshot")
    if export is not None:
        written = keeping.export(place, out, export)
    else:
        keeping.copy(place, out, num_shards=shards)
        written = [out]
    about = keeping.describe(out if export is None else place)
    if as_json:
        emit_json({"written": written, **about})
        return
    print(f"{', '.join(map(str, written))}: {_said(about)}")


def restore(
    source: Annotated[Path, typer.Argument(metavar="SNAPSHOT", help="Such as of `nonet recsys snapshot` or `train`.")],
    job: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="Job that shall go on from it; it must not run.")],
    shards: Shards = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Let a job go on from a snapshot.

    The snapshot is checked and takes the place of the job's own. The next `up` begins there and replays the log from
    where the snapshot was written.

    \b
    Examples:
      nonet recsys restore backup/monday shop/job.yaml
      nonet recsys restore backup/monday shop/job.yaml --shards 4
    """
    from nonet.common.console import emit_json
    from nonet.recsys.config import load_job
    from nonet.recsys.running import keeping
    from nonet.recsys.running.control import refuse_running

    options.start(quiet)
    settings = load_job(job)
    place = settings.snapshot.path
    refuse_running(place)
    keeping.load(source, settings)
    keeping.bring_back_dictionaries(source, settings)
    keeping.copy(source, place, num_shards=shards)
    about = keeping.describe(place)
    if as_json:
        emit_json({"written": [place], **about})
        return
    print(f"{place}: {_said(about)}")


def _said(about: dict[str, object]) -> str:
    keys = about["keys"]
    assert isinstance(keys, dict)
    tables = ", ".join(f"{name} {count:,} keys in {about['shards']} shards" for name, count in keys.items())
    return f"{tables}; {about['items']:,} items; {about['steps']:,} steps; log at {about['offsets'] or 'its beginning'}"
