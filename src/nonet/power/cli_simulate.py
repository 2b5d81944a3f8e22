"""`simulate` and `fit`, and the tables of the other verbs that compute."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nonet.power import cli_options as options

if TYPE_CHECKING:
    from nonet.power.load.rises import RiseReport
    from nonet.power.policies.protocol import Policy
    from nonet.power.profiles import PowerProfile

_HOUR_S = 3600.0
_DAY_H = 23.5
_EPOCH_FROM_S = 1e8


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(fit)
    app.command()(simulate)


def simulate(
    row: options.RowArgument = "polca-base",
    load: options.Load = None,
    profile: options.ProfileName = None,
    policy: Annotated[
        str, typer.Option(metavar="NAME|FILE,...", help="Policies to compare; see: nonet power policies.")
    ] = "polca,one-threshold-low,one-threshold-all,no-cap",
    added: Annotated[float, typer.Option(min=0.0, max=3.0, help="Servers added under the same budget.")] = 0.3,
    days: options.LoadDays = None,
    seed: options.Seed = 1,
    hungrier: Annotated[float, typer.Option(min=0.1, max=10.0, help="Factor on the power of all work.")] = 1.0,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="DIR", help="A run directory a policy.")] = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Simulate a row with more servers than its budget was made for, under several policies on the same traffic.

    Examples:

        nonet power simulate --added 0.3 --days 7

        nonet power simulate mine.json --policy polca.toml,no-cap --added 0.25 -o runs/

        nonet power simulate row.toml --load week.csv --profile mine.json
    """
    from nonet.common.console import emit_json, note
    from nonet.power.simulating import impact
    from nonet.power.simulating import simulate as run

    options.start(quiet)
    policies = _policies(policy)
    grown, requests = options.scenario_of(row, load, profile, [], [], {"days": days}).grown(added, seed)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    fed = grown.servers[0].profile.scaled_power(hungrier) if hungrier != 1.0 else None
    kw = grown.budget.at(0.0) / 1e3
    note(f"{len(requests):,} requests, {grown.num_servers} servers, {kw:.1f} kW: without a policy ...")
    uncapped = run(grown, requests, fed, seed=seed)
    documents, rows = [], []
    for name, one in policies.items():
        note(f"{name} ...")
        result = run(grown, requests, fed, one, seed=seed)
        costs = impact(result, uncapped)
        if out is not None:
            result.write(out / name)
        costs_json = {priority.name.lower(): vars(cost) for priority, cost in costs.items()}
        documents.append({**result.summary(), "impact": costs_json})
        rows.append([name, result.brakes, result.peak, result.overload_s, *_cost_cells(costs), *_capped(result)])
    if as_json:
        emit_json({"uncapped": uncapped.summary(), "policies": documents})
        return
    _print_policies(rows, uncapped.peak)


def _policies(text: str) -> dict[str, Policy]:
    """Policies by the name of their run directory, all read before the first run."""
    from nonet.common.errors import InputError

    found: dict[str, Policy] = {}
    for part in text.split(","):
        name = Path(part).stem
        if not name or name in found:
            raise InputError(f"--policy {text!r}: expected different names or files, separated by commas")
        found[name] = options.policy_of(part)
    return found


def _cost_cells(costs: Any) -> list[str]:
    from nonet.power.policies.protocol import Priority

    cells = []
    for priority in (Priority.HIGH, Priority.LOW):
        cost = costs.get(priority)
        cells += [_percent(cost.p50), _percent(cost.p99)] if cost else ["", ""]
    return cells


def _capped(result: Any) -> list[str]:
    from nonet.power.policies.protocol import Priority

    return [f"{result.capped_share(Priority.LOW):.1%}", f"{result.capped_share(Priority.HIGH):.1%}"]


def _percent(share: float) -> str:
    return f"{share:+.2%}"


def _print_policies(rows: Sequence[Sequence[Any]], peak: float) -> None:
    from nonet.common.console import print_table

    print_table(
        ["policy", "brakes", "peak", "over 100% s", "HP p50", "HP p99", "LP p50", "LP p99", "LP capped", "HP capped"],
        rows,
    )
    print(f"latencies against the same servers and requests without a budget, which would peak at {peak:.1%}")


def fit(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write the base row (JSON).")],
    peak: Annotated[float, typer.Option(min=0.01, max=1.0, help="Peak of the row, share of the budget.")] = 0.79,
    rise_2s: Annotated[float, typer.Option(min=0.001, max=1.0, help="Largest rise within 2 s.")] = 0.09,
    rise_40s: Annotated[float, typer.Option(min=0.001, max=1.0, help="Largest rise within 40 s.")] = 0.118,
    servers: Annotated[int, typer.Option(min=1, help="Servers of the row.")] = 40,
    profile: Annotated[
        str, typer.Option(metavar="NAME", help="Profile of its servers; see: nonet power profiles.")
    ] = "a100-llama2-70b-tp4",
    days: options.Days = 42.0,
    trials: Annotated[int, typer.Option(min=1, help="Candidates that are tried, a week of traffic each.")] = 40,
    confirmed: Annotated[int, typer.Option(min=1, help="Of these, how many at most are run over all the days.")] = 5,
    draws: Annotated[int, typer.Option(min=1, help="Runs of each over all the days; medians are taken.")] = 5,
    seed: options.Seed = 1,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Find traffic whose simulated row power has a measured peak and measured rises; exit 1 when none comes close.

    Examples:

        nonet power fit --peak 0.79 --rise-2s 0.09 --rise-40s 0.118 -o base.json

        nonet power fit --rise-2s 0.05 --rise-40s 0.08 --servers 20 --days 7 --trials 20 --draws 1 -o mine.json
    """
    from dataclasses import asdict

    from nonet.common.console import emit_json, note
    from nonet.power.load.base_row import Statistics
    from nonet.power.load.fit import FitSpace
    from nonet.power.load.fit import fit as search

    options.start(quiet)
    target = Statistics(peak, rise_2s, rise_40s)
    found = search(
        target,
        FitSpace.of_row(profile, servers),
        num_servers=servers,
        days=days,
        short_days=min(7.0, days),
        num_trials=trials,
        num_confirmed=confirmed,
        num_draws=draws,
        seed=seed,
        progress=note,
    )
    found.base.to_json(out)
    base = found.base
    if as_json:
        told = {"is_close": found.is_close, "shortfalls": found.shortfalls}
        emit_json({"base": base.model_dump(mode="json"), "target": asdict(target), **told})
    else:
        print(
            f"{out}: peak {base.peak:.1%}, rise 2 s {base.rise_2s:.1%}, 40 s {base.rise_40s:.1%} over {days:g} days"
            f" (asked: {peak:.1%}, {rise_2s:.1%}, {rise_40s:.1%}); {len(found.trials)} candidates tried"
        )
        if not found.is_close:
            print(f"NOT MET: {'; '.join(found.shortfalls)}")
            print(f"{out} is the nearest found; give more --trials or another --profile")
    if not found.is_close:
        raise typer.Exit(1)


def _when(seconds: float) -> str:
    """A time of the log: UTC for epochs, else seconds."""
    if seconds < _EPOCH_FROM_S:
        return f"{seconds:g} s"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def print_profiles(profiles: Sequence[PowerProfile], refusals: Sequence[str], as_json: bool) -> None:
    """What `calibrate` fitted, with the errors on what was held out."""
    from nonet.common.console import emit_json, print_table
    from nonet.power.profiles.calibration.from_files import held_out_errors

    errors = held_out_errors(profiles)
    if as_json:
        fitted = [one.model_dump(mode="json") for one in profiles]
        emit_json({"profiles": fitted, "held_out": errors, "refused": list(refusals)})
        return
    rows = [
        [
            one.name,
            quantity,
            source.kind,
            ", ".join(f"{name} {error:.1%}" for name, error in source.held_out.items()),
            source.source,
        ]
        for one in profiles
        for quantity, source in one.provenance.items()
    ]
    print_table(["profile", "quantity", "how known", "held-out error", "source"], rows)
    for one in profiles:
        low, high = one.prefill.range_tokens
        first, last = one.decode.range_batch
        print(f"{one.name}: valid for {low:g}-{high:g} prompt tokens in a batch, batches {first:g}-{last:g}")
    if len(profiles) > 1:
        cells = [[f"{v:.1%}" if isinstance(v, float) else v for v in row.values()] for row in errors]
        print_table(["GPU", "held out of", "split", "profiles", "median", "90 %", "worst", "worst profile"], cells)
    for text in refusals:
        print(f"refused: {text}")


def print_predictions(fitted: Sequence[PowerProfile], names: Sequence[str], points: Path, as_json: bool) -> None:
    """The points with predictions: a JSON list, or CSV on stdout."""
    from nonet.common.console import emit_json
    from nonet.power.profiles import PROFILES
    from nonet.power.profiles.predict import predict

    chosen = [*fitted, *(options.profile_of(name) for name in names)] or [PROFILES[name] for name in PROFILES]
    frame = predict(chosen[0] if len(chosen) == 1 else chosen, points)
    if as_json:
        emit_json(frame.to_dicts())
    else:
        print(frame.write_csv(), end="")


def print_rises(report: RiseReport, start_s: float, period_s: float) -> None:
    """Peak, rises and thresholds as text; times of the largest rises, with which an operator finds what made them."""
    from nonet.common.console import print_table

    rows = [
        [f"{r.window_s:g}", f"{r.largest:.1%}", _when(start_s + r.at * period_s), f"{r.quantile:.1%}", f"{r.bound:.1%}"]
        for r in report.rises
    ]
    level, sure = f"{report.level:.2%}", f"{report.confidence:.0%}"
    print_table(["window s", "largest rise", "at", f"{level} quantile", f"its bound ({sure})"], rows)
    hours = report.seconds / _HOUR_S
    print(
        f"peak {report.peak:.1%}, mean {report.mean:.1%} of the budget over {hours:.1f} h, {report.missing:.1%} missing"
    )
    if hours < _DAY_H:
        print("mind: less than a day says little of how fast the row rises at other hours")
    if report.peak > 1:
        print("mind: the row exceeds its budget; is the budget right?")
    if report.missing > 0.1:
        print("mind: rises across gaps are not seen; a log with fewer gaps may show larger ones")
    if report.training:
        print(
            "a rise of a quarter of the budget within 2 s, as synchronous training makes it: not for oversubscription"
            " (a sensor that failed does the same: look at the log at that time)"
        )
    elif report.t1 is None or report.t2 is None:
        print("no room: the largest rise until a cap lands leaves no threshold above zero")
    else:
        print(f"T2 = {report.t2:.2f} (the rise until a cap lands still fits), T1 = {report.t1:.2f}")
