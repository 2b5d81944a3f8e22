"""SLCT: clusters of lines that share frequent (position, word) pairs, found in three passes over the data.

Vaarandi: "A Data Clustering Algorithm for Mining Patterns from Event Logs", IPOM 2003. Written from the paper's
description of the algorithm:

1. count the words of every position; a pair (position, word) in at least `support` lines is frequent;
2. the frequent pairs of a line are its *candidate*; with *joining*, a candidate also counts the lines of every
   candidate that contains it; candidates with at least `support` lines are clusters;
3. *refinement*: a word column that varies is written as what its words have in common at the head and at the tail,
   with a wildcard between.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nonet.common.errors import InputError
from nonet.logs.parsers.base import PARSERS, WILDCARD, Mode, Parsed, Parser
from nonet.logs.parsers.masking import Masker

Pair = tuple[int, str]
"""Position of a word in its line, from 0, and the word."""
Candidate = tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Lines:
    """Distinct lines as words, with the number of times each occurred."""

    words: list[list[str]]
    counts: list[int]


def frequent_pairs(lines: Lines, support: int) -> frozenset[Pair]:
    """The (position, word) pairs that occur in at least `support` lines.

    >>> sorted(frequent_pairs(Lines([["up", "a"], ["up", "b"]], [2, 1]), support=2))
    [(0, 'up'), (1, 'a')]
    """
    occurrences: Counter[Pair] = Counter()
    for words, count in zip(lines.words, lines.counts, strict=True):
        for pair in enumerate(words):
            occurrences[pair] += count
    return frozenset(pair for pair, count in occurrences.items() if count >= support)


def find_candidates(lines: Lines, frequent: frozenset[Pair]) -> dict[Candidate, list[int]]:
    """The lines (by index) of every candidate, by first appearance; lines without a frequent pair have none."""
    lines_of: dict[Candidate, list[int]] = defaultdict(list)
    for line, words in enumerate(lines.words):
        candidate = tuple(pair for pair in enumerate(words) if pair in frequent)
        if candidate:
            lines_of[candidate].append(line)
    return dict(lines_of)


def containing(candidates: Sequence[Candidate]) -> list[list[int]]:
    """For every candidate, the candidates (by index, ascending) that have all of its pairs; itself included.

    >>> containing([((0, "a"),), ((0, "a"), (1, "b"))])
    [[0, 1], [1]]
    """
    having: dict[Pair, set[int]] = defaultdict(set)
    for index, candidate in enumerate(candidates):
        for pair in candidate:
            having[pair].add(index)
    return [sorted(set.intersection(*sorted((having[pair] for pair in c), key=len))) for c in candidates]


def refine_column(words: Iterable[str]) -> str:
    """One column of a template: the word itself if there is one, else common head, wildcard, common tail.

    Head and tail are given up where some word is nothing but them, since the wildcard would stand for nothing there.

    >>> refine_column(["(uid=0)"]), refine_column(["uid=0,", "uid=17,"]), refine_column(["ab", "abb"])
    ('(uid=0)', 'uid=<*>,', '<*>')
    """
    distinct = list(dict.fromkeys(words))
    if len(distinct) == 1:
        return distinct[0]
    head = _common_head(distinct)
    tail = _common_head([word[len(head) :][::-1] for word in distinct])[::-1]
    if min(map(len, distinct)) <= len(head) + len(tail):
        return WILDCARD
    return head + WILDCARD + tail


def _common_head(words: Sequence[str]) -> str:
    """The longest text that all words begin with: that of the first and the last in order."""
    first, last = min(words), max(words)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length]


def describe(candidate: Candidate, lines: Sequence[Sequence[str]]) -> list[str]:
    """The refined columns of a cluster, up to the length of its shortest line."""
    constants = dict(candidate)
    shortest = min(map(len, lines))
    return [constants.get(position) or refine_column(line[position] for line in lines) for position in range(shortest)]


def specificity(candidate: Candidate, columns: Sequence[str]) -> int:
    """Characters of a description before refinement: a column that varies counts as a bare wildcard."""
    constants = dict(candidate)
    plain = [
        WILDCARD if WILDCARD in column and position not in constants else column
        for position, column in enumerate(columns)
    ]
    return len(" ".join(plain))


class TemplateMatcher:
    """Finds the first of many templates that a text matches as a whole.

    A wildcard stands for any characters, also none; everything else, each single blank too, for itself. Only templates
    that can start with the text's first word are tried, each in time linear in the text.

    >>> matcher = TemplateMatcher(["down <*>", "<*> <*>"])
    >>> matcher.first("down eth0"), matcher.first("link up"), matcher.first("up")
    (0, 1, None)
    """

    def __init__(self, templates: Sequence[str]) -> None:
        self._segments = [template.split(WILDCARD) for template in templates]
        self._starting_with: dict[str, list[int]] = defaultdict(list)
        self._starting_anyhow: list[int] = []
        for number, template in enumerate(templates):
            word = template.split(" ", 1)[0]
            (self._starting_anyhow if WILDCARD in word else self._starting_with[word]).append(number)
        self._merged: dict[str, list[int]] = {}

    def first(self, text: str) -> int | None:
        """Index of the first template that matches, or None."""
        return next(
            (number for number in self._possible(text.split(" ", 1)[0]) if _fits(self._segments[number], text)), None
        )

    def _possible(self, word: str) -> list[int]:
        """Templates that a text with this first word may match, ascending."""
        if word not in self._starting_with:
            return self._starting_anyhow
        if word not in self._merged:
            self._merged[word] = sorted(self._starting_with[word] + self._starting_anyhow)
        return self._merged[word]


def _fits(segments: Sequence[str], text: str) -> bool:
    """Whether the segments occur in the text in order, the first at its start and the last at its end."""
    if len(segments) == 1:
        return text == segments[0]
    head, *middle, tail = segments
    if len(text) < len(head) + len(tail) or not (text.startswith(head) and text.endswith(tail)):
        return False
    place, end = len(head), len(text) - len(tail)
    for segment in middle:
        place = text.find(segment, place, end)
        if place < 0:
            return False
        place += len(segment)
    return True


@PARSERS.register("SLCT")
class SLCT(Parser):
    """SLCT with joining and refinement.

    Mode "compat" gives a line the template that its text matches, tried from the one with most characters (wildcards
    unrefined) down, so a line may get the template of another cluster; runs of blanks match no template; all lines
    that match none share one label, a bare wildcard.
    Mode "fixed" gives a line the cluster of its own candidate or, where that is too rare, the most specific cluster
    whose pairs it has; lines longer than their cluster's shortest get a wildcard for the rest; lines of no cluster
    keep their text.

    The published rows were made by a C program whose refinement is not described in full; compat mode meets them in
    part (see the tests for the distance).

    Cost: linear in words, plus the candidates that share pairs. Memory: the distinct masked lines.

    Args:
        support: number of lines that make a pair or a candidate frequent, at least 1.
        mode: see above.
        masks: see `Parser`.
        seed: unused; nothing is random.

    >>> lines = ["eth0 up", "eth1 up", "eth2 up", "reboot"]
    >>> SLCT(support=3).parse(lines).templates
    ['eth<*> up', 'reboot']
    """

    def __init__(self, *, support: int = 10, mode: Mode = "fixed", masks: Sequence[str] = (), seed: int = 0) -> None:
        super().__init__(mode=mode, masks=masks, seed=seed)
        if support < 1:
            raise InputError(f"SLCT: support is a number of lines, at least 1, not {support}")
        self.support = support
        self.templates_match_lines = mode == "fixed"

    def parse(self, contents: Sequence[str]) -> Parsed:
        """Give every line the description of a cluster."""
        masked = Masker(self.masks).distinct(contents)
        lines = Lines([text.split() for text in masked.texts], masked.counts.tolist())
        lines_of = find_candidates(lines, frequent_pairs(lines, self.support))
        if self.mode == "compat":
            templates = self._match_texts(masked.texts, lines, lines_of)
        else:
            templates = self._assign_candidates(lines, lines_of)
        return Parsed.from_groups(masked.index_of_line, templates)

    def _clusters(self, lines: Lines, lines_of: dict[Candidate, list[int]]) -> dict[Candidate, list[int]]:
        """Candidates that count at least `support` lines, with these lines (joining included)."""
        candidates = list(lines_of)
        clusters = {}
        for candidate, joined in zip(candidates, containing(candidates), strict=True):
            members = [line for index in joined for line in lines_of[candidates[index]]]
            if sum(lines.counts[line] for line in members) >= self.support:
                clusters[candidate] = members
        return clusters

    def _match_texts(self, texts: list[str], lines: Lines, lines_of: dict[Candidate, list[int]]) -> list[str]:
        """Compat: the template of every text, by matching."""
        described = []
        for candidate, members in self._clusters(lines, lines_of).items():
            columns = describe(candidate, [lines.words[line] for line in members])
            described.append((specificity(candidate, columns), " ".join(columns)))
        described.sort(key=lambda entry: -entry[0])
        templates = [template for _, template in described]
        matcher = TemplateMatcher(templates)
        found = (matcher.first(text) for text in texts)
        return [WILDCARD if number is None else templates[number] for number in found]

    def _assign_candidates(self, lines: Lines, lines_of: dict[Candidate, list[int]]) -> list[str]:
        """Fixed: the template of every text, by the cluster of its candidate."""
        clusters = self._clusters(lines, lines_of)
        most_specific_first = sorted(clusters, key=lambda cluster: -len(cluster))
        members_of: dict[Candidate, list[int]] = defaultdict(list)
        for candidate, members in lines_of.items():
            pairs = set(candidate)
            cluster = candidate if candidate in clusters else _first_within(most_specific_first, pairs)
            if cluster is not None:
                members_of[cluster] += members
        templates = [" ".join(words) for words in lines.words]
        for cluster, members in members_of.items():
            words = [lines.words[line] for line in members]
            columns = describe(cluster, words)
            for line in members:
                rest = [WILDCARD] if len(lines.words[line]) > len(columns) else []
                templates[line] = " ".join(columns + rest)
        return templates


def _first_within(clusters: Iterable[Candidate], pairs: set[Pair]) -> Candidate | None:
    """The first cluster whose pairs are all among `pairs`."""
    return next((cluster for cluster in clusters if pairs.issuperset(cluster)), None)
