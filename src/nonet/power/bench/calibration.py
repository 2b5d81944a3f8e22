"""What calibration reaches on rows and points that its fits have not seen."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import numpy as np

from nonet.common.datasets import DataFile, find_file
from nonet.common.errors import InputError
from nonet.common.findings import Finding
from nonet.power.profiles.calibration.mlenergy import hold_points_out, read_mlenergy
from nonet.power.profiles.calibration.splitwise import (
    cells_of,
    groups,
    hold_rows_out,
    predict_cell,
    read_splitwise,
    select,
)
from nonet.power.profiles.calibration.surface import leave_cells_out
from nonet.power.profiles.hardware import GPUS, gpu_name

SPLITWISE = DataFile("splitwise", "power/splitwise_perf_model.csv")
MLENERGY = DataFile("mlenergy", "power/mlenergy_v3_llm_configs.csv")
_MIN_POINTS = 4


def calibration_findings() -> list[Finding]:
    """Every finding of calibration whose data are at hand.

    Raises:
        InputError: a data file is not found.
    """
    return [*mlenergy_findings(), *splitwise_findings()]


def mlenergy_findings() -> list[Finding]:
    """Power of each GPU at every second batch point of each H100 (and, reported only, B200) configuration."""
    sweeps = read_mlenergy(_find(MLENERGY))
    findings = []
    for gpu, promises in (("H100", (0.03, 0.06)), ("B200", (None, None))):
        held = [hold_points_out(s) for s in sweeps if s.gpu == gpu and len(s.batch) >= _MIN_POINTS]
        errors = np.concatenate([np.array(e) for e in held])
        data = f"ML.ENERGY v3, {len(errors)} held-out batch points of {len(held)} {gpu} configurations"
        name = f"power_model_{gpu.lower()}_mape"
        median, p90 = float(np.median(errors)), float(np.quantile(errors, 0.9))
        findings.append(Finding("power", name, median, "", "lower", data, (), promises[0], "median"))
        findings.append(Finding("power", f"{name}_p90", p90, "", "lower", data, (), promises[1], "90th percentile"))
    return findings


def splitwise_findings() -> list[Finding]:
    """Prompt time, token time and peak power: held-out repeats, and whole cells left out."""
    measured = read_splitwise(_find(SPLITWISE))
    parts = []
    for group in groups(measured):
        rows = select(measured, group)
        tdp_w = GPUS[gpu_name(group[0])].tdp_w
        parts.append((hold_rows_out(rows, tdp_w), leave_cells_out(cells_of(rows, tdp_w), predict_cell, tdp_w)))
    prompt = [e for held, _ in parts for e in held.prompt_time]
    token = [e for held, _ in parts for e in held.token_time]
    repeats = [e for held, _ in parts for e in held.peak_power]
    cell_time = [e for _, left in parts for e in left.inside_seconds]
    peak = [e for _, left in parts for e in left.inside_watts]
    edge = [e for _, left in parts for e in left.edge_watts]
    source = "splitwise-sim data/perf_model.csv"
    time = max(fmean(prompt), fmean(token))
    note = f"worse of prompt {fmean(prompt):.4f} and token {fmean(token):.4f}; every second repeat held out"
    cells = "whole prompt x batch cells left out one at a time, inside the measured range"
    with_edges = (
        f"{cells}; with the {len(edge)} edge cells {fmean([*peak, *edge]):.4f}; held-out repeats would give "
        f"{fmean(repeats):.4f}, since the file repeats one power in every row of a cell"
    )
    outer = "cells with the fewest or most tokens left out: what extrapolation costs, flagged in predictions"
    return [
        _finding("splitwise_time_mape", time, f"{source}, {len(prompt)} held-out rows", 0.05, note),
        _finding("splitwise_peak_mape", fmean(peak), f"{source}, {len(peak)} held-out cells", 0.05, with_edges),
        _finding("splitwise_cell_time_mape", fmean(cell_time), f"{source}, {len(cell_time)} cells", None, cells),
        _finding("splitwise_edge_peak_mape", fmean(edge), f"{source}, {len(edge)} cells", None, outer),
    ]


def _finding(name: str, value: float, data: str, promise: float | None, note: str) -> Finding:
    return Finding("power", name, value, "", "lower", data, (), promise, note)


def _find(file: DataFile) -> Path:
    path = find_file(file)
    if path is None:
        raise InputError(f"{file.name} is not found; set NONET_MIRROR to a folder that holds {file.path}")
    return path
