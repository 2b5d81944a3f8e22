"""Huawei 2023 (sir-lab/data-release, SoCC 2023): series per minute or second, private and public cloud.

The folder of a file is its metric, e.g. `requests_minute`; times are seconds since the start (`time`), columns
functions. Everything goes to the table `series`, region "private" or "public" by the path. With `requests=yes` the
counts of requests become requests too, spread evenly within each step; they have no durations, since the delays of the
release are means over pods, and with both resolutions at hand only the seconds are used.
"""

from __future__ import annotations

import re

import numpy as np
import polars as pl

from nonet.coldstart.importing.base import Intake
from nonet.coldstart.importing.sources import SourceFile
from nonet.coldstart.importing.spreading import phase_of, spread
from nonet.coldstart.importing.wide_series import read_wide
from nonet.common.errors import InputError

_METRIC = re.compile(r"(.+)_(minute|second)")
_STEPS_US = {"minute": 60_000_000, "second": 1_000_000}
_MAX_REQUESTS = 1_000_000


def run(intake: Intake) -> None:
    """Read every file; each stands alone."""
    wants_requests = intake.options.get("requests", "no") == "yes"
    metrics = {file: _metric_of(file) for file in intake.files}
    has_seconds = {
        _region_of(f, intake) for f, (name, step) in metrics.items() if (name, step) == ("requests", "second")
    }
    for file in intake.each(resumable=True):
        metric, step = metrics[file]
        region = _region_of(file, intake)
        spreads = wants_requests and metric == "requests" and (step == "second" or region not in has_seconds)
        for rows in read_wide(intake, file, region, metric=metric, statistic="", step_us=_STEPS_US[step]):
            if spreads:
                _give_requests(intake, rows, region, _STEPS_US[step])


def _metric_of(file: SourceFile) -> tuple[str, str]:
    folders = file.inner.split("/")
    for folder in reversed(folders):
        match = _METRIC.fullmatch(re.sub(r"\.zip$", "", folder))
        if match:
            return match[1], match[2]
    raise InputError(f"{file.name}: no folder <metric>_minute or <metric>_second in its path")


def _region_of(file: SourceFile, intake: Intake) -> str:
    path = file.inner.lower()
    return next((name for name in ("private", "public") if f"{name}_dataset" in path), intake.region)


def _give_requests(intake: Intake, rows: pl.DataFrame, region: str, step_us: int) -> None:
    whole = rows.filter((pl.col("value") > 0) & (pl.col("value") < _MAX_REQUESTS))
    intake.warn("count beyond one million in a step, not spread", rows.filter(pl.col("value") >= _MAX_REQUESTS).height)
    names = whole["function"].to_list()
    phases = {name: phase_of(name) for name in set(names)}
    for piece in whole.iter_slices(2_000):
        counts = np.rint(piece["value"].to_numpy()).astype(np.int64)
        own = np.array([phases[name] for name in piece["function"].to_list()])
        moments, step = spread(counts, piece["at_us"].to_numpy(), step_us, own)
        functions = piece["function"].gather(step.astype(np.uint32))
        intake.append(
            "request", pl.DataFrame({"arrive_us": moments, "start_us": moments, "function": functions}), region
        )
