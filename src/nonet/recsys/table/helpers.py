"""Threads that help with the pieces of a large batch: kernels hold no lock of the interpreter, so pieces run at once.

As many threads as numba would use: the cores that the process may use, or `NUMBA_NUM_THREADS`.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from numba import config

PIECE = 1 << 14  # keys at least: a quarter of a millisecond or more, many times what handing them over costs
_PIECES_A_THREAD = 4  # at most: neighbours that write one large page at once make the system clear it twice


def in_pieces(size: int, piece: Callable[[int, int], None]) -> None:
    """Do `piece(first, last)` for all of `range(size)`, in several threads if it is large; raises what a piece raises.

    The caller works, too, and waits for no helper that has not begun: who is busy elsewhere holds nobody up.

    Args:
        size: keys of the batch.
        piece: works on the keys from `first` to `last - 1`; at several places at once.

    >>> squares = [0] * 40_000
    >>> def piece(first: int, last: int) -> None:
    ...     squares[first:last] = [number * number for number in range(first, last)]
    >>> in_pieces(40_000, piece)
    >>> squares == [number * number for number in range(40_000)]
    True
    """
    num_helpers = min(config.NUMBA_NUM_THREADS, size // PIECE) - 1
    if num_helpers < 1:
        piece(0, size)
        return
    step = max(PIECE, math.ceil(size / (_PIECES_A_THREAD * (num_helpers + 1))))
    left = iter(range(0, size, step))

    def work() -> None:
        for first in left:
            piece(first, min(first + step, size))

    helping: list[Future[None]] = []
    with contextlib.suppress(RuntimeError):  # no new threads while the interpreter ends: the caller does all
        helping.extend(_pool().submit(work) for _ in range(num_helpers))
    work()
    for helper in helping:
        if not helper.cancel():
            helper.result()


_making = threading.Lock()
_pools: list[ThreadPoolExecutor] = []


def _pool() -> ThreadPoolExecutor:
    with _making:
        if not _pools:
            _pools.append(ThreadPoolExecutor(config.NUMBA_NUM_THREADS - 1, thread_name_prefix="table"))
        return _pools[0]


if hasattr(os, "register_at_fork"):  # threads do not live on in a forked process
    os.register_at_fork(after_in_child=_pools.clear)
