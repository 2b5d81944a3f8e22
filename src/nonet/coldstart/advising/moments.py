"""Moments of a trace as texts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nonet.coldstart.trace.store import Trace


def moment_text(trace: Trace, at_us: int) -> str:
    """ISO time to the millisecond; for a relative trace "day 3 04:05:06.789"."""
    if trace.epoch is not None:
        moment = datetime.fromisoformat(trace.epoch) + timedelta(microseconds=at_us)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    day, rest = divmod(at_us, 86_400_000_000)
    clock = (datetime.min + timedelta(microseconds=rest)).time().isoformat(timespec="milliseconds")
    return f"day {day} {clock}"
