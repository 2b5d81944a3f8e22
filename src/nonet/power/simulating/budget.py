"""Budgets: watts as a function of time, and the tree of what feeds a row (racks below it, a UPS above it)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError

_FEWEST_W = 10.0


@dataclass(frozen=True)
class BudgetSchedule:
    """A budget that changes in steps: a grid signal, a demand-response event, a feed that fails.

    Args:
        starts_s: when each step begins, ascending, the first at 0.
        watts: the budget from then on.

    Raises:
        InputError: no steps, unsorted starts, or budgets that are no budget of a row in watts.

    >>> reduced = BudgetSchedule.constant(200_000).between(3600, 7200, 160_000)
    >>> [reduced.at(t) for t in (0, 3600, 7199, 7200)]
    [200000.0, 160000.0, 160000.0, 200000.0]
    """

    starts_s: tuple[float, ...]
    watts: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.starts_s or len(self.starts_s) != len(self.watts) or self.starts_s[0] != 0.0:
            raise InputError("budget: needs as many starts_s as watts, the first at 0")
        if any(not b > a for a, b in zip(self.starts_s, self.starts_s[1:], strict=False)):
            raise InputError("budget: starts_s must ascend")
        for watts in self.watts:
            if not (math.isfinite(watts) and watts > 0):
                raise InputError(f"budget: {watts!r} W is not above zero; give the breaker's watts")
            if watts < _FEWEST_W:
                raise InputError(f"budget: {watts!r} W feeds no server; is it in kW or MW? Give watts")

    @classmethod
    def constant(cls, watts: float) -> BudgetSchedule:
        """The same budget at all times."""
        return cls((0.0,), (float(watts),))

    def between(self, start_s: float, end_s: float, watts: float) -> BudgetSchedule:
        """This schedule, but `watts` from `start_s` to `end_s`."""
        return self._changed(start_s, end_s, lambda _: float(watts))

    def scaled_between(self, start_s: float, end_s: float, factor: float) -> BudgetSchedule:
        """This schedule times `factor` from `start_s` to `end_s`: half of it when one of two feeds fails."""
        return self._changed(start_s, end_s, lambda before: before * factor)

    def _changed(self, start_s: float, end_s: float, change: object) -> BudgetSchedule:
        if not (0.0 <= start_s < end_s):
            raise InputError(f"budget: a change from {start_s} s to {end_s} s has no length")
        times = sorted({*self.starts_s, float(start_s), *([float(end_s)] if math.isfinite(end_s) else [])})
        watts = [change(self.at(t)) if start_s <= t < end_s else self.at(t) for t in times]  # type: ignore[operator]
        return BudgetSchedule(tuple(times), tuple(watts))

    def at(self, time_s: float) -> float:
        """Watts at a time."""
        return float(self.watts[int(np.searchsorted(self.starts_s, time_s, side="right")) - 1])

    def next_change_s(self, time_s: float) -> float:
        """The first start after a time, seconds; inf when the budget stays."""
        at = int(np.searchsorted(self.starts_s, time_s, side="right"))
        return self.starts_s[at] if at < len(self.starts_s) else math.inf

    def series(self, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Watts at many times, shape (n,)."""
        return np.asarray(self.watts)[np.searchsorted(self.starts_s, times_s, side="right") - 1]


@dataclass(frozen=True)
class PowerNode:
    """Something that feeds servers of the row and has a budget of its own: a rack, a PDU branch, a UPS.

    Args:
        name: for reports.
        budget: of these servers together. For a UPS that feeds several rows: this row's part of it.
        servers: indices of the servers below it.
    """

    name: str
    budget: BudgetSchedule
    servers: tuple[int, ...]


@dataclass(frozen=True)
class FeedFailure:
    """A feed fails: the budget of a node, or of the row, shrinks for a while.

    A UPS carries the full load for some ten seconds, so only the brake fits in between.

    Args:
        start_s: when.
        end_s: when it is back, seconds; may be inf.
        remaining: part of the budget that remains, in (0, 1).
        node: name of the node; "row" is the row.
    """

    start_s: float
    end_s: float
    remaining: float
    node: str = "row"

    def __post_init__(self) -> None:
        if not 0.0 < self.remaining < 1.0:
            raise InputError(f"feed failure: remaining must be in (0, 1), got {self.remaining!r}")
        if not 0.0 <= self.start_s < self.end_s:
            raise InputError(f"feed failure: {self.start_s} s to {self.end_s} s has no length")


def with_failures(name: str, budget: BudgetSchedule, failures: Sequence[FeedFailure]) -> BudgetSchedule:
    """The budget of the node `name` under those of the failures that concern it."""
    for failure in failures:
        if failure.node == name:
            budget = budget.scaled_between(failure.start_s, failure.end_s, failure.remaining)
    return budget
