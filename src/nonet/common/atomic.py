"""Atomic writes: beside the target, flushed to the disk, then renamed over it.

A reader sees the old file or the new one, never half of one, also after `kill -9` or a power cut. A target that exists
and is no regular file (`/dev/null`, a pipe) is written directly, since renaming over it would replace the device.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from nonet.common.errors import InputError


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Give a path beside `target` to write to; on success it takes the target's place, on any error it is removed.

    For libraries that open files themselves (Parquet writers). The temporary name ends like the target's, since
    such libraries guess the format from it.

    Raises:
        InputError: `target` is a folder, or its folder does not exist.

    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_path(folder / "a.txt") as path:
    ...     _ = path.write_text("whole")
    >>> [p.name for p in folder.iterdir()], (folder / "a.txt").read_text()
    (['a.txt'], 'whole')
    """
    final = _checked(target)
    if final.exists() and not final.is_file():
        yield final
        return
    handle, name = tempfile.mkstemp(prefix=".tmp-", suffix=f"-{final.name}"[-200:], dir=final.parent)
    os.close(handle)
    beside = Path(name)
    try:
        _copy_mode(final, beside)
        yield beside
        _sync(beside)
        beside.replace(final)
        _sync(final.parent)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(target)  # a full disk does not say which file it was
        with suppress(FileNotFoundError):
            beside.unlink()
        raise


@contextmanager
def atomic_write(target: str | Path, mode: str = "w", *, encoding: str | None = None) -> Iterator[IO[Any]]:
    """Open `target` for writing, "w" (UTF-8 text, newlines as given) or "wb"; it appears when the block ends well.

    Raises:
        InputError: `target` is a folder, or its folder does not exist.
        ValueError: `mode` is neither "w" nor "wb".

    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_write(folder / "a.bin", "wb") as file:
    ...     _ = file.write(b"x" * 3)
    >>> (folder / "a.bin").stat().st_size
    3
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"atomic_write: mode must be 'w' or 'wb', got {mode!r}")
    text = {"encoding": encoding or "utf-8", "newline": ""} if mode == "w" else {}
    with atomic_path(target) as path, path.open(mode, **text) as file:  # type: ignore[call-overload]
        yield file
        file.flush()


@contextmanager
def locked(target: str | Path, *, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Keep other processes that use this from `target` meanwhile, by a lock on `target`.lock, which stays there empty.

    Args:
        target: a file that is read, changed and written as a whole; it need not exist.
        waiting: called once when another process has it; then this one waits.

    Raises:
        InputError: the folder of `target` does not exist.
    """
    final = _checked(target)
    with final.with_name(final.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _checked(target: str | Path) -> Path:
    # A symbolic link stays a link: the file that it names is replaced.
    final = Path(target).resolve()
    if final.is_dir():
        raise InputError(f"cannot write {target}: it is a folder; name a file in it")
    if not final.parent.is_dir():
        raise InputError(f"cannot write {target}: the folder {final.parent} does not exist; create it first")
    return final


def _copy_mode(final: Path, beside: Path) -> None:
    # mkstemp gives 0600; a replaced file keeps its bits, a new one gets what open() would have given.
    if final.exists():
        shutil.copymode(final, beside)
        return
    umask = os.umask(0)
    os.umask(umask)
    beside.chmod(0o666 & ~umask)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
