"""A job that runs, from outside: where it is, and what it answers.

It holds a lock on what it wrote down, so that neither `kill -9` nor a process that has its number by chance (in a
container each is number 1) is taken for it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from nonet.common.atomic import atomic_write
from nonet.common.errors import InputError, NonetError

RUNNING = "running.json"
_TIMEOUT_S = 90.0


def say_running(folder: Path, address: str) -> IO[str]:
    """Write down that this process runs the job of a snapshot folder.

    Args:
        folder: of the snapshot.
        address: of the server.

    Returns:
        What holds the lock, to be given to `say_ended`.
    """
    with atomic_write(folder / RUNNING) as file:
        json.dump({"pid": os.getpid(), "address": address}, file)
    held = (folder / RUNNING).open()
    fcntl.flock(held, fcntl.LOCK_EX)
    return held


def say_ended(folder: Path, held: IO[str]) -> None:
    """Take it back."""
    (folder / RUNNING).unlink(missing_ok=True)
    held.close()


def running_at(folder: Path) -> dict[str, Any] | None:
    """Process (`pid`) and `address` of the job that runs with a snapshot folder; None where none does."""
    try:
        with (folder / RUNNING).open() as file:
            said: dict[str, Any] = json.load(file)
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return said
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return None  # nobody holds it: whoever wrote it was killed


def refuse_running(folder: Path) -> None:
    """Before something is written where a job keeps its snapshots.

    Raises:
        InputError: the job runs; it would soon write over that.
    """
    running = running_at(folder)
    if running is not None:
        raise InputError(f"{folder} is of a job that runs as process {running['pid']}; stop it first (SIGTERM)")


def ask_running(running: Mapping[str, Any], method: str, path: str, token: str = "") -> dict[str, Any]:
    """What a running job answers.

    Args:
        running: of `running_at`.
        method: GET or POST.
        path: of the route.
        token: its bearer token.

    Raises:
        NonetError: it does not answer, or refuses.
    """
    import httpx2

    headers = {"authorization": f"Bearer {token}"} if token else {}
    address = f"{running['address']}{path}"
    try:
        answer = httpx2.request(method, address, headers=headers, timeout=_TIMEOUT_S)
    except httpx2.TransportError as error:
        raise NonetError(f"process {running['pid']} does not answer at {address}: {error}; stop it first") from error
    if answer.status_code == 401:
        raise InputError(f"{address} needs its token: --api-key, or RECSYS_API_KEY")
    if answer.status_code != 200:
        raise NonetError(f"{address} answers {answer.status_code}: {answer.text[:200]}")
    return dict(answer.json())
