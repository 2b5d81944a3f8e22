"""Documents cut into chunks of at most so many tokens, at the largest boundary that fits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nonet.common.errors import InputError
from nonet.ragcache.front.documents import Document

Encode = Callable[[str], list[int]]
_BOUNDARIES = (re.compile(r"\n\s*\n"), re.compile(r"(?<=[.!?。！？])\s+"), re.compile(r"\s+"))
"""Paragraphs, then sentences, then words."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document.

    Args:
        chunk_id: `document#number`.
        document_id: where it is from.
        text: as it stands in the document, without the white space around it.
    """

    chunk_id: str
    document_id: str
    text: str


def cut_document(document: Document, encode: Encode, max_tokens: int = 300) -> list[Chunk]:
    """Cut a document: paragraphs are packed together, what is too long is cut at sentences, then words, then anywhere.

    Args:
        document: to cut.
        encode: the model's tokenizer.
        max_tokens: of a chunk.

    Raises:
        InputError: max_tokens below 8.

    >>> words = lambda text: text.split()
    >>> [c.text for c in cut_document(Document("d", "d", "a b c d e. f g h i j.\\n\\nk l."), words, 8)]
    ['a b c d e.', 'f g h i j.\\n\\nk l.']
    """
    if max_tokens < 8:
        raise InputError(f"chunks of {max_tokens} tokens are too small to be found; take 8 or more")
    pieces = _packed(document.text, encode, max_tokens)
    return [Chunk(f"{document.document_id}#{n}", document.document_id, text) for n, text in enumerate(pieces)]


def _packed(text: str, encode: Encode, max_tokens: int) -> list[str]:
    # Spans are packed as slices of the document, so what stands between two pieces is kept as it is.
    packed: list[tuple[int, int]] = []
    for start, stop in _spans(text, 0, len(text), 0, encode, max_tokens):
        if packed and len(encode(text[packed[-1][0] : stop].strip())) <= max_tokens:
            packed[-1] = (packed[-1][0], stop)
        else:
            packed.append((start, stop))
    return [piece for start, stop in packed if (piece := text[start:stop].strip())]


def _spans(text: str, start: int, stop: int, level: int, encode: Encode, max_tokens: int) -> Iterator[tuple[int, int]]:
    num_tokens = len(encode(text[start:stop].strip()))
    if level == len(_BOUNDARIES):
        parts = -(-num_tokens // max_tokens)
        if parts <= 1 or stop - start <= 1:
            yield start, stop
            return
        # A word longer than a chunk (base64, a URL): halves until they fit, since tokens do not fall evenly.
        middle = (start + stop) // 2
        yield from _spans(text, start, middle, level, encode, max_tokens)
        yield from _spans(text, middle, stop, level, encode, max_tokens)
        return
    if level and num_tokens <= max_tokens:
        yield start, stop
        return
    begin = start
    for match in _BOUNDARIES[level].finditer(text, start, stop):
        yield from _spans(text, begin, match.start(), level + 1, encode, max_tokens)
        begin = match.end()
    yield from _spans(text, begin, stop, level + 1, encode, max_tokens)
