"""GPU power over time from what people have: nvidia-smi CSV, dcgm-exporter text, Prometheus range JSON, Parquet."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.power.load.log_flaws import NUM_STUCK, tenfold
from nonet.power.load.power_columns import power_names, unit_of, watts_of
from nonet.power.load.times import parse_times

POWER_NAMES = ("DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_POWER_USAGE_INSTANT", "power.draw", "power_w", "power")
TIME_NAMES = ("timestamp", "time", "t_s", "time_s", "ts", "datetime", "date", "timestamp_ms")
GPU_NAMES = ("gpu", "UUID", "index", "uuid")
_MAX_BYTES = 2 << 30


@dataclass(frozen=True, eq=False, slots=True)
class GpuLog:
    """Mean power of the GPUs of one instance.

    Attributes:
        time_s: float64 (n,), rising; seconds, epoch where the log has it.
        watts: float64 (n,), mean over the GPUs, W of each.
        num_gpus: how many GPUs the log has.
        num_refused: samples left out: zero, negative, tenfold or no number.
    """

    time_s: NDArray[np.float64]
    watts: NDArray[np.float64]
    num_gpus: int
    num_refused: int


def read_gpu_log(path: Path) -> GpuLog:
    """Read a log; the format is told by the ending and the content.

    Raises:
        InputError: the file cannot be read, has no power or time, or no sample is a positive number.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a GPU power log (nvidia-smi CSV, dcgm-exporter, Parquet)")
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"{path}: over 2 GiB; cut it to the hours that matter")
    try:
        if path.suffix == ".parquet":
            triples = _from_frame(pl.read_parquet(path), path)
        elif path.suffix == ".json":
            triples = _from_range(json.loads(path.read_text()), path)
        elif path.suffix in (".prom", ".txt"):
            triples = _from_text(path)
        else:
            triples = _from_frame(pl.read_csv(path, infer_schema=False), path)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error
    return _grouped(triples, path)


def _from_frame(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    plain = {re.sub(r"\s*\[.*\]$", "", name.strip()): name for name in frame.columns}
    time, power = (next((plain[n] for n in names if n in plain), None) for names in (TIME_NAMES, POWER_NAMES))
    powers = [power] if power is not None else power_names(frame)
    if time is None or not powers:
        what, names = ("time", TIME_NAMES) if time is None else ("power", POWER_NAMES)
        raise InputError(f"{path}: no {what} column; name one of {', '.join(names)}")
    gpu = next((plain[n] for n in GPU_NAMES if n in plain), None)
    who = [""] * len(frame) if gpu is None else frame[gpu].cast(pl.String).fill_null("").to_list()
    seconds = to_seconds(frame[time])
    parts = [
        pl.DataFrame({"time_s": seconds, "watts": watts_of(frame[n], unit_of(n)), "gpu": [f"{w}/{n}" for w in who]})
        for n in powers
    ]
    return pl.concat(parts)


def to_seconds(column: pl.Series) -> pl.Series:
    """Times as seconds, null where a cell is none; see `parse_times`."""
    return pl.Series(parse_times(column)[0]).fill_nan(None)


def _from_range(document: object, path: Path) -> pl.DataFrame:
    rows = []
    try:
        for series in document["data"]["result"]:  # type: ignore[index]
            labels = series["metric"]
            if labels.get("__name__", POWER_NAMES[0]) in POWER_NAMES:
                who = str(labels.get("UUID", labels.get("gpu", "0")))
                rows += [(float(t), float(v), who) for t, v in series["values"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not the answer of a Prometheus range query ({error!r})") from error
    return _rows(rows)


def _from_text(path: Path) -> pl.DataFrame:
    from prometheus_client.parser import text_fd_to_metric_families

    rows = []
    with path.open() as file:
        for family in text_fd_to_metric_families(file):
            for sample in family.samples:
                if sample.name in POWER_NAMES and sample.timestamp is not None:
                    who = sample.labels.get("UUID", sample.labels.get("gpu", "0"))
                    rows.append((float(sample.timestamp), float(sample.value), who))
    return _rows(rows)


def _rows(rows: list[tuple[float, float, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"time_s": pl.Float64, "watts": pl.Float64, "gpu": pl.String}, orient="row")


def _grouped(samples: pl.DataFrame, path: Path) -> GpuLog:
    good = samples.filter((pl.col("watts") > 0) & pl.col("watts").is_finite() & pl.col("time_s").is_not_null())
    if good.height < 2:
        raise InputError(f"{path}: {good.height} samples with a time and a positive power; at least 2 are needed")
    own = [
        part.filter(pl.Series(~tenfold(part["watts"].to_numpy()))) for part in good.sort("time_s").partition_by("gpu")
    ]
    if all(part.height >= NUM_STUCK and part["watts"].n_unique() == 1 for part in own):
        raise InputError(f"{path}: the power never changes ({own[0]['watts'][0]:g} W); the sensor is stuck")
    kept = pl.concat(own)
    means = kept.group_by("time_s").agg(pl.col("watts").mean()).sort("time_s")
    time_s, watts = (means[name].to_numpy().astype(np.float64) for name in ("time_s", "watts"))
    return GpuLog(time_s, watts, len(own), samples.height - kept.height)
