"""The index of chunks: what is taken in, what is found."""

import sqlite3
import threading

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.ragcache.front import index as index_module
from nonet.ragcache.front.documents import Document
from nonet.ragcache.front.index import ChunkIndex

TEXTS = {
    "power": "A row of servers has a power budget. The breaker trips above it.",
    "cold": "A cold start is the time until a new pod can serve its first request.",
    "logs": "Templates are what log lines have in common. Parameters are the rest.",
    "cache": "The KV cache of a chunk can be reused wherever the chunk stands.",
}


class Letters:
    """Vectors of letter counts: like texts have like letters."""

    dimension = 26

    def __init__(self):
        self.num_encoded = 0

    def encode(self, texts):
        self.num_encoded += len(texts)
        counts = np.array([[text.lower().count(chr(97 + i)) for i in range(26)] for text in texts], np.float32)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def documents(**changes):
    return [Document(name, name.title(), text) for name, text in {**TEXTS, **changes}.items()]


@pytest.fixture
def index(tmp_path):
    made = ChunkIndex(tmp_path, Letters())
    made.ingest(documents(), str.split, 8)
    yield made
    made.close()


def test_finds_by_words_by_meaning_and_by_both(index):
    assert index.search("when does the breaker trip?", 2, "bm25")[0].chunk.document_id == "power"
    letters = Letters()
    chunks = index.chunks()
    question = "sdrow fo gol enil"
    similarity = letters.encode([chunk.text for chunk in chunks]) @ letters.encode([question])[0]
    best = [chunks[i].chunk_id for i in np.argsort(-similarity)[:3]]
    assert [hit.chunk.chunk_id for hit in index.search(question, 3, "vector")] == best
    words, vectors = (index.search("cold pod", 50, method) for method in ("bm25", "vector"))
    ranks = {}
    for ranking in (words, vectors):
        for rank, hit in enumerate(ranking):
            ranks[hit.chunk.chunk_id] = ranks.get(hit.chunk.chunk_id, 0) + 1 / (61 + rank)
    merged = index.search("cold pod", 4)
    assert [hit.score for hit in merged] == pytest.approx(sorted(ranks.values(), reverse=True)[:4])
    assert merged[0].title == "Cold"


def test_takes_in_only_what_changed_and_says_so(tmp_path, index):
    again = index.ingest(documents(logs="Other words now stand here."), str.split, 8)
    assert (again.added, again.changed, len(again.unchanged)) == ((), ("logs",), 3)
    assert index.search("templates of lines", 1, "bm25")[0].score == 0 or all(
        "Templates" not in hit.chunk.text for hit in index.search("templates", 9, "bm25")
    )
    assert index.remove("cold")
    assert not index.remove("cold")
    assert {chunk.document_id for chunk in index.chunks()} == {"power", "logs", "cache"}
    reopened = ChunkIndex(tmp_path, Letters())
    assert reopened.chunks() == index.chunks()
    reopened.close()


def test_a_removed_document_leaves_its_place_to_the_next_one(index):
    assert index.search("when does the breaker trip?", 1)[0].chunk.document_id == "power"
    assert index.remove("power")
    (hit,) = index.search("when does the breaker trip?", 1)
    assert hit.chunk.document_id != "power"


def test_cuts_unchanged_documents_anew_for_another_size_of_chunks(index):
    assert len(index) > len(TEXTS)
    assert len(index.ingest(documents(), str.split, 100).changed) == len(index) == len(TEXTS)


@pytest.fixture
def other(tmp_path, index):
    """The same index as another process has it open, after the first one has searched."""
    index.search("breaker")
    opened = ChunkIndex(tmp_path, Letters())
    yield opened
    opened.close()


def test_finds_what_another_process_wrote(index, other, monkeypatch):
    monkeypatch.setattr(index_module, "_REST", 0)
    other.ingest([Document("pumps", "Pumps", "A pump has a valve.")], str.split, 8)
    assert index.search("valve of a pump", 1)[0].chunk.document_id == "pumps"
    other.remove("power")
    assert [hit.chunk.document_id for hit in index.search("when does the breaker trip?", 99)].count("power") == 0


def test_searches_what_it_has_while_another_process_writes_and_leaves_out_what_is_gone(index, other, monkeypatch):
    monkeypatch.setattr(index_module, "_REST", 1e9)
    before = index.search("when does the breaker trip?", 99)
    other.remove("power")
    left = [hit for hit in before if hit.chunk.document_id != "power"]
    assert index.search("when does the breaker trip?", 99) == left != before
    index.ingest([Document("pumps", "Pumps", "A pump has a valve.")], str.split, 8)
    assert index.search("valve of a pump", 1)[0].chunk.document_id == "pumps"


def test_threads_may_search_while_another_process_writes(index, other, monkeypatch):
    monkeypatch.setattr(index_module, "_REST", 0)
    failed, is_over = [], threading.Event()

    def search():
        while not is_over.is_set():
            try:
                assert index.search("breaker of a pod")
            except BaseException as error:
                failed.append(error)
                raise

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(10):
        other.ingest(documents(power=f"The breaker {number}."), str.split, 8)
        other.remove("cold")
    is_over.set()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_name_that_another_process_takes_meanwhile_is_left_to_it(tmp_path, index, other):
    ours, theirs = (Document("README.md", "", name, tmp_path / name / "README.md", tmp_path / name) for name in "ab")

    def encode(text):
        other.ingest([theirs], str.split)
        return text.split()

    assert index.ingest([ours], encode).added == ("a/README.md",)
    assert {name: file.parent.name for name, file in index.files().items()} == {"README.md": "b", "a/README.md": "a"}


def test_reads_half_surrogate_pairs_as_the_engine_does(index):
    done = index.ingest([Document("\ud83d", "\ud83d", "A pump \ud83d has a valve.")], str.split, 8)
    assert done.added == ("\ufffd",)
    hit = index.search("\ud83d valve of a pump", 1, "bm25")[0]
    assert (hit.chunk.chunk_id, hit.title, hit.chunk.text) == ("\ufffd#0", "\ufffd", "A pump \ufffd has a valve.")


def test_reads_an_index_that_does_not_know_its_files(tmp_path):
    ChunkIndex(tmp_path).close()
    database = sqlite3.connect(tmp_path / "chunks.sqlite")
    database.executescript(
        "ALTER TABLE documents DROP COLUMN file; PRAGMA user_version = 1;"
        "INSERT INTO documents VALUES ('a.md', 'A', ''); INSERT INTO chunks VALUES ('a.md#0', 'a.md', 0, 'old', NULL);"
    )
    database.close()
    index = ChunkIndex(tmp_path)
    assert index.search("old", 1)[0].title == "A" and index.files() == {}
    file = tmp_path / "a.md"
    assert index.ingest([Document("a.md", "A", "new", file, tmp_path)], str.split, 8).changed == ("a.md",)
    assert index.files() == {"a.md": file}
    index.close()


def test_adds_vectors_to_documents_that_had_none(tmp_path):
    plain = ChunkIndex(tmp_path)
    plain.ingest(documents(), str.split, 100)
    with pytest.raises(InputError, match="no vectors"):
        plain.search("x", 1, "vector")
    assert plain.search("breaker", 1)[0].chunk.document_id == "power"
    plain.close()
    letters = Letters()
    index = ChunkIndex(tmp_path, letters)
    assert len(index.ingest(documents(), str.split, 100).changed) == 4
    assert letters.num_encoded == 4
    assert len(index.search("breaker", 2, "vector")) == 2
    index.close()


def test_an_interrupted_ingestion_keeps_what_was_done(tmp_path):
    def stops():
        yield from documents()[:2]
        raise KeyboardInterrupt

    index = ChunkIndex(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        index.ingest(stops(), str.split, 100)
    index.close()
    index = ChunkIndex(tmp_path)
    assert len(index.ingest(documents(), str.split, 100).unchanged) == 2
    index.close()


def test_refuses_what_is_no_index_and_an_empty_one(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "chunks.sqlite").write_bytes(b"no database, but longer than a header" * 40)
    with pytest.raises(InputError, match="not an index"):
        ChunkIndex(tmp_path / "bad")
    index = ChunkIndex(tmp_path / "empty")
    with pytest.raises(InputError, match="empty"):
        index.search("x")
    index.close()
    database = sqlite3.connect(tmp_path / "empty" / "chunks.sqlite")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(InputError, match="another version"):
        ChunkIndex(tmp_path / "empty")
