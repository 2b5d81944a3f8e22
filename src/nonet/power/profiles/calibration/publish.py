"""The profiles that the package ships, recomputed from their sources; `published.json` is what this gives, rounded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from nonet.common.atomic import atomic_write
from nonet.power.profiles.calibration.mlenergy import Sweep, profile_from_sweep, read_mlenergy
from nonet.power.profiles.calibration.splitwise import groups, profile_from_splitwise, read_splitwise
from nonet.power.profiles.hardware import GPUS, gpu_name
from nonet.power.profiles.profile import PowerProfile
from nonet.power.profiles.tables import PrefillTable

SPLITWISE = "splitwise-sim data/perf_model.csv (MIT)"
MLENERGY = "ML.ENERGY leaderboard v3, lm-arena-chat"
_TASK = "lm-arena-chat"
_MIN_POINTS = 4
_DENSE_TFLOPS = {"h100": 989.0, "b200": 2250.0}
"""BF16 without sparsity, from the data sheets."""


def published_profiles(splitwise: Path, mlenergy: Path) -> list[PowerProfile]:
    """Fit every profile that the package ships.

    Raises:
        InputError: a file cannot be read.
    """
    measured = read_splitwise(splitwise)
    profiles = [profile_from_splitwise(measured, group, SPLITWISE) for group in sorted(groups(measured))]
    by_name = {profile.name: profile for profile in profiles}
    times, powers = by_name["h100-llama2-70b-tp4"], by_name["a100-llama2-70b-tp4"]
    sweeps = [one for one in read_mlenergy(mlenergy) if one.key[0] == _TASK and len(one.batch) >= _MIN_POINTS]
    return profiles + [_with_borrowed_prefill(sweep, times, powers) for sweep in sweeps]


def _with_borrowed_prefill(sweep: Sweep, times: PowerProfile, powers: PowerProfile) -> PowerProfile:
    """Decode as measured; prefill time by active parameters, GPUs and dense FLOP/s, its power by share of TDP."""
    gpu, num_gpus = gpu_name(sweep.gpu), int(str(sweep.key[4]))
    speed = num_gpus / times.tensor_parallel * _DENSE_TFLOPS[gpu] / _DENSE_TFLOPS["h100"]
    factor = sweep.active_billions / 70 / speed
    table, tdp_w = times.prefill, GPUS[gpu].tdp_w
    prefill = PrefillTable(
        tokens=table.tokens,
        seconds=tuple(s * factor for s in table.seconds),
        watts=tuple(powers.prefill_watts(tokens) / powers.tdp_w * tdp_w for tokens in table.tokens),
        batches=table.batches,
        seconds_factor=table.seconds_factor,
        watts_factor=(1.0,) * len(table.batches),
        range_tokens=table.range_tokens,
    )
    how = f"{sweep.active_billions:g} billion active parameters, {num_gpus} GPUs, dense FLOP/s"
    borrowed = f"time: llama2-70b on H100 TP4 ({SPLITWISE}) by {how}; power: share of TDP on A100 TP4"
    split = "tp" if sweep.key[5] == num_gpus else "ep"
    name = f"{gpu}-{_short(str(sweep.key[1]))}-{split}{num_gpus}"
    return profile_from_sweep(sweep, prefill, borrowed, MLENERGY, name)


def _short(model_id: str) -> str:
    """A model's name as profiles have it.

    >>> _short("meta-llama/Llama-3.1-70B-Instruct"), _short("Qwen/Qwen3-30B-A3B-Instruct-2507")
    ('llama3.1-70b', 'qwen3-30b-a3b')
    """
    name = re.sub(r"-(instruct|it|2507)(?=-|$)", "", model_id.rsplit("/", 1)[-1].lower())
    return re.sub(r"^([a-z]+)-(?=\d)", r"\1", name.removeprefix("nvidia-"))


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
