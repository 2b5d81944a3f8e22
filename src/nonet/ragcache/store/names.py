"""Under which documents the text of a chunk came, so that invalidation finds its KV under each of them.

A text that stands in several documents is computed once, and the header of its variant tells only the document with
which that was. Names that come later, and those of the chunks before it, are kept here. Every tier that outlives the
process keeps them too (`Tier.note`), apart from the variants: a name is written before the first KV that depends on
its chunk, so after a crash there may be names without KV, which mean nothing, but no KV without its names. A name that
comes for KV that is there already is written in the background; a crash within these milliseconds loses it.

Names and keys are kept as hashes: neither can be read from a tier.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache

import blake3

from nonet.ragcache.store.tiers import Name
from nonet.ragcache.store.variant import VariantMeta

_SPARE_CHUNKS = 4096


@lru_cache(1 << 16)
def hash_of(text: str) -> str:
    """32 hex digits for the name of a document or the key of a chunk.

    >>> len(hash_of("handbook.md")), hash_of("a") == hash_of("b")
    (32, False)
    """
    return blake3.blake3(text.encode("utf-8", "surrogatepass")).hexdigest(length=16)


class Names:
    """Documents by chunk and chunks by document, as hashes, and which variants depend on which chunk.

    A variant depends on its own chunk and on all before it, whose content its KV carries. Called with the index's lock
    held. Memory: at most `max_documents` names a chunk besides those in headers; what no variant depends on is
    forgotten.

    Args:
        max_documents: names that a chunk may have.

    >>> names = Names()
    >>> names.add("chunk", "a.md"), names.add("chunk", "b.md"), names.chunks_of("b.md") == {hash_of("chunk")}
    (True, True, True)
    """

    def __init__(self, max_documents: int = 256) -> None:
        self._max_documents = max_documents
        self._documents: defaultdict[str, set[str]] = defaultdict(set)
        self._chunks: defaultdict[str, set[str]] = defaultdict(set)
        self._dependents: defaultdict[str, set[str]] = defaultdict(set)

    def refer(self, meta: VariantMeta) -> None:
        """Note on what a variant depends, and the documents of its header; again makes no difference."""
        for chunk in chunks_of(meta):
            self._dependents[chunk].add(meta.variant_id)
        for document in meta.documents:
            self._enter(hash_of(meta.chunk_key), hash_of(document))

    def release(self, meta: VariantMeta) -> None:
        """A variant is gone; names of chunks on which none depends any more go with it."""
        for chunk in chunks_of(meta):
            dependents = self._dependents.get(chunk, set())
            dependents.discard(meta.variant_id)
            if not dependents:
                self._dependents.pop(chunk, None)
                self._forget_chunk(chunk)

    def add(self, chunk_key: str, document: str) -> bool:
        """Note a name; False when it was known.

        Args:
            chunk_key: of the chunk.
            document: from which it came.
        """
        if len(self._documents) > 2 * len(self._dependents) + _SPARE_CHUNKS:
            for chunk in [one for one in self._documents if one not in self._dependents]:
                self._forget_chunk(chunk)
        return self._enter(hash_of(chunk_key), hash_of(document))

    def is_full(self, chunk_key: str, document: str) -> bool:
        """Whether a chunk has so many names that another one finds no room."""
        known = self._documents.get(hash_of(chunk_key), ())
        return len(known) >= self._max_documents and hash_of(document) not in known

    def restore(self, name: Name) -> bool:
        """Enter a name that a tier has kept; False when no variant depends on its chunk."""
        document, chunk = name
        if chunk not in self._dependents:
            return False
        self._enter(chunk, document)
        return True

    def of_variant(self, meta: VariantMeta) -> list[Name]:
        """The names of all chunks on which a variant depends."""
        return [(document, chunk) for chunk in chunks_of(meta) for document in self._documents.get(chunk, ())]

    def chunks_of(self, document: str) -> set[str]:
        """Hashes of the chunks of a document."""
        return set(self._chunks.get(hash_of(document), ()))

    def dependents(self, chunks: Iterable[str]) -> set[str]:
        """Ids of the variants that depend on any of these chunks.

        Args:
            chunks: hashes.
        """
        return {one for chunk in chunks for one in self._dependents.get(chunk, ())}

    def forget(self, document: str) -> None:
        """Forget a document."""
        name = hash_of(document)
        for chunk in self._chunks.pop(name, ()):
            self._documents[chunk].discard(name)
            if not self._documents[chunk]:
                del self._documents[chunk]

    def check_integrity(self, variants: Iterable[VariantMeta]) -> None:
        """Raise when the names do not agree with each other or with the variants.

        Args:
            variants: all that are known, those that wait to be stored included.

        Raises:
            RuntimeError: which ones.
        """
        expected: defaultdict[str, set[str]] = defaultdict(set)
        for meta in variants:
            for chunk in chunks_of(meta):
                expected[chunk].add(meta.variant_id)
        if expected != self._dependents:
            raise RuntimeError("what variants depend on does not add up")
        forth = {(document, chunk) for chunk, some in self._documents.items() for document in some}
        back = {(document, chunk) for document, some in self._chunks.items() for chunk in some}
        if forth != back or not all(self._documents.values()) or not all(self._chunks.values()):
            raise RuntimeError("documents and chunks do not name each other")

    def _enter(self, chunk: str, document: str) -> bool:
        if document in self._documents.get(chunk, ()):
            return False
        self._documents[chunk].add(document)
        self._chunks[document].add(chunk)
        return True

    def _forget_chunk(self, chunk: str) -> None:
        for document in self._documents.pop(chunk, ()):
            self._chunks[document].discard(chunk)
            if not self._chunks[document]:
                del self._chunks[document]


def chunks_of(meta: VariantMeta) -> set[str]:
    """Hashes of the chunks on which a variant depends: its own and those before it."""
    return {hash_of(key) for key in (meta.chunk_key, *meta.prefix_keys)}
