"""Every figure of the paper with data in it, 1 and 3 to 17, as a function of a trace.

A trace need not be Huawei's: regions, triggers, runtimes and size classes are data. A figure whose columns a trace
lacks is not made; `Figures.missing` says which.
"""

from __future__ import annotations

from nonet.coldstart.analytics import from_coldstarts, from_pods, from_requests
from nonet.coldstart.analytics.context import Analysis, FigureOptions, FigureSpec
from nonet.coldstart.analytics.engine import TraceFiles
from nonet.coldstart.analytics.result import FigureResult
from nonet.common.errors import InputError
from nonet.common.registry import Registry

FIGURES: Registry[FigureSpec] = Registry("figure")


def _order(spec: FigureSpec) -> tuple[int, str]:
    return int(spec.name.rstrip("abcdef")), spec.name


for _spec in sorted((*from_pods.SPECS, *from_requests.SPECS, *from_coldstarts.SPECS), key=_order):
    FIGURES.add(_spec.name, _spec)


class Figures(Analysis):
    """The figures of one trace, made when they are asked for (see `Analysis` for the arguments)."""

    def __enter__(self) -> Figures:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def missing(self, name: str) -> str | None:
        """None when the trace supports a figure; else what it lacks, e.g. "request.end_us (no table request)".

        Raises:
            InputError: no such figure.
        """
        lacks = [[column for column in need if not self.has(column)] for need in FIGURES[name].needs]
        if any(not columns for columns in lacks):
            return None
        return ", or ".join(" and ".join(self._described(column) for column in columns) for columns in lacks)

    def _described(self, column: str) -> str:
        table = column.partition(".")[0]
        return column if self.filled[table] else f"{column} (the trace has no rows of {table})"

    def figure(self, name: str) -> FigureResult:
        """One figure.

        Raises:
            InputError: no such figure, the trace lacks its columns, or they hold no usable value.
        """
        lacking = self.missing(name)
        if lacking is not None:
            raise InputError(f"figure {name}: the trace lacks {lacking}")
        result: FigureResult = self.once(f"figure {name}", lambda: FIGURES[name].make(self))
        return result


def figure(trace: TraceFiles, name: str, options: FigureOptions | None = None) -> FigureResult:
    """One figure of a trace.

    Raises:
        InputError: no such figure, or the trace lacks what it needs.
    """
    with Figures(trace, options) as figures:
        return figures.figure(name)
