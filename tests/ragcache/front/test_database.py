"""The file of an index: opened by many at a time, held by another process, damaged."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from nonet.common.errors import InputError
from nonet.ragcache.front import database as database_module
from nonet.ragcache.front.database import Database
from nonet.ragcache.front.documents import Document
from nonet.ragcache.front.index import ChunkIndex

INSERT = "INSERT INTO documents VALUES (?, '', '', '')"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chunks.sqlite"


def write(database, name):
    with database.writing() as connection:
        connection.execute(INSERT, (name,))


def test_a_new_file_may_be_opened_by_many_at_the_same_moment(tmp_path):
    num_openers = 8
    barrier = threading.Barrier(num_openers)

    def opened(number, path):
        barrier.wait()
        database = Database(path)
        write(database, str(number))
        (mode,) = database.query("PRAGMA journal_mode")
        database.close()
        return mode

    with ThreadPoolExecutor(num_openers) as openers:
        for round_number in range(10):
            path = tmp_path / f"{round_number}.sqlite"
            assert {*openers.map(opened, range(num_openers), [path] * num_openers)} == {("wal",)}
            database = Database(path)
            assert len(database.query("SELECT id FROM documents")) == num_openers
            database.close()


def test_an_old_file_may_be_opened_by_many_at_the_same_moment(path):
    num_openers = 8
    Database(path).close()
    old = sqlite3.connect(path)
    old.executescript("ALTER TABLE documents DROP COLUMN file; PRAGMA user_version = 1;")
    old.close()
    barrier = threading.Barrier(num_openers)

    def opened(number):
        barrier.wait()
        database = Database(path)
        write(database, str(number))
        database.close()

    with ThreadPoolExecutor(num_openers) as openers:
        list(openers.map(opened, range(num_openers)))
    database = Database(path)
    assert {file for (file,) in database.query("SELECT file FROM documents")} == {""}
    database.close()


@pytest.fixture
def held(path, monkeypatch):
    """An index that another process does not let go of; without the log, so that it keeps readers out, too."""
    monkeypatch.setattr(database_module, "_WAIT_S", 0.05)
    made = ChunkIndex(path.parent)
    made.ingest([Document("power", "Power", "A row has a budget.")], str.split)
    made.close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA journal_mode = DELETE")
    index = ChunkIndex(path.parent)
    holder.execute("BEGIN EXCLUSIVE")
    yield index
    holder.close()
    assert index.search("budget of a row", 1)[0].chunk.document_id == "power"
    index.close()


def test_an_index_that_is_held_is_said_to_be(held):
    for use in (
        lambda: held.ingest([Document("cold", "Cold", "A pod starts.")], str.split),
        lambda: held.remove("power"),
        lambda: held.search("budget"),
        held.documents,
        held.files,
        held.chunks,
        lambda: len(held),
        lambda: ChunkIndex(held.folder),
    ):
        with pytest.raises(InputError, match=r"chunks\.sqlite: another process is writing to it; try again"):
            use()


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_new_file_that_is_held_is_said_to_be(path, lock, monkeypatch):
    monkeypatch.setattr(database_module, "_WAIT_S", 0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute(f"BEGIN {lock}")
    with pytest.raises(InputError, match="another process is writing to it"):
        Database(path)
    holder.close()
    Database(path).close()


def test_what_a_transaction_wrote_is_not_there_when_it_fails(path):
    database = Database(path)
    with pytest.raises(KeyboardInterrupt), database.writing() as connection:
        connection.execute(INSERT, ("a",))
        raise KeyboardInterrupt
    assert database.query("SELECT id FROM documents") == []
    write(database, "a")
    assert database.query("SELECT id FROM documents") == [("a",)]
    database.close()


def test_threads_that_write_wait_for_each_other(path):
    database = Database(path)
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda number: write(database, str(number)), range(200)))
    assert len(database.query("SELECT id FROM documents")) == 200
    database.close()


def test_a_damaged_file_and_a_strange_one_are_said_to_be(tmp_path, path):
    index = ChunkIndex(tmp_path)
    index.ingest([Document(str(number), "", "text " * 50) for number in range(50)], str.split)
    index.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    index = ChunkIndex(tmp_path)
    again = [Document("0", "", "")]
    for use in (index.documents, lambda: index.search("text"), lambda: index.ingest(again, str.split)):
        with pytest.raises(InputError, match="not an index of chunks, or a damaged one"):
            use()
    index.close()
    strange = sqlite3.connect(tmp_path / "strange.sqlite")
    strange.execute("CREATE TABLE documents (name)")
    strange.close()
    with pytest.raises(InputError, match=r"damaged one \(table documents already exists"):
        Database(tmp_path / "strange.sqlite")


def test_mistakes_of_ours_are_not_the_files(path):
    database = Database(path)
    write(database, "a")
    with pytest.raises(sqlite3.IntegrityError):
        write(database, "a")
    database.close()
    with pytest.raises(sqlite3.ProgrammingError):
        database.query("SELECT 1")
