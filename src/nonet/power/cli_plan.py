"""The verbs `plan` and `sweep` of `nonet power`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nonet.power import cli_options as options

if TYPE_CHECKING:
    from nonet.power.planning.plan import Plan
    from nonet.power.planning.scenario import Scenario

_QUICK_DAYS = 2.0
Slos = Annotated[
    list[str] | None,
    typer.Option(metavar="CLASS:P50,P99", help="Most more latency in percent, such as hp:1,5. [default: the paper's]"),
]
Seeds = Annotated[int | None, typer.Option(min=1, help="Draws of the traffic. [default: 3]")]
Workers = Annotated[int | None, typer.Option(min=1, help="Runs at a time. [default: one for each core]")]
Engine = Annotated[
    str | None,
    typer.Option(metavar="threads|local|ray", help="Where runs go. [default: threads; processes from nine workers on]"),
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(plan)
    app.command()(sweep)


def plan(
    row: options.RowArgument = "polca-base",
    load: options.Load = None,
    profile: options.ProfileName = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FILE", help="Policies; the first is asked for. [default: the row file's, or polca]"),
    ] = None,
    slo: Slos = None,
    max_added: Annotated[float | None, typer.Option(min=0.0, help="Largest share of added servers.")] = None,
    step: Annotated[float | None, typer.Option(min=0.001, help="Share between steps. [default: 0.025]")] = None,
    seeds: Seeds = None,
    days: options.LoadDays = None,
    quick: Annotated[bool, typer.Option("--quick", help="Two days of traffic.")] = False,
    with_sweep: Annotated[bool, typer.Option("--sweep", help="A heat map of thresholds on the page, too.")] = False,
    workers: Workers = None,
    engine: Engine = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Also write an HTML page.")] = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Ask how many more servers fit under the budget with no brake and latencies within their limits; exit 1 if none.

    Examples:

        nonet power plan --quick

        nonet power plan row.toml --load week.csv --profile mine.json --slo hp:1,5 --slo lp:5,50 --seeds 5 -o plan.html
    """
    from nonet.common.console import emit_json, note
    from nonet.power.planning import plan as ask
    from nonet.power.planning import sweep as grid
    from nonet.power.planning.page import write_page

    options.start(quiet)
    given = {
        "max_added": max_added,
        "step": step,
        "seeds": seeds,
        "days": _QUICK_DAYS if quick and days is None else days,
    }
    scenario = options.scenario_of(row, load, profile, policy or [], slo or [], given)
    spread: dict[str, Any] = {"workers": workers, "engine": engine, "progress": _progress}
    found = ask(**scenario.arguments(), **spread)
    if out is not None:
        thresholds = None
        if with_sweep:
            note("thresholds against servers ...")
            thresholds = grid(**_sweep_arguments(scenario), policy=scenario.policies[0], **spread)
        write_page(out, found, thresholds)
    if as_json:
        emit_json(found.to_dict())
    else:
        _print_plan(found)
        if out is not None:
            print(f"wrote {out}")
    if not found.best.fits:
        raise typer.Exit(1)


def sweep(
    row: options.RowArgument = "polca-base",
    load: options.Load = None,
    profile: options.ProfileName = None,
    policy: Annotated[str, typer.Option(metavar="NAME|FILE", help="A policy with T1 and T2.")] = "polca",
    t1: Annotated[str, typer.Option(metavar="T1,T1", help="Lower thresholds. [default: the paper's pairs]")] = "",
    t2: Annotated[str, typer.Option(metavar="T2,T2", help="Upper thresholds.")] = "",
    added: Annotated[str, typer.Option(metavar="SHARE,SHARE", help="Added servers.")] = "0.2,0.3,0.35",
    slo: Slos = None,
    seeds: Seeds = None,
    days: options.LoadDays = None,
    workers: Workers = None,
    engine: Engine = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Try thresholds against added servers: brakes and latency of each pair.

    Examples:

        nonet power sweep --days 2 --seeds 1

        nonet power sweep row.toml --t1 0.75,0.8 --t2 0.85,0.9 --added 0.25,0.3
    """
    from nonet.common.console import emit_json, print_table
    from nonet.common.errors import InputError
    from nonet.power.planning import sweep as grid
    from nonet.power.planning import threshold_grid
    from nonet.power.planning.slo import LATENCIES, percent

    options.start(quiet)
    scenario = options.scenario_of(row, load, profile, [policy], slo or [], {"seeds": seeds, "days": days})
    if bool(t1) != bool(t2):
        raise InputError("--t1 and --t2 belong together; leave both out for the paper's pairs")
    pairs: dict[str, Any] = {}
    if t1:
        pairs["thresholds"] = threshold_grid(options.numbers(t1, "--t1"), options.numbers(t2, "--t2"))
    arguments = _sweep_arguments(scenario) | {"added": options.numbers(added, "--added")}
    spread: dict[str, Any] = {"workers": workers, "engine": engine, "progress": _progress}
    found = grid(**arguments, **pairs, policy=scenario.policies[0], **spread)
    if as_json:
        emit_json(found.rows())
        return
    columns = ["T1-T2", "added", "brakes", "holds", "HP p50", "HP p99", "LP p50", "LP p99", "LP capped"]
    rows = [
        [
            cell["thresholds"], f"{cell['fraction']:.1%}", cell["brakes"], "yes" if cell["holds"] else "no",
            *(percent(cell.get(name)) for name in LATENCIES), f"{cell['lp_capped']:.0%}",
        ]
        for cell in found.rows()
    ]  # fmt: skip
    print_table(columns, rows)


def _sweep_arguments(scenario: Scenario) -> dict[str, Any]:
    return {
        name: value
        for name, value in scenario.arguments().items()
        if name in ("row", "make_load", "slo", "seeds", "days")
    }


def _progress(done: int, text: str) -> None:
    from nonet.common.console import note

    note(f"{done} runs: {text}")


def _print_plan(found: Plan) -> None:
    from nonet.common.console import print_table
    from nonet.power.planning.slo import LATENCIES, percent

    best = found.best
    rows = [
        [
            f"{step.fraction:.1%}", step.added, step.brakes, f"{step.peak:.1%}",
            *(percent(step.impact.get(name)) for name in LATENCIES),
            f"{step.capped['lp']:.0%}", ", ".join(step.broken) if step.broken else "",
        ]
        for step in best.steps
    ]  # fmt: skip
    print_table(
        ["added", "servers", "brakes", "peak", "HP p50", "HP p99", "LP p50", "LP p99", "LP capped", "breaks"], rows
    )
    for other in list(found.policies.values())[1:]:
        print(other.sentence())
    for warning in found.warnings:
        print(f"mind: {warning}")
    print(found.sentence())
