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

POWER_NAMES = ("DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_POWER_USAGE_INSTANT", "power.draw", "power_w", "power")
TIME_NAMES = ("timestamp", "time", "t_s", "time_s", "ts")
GPU_NAMES = ("gpu", "UUID", "index", "uuid")
_MAX_BYTES = 2 << 30
_MILLISECONDS = 1e11  # an epoch above this is in milliseconds


@dataclass(frozen=True, eq=False, slots=True)
class GpuLog:
    """Mean power of the GPUs of one instance.

    Attributes:
        time_s: float64 (n,), rising; seconds, epoch where the log has it.
        watts: float64 (n,), mean over the GPUs, W of each.
        num_gpus: how many GPUs the log has.
        num_refused: samples left out: zero, negative or no number.
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
    if time is None or power is None:
        what, names = ("time", TIME_NAMES) if time is None else ("power", POWER_NAMES)
        raise InputError(f"{path}: no {what} column; name one of {', '.join(names)}")
    gpu = next((plain[n] for n in GPU_NAMES if n in plain), None)
    watts = pl.col(power)
    if frame[power].dtype == pl.String:
        watts = watts.str.extract(r"^\s*([-+0-9.eE]+)").cast(pl.Float64, strict=False)
    who = pl.lit("0") if gpu is None else pl.col(gpu).cast(pl.String)
    return frame.select(
        to_seconds(frame[time]).alias("time_s"), watts.cast(pl.Float64).alias("watts"), who.alias("gpu")
    )


def to_seconds(column: pl.Series) -> pl.Series:
    """Times as seconds: numbers (epochs in ms are recognised), date texts and date columns; null where neither."""
    if column.dtype.is_temporal():
        return column.cast(pl.Datetime("us")).to_physical() / 1e6
    if column.dtype == pl.String:
        number = column.str.strip_chars().cast(pl.Float64, strict=False)
        if number.null_count() == len(column):
            text = column.str.strip_chars().str.replace_all("/", "-").str.replace("T", " ").str.replace("Z$", "")
            return text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="us").to_physical() / 1e6
        column = number
    seconds = column.cast(pl.Float64)
    return seconds / 1e3 if len(seconds) and (seconds.max() or 0) > _MILLISECONDS else seconds  # type: ignore[operator]


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
    means = good.group_by("time_s").agg(pl.col("watts").mean()).sort("time_s")
    time_s, watts = (means[name].to_numpy().astype(np.float64) for name in ("time_s", "watts"))
    return GpuLog(time_s, watts, good["gpu"].n_unique(), samples.height - good.height)
