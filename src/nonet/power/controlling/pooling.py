"""Deadlines, and connections that are kept between calls: one caller at a time for each, as many as callers need."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar


class Closeable(Protocol):
    """A connection."""

    def close(self, timeout_s: float) -> None:
        """End it in good order within the time; raises nothing."""

    def drop(self) -> None:
        """Let go of it without another word to the other side."""


C = TypeVar("C", bound=Closeable)


class Deadline:
    """The moment by which a call of several steps must be over.

    >>> Deadline(5.0).left_s() <= 5.0, Deadline(-1.0).left_s()
    (True, 0.001)
    """

    def __init__(self, timeout_s: float) -> None:
        self._end_s = time.monotonic() + timeout_s

    def left_s(self) -> float:
        """What is left for the next step, seconds; never 0, which some libraries take for "no limit"."""
        return max(0.001, self._end_s - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether it has passed."""
        return time.monotonic() >= self._end_s


class Pool(Generic[C]):
    """Connections to one device.

    A caller gets one that is idle, or a new one: a brake never waits for the connection of a cap that hangs. One that
    failed is dropped.

    Args:
        make: a new connection; nothing is sent yet.
        harmless: errors after which a connection is as good as before (the device answered).
        keep: idle connections that are kept; BMCs have few sessions.
    """

    def __init__(self, make: Callable[[], C], harmless: tuple[type[Exception], ...] = (), keep: int = 2) -> None:
        self._make = make
        self._harmless = harmless
        self._keep = keep
        self._idle: list[C] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def lent(self) -> Iterator[C]:
        """A connection for the length of a `with`."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._make()
        try:
            yield connection
        except self._harmless:
            self._give_back(connection)
            raise
        except BaseException:
            connection.drop()
            raise
        else:
            self._give_back(connection)

    def close(self, timeout_s: float) -> None:
        """End the idle ones; one that is lent ends when it comes back."""
        with self._lock:
            idle, self._idle, self._closed = self._idle, [], True
        deadline = Deadline(timeout_s)
        for connection in idle:
            connection.close(deadline.left_s())

    def _give_back(self, connection: C) -> None:
        with self._lock:
            kept = not self._closed and len(self._idle) < self._keep
            if kept:
                self._idle.append(connection)
        if not kept:
            connection.close(1.0)
