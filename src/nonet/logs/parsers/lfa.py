"""LFA: a word is constant in a line when it is clearly more frequent, at its position, than the line's other words.

Nagappan, Vouk: "Abstracting Log Lines to Log Event Types for Mining Software System Logs", MSR 2010.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from nonet.logs.parsers.base import PARSERS, WILDCARD, Parsed, Parser
from nonet.logs.parsers.masking import DistinctLines, Masker

WordCounts = list[Counter[str]]
"""For every position the number of lines that have a word there."""


def _count_words(lines: DistinctLines) -> WordCounts:
    """First pass over the lines."""
    counts: WordCounts = []
    for text, num_lines in zip(lines.texts, lines.counts.tolist(), strict=True):
        tokens = text.split()
        counts.extend(Counter() for _ in range(len(tokens) - len(counts)))
        for token, count in zip(tokens, counts, strict=False):
            count[token] += num_lines
    return counts


def _split_count(frequencies: list[int]) -> int:
    """The lower side of the first largest gap between the sorted frequencies; below all of them when they are equal.

    >>> _split_count([9, 2, 8, 1]), _split_count([5, 5])
    (2, 0)
    """
    ordered = sorted(frequencies)
    if ordered[0] == ordered[-1]:
        return 0
    gaps = [above - below for below, above in pairwise(ordered)]
    return ordered[gaps.index(max(gaps))]


def _template(tokens: list[str], counts: WordCounts) -> str:
    """Second pass, for one line: words at or below the split become wildcards."""
    frequencies = [counts[position][token] for position, token in enumerate(tokens)]
    constants = [frequency for frequency, token in zip(frequencies, tokens, strict=True) if token != WILDCARD]
    if len(constants) >= 2:
        split = _split_count(constants)
        tokens = [
            token if frequency > split else WILDCARD for token, frequency in zip(tokens, frequencies, strict=True)
        ]
    return " ".join(tokens)


@PARSERS.register("LFA")
class LFA(Parser):
    """LFA, offline, two passes; it has no parameters. Both modes are the same: the reference has no quirk to mend.

    Cost: tokens of the distinct masked lines. Memory: these and the word counts.

    >>> LFA().parse(["send a ok", "send b ok", "send c ok"]).templates
    ['send <*> ok']
    """

    templates_match_lines = True

    def parse(self, contents: Sequence[str]) -> Parsed:
        """Give every line the words that are frequent in it."""
        lines = Masker(self.masks).distinct(contents)
        counts = _count_words(lines)
        return Parsed.from_groups(lines.index_of_line, [_template(text.split(), counts) for text in lines.texts])
