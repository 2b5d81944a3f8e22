"""Drain3's profiler, of which only the one that does nothing is here; `py-spy` and `cProfile` see more."""

from __future__ import annotations


class NullProfiler:
    """A profiler that measures nothing, for programs that call it."""

    def start_section(self, section_name: str) -> None:
        """Do nothing."""

    def end_section(self, section_name: str = "") -> None:
        """Do nothing."""

    def report(self, period_sec: float = 30) -> None:
        """Do nothing."""
