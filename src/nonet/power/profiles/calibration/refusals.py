"""Columns and rows that look like measurements and are not, found by what is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EXACT = 1e-9
_MIN_ROWS = 5
_MAX_FALL = 0.05
_TIME_FALL = 0.6


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was left out of a calibration.

    Attributes:
        what: rows or column, e.g. "hardware h100-80gb-pcap".
        num_rows: how many rows it takes away.
        reason: what shows that it is no measurement.
    """

    what: str
    num_rows: int
    reason: str

    def __str__(self) -> str:
        return f"{self.what}: {self.num_rows:,} rows refused: {self.reason}"


def exact_multiple(original: Floats, other: Floats) -> float | None:
    """The factor when `other` is `original` times one number in every row, exactly; None otherwise.

    Timings that were measured twice never are, not to nine digits.

    >>> exact_multiple(np.array([1.0, 2.5, 3.1, 4.7, 9.2]), 1.3 * np.array([1.0, 2.5, 3.1, 4.7, 9.2]))
    1.3
    """
    if len(original) < _MIN_ROWS or len(np.unique(original)) < _MIN_ROWS or np.any(original <= 0):
        return None
    ratios = other / original
    factor = float(np.median(ratios))
    if factor <= 0 or np.max(np.abs(ratios / factor - 1)) > _EXACT:
        return None
    return float(f"{factor:.10g}")


def derived_groups(
    columns: Mapping[str, Mapping[str, Floats]], num_powers: Mapping[str, int]
) -> dict[str, tuple[str, dict[str, float]]]:
    """Groups of rows that were computed from those of another group.

    Args:
        columns: by group (e.g. hardware), its columns by name, float64 (n,), rows in the same order in every group.
        num_powers: by group, how many of its rows have a measured power.

    Returns:
        By derived group: the group that it was computed from, and the factor of each column. Of two groups that are
        multiples of each other, the derived one is that with fewer measured powers; else that whose factors are the
        shorter decimals (1.3, not 0.769...); of equal copies, the later one.
    """
    names = list(columns)
    derived: dict[str, tuple[str, dict[str, float]]] = {}
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            factors = _factors(columns[first], columns[second])
            if factors is None or first in derived or second in derived:
                continue
            back = {name: 1.0 / factor for name, factor in factors.items()}
            if (num_powers[first], _num_digits(back)) < (num_powers[second], _num_digits(factors)):
                derived[first] = (second, back)
            else:
                derived[second] = (first, factors)
    return derived


def _factors(first: Mapping[str, Floats], second: Mapping[str, Floats]) -> dict[str, float] | None:
    factors: dict[str, float] = {}
    for name, values in first.items():
        if len(values) != len(second[name]):
            return None
        factor = exact_multiple(values, second[name])
        if factor is None:
            return None
        factors[name] = factor
    return factors


def _num_digits(factors: Mapping[str, float]) -> int:
    return sum(len(f"{factor:.9g}") for factor in factors.values())


def falls_with(x: Sequence[float], power: Sequence[float]) -> float:
    """How far a power column falls from its first value to its lowest after it as x grows, as a fraction.

    More prompt work cannot lower a time-weighted mean power: a clear fall shows a column that is something else.
    """
    ordered = [p for _, p in sorted(zip(x, power, strict=True))]
    return max(0.0, 1.0 - min(ordered) / ordered[0]) if ordered and ordered[0] > 0 else 0.0


def is_falling(x: Sequence[float], power: Sequence[float]) -> bool:
    """Whether `falls_with` exceeds 5 %."""
    return falls_with(x, power) > _MAX_FALL


def impossible_times(amounts: Sequence[float], seconds: Sequence[float]) -> list[int]:
    """Indices whose time is under 60 % of that of a smaller amount of the same work: runs that broke off.

    >>> impossible_times([1, 16, 32, 64], [0.2, 3.2, 6.6, 0.8])
    [3]
    """
    order = sorted(range(len(amounts)), key=lambda i: amounts[i])
    longest, wrong = 0.0, []
    for i in order:
        if seconds[i] < _TIME_FALL * longest:
            wrong.append(i)
        longest = max(longest, seconds[i])
    return wrong
