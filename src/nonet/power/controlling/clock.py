"""Time for control: never falls, never jumps with the wall clock, and goes on where it was after a restart.

Control time is what policies and the ledger see. On a live row it follows the kernel's boot clock, which also counts
while the machine sleeps. The wall clock is only written down. A replay takes its time from the recorded file.
"""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path
from typing import Any, Protocol

REPLAY_ID = "replay"
"""In the place of the id of a boot."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """What the daemon asks for the time."""

    def now_s(self) -> float:
        """Control time, seconds; never falls."""

    def wall_s(self) -> float:
        """Wall clock, seconds since 1970; may jump."""

    def wait_until(self, at_s: float, wake: threading.Event) -> None:
        """Return at control time `at_s`, or earlier when `wake` is set."""

    def state(self) -> dict[str, Any]:
        """What a restart needs to go on in the same control time."""


class LiveClock:
    """Control time of a live row.

    Args:
        saved: `state()` of an earlier process. In the same boot the time that passed is known exactly; after a reboot
            it is taken from the wall clock, and at least zero.

    >>> clock = LiveClock()
    >>> later = LiveClock(clock.state())
    >>> abs(later.now_s() - clock.now_s()) < 1.0
    True
    """

    def __init__(self, saved: dict[str, Any] | None = None) -> None:
        boot_s = _boottime_s()
        self._boot_id = _boot_id()
        self._offset_s = 0.0
        if saved and saved["boot_id"] == self._boot_id:
            self._offset_s = float(saved["control_s"]) - float(saved["boottime_s"])
        elif saved:
            passed_s = max(0.0, time.time() - float(saved["wall_s"]))
            self._offset_s = float(saved["control_s"]) + passed_s - boot_s

    def now_s(self) -> float:
        """See `Clock`."""
        return _boottime_s() + self._offset_s

    def wall_s(self) -> float:
        """See `Clock`."""
        return time.time()

    def wait_until(self, at_s: float, wake: threading.Event) -> None:
        """See `Clock`."""
        wake.wait(min(max(0.0, at_s - self.now_s()), 3600.0))

    def state(self) -> dict[str, Any]:
        """See `Clock`."""
        boot_s = _boottime_s()
        control_s = boot_s + self._offset_s
        return {"control_s": control_s, "boottime_s": boot_s, "boot_id": self._boot_id, "wall_s": time.time()}


class ReplayClock:
    """The time of a recorded file, `speed` times as fast as it was recorded; inf does not wait at all.

    Args:
        start_s: the first recorded time, which is also the wall clock's.
        speed: recorded seconds for each second.

    >>> clock = ReplayClock(100.0)
    >>> clock.wait_until(142.0, threading.Event()); clock.now_s(), clock.wall_s()
    (142.0, 142.0)
    """

    def __init__(self, start_s: float, speed: float = math.inf) -> None:
        self._now_s = start_s
        self._speed = speed

    def now_s(self) -> float:
        """See `Clock`."""
        return self._now_s

    def wall_s(self) -> float:
        """See `Clock`."""
        return self._now_s

    def wait_until(self, at_s: float, wake: threading.Event) -> None:
        """See `Clock`."""
        if at_s > self._now_s:
            if self._speed < math.inf:
                time.sleep((at_s - self._now_s) / self._speed)
            self._now_s = at_s

    def state(self) -> dict[str, Any]:
        """See `Clock`."""
        return {"control_s": self._now_s, "boottime_s": self._now_s, "boot_id": REPLAY_ID, "wall_s": self._now_s}


def _boottime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _boot_id() -> str:
    return _BOOT_ID.read_text("ascii").strip() if _BOOT_ID.is_file() else "unknown"
