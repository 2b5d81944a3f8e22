"""Beside LMCache: which known chunks are found in a prompt, at any offset."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from nonet.common.console import track
from nonet.common.findings import Finding
from nonet.ragcache.bench.peers import need_rival
from nonet.ragcache.reuse.matching import ChunkMatcher

Spans = frozenset[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Splice:
    """A prompt put together from stretches of stored sequences.

    Args:
        stored: sequences whose chunks are known.
        prompt: token ids.
    """

    stored: tuple[tuple[int, ...], ...]
    prompt: tuple[int, ...]


def matches_vs_lmcache(
    *, num_splices: int = 1000, chunk_tokens: int = 64, vocab_size: int = 49_152, seed: int = 0
) -> Finding:
    """Share of random splices in which our matcher finds the chunks that LMCache's finds, at the same places.

    LMCache's `BlendTokenRangeMatcher` tells the first place of each chunk; ours tells all, of which the first counts.

    Args:
        num_splices: prompts.
        chunk_tokens: of a chunk.
        vocab_size: ids are below.
        seed: of the draws.

    Raises:
        MissingExtraError: lmcache is not installed.
    """
    wanted = "--no-deps lmcache==0.5.6, then py-cpuinfo, msgspec, aiohttp, cryptography, opentelemetry-api"
    rival = need_rival("lmcache.v1.multiprocess.modules.blend.matcher", wanted).BlendTokenRangeMatcher
    logging.getLogger("lmcache").setLevel(logging.WARNING)
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("lmcache")]:
        logging.getLogger(name).setLevel(logging.WARNING)

    def theirs(splice: Splice) -> Spans:
        matcher, place = rival(chunk_size=chunk_tokens), 0
        for ids in splice.stored:
            hashes = [f"{place + start}".encode() for start in range(0, len(ids), chunk_tokens)]
            matcher.on_new_token_hashes(list(ids), hashes, position_offset=place)
            place += len(ids)
        found = matcher.match_sub_sequence(list(splice.prompt))
        return frozenset((one.old_st, one.cur_st) for one in found)

    draws = np.random.default_rng(seed)
    splices = [random_splice(draws, chunk_tokens, vocab_size) for _ in range(num_splices)]
    same, found = 0, 0
    for splice in track(splices, "splices beside LMCache"):
        expected = theirs(splice)
        same += our_matches(splice, chunk_tokens) == expected
        found += len(expected)
    return Finding(
        "ragcache",
        "matches_vs_lmcache",
        same / num_splices,
        "",
        "match",
        f"synthetic: {num_splices} splices of stored sequences at any offset, chunks of {chunk_tokens} tokens",
        promise=1.0,
        note=f"{found} matches of LMCache 0.5.6",
    )


def random_splice(draws: np.random.Generator, chunk_tokens: int, vocab_size: int) -> Splice:
    """Three stored sequences, and stretches of them at any offsets between new tokens; whole chunks come twice, too.

    Args:
        draws: source of randomness.
        chunk_tokens: of a chunk.
        vocab_size: ids are below.
    """
    stored = [tuple(draws.integers(0, vocab_size, chunk_tokens * int(draws.integers(1, 6))).tolist()) for _ in range(3)]
    pieces: list[int] = []
    for _ in range(int(draws.integers(2, 7))):
        ids = stored[int(draws.integers(3))]
        start = int(draws.integers(len(ids)))
        pieces += draws.integers(0, vocab_size, int(draws.integers(0, 40))).tolist()
        pieces += ids[start : start + int(draws.integers(1, len(ids) + 1))]
    return Splice(tuple(stored), tuple(pieces))


def our_matches(splice: Splice, chunk_tokens: int) -> Spans:
    """Where each stored chunk begins among the stored sequences, and where it is first met in the prompt.

    Args:
        splice: sequences and prompt.
        chunk_tokens: of a chunk; a shorter rest of a sequence is not looked for.
    """
    matcher, place = ChunkMatcher(window_tokens=chunk_tokens), 0
    for ids in splice.stored:
        for start in range(0, len(ids) - chunk_tokens + 1, chunk_tokens):
            matcher.add(str(place + start), ids[start : start + chunk_tokens])
        place += len(ids)
    first: dict[str, int] = {}
    for match in matcher.find(splice.prompt):
        first.setdefault(match.key, match.start)
    return frozenset((int(key), start) for key, start in first.items())
