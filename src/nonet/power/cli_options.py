"""Options that several verbs share. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nonet.common.console import note, set_quiet
from nonet.common.errors import InputError

if TYPE_CHECKING:
    from nonet.power.load.power_log import PowerLog
    from nonet.power.planning.scenario import Scenario
    from nonet.power.policies.protocol import Policy
    from nonet.power.policies.view import RowView
    from nonet.power.profiles import PowerProfile

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of what is drawn at random.")]
Days = Annotated[float, typer.Option(min=0.01, max=366, help="Length of the simulated time.")]
Columns = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Columns of power; several are summed. [default: by their names]"),
]
TimeColumn = Annotated[str | None, typer.Option(metavar="NAME", help="Column of the times. [default: by its name]")]
Unit = Annotated[str | None, typer.Option(metavar="W|kW|MW|mW", help="Unit of the power. [default: by its name]")]
RowArgument = Annotated[
    str, typer.Argument(metavar="[ROW]", help="A row file (TOML), or a fitted base row: a preset, or a JSON file.")
]
Load = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Requests instead of the row's own: Parquet, CSV, JSON lines.")
]
ProfileName = Annotated[
    str | None, typer.Option(metavar="NAME|FILE", help="Profile of every server, such as a file of `calibrate`.")
]
LoadDays = Annotated[float | None, typer.Option(min=0.01, max=366, help="Length of the traffic. [default: 7]")]
MOST_OF_BUDGET = 5.0
"""A row does not draw this many times its budget."""
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


def power_log_of(
    path: Path,
    budget_kw: float | None,
    columns: list[str] | None,
    unit: str | None,
    time_column: str | None = None,
) -> PowerLog:
    """A log of row power, what was repaired in it said on stderr; without a budget, of power over budget."""
    import numpy as np

    from nonet.power.load.power_log import read_power_log

    units = ("W", "kW", "MW", "mW")
    if unit is not None and unit not in units:
        raise InputError(f"--unit {unit}: expected one of {', '.join(units)}")
    budget_w = None if budget_kw is None else budget_kw * 1e3
    told = "W" if budget_w is None else unit
    log = read_power_log(
        path,
        budget_w=budget_w,
        unit=told,  # type: ignore[arg-type]
        time_column=time_column,
        power_columns=columns,
    )
    if budget_w is None:
        middle = float(np.nanmedian(log.power_w))
        if middle > MOST_OF_BUDGET:
            raise InputError(f"{path}: a median of {middle:.0f} is no power over budget; give --budget-kw")
    for kind, count in log.notes.items():
        note(f"{path}: {kind}: {count:,}")
    return log


def doubts(log: PowerLog, view: RowView, policy: Policy) -> list[str]:
    """What is odd about a recorded series, the row and the policy's thresholds; a row that trains is refused."""
    from nonet.power.load.rises import rise
    from nonet.power.policies.guards import refuse_training, row_warnings, series_doubts

    refuse_training(log.power_w, view.budget_w)
    found = list(series_doubts(log.power_w, view.budget_w))
    config: Any = getattr(policy, "config", None)
    if hasattr(config, "t1") and hasattr(config, "t2"):
        rise_cap = rise(log.power_w / view.budget_w, max(view.cap_latency_s, log.period_s), log.period_s)
        found += row_warnings(view.priorities, config.t1, config.t2, rise_cap, view.cap_latency_s)
    return found


def scenario_of(
    row: str, load: Path | None, profile: str | None, policies: list[str], slo: list[str], given: dict[str, Any]
) -> Scenario:
    """The question that a row file, or a fitted base row, and the options beside it ask."""
    from nonet.power.planning.scenario import base_scenario, load_scenario

    if row.endswith(".toml"):
        return load_scenario(row, load=load, profile=profile, policies=policies, slo=slo, **given)
    for option, value in (("--load", load), ("--profile", profile)):
        if value is not None:
            raise InputError(f"{option} needs a row file (TOML): a fitted base row brings its own")
    days = given.pop("days") or 7.0
    return base_scenario(row, days=days, policies=policies or ["polca"], slo=slo, **given)


def profile_of(text: str) -> PowerProfile:
    """A profile from its name, or from a JSON file that `calibrate` wrote."""
    from nonet.power.profiles import PROFILES, PowerProfile

    if text in PROFILES:
        return PROFILES[text]
    if not Path(text).exists():
        raise InputError(f"{text}: neither a file nor one of the profiles {', '.join(PROFILES)}")
    return PowerProfile.from_json(Path(text).read_text("utf-8"))
