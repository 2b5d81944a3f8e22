"""Profiles from the files that people have: which kind a file is, what it yields, what was refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nonet.common.errors import InputError
from nonet.power import data
from nonet.power.profiles.calibration import mlenergy, splitwise
from nonet.power.profiles.calibration.clock_table import fit_clock, read_clock_table
from nonet.power.profiles.calibration.gpu_log import read_gpu_log
from nonet.power.profiles.calibration.request_log import read_request_log
from nonet.power.profiles.calibration.server_log import profile_from_logs
from nonet.power.profiles.hardware import GPUS, gpu_name
from nonet.power.profiles.profile import PowerProfile, Provenance
from nonet.power.profiles.published import PROFILES

_MAX_HEADER_BYTES = 1 << 16


@dataclass(frozen=True)
class Calibration:
    """What calibration found.

    Attributes:
        profiles: one for each configuration that could be fitted.
        refusals: rows and columns that are no measurements, and configurations that cannot be fitted, with the reason.
    """

    profiles: tuple[PowerProfile, ...]
    refusals: tuple[str, ...] = ()


def held_out_errors(profiles: Sequence[PowerProfile]) -> list[dict[str, Any]]:
    """The errors on what was held out, over the profiles of each GPU: median, 90th percentile, the worst and whose."""
    errors: dict[tuple[str, str, str], list[tuple[float, str]]] = {}
    for one in profiles:
        for quantity, source in one.provenance.items():
            for split, error in source.held_out.items():
                errors.setdefault((one.gpu, quantity, split), []).append((error, one.name))
    rows = []
    for (gpu, name, split), found in errors.items():
        values = np.array([error for error, _ in found])
        worst, whose = max(found)
        median, p90 = float(np.median(values)), float(np.quantile(values, 0.9))
        row = {"gpu": gpu, "quantity": name, "split": split, "num_profiles": len(found)}
        rows.append({**row, "median": median, "p90": p90, "worst": worst, "worst_profile": whose})
    return rows


def calibrate_table(path: str | Path) -> Calibration:
    """Profiles from a published table: a splitwise `perf_model.csv` or configurations of ML.ENERGY.

    Args:
        path: the file, or the name of a data set such as "mlenergy/llm-configs".

    Raises:
        InputError: the file cannot be read, or its header is neither's.

    >>> import tempfile
    >>> table = Path(tempfile.mkdtemp()) / "sweep.csv"
    >>> head = "task,model_id,weight_precision,gpu_model,num_gpus,tensor_parallel,expert_parallel,data_parallel"
    >>> points = [(8, 440, 8), (32, 500, 9), (128, 570, 12), (256, 600, 15)]
    >>> rows = [f"chat,my/model-8b,bfloat16,H100,1,1,1,1,{batch},{watts},{ms}" for batch, watts, ms in points]
    >>> _ = table.write_text("\\n".join([f"{head},avg_batch_size,avg_power_watts,median_itl_ms", *rows]))
    >>> (profile,) = calibrate_table(table).profiles
    >>> 500 < profile.decode_watts(64) < 570, round(profile.decode_seconds_per_token(32), 4)
    (True, 0.009)
    """
    path = _table(path)
    columns = _header(path)
    if {"prompt_time", "token_time", "peak_power"} <= columns:
        measured = splitwise.read_splitwise(path)
        profiles = [
            splitwise.profile_from_splitwise(measured, group, path.name) for group in splitwise.groups(measured)
        ]
        return Calibration(tuple(profiles), tuple(str(refusal) for refusal in measured.refusals))
    if {"avg_power_watts", "avg_batch_size", "median_itl_ms"} <= columns:
        return _from_sweeps(path)
    raise InputError(
        f"{path}: neither a splitwise perf_model.csv nor ML.ENERGY configurations; for logs of your own give "
        "--gpu-log and --requests"
    )


def calibrate_logs(gpu_log: Path, requests: Path, gpu: str, model: str, tensor_parallel: int = 1) -> Calibration:
    """A profile from the power log of one server's GPUs and the requests that it served.

    Raises:
        InputError: a file cannot be read, or shows too little of a phase.

    >>> calibrate_logs(Path("smi.csv"), Path("served.csv"), gpu="h100", model="my-8b", tensor_parallel=1)
    Traceback (most recent call last):
    nonet.common.errors.InputError: smi.csv: ...
    """
    power, log = read_gpu_log(gpu_log), read_request_log(requests)
    found = profile_from_logs(power, log, gpu, model, tensor_parallel)
    counts = (
        (power.num_refused, f"{gpu_log.name}: samples that are zero, negative, tenfold or no number"),
        (log.num_refused, f"{requests.name}: requests with a cell that is no positive number"),
    )
    return Calibration((found,), tuple(f"{what}: {count:,}" for count, what in counts if count))


def with_clock_table(profile: PowerProfile, path: Path) -> PowerProfile:
    """The profile with its clock response fitted to a table of power and time by clock.

    Raises:
        InputError: the table cannot be read, or has too few clocks.
    """
    rows = read_clock_table(path)
    found = fit_clock(rows, profile.max_clock_mhz)
    source = Provenance(kind="measured", source=path.name, num_points=len(rows))
    return profile.model_copy(update={"clock": found.response, "provenance": {**profile.provenance, "clock": source}})


def _from_sweeps(path: Path) -> Calibration:
    profiles, refusals = [], []
    for sweep in mlenergy.read_mlenergy(path):
        name = "-".join(str(part) for part in sweep.key).replace("/", "-").replace(" ", "-").lower()
        try:
            donor = _donor(sweep.gpu)
            text = f"prefill of {donor.name}"
            profiles.append(mlenergy.profile_from_sweep(sweep, donor.prefill, text, path.name, name))
        except (InputError, ValueError) as error:
            refusals.append(f"{name}: {error}")
    return Calibration(tuple(profiles), tuple(refusals))


def _donor(gpu: str) -> PowerProfile:
    key = gpu_name(gpu)
    for profile in map(PROFILES.__getitem__, PROFILES):
        if profile.gpu == key:
            return profile
    raise InputError(f"no shipped profile on {gpu} to borrow the prompt phase from; there are {', '.join(GPUS)}")


def _table(path: str | Path) -> Path:
    if not Path(path).exists() and str(path) in data.names_of_room():
        return next(iter(data.fetch_dataset(str(path)).values()))
    return Path(path)


def _header(path: Path) -> set[str]:
    try:
        with path.open("rb") as file:
            line = file.read(_MAX_HEADER_BYTES).split(b"\n", 1)[0]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    return {name.strip() for name in line.decode("utf-8", "replace").split(",")}
