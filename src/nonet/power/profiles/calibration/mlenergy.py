"""Decode power and time by batch from the ML.ENERGY benchmark's configurations.

Power of each GPU is a logistic curve in log2(batch): low + span / (1 + exp(-slope * (log2 b - centre))). The benchmark
has no prompt phases; what a profile says about those is borrowed and says so.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.power.profiles.hardware import GPUS, gpu_name
from nonet.power.profiles.profile import PowerProfile
from nonet.power.profiles.tables import DecodeTable, PrefillTable, Provenance

CONFIG = ["task", "model_id", "weight_precision", "gpu_model", "num_gpus", "tensor_parallel", "expert_parallel"]
CONFIG += ["data_parallel"]
COLUMNS = [*CONFIG, "avg_batch_size", "avg_power_watts", "median_itl_ms"]
ACTIVE = "activated_params_billions"
MIN_POINTS = 8
_PRIOR_WEIGHT = 0.02


@dataclass(frozen=True, slots=True)
class Logistic:
    """low_w + span_w / (1 + exp(-slope * (log2 batch - centre))), W of each GPU.

    >>> round(Logistic(430.7, 207.6, 0.96, 6.90).watts(128))  # Llama-3.1-70B, TP4, H100
    539
    """

    low_w: float
    span_w: float
    slope: float
    centre: float

    def watts(self, batch: float) -> float:
        """Power of each GPU at `batch`."""
        return self.low_w + self.span_w / (1.0 + math.exp(-self.slope * (math.log2(batch) - self.centre)))


@dataclass(frozen=True, slots=True)
class Sweep:
    """The batch points of one configuration: model, GPU, parallelism, task.

    Attributes:
        key: values of `CONFIG`.
        batch: (n,), rising.
        watts: (n,), W of each GPU.
        itl_s: (n,), median inter-token latency.
        active_billions: parameters that a token passes, NaN where the file does not say.
    """

    key: tuple[object, ...]
    batch: tuple[float, ...]
    watts: tuple[float, ...]
    itl_s: tuple[float, ...]
    active_billions: float = math.nan

    @property
    def gpu(self) -> str:
        """GPU as the file names it."""
        return str(self.key[3])


def read_mlenergy(path: Path) -> list[Sweep]:
    """The sweeps of the file; rows without a positive power are left out.

    Raises:
        InputError: the file cannot be read or a column is missing.
    """
    try:
        rows = pl.read_csv(path, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read as CSV ({str(error).splitlines()[0]})") from error
    missing = [name for name in COLUMNS if name not in rows.columns]
    if missing:
        raise InputError(f"{path}: no column {missing[0]}; ML.ENERGY configurations have {', '.join(COLUMNS)}")
    numbers = COLUMNS[len(CONFIG) :]
    if not all(rows[name].dtype.is_numeric() for name in [*numbers, "num_gpus"]):
        raise InputError(f"{path}: {', '.join(numbers)} and num_gpus must be numbers")
    rows = rows.filter(pl.all_horizontal((pl.col(name) > 0) & pl.col(name).is_finite() for name in numbers))
    sweeps = []
    for key, group in rows.group_by(CONFIG, maintain_order=True):
        part = group.sort("avg_batch_size").unique("avg_batch_size", keep="first", maintain_order=True)
        watts = part["avg_power_watts"] / part["num_gpus"]
        itl = part["median_itl_ms"] / 1e3
        active = float(part[ACTIVE][0]) if ACTIVE in part.columns else math.nan
        sweeps.append(Sweep(key, tuple(part["avg_batch_size"]), tuple(watts), tuple(itl), active))
    return sweeps


def fit_logistic(batch: Sequence[float], watts: Sequence[float]) -> Logistic:
    """Least squares of relative errors, with a weak pull to slope 1 and a centre between the points.

    Raises:
        InputError: fewer than three points.
    """
    from scipy.optimize import least_squares

    if len(batch) < 3:
        raise InputError(f"{len(batch)} batch points: a power curve over batch needs at least 3")
    x, y = np.log2(np.array(batch, np.float64)), np.array(watts, np.float64)
    scale = float(y.mean())

    def residuals(p: NDArray[np.float64]) -> NDArray[np.float64]:
        model = p[0] + p[1] / (1.0 + np.exp(-p[2] * (x - p[3])))
        prior = _PRIOR_WEIGHT * np.array([p[2] - 1.0, (p[3] - x.mean()) / 3.0, p[1] - np.ptp(y) / scale])
        return np.concatenate([model / (y / scale) - 1.0, prior])

    start = [y.min() / scale, max(np.ptp(y) / scale, 0.01), 1.0, float(x.mean())]
    found = least_squares(
        residuals, start, bounds=([0.05, -1.0, 0.1, 0.0], [3.0, 2.0, 6.0, 14.0]), loss="soft_l1", f_scale=0.03
    )
    low, span, slope, centre = (float(v) for v in found.x)
    return Logistic(low * scale, span * scale, slope, centre)


def hold_points_out(sweep: Sweep) -> list[float]:
    """Relative errors at every second batch point, fitted on the others (which keep both ends)."""
    train = [i for i in range(len(sweep.batch)) if i % 2 == 0 or i == len(sweep.batch) - 1]
    test = [i for i in range(len(sweep.batch)) if i not in train]
    curve = fit_logistic([sweep.batch[i] for i in train], [sweep.watts[i] for i in train])
    return [abs(curve.watts(sweep.batch[i]) / sweep.watts[i] - 1) for i in test]


def hold_times_out(sweep: Sweep) -> list[float]:
    """Relative errors of the time of a token at inner batch points, each interpolated between its neighbours."""
    errors = []
    for i in range(1, len(sweep.batch) - 1):
        (b0, b1, b2), (s0, s1, s2) = sweep.batch[i - 1 : i + 2], sweep.itl_s[i - 1 : i + 2]
        errors.append(abs((s0 + (s2 - s0) * (b1 - b0) / (b2 - b0)) / s1 - 1))
    return errors


def profile_from_sweep(sweep: Sweep, prefill: PrefillTable, borrowed: str, source: str, name: str) -> PowerProfile:
    """A profile whose decode is measured and whose prefill is `prefill`, borrowed from `borrowed`.

    Below the smallest batch that was measured, the curve and the line of the first two times go on, out of range.
    """
    gpu_key = gpu_name(sweep.gpu)
    gpu = GPUS[gpu_key]
    curve = fit_logistic(sweep.batch, sweep.watts)
    below = tuple(float(b) for b in (1, 2, 4) if b < sweep.batch[0])
    slope = (sweep.itl_s[1] - sweep.itl_s[0]) / (sweep.batch[1] - sweep.batch[0])
    early = tuple(max(0.5 * sweep.itl_s[0], sweep.itl_s[0] - slope * (sweep.batch[0] - b)) for b in below)
    batch, measured = (*below, *sweep.batch), (sweep.batch[0], sweep.batch[-1])
    power_errors = hold_points_out(sweep) if len(sweep.batch) >= 4 else []
    time_errors = hold_times_out(sweep)
    other = Provenance(kind="borrowed", source=borrowed)
    return PowerProfile(
        name=name,
        gpu=gpu_key,
        model=str(sweep.key[1]),
        tensor_parallel=int(str(sweep.key[4])),
        tdp_w=gpu.tdp_w,
        idle_w=gpu.idle_w,
        min_power_limit_w=gpu.min_power_limit_w,
        min_clock_mhz=gpu.min_clock_mhz,
        max_clock_mhz=gpu.max_clock_mhz,
        clock_step_mhz=gpu.clock_step_mhz,
        prefill=prefill,
        decode=DecodeTable(
            batch=batch,
            seconds_per_token=(*early, *sweep.itl_s),
            watts=tuple(curve.watts(b) for b in batch),
            range_batch=measured,
            range_batch_power=measured,
        ),
        clock=gpu.clock,
        server=gpu.server,
        provenance={
            "prefill_seconds": other,
            "prefill_watts": other,
            "decode_seconds": _measured("measured", source, time_errors, len(sweep.batch)),
            "decode_watts": _measured("fitted", source, power_errors, len(sweep.batch)),
            "clock": gpu.clock_source,
            "idle": gpu.idle_source,
            "server": gpu.server_source,
        },
        labels={name: str(value) for name, value in zip(CONFIG, sweep.key, strict=True)},
    )


def _measured(kind: str, source: str, errors: list[float], num_points: int) -> Provenance:
    held = {"points": round(statistics.fmean(errors), 4)} if errors else {}
    return Provenance.model_validate({"kind": kind, "source": source, "held_out": held, "num_points": num_points})
