"""Logram: a word is variable when the word pairs and triples around it are rare.

Dai, Li, Shang, Chen, Chen: "Logram: Efficient Log Parsing Using n-Gram Dictionaries", TSE 2020.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from nonet.common.errors import InputError
from nonet.logs.parsers.base import PARSERS, WILDCARD, Mode, Parsed, Parser
from nonet.logs.parsers.masking import DistinctLines, Masker

Pair = tuple[str, str]
Triple = tuple[str, str, str]


def _triples(tokens: list[str]) -> Iterator[Triple]:
    """All runs of three tokens, in order."""
    return zip(tokens, tokens[1:], tokens[2:], strict=False)


def _pairs(tokens: list[str], *, wrap: bool) -> Iterator[Pair]:
    """All runs of two tokens, in order; with `wrap` the last and the first token are neighbours too.

    >>> list(_pairs(["a", "b", "c"], wrap=True))
    [('a', 'b'), ('b', 'c'), ('c', 'a')]
    """
    return zip(tokens, tokens[1:] + tokens[:1], strict=True) if wrap else pairwise(tokens)


class _Dictionaries:
    """In how many places every pair and triple of tokens occurs.

    Args:
        lines: the masked lines, repeats folded.
        wrap: whether the last and the first token of a line are neighbours.
    """

    def __init__(self, lines: DistinctLines, *, wrap: bool) -> None:
        self.wrap = wrap
        self.pairs: Counter[Pair] = Counter()
        self.triples: Counter[Triple] = Counter()
        for text, num_lines in zip(lines.texts, lines.counts.tolist(), strict=True):
            tokens = text.split()
            for pair in _pairs(tokens, wrap=wrap):
                self.pairs[pair] += num_lines
            for triple in _triples(tokens):
                self.triples[triple] += num_lines

    def suspects(self, tokens: list[str], threshold: int) -> list[int]:
        """Positions, ascending, that a triple occurring fewer than `threshold` times covers."""
        rare = (start for start, triple in enumerate(_triples(tokens)) if self.triples[triple] < threshold)
        return sorted({start + offset for start in rare for offset in (0, 1, 2)})

    def best_pair(self, tokens: list[str], position: int) -> int:
        """Occurrences of the more frequent one of the two pairs at a position; with wrap-around only the right one
        exists at position 0.
        """
        counts = [self.pairs[tokens[position - 1], tokens[position]]] if position else []
        if position + 1 < len(tokens):
            counts.append(self.pairs[tokens[position], tokens[position + 1]])
        elif self.wrap:
            counts.append(self.pairs[tokens[position], tokens[0]])
        return max(counts)


@PARSERS.register("Logram")
class Logram(Parser):
    """Logram, offline: one pass to count, one to look up.

    Compat keeps these quirks of the reference, mended in fixed mode:

    * only the last mask takes effect, on the Content with a blank put before it;
    * the last and the first word of a line form a pair;
    * the first word stays constant only when its pair occurs more often than `double_threshold`, the others from
      `double_threshold` on;
    * commas are removed from the template.

    Cost: words of the distinct masked lines. Memory: these and the pairs and triples.

    Args:
        double_threshold: a suspect word is constant when a pair at it occurs at least so often; from 0.
        tri_threshold: the words of a triple that occurs less often are suspects; from 0.
        mode: "compat" or "fixed".
        masks: see `Parser`.
        seed: not used; nothing is drawn.

    >>> lines = ["open file a done", "open file b done", "open file c done"]
    >>> Logram(double_threshold=2, tri_threshold=2).parse(lines).templates
    ['open file <*> <*>']

    Raises:
        InputError: a threshold is negative.
    """

    def __init__(
        self,
        *,
        double_threshold: int = 15,
        tri_threshold: int = 10,
        mode: Mode = "fixed",
        masks: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        super().__init__(mode=mode, masks=masks, seed=seed)
        for name, threshold in (("double_threshold", double_threshold), ("tri_threshold", tri_threshold)):
            if threshold < 0:
                raise InputError(f"Logram: {name} is {threshold}; it must be 0 or more")
        self.double_threshold = double_threshold
        self.tri_threshold = tri_threshold
        self.templates_match_lines = mode == "fixed"

    def parse(self, contents: Sequence[str]) -> Parsed:
        """Give every line its words with the rare ones replaced."""
        if self.mode == "compat":
            lines = Masker(self.masks[-1:]).distinct([f" {content}" for content in contents])
        else:
            lines = Masker(self.masks).distinct(contents)
        dictionaries = _Dictionaries(lines, wrap=self.mode == "compat")
        return Parsed.from_groups(
            lines.index_of_line, [self._template(text.split(), dictionaries) for text in lines.texts]
        )

    def _template(self, tokens: list[str], dictionaries: _Dictionaries) -> str:
        template = tokens.copy()
        for position in dictionaries.suspects(tokens, self.tri_threshold):
            needed = self.double_threshold + (self.mode == "compat" and position == 0)
            if dictionaries.best_pair(tokens, position) < needed:
                template[position] = WILDCARD
        text = " ".join(template)
        return text.replace(",", "") if self.mode == "compat" else text
