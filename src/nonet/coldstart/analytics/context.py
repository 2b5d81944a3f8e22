"""What the figures of one trace share: the engine, which columns are filled, options, values that are made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nonet.coldstart.analytics.engine import MEMORY, Engine, Tables, TraceFiles, filled_columns, tables
from nonet.coldstart.analytics.result import FigureResult, Kind

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import polars as pl

DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class FigureOptions:
    """Choices that the paper leaves open.

    Attributes:
        load_day: first of the three days of Figure 5; None takes the first day of the trace.
        window_days: first and last day of Figure 7; None takes days 10 to 25 when the trace has them, else all days.
        max_groups: groups of one figure before the smallest are folded into "other".
    """

    load_day: int | None = None
    window_days: tuple[int, int] | None = None
    max_groups: int = 9


@dataclass(frozen=True, slots=True)
class FigureSpec:
    """How a figure is made and what it means.

    Attributes:
        name: e.g. "10a".
        title: what it shows, in our words.
        kind: the form of its rows.
        x, y: axis titles with units.
        needs: alternatives, each a list of columns ("request.end_us"); one of them must be there in full.
        make: gives the result.
        log: which axes are logarithmic: "", "x", "y" or "xy".
    """

    name: str
    title: str
    kind: Kind
    x: str
    y: str
    needs: tuple[tuple[str, ...], ...]
    make: Callable[[Analysis], FigureResult]
    log: str = ""


class Analysis:
    """One trace under analysis. Use it as a context manager.

    Memory is bounded: DuckDB holds `memory` and spills the rest, results are small.

    Args:
        trace: which trace.
        options: choices that the paper leaves open.
        memory: what DuckDB may hold.
        threads: its number of threads.

    Raises:
        InputError: a file of the trace is damaged.
    """

    def __init__(
        self, trace: TraceFiles, options: FigureOptions | None = None, *, memory: str = MEMORY, threads: int = 2
    ) -> None:
        self.trace = trace
        self.options = options or FigureOptions()
        self.filled = filled_columns(trace)
        self.tables: Tables = tables()
        self._engine = Engine(trace, memory=memory, threads=threads)
        self._kept: dict[str, Any] = {}

    def close(self) -> None:
        """End the engine and remove what it spilled."""
        self._engine.close()

    def has(self, column: str) -> bool:
        """Whether a column, e.g. "request.pod", holds a value anywhere."""
        table, _, name = column.partition(".")
        return name in self.filled[table]

    def run(self, expression: ir.Table) -> pl.DataFrame:
        """The rows of a query."""
        return self._engine.run(expression)

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """A value that several figures use, made once."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    @property
    def first_day(self) -> int:
        """The day that the trace begins in."""
        return self.trace.start_us // DAY_US

    @property
    def regions(self) -> tuple[str, ...]:
        """The regions of the trace."""
        return tuple(self.trace.regions)

    @property
    def num_days(self) -> float:
        """The length of the trace."""
        return (self.trace.end_us - self.trace.start_us) / DAY_US

    def day_text(self, day: int) -> str:
        """A day as a date, where the trace tells dates, else its number."""
        if self.trace.epoch is None:
            return str(day)
        return str((datetime.fromisoformat(self.trace.epoch) + timedelta(days=day)).date())

    @cached_property
    def last_day(self) -> int:
        """The day that the trace ends in."""
        return max(self.first_day, (self.trace.end_us - 1) // DAY_US)
