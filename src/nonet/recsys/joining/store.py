"""The joiner's disk: one LMDB file that holds every row that waits, and the checkpoint, in one transaction.

rows      key -> the state of a row
payloads  (tick at which the row is forgotten, number) -> key and feature event; in order of the tick, so it is the
          index of that deadline, inserts go to a few tails, and what is due is taken off as a whole
timers    (tick, number) -> key, for earlier deadlines
meta      the checkpoint

Nothing is visible after a crash but the last commit, so a commit is the checkpoint. The transaction stays open between
commits; a page that many rows touch is written once.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lmdb

from nonet.common.errors import InputError, NonetError
from nonet.recsys.joining.watermarks import END_MS

_pack = struct.Struct(">QQ").pack


class SpillError(NonetError):
    """The store on disk cannot take more."""


class Store:
    """Rows on disk.

    Args:
        folder: made if need be; one process has it at a time.
        max_bytes: size that the file may reach.
        fsync: flush commits to the disk.

    Raises:
        InputError: another joiner has the folder.
    """

    def __init__(self, folder: Path, max_bytes: int, fsync: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = os.open(folder / "joiner.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise InputError(f"another joiner has {folder}; stop it, or give this one a folder of its own") from None
        # Our own lock keeps others out; LMDB's would bind the open transaction to one thread.
        self._env = lmdb.open(
            str(folder), map_size=max_bytes, max_dbs=4, sync=fsync, metasync=fsync, readahead=False, lock=False
        )
        self._rows, self._payloads, self._timers, self._meta = (
            self._env.open_db(name) for name in (b"rows", b"payloads", b"timers", b"meta")
        )
        self._txn: Any = self._env.begin(write=True)

    def rows(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """States of those keys that are here."""
        return dict(self._txn.cursor(self._rows).getmulti(sorted(keys)))

    def put_rows(self, items: list[tuple[bytes, bytes]]) -> None:
        """Write states."""
        self._put(self._rows, items)

    def delete_rows(self, keys: Iterable[bytes]) -> None:
        """Forget states."""
        try:
            for key in sorted(keys):
                self._txn.delete(key, db=self._rows)
        except lmdb.Error as error:
            raise self._full(error) from error

    def put_payloads(self, items: list[tuple[bytes, bytes]]) -> None:
        """Write key and feature event under tick and number."""
        self._put(self._payloads, items)

    def payload(self, place: bytes) -> bytes:
        """A feature event.

        Raises:
            SpillError: it is not there.
        """
        value = self._txn.get(place, db=self._payloads)
        if value is None:
            raise SpillError(f"{self._folder}: a row's feature event is missing; the store is damaged, restore a copy")
        return value[16:]

    def put_timers(self, items: list[tuple[bytes, bytes]]) -> None:
        """Write keys under tick and number."""
        self._put(self._timers, items)

    def due_timers(self, before: bytes, max_rows: int) -> list[tuple[bytes, bytes]]:
        """Take off some of the timers before a tick; an empty list when there are none left."""
        return self._take(self._timers, before, max_rows)

    def due_payloads(self, before: bytes, max_rows: int) -> list[tuple[bytes, bytes]]:
        """Take off some of the payloads before a tick, likewise."""
        return self._take(self._payloads, before, max_rows)

    def meta(self) -> bytes | None:
        """The checkpoint."""
        return self._txn.get(b"checkpoint", db=self._meta)

    def commit(self, meta: bytes) -> None:
        """Make all since the last commit lasting, with the checkpoint.

        Raises:
            SpillError: the disk is full; what the last commit has made is still there.
        """
        self._put(self._meta, [(b"checkpoint", meta)])
        try:
            self._txn.commit()
        except lmdb.Error as error:
            raise self._full(error) from error
        self._txn = self._env.begin(write=True)

    def size_bytes(self) -> int:
        """Of the file."""
        return (self._folder / "data.mdb").stat().st_size

    def num_rows(self) -> int:
        """Rows on disk, those that the cache has changed too."""
        return int(self._txn.stat(self._rows)["entries"])

    def close(self) -> None:
        """Give up what has not been committed."""
        self._txn.abort()
        self._env.close()
        os.close(self._lock)

    def _put(self, db: Any, items: list[tuple[bytes, bytes]]) -> None:
        if not items:
            return
        try:
            self._txn.cursor(db).putmulti(items)
        except lmdb.Error as error:
            raise self._full(error) from error

    def _take(self, db: Any, before: bytes, max_rows: int) -> list[tuple[bytes, bytes]]:
        cursor = self._txn.cursor(db)
        taken: list[tuple[bytes, bytes]] = []
        if cursor.first():
            for item in cursor.iternext(keys=True, values=True):
                if item[0] >= before or len(taken) == max_rows:
                    break
                taken.append(item)
        try:
            cursor.first()
            for _ in taken:
                cursor.delete()
        except lmdb.Error as error:
            raise self._full(error) from error
        return taken

    def _full(self, error: Exception) -> SpillError:
        return SpillError(
            f"{self._folder}: cannot spill ({error}); free room or raise max_spill_bytes, then start again: "
            "nothing is lost, it goes on from the last checkpoint"
        )


def place_of(tick_ms: int, number: int) -> bytes:
    """Tick and number as a key whose order is theirs.

    >>> place_of(-5, 1) < place_of(3, 0) < place_of(3, 9)
    True
    """
    return _pack(tick_ms + END_MS, number)
