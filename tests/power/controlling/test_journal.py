"""The journal: one holder, damage, versions, full disks, and what a crash leaves."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from nonet.common.errors import InputError
from nonet.power.controlling.journal import Answer, Journal, JournalError
from nonet.power.policies.ledger import Write
from nonet.power.policies.protocol import Action, Command, Priority

NAMES = ["a", "b"]
WRITE = Write(0, Action.CAP, 0.9, "k-1", 1)


def commit(journal, state=None, commands=(), writes=(), **more):
    journal.commit(state or {}, commands, writes, **({"dry": False, "control_s": 1.0, "wall_s": 2.0} | more))


def test_a_step_is_kept_whole(tmp_path):
    path = tmp_path / "j.sqlite"
    with Journal(path, NAMES) as journal:
        orders = [Command(Action.CAP, Priority.LOW, 0.9, "why"), Command(Action.BRAKE, (1,))]
        commit(journal, {"x": [1, None]}, orders, [WRITE])
        commit(journal, answers=[Answer("k-1", 1, "landed", "", 3.0)])
    with Journal(path, NAMES) as journal:
        assert journal.saved(dry=False) == {"x": [1, None]}
        assert journal.saved(dry=True) is None
        assert [(c["action"], c["servers"], c["level"]) for c in journal.rows("commands")] == [
            ("cap", '"low"', 0.9),
            ("brake", "[1]", 1.0),
        ]
        [write] = journal.rows("writes")
        assert (write["key"], write["attempt"], write["result"], write["answered_s"]) == ("k-1", 1, "landed", 3.0)
        with pytest.raises(InputError, match="no table 'meta; drop'"):
            journal.rows("meta; drop")


def test_only_one_holder_and_the_lock_ends_with_the_process(tmp_path):
    path = tmp_path / "j.sqlite"
    code = f"import time\nfrom nonet.power.controlling.journal import Journal\nj = Journal({str(path)!r}, ['a', 'b'])\n"
    holder = subprocess.Popen(
        [sys.executable, "-c", code + "print(1, flush=True)\ntime.sleep(60)"], stdout=subprocess.PIPE
    )
    holder.stdout.readline()
    with pytest.raises(InputError, match=f"process {holder.pid} has it"):
        Journal(path, NAMES)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    Journal(path, NAMES).close()


def test_another_row_another_version_and_damage_are_refused(tmp_path):
    path = tmp_path / "j.sqlite"
    Journal(path, NAMES).close()
    with pytest.raises(InputError, match="other servers"):
        Journal(path, ["a", "c"])
    with sqlite3.connect(path) as database:
        database.execute("update meta set value = '99' where name = 'version'")
    with pytest.raises(InputError, match="version 99, this program reads 1"):
        Journal(path, NAMES)
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(InputError, match="damaged or no journal"):
        Journal(path, NAMES)
    path.unlink()
    Journal(path, NAMES).close()  # every refusal gave the lock back
    with pytest.raises(InputError, match="does not exist"):
        Journal(tmp_path / "no" / "j.sqlite", NAMES)


def test_a_torn_page_is_found(tmp_path):
    path = tmp_path / "j.sqlite"
    with Journal(path, NAMES) as journal:
        for number in range(200):
            commit(journal, {"n": "x" * 500}, [Command(Action.CAP, (0,), 0.5, "y" * 200)], control_s=float(number))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = os.urandom(4096)
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        Journal(path, NAMES)


def test_a_full_disk_is_an_error_of_its_own_and_nothing_is_half_written(tmp_path):
    with Journal(tmp_path / "j.sqlite", NAMES) as journal:
        commit(journal, {"n": 1})
        journal._database.execute("pragma max_page_count = 1")  # SQLite's way to a full disk
        with pytest.raises(JournalError, match="full"):
            for _ in range(100):
                commit(journal, {"n": 2, "text": "x" * 10_000}, [Command(Action.CAP, (0,), 0.5, "y" * 10_000)])
        journal._database.execute("pragma max_page_count = 100000")
        before = len(journal.rows("commands"))
        commit(journal, {"n": 3}, [Command(Action.CAP, (0,), 0.5)])
        assert journal.saved(dry=False) == {"n": 3}
        assert len(journal.rows("commands")) == before + 1
        journal.check_integrity()


def test_a_restart_on_a_full_disk_finds_its_state(tmp_path, monkeypatch):
    path = tmp_path / "j.sqlite"
    with Journal(path, NAMES) as journal:
        prefix = journal.key_prefix("row", dry=False, first=True)
        commit(journal, {"n": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def refuse(*_):
        raise AssertionError("a restart writes nothing")

    monkeypatch.setattr(os, "pwrite", full)
    monkeypatch.setattr(Journal, "_transaction", refuse)
    with Journal(path, NAMES) as journal:
        assert journal.saved(dry=False) == {"n": 1}
        assert journal.key_prefix("row", dry=False, first=False) == prefix == "row-live1"


def test_a_step_does_not_wait_for_who_else_has_the_file(tmp_path):
    path = tmp_path / "j.sqlite"
    with Journal(path, NAMES) as journal, sqlite3.connect(path, isolation_level=None) as other:
        other.execute("begin immediate")
        began = time.monotonic()
        with pytest.raises(JournalError, match="locked"):
            commit(journal, {"n": 1})
        assert time.monotonic() - began < 1.0
        other.execute("rollback")
        commit(journal, {"n": 1})


def test_a_journal_that_is_removed_or_damaged_in_use_is_said(tmp_path):
    path = tmp_path / "j.sqlite"
    with Journal(path, NAMES) as journal:
        for number in range(50):
            commit(journal, {"n": number}, [Command(Action.CAP, (0,), 0.5, "y" * 1000)])
        journal._database.execute("pragma wal_checkpoint(truncate)")
        journal._database.execute("pragma cache_size = 0")
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(path.stat().st_size - 4096))
        with pytest.raises(JournalError, match="malformed"):
            commit(journal, {"n": 50}, [Command(Action.CAP, (0,), 0.5)])
    path.unlink()
    with Journal(path, NAMES) as journal:
        path.with_name("j.sqlite.lock").unlink()
        with pytest.raises(JournalError, match="another controller could start"):
            commit(journal, {"n": 1})


def test_places_where_no_journal_can_be(tmp_path):
    with pytest.raises(InputError, match="it is a folder"):
        Journal(tmp_path, NAMES)
    (tmp_path / "j.sqlite.lock").mkdir()
    with pytest.raises(InputError, match=r"j\.sqlite\.lock: Is a directory; free disk space"):
        Journal(tmp_path / "j.sqlite", NAMES)


def test_killed_while_it_commits(tmp_path):
    """State and commands of a step are both there or both not."""
    path = tmp_path / "j.sqlite"
    code = f"""
from nonet.power.controlling.journal import Journal
from nonet.power.policies.protocol import Action, Command
journal = Journal({str(path)!r}, ["a", "b"])
start = len(journal.rows("commands"))
for n in range(start, 10**9):
    journal.commit({{"n": n + 1}}, [Command(Action.CAP, (0,), 0.5)], [], dry=False, control_s=n, wall_s=n)
    print(n, flush=True)
"""
    for pause_s in (0.0, 0.013, 0.031, 0.052, 0.071):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(pause_s)
        process.kill()
        process.wait()
        with Journal(path, NAMES) as journal:
            journal.check_integrity()
            assert journal.saved(dry=False) == {"n": len(journal.rows("commands"))}


def test_pruning_keeps_what_is_still_open(tmp_path):
    with Journal(tmp_path / "j.sqlite", NAMES) as journal:
        commit(journal, {}, [Command(Action.CAP, (0,), 0.5)], [WRITE, Write(1, Action.CAP, 0.9, "k-2", 1)], wall_s=5.0)
        commit(journal, answers=[Answer("k-2", 1, "landed", "", 3.0)])
        journal.sample(1.0, 5.0, 100.0, 200.0, "1")
        journal.event("start", "now", None, 50.0)
        journal.prune(10.0)
        assert [write["key"] for write in journal.rows("writes")] == ["k-1"]
        assert [len(journal.rows(table)) for table in ("commands", "samples", "events")] == [0, 0, 1]
