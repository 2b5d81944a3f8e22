"""Options that several verbs share. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nonet.common.console import set_quiet
from nonet.common.errors import InputError

if TYPE_CHECKING:
    from nonet.power.policies.protocol import Policy
    from nonet.power.profiles import PowerProfile

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of what is drawn at random.")]
Days = Annotated[float, typer.Option(min=0.01, max=366, help="Length of the simulated time.")]
BudgetKw = Annotated[float, typer.Option(metavar="KW", help="Budget of the row, kilowatts.")]


def start(quiet: bool) -> None:
    """What every verb does first."""
    if quiet:
        set_quiet(True)


def numbers(text: str, option: str) -> list[float]:
    """Numbers separated by commas.

    >>> numbers("2,5,40", "--at")
    [2.0, 5.0, 40.0]
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found:
        raise InputError(f"{option} {text!r}: expected numbers separated by commas, such as 2,5,40")
    return found


def policy_of(text: str) -> Policy:
    """A policy from its name, or from a TOML file.

    >>> policy_of("no-cap").name
    'no-cap'
    """
    from nonet.power.policies import POLICIES, build_policy, load_policy

    return build_policy(text) if text in POLICIES else load_policy(text)


def profile_of(text: str) -> PowerProfile:
    """A profile from its name, or from a JSON file that `calibrate` wrote."""
    from nonet.power.profiles import PROFILES, PowerProfile

    if text in PROFILES:
        return PROFILES[text]
    if not Path(text).exists():
        raise InputError(f"{text}: neither a file nor one of the profiles {', '.join(PROFILES)}")
    return PowerProfile.from_json(Path(text).read_text("utf-8"))
