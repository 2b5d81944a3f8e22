"""Predictions of profiles at given points: what `calibrate --predict points.csv` prints."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from nonet.common.errors import InputError
from nonet.power.profiles.hardware import gpu_name
from nonet.power.profiles.profile import PowerProfile

ALIASES = {
    "hardware": ("hardware", "gpu", "gpu_model"),
    "model": ("model", "model_id"),
    "tensor_parallel": ("tensor_parallel", "tp", "num_gpus"),
    "prompt_tokens": ("prompt_tokens", "prompt_size", "prompt", "prompt_len"),
    "batch": ("batch", "batch_size", "avg_batch_size"),
    "clock_mhz": ("clock_mhz", "clock", "sm_clock_mhz", "sm_clock", "freq_mhz", "frequency"),
    "level": ("level",),
}
_CHOSEN_BEFORE = ("gpu_model", "model_id", "tensor_parallel")
_NUMBERS = ("tensor_parallel", "prompt_tokens", "batch", "clock_mhz", "level")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)b(?![a-z0-9])")


@dataclass(frozen=True, slots=True)
class Prediction:
    """Power and time at one point; power in W of each GPU, times in seconds.

    Attributes:
        profile: which profile it comes from.
        level: clock over the highest clock.
        prefill_s: time of the prompt phase of the whole batch; NaN when the point has no prompt.
        prefill_w: its peak power.
        decode_s_per_token: time of one step of the batch.
        decode_w: its power.
        extrapolated: some quantity lies outside what was measured on this model and GPU.
        reasons: why, separated by "; ".
    """

    profile: str
    level: float
    prefill_s: float
    prefill_w: float
    decode_s_per_token: float
    decode_w: float
    extrapolated: bool
    reasons: str


def predict(profile: PowerProfile | Iterable[PowerProfile], points: Path | pl.DataFrame) -> pl.DataFrame:
    """The points with the columns of `Prediction` beside them, one row each, order kept.

    Args:
        profile: one, or several of which each row takes that of its hardware, model and tensor parallelism; where
            none is of that model, the nearest in size on the same GPU, flagged. Columns that are `labels` of profiles
            (task, precision, parallelism of ML.ENERGY) choose among them, and differences are flagged.
        points: a CSV file or frame; columns by any name of `ALIASES`. `batch` is 1 and the level is 1 when absent.

    Raises:
        InputError: the file cannot be read, has neither prompt nor batch, or a value is no positive number.
    """
    profiles = [profile] if isinstance(profile, PowerProfile) else list(profile)
    if not profiles:
        raise InputError("no profile to predict with; give one")
    where = "points" if isinstance(points, pl.DataFrame) else str(points)
    frame = points if isinstance(points, pl.DataFrame) else _read(points)
    rename = {key: next((n for n in names if n in frame.columns), None) for key, names in ALIASES.items()}
    if rename["prompt_tokens"] is None and rename["batch"] is None:
        raise InputError(f"{where}: neither a prompt nor a batch column; name them prompt_tokens and batch")
    if len(profiles) > 1 and rename["hardware"] is None:
        raise InputError(f"{where}: no hardware column to choose a profile by; add it or give one profile")
    known_labels = [name for name in frame.columns if any(name in p.labels for p in profiles)]
    answers = []
    for number, row in enumerate(frame.iter_rows(named=True), start=2):
        point = {key: row[name] for key, name in rename.items() if name is not None and row[name] is not None}
        for key in _NUMBERS:
            if key in point:
                point[key] = _positive(point[key], f"{where}, line {number}, {rename[key]}")
        labels = {name: _label(row[name]) for name in known_labels if row[name] is not None}
        chosen, why = nearest_profile(profiles, point, f"{where}, line {number}", labels)
        answers.append(predict_point(chosen, point, why))
    columns = {name: [getattr(a, name) for a in answers] for name in Prediction.__slots__}
    return frame.hstack(pl.DataFrame(columns).rename({n: f"predicted_{n}" for n in columns if n in frame.columns}))


def predict_point(profile: PowerProfile, point: dict[str, float], why: str = "") -> Prediction:
    """One point, keys of `ALIASES` with numbers; `why` says what already makes it an extrapolation.

    Raises:
        InputError: the clock lies above the profile's highest one.
    """
    level = point.get("level", point.get("clock_mhz", profile.max_clock_mhz) / profile.max_clock_mhz)
    batch = point.get("batch", 1.0)
    tokens = point["prompt_tokens"] * batch if "prompt_tokens" in point else math.nan
    has_prompt = not math.isnan(tokens)
    reasons = [why] if why else []
    low, high = profile.prefill.range_tokens
    if has_prompt and not low <= tokens <= high:
        reasons.append(f"{tokens:g} prompt tokens outside {low:g}-{high:g}")
    for quantity, (first, last) in (("time", profile.decode.range_batch), ("power", profile.decode.range_batch_power)):
        if not first <= batch <= last:
            reasons.append(f"batch {batch:g} outside {first:g}-{last:g} for decode {quantity}")
    if level < profile.clock.min_level - 1e-9:
        reasons.append(f"level {level:.3f} below {profile.clock.min_level:.3f}")
    quantities = ("decode_seconds", "decode_watts") + (("prefill_seconds", "prefill_watts") if has_prompt else ())
    used = [(name, profile.provenance[name]) for name in (*quantities, *(("clock",) if level < 1 else ()))]
    reasons += [f"{name} {source.kind}" for name, source in used if not source.stands_on_data]
    return Prediction(
        profile.name,
        level,
        profile.prefill_seconds(tokens, level, batch) if has_prompt else math.nan,
        profile.prefill_watts(tokens, level, batch) if has_prompt else math.nan,
        profile.decode_seconds_per_token(batch, level),
        profile.decode_watts(batch, level),
        bool(reasons),
        "; ".join(reasons),
    )


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_csv(path, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read as CSV ({str(error).splitlines()[0]})") from error


def _positive(value: object, where: str) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not (number > 0 and math.isfinite(number)):
        raise InputError(f"{where}: {value!r} is no positive number")
    return number


def _plain(model: str) -> str:
    """A model's name without owner, punctuation and the words that all variants carry.

    >>> _plain("meta-llama/Llama-3.1-70B-Instruct")
    'llama3170b'
    """
    name = re.sub(r"[^a-z0-9]", "", model.lower().rsplit("/", 1)[-1])
    return re.sub(r"(instruct|chat|hf)+$", "", name)


def _is_of(model: str, profile: PowerProfile) -> bool:
    """Whether a profile is of a model; a name without a size ("bloom") stands for all sizes."""
    asked, known = _plain(model), _plain(profile.model)
    return known == asked or (_SIZE.search(model.lower()) is None and known.startswith(asked))


def _billions(model: str) -> float:
    found = _SIZE.search(model.lower())
    return float(found.group(1)) if found else 70.0


def nearest_profile(
    profiles: Sequence[PowerProfile], point: Mapping[str, str], where: str, labels: Mapping[str, str] | None = None
) -> tuple[PowerProfile, str]:
    """The profile of a point's hardware, model and tensor parallelism, else the nearest, and why it is not the same.

    Args:
        profiles: to choose from.
        point: keys of `ALIASES`.
        where: the point, in errors.
        labels: of the point; a profile with other ones comes after those that share more.

    Raises:
        InputError: none is of the hardware.
    """
    candidates = list(profiles)
    if "hardware" in point:
        gpu = gpu_name(str(point["hardware"]))
        candidates = [p for p in profiles if p.gpu == gpu]
        if not candidates:
            raise InputError(f"{where}: no profile for {point['hardware']}; calibrate one or leave the row out")
    model, tp = str(point.get("model", "")), point.get("tensor_parallel")
    size = _billions(model)
    ranked = sorted(
        candidates,
        key=lambda p: (
            bool(model) and not _is_of(model, p),
            tp is not None and _tensor_parallel(p) != tp,
            len(_others(p, labels or {})),
            abs(math.log(_billions(p.model) / p.tensor_parallel / size * float(tp or 1))),
        ),
    )
    best = ranked[0]
    reasons = []
    if model and not _is_of(model, best):
        reasons.append(f"{model} was not calibrated, {best.model} was")
    if tp is not None and _tensor_parallel(best) != tp:
        reasons.append(f"tensor parallelism {float(tp):g} was not calibrated, {_tensor_parallel(best):g} was")
    reasons += [
        f"{name} {(labels or {})[name]} was not calibrated, {best.labels[name]} was"
        for name in _others(best, labels or {})
    ]
    return best, "; ".join(reasons)


def _tensor_parallel(profile: PowerProfile) -> float:
    """As its source has it: a model that is split by experts takes more GPUs than that."""
    return float(profile.labels.get("tensor_parallel", profile.tensor_parallel))


def _others(profile: PowerProfile, labels: Mapping[str, str]) -> list[str]:
    """The labels in which a profile differs from a point, but for those that choose it before."""
    known = [name for name in labels if name in profile.labels and name not in _CHOSEN_BEFORE]
    return [name for name in known if profile.labels[name] != labels[name]]


def _label(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
