"""A child process under limits: wall-clock time and memory, watched from outside.

Memory is the resident set of the child and all its descendants, looked at ten times a second; a child that allocates
faster than that can overshoot the limit for a moment. The child gets a session of its own, so an interrupt of the
terminal reaches it only through the supervisor, which kills the whole group.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

Ending = Literal["exited", "timeout", "out_of_memory", "stopped"]
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Supervised:
    """How a child ended.

    Attributes:
        ending: "exited" by itself, or killed for a reason.
        exit_code: of the child; negative is the signal that ended it.
        wall_s: from its start to its end, s.
        peak_rss_bytes: the largest resident set seen, of the child and its descendants.
    """

    ending: Ending
    exit_code: int
    wall_s: float
    peak_rss_bytes: int


def run_limited(
    command: Sequence[str],
    *,
    stderr: Path,
    timeout_s: float | None = None,
    memory_bytes: int | None = None,
    stop: threading.Event | None = None,
    clock_stopped: Callable[[], bool] = lambda: False,
) -> Supervised:
    """Run a command to its end or to a limit.

    Args:
        command: program and arguments.
        stderr: file that takes what the child prints, on both channels.
        timeout_s: wall-clock limit; None for none.
        memory_bytes: limit of the resident set; None for none.
        stop: when set from elsewhere, the child is killed.
        clock_stopped: says that what is timed is over, so that the time limit does not apply any more.
    """
    started = time.monotonic()
    peak = 0
    with stderr.open("wb") as sink:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True)
    ending: Ending = "exited"
    try:
        while child.poll() is None:
            peak = max(peak, _resident_bytes(child.pid))
            if stop is not None and stop.is_set():
                ending = "stopped"
            elif memory_bytes is not None and peak > memory_bytes:
                ending = "out_of_memory"
            elif timeout_s is not None and time.monotonic() - started > timeout_s and not clock_stopped():
                ending = "timeout"
            if ending != "exited":
                break
            with suppress(subprocess.TimeoutExpired):
                child.wait(_POLL_S)
    finally:
        _kill_group(child)
    return Supervised(ending, child.wait(), time.monotonic() - started, peak)


def _resident_bytes(pid: int) -> int:
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        total: int = process.memory_info().rss
        for descendant in process.children(recursive=True):
            with suppress(psutil.Error):
                total += descendant.memory_info().rss
        return total
    return 0


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """Kill the child and everything it started that is still in its session."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def die_with_parent() -> None:
    """Called in a child: end the process soon after its parent is gone, also when the parent was killed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="die-with-parent").start()
