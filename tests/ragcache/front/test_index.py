"""The index of chunks: what is taken in, what is found."""

import sqlite3

import numpy as np
import pytest

from nonet.common.errors import InputError
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
