"""The profiles that the package ships, recomputed from their sources; `published.json` is what this gives, rounded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nonet.common.atomic import atomic_write
from nonet.common.errors import InputError
from nonet.power.profiles.calibration.mlenergy import profile_from_sweep, read_mlenergy
from nonet.power.profiles.calibration.splitwise import profile_from_splitwise, read_splitwise
from nonet.power.profiles.hardware import GPUS, gpu_name
from nonet.power.profiles.profile import PowerProfile
from nonet.power.profiles.tables import PrefillTable

SPLITWISE = "splitwise-sim data/perf_model.csv (MIT)"
MLENERGY = "ML.ENERGY leaderboard v3, lm-arena-chat"
_A100 = (
    ("a100-80gb", "bloom-176b", 8),
    ("a100-80gb", "llama2-70b", 2),
    ("a100-80gb", "llama2-70b", 4),
    ("a100-80gb", "llama2-70b", 8),
)


@dataclass(frozen=True, slots=True)
class _Borrowed:
    """A profile with decode from ML.ENERGY; prefill time is that of Llama2-70B on H100, TP4, times `time_factor`."""

    name: str
    model_id: str
    precision: str
    gpu: str
    num_gpus: int
    time_factor: float
    why: str


_B200_FLOPS = 2250 / 989  # dense BF16 TFLOP/s of B200 over H100, from the data sheets
_OTHERS = (
    _Borrowed("h100-llama3.1-70b-tp4", "meta-llama/Llama-3.1-70B-Instruct", "bfloat16", "H100", 4, 1.0, "same size"),
    _Borrowed(
        "h100-llama3.1-8b-tp1", "meta-llama/Llama-3.1-8B-Instruct", "bfloat16", "H100", 1, 8 / 70 * 4, "by parameters"
    ),
    _Borrowed(
        "b200-llama3.1-70b-tp2",
        "meta-llama/Llama-3.1-70B-Instruct",
        "bfloat16",
        "B200",
        2,
        2 / _B200_FLOPS,
        "by GPUs and dense FLOP/s",
    ),
    _Borrowed(
        "b200-llama3.1-405b-tp8",
        "meta-llama/Llama-3.1-405B-Instruct",
        "bfloat16",
        "B200",
        8,
        405 / 70 / 2 / _B200_FLOPS,
        "by parameters, GPUs and dense FLOP/s",
    ),
)


def published_profiles(splitwise: Path, mlenergy: Path) -> list[PowerProfile]:
    """Fit every profile that the package ships.

    Raises:
        InputError: a file cannot be read or misses a configuration.
    """
    measured = read_splitwise(splitwise)
    profiles = [profile_from_splitwise(measured, group, SPLITWISE) for group in _A100]
    times = profile_from_splitwise(measured, ("h100-80gb", "llama2-70b", 4), SPLITWISE).prefill
    a100_tp4 = profiles[2]
    sweeps = read_mlenergy(mlenergy)
    for other in _OTHERS:
        key = ("lm-arena-chat", other.model_id, other.precision, other.gpu, other.num_gpus)
        found = [sweep for sweep in sweeps if sweep.key[:5] == key]
        if not found:
            raise InputError(f"{mlenergy}: no rows of {other.model_id} on {other.num_gpus} {other.gpu}")
        tdp_w = GPUS[gpu_name(other.gpu)].tdp_w
        shares = [a100_tp4.prefill_watts(tokens) / a100_tp4.tdp_w for tokens in times.tokens]
        prefill = PrefillTable(
            tokens=times.tokens,
            seconds=tuple(s * other.time_factor for s in times.seconds),
            watts=tuple(share * tdp_w for share in shares),
            batches=times.batches,
            seconds_factor=times.seconds_factor,
            watts_factor=(1.0,) * len(times.batches),
            range_tokens=times.range_tokens,
        )
        borrowed = f"time: llama2-70b on H100 TP4 ({SPLITWISE}), {other.why}; power: share of TDP on A100 TP4"
        profiles.append(profile_from_sweep(found[0], prefill, borrowed, MLENERGY, other.name))
    return profiles


def write_published(profiles: list[PowerProfile], path: Path) -> None:
    """Write them rounded to six significant digits."""
    with atomic_write(path) as file:
        file.write(json.dumps([_rounded(p.model_dump(mode="json")) for p in profiles], indent=1) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") if not value.is_integer() else value
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
