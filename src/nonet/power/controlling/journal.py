"""The daemon's journal: a SQLite file that says what was decided, sent and answered, and where a restart goes on.

What is decided is committed before it is sent (`commit`, one transaction with the state that follows from it), so
that a process killed at any moment leaves either the old state or the new one with its commands; the next process
sends what was in flight again under the same keys. Samples are thinned; commands and writes are kept until
`keep_days`.

One process has the journal at a time: a lock on a file beside it, which the kernel drops when the process ends
however it ends. The lock does not hold over NFS: keep journals on a local disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nonet.common.errors import InputError, NonetError
from nonet.common.jsonable import dumps
from nonet.power.policies.ledger import Write
from nonet.power.policies.protocol import Command

VERSION = 1
BUSY_TIMEOUT_S = 5.0
"""How long to wait at the start for somebody else who reads or copies the file."""
STEP_TIMEOUT_S = 0.1
"""The same in each step of control, where a brake may be waiting."""
_MEND = "free disk space, or name a journal in a folder that can be written"
_SCHEMA = """
create table meta (name text primary key, value text not null);
create table state (kind text not null, part text not null, saved text not null, primary key (kind, part));
create table commands (
    id integer primary key, control_s real not null, wall_s real not null, action text not null, servers text not null,
    level real not null, reason text not null);
create table writes (
    id integer primary key, key text not null, attempt integer not null, server integer not null, action text not null,
    level real not null, dry integer not null, control_s real not null, wall_s real not null,
    result text, detail text, answered_s real, unique (key, attempt));
create table samples (control_s real not null, wall_s real not null, power_w real, budget_w real not null, mode text);
create table events (
    id integer primary key, control_s real, wall_s real not null, kind text not null, text text not null);
create index writes_by_wall on writes (wall_s);
create index samples_by_wall on samples (wall_s);
"""


class JournalError(NonetError):
    """The journal cannot be written now (a full disk); control goes on without it, and says so."""


@dataclass(frozen=True)
class Answer:
    """What became of a write, for the journal."""

    key: str
    attempt: int
    result: str
    detail: str
    answered_s: float


class Journal:
    """One row's journal.

    Args:
        path: the SQLite file; made when it does not exist.
        identity: what must not change while it is used (the names of the servers); refused when it did.
        durable: wait for the disk at every step, so that a power cut loses nothing; a replay need not.

    Raises:
        InputError: another process has it, it is damaged, of another version, or of another row.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "row.sqlite"
    >>> with Journal(path, ["node01"]) as journal:
    ...     journal.commit({"mode": 1}, [], [], dry=True, control_s=0.0, wall_s=0.0)
    >>> with Journal(path, ["node01"]) as journal:
    ...     journal.saved()
    {'mode': 1}
    """

    def __init__(self, path: str | Path, identity: Sequence[str], *, durable: bool = True) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise InputError(f"journal {self.path}: the folder {self.path.parent} does not exist; create it first")
        if self.path.is_dir():
            raise InputError(f"journal {self.path}: it is a folder; name a file in it, such as row.sqlite")
        self._lock = _take_lock(self.path)
        try:
            self._database = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            self._open(identity, durable)
        except sqlite3.OperationalError as error:
            os.close(self._lock)
            raise InputError(f"journal {self.path}: cannot be opened: {error}; {_MEND}") from error
        except sqlite3.DatabaseError as error:
            os.close(self._lock)
            raise InputError(
                f"journal {self.path}: damaged or no journal ({error}); move it away to start afresh: caps that are in "
                "force are then found by read-back"
            ) from error
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def saved(self, *, dry: bool = True) -> dict[str, Any] | None:
        """The latest value of each part of the state, None before the first commit.

        A dry run and a real one have states of their own.
        """
        rows = self._database.execute("select part, saved from state where kind = ?", (_kind(dry),)).fetchall()
        return {part: json.loads(saved) for part, saved in rows} or None

    def commit(
        self,
        state: Mapping[str, Any],
        commands: Iterable[Command],
        writes: Iterable[Write],
        *,
        dry: bool,
        control_s: float,
        wall_s: float,
        answers: Iterable[Answer] = (),
        events: Iterable[tuple[str, str]] = (),
    ) -> None:
        """One step: the state after it, its commands, the writes that will be sent next, the answers that came.

        Args:
            state: by part, JSON values; parts that are left out stay as they were.
            commands: orders of the policy.
            writes: what the caller will send once this has returned.
            dry: whether the writes are only recorded.
            control_s: control time, seconds.
            wall_s: wall clock, seconds since 1970.
            answers: outcomes of earlier writes.
            events: (kind, text), see `event`.

        Raises:
            JournalError: nothing was written.
        """
        with self._transaction() as cursor:
            cursor.executemany(
                "insert into commands values (null, ?, ?, ?, ?, ?, ?)",
                [(control_s, wall_s, str(c.action), _servers(c), c.level, c.reason) for c in commands],
            )
            cursor.executemany(
                "insert or replace into writes values (null, ?, ?, ?, ?, ?, ?, ?, ?, null, null, null)",
                [(w.key, w.attempt, w.server, str(w.action), w.level, dry, control_s, wall_s) for w in writes],
            )
            cursor.executemany(
                "update writes set result = ?, detail = ?, answered_s = ? where key = ? and attempt = ?",
                [(a.result, a.detail, a.answered_s, a.key, a.attempt) for a in answers],
            )
            cursor.executemany(
                "insert into events values (null, ?, ?, ?, ?)",
                [(control_s, wall_s, kind, text) for kind, text in events],
            )
            cursor.executemany(
                "insert or replace into state values (?, ?, ?)",
                [(_kind(dry), part, json.dumps(value, allow_nan=False)) for part, value in state.items()],
            )

    def key_prefix(self, name: str, *, dry: bool, first: bool) -> str:
        """What the keys of writes begin with: no two ledgers of this journal share it, else their keys would repeat.

        Args:
            name: of the row.
            dry: whether writes are only recorded.
            first: no state is gone on from; such starts are counted.

        Raises:
            JournalError: a first start cannot be counted.
        """
        kind = _kind(dry)
        found = self._database.execute("select value from meta where name = ?", (f"starts_{kind}",)).fetchone()
        number = int(found[0]) if found else 0
        if number == 0 or first:
            number += 1
            with self._transaction() as cursor:
                cursor.execute("insert or replace into meta values (?, ?)", (f"starts_{kind}", str(number)))
        return f"{name}-{kind}{number}"

    def forget_state(self, *, dry: bool) -> None:
        """The next process starts afresh (the caps were given back)."""
        with self._transaction() as cursor:
            cursor.execute("delete from state where kind = ?", (_kind(dry),))

    def sample(self, control_s: float, wall_s: float, power_w: float, budget_w: float, mode: str) -> None:
        """Write a (thinned) sample down."""
        with self._transaction() as cursor:
            cursor.execute("insert into samples values (?, ?, ?, ?, ?)", (control_s, wall_s, power_w, budget_w, mode))

    def event(self, kind: str, text: str, control_s: float | None, wall_s: float) -> None:
        """Write down what happened to the daemon itself: start, stop, orphan caps, clock jumps, lost telemetry."""
        with self._transaction() as cursor:
            cursor.execute("insert into events values (null, ?, ?, ?, ?)", (control_s, wall_s, kind, text))

    def prune(self, before_wall_s: float) -> None:
        """Drop samples, commands, answered writes and events older than that."""
        with self._transaction() as cursor:
            for table in ("samples", "commands", "events"):
                cursor.execute(f"delete from {table} where wall_s < ?", (before_wall_s,))
            cursor.execute("delete from writes where wall_s < ? and result is not null", (before_wall_s,))

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table, oldest first, for reports and tests.

        Raises:
            InputError: no such table.
        """
        if table not in ("commands", "writes", "samples", "events"):
            raise InputError(f"journal {self.path}: no table {table!r}; there are commands, writes, samples, events")
        cursor = self._database.execute(f"select * from {table} order by rowid")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def close(self) -> None:
        """Close the file and let go of the lock."""
        self._database.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def check_integrity(self) -> None:
        """Raises InputError when SQLite finds damage, or a write is answered that was never recorded as sent."""
        [(verdict,)] = self._database.execute("pragma integrity_check").fetchall()
        if verdict != "ok":
            raise InputError(f"journal {self.path}: {verdict}")

    def _open(self, identity: Sequence[str], durable: bool) -> None:
        self._database.execute("pragma journal_mode = wal")
        self._database.execute(f"pragma synchronous = {'full' if durable else 'off'}")
        [(verdict,)] = self._database.execute("pragma quick_check(1)").fetchall()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        if not self._database.execute("select 1 from sqlite_master where name = 'meta'").fetchone():
            with self._transaction() as cursor:
                for statement in _SCHEMA.split(";")[:-1]:
                    cursor.execute(statement)
                cursor.execute("insert into meta values ('version', ?)", (str(VERSION),))
        found = dict(self._database.execute("select name, value from meta"))
        if found.get("version") != str(VERSION):
            raise InputError(f"journal {self.path}: version {found.get('version')}, this program reads {VERSION}")
        wanted = dumps(list(identity))
        if found.get("identity", wanted) != wanted:
            raise InputError(
                f"journal {self.path}: it belongs to a row with other servers; name another journal for this row, or "
                "move it away: caps that are in force are then found by read-back"
            )
        if "identity" not in found:  # else nothing is written: a restart must work on a full disk, too
            with self._transaction() as cursor:
                cursor.execute("insert into meta values ('identity', ?)", (wanted,))
        self._database.execute(f"pragma busy_timeout = {STEP_TIMEOUT_S * 1000:.0f}")

    def _transaction(self) -> _Transaction:
        return _Transaction(self._database, self.path, self._lock)


class _Transaction:
    def __init__(self, database: sqlite3.Connection, path: Path, lock: int) -> None:
        self._database, self._path, self._lock = database, path, lock

    def __enter__(self) -> sqlite3.Cursor:
        if not os.fstat(self._lock).st_nlink:
            raise JournalError(
                f"journal {self._path}: its lock file was removed while it is in use; another controller could start "
                "on this row now: stop this one before that"
            )
        try:
            return self._database.execute("begin immediate")
        except sqlite3.Error as error:
            raise JournalError(f"journal {self._path}: {error}") from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            self._database.execute("commit" if kind is None else "rollback")
        except sqlite3.Error as failed:
            if self._database.in_transaction:
                self._database.execute("rollback")
            raise JournalError(f"journal {self._path}: {failed}; {_MEND}") from failed
        if isinstance(error, sqlite3.Error):
            raise JournalError(f"journal {self._path}: {error}; {_MEND}") from error


def _take_lock(path: Path) -> int:
    beside = path.with_name(path.name + ".lock")
    try:
        lock = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise InputError(f"journal {path}: {beside.name}: {error.strerror}; {_MEND}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(lock, 64, 0).decode("ascii", "replace").strip() or "another process"
        os.close(lock)
        raise InputError(
            f"journal {path}: {holder} has it; two controllers on one row would fight: stop that one first"
        ) from error
    with contextlib.suppress(OSError):  # a full disk: the lock holds all the same, only without our name
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()}".encode(), 0)
    return lock


def _kind(dry: bool) -> str:
    return "dry" if dry else "live"


def _servers(command: Command) -> str:
    servers = command.servers
    return json.dumps(list(servers)) if isinstance(servers, tuple) else json.dumps(servers.name.lower())
