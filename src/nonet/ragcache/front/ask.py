"""One question about documents: take in what is new, and know where their KV is kept for the next question."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nonet.common.console import note, track
from nonet.common.datasets import cache_folder
from nonet.common.errors import InputError
from nonet.ragcache.front.chunking import Encode
from nonet.ragcache.front.documents import KNOWN_KINDS, read_documents
from nonet.ragcache.front.embedding import Embedder, packaged_model
from nonet.ragcache.front.index import INDEX_FILE, ChunkIndex
from nonet.ragcache.store.chunk_store import ChunkStore

SYSTEM = "Answer the question from the passages. Be brief."
_KV = "kv"


@dataclass(frozen=True, slots=True)
class Library:
    """An index and where the KV of its chunks is kept.

    Args:
        index: of the documents.
        store: spec of a store beside it.
    """

    index: ChunkIndex
    store: str


def open_library(source: str | Path, encode: Encode, max_tokens: int = 300) -> Library:
    """An index to ask: one that exists, or one made of documents, kept in the cache and brought up to date.

    Args:
        source: a folder made by `ingest`, or documents.
        encode: the model's tokenizer, for the size of chunks.
        max_tokens: of a chunk.

    Raises:
        InputError: no such file or folder, one that cannot be read, or one without documents.
    """
    place = Path(source)
    if not place.exists():
        raise InputError(f"{place}: no such file or folder")
    embedder = Embedder() if packaged_model() is not None else None
    if (place / INDEX_FILE).is_file():
        library = Library(ChunkIndex(place, embedder), beside(place))
        if not len(library.index):
            raise InputError(f"{place}: the index is empty; ingest documents first")
        return library
    name = hashlib.sha256(f"{place.resolve()}\0{max_tokens}".encode()).hexdigest()[:16]
    folder = cache_folder() / "ragcache" / name
    if not (folder / INDEX_FILE).is_file():
        note(f"{place} is asked for the first time: indexing its documents ...")
    index = ChunkIndex(folder, embedder)
    done = index.ingest(track(read_documents([place]), f"reading {place}"), encode, max_tokens)
    here = {*done.added, *done.changed, *done.unchanged}
    gone = [document for document in index.documents() if document not in here]
    for document in gone:
        index.remove(document)
    forget(folder, [*done.changed, *gone])
    if not here:
        raise InputError(f"{place}: no documents; known kinds are {', '.join(KNOWN_KINDS)}")
    return Library(index, beside(folder))


def beside(folder: Path) -> str:
    """The spec of the store that belongs to an index.

    Args:
        folder: of the index.

    >>> beside(Path("index"))
    'ram:2GB,disk:index/kv:20GB'
    """
    return f"ram:2GB,disk:{folder / _KV}:20GB"


def forget(folder: Path, documents: Sequence[str]) -> int:
    """Drop what the store beside an index holds of documents that changed or are gone; how many variants there were.

    Args:
        folder: of the index.
        documents: by name.
    """
    if not documents or not (folder / _KV).is_dir():
        return 0
    store = ChunkStore.from_spec(f"disk:{folder / _KV}")
    try:
        return sum(store.invalidate(document=document) for document in documents)
    finally:
        store.close()
