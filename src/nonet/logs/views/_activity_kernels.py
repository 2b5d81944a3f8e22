"""Counting lines by template and time."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nonet.common.kernels import kernel

Int64s = NDArray[np.int64]


@kernel
def count(
    codes: NDArray[np.int32],
    ticks: Int64s,
    origin: int,
    width: int,
    counts: Int64s,
    totals: Int64s,
    first: Int64s,
    last: Int64s,
) -> None:
    """Add lines to the columns of their time.

    Args:
        codes: int32 (lines,), template of each line.
        ticks: int64 (lines,), time or position.
        origin: number of the first column, in columns since tick 0.
        width: ticks a column.
        counts: int64 (templates, columns), added to.
        totals, first, last: int64 (templates,), number of lines, smallest and largest tick; updated.
    """
    for line in range(len(codes)):
        code, tick = codes[line], ticks[line]
        counts[code, tick // width - origin] += 1
        totals[code] += 1
        first[code] = min(first[code], tick)
        last[code] = max(last[code], tick)


@njit(cache=True, nogil=True)
def fill_forward(ticks: Int64s, absent: int, before: int) -> tuple[Int64s, int]:
    """Replace absent ticks by the one before them; those in front by `before`.

    Returns:
        (int64 (lines,), the last tick).
    """
    filled = np.empty_like(ticks)
    for line in range(len(ticks)):
        if ticks[line] != absent:
            before = ticks[line]
        filled[line] = before
    return filled, before
