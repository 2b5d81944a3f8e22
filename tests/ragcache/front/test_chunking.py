"""Chunks: never too long, nothing lost."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.ragcache.front.chunking import cut_document
from nonet.ragcache.front.documents import Document


def pieces_of_three(text):
    """A tokenizer that cuts words into pieces of at most three characters."""
    return [word[i : i + 3] for word in text.split() for i in range(0, len(word), 3)]


@given(st.text(alphabet="ab. \n?日x", max_size=400), st.integers(8, 40))
def test_no_chunk_is_too_long_and_every_character_is_in_one(text, max_tokens):
    chunks = cut_document(Document("d", "d", text), pieces_of_three, max_tokens)
    assert all(0 < len(pieces_of_three(chunk.text)) <= max_tokens for chunk in chunks)
    assert re.sub(r"\s", "", "".join(chunk.text for chunk in chunks)) == re.sub(r"\s", "", text)
    assert [chunk.chunk_id for chunk in chunks] == [f"d#{n}" for n in range(len(chunks))]


def test_keeps_paragraphs_whole_where_they_fit():
    text = "one two three four five six.\n\nseven eight.\n\n" + "nine " * 9
    assert [chunk.text for chunk in cut_document(Document("d", "d", text), str.split, 9)] == [
        "one two three four five six.\n\nseven eight.",
        ("nine " * 9).strip(),
    ]


def test_cuts_a_word_that_is_longer_than_a_chunk():
    chunks = cut_document(Document("d", "d", "x" * 1000), pieces_of_three, 10)
    assert "".join(chunk.text for chunk in chunks) == "x" * 1000
    assert max(len(pieces_of_three(chunk.text)) for chunk in chunks) <= 10


def test_refuses_tiny_chunks():
    with pytest.raises(InputError, match="too small"):
        cut_document(Document("d", "d", "x"), str.split, 3)
