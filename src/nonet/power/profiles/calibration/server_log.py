"""A profile from a running server: GPU power over time beside its request log.

The request log has, for each request, when it came, tokens in and out, and how long its first token and the whole took.
Phases follow from these: a sample lies in a prompt phase when a request waits for its first token, else it is decode
of as many sequences as are running, else idle. Requests that met others while they waited are left out of the prompt
times.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.power.profiles._profile_kernels import seconds_between, watts_between
from nonet.power.profiles.calibration.gpu_log import GpuLog, to_seconds
from nonet.power.profiles.calibration.surface import Cell, fit_prefill
from nonet.power.profiles.hardware import GPUS, gpu_name
from nonet.power.profiles.profile import PowerProfile
from nonet.power.profiles.tables import DecodeTable, Provenance

ALIASES = {
    "arrival": ("arrival_s", "time", "timestamp", "arrival_timestamp", "TIMESTAMP"),
    "prompt": ("prompt_tokens", "prompt_size", "ContextTokens", "input_tokens"),
    "output": ("output_tokens", "token_size", "GeneratedTokens", "completion_tokens"),
    "ttft": ("ttft_s", "ttft", "time_to_first_token"),
    "e2e": ("e2e_s", "e2e", "latency_s", "duration_s"),
}
_MAX_BINS = 16
_EARLY = 0.1  # of a prompt phase: samples before it still show what ran before


@dataclass(frozen=True, eq=False, slots=True)
class RequestLog:
    """Requests of one instance, float64 (n,) each: seconds on the clock of the GPU log, tokens, seconds, seconds."""

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.float64]
    output_tokens: NDArray[np.float64]
    ttft_s: NDArray[np.float64]
    e2e_s: NDArray[np.float64]


def read_request_log(path: Path) -> RequestLog:
    """Read CSV or Parquet; columns by any name of `ALIASES`.

    Raises:
        InputError: it cannot be read, a column is missing, or a value is not positive.
    """
    try:
        frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error
    columns = []
    for key, names in ALIASES.items():
        name = next((n for n in names if n in frame.columns), None)
        if name is None:
            why = "; phases cannot be told apart without it" if key in ("ttft", "e2e") else ""
            raise InputError(f"{path}: no column of {', '.join(names)}{why}")
        column = to_seconds(frame[name]) if key == "arrival" else frame[name].cast(pl.Float64, strict=False)
        if column.null_count() or (key != "arrival" and not (column > 0).all()):
            raise InputError(f"{path}: column {name} has a value that is no positive number; remove those rows")
        columns.append(column.to_numpy().astype(np.float64))
    order = np.argsort(columns[0], kind="stable")
    return RequestLog(*(column[order] for column in columns))


@dataclass(frozen=True, slots=True)
class Observations:
    """What two logs show: prompt cells, decode steps as (batch, seconds a token), power as (batch, W), idle W."""

    cells: tuple[Cell, ...]
    steps: tuple[tuple[float, float], ...]
    powers: tuple[tuple[float, float], ...]
    idle_w: float | None


def observe(gpu: GpuLog, log: RequestLog) -> Observations:
    """Cut both logs into phases.

    Raises:
        InputError: the logs do not overlap in time.
    """
    start, first, end = log.arrival_s, log.arrival_s + log.ttft_s, log.arrival_s + log.e2e_s
    if start[0] > gpu.time_s[-1] or end.max() < gpu.time_s[0]:
        raise InputError("the GPU log and the request log do not overlap in time; check clocks and time zones")
    in_prompt = _active(gpu.time_s, start, first)
    running = _active(gpu.time_s, first, end)
    cells, steps = [], []
    for i in range(len(start)):
        window = slice(*np.searchsorted(gpu.time_s, [start[i] + _EARLY * log.ttft_s[i], first[i]]))
        overlapping = int(np.sum((start < first[i]) & (first > start[i])))
        if overlapping == 1:
            watts = float(gpu.watts[window].max()) if window.stop > window.start else None
            cells.append(Cell(int(log.prompt_tokens[i]), 1, float(log.ttft_s[i]), watts))
        if log.output_tokens[i] > 1:
            batch = float(np.sum(np.clip(np.minimum(end, end[i]) - np.maximum(first, first[i]), 0.0, None)))
            stalled = _covered(start, first, first[i], end[i])
            seconds = (end[i] - first[i] - stalled) / (log.output_tokens[i] - 1)
            if seconds > 0:
                steps.append((batch / (end[i] - first[i]), float(seconds)))
    decode = (running > 0) & (in_prompt == 0)
    powers = tuple(zip(running[decode].astype(float).tolist(), gpu.watts[decode].tolist(), strict=True))
    idle = gpu.watts[(running == 0) & (in_prompt == 0)]
    return Observations(tuple(cells), tuple(steps), powers, float(np.median(idle)) if len(idle) else None)


def _active(at: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.searchsorted(np.sort(start), at, "right") - np.searchsorted(np.sort(end), at, "right")


def _covered(start: NDArray[np.float64], end: NDArray[np.float64], low: float, high: float) -> float:
    """Length of the part of (low, high) that the intervals cover together; starts rise."""
    total, reached = 0.0, low
    for a, b in zip(start, end, strict=True):
        if b > reached and a < high:
            total += max(0.0, min(b, high) - max(a, reached))
            reached = max(reached, b)
    return float(total)


def profile_from_logs(
    gpu_log: GpuLog, requests: RequestLog, gpu: str, model: str, tensor_parallel: int = 1
) -> PowerProfile:
    """Fit a profile; its held-out errors are of the odd observations against a fit of the even ones.

    Raises:
        InputError: too little of a phase was seen: fewer than two prompt lengths alone in their phase, or no decoding.
    """
    name = gpu_name(gpu)
    known = GPUS[name]
    seen = observe(gpu_log, requests)
    idle_w = min(seen.idle_w or known.idle_w, 0.99 * known.tdp_w)
    prefill, decode = fit_prefill(_binned(seen.cells), known.tdp_w), _decode(seen.steps, seen.powers)
    held = _held_out(seen, known.tdp_w)
    here = "GPU power log and request log"

    def source(quantity: str, count: int) -> Provenance:
        errors = {"odd": round(held[quantity], 4)} if quantity in held else {}
        return Provenance(kind="measured", source=here, held_out=errors, num_points=count)

    return PowerProfile(
        name=f"{name}-{model}-tp{tensor_parallel}",
        gpu=name,
        model=model,
        tensor_parallel=tensor_parallel,
        tdp_w=known.tdp_w,
        idle_w=idle_w,
        min_power_limit_w=known.min_power_limit_w,
        min_clock_mhz=known.min_clock_mhz,
        max_clock_mhz=known.max_clock_mhz,
        clock_step_mhz=known.clock_step_mhz,
        prefill=prefill,
        decode=decode,
        clock=known.clock,
        server=known.server,
        provenance={
            "prefill_seconds": source("prefill_seconds", len(seen.cells)),
            "prefill_watts": source("prefill_watts", sum(c.watts is not None for c in seen.cells)),
            "decode_seconds": source("decode_seconds", len(seen.steps)),
            "decode_watts": source("decode_watts", len(seen.powers)),
            "clock": Provenance(kind="borrowed", source=f"clock response of {name}: logs at one clock do not show it"),
            "idle": known.idle_source if seen.idle_w is None else Provenance(kind="measured", source=here),
            "server": known.server_source,
        },
    )


def _binned(cells: Sequence[Cell]) -> list[Cell]:
    """Medians of each prompt length, or of at most 16 groups of neighbouring ones where there are more."""
    lengths = sorted({cell.tokens for cell in cells})
    binned = []
    for part in np.array_split(np.array(lengths), max(1, min(_MAX_BINS, len(lengths)))):
        group = [cell for cell in cells if len(part) and part[0] <= cell.tokens <= part[-1]]
        if not group:
            continue
        watts = [cell.watts for cell in group if cell.watts is not None]
        tokens = round(statistics.median(cell.tokens for cell in group))
        seconds = statistics.median(cell.seconds for cell in group)
        binned.append(Cell(tokens, 1, seconds, statistics.median(watts) if watts else None))
    return binned


def _decode(steps: Sequence[tuple[float, float]], powers: Sequence[tuple[float, float]]) -> DecodeTable:
    if not steps or not powers:
        raise InputError("no decoding was seen in both logs; log a longer time")
    by_time, by_power = _medians(steps), _medians(powers)
    batch = sorted({*by_time, *by_power})
    times, watts = ([column[b] for b in sorted(column)] for column in (by_time, by_power))
    time_at, power_at = (np.array(sorted(column), np.float64) for column in (by_time, by_power))
    return DecodeTable(
        batch=tuple(batch),
        seconds_per_token=tuple(float(seconds_between(b, time_at, np.array(times))) for b in batch),
        watts=tuple(float(watts_between(b, power_at, np.array(watts))) for b in batch),
        range_batch=(float(time_at[0]), float(time_at[-1])),
        range_batch_power=(float(power_at[0]), float(power_at[-1])),
    )


def _medians(pairs: Sequence[tuple[float, float]]) -> dict[float, float]:
    groups: dict[float, list[float]] = {}
    for batch, value in pairs:
        groups.setdefault(float(max(1, round(batch))), []).append(value)
    return {batch: statistics.median(values) for batch, values in groups.items()}


def _held_out(seen: Observations, tdp_w: float) -> dict[str, float]:
    errors: dict[str, list[float]] = {}
    if len({cell.tokens for cell in seen.cells[::2]}) >= 2:
        table = fit_prefill(_binned(seen.cells[::2]), tdp_w)
        tokens, seconds, watts = (np.array(c) for c in (table.tokens, table.seconds, table.watts))
        for cell in seen.cells[1::2]:
            model = float(seconds_between(float(cell.tokens), tokens, seconds))
            errors.setdefault("prefill_seconds", []).append(abs(model / cell.seconds - 1))
            if cell.watts is not None:
                model = float(watts_between(float(cell.tokens), tokens, watts))
                errors.setdefault("prefill_watts", []).append(abs(model / cell.watts - 1))
    if len(seen.steps) > 1 and len(seen.powers) > 1:
        decode = _decode(seen.steps[::2], seen.powers[::2])
        batch, step, power = (np.array(c) for c in (decode.batch, decode.seconds_per_token, decode.watts))
        errors["decode_seconds"] = [abs(seconds_between(b, batch, step) / s - 1) for b, s in seen.steps[1::2]]
        errors["decode_watts"] = [abs(watts_between(b, batch, power) / w - 1) for b, w in seen.powers[1::2]]
    return {name: statistics.fmean(values) for name, values in errors.items() if values}
