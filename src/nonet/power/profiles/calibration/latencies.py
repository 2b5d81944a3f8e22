"""How long requests took, where their log does not say: from the times of a shipped profile, scaled to the power log.

A server runs prompts one after the other and decodes what has its first token. With the times of the nearest profile on
the same GPU, that says when it prefilled, decoded or idled; factors on both times are sought with which these phases
explain the power best.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nonet.power.profiles.calibration.gpu_log import GpuLog
from nonet.power.profiles.calibration.request_log import RequestLog
from nonet.power.profiles.predict import nearest_profile
from nonet.power.profiles.profile import PowerProfile
from nonet.power.profiles.published import PROFILES

Floats = NDArray[np.float64]
_FACTORS = np.geomspace(0.1, 10.0, 81).tolist()
_ROUNDS = 3
_MOST_SEEN = 2000  # requests that the factors are sought with


def estimate_latencies(
    gpu: GpuLog, log: RequestLog, gpu_key: str, model: str, tensor_parallel: int
) -> tuple[Floats, Floats, str]:
    """Time to the first token and to the last of every request, and in words where they come from.

    What the log has is kept; a total is never shorter than the time to the first token.
    """
    on_gpu = [PROFILES[name] for name in PROFILES if PROFILES[name].gpu == gpu_key]
    donor, _ = nearest_profile(on_gpu, {"model": model, "tensor_parallel": str(tensor_parallel)}, "the request log")
    few = slice(0, _MOST_SEEN)
    until = float(log.arrival_s[few][-1])
    seen = gpu.time_s <= until if len(log.arrival_s) > _MOST_SEEN else np.ones(len(gpu.time_s), dtype=np.bool_)

    def unexplained(prefill: float, decode: float) -> float:
        ttft_s, e2e_s = _latencies(donor, log, prefill, decode, few)
        return _unexplained(gpu.time_s[seen], gpu.watts[seen], log.arrival_s[few], ttft_s, e2e_s)

    prefill = decode = min(_FACTORS, key=lambda both: unexplained(both, both))
    for _ in range(_ROUNDS):
        prefill = min(_FACTORS, key=lambda one, decode=decode: unexplained(one, decode))  # type: ignore[misc]
        decode = min(_FACTORS, key=lambda one, prefill=prefill: unexplained(prefill, one))  # type: ignore[misc]
    ttft_s, e2e_s = _latencies(donor, log, prefill, decode, slice(None))
    told = []
    if log.ttft_s is None:
        told.append(f"no time to the first token in the request log; prompt times of {donor.name} x {prefill:.2f}")
    if log.e2e_s is None:
        told.append(f"no time to the last token in the request log; token times of {donor.name} x {decode:.2f}")
    return ttft_s, e2e_s, f"not fitted: {'; '.join(told)}, the factors that explain power best"


def _latencies(
    donor: PowerProfile, log: RequestLog, prefill: float, decode: float, which: slice
) -> tuple[Floats, Floats]:
    arrival, prompts, outputs = log.arrival_s[which], log.prompt_tokens[which], log.output_tokens[which]
    lengths, of_length = np.unique(prompts, return_inverse=True)
    seconds = prefill * np.array([donor.prefill_seconds(float(tokens)) for tokens in lengths])[of_length]
    # Prompts wait for one another: each ends its own time after the later of its arrival and the end before it.
    done = np.cumsum(seconds)
    first = done + np.maximum.accumulate(arrival - (done - seconds))
    ttft_s = first - arrival if log.ttft_s is None else log.ttft_s[which]
    decoding_s = (outputs - 1) * decode * donor.decode_seconds_per_token(1.0)
    e2e_s = ttft_s + decoding_s if log.e2e_s is None else log.e2e_s[which]
    return np.minimum(ttft_s, e2e_s), e2e_s


def _unexplained(at: Floats, watts: Floats, start: Floats, ttft_s: Floats, e2e_s: Floats) -> float:
    """The variance of the power that is left when every phase has its own mean."""
    first, end = np.sort(start + ttft_s), np.sort(start + e2e_s)
    in_prompt = np.searchsorted(np.sort(start), at, "right") - np.searchsorted(first, at, "right")
    running = np.searchsorted(first, at, "right") - np.searchsorted(end, at, "right")
    _, phase = np.unique(np.where(in_prompt > 0, -1, np.minimum(running, 64)), return_inverse=True)
    counts, sums = np.bincount(phase), np.bincount(phase, weights=watts)
    return float((watts**2).sum() - (sums**2 / counts).sum())
