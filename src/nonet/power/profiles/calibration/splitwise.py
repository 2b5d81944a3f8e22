"""Profiles from `splitwise_perf_model.csv`: times and powers by model, hardware, tensor parallelism, prompt, batch.

Powers are fractions of the GPU's TDP. What is no measurement is refused by what is in it (see `refusals`).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl

from nonet.common.errors import InputError
from nonet.power.profiles._profile_kernels import seconds_between, watts_between
from nonet.power.profiles.calibration.refusals import Refusal, derived_groups, impossible_times, is_falling
from nonet.power.profiles.calibration.surface import Cell, fit_prefill, leave_cells_out
from nonet.power.profiles.hardware import GPUS, Gpu, gpu_name
from nonet.power.profiles.profile import PowerProfile, Quantity
from nonet.power.profiles.tables import DecodeTable, PrefillTable, Provenance

KEYS = ["model", "tensor_parallel", "prompt_size", "batch_size", "token_size"]
COLUMNS = ["hardware", *KEYS, "peak_power", "average_power", "prompt_time", "token_time"]
_MAX_PROMPT_SHARE = 0.04
_POWER_HELD = 0.09


@dataclass(frozen=True, slots=True)
class Measurements:
    """The rows of a file that are measurements, and what was refused."""

    rows: pl.DataFrame
    refusals: tuple[Refusal, ...]


def read_splitwise(path: Path) -> Measurements:
    """Read the file and leave out what was derived from other rows or broke off.

    Raises:
        InputError: the file cannot be read, a column is missing, or a value is no positive number.
    """
    try:
        rows = pl.read_csv(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read as CSV ({str(error).splitlines()[0]})") from error
    missing = [name for name in COLUMNS if name not in rows.columns]
    if missing:
        raise InputError(f"{path}: no column {missing[0]}; a performance table has {', '.join(COLUMNS)}")
    for name in COLUMNS[2:]:
        column = rows[name]
        low = -1e-12 if name.endswith("power") else 0.0
        if not column.dtype.is_numeric() or column.null_count() or not (column.is_finite() & (column > low)).all():
            raise InputError(f"{path}: column {name} has a value that is no positive number; remove those rows")
    rows = rows.with_row_index("row").with_columns(pl.int_range(pl.len()).over("hardware", *KEYS).alias("repeat"))
    refusals: list[Refusal] = []
    for hardware, (origin, factors) in _derived(rows).items():
        told = ", ".join(f"{name} x {factor:.10g}" for name, factor in factors.items())
        size = int((rows["hardware"] == hardware).sum())
        refusals.append(Refusal(f"hardware {hardware}", size, f"an exact multiple of {origin} ({told}), not measured"))
        rows = rows.filter(pl.col("hardware") != hardware)
    rows, broken = _without_broken(rows)
    refusals += broken
    refusals += _power_refusals(rows)
    return Measurements(rows, tuple(refusals))


def _derived(rows: pl.DataFrame) -> dict[str, tuple[str, dict[str, float]]]:
    ordered = rows.sort("hardware", *KEYS, "repeat")
    found: dict[str, tuple[str, dict[str, float]]] = {}
    for pair in combinations(rows["hardware"].unique(maintain_order=True).to_list(), 2):
        keys = [ordered.filter(pl.col("hardware") == name).select(*KEYS, "repeat") for name in pair]
        if not keys[0].equals(keys[1]) or any(name in found for name in pair):
            continue
        columns = {}
        for name in pair:
            part = ordered.filter(pl.col("hardware") == name)
            columns[name] = {c: part[c].to_numpy().astype(np.float64) for c in ("prompt_time", "token_time")}
        powers = {name: int(((rows["hardware"] == name) & (rows["peak_power"] > 0)).sum()) for name in pair}
        found |= derived_groups(columns, powers)
    return found


def _without_broken(rows: pl.DataFrame) -> tuple[pl.DataFrame, list[Refusal]]:
    refusals = []
    for (hardware, model, tp), part in rows.group_by("hardware", "model", "tensor_parallel", maintain_order=True):
        for (prompt,), series in part.group_by("prompt_size", maintain_order=True):
            cells = series.group_by("batch_size").agg(pl.col("prompt_time").median()).sort("batch_size")
            batches, times = cells["batch_size"].to_list(), cells["prompt_time"].to_list()
            for i in impossible_times(batches, times):
                hit = (
                    (pl.col("hardware") == hardware)
                    & (pl.col("model") == model)
                    & (pl.col("tensor_parallel") == tp)
                    & (pl.col("prompt_size") == prompt)
                    & (pl.col("batch_size") == batches[i])
                )
                size = rows.filter(hit).height
                rows = rows.filter(~hit)
                what = f"{model} on {hardware} TP{tp}, {batches[i]} x {prompt} tokens"
                why = f"prompt time {times[i]:.0f} ms is shorter than with fewer prompts ({max(times):.0f} ms)"
                refusals.append(Refusal(what, size, why))
    return rows, refusals


def _power_refusals(rows: pl.DataFrame) -> list[Refusal]:
    refusals = []
    zero = int((rows["peak_power"] <= 0).sum())
    if zero:
        refusals.append(Refusal("power columns", zero, "zero power: not measured; their times are used"))
    powered = rows.filter((pl.col("batch_size") == 1) & (pl.col("average_power") > 0))
    for (hardware, model, tp), part in powered.group_by("hardware", "model", "tensor_parallel", maintain_order=True):
        means = part.group_by("prompt_size").agg(pl.col("average_power").mean()).sort("prompt_size")
        if is_falling(means["prompt_size"].to_list(), means["average_power"].to_list()):
            what = f"average_power of {model} on {hardware} TP{tp}"
            why = "falls as prompts grow, so it is no time-weighted mean; taken as decode power at short prompts only"
            refusals.append(Refusal(what, part.height, why))
    return refusals


def groups(measured: Measurements) -> list[tuple[str, str, int]]:
    """(hardware, model, tensor parallelism) of every table in the file."""
    unique = measured.rows.select("hardware", "model", "tensor_parallel").unique(maintain_order=True)
    return [(str(h), str(m), int(t)) for h, m, t in unique.iter_rows()]


def select(measured: Measurements, group: tuple[str, str, int]) -> pl.DataFrame:
    """The rows of one of `groups`."""
    hardware, model, tp = group
    return measured.rows.filter(
        (pl.col("hardware") == hardware) & (pl.col("model") == model) & (pl.col("tensor_parallel") == tp)
    )


def cells_of(rows: pl.DataFrame, tdp_w: float) -> list[Cell]:
    """Medians over the repeats of each prompt x batch."""
    power = pl.col("peak_power").filter(pl.col("peak_power") > 0).median().alias("power")
    means = rows.group_by("prompt_size", "batch_size").agg(pl.col("prompt_time").median(), power)
    return [
        Cell(int(p), int(b), ms / 1e3, None if w is None else w * tdp_w)
        for p, b, ms, w in means.sort("prompt_size", "batch_size").iter_rows()
    ]


def fit_decode(rows: pl.DataFrame, tdp_w: float, default_watts: float) -> DecodeTable:
    """Median time of a token by batch; decode power at batch 1 from short prompts, held flat.

    `average_power` covers prompt and tokens, so only runs count whose prompt phase takes under 4 % of the time. It is
    held flat over the batches at which that column moves by less than 9 %.
    """
    times = rows.group_by("batch_size").agg(pl.col("token_time").median()).sort("batch_size")
    share = pl.col("prompt_time") / (pl.col("prompt_time") + pl.col("token_time") * pl.col("token_size"))
    powered = rows.filter(pl.col("average_power") > 0)
    short = powered.filter((pl.col("batch_size") == 1) & (share < _MAX_PROMPT_SHARE))
    batches = [float(b) for b in times["batch_size"]]
    highest, watts = 1.0, default_watts
    if short.height:
        level = statistics.median(short["average_power"].to_list())
        watts = level * tdp_w
        same = powered.filter(pl.col("prompt_size").is_in(short["prompt_size"].unique().to_list()))
        swept = same.group_by("prompt_size").agg(pl.col("batch_size").n_unique()).sort("batch_size")["prompt_size"][-1]
        column = powered.filter(pl.col("prompt_size") == swept).group_by("batch_size")
        by_batch = column.agg(pl.col("average_power").median())
        for batch, value in by_batch.sort("batch_size").iter_rows():
            if abs(value / level - 1) > _POWER_HELD:
                break
            highest = float(batch)
    return DecodeTable(
        batch=tuple(batches),
        seconds_per_token=tuple(ms / 1e3 for ms in times["token_time"]),
        watts=(watts,) * len(batches),
        range_batch=(batches[0], batches[-1]),
        range_batch_power=(1.0, highest),
    )


def predict_cell(table: PrefillTable, cell: Cell) -> tuple[float, float]:
    """Seconds and watts of a cell from a table."""
    time_factor, power_factor = table.factors(cell.batch)
    tokens = np.array(table.tokens)
    seconds = seconds_between(float(cell.tokens), tokens, np.array(table.seconds))
    watts = watts_between(float(cell.tokens), tokens, np.array(table.watts))
    return float(seconds) * time_factor, float(watts) * power_factor


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Relative errors on rows that the fit has not seen.

    Attributes:
        prompt_time: one error a held-out row.
        token_time: likewise.
        peak_power: likewise, where it was measured.
    """

    prompt_time: tuple[float, ...]
    token_time: tuple[float, ...]
    peak_power: tuple[float, ...]


def hold_rows_out(rows: pl.DataFrame, tdp_w: float) -> HeldOut:
    """Fit on the even repeats of each cell and compare with the odd ones, and the other way round."""
    prompt, token, peak = [], [], []
    for parity in (0, 1):
        train, test = rows.filter(pl.col("repeat") % 2 == parity), rows.filter(pl.col("repeat") % 2 != parity)
        table = fit_prefill(cells_of(train, tdp_w), tdp_w)
        decode = fit_decode(train, tdp_w, tdp_w)
        batches, steps = np.array(decode.batch), np.array(decode.seconds_per_token)
        for row in test.iter_rows(named=True):
            cell = Cell(row["prompt_size"], row["batch_size"], row["prompt_time"] / 1e3)
            seconds, watts = predict_cell(table, cell)
            prompt.append(abs(seconds / cell.seconds - 1))
            step = float(seconds_between(float(cell.batch), batches, steps))
            token.append(abs(step * 1e3 / row["token_time"] - 1))
            if row["peak_power"] > 0:
                peak.append(abs(watts / (row["peak_power"] * tdp_w) - 1))
    return HeldOut(tuple(prompt), tuple(token), tuple(peak))


def profile_from_splitwise(measured: Measurements, group: tuple[str, str, int], source: str) -> PowerProfile:
    """Fit one profile with its held-out errors.

    Raises:
        InputError: the group is not in the file, or its GPU is not known.
    """
    hardware, model, tp = group
    rows = select(measured, group)
    if rows.is_empty():
        known = "; ".join(f"{h} {m} TP{t}" for h, m, t in groups(measured))
        raise InputError(f"{hardware} {model} TP{tp}: no such rows; the file has {known}")
    name = gpu_name(hardware)
    gpu = GPUS[name]
    cells = cells_of(rows, gpu.tdp_w)
    prefill, decode = fit_prefill(cells, gpu.tdp_w), fit_decode(rows, gpu.tdp_w, 0.6 * gpu.tdp_w)
    return PowerProfile(
        name=f"{name}-{model}-tp{tp}",
        gpu=name,
        model=model,
        tensor_parallel=tp,
        tdp_w=gpu.tdp_w,
        idle_w=gpu.idle_w,
        min_power_limit_w=gpu.min_power_limit_w,
        min_clock_mhz=gpu.min_clock_mhz,
        max_clock_mhz=gpu.max_clock_mhz,
        clock_step_mhz=gpu.clock_step_mhz,
        prefill=prefill,
        decode=decode,
        clock=gpu.clock,
        server=gpu.server,
        provenance=_provenance(rows, cells, gpu, source),
    )


def _provenance(rows: pl.DataFrame, cells: Sequence[Cell], gpu: Gpu, source: str) -> dict[Quantity, Provenance]:
    held, left = hold_rows_out(rows, gpu.tdp_w), leave_cells_out(cells, predict_cell, gpu.tdp_w)
    measured_power = bool(held.peak_power)
    power_errors = {"rows": held.peak_power, "cells": left.inside_watts, "edge_cells": left.edge_watts}
    no_power = Provenance(kind="assumed", source=f"{source}: power not measured; prefill at TDP, decode at 0.6 of it")
    power = Provenance(kind="measured", source=source, held_out=_means(power_errors), num_points=len(cells))
    flat = f"{source}: average_power at batch 1 and short prompts, held flat"
    time_errors = {"rows": held.prompt_time, "cells": left.inside_seconds, "edge_cells": left.edge_seconds}
    return {
        "prefill_seconds": Provenance(
            kind="measured", source=source, held_out=_means(time_errors), num_points=len(cells)
        ),
        "prefill_watts": power if measured_power else no_power,
        "decode_seconds": Provenance(
            kind="measured", source=source, held_out=_means({"rows": held.token_time}), num_points=len(cells)
        ),
        "decode_watts": Provenance(kind="measured", source=flat) if measured_power else no_power,
        "clock": gpu.clock_source,
        "idle": gpu.idle_source,
        "server": gpu.server_source,
    }


def _means(errors: dict[str, tuple[float, ...]]) -> dict[str, float]:
    return {name: round(statistics.fmean(values), 4) for name, values in errors.items() if values}
