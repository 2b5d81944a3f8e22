"""When snapshots are written: at intervals, and when somebody asks. A disk that is full does not end a job."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from nonet.common.console import note
from nonet.common.errors import NonetError
from nonet.recsys.sharding import ShardDownError

RETRY_S = 10.0
"""After a snapshot that could not be written, or the interval where that is less."""


class Saves:
    """Snapshots of one trainer; one thread writes them, any thread may ask for one.

    A snapshot that cannot be written is said on stderr and counted, and is tried again: what is learned meanwhile is
    lost with the process alone, and then only until it is replayed from the log.

    Args:
        write: writes one; the one before stays when it fails.
        interval_s: between two.
        of: what is saved, for messages.
        clock: seconds that only grow.

    >>> saves = Saves(lambda: None, 60.0, "the job")
    >>> saves.write()
    >>> saves.status()["failures"], saves.ask(0.01)
    (0, 'nobody writes snapshots now')
    """

    def __init__(
        self, write: Callable[[], None], interval_s: float, of: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write, self._interval_s, self._of, self._clock = write, interval_s, of, clock
        self._asked, self._ended = threading.Event(), threading.Condition()
        self._begun, self._done, self._failures, self._failure = 0, 0, 0, ""
        self._written_s: float | None = None
        self._due_s = clock() + interval_s

    def write(self) -> None:
        """Write one now.

        Raises:
            NonetError: it cannot be written.
            OSError: likewise.
        """
        with self._ended:
            self._asked.clear()
            self._begun += 1
        try:
            self._write()
        except (NonetError, OSError) as error:
            self._end_try(f"{error}")
            raise
        self._end_try("")

    def write_if_due(self) -> None:
        """Write one when it is time for it or somebody has asked; what cannot be written is tried again.

        Raises:
            ShardDownError: a shard is gone; with a new one in its place, it can be written.
        """
        if self._clock() < self._due_s and not self.is_asked:
            return
        try:
            self.write()
        except ShardDownError:
            raise
        except (NonetError, OSError) as error:
            note(f"{self._of}: no snapshot could be written, the one before stays, and it is tried again: {error}")

    def ask(self, timeout_s: float) -> str:
        """Have one written, begun from now on; "" when it was, else why not.

        Args:
            timeout_s: to wait for it.
        """
        with self._ended:
            before = self._begun
            self._asked.set()
            if not self._ended.wait_for(lambda: self._done > before, timeout_s):
                return "nobody writes snapshots now"
            return self._failure

    @property
    def is_asked(self) -> bool:
        """Whether somebody waits for one that has not begun."""
        return self._asked.is_set()

    def status(self) -> dict[str, Any]:
        """Seconds since the last one that was written, failures since the start, and what the last try failed of."""
        age_s = None if self._written_s is None else self._clock() - self._written_s
        return {"age_s": age_s, "failures": self._failures, "failure": self._failure or None}

    def _end_try(self, failure: str) -> None:
        now_s = self._clock()
        with self._ended:
            self._done = self._begun
            self._failure = failure
            self._failures += bool(failure)
            self._due_s = now_s + (min(RETRY_S, self._interval_s) if failure else self._interval_s)
            if not failure:
                self._written_s = now_s
            self._ended.notify_all()
