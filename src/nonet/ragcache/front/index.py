"""Chunks on disk, found again by words (BM25), by meaning (vectors), or by both.

One SQLite file holds documents, chunks and vectors; BM25 and the vector index are built from it in memory when first
searched, which takes less time than loading a model. Both rankings are merged by reciprocal ranks, which need no scale.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from nonet.common.errors import InputError
from nonet.ragcache.front.chunking import Chunk, Encode, cut_document
from nonet.ragcache.front.database import Database
from nonet.ragcache.front.documents import Document
from nonet.ragcache.models.tokenizer import well_formed

if TYPE_CHECKING:
    from nonet.ragcache.front.embedding import Embedder

Method = Literal["hybrid", "bm25", "vector"]
_Outcome = Literal["added", "changed", "unchanged"]
INDEX_FILE = "chunks.sqlite"
_RANK_OFFSET = 60
"""Reciprocal rank fusion's constant, as published (Cormack et al., SIGIR 2009)."""
_POOL = 50
"""Chunks of each ranking that are merged."""
_REST = 4.0
"""After a rebuild for what another process wrote, so many times as long without one: it writes document by document."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """What an ingestion did.

    Args:
        added: documents that are new.
        changed: documents whose text is another now; the cached KV of their old chunks should be dropped.
        unchanged: documents that were there already.
        num_chunks: chunks written.
        removed: documents that were dropped, since their files are gone or since they were named; see `take_in`.
        skipped: files and folders that could not be read.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    num_chunks: int
    removed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found.

    Args:
        chunk: it.
        title: of its document.
        score: higher is better; comparable within one search only.
    """

    chunk: Chunk
    title: str
    score: float


class _Entry(NamedTuple):
    """What is kept of a document beside its chunks: what its text is known by, and its file, "" where none is known."""

    digest: str
    file: str


class ChunkIndex:
    """The chunks of a folder of documents. Several threads may search it, while another process ingests.

    Args:
        folder: made when it does not exist; holds `chunks.sqlite`.
        embedder: for vectors; without one, chunks are found by words only.

    Raises:
        InputError: from here and from every method: the file is damaged, no such index, or one of another version, or
            another process goes on writing to it.

    >>> import tempfile
    >>> from nonet.ragcache.front.documents import Document
    >>> index = ChunkIndex(tempfile.mkdtemp())
    >>> texts = {"a.md": "A row has a budget.", "b.md": "A pod starts."}
    >>> done = index.ingest([Document(name, name, text) for name, text in texts.items()], str.split)
    >>> done.added, [hit.chunk.chunk_id for hit in index.search("what has a budget?", k=1)]
    (('a.md', 'b.md'), ['a.md#0'])
    >>> index.close()
    """

    def __init__(self, folder: str | Path, embedder: Embedder | None = None) -> None:
        self.folder = Path(folder)
        self._embedder = embedder
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder}: no folder for an index ({error.strerror})") from error
        self._database = Database(self.folder / INDEX_FILE)
        self._building = threading.Lock()
        self._searcher: _Searcher | None = None
        self._own_changes = self._others_version = 0  # at which it was built

    def __len__(self) -> int:
        return int(self._database.query("SELECT count(*) FROM chunks")[0][0])

    def ingest(self, documents: Iterable[Document], encode: Encode, max_tokens: int = 300) -> Ingested:
        """Take documents in; a document whose text is unchanged costs nothing, one that changed is replaced.

        Of documents from files of one name in several folders, the first to come has the plain name; the others have
        folders before it, as many as tell them apart. All keep their names, also where a folder above or below is taken
        in later. The name of a document whose file is gone goes over to another file with the same text, since a folder
        may have been moved, but to no other text: a disk may not be mounted.

        Args:
            documents: each is written in a transaction of its own, so an interrupted run goes on where it stopped.
            encode: the model's tokenizer, for the size of chunks.
            max_tokens: of a chunk.

        Raises:
            InputError: max_tokens too small.
        """
        names: dict[_Outcome, list[str]] = {"added": [], "changed": [], "unchanged": []}
        num_chunks = 0
        for document in map(_storable, documents):
            while (taken := self._take(document, encode, max_tokens)) is None:
                continue  # another process has given the id away
            outcome, name, num_written = taken
            names[outcome].append(name)
            num_chunks += num_written
        return Ingested(tuple(names["added"]), tuple(names["changed"]), tuple(names["unchanged"]), num_chunks)

    def remove(self, document_id: str) -> bool:
        """Remove a document and its chunks; False when there is none of that name."""
        with self._database.writing() as connection:
            return connection.execute("DELETE FROM documents WHERE id = ?", (document_id,)).rowcount > 0

    def search(self, question: str, k: int = 5, method: Method = "hybrid") -> list[Hit]:
        """The k best chunks for a question, best first.

        Args:
            question: plain words.
            k: how many; there are fewer when another process removed some of them just now.
            method: "bm25", "vector", or both merged; "hybrid" is BM25 alone where there are no vectors.

        Raises:
            InputError: an empty index, or "vector" without vectors.
        """
        searcher = self._current()
        places = searcher.rank(question, k, method, self._embedder)
        hits = (self._hit(searcher.ids[place], score) for place, score in places)
        return [hit for hit in hits if hit is not None]

    def chunks(self) -> list[Chunk]:
        """All chunks, document by document."""
        rows = self._database.query("SELECT id, document, text FROM chunks ORDER BY document, number")
        return [Chunk(*row) for row in rows]

    def documents(self) -> list[str]:
        """The ids of all documents."""
        return [row[0] for row in self._database.query("SELECT id FROM documents ORDER BY id")]

    def files(self) -> dict[str, Path]:
        """The files of the documents that are from files, by the documents' ids."""
        rows = self._database.query("SELECT id, file FROM documents WHERE file != '' ORDER BY id")
        return {name: Path(file) for name, file in rows}

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _current(self) -> _Searcher:
        """Both rankings of what is in the database now, or, while another process writes, was a moment ago."""
        with self._building:
            own, others = self._database.own_changes, self._database.others_version
            found = self._searcher
            if found is not None and own == self._own_changes:
                rested = time.monotonic() - found.built_at_s >= _REST * found.build_s
                if others == self._others_version or not rested:
                    return found
            self._searcher = found = _Searcher(self._database)
            self._own_changes, self._others_version = own, others
            return found

    def _take(self, given: Document, encode: Encode, max_tokens: int) -> tuple[_Outcome, str, int] | None:
        """What became of a document, its id and its number of chunks; None when another process took the id."""
        digest = hashlib.sha256(f"{max_tokens}\0{given.title}\0{given.text}".encode()).hexdigest()
        name, before = self._name_for(given, digest)
        document = replace(given, document_id=name)
        if before is not None and before.digest == digest and not self._lacks_vectors(name):
            if before.file != _file_of(document):
                self._move(document)
            return "unchanged", name, 0
        chunks = cut_document(document, encode, max_tokens)
        if not self._write(document, digest, chunks, before):
            return None
        return ("added" if before is None else "changed"), name, len(chunks)

    def _name_for(self, document: Document, digest: str) -> tuple[str, _Entry | None]:
        """The id that a document has, or had where its file was before, or the first that is free; and its entry."""
        known, ids = list(document.known_ids()), list(document.ids())
        entries = self._entries(known)
        if document.file is None:
            return document.document_id, entries.get(document.document_id)
        file = _file_of(document)
        own = (name for name in known if name in entries and entries[name].file == file)
        moved = (
            name for name in ids if name in entries and entries[name].digest == digest and _is_gone(entries[name].file)
        )
        free = (name for name in ids if name not in entries or not entries[name].file)
        name = next(chain(own, moved, free))  # there is one: the longest id is the path of this very file
        return name, entries.get(name)

    def _entries(self, names: Sequence[str]) -> dict[str, _Entry]:
        marks = ", ".join("?" * len(names))
        rows = self._database.query(f"SELECT id, sha256, file FROM documents WHERE id IN ({marks})", *names)
        return {name: _Entry(digest, file) for name, digest, file in rows}

    def _hit(self, chunk_id: str, score: float) -> Hit | None:
        rows = self._database.query(
            "SELECT chunks.id, document, text, title FROM chunks JOIN documents ON documents.id = document"
            " WHERE chunks.id = ?",
            chunk_id,
        )
        return Hit(Chunk(*rows[0][:3]), rows[0][3], score) if rows else None

    def _lacks_vectors(self, document_id: str) -> bool:
        if self._embedder is None:
            return False
        query = "SELECT 1 FROM chunks WHERE document = ? AND vector IS NULL LIMIT 1"
        return bool(self._database.query(query, document_id))

    def _move(self, document: Document) -> None:
        row = (_file_of(document), document.document_id)
        with self._database.writing() as connection:
            connection.execute("UPDATE documents SET file = ? WHERE id = ?", row)

    def _write(self, document: Document, digest: str, chunks: list[Chunk], before: _Entry | None) -> bool:
        """False, and nothing is written, when another process has written a document of this id meanwhile."""
        vectors: list[bytes | None] = [None] * len(chunks)
        if self._embedder is not None:
            vectors = [row.tobytes() for row in self._embedder.encode([chunk.text for chunk in chunks])]
        rows = [
            (chunk.chunk_id, document.document_id, number, chunk.text, vector)
            for number, (chunk, vector) in enumerate(zip(chunks, vectors, strict=True))
        ]
        row = (document.document_id, document.title, digest, _file_of(document))
        with self._database.writing() as connection:
            if self._entries([document.document_id]).get(document.document_id) != before:
                return False
            connection.execute("DELETE FROM documents WHERE id = ?", (document.document_id,))
            connection.execute("INSERT INTO documents VALUES (?, ?, ?, ?)", row)
            connection.executemany("INSERT INTO chunks VALUES (?, ?, ?, ?, ?)", rows)
        return True


def check_index(folder: str | Path) -> None:
    """Refuse a folder that is no index, which `ChunkIndex` would make one of.

    Args:
        folder: that should have been made by `ingest`.

    Raises:
        InputError: there is no index.

    >>> check_index("nowhere")
    Traceback (most recent call last):
    nonet.common.errors.InputError: nowhere: no index there; make one with: nonet ragcache ingest DOCUMENTS -o nowhere
    """
    if not (Path(folder) / INDEX_FILE).is_file():
        raise InputError(f"{folder}: no index there; make one with: nonet ragcache ingest DOCUMENTS -o {folder}")


class _Searcher:
    """Both rankings, in memory."""

    def __init__(self, database: Database) -> None:
        import bm25s

        begun_s = time.monotonic()
        rows = database.query("SELECT id, text, vector FROM chunks ORDER BY document, number")
        if not rows:
            raise InputError("the index is empty: ingest documents first (nonet ragcache ingest)")
        self.ids = [row[0] for row in rows]
        self._words = bm25s.BM25()
        self._words.index(bm25s.tokenize([row[1] for row in rows], stopwords="en", show_progress=False), False, False)
        self._vectors = _vector_index([row[2] for row in rows])
        self.built_at_s = time.monotonic()
        self.build_s = self.built_at_s - begun_s

    def rank(self, question: str, k: int, method: Method, embedder: Embedder | None) -> list[tuple[int, float]]:
        question = well_formed(question)
        with_vectors = self._vectors is not None and embedder is not None
        if method == "vector" and not with_vectors:
            raise InputError("this index has no vectors: ingest with an embedding model, or search by bm25")
        rankings = []
        if method != "vector":
            rankings.append(self._by_words(question, k if method == "bm25" else max(k, _POOL)))
        if method != "bm25" and with_vectors and embedder is not None:
            scores, places = self._vectors.search(embedder.encode([question]), min(max(k, _POOL), len(self.ids)))
            rankings.append(list(zip(places[0].tolist(), scores[0].tolist(), strict=True)))
        if len(rankings) == 1:
            return rankings[0][:k]
        merged: dict[int, float] = {}
        for ranking in rankings:
            for rank, (place, _) in enumerate(ranking, start=1):
                merged[place] = merged.get(place, 0.0) + 1 / (_RANK_OFFSET + rank)
        return sorted(merged.items(), key=lambda item: (-item[1], item[0]))[:k]

    def _by_words(self, question: str, k: int) -> list[tuple[int, float]]:
        import bm25s

        tokens = bm25s.tokenize([question], stopwords="en", show_progress=False)
        places, scores = self._words.retrieve(tokens, k=min(k, len(self.ids)), show_progress=False)
        return [(int(place), float(score)) for place, score in zip(places[0], scores[0], strict=True)]


def _storable(document: Document) -> Document:
    """A document that SQLite can hold."""
    name, title, text = map(well_formed, (document.document_id, document.title, document.text))
    return replace(document, document_id=name, title=title, text=text)


def _file_of(document: Document) -> str:
    return document.file.as_posix() if document.file is not None else ""


def _is_gone(file: str) -> bool:
    try:
        Path(file).stat()
    except OSError as error:  # in a folder that may not be entered now, it may well be there
        return isinstance(error, (FileNotFoundError, NotADirectoryError))
    return False


def _vector_index(blobs: list[bytes | None]) -> Any:
    known = [blob for blob in blobs if blob is not None]
    if len(known) < len(blobs):
        return None
    import faiss

    vectors = np.frombuffer(b"".join(known), np.float32).reshape(len(known), -1)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index
