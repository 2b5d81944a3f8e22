"""The verbs `simulate` and `policies` of `nonet coldstart`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nonet.coldstart import cli_options as options

if TYPE_CHECKING:
    from nonet.coldstart.simulating.calls import Workload
    from nonet.coldstart.simulating.platform import Platform
    from nonet.coldstart.simulating.results import Result


def register(app: typer.Typer) -> None:
    """Add the verbs to the room's command line."""
    app.command()(simulate)
    app.command()(policies)
    app.command()(bench)


def simulate(
    source: Annotated[str, typer.Argument(metavar="TRACE", help="Folder of a trace, or a preset: huawei2025:R2.")],
    policy: Annotated[
        str,
        typer.Option(
            metavar="NAMES", help="Policies, separated by commas, joined by +; see: nonet coldstart policies."
        ),
    ] = "none,ka:60,ka:600,hist",
    region: options.Region = None,
    train: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="DAYS", help="Only learn from the first days. [default: half, if one learns]"),
    ] = None,
    memory: Annotated[str, typer.Option(metavar="8GB", help="Memory of all pods together.")] = "",
    cold_seconds: Annotated[
        float | None, typer.Option(min=0.0, help="Duration of a cold start, where the trace has none to learn from.")
    ] = None,
    scale_rule: Annotated[
        str, typer.Option(metavar="start|piggyback|wait|race", help="What an arrival without a free pod does.")
    ] = "start",
    pick: Annotated[str, typer.Option(metavar="mru|oldest|newest|least_loaded", help="Which free pod serves.")] = "mru",
    regions: options.Regions = "",
    rtt: options.RoundTrip = 0.1,
    capacity: options.Capacity = "",
    days: options.Days = 31,
    scale: options.Scale = 1.0,
    seed: options.Seed = 0,
    shards: Annotated[int, typer.Option(min=1, help="Threads, where functions are independent.")] = 2,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Simulate policies on the same calls: cold starts, waits and memory, beside the first policy.

    Policies that learn are fitted on the first days; all are tried on the rest.

    Examples:

        nonet coldstart simulate trace/ --policy ka:60,ka:600,hist,paper:timer+keepalive

        nonet coldstart simulate huawei2025:R2 --days 3 --scale 0.02 --policy none,ka:60,spes --train 2

        nonet coldstart simulate trace/ --regions all --rtt 0.05 --policy ka:60,paper:region
    """
    from nonet.coldstart.simulating.platform import Platform
    from nonet.coldstart.simulating.policies import parse_memory_mb
    from nonet.coldstart.simulating.results import compare
    from nonet.coldstart.simulating.scenario import open_workload, policy_names, run_policies
    from nonet.common.console import emit_json, note, progress

    options.start(quiet)
    cap = parse_memory_mb(memory, "--memory") if memory else None
    platform = Platform(memory_cap_mb=cap, scale_rule=scale_rule, pick=pick)  # type: ignore[arg-type]  # checked there
    given: dict[str, Any] = {"days": days, "scale": scale, "seed": seed}
    given["default_cold_us"] = options.microseconds(cold_seconds)
    if regions:
        chosen, pods = options.region_names(regions, region), options.numbers(capacity, "--capacity")
        workload, platform, num_functions = _together(source, chosen, rtt, pods, platform, given)
    else:
        workload = open_workload(source, region, **given)
        num_functions = len(workload.functions)
    names = policy_names(policy)
    with progress(None, "simulating", unit="requests") as bar:
        results, tried = run_policies(
            workload,
            names,
            platform,
            train_days=train,
            seed=seed,
            shards=shards,
            progress=bar.advance,
            started=lambda name: note(f"simulating {name} ..."),
        )
    _note_dropped(results)
    if as_json:
        emit_json([result.summary() for result in results])
        return
    _print(compare(results).to_dicts())
    hours = (tried.end_us - tried.start_us) / 3.6e9
    print(f"{source}: {results[0].num_requests:,} requests of {num_functions:,} functions in {hours:,.1f} hours")


def _note_dropped(results: list[Result]) -> None:
    from nonet.common.console import note

    for result in results:
        if result.num_dropped:
            left = f"{result.num_dropped:,} of {result.num_requests:,} requests dropped"
            note(f"{result.policy}: {left}: the memory cap has no room for a pod of their functions")


def _together(
    source: str, names: list[str], rtt_s: float, capacity: list[float], platform: Platform, given: dict[str, Any]
) -> tuple[Workload, Platform, int]:
    """Several regions as one workload, the platform that has them, and how many functions they have."""
    from nonet.coldstart.simulating.scenario import open_regions

    workload, regions = open_regions(source, names, rtt_us=round(rtt_s * 1e6), capacity=capacity, **given)
    return workload, replace(platform, regions=regions), workload.num_functions


def _print(rows: list[dict[str, Any]]) -> None:
    from nonet.common.console import print_table

    columns = {
        "policy": "policy",
        "cold": "cold",
        "cold_rate": "of requests",
        "cold_vs_first": "vs first",
        "piggybacked": "piggy-backed",
        "delayed": "delayed",
        "dropped": "dropped",
        "p99_s": "p99 s",
        "wasted_gb_s": "idle GB s",
        "memory_vs_first": "memory vs first",
        "prewarms": "pre-warms",
        "mean_pods": "pods",
    }
    print_table(list(columns.values()), [[row[name] for name in columns] for row in rows])


def policies(as_json: options.AsJson = False) -> None:
    """List the policies that can be simulated.

    Example: nonet coldstart policies
    """
    from nonet.coldstart.simulating.policies import policies as registered
    from nonet.common.console import emit_json, print_table

    known = registered()
    rows = [{"name": name, "example": known[name].example, "help": known[name].help} for name in known]
    if as_json:
        emit_json(rows)
    else:
        print_table(["policy", "for example", "what it does"], [[row[key] for key in row] for row in rows])


def bench(
    full: Annotated[bool, typer.Option("--full/--quick", help="All sizes (long; see --only), or two minutes.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="These experiments only, such as speed or region-2.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the findings as JSON lines.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Measure this room against its rivals and the published curves; exit code 1 when a promise is not kept.

    Examples:

        nonet coldstart bench --quick --json findings.jsonl

        nonet coldstart bench --full --only region-2
    """
    from nonet.coldstart.bench import bench as measure
    from nonet.common.verbs import report_findings

    options.start(quiet)
    report_findings("coldstart", measure("full" if full else "quick", only or ()), json_file)
