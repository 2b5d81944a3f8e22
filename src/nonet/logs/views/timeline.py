"""How often each template occurs over time, in memory that does not grow with the log.

Lines are counted in at most `MAX_COLUMNS` columns a template. When a line lies outside of what the columns cover, the
columns become wider: every width divides the next one, so that whole columns are put together and no line is counted in
part. Memory: 8 x `MAX_COLUMNS` bytes a template.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nonet.logs.views import _activity_kernels as kernels

MAX_COLUMNS = 48
Axis = Literal["time", "position"]

_SECOND_US = 1_000_000
_DECIMAL = [factor * 10**power for power in range(6) for factor in (1, 2)]
_CALENDAR_S = [1, 2, 10, 30, 60, 120, 600, 1800, 3600, 7200, 21600, 43200, 86400]
WIDTHS: dict[Axis, list[int]] = {
    "time": [*_DECIMAL, *(s * _SECOND_US for s in _CALENDAR_S), *(86_400 * _SECOND_US << d for d in range(1, 24))],
    "position": [factor * 10**power for power in range(18) for factor in (1, 2)],
}
"""Widths that columns can have: microseconds, or lines."""


@dataclass(frozen=True, slots=True)
class Series:
    """Counts over time.

    Attributes:
        start: tick at which the first column begins.
        width: ticks a column.
        counts: int64 (templates, columns).
    """

    start: int
    width: int
    counts: NDArray[np.int64]


class Timeline:
    """Counts of templates over ticks: microseconds ("time") or line numbers ("position").

    Attributes:
        totals: int64 (templates,), lines.
        first, last: int64 (templates,), smallest and largest tick of each template that has lines.

    >>> timeline = Timeline(2, "position")
    >>> timeline.add(np.array([0, 1, 0], np.int32), np.array([0, 5, 99]))
    >>> timeline.series(5).counts.tolist()
    [[1, 0, 0, 0, 1], [1, 0, 0, 0, 0]]
    >>> timeline.series(5).width
    20
    """

    def __init__(self, num_templates: int, axis: Axis) -> None:
        self.axis: Axis = axis
        self.totals = np.zeros(num_templates, np.int64)
        self.first = np.full(num_templates, np.iinfo(np.int64).max)
        self.last = np.full(num_templates, np.iinfo(np.int64).min)
        self._counts = np.zeros((num_templates, MAX_COLUMNS), np.int64)
        self._width = WIDTHS[axis][0]
        self._origin = 0
        self._range: tuple[int, int] | None = None

    @property
    def range(self) -> tuple[int, int] | None:
        """Smallest and largest tick; None without lines."""
        return self._range

    def add(self, codes: NDArray[np.int32], ticks: NDArray[np.int64]) -> None:
        """Count lines.

        Args:
            codes: template of each line.
            ticks: when each line was, in any order.
        """
        if not len(codes):
            return
        self._cover(int(ticks.min()), int(ticks.max()))
        kernels.count(codes, ticks, self._origin, self._width, self._counts, self.totals, self.first, self.last)

    def _cover(self, low: int, high: int) -> None:
        old = self._range
        if old is not None:
            low, high = min(low, old[0]), max(high, old[1])
        widths = WIDTHS[self.axis]
        fitting = (w for w in widths if w >= self._width and high // w - low // w < MAX_COLUMNS)
        width = next(fitting, widths[-1])
        origin = low // width
        if old is not None and (width, origin) != (self._width, self._origin):
            self._move(origin, width)
        self._range, self._origin, self._width = (low, high), origin, width

    def _move(self, origin: int, width: int) -> None:
        moved = np.zeros_like(self._counts)
        for column in np.flatnonzero(self._counts.any(axis=0)):
            target = (self._origin + int(column)) * self._width // width - origin
            moved[:, target] += self._counts[:, column]
        self._counts = moved

    def series(self, max_columns: int = 24) -> Series:
        """The counts in at most so many columns (at least a fifth of that, when there are as many different ticks)."""
        if self._range is None:
            return Series(0, self._width, self._counts[:, :0])
        low, high = self._range
        widths = (w for w in WIDTHS[self.axis] if w >= self._width and high // w - low // w < max_columns)
        width = next(widths, WIDTHS[self.axis][-1])
        start, num_columns = low // width, high // width - low // width + 1
        counts = np.zeros((len(self.totals), num_columns), np.int64)
        for column in range(high // self._width - self._origin + 1):
            counts[:, (self._origin + column) * self._width // width - start] += self._counts[:, column]
        return Series(start * width, width, counts)


_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(counts: NDArray[np.int64] | list[int]) -> str:
    """Counts as a row of blocks, the largest one full height; a dot where there is nothing.

    >>> sparkline([0, 1, 4, 8])
    '·▁▄█'
    """
    top = max(map(int, counts), default=0)
    return "".join("·" if not n else _BLOCKS[max(0, -(-int(n) * len(_BLOCKS) // top) - 1)] for n in counts)
