"""Work behind the requests: storing, demoting and promoting, on one thread that yields to all others."""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable

_LOG = logging.getLogger(__name__)
_NICE = 10


class WriteBack:
    """Runs jobs one after the other, the lowest rank first, in order of arrival within a rank.

    Args:
        max_pending_bytes: what waiting jobs may hold in memory together; a job beyond that is refused at once.

    >>> done = []
    >>> work = WriteBack(max_pending_bytes=10)
    >>> work.add(lambda: done.append("a"), num_bytes=4), work.add(lambda: done.append("b"), num_bytes=11)
    (True, False)
    >>> work.flush(5.0), done
    (True, ['a'])
    >>> work.close()
    """

    def __init__(self, max_pending_bytes: int = 1 << 30) -> None:
        self._max_pending_bytes = max_pending_bytes
        self._jobs: list[tuple[int, int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._pending_bytes = 0
        self._is_busy = self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="write-back", daemon=True)
        self._thread.start()

    @property
    def pending_bytes(self) -> int:
        """What waiting and running jobs hold."""
        return self._pending_bytes

    def add(self, job: Callable[[], None], *, num_bytes: int = 0, rank: int = 0) -> bool:
        """Queue a job; False when it is refused for want of room or because this is closed.

        Args:
            job: what to do; it must not raise, what it raises is logged and forgotten.
            num_bytes: what it holds until it is done.
            rank: the lowest goes first.
        """
        with self._changed:
            if self._is_closed or (num_bytes and self._pending_bytes + num_bytes > self._max_pending_bytes):
                return False
            self._pending_bytes += num_bytes
            heapq.heappush(self._jobs, (rank, next(self._order), num_bytes, job))
            self._changed.notify_all()
            return True

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing is queued or running; whether that came to be.

        Args:
            timeout_s: how long to wait at most.
        """
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs and not self._is_busy, timeout_s)

    def close(self, timeout_s: float = 30.0) -> None:
        """Finish what is queued, then stop; what is left after the timeout is not done.

        Args:
            timeout_s: how long to wait at most.
        """
        deadline_s = time.monotonic() + timeout_s
        self.flush(timeout_s)
        with self._changed:
            self._is_closed = True
            self._jobs.clear()
            self._changed.notify_all()
        self._thread.join(max(0.0, deadline_s - time.monotonic()))

    def _run(self) -> None:
        # On Linux a thread has its own niceness; elsewhere this thread is as any other.
        if hasattr(os, "setpriority"):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._is_closed)
                if not self._jobs:
                    return
                _, _, num_bytes, job = heapq.heappop(self._jobs)
                self._is_busy = True
            try:
                job()
            except Exception:
                _LOG.exception("storing in the background failed")
            finally:
                del job  # it holds tensors
                with self._changed:
                    self._is_busy = False
                    self._pending_bytes -= num_bytes
                    self._changed.notify_all()
