"""How long the platform keeps an idle pod: given, or from the ends of pods, or from which gaps ended cold.

The ends of pods tell it directly: end of the pod less end of its last request. Else the gaps between the requests of a
function do: those up to the keep-alive end warm, those beyond cold. They also overrule ends of pods when many cold
starts came earlier than those allow (pods take their time to go). What neither tells is the platform's default.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from nonet.coldstart.advising._history_kernels import BINS_PER_E
from nonet.coldstart.advising.history import History
from nonet.common.errors import InputError

SECOND_US = 1_000_000
DEFAULTS_S = {"knative": 60, "k8s": 60, "openwhisk": 600, "lambda": 300, "azure2019": 1200, "azure2021": 1200}
"""Knative: stable window; OpenWhisk: `idle-container`; Azure: 20 minutes (Shahrad et al., ATC 2020); AWS
publishes none, five minutes are commonly measured."""
OTHER_DEFAULT_S = 60
"""Huawei's (EuroSys 2025, section 2.2)."""
_LIKELY_S = (60, 300, 600, 900, 1200, 1800, 3600, 30, 120)
_MIN_SAMPLES = 5
_MAX_SPREAD = 0.5
_MAX_ERROR = 0.2
_CLEARLY = 0.95
_TAIL = 0.1
"""Share of gaps on the wrong side of the keep-alive that is put down to other reasons, where one kind is alone."""


@dataclass(frozen=True)
class KeepAlive:
    """A keep-alive and where it comes from.

    Attributes:
        keep_alive_us: the value.
        source: "given", "pod ends", "gaps" or "default".
        low_us, high_us: bounds that the source gives.
        num_samples: pods or gaps behind it.
    """

    keep_alive_us: int
    source: str
    low_us: int
    high_us: int
    num_samples: int


def infer_keep_alive(history: History, given_us: int | None = None) -> KeepAlive:
    """The keep-alive of a region.

    Args:
        history: of the region.
        given_us: what the user says; taken as it is.

    Raises:
        InputError: a negative value.
    """
    if given_us is not None:
        if given_us < 0:
            raise InputError(f"the keep-alive must be at least 0, got {given_us / 1e6:g} s")
        return KeepAlive(given_us, "given", given_us, given_us, 0)
    default_us = default_keep_alive_us(history.formats)
    by_ends = _from_pod_ends(history, default_us)
    cold_us = _cold_gaps(history)
    if by_ends is not None and (cold_us < _CLEARLY * by_ends.keep_alive_us).sum() <= _MAX_ERROR * len(cold_us):
        return by_ends
    found = _from_gaps(history.warm_gaps, cold_us, default_us)
    return found or KeepAlive(default_us, "default", default_us, default_us, 0)


def default_keep_alive_us(formats: tuple[str, ...]) -> int:
    """The default of the first format that has one.

    >>> default_keep_alive_us(("openwhisk",)) // SECOND_US
    600
    """
    return next((DEFAULTS_S[name] for name in formats if name in DEFAULTS_S), OTHER_DEFAULT_S) * SECOND_US


def _from_pod_ends(history: History, default_us: int) -> KeepAlive | None:
    idle = history.pods.select(idle=pl.col("end_us") - pl.col("last_us")).drop_nulls().filter(pl.col("idle") >= 0)
    if idle.height < _MIN_SAMPLES:
        return None
    low, middle, high = np.quantile(idle["idle"].to_numpy(), [0.25, 0.5, 0.75])
    if middle < SECOND_US or high - low > _MAX_SPREAD * middle:
        return None
    # Ends are often cut to the second, half a second too early on average.
    middle_us = round(middle / SECOND_US + 0.5 * bool(middle % SECOND_US)) * SECOND_US
    middle_us = default_us if abs(middle_us - default_us) <= SECOND_US else middle_us
    return KeepAlive(middle_us, "pod ends", int(low), int(high), idle.height)


def _cold_gaps(history: History) -> np.ndarray:
    """Gaps before cold starts that found no request of their function under way, us."""
    idle = history.starts.filter((pl.col("in_flight") == 0) & (pl.col("gap_us") >= SECOND_US))
    return idle["gap_us"].to_numpy()


def _from_gaps(warm: np.ndarray, cold_us: np.ndarray, default_us: int) -> KeepAlive | None:
    """The value that splits warm gaps from cold ones best; with one kind alone, a likely value that agrees with it."""
    if len(cold_us) < _MIN_SAMPLES and warm.sum() < _MIN_SAMPLES:
        return None
    places = (BINS_PER_E * np.log(cold_us / SECOND_US)).astype(int)
    cold = np.bincount(np.minimum(places, len(warm) - 1), minlength=len(warm))
    below = np.concatenate([[0], np.cumsum(cold)]) / max(cold.sum(), 1)
    above = 1 - np.concatenate([[0], np.cumsum(warm)]) / warm.sum() if warm.sum() else np.zeros(len(warm) + 1)
    if cold.sum() < _MIN_SAMPLES:
        low, high = int(np.searchsorted(-above, -_TAIL)), len(warm)
    elif warm.sum() < _MIN_SAMPLES:
        low, high = 0, int(np.searchsorted(below, _TAIL, side="right")) - 1
    else:
        errors = below + above
        if errors.min() > _MAX_ERROR:
            return None
        best = np.flatnonzero(errors <= errors.min() + 1e-12)
        low, high = int(best[0]), int(best[-1])
    low_us, high_us = (int(np.exp(place / BINS_PER_E) * SECOND_US) for place in (low, high))
    likely = (default_us, *(value * SECOND_US for value in _LIKELY_S))
    inside = [value for value in likely if low_us / 1.02 <= value <= high_us * 1.02]
    middle_us = inside[0] if inside else round(np.sqrt(low_us * high_us) / SECOND_US) * SECOND_US
    return KeepAlive(middle_us, "gaps", low_us, high_us, int(cold.sum() + warm.sum()))
