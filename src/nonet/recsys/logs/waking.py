"""Waking readers in other processes: a named pipe for each that sleeps, into which a writer puts a byte.

Named pipes need no server, no port and no notification interface of one operating system, and their paths may be
long. A sleeper makes its pipe before it looks at the log for the last time, so no append is missed.
"""

from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic


def wake(folder: Path) -> None:
    """Wake everyone who sleeps at a folder; pipes that dead processes have left are removed.

    Args:
        folder: where the pipes are; need not exist.
    """
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            _ring(entry.path)


def _ring(path: str) -> None:
    try:
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nobody has it open for reading
            with suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108
        elif error.errno != errno.ENOENT:
            raise
        return
    try:
        os.write(pipe, b"\0")
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EPIPE):  # full: it will wake anyway; closed: it is awake
            raise
    finally:
        os.close(pipe)


def sleep_until(ready: Callable[[], bool], folder: Path, timeout_s: float) -> bool:
    """Sleep until `ready` holds; it is asked at first and after each `wake`.

    Args:
        ready: looks at the log.
        folder: where writers look for pipes; made if need be.
        timeout_s: at most so long.

    Returns:
        Whether it holds.
    """
    if ready():
        return True
    end_s = monotonic() + timeout_s
    folder.mkdir(exist_ok=True)
    path = folder / f"{os.getpid()}-{threading.get_ident()}"
    beside = folder.parent / f".waking-{path.name}"  # renamed once open: a writer takes a pipe without reader for dead
    for stale in (path, beside):
        stale.unlink(missing_ok=True)
    os.mkfifo(beside)
    pipe = os.open(beside, os.O_RDWR | os.O_NONBLOCK)  # with a writer's end of our own it never reads as closed
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    try:
        beside.rename(path)
        while not ready():
            left_s = end_s - monotonic()
            if left_s <= 0:
                return False
            poll.poll(left_s * 1000)
            with suppress(BlockingIOError):
                os.read(pipe, 4096)
        return True
    finally:
        path.unlink(missing_ok=True)
        os.close(pipe)
