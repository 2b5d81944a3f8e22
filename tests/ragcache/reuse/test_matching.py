import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.ragcache.models.loading import LoadedModel
from nonet.ragcache.models.tokenizer import Tokenizer
from nonet.ragcache.reuse.matching import ChunkMatcher, KnownChunks, _Rolling

IDS = st.lists(st.integers(0, 2), max_size=24)


def brute(chunks, ids):
    """All places of all chunks, by comparing lists."""
    return {
        (start, start + len(chunk), key)
        for key, chunk in chunks.items()
        for start in range(len(ids) - len(chunk) + 1)
        if list(ids[start : start + len(chunk)]) == list(chunk)
    }


def most_covered(places, size):
    """Tokens that can be covered without overlap, by recursion over the end."""
    best = [0] * (size + 1)
    for end in range(1, size + 1):
        best[end] = max([best[end - 1], *(best[a] + b - a for a, b, _ in places if b == end)])
    return best[size]


@given(st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=6), max_size=6), IDS, st.lists(st.integers(0, 5)))
def test_finds_what_comparing_lists_finds(pieces, ids, gone):
    chunks = {f"{n}": piece for n, piece in enumerate(pieces)}
    matcher = ChunkMatcher(window_tokens=2)
    for key, piece in chunks.items():
        assert matcher.add(key, piece)
    for number in gone:
        matcher.discard(f"{number}")
        chunks.pop(f"{number}", None)
    expected = brute(chunks, ids)
    assert {(one.start, one.stop, one.key) for one in matcher.find(ids)} == expected
    chosen = matcher.match(ids)
    assert all(before.stop <= after.start for before, after in itertools.pairwise(chosen))
    assert {(one.start, one.stop, one.key) for one in chosen} <= expected
    assert sum(one.stop - one.start for one in chosen) == most_covered(expected, len(ids))
    assert len(matcher) == len(chunks)


def test_random_splices_of_blocks():
    draws = np.random.default_rng(0)
    for _ in range(200):
        old = draws.integers(0, 50_000, 512)
        matcher = ChunkMatcher(window_tokens=64)
        blocks = {f"{start}": old[start : start + 64] for start in range(0, 512, 64)}
        for key, block in blocks.items():
            matcher.add(key, block)
        pieces = []
        for _ in range(int(draws.integers(1, 6))):
            start, size = int(draws.integers(0, 400)), int(draws.integers(1, 200))
            pieces += [draws.integers(0, 50_000, int(draws.integers(0, 20))), old[start : start + size]]
        new = np.concatenate(pieces)
        # What stands at a multiple of 64 in the old and anywhere in the new, by sets of tuples.
        places = {tuple(new[at : at + 64].tolist()): at for at in range(len(new) - 63)}
        expected = {
            (int(key), at) for key, block in blocks.items() if (at := places.get(tuple(block.tolist()))) is not None
        }
        found = {(int(one.key), one.start) for one in matcher.find(new)}
        assert expected <= found
        assert all((new[at : at + 64] == old[start : start + 64]).all() for start, at in found)


def test_hashes_of_any_stretch_do_not_depend_on_its_place():
    ids = np.random.default_rng(0).integers(0, 1 << 40, 300)
    whole = _Rolling(ids)
    for start, size in [(0, 1), (17, 40), (250, 50), (5, 0)]:
        assert whole.of(start, size) == _Rolling(ids[start : start + size]).of(0, size)
    assert whole.windows(7).tolist() == [whole.of(start, 7) for start in range(294)]


def test_equal_hashes_of_other_ids_are_not_taken():
    matcher = ChunkMatcher(window_tokens=2)
    matcher.add("right", [1, 2, 3])
    piece = next(iter(matcher._pieces.values()))
    piece.ids[2] = 9
    assert matcher.find([1, 2, 3]) == []


def test_of_equal_covers_the_one_with_fewer_chunks():
    matcher = ChunkMatcher(window_tokens=2)
    for key, ids in (("ab", [1, 2]), ("abcd", [1, 2, 3, 4]), ("cd", [3, 4])):
        matcher.add(key, ids)
    assert [one.key for one in matcher.match([1, 2, 3, 4])] == ["abcd"]


def test_a_plain_prompt_as_segments():
    matcher = ChunkMatcher(window_tokens=2)
    matcher.add("A", [5, 6], chunk_id="a", document="d")
    matcher.add("B", [7, 8, 9])
    prompt = matcher.prompt([1, 5, 6, 2, 2, 7, 8, 9, 5, 6, 3], lambda ids: f"key{ids.tolist()}", tenant="t")
    assert [(one.kind, one.start, one.stop, one.key, one.chunk_id) for one in prompt.segments] == [
        ("system", 0, 1, "key[1]", ""),
        ("chunk", 1, 3, "A", "a"),
        ("chunk", 3, 5, "key[2, 2]", ""),
        ("chunk", 5, 8, "B", ""),
        ("chunk", 8, 10, "A", "a"),
        ("question", 10, 11, "", ""),
    ]
    assert (prompt.tenant, prompt.segments[1].document) == ("t", "d")


def test_the_last_token_is_never_part_of_a_chunk():
    matcher = ChunkMatcher(window_tokens=2)
    matcher.add("A", [5, 6])
    kinds = [(one.kind, one.num_tokens) for one in matcher.prompt([5, 6, 5, 6], lambda _: "k").segments]
    assert kinds == [("system", 0), ("chunk", 2), ("question", 2)]
    assert [one.num_tokens for one in matcher.prompt([5, 6], lambda _: "k").segments] == [0, 2]
    with pytest.raises(InputError, match="at least one token"):
        matcher.prompt([], lambda _: "k")


def test_short_chunks_known_keys_and_the_oldest():
    matcher = ChunkMatcher(window_tokens=2, max_chunks=2)
    assert not matcher.add("short", [1])
    matcher.add("A", [1, 2])
    matcher.add("B", [3, 4])
    matcher.add("A", [5, 6])
    assert matcher.find([1, 2]) == []
    matcher.add("C", [7, 8])
    assert [one.key for one in matcher.find([3, 4, 5, 6, 7, 8])] == ["A", "C"]
    matcher.discard("nobody")
    for wrong in ({"window_tokens": 0}, {"max_chunks": 0}):
        with pytest.raises(InputError):
            ChunkMatcher(**wrong)


def test_many_chunks_that_begin_alike_in_a_long_prompt():
    draws = np.random.default_rng(0)
    matcher = ChunkMatcher()
    head = draws.integers(0, 50_000, 16)
    for number in range(2000):
        matcher.add(f"{number}", np.concatenate([head, draws.integers(0, 50_000, 100)]))
    prompt = np.concatenate([np.concatenate([matcher._pieces[f"{n}"].ids, [1]]) for n in range(200)])
    matcher.find(prompt)
    started = time.perf_counter()
    found = matcher.match(prompt)
    assert len(found) == 200
    assert time.perf_counter() - started < 0.5


ARCHIVE = "The vault of the archive opens only on Tuesdays, and the key is kept below the third stone."
RACK = "The rack has twelve fans; it may draw 200 kW \u2013 at most.\n\nSo says the old rule book of the row, page 7."


@pytest.fixture
def tokenizer(smollm2: LoadedModel) -> Tokenizer:
    return smollm2.tokenizer


def known_chunks(tokenizer: Tokenizer) -> KnownChunks:
    known = KnownChunks()
    for key, text in (("archive", ARCHIVE), ("rack", RACK)):
        ids = np.array(tokenizer.encode(f"{text}\n\n"), np.int64)
        known.add(key, ids, tokenizer.decode(ids.tolist()))
    return known


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{ARCHIVE}\n\n{RACK}\n\nWhat?", ["archive", "rack"]),
        (f"Hello \u00e9\u2014 there:\n\n{RACK}\n\n{ARCHIVE}\n\nQuestion: what?", ["rack", "archive"]),
        (f"no break before it: {ARCHIVE}\n\nWhat?", ["archive"]),
        (f"{ARCHIVE}\n{RACK}\nWhat?", []),
        (f"{ARCHIVE[:-1]}!\n\nWhat?", []),
        ("", []),
    ],
)
def test_chunks_in_a_text_keep_their_ids_and_the_text_stays_the_same(
    tokenizer: Tokenizer, text: str, found: list[str]
) -> None:
    known = known_chunks(tokenizer)
    ids = known.tokenised(text, lambda part, is_first: tokenizer.encode(part))
    assert tokenizer.decode(ids) == text
    assert [match.key for match in known.ids.match(ids)] == found
    if not found:
        assert ids == tokenizer.encode(text)


def test_the_first_part_is_told_and_a_discarded_chunk_is_text_again(tokenizer: Tokenizer) -> None:
    known, parts = known_chunks(tokenizer), []

    def encode(part: str, is_first: bool) -> list[int]:
        parts.append((part, is_first))
        return tokenizer.encode(part)

    known.tokenised(f"{ARCHIVE}\n\n{RACK}\n\nEnd", encode)
    assert parts == [("", True), ("", False), ("End", False)]
    known.discard("archive")
    parts.clear()
    known.tokenised(f"{ARCHIVE}\n\n{RACK}\n\nEnd", encode)
    assert parts == [(f"{ARCHIVE}\n\n", True), ("End", False)]
    known.discard("rack")
    assert known.tokenised(RACK, encode) == tokenizer.encode(RACK)
