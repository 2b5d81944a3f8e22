"""Formats that describe the same event: looked up by word 3-grams, joined by their longest common subsequence.

The second phase of SHISO ("adjust"): a format that changed may have become a relative of one elsewhere in the tree.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import reduce

from rapidfuzz.distance import LCSseq

Gram = tuple[int, int, int]

WILDCARD_WORD = 0


def grams_of(words: Sequence[int]) -> frozenset[Gram]:
    """The word 3-grams of a format; none below three words.

    >>> sorted(grams_of([5, 6, 0, 7]))
    [(5, 6, 0), (6, 0, 7)]
    """
    return frozenset(zip(words, words[1:], words[2:], strict=False))


def common_words(ours: Sequence[int], theirs: Sequence[int]) -> list[tuple[int, int]]:
    """Positions (ours, theirs) of a longest common subsequence of two formats.

    >>> common_words([1, 2, 3, 4], [1, 3, 9, 4])
    [(0, 0), (2, 1), (3, 3)]
    """
    return [
        (block.src_start + offset, block.dest_start + offset)
        for block in LCSseq.opcodes(ours, theirs)
        if block.tag == "equal"
        for offset in range(block.src_end - block.src_start)
    ]


def super_format(ours: Sequence[int], theirs: Sequence[int]) -> list[int]:
    """A format for the lines of both: the common words, with wildcards between them.

    As many wildcards as words are left out when both leave out equally many, else one.

    >>> super_format([1, 2, 3, 4], [1, 7, 3, 8, 4])
    [1, 0, 3, 0, 4]
    """
    merged: list[int] = []
    at = (0, 0)
    for i, j in [*common_words(ours, theirs), (len(ours), len(theirs))]:
        left_out = i - at[0], j - at[1]
        merged.extend([WILDCARD_WORD] * (left_out[0] if left_out[0] == left_out[1] else 1))
        merged.extend(ours[i : i + 1])
        at = i + 1, j + 1
    return merged


class FormatTable:
    """Nodes with their current formats, and which of them describe one event.

    Args:
        lookup_threshold: the Dice coefficient of 3-grams above which two formats are compared at all.
        super_threshold: the share of common words in the mean length above which they are joined.
    """

    def __init__(self, lookup_threshold: float, super_threshold: float) -> None:
        self._lookup_threshold = lookup_threshold
        self._super_threshold = super_threshold
        self._words: dict[int, list[int]] = {}
        self._grams: dict[int, frozenset[Gram]] = {}
        self._nodes_of_gram: defaultdict[Gram, set[int]] = defaultdict(set)
        self._parent: dict[int, int] = {}

    def put(self, node: int, words: list[int]) -> None:
        """Store the format of a new node, or the new format of a known one."""
        for gram in self._grams.get(node, ()):
            self._nodes_of_gram[gram].discard(node)
        self._words[node] = words
        self._grams[node] = grams_of(words)
        self._parent.setdefault(node, node)
        for gram in self._grams[node]:
            self._nodes_of_gram[gram].add(node)

    def most_alike(self, node: int) -> tuple[int | None, float]:
        """The stored format of another event with the highest Dice coefficient, the oldest of several; and that."""
        shared = Counter(other for gram in self._grams[node] for other in self._nodes_of_gram[gram])
        event = self.event(node)
        best, best_dice = None, 0.0
        for other in sorted(shared):
            dice = 2 * shared[other] / (len(self._grams[node]) + len(self._grams[other]))
            if dice > best_dice and self.event(other) != event:
                best, best_dice = other, dice
        return best, best_dice

    def adjust(self, node: int) -> bool:
        """Join a node whose format changed with the one most like it, if they are like enough; whether it did."""
        other, dice = self.most_alike(node)
        if other is None or dice <= self._lookup_threshold:
            return False
        ours, theirs = self._words[node], self._words[other]
        if 2 * LCSseq.similarity(ours, theirs) / (len(ours) + len(theirs)) <= self._super_threshold:
            return False
        older, newer = sorted((self.event(node), self.event(other)))
        self._parent[newer] = older
        return True

    def event(self, node: int) -> int:
        """The oldest node of the event that a node belongs to."""
        while self._parent[node] != node:
            self._parent[node] = node = self._parent[self._parent[node]]
        return node

    def super_formats(self) -> dict[int, list[int]]:
        """The format of every event: its nodes' formats joined, oldest first."""
        formats: defaultdict[int, list[list[int]]] = defaultdict(list)
        for node in sorted(self._words):
            formats[self.event(node)].append(self._words[node])
        return {event: reduce(super_format, members) for event, members in formats.items()}
