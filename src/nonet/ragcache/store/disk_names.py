"""Names of documents in a folder: an empty file for each chunk of each document.

A file is there or not, so nothing can be half-written, and several processes need no lock.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from nonet.ragcache.store.tiers import Name
from nonet.ragcache.store.variant import is_variant_id

_TRIES = 10


class NameFolder:
    """Names as files `<document>/<chunk>`; every method raises OSError as the file system does.

    Args:
        folder: made when the first name comes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def note(self, names: Iterable[Name]) -> None:
        """Write names down; they are on the disk when this returns, and those that were there are as new."""
        changed: set[Path] = set()
        with self._lock:
            for document, chunk in names:
                changed |= self._touch(self._folder / document, chunk)
            for folder in changed:
                with suppress(FileNotFoundError):  # another process has forgotten all of it already
                    sync_folder(folder)

    def noted(self, document: str) -> set[str]:
        """The chunks of a document."""
        try:
            return {path.name for path in (self._folder / document).iterdir() if is_variant_id(path.name)}
        except FileNotFoundError:
            return set()

    def notes(self) -> dict[Name, float]:
        """All names and when they were written last, seconds since 1970."""
        found: dict[Name, float] = {}
        for path in self._folder.glob("*/*"):
            with suppress(FileNotFoundError):  # another process forgets it meanwhile
                found[path.parent.name, path.name] = path.stat().st_mtime
        return found

    def unnote(self, names: Collection[Name]) -> None:
        """Forget names, there or not."""
        with self._lock:
            for document, chunk in names:
                (self._folder / document / chunk).unlink(missing_ok=True)
            for document in {document for document, _ in names}:
                with suppress(OSError):  # it has other names, or is gone
                    (self._folder / document).rmdir()

    def _touch(self, folder: Path, name: str) -> set[Path]:
        for _ in range(_TRIES):
            changed = set() if folder.exists() else {self._folder, self._folder.parent}
            folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another process has just removed the folder, empty as it was
                changed |= set() if (folder / name).exists() else {folder}
                (folder / name).touch()
                return changed
        raise OSError(f"{folder} vanishes again and again")


def sync_folder(folder: Path) -> None:
    """Bring the entries of a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
