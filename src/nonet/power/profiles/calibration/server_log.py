"""A profile from a running server: GPU power over time beside its request log.

Phases follow from the requests: a sample lies in a prompt phase when a request waits for its first token, else it is
decode of as many sequences as are running, else idle. Requests that met others while they waited are left out of the
prompt times. Where the request log has no latencies, they are estimated (see `latencies`), and power alone is fitted.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.power.profiles._profile_kernels import seconds_between, watts_between
from nonet.power.profiles.calibration.gpu_log import GpuLog
from nonet.power.profiles.calibration.latencies import estimate_latencies
from nonet.power.profiles.calibration.request_log import RequestLog
from nonet.power.profiles.calibration.surface import Cell, fit_prefill
from nonet.power.profiles.hardware import GPUS, gpu_name
from nonet.power.profiles.profile import PowerProfile
from nonet.power.profiles.tables import DecodeTable, Provenance

_MAX_BINS = 16
_EARLY = 0.1  # of a prompt phase: samples before it still show what ran before
_BUSY_OVER_IDLE = 1.1
_SHARE_OF_TDP = (0.05, 3.0)


@dataclass(frozen=True, slots=True)
class Observations:
    """What two logs show: prompt cells, decode steps as (batch, seconds a token), power as (batch, W), idle W."""

    cells: tuple[Cell, ...]
    steps: tuple[tuple[float, float], ...]
    powers: tuple[tuple[float, float], ...]
    idle_w: float | None


def observe(gpu: GpuLog, log: RequestLog, ttft_s: NDArray[np.float64], e2e_s: NDArray[np.float64]) -> Observations:
    """Cut both logs into phases by these latencies.

    Raises:
        InputError: power is no higher while requests run than while none does.
    """
    start, first, end = log.arrival_s, log.arrival_s + ttft_s, log.arrival_s + e2e_s
    in_prompt = _active(gpu.time_s, start, first)
    running = _active(gpu.time_s, first, end)
    cells, steps = [], []
    for i in range(len(start)):
        window = slice(*np.searchsorted(gpu.time_s, [start[i] + _EARLY * ttft_s[i], first[i]]))
        overlapping = int(np.sum((start < first[i]) & (first > start[i])))
        if overlapping == 1:
            watts = float(gpu.watts[window].max()) if window.stop > window.start else None
            cells.append(Cell(int(log.prompt_tokens[i]), 1, float(ttft_s[i]), watts))
        if log.output_tokens[i] > 1:
            batch = float(np.sum(np.clip(np.minimum(end, end[i]) - np.maximum(first, first[i]), 0.0, None)))
            stalled = _covered(start, first, first[i], end[i])
            seconds = (end[i] - first[i] - stalled) / (log.output_tokens[i] - 1)
            if seconds > 0:
                steps.append((batch / (end[i] - first[i]), float(seconds)))
    decode = (running > 0) & (in_prompt == 0)
    powers = tuple(zip(running[decode].astype(float).tolist(), gpu.watts[decode].tolist(), strict=True))
    quiet = (running == 0) & (in_prompt == 0)
    idle = gpu.watts[quiet]
    if len(idle) and not quiet.all() and np.median(gpu.watts[~quiet]) < _BUSY_OVER_IDLE * np.median(idle):
        raise InputError(
            "the GPUs draw no more while requests run than while none does; are the clocks of the two logs apart, or"
            " the requests of another server?"
        )
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

    Latencies that the request log lacks are estimated; times of phases are then borrowed, and say so.

    Raises:
        InputError: the logs do not overlap in time, power is in another unit than watts, or too little of a phase was
            seen: fewer than two prompt lengths alone in their phase, or no decoding.
    """
    name = gpu_name(gpu)
    known = GPUS[name]
    _check(gpu_log, requests, name)
    ttft_s, e2e_s, borrowed = requests.ttft_s, requests.e2e_s, ""
    if ttft_s is None or e2e_s is None:
        ttft_s, e2e_s, borrowed = estimate_latencies(gpu_log, requests, name, model, tensor_parallel)
    seen = observe(gpu_log, requests, ttft_s, e2e_s)
    idle_w = min(seen.idle_w or known.idle_w, 0.99 * known.tdp_w)
    prefill, decode = fit_prefill(_binned(seen.cells), known.tdp_w), _decode(seen.steps, seen.powers)
    held = _held_out(seen, known.tdp_w)
    here = "GPU power log, phases by borrowed times" if borrowed else "GPU power log and request log"

    def source(quantity: str, count: int) -> Provenance:
        errors = {"odd": round(held[quantity], 4)} if quantity in held else {}
        kind = "fitted" if borrowed else "measured"
        return Provenance.model_validate({"kind": kind, "source": here, "held_out": errors, "num_points": count})

    times = Provenance(kind="borrowed", source=borrowed) if borrowed else None
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
            "prefill_seconds": (times if requests.ttft_s is None else None)
            or source("prefill_seconds", len(seen.cells)),
            "prefill_watts": source("prefill_watts", sum(c.watts is not None for c in seen.cells)),
            "decode_seconds": times or source("decode_seconds", len(seen.steps)),
            "decode_watts": source("decode_watts", len(seen.powers)),
            "clock": Provenance(kind="borrowed", source=f"clock response of {name}: logs at one clock do not show it"),
            "idle": known.idle_source if seen.idle_w is None else Provenance(kind="measured", source=here),
            "server": known.server_source,
        },
    )


def _check(gpu_log: GpuLog, requests: RequestLog, gpu: str) -> None:
    spans = [(float(times[0]), float(times[-1])) for times in (gpu_log.time_s, requests.arrival_s)]
    if spans[1][0] > spans[0][1] or spans[1][1] < spans[0][0]:
        apart_h = (spans[1][0] - spans[0][0]) / 3600
        raise InputError(
            f"the GPU log and the request log do not overlap in time: the requests begin {apart_h:+.2f} h from the GPU"
            " log; check clocks and time zones (times without a zone are read as UTC)"
        )
    highest = float(np.quantile(gpu_log.watts, 0.99))
    low, high = (share * GPUS[gpu].tdp_w for share in _SHARE_OF_TDP)
    if not low <= highest <= high:
        raise InputError(
            f"the GPU log goes up to {highest:.6g} W a GPU, an {gpu} to {GPUS[gpu].tdp_w:g} W: is it in kW or mW, or of"
            " the whole server? name the column with its unit (power_kw, power_mw), or give --gpu"
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
