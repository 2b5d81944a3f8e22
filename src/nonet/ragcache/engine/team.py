"""Threads of our own for many small steps: torch's threads meet at a barrier after every operation, these at the end.

Each thread of a team computes with one thread of torch and of its matrix library, and takes the next piece of work when
it has finished one. That costs one meeting a layer instead of one an operation, and nobody waits for a thread that the
machine has put aside in the middle of a small product.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import torch


class Team:
    """Threads that share out pieces of work.

    Args:
        size: threads; with one, the caller's thread does everything itself.

    >>> sums = [0, 0, 0]
    >>> def piece(number: int, member: int) -> None:
    ...     sums[number] = number * number
    >>> Team(2).run(3, piece)
    >>> sums
    [0, 1, 4]
    """

    def __init__(self, size: int) -> None:
        self.size = max(1, size)
        self._threads: ThreadPoolExecutor | None = None
        if self.size == 1:
            return
        self._threads = ThreadPoolExecutor(self.size, thread_name_prefix="attend")
        met = threading.Barrier(self.size)
        before = torch.get_num_threads()
        for waiting in [self._threads.submit(_settle, met) for _ in range(self.size)]:
            waiting.result()
        # Torch keeps the last number that any thread has set for threads to come: theirs is not ours.
        torch.set_num_threads(before)

    def run(self, num_pieces: int, piece: Callable[[int, int], None]) -> None:
        """Do all pieces, whoever is free taking the next; raises what a piece raises.

        Args:
            num_pieces: how many.
            piece: given the number of the piece and that of the member who does it, below `size`.
        """
        left = iter(range(num_pieces))

        def work(member: int) -> None:
            with torch.inference_mode():
                for number in left:
                    piece(number, member)

        if self._threads is None or num_pieces < 2:
            work(0)
            return
        doing = [self._threads.submit(work, member) for member in range(self.size)]
        wait(doing)
        for done in doing:
            done.result()


def _settle(met: threading.Barrier) -> None:
    torch.set_num_threads(1)
    # The first question makes torch take a thread's number from its settings; after it, the number stays.
    torch.get_num_threads()
    met.wait()


_teams: dict[tuple[int, int], Team] = {}
_making = threading.Lock()


def team() -> Team:
    """The process's team of as many threads as torch uses in this thread; made when it is first asked for."""
    # A process that was forked has none of its parent's threads, so it makes a team of its own.
    key = (os.getpid(), torch.get_num_threads())
    with _making:
        if key not in _teams:
            _teams[key] = Team(key[1])
        return _teams[key]
