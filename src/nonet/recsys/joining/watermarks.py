"""Event time over several partitions."""

from __future__ import annotations

from collections.abc import Mapping

from nonet.recsys.logs.log import Position

BEGINNING_MS = -(1 << 62)
END_MS = 1 << 62


class Watermarks:
    """The time that has passed: min over partitions of their newest event, less the allowed lateness.

    It never goes back. A partition that is idle does not hold it back (when all are, their newest event counts); once
    it has news again it does, and what lies behind the watermark by then is late.

    Args:
        allowed_lateness_ms: how far behind the newest event of its partition an event may come.
        newest_ms: per partition, from a checkpoint.
        passed_ms: from a checkpoint.

    >>> marks = Watermarks(allowed_lateness_ms=10)
    >>> marks.observe(("actions", 0), 500)
    >>> marks.observe(("actions", 1), 100)
    >>> marks.advance([("actions", 0), ("actions", 1)], idle=set())
    90
    >>> marks.advance([("actions", 0), ("actions", 1)], idle={("actions", 1)})
    490
    """

    def __init__(
        self, allowed_lateness_ms: int, newest_ms: Mapping[Position, int] | None = None, passed_ms: int = BEGINNING_MS
    ) -> None:
        self._lateness_ms = allowed_lateness_ms
        self.newest_ms = dict(newest_ms or {})
        self.passed_ms = passed_ms

    def observe(self, position: Position, ts_ms: int) -> None:
        """A partition has seen an event of this time."""
        if ts_ms > self.newest_ms.get(position, BEGINNING_MS):
            self.newest_ms[position] = ts_ms

    def advance(self, positions: list[Position], idle: set[Position]) -> int:
        """The watermark now.

        Args:
            positions: every partition there is.
            idle: those that do not count.
        """
        waited_for = [self.newest_ms.get(at, BEGINNING_MS) for at in positions if at not in idle]
        newest_ms = min(waited_for) if waited_for else max(self.newest_ms.values(), default=BEGINNING_MS)
        self.passed_ms = max(self.passed_ms, newest_ms - self._lateness_ms)
        return self.passed_ms

    def finish(self) -> int:
        """Let all time pass: the input has ended."""
        self.passed_ms = END_MS
        return END_MS
