"""Options that several verbs share. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nonet.common.console import set_quiet

if TYPE_CHECKING:
    from nonet.recsys.config import JobFile

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Seed of what is drawn at random.")]
Format = Annotated[
    str | None,
    typer.Option("--format", metavar="NAME", help="movielens, criteo, avazu, obd, taobao, ... [default: by looking]"),
]
Label = Annotated[
    str | None, typer.Option(metavar="RULE", help="Positive rows, in SQL over the columns. [default: the format's]")
]
Job = Annotated[Path | None, typer.Option("--job", metavar="FILE", help="Job file. [default: one that fits the data]")]
OfArm = Annotated[
    str | None, typer.Option("--arm", metavar="NAME", help="A further arm of the job, beside main in SNAPSHOT.")
]
Begin = Annotated[
    Path | None, typer.Option("--from", metavar="SNAPSHOT", help="Go on from here, a log where it stood.")
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Only rows before: 1998-03-01 or Unix time.")]
OnePass = Annotated[
    bool, typer.Option("--one-pass", help="In the order of the file, in bounded memory. [default: by time]")
]
ApiKey = Annotated[str, typer.Option(envvar="RECSYS_API_KEY", help="Token that clients must send as a bearer.")]


def start(quiet: bool) -> None:
    """What every verb does first."""
    if quiet:
        set_quiet(True)


def job_of(path: Path | None, data: Path | None, kind: str | None, label: str | None, preset: str) -> JobFile:
    """The job of a file, or one that fits the data.

    Raises:
        InputError: neither is there, or it cannot be read.
    """
    from nonet.common.errors import InputError
    from nonet.recsys.config import load_job
    from nonet.recsys.running.starting import columns_of, job_for

    if path is not None:
        return load_job(path)
    if data is None:
        raise InputError("a log needs --job, or --from a snapshot of its job")
    return job_for(columns_of(data, kind=kind, label=label), preset)


def snapshot_place(source: Path) -> Path:
    """The folder of a snapshot, or of that of a job file.

    Raises:
        InputError: there is none yet.
    """
    from nonet.common.errors import InputError
    from nonet.recsys.config import load_job
    from nonet.recsys.running import keeping

    place = load_job(source).snapshot.path if source.is_file() else source
    if not keeping.is_snapshot(place):
        raise InputError(f"{place}: there is no snapshot yet" if source.is_file() else f"{place}: no snapshot")
    return place


def with_seed(job: JobFile, seed: int | None) -> JobFile:
    """The job with other random numbers."""
    if seed is None:
        return job
    trainer = job.trainer.model_copy(update={"seed": seed})
    return job.model_copy(update={"trainer": trainer, "features": job.features.model_copy(update={"seed": seed})})


def time_ms(text: str) -> int:
    """Milliseconds since 1970 from a date, a time (UTC unless it says otherwise) or Unix seconds.

    >>> time_ms("1998-03-01"), time_ms("888710400")
    (888710400000, 888710400000)
    """
    from datetime import UTC, datetime

    from nonet.common.errors import InputError

    try:
        return round(float(text) * 1000)
    except ValueError:
        pass
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{text!r} is no time; write 1998-03-01, 1998-03-01T12:00 or Unix seconds") from None
    return round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)


def whole_numbers(text: str, option: str) -> list[int]:
    """Numbers above 0, separated by commas.

    >>> whole_numbers("10,50", "--shards")
    [10, 50]
    """
    from nonet.common.errors import InputError

    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise InputError(f"{option} {text!r}: expected whole numbers above 0, such as 10,50,100")
    return [int(part) for part in parts]


def day(ts_ms: int) -> str:
    """A time for a table.

    >>> day(888710400000)
    '1998-03-01 00:00'
    """
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """All but some."""
    return {name: value for name, value in values.items() if name not in names}


def seconds(value: Any) -> str:
    """A duration for a person.

    >>> seconds(5.25), seconds(None)
    ('5.25 s', 'none yet')
    """
    return "none yet" if value is None else f"{value:,.3g} s"
