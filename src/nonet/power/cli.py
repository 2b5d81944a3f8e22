"""The command line of the room: `nonet power VERB`. It parses options, calls the API and prints; no more.

`simulate` and `fit` are in `cli_simulate`, `plan` and `sweep` in `cli_plan`, `run` and `shadow` in `cli_control`,
shared options in `cli_options`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nonet.power import cli_control, cli_plan, cli_simulate
from nonet.power import cli_options as options

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Row power of GPU servers: how many more fit under the breaker, and a controller that keeps them there.",
    epilog="Start with: nonet power rises row_power.csv --budget-kw 203",
)


@app.command()
def profiles(as_json: options.AsJson = False) -> None:
    """List the shipped profiles of power and time, with what they rest on.

    Example: nonet power profiles
    """
    from nonet.common.console import emit_json, print_table
    from nonet.power.profiles import PROFILES

    found = [PROFILES[name] for name in PROFILES]
    if as_json:
        emit_json([profile.model_dump(mode="json") for profile in found])
        return
    rows = [
        [p.name, p.tdp_w, p.idle_w, p.prefill_watts(2048), p.decode_watts(8), p.decode_seconds_per_token(8) * 1e3]
        for p in found
    ]
    print_table(["profile", "TDP W", "idle W", "prompt W (2,048)", "decode W (8)", "ms a token (8)"], rows)


@app.command()
def policies(as_json: options.AsJson = False) -> None:
    """List the policies, and the parameters that each takes in a TOML file.

    Example: nonet power policies
    """
    from nonet.common.console import emit_json, print_table
    from nonet.power.policies import POLICIES

    kinds = {name: POLICIES[name] for name in POLICIES}
    if as_json:
        emit_json({name: kind.config.model_json_schema() for name, kind in kinds.items()})
        return
    print_table(["policy", "what it does"], [[name, kind.summary] for name, kind in kinds.items()])
    rows = [
        [name, field, info.default]
        for name, kind in kinds.items()
        for field, info in kind.config.model_fields.items()
        if not info.is_required()
    ]
    print_table(["policy", "parameter", "default"], rows)


@app.command()
def calibrate(
    table: Annotated[
        str | None,
        typer.Argument(
            metavar="[TABLE]", help="splitwise perf_model.csv or ML.ENERGY configurations: a file or data set."
        ),
    ] = None,
    gpu_log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Power of one server's GPUs: nvidia-smi or DCGM.")
    ] = None,
    requests: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What it served: time, tokens, best also ttft_s, e2e_s.")
    ] = None,
    gpu: Annotated[str, typer.Option(help="GPU of the logs.")] = "a100-80gb",
    model: Annotated[str, typer.Option(help="Model of the logs.")] = "model",
    tensor_parallel: Annotated[int, typer.Option("--tp", min=1, help="GPUs of an instance in the logs.")] = 1,
    clock_table: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Power and time by clock; replaces the clock response.")
    ] = None,
    only: Annotated[str, typer.Option(metavar="TEXT", help="Only profiles whose name contains this.")] = "",
    predict_points: Annotated[
        Path | None, typer.Option("--predict", metavar="CSV", help="Predict power and time at these points.")
    ] = None,
    profile: Annotated[
        list[str] | None, typer.Option(metavar="NAME|FILE", help="Predict with these instead of the shipped ones.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the one profile here.")] = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Fit profiles of power and time, with their error on what was held out; or predict with them.

    Examples:

        nonet power calibrate perf_model.csv --only a100-bloom -o bloom.json

        nonet power calibrate mlenergy/llm-configs --only lm-arena-chat-meta-llama-llama-3.1-8b

        nonet power calibrate --gpu-log smi.csv --requests served.csv --gpu h100 --model llama-70b --tp 4 -o mine.json

        nonet power calibrate --predict points.csv --profile bloom.json
    """
    from nonet.common.errors import InputError
    from nonet.power.profiles.calibration.from_files import calibrate_logs, calibrate_table, with_clock_table

    options.start(quiet)
    if table is None and gpu_log is None and predict_points is None:
        raise InputError("nothing to do: give a TABLE, --gpu-log with --requests, or --predict")
    if (gpu_log is None) != (requests is None):
        raise InputError("--gpu-log and --requests belong together: phases are told apart by the requests")
    fitted, refusals = [], []
    if table is not None:
        found = calibrate_table(table)
        fitted, refusals = list(found.profiles), list(found.refusals)
    elif gpu_log is not None and requests is not None:
        found = calibrate_logs(gpu_log, requests, gpu, model, tensor_parallel)
        fitted, refusals = list(found.profiles), list(found.refusals)
    fitted = [one for one in fitted if only in one.name]
    if clock_table is not None:
        fitted = [with_clock_table(one, clock_table) for one in fitted]
    if out is not None:
        if len(fitted) != 1:
            raise InputError(f"{len(fitted)} profiles; choose one with --only to write it to {out}")
        out.write_text(fitted[0].to_json() + "\n", "utf-8")
    if predict_points is not None:
        cli_simulate.print_predictions(fitted, profile or [], predict_points, as_json)
        return
    cli_simulate.print_profiles(fitted, refusals, as_json)


@app.command()
def rises(
    series: Annotated[Path, typer.Argument(metavar="FILE", help="Measured row power: time and watts.")],
    budget_kw: options.BudgetKw,
    at: Annotated[str, typer.Option(metavar="S,S", help="Windows, seconds.")] = "2,5,40",
    cap_latency_s: Annotated[float, typer.Option(min=0.1, help="Longest time that a cap needs to land.")] = 40.0,
    margin: Annotated[float, typer.Option(min=0.0, max=0.5, help="Kept free besides, share of the budget.")] = 0.0,
    column: options.Columns = None,
    time_column: options.TimeColumn = None,
    unit: options.Unit = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Read peak and rises off a row's power log, and the thresholds T1 and T2 that follow; exit 1 for a training row.

    Example: nonet power rises row_power.csv --budget-kw 203 --at 2,5,40
    """
    from nonet.common.console import emit_json
    from nonet.power.load.rises import analyse_rises

    options.start(quiet)
    log = options.power_log_of(series, budget_kw, column, unit, time_column)
    report = analyse_rises(
        log.power_w,
        budget_kw * 1e3,
        shifted=log.shifted,
        period_s=log.period_s,
        windows_s=options.numbers(at, "--at"),
        cap_latency_s=cap_latency_s,
        margin=margin,
    )
    if as_json:
        emit_json(report.to_dict())
    else:
        cli_simulate.print_rises(report, log.start_s, log.period_s)
    if report.training:
        raise typer.Exit(1)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A data set or family; none lists them.")] = "",
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Download published request traces and measured tables into the cache, or list them with their terms.

    Examples:

        nonet power fetch

        nonet power fetch azure2024
    """
    from nonet.common.verbs import fetch_datasets, show_datasets
    from nonet.power import data

    options.start(quiet)
    if not name:
        show_datasets(data.list_datasets(), as_json)
        return
    fetch_datasets(data.select(name), data.fetch_dataset, as_json)


@app.command()
def bench(
    full: Annotated[
        bool, typer.Option("--full/--quick", help="All sizes (six weeks, five seeds), or two minutes.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="These experiments only, such as headline or simulator.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the findings as JSON lines.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Measure this room against its rivals and the published row; exit code 1 when a promise is not kept.

    Examples:

        nonet power bench --quick --json findings.jsonl

        nonet power bench --full --only headline
    """
    from nonet.common.verbs import report_findings
    from nonet.power.bench import bench as measure

    options.start(quiet)
    report_findings("power", measure("full" if full else "quick", only or ()), json_file)


cli_simulate.register(app)
cli_plan.register(app)
cli_control.register(app)
