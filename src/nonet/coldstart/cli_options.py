"""Options that several verbs share. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nonet.common.console import set_quiet
from nonet.common.errors import InputError

TraceFolder = Annotated[Path, typer.Argument(metavar="TRACE", help="Folder of a trace.")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the trace, new or empty.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a trace that is there.")]
Region = Annotated[str | None, typer.Option(metavar="NAME", help="Region; may be left out when there is one only.")]
Regions = Annotated[
    str, typer.Option(metavar="R1,R3|all", help="Simulate several regions together, for paper:region; all = every one.")
]
RoundTrip = Annotated[float, typer.Option(min=0.0, metavar="SECONDS", help="Round trip between any two regions.")]
Capacity = Annotated[
    str, typer.Option(metavar="PODS,PODS", help="Pods that each region holds, in that order. [default: no limit]")
]
Days = Annotated[int, typer.Option(min=1, max=31, help="Days, from the first of the published month on.")]
Scale = Annotated[float, typer.Option(min=0.0001, max=1.0, help="Share of the functions.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of what is drawn at random.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Also write a self-contained HTML page.")]


def start(quiet: bool) -> None:
    """What every verb does first."""
    if quiet:
        set_quiet(True)


def source_of(text: str) -> tuple[str, list[Path]]:
    """A format and its paths, from `FORMAT:PATH[,PATH]`.

    >>> source_of("k8s:pods.json,events.json")
    ('k8s', [PosixPath('pods.json'), PosixPath('events.json')])
    """
    name, colon, paths = text.partition(":")
    found = [Path(path) for path in paths.split(",") if path]
    if not colon or not found:
        raise InputError(f"--from {text!r}: expected FORMAT:PATH, such as k8s:pods.json; see: nonet coldstart formats")
    return name, found


def named_values(texts: Sequence[str] | None) -> dict[str, str]:
    """Options from `NAME=VALUE` each."""
    values = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InputError(f"--set {text!r}: expected NAME=VALUE; see: nonet coldstart formats")
        values[name] = value
    return values


def microseconds(seconds_or_none: float | None) -> int | None:
    """Seconds to whole microseconds."""
    return None if seconds_or_none is None else round(seconds_or_none * 1e6)


def share(text: str, option: str) -> float:
    """A share from `0.5%` or `0.005`.

    >>> share("0.5%", "--max-cold-rate"), share("0.25", "--max-cold-rate")
    (0.005, 0.25)
    """
    number, factor = (text[:-1], 0.01) if text.endswith("%") else (text, 1.0)
    value = _number(number, text, option, "a share such as 0.5% or 0.005") * factor
    if not 0 <= value <= 1:
        raise InputError(f"{option} {text}: expected a share between 0 and 100%")
    return value


def seconds(text: str, option: str) -> float:
    """Seconds from `2s`, `500ms`, `1m` or `2`.

    >>> seconds("500ms", "--max-p99"), seconds("2", "--max-p99")
    (0.5, 2.0)
    """
    for unit, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0)):
        if text.endswith(unit):
            return _number(text[: -len(unit)], text, option, "a time such as 2s or 500ms") * factor
    return _number(text, text, option, "a time such as 2s or 500ms")


def _number(number: str, text: str, option: str, expected: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InputError(f"{option} {text}: expected {expected}")
    return value


def region_names(regions: str, region: str | None) -> list[str]:
    """The regions of `--regions`; none for "all".

    >>> region_names("R1,R3", None), region_names("all", None)
    (['R1', 'R3'], [])
    """
    if region is not None:
        raise InputError("give --region (one region by itself) or --regions (several together), not both")
    return [] if regions == "all" else [name.strip() for name in regions.split(",") if name.strip()]


def numbers(text: str, option: str) -> list[float]:
    """Numbers of at least 0 with commas.

    >>> numbers("100,2.5", "--capacity")
    [100.0, 2.5]
    """
    try:
        values = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        values = [-1.0]
    if not all(value >= 0 for value in values):
        raise InputError(f"{option} {text!r}: expected numbers of at least 0, such as 100,50")
    return values
