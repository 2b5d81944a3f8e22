"""What to doubt before a policy is trusted with a row: its classes, its thresholds, and the shape of its power."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.power.policies.protocol import Priority

TRAINING_RISE_2S = 0.25
"""Rows of inference rise by 9 % of the budget within 2 s, rows of synchronous training by 37.5 % (POLCA)."""
STUCK_SAMPLES = 30


def row_warnings(
    priorities: Sequence[int], t1: float, t2: float, rise_cap: float | None = None, cap_latency_s: float = 40.0
) -> tuple[str, ...]:
    """What is odd about thresholds on a row, in sentences.

    Args:
        priorities: of each server.
        t1, t2: thresholds, fractions of the budget.
        rise_cap: largest rise within `cap_latency_s`, fraction of the budget; None when unknown.
        cap_latency_s: longest time until a cap lands, seconds.

    Raises:
        InputError: T1 is not below T2.

    >>> row_warnings([Priority.LOW, Priority.HIGH], 0.80, 0.89, rise_cap=0.118)
    ('T2 0.89 and a rise of 11.8% within 40 s are more than the budget together; T2 0.88 leaves room',)
    """
    if not t1 < t2:
        raise InputError(f"T1 {t1:g} is not below T2 {t2:g}; exchange them or choose others")
    found = []
    if priorities and all(priority == Priority.HIGH for priority in priorities):
        found.append("all servers are of high priority: POLCA degenerates to capping everyone above T2")
    if priorities and all(priority == Priority.LOW for priority in priorities):
        found.append("all servers are of low priority: nothing is left to cap when T2 is passed for long")
    if rise_cap is not None and t2 + rise_cap > 1.0:
        room = max(0.0, np.floor((1.0 - rise_cap) * 100) / 100)
        found.append(
            f"T2 {t2:g} and a rise of {rise_cap:.1%} within {cap_latency_s:g} s are more than the budget together;"
            f" T2 {room:g} leaves room"
        )
    return tuple(found)


def series_doubts(power_w: NDArray[np.float64], budget_w: float, nameplate_w: float | None = None) -> tuple[str, ...]:
    """What is odd about a recorded series of one sample every two seconds, in sentences.

    Args:
        power_w: mean row power of each period, watts.
        budget_w: of the row, watts.
        nameplate_w: sum of the servers' nameplates; None takes twice the budget.

    >>> series_doubts(np.array([100.0, 1000.0, float("nan"), -1.0, 101.0]), 150.0)
    ('1 samples are NaN', '1 samples are not above zero', '1 samples are above what the row can draw')
    """
    most_w = 2 * budget_w if nameplate_w is None else nameplate_w
    known = power_w[np.isfinite(power_w)]
    counts = {
        "are NaN": len(power_w) - len(known),
        "are not above zero": int((known <= 0).sum()),
        "are above what the row can draw": int((known > most_w).sum()),
        f"are stuck (the same value {STUCK_SAMPLES} times or more)": _stuck(power_w),
    }
    return tuple(f"{count} samples {what}" for what, count in counts.items() if count)


def refuse_training(power_w: NDArray[np.float64], budget_w: float, most_rise: float = TRAINING_RISE_2S) -> None:
    """Refuse a row that swings as synchronous training does: more than two rises of `most_rise` between samples.

    A single one may be servers coming back; lies of the sensor (not between zero and twice the budget) do not count.

    Raises:
        InputError: the row trains.
    """
    good = (power_w > 0) & (power_w < 2 * budget_w)
    rises = np.diff(power_w / budget_w)[good[1:] & good[:-1]]
    swings = int((rises > most_rise).sum())
    if swings > 2:
        raise InputError(
            f"row power rises by up to {rises.max():.0%} of the budget between samples, {swings} times: a training job"
            " is in the row; take its servers out, oversubscription is for inference only"
        )


def _stuck(power_w: NDArray[np.float64]) -> int:
    """Samples in runs of one value."""
    if not len(power_w):
        return 0
    starts = np.flatnonzero(np.concatenate([[True], power_w[1:] != power_w[:-1]]))
    lengths = np.diff(np.append(starts, len(power_w)))
    return int(lengths[lengths >= STUCK_SAMPLES].sum())
