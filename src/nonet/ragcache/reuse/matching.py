"""Known chunks in a plain prompt, at any offset and without separators, by a rolling hash over token ids.

One pass over the prompt gives the hash of every stretch of any length in constant time; a chunk is looked for where the
hash of its first tokens occurs, and taken only when every id agrees. A text that was tokenised together with its
neighbours may have other ids at its edges: `KnownChunks` looks for it as text and tokenises around it.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.ragcache.models.tokenizer import well_formed
from nonet.ragcache.reuse.prompt import Prompt, Segment

Ids = Sequence[int] | NDArray[np.integer[Any]]

# Any odd number has an inverse modulo 2**64; this one is the fraction of the golden ratio.
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)


@dataclass(frozen=True, slots=True)
class Match:
    """A known chunk in a prompt.

    Args:
        start: its first row.
        stop: the row after its last.
        key: of the chunk.
        chunk_id: as it was added.
        document: likewise.
    """

    start: int
    stop: int
    key: str
    chunk_id: str = ""
    document: str = ""


@dataclass(frozen=True, slots=True)
class _Piece:
    ids: NDArray[np.integer[Any]]
    key: str
    chunk_id: str
    document: str


class ChunkMatcher:
    """Chunks of one tenant, to be found again.

    Args:
        window_tokens: shortest chunk that is looked for; the cost of a prompt does not depend on it.
        max_chunks: the oldest is forgotten when there are more; each takes 8 bytes a token.

    Raises:
        InputError: a window or a number below 1.

    >>> matcher = ChunkMatcher(window_tokens=2)
    >>> matcher.add("key", [7, 8, 9])
    True
    >>> [(found.start, found.stop) for found in matcher.match([1, 7, 8, 9, 7, 8])]
    [(1, 4)]
    """

    def __init__(self, window_tokens: int = 16, max_chunks: int = 100_000) -> None:
        if window_tokens < 1 or max_chunks < 1:
            raise InputError("matching: window_tokens and max_chunks must be 1 or more")
        self._window, self._max_chunks = window_tokens, max_chunks
        self._lock = threading.Lock()
        self._pieces: dict[str, _Piece] = {}
        # Hash of the first window -> length -> hash of the whole -> keys.
        self._table: dict[int, dict[int, dict[int, list[str]]]] = {}
        self._heads = np.empty(0, np.uint64)
        self._is_stale = False

    def __len__(self) -> int:
        return len(self._pieces)

    def add(self, key: str, ids: Ids, *, chunk_id: str = "", document: str = "") -> bool:
        """Look for a chunk from now on; False when it is shorter than the window.

        Args:
            key: of the chunk; one that is known already takes its place.
            ids: its tokens.
            chunk_id: how it is called.
            document: what it is from.
        """
        piece = _Piece(np.array(ids), key, chunk_id, document)
        if len(piece.ids) < self._window:
            return False
        with self._lock:
            self._forget(key)
            if len(self._pieces) >= self._max_chunks:
                self._forget(next(iter(self._pieces)))
            self._pieces[key] = piece
            head, whole = self._hashes(piece)
            self._table.setdefault(head, {}).setdefault(len(piece.ids), {}).setdefault(whole, []).append(key)
            self._is_stale = True
        return True

    def ids_of(self, key: str) -> NDArray[np.integer[Any]]:
        """The tokens of a chunk that is looked for; none when it is not."""
        piece = self._pieces.get(key)
        return np.empty(0, np.int64) if piece is None else piece.ids

    def known_keys(self) -> list[str]:
        """The chunks that are looked for."""
        with self._lock:
            return list(self._pieces)

    def discard(self, key: str) -> None:
        """Look for a chunk no longer; it need not be known."""
        with self._lock:
            self._forget(key)

    def find(self, ids: Ids) -> list[Match]:
        """Every place of every known chunk, overlapping ones included, by start and length.

        Args:
            ids: tokens of a prompt.
        """
        given = np.asarray(ids, np.int64)
        if len(given) < self._window:
            return []
        rolling = _Rolling(given)
        with self._lock:
            if self._is_stale:
                self._heads = np.sort(np.fromiter(self._table, np.uint64, len(self._table)))
                self._is_stale = False
            if not len(self._heads):
                return []
            heads = rolling.windows(self._window)
            places = np.searchsorted(self._heads, heads)
            is_known = self._heads[np.minimum(places, len(self._heads) - 1)] == heads
            found = [
                match
                for start in np.flatnonzero(is_known)
                for match in self._at(int(start), int(heads[start]), rolling)
            ]
        return sorted(found, key=lambda match: (match.start, match.stop, match.key))

    def match(self, ids: Ids) -> list[Match]:
        """Places of known chunks that do not overlap and cover as many tokens as can be; of equal covers, fewer chunks.

        Args:
            ids: tokens of a prompt.
        """
        found = sorted(self.find(ids), key=lambda match: (match.stop, match.start))
        stops = [match.stop for match in found]
        best: list[tuple[int, int]] = [(0, 0)]
        taken: list[int] = []
        for match in found:
            before = bisect.bisect_right(stops, match.start)
            covered, pieces = best[before]
            candidate = (covered + match.stop - match.start, pieces - 1)
            taken.append(before if candidate > best[-1] else -1)
            best.append(max(candidate, best[-1]))
        chosen, number = [], len(found)
        while number:
            if taken[number - 1] < 0:
                number -= 1
            else:
                chosen.append(found[number - 1])
                number = taken[number - 1]
        return chosen[::-1]

    def prompt(self, ids: Ids, key_of: Callable[[NDArray[np.int64]], str], *, tenant: str = "") -> Prompt:
        """A plain prompt as segments: what precedes the first known chunk, chunks, and what follows the last.

        What stands between two known chunks becomes a chunk without a name; it is computed, and known the next time.

        Args:
            ids: tokens of the prompt, at least one.
            key_of: gives the key of token ids (`chunk_key` with everything but the ids).
            tenant: of the prompt.

        Raises:
            InputError: an empty prompt.
        """
        given = np.array(ids, np.int64)
        if not len(given):
            raise InputError("a prompt needs at least one token")
        matches = self.match(given)
        if matches and matches[-1].stop == len(given):
            # The last row must be computed to know what comes next.
            matches.pop()
        first = matches[0].start if matches else 0
        segments = [Segment("system", 0, first, key_of(given[:first]))]
        for match in matches:
            end = segments[-1].stop
            if match.start > end:
                between = key_of(given[end : match.start])
                segments.append(Segment("chunk", end, match.start, between, number=len(segments) - 1))
            number = len(segments) - 1
            segments.append(
                Segment("chunk", match.start, match.stop, match.key, match.chunk_id, match.document, number)
            )
        end = segments[-1].stop
        return Prompt(given, (*segments, Segment("question", end, len(given), "")), tenant)

    def _forget(self, key: str) -> None:
        piece = self._pieces.pop(key, None)
        if piece is None:
            return
        head, whole = self._hashes(piece)
        size = len(piece.ids)
        keys = self._table[head][size][whole]
        keys.remove(key)
        if not keys:
            del self._table[head][size][whole]
            if not self._table[head][size]:
                del self._table[head][size]
            if not self._table[head]:
                del self._table[head]
                self._is_stale = True

    def _hashes(self, piece: _Piece) -> tuple[int, int]:
        rolling = _Rolling(piece.ids)
        return rolling.of(0, self._window), rolling.of(0, len(piece.ids))

    def _at(self, start: int, head: int, rolling: _Rolling) -> list[Match]:
        found = []
        for size, wholes in self._table[head].items():
            if start + size > len(rolling.ids):
                continue
            for key in wholes.get(rolling.of(start, size), ()):
                piece = self._pieces[key]
                if np.array_equal(piece.ids, rolling.ids[start : start + size]):
                    found.append(Match(start, start + size, key, piece.chunk_id, piece.document))
        return found


class KnownChunks:
    """Chunks of one tenant as token ids and as text.

    Args:
        max_chunks: the oldest is forgotten when there are more.
    """

    def __init__(self, max_chunks: int = 100_000) -> None:
        self.ids = ChunkMatcher(max_chunks=max_chunks)
        self._bytes = ChunkMatcher(max_chunks=max_chunks)

    def add(self, key: str, ids: NDArray[np.int64], text: str, *, chunk_id: str = "", document: str = "") -> None:
        """Look for a chunk from now on, unless it is too short.

        Args:
            key: of the chunk.
            ids: its tokens.
            text: what they say; "", or one with U+FFFD, is looked for by ids alone.
            chunk_id: how it is called.
            document: what it is from.
        """
        if self.ids.add(key, ids, chunk_id=chunk_id, document=document) and "\ufffd" not in text:
            self._bytes.add(key, _bytes(text))

    def discard(self, key: str) -> None:
        """Look for a chunk no longer."""
        self.ids.discard(key)
        self._bytes.discard(key)

    def tokenised(self, text: str, encode: Callable[[str, bool], Sequence[int]]) -> list[int]:
        """A text as token ids, with every known chunk as the ids that it is known by.

        Args:
            text: of a prompt.
            encode: gives the ids of a part of it; told whether that is the first part.
        """
        data = _bytes(text)
        ids: list[int] = []
        place = 0
        for match in self._bytes.match(data):
            if len(known := self.ids.ids_of(match.key)):
                ids += [*encode(data[place : match.start].tobytes().decode(), place == 0), *known.tolist()]
                place = match.stop
        return [*ids, *encode(data[place:].tobytes().decode(), place == 0)]


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(well_formed(text).encode(), np.uint8)


class _Rolling:
    """Hashes of all stretches of some ids: polynomials of scrambled ids, modulo 2**64."""

    def __init__(self, ids: NDArray[np.integer[Any]]) -> None:
        self.ids = ids
        size = len(ids)
        powers = np.full(size, _BASE, np.uint64)
        self._back = np.full(size + 1, _INVERSE, np.uint64)
        powers[:1], self._back[0] = 1, 1
        np.cumprod(powers, out=powers)
        np.cumprod(self._back, out=self._back)
        self._sums = np.zeros(size + 1, np.uint64)
        np.cumsum(_scrambled(ids) * powers, out=self._sums[1:])

    def windows(self, size: int) -> NDArray[np.uint64]:
        """Hash of the stretch of this size at each start."""
        return (self._sums[size:] - self._sums[:-size]) * self._back[: len(self._sums) - size]

    def of(self, start: int, size: int) -> int:
        """Hash of one stretch."""
        difference = int(self._sums[start + size]) - int(self._sums[start])
        return difference * int(self._back[start]) % (1 << 64)


def _scrambled(ids: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    # The finaliser of splitmix64: neighbouring ids become unrelated numbers.
    x = ids.astype(np.uint64) + np.uint64(_BASE)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
