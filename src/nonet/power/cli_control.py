"""The verbs `run` and `shadow` of `nonet power`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nonet.power import cli_options as options

if TYPE_CHECKING:
    from nonet.power.policies.protocol import Command


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(run)
    app.command()(shadow)


def run(
    row: Annotated[Path, typer.Argument(metavar="ROW.toml", help="Servers, budget, telemetry and policy of the row.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run/--apply", help="Record what would be written, or write it to allowed servers.")
    ] = True,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="NAMES", help="Servers that may be written to, such as node[01-52].")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="One control period, then end.")] = False,
    replay: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Recorded row power instead of telemetry; always dry.")
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0.0, help="Of the replay: recorded seconds a second; 0 does not wait.")
    ] = 0.0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Control a row until it is stopped: telemetry in, caps and brakes out. Writes nothing without --apply.

    Software caps do not replace breakers. Clocks locked through nvml or zeusd cannot be read back: landed means that
    the driver took them. The journal, a SQLite file, has every command, write, answer and event.

    Examples:

        nonet power run row.toml

        nonet power run row.toml --apply --allow 'node[01-52]'

        nonet power run row.toml --replay row_power.csv
    """
    import math

    from nonet.common.console import emit_json
    from nonet.power.controlling import RunOptions, load_row_file, run_row

    options.start(quiet)
    how = RunOptions(not dry_run, tuple(allow or ()), once, replay, speed or math.inf)
    report = run_row(load_row_file(row), options=how)
    if as_json:
        commands = [{"time_s": at_s, **_order(command)} for at_s, command in report.commands]
        emit_json({"ended": report.ended, "periods": report.periods, "caps": report.caps, "commands": commands})
        return
    print(f"{report.ended}: {report.periods} periods, {len(report.commands)} commands, {report.caps} servers capped")


def shadow(
    telemetry: Annotated[Path, typer.Option(metavar="FILE", help="Recorded row power: time and watts.")],
    policy: Annotated[str, typer.Option(metavar="NAME|FILE", help="The policy; see: nonet power policies.")] = "polca",
    budget_kw: Annotated[
        float | None, typer.Option(metavar="KW", help="Budget of the row. [default: the series is power over budget]")
    ] = None,
    servers: Annotated[int, typer.Option(min=1, help="Servers of the row.")] = 40,
    low_share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of low-priority servers.")] = 0.5,
    cap_latency_s: Annotated[float, typer.Option(min=0.0, help="How long a cap takes to land.")] = 40.0,
    brake_latency_s: Annotated[float, typer.Option(min=0.0, help="How long the brake takes to land.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a command, a line each.")] = False,
    profile: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Adds the clock in MHz of each level; see: nonet power profiles."),
    ] = None,
    column: options.Columns = None,
    unit: options.Unit = None,
    quiet: options.Quiet = False,
) -> None:
    """Say what a policy would have done on recorded row power; nothing is written anywhere.

    Commands land after their latency as far as the policy can see; the recorded power stays what it was.

    Examples:

        nonet power shadow --telemetry row_power.csv --budget-kw 203

        nonet power shadow --telemetry utilization.csv --policy polca.toml --json
    """
    import json

    from nonet.common.console import emit_jsonl, note, print_table
    from nonet.power.policies.shadow import shadow as follow
    from nonet.power.policies.view import RowView

    options.start(quiet)
    log = options.power_log_of(telemetry, budget_kw, column, unit)
    view = RowView.uniform(servers, low_share, 1.0 if budget_kw is None else budget_kw * 1e3)
    view.telemetry_period_s, view.cap_latency_s, view.brake_latency_s = log.period_s, cap_latency_s, brake_latency_s
    chosen = options.policy_of(policy)
    for text in options.doubts(log, view, chosen):
        note(f"mind: {text}")
    times_s = [i * log.period_s for i in range(len(log.power_w))]
    followed = follow(times_s, log.power_w, chosen, view)
    mhz = None if profile is None else options.profile_of(profile).clock_mhz
    objects = [json.loads(line) for line in followed.json_lines(mhz)]
    if as_json:
        emit_jsonl(objects)
        return
    rows = [
        [f"{one['time_s']:g}", one["action"], _who(one), one["level"], one["mode"], one["reason"]] for one in objects
    ]
    print_table(["after s", "command", "servers", "level", "mode", "why"], rows)
    print(f"{len(objects)} commands, {followed.brakes} brakes in {len(times_s) * log.period_s / 3600:,.1f} h")


def _order(command: Command) -> dict[str, Any]:
    from nonet.power.policies.protocol import Priority

    servers = command.servers
    named = isinstance(servers, Priority)
    return {
        "action": command.action,
        "class": servers.name.lower() if isinstance(servers, Priority) else None,
        "servers": None if named else servers,
        "level": command.level,
        "reason": command.reason,
    }


def _who(command: dict[str, Any]) -> str:
    return str(command["class"]) if command["class"] else f"{len(command['servers'])} servers"
