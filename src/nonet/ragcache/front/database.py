"""The SQLite file of an index: made, brought to this version, read and written; its errors as one can act on them."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nonet.common.errors import InputError

_VERSION = 2
_WAIT_S = 5.0
"""For another process that is writing; a document is written in milliseconds."""
_RETRY_S = 0.02
_FILE = "file TEXT NOT NULL DEFAULT ''"
"""Where a document is from; "" where that is not known."""
_STEPS = {
    0: (
        f"CREATE TABLE documents (id TEXT PRIMARY KEY, title TEXT NOT NULL, sha256 TEXT NOT NULL, {_FILE})",
        "CREATE TABLE chunks ("
        " id TEXT PRIMARY KEY,"
        " document TEXT NOT NULL REFERENCES documents(id) ON DELETE CASCADE,"
        " number INTEGER NOT NULL, text TEXT NOT NULL, vector BLOB)",
        "CREATE INDEX chunks_document ON chunks(document)",
        f"PRAGMA user_version = {_VERSION}",
    ),
    1: (f"ALTER TABLE documents ADD COLUMN {_FILE}", f"PRAGMA user_version = {_VERSION}"),
}
"""What brings a file of an older version to this one; a new file has version 0."""


class Database:
    """Documents, chunks and vectors in one file. Threads may share it, and several processes may have it open.

    Args:
        path: made when it does not exist.

    Raises:
        InputError: from here and from every method: another process goes on writing, or the file is damaged, is no
            index, or one of another version.

    >>> import tempfile
    >>> database = Database(Path(tempfile.mkdtemp()) / "chunks.sqlite")
    >>> with database.writing() as connection:
    ...     _ = connection.execute("INSERT INTO documents VALUES ('a.md', 'A', '', '')")
    >>> database.query("SELECT id FROM documents WHERE title = ?", "A")
    [('a.md',)]
    >>> database.close()
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = threading.Lock()  # threads share a connection, which has one transaction at a time
        with self._told():
            self._connection = sqlite3.connect(path, timeout=_WAIT_S, check_same_thread=False)
            try:
                self._connection.execute("PRAGMA foreign_keys = ON")
                self._bring_to_version()
            except BaseException:
                self._connection.close()
                raise

    @property
    def own_changes(self) -> int:
        """Grows with what is written here."""
        return self._connection.total_changes

    @property
    def others_version(self) -> int:
        """Changes with what other processes write."""
        return int(self.query("PRAGMA data_version")[0][0])

    def query(self, statement: str, *values: object) -> list[Any]:
        """All rows of a SELECT.

        Args:
            statement: SQL.
            values: for its question marks.
        """
        with self._told():
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: what is read in it no other process changes before it ends."""
        with self._writer, self._told(), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _bring_to_version(self) -> None:
        if self._version() == 0:
            self._use_log()
        if self._version() in _STEPS:
            with self.writing() as connection:
                for statement in _STEPS.get(self._version(), ()):  # other processes may have opened the new file, too
                    connection.execute(statement)
        if (version := self._version()) != _VERSION:
            raise InputError(f"{self._path}: written by another version ({version}); ingest the documents anew")

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def _use_log(self) -> None:
        """Let processes search while another one writes."""
        until_s = time.monotonic() + _WAIT_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                # SQLite does not wait here: of two processes that have begun to read, neither would get through.
                if not _is_busy(error) or time.monotonic() > until_s:
                    raise
            time.sleep(_RETRY_S)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.ProgrammingError, sqlite3.IntegrityError):  # our own mistakes
            raise
        except sqlite3.DatabaseError as error:
            if _is_busy(error):
                problem = "another process is writing to it; try again when that is done"
            elif _code_of(error) in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                problem = f"not an index of chunks, or a damaged one ({error})"
            else:
                problem = f"cannot be read or written ({error})"
            raise InputError(f"{self._path}: {problem}") from error


def _code_of(error: sqlite3.Error) -> int:
    # Without its reason in the higher bits; Python's own errors, such as for text that is not UTF-8, have none.
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)) & 0xFF


def _is_busy(error: sqlite3.Error) -> bool:
    return _code_of(error) == sqlite3.SQLITE_BUSY
