"""The verbs `explain`, `recommend` and `check` of `nonet coldstart`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nonet.coldstart import cli_options as options

KeepAlive = Annotated[
    float | None,
    typer.Option(min=0.0, metavar="SECONDS", help="The platform's keep-alive. [default: told from the trace]"),
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the room's command line."""
    app.command()(explain)
    app.command()(recommend)
    app.command()(check)


def explain(
    trace: options.TraceFolder,
    region: options.Region = None,
    keep_alive: KeepAlive = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Rank what causes the cold starts of a trace, each with its share, evidence and an example.

    Each cold start has one main cause; first calls that nobody can judge are left out.

    Example: nonet coldstart explain trace/
    """
    from nonet.coldstart.advising.explain import explain as find
    from nonet.coldstart.advising.explain_view import print_explanation
    from nonet.coldstart.trace.store import Trace
    from nonet.common.console import emit_json

    options.start(quiet)
    regions = None if region is None else [region]
    found = find(Trace.open(trace), regions=regions, keep_alive_us=options.microseconds(keep_alive))
    if as_json:
        emit_json(found)
    else:
        print_explanation(found)


def recommend(
    trace: options.TraceFolder,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Also write configuration for the platform, and a page."),
    ] = None,
    region: options.Region = None,
    keep_alive: KeepAlive = None,
    max_extra_memory: Annotated[
        str, typer.Option(metavar="SHARE", help="Most memory that all changes may add, such as 5%.")
    ] = "10%",
    platform: Annotated[
        str | None,
        typer.Option(
            metavar="any|knative|openwhisk|lambda",
            help="Only changes that it can make. [default: what the logs are of, else any]",
        ),
    ] = None,
    cold_seconds: Annotated[
        float | None,
        typer.Option(min=0.0, help="Duration of a cold start, where the trace tells none. [default: 1]"),
    ] = None,
    prices: Annotated[Path | None, typer.Option(metavar="TOML", help="Prices of your own.")] = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Find changes that would cut cold starts, fitted on earlier days and tried on later ones.

    Each comes with the saving, its 95 % interval, and what it costs in memory. Changes that do not pay are left out.

    Example: nonet coldstart recommend trace/ --max-extra-memory 5% -o advice/
    """
    from nonet.coldstart.advising.configs import write_configs
    from nonet.coldstart.advising.costs import load_prices
    from nonet.coldstart.advising.pools import size_pools
    from nonet.coldstart.advising.recommend import recommend as advise
    from nonet.coldstart.advising.recommend_page import write_page
    from nonet.coldstart.advising.recommend_view import print_advice
    from nonet.coldstart.trace.store import Trace
    from nonet.common.console import emit_json

    options.start(quiet)
    opened = Trace.open(trace)
    keep_alive_us = options.microseconds(keep_alive)
    own_prices = None if prices is None else load_prices(override=prices)
    advice = advise(
        opened,
        region=region,
        keep_alive_us=keep_alive_us,
        max_extra_memory=options.share(max_extra_memory, "--max-extra-memory"),
        platform=platform,
        prices=own_prices,
        cold_us=options.microseconds(cold_seconds),
        seed=seed,
    )
    written = []
    if out is not None:
        pools = size_pools(opened, region=region, keep_alive_us=keep_alive_us, prices=own_prices, seed=seed)
        written = write_configs(advice, out, [pool.stem_cells() for pool in pools])
        written.append(write_page(advice, out / "advice.html"))
    if as_json:
        emit_json({"advice": advice, "written": written})
        return
    print_advice(advice)
    if written:
        print("wrote " + ", ".join(map(str, written)))


def check(
    trace: options.TraceFolder,
    max_cold_rate: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Most cold requests of all, such as 0.5%.")
    ] = None,
    max_p99: Annotated[
        str | None, typer.Option(metavar="TIME", help="Longest 99th percentile of the response, such as 2s.")
    ] = None,
    by_function: Annotated[bool, typer.Option("--by-function", help="Hold every function to it.")] = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Hold a trace to limits, for a pipeline: exit code 1 when one is not kept.

    Example: nonet coldstart check trace/ --max-cold-rate 0.5% --max-p99 2s
    """
    from nonet.coldstart.advising.check import check as hold
    from nonet.coldstart.advising.check_view import print_violations
    from nonet.coldstart.trace.store import Trace
    from nonet.common.console import emit_json
    from nonet.common.errors import InputError

    options.start(quiet)
    if max_cold_rate is None and max_p99 is None:
        raise InputError("name a limit: --max-cold-rate 0.5% or --max-p99 2s")
    rate = None if max_cold_rate is None else options.share(max_cold_rate, "--max-cold-rate")
    p99_s = None if max_p99 is None else options.seconds(max_p99, "--max-p99")
    violations = hold(Trace.open(trace), max_cold_rate=rate, max_p99_s=p99_s, by_function=by_function)
    if as_json:
        emit_json(violations)
    else:
        print_violations(violations)
    if violations:
        raise typer.Exit(1)
