"""Work that nobody waits for: chunks that are computed for the store, and shadow checks.

It is done when there is nothing else to do. A server under load may never come to that, so there is only so much of it,
and shadow checks have their turn all the same.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator

from nonet.ragcache.scheduling.running import Running

MAX_CHUNK_JOBS = 256
"""Chunks that wait to be computed; what is met beyond that is left for the next time it is met."""
MAX_CHECKS = 8
"""Shadow checks that wait. Each holds the logits of 32 tokens: 6.3 MB with a vocabulary of 49,152."""
CHECK_EVERY_S = 60.0
"""So long a check waits for the server to be idle; then one begins beside the requests, one in each such time."""


class IdleJobs:
    """Jobs in the order of their arrival, checks before chunks, since those hold logits.

    Not for several threads: `Scheduler` locks.
    """

    def __init__(self) -> None:
        self._chunks: deque[Running] = deque()
        self._checks: deque[Running] = deque()
        self._check_began_s = -math.inf

    def __len__(self) -> int:
        return len(self._chunks) + len(self._checks)

    def __iter__(self) -> Iterator[Running]:
        yield from self._checks
        yield from self._chunks

    @property
    def takes_checks(self) -> bool:
        """Whether there is room for one more check."""
        return len(self._checks) < MAX_CHECKS

    def add(self, job: Running, begun: Iterable[Running]) -> bool:
        """Take a job; False when there are too many of its kind, or one for the same chunks.

        Args:
            job: a chunk with `only_prompt`, else a check.
            begun: what is computed now, which may be the same.
        """
        if not job.request.only_prompt:
            if self.takes_checks:
                self._checks.append(job)
                return True
            return False
        known = [_chunks_of(one) for one in (*self._chunks, *begun) if one.request.only_prompt]
        if len(self._chunks) >= MAX_CHUNK_JOBS or _chunks_of(job) in known:
            return False
        self._chunks.append(job)
        return True

    def next(self, *, is_idle: bool) -> Running | None:
        """The job that is to begin now, None for none; it stays here until `begin`.

        Args:
            is_idle: whether there is nothing else to do.
        """
        if is_idle:
            return next(iter(self), None)
        if self._checks:
            since_s = max(self._check_began_s, self._checks[0].request.arrival_s)
            if time.monotonic() - since_s >= CHECK_EVERY_S:
                return self._checks[0]
        return None

    def begin(self, job: Running) -> None:
        """Take out a job that begins."""
        if job in self._checks:
            self._check_began_s = time.monotonic()
        self.discard(job)

    def discard(self, job: Running) -> None:
        """Take out a job, if it is here."""
        for queue in (self._checks, self._chunks):
            if job in queue:
                queue.remove(job)

    def clear(self) -> None:
        """Take out all."""
        self._checks.clear()
        self._chunks.clear()


def _chunks_of(job: Running) -> tuple[str, ...]:
    return tuple(segment.key for segment in job.request.prompt.segments)
