"""One question about documents: take in what is new, and know where their KV is kept for the next question."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from nonet.common.datasets import cache_folder
from nonet.ragcache.front.chunking import Encode
from nonet.ragcache.front.documents import read_documents
from nonet.ragcache.front.embedding import Embedder, packaged_model
from nonet.ragcache.front.index import ChunkIndex

SYSTEM = "Answer the question from the passages. Be brief."


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
        InputError: no such file or folder, or one that cannot be read.
    """
    place = Path(source)
    embedder = Embedder() if packaged_model() is not None else None
    if (place / "chunks.sqlite").is_file():
        return Library(ChunkIndex(place, embedder), f"ram:2GB,disk:{place / 'kv'}:20GB")
    name = hashlib.sha256(f"{place.resolve()}\0{max_tokens}".encode()).hexdigest()[:16]
    folder = cache_folder() / "ragcache" / name
    index = ChunkIndex(folder, embedder)
    index.ingest(read_documents([place]), encode, max_tokens)
    return Library(index, f"ram:2GB,disk:{folder / 'kv'}:20GB")
