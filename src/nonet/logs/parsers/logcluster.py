"""LogCluster: lines that share the same frequent words, in the same order, form a cluster.

Vaarandi, Pihelgas: "LogCluster - A Data Clustering and Pattern Mining Algorithm for Event Logs", CNSM 2015.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nonet.common.errors import InputError
from nonet.logs.parsers.base import PARSERS, WILDCARD, Mode, Parsed, Parser
from nonet.logs.parsers.masking import DistinctLines, Masker

Constants = tuple[str, ...]
"""The frequent words of a line, in its order, repeats kept: the name of a candidate."""


@dataclass(slots=True)
class _Candidate:
    """Lines with the same constants.

    Attributes:
        fewest, most: infrequent words in every gap (before the first constant, between two, after the last).
        num_lines: how many lines it has.
    """

    fewest: list[int]
    most: list[int]
    num_lines: int = 0

    def add(self, gaps: list[int], num_lines: int) -> None:
        """Take in lines that have these gaps."""
        self.fewest = list(map(min, self.fewest, gaps))
        self.most = list(map(max, self.most, gaps))
        self.num_lines += num_lines


def _split(text: str, frequent: set[str]) -> tuple[Constants, list[int]]:
    """The constants of a line and the number of infrequent words in each of the gaps around them.

    >>> _split("user bob from x y", {"user", "from"})
    (('user', 'from'), [0, 1, 2])
    """
    constants: list[str] = []
    gaps = [0]
    for word in text.split():
        if word in frequent:
            constants.append(word)
            gaps.append(0)
        else:
            gaps[-1] += 1
    return tuple(constants), gaps


def _frequent_words(lines: DistinctLines, support: int) -> set[str]:
    """Words that occur in at least `support` lines."""
    lines_of_word: Counter[str] = Counter()
    for text, num_lines in zip(lines.texts, lines.counts.tolist(), strict=True):
        for word in set(text.split()):
            lines_of_word[word] += num_lines
    return {word for word, num_lines in lines_of_word.items() if num_lines >= support}


@PARSERS.register("LogCluster")
class LogCluster(Parser):
    """LogCluster, offline, without its optional heuristics (joining, aggregation).

    Compat keeps these quirks of the reference, mended in fixed mode:

    * masks are substituted by nothing, so that what they match takes no part in the gaps;
    * a gap is written `*{fewest,most}`; fixed writes one wildcard;
    * the share `rsupport` of the lines is rounded down, in a small input to 0, which makes every line its own cluster;
      fixed rounds up;
    * a line of no cluster keeps its whole Content, masked parts included; fixed keeps the masked text.

    Cost: words of the distinct masked lines. Memory: these, the words and the candidates.

    Args:
        rsupport: words and candidates are frequent from this percentage of the lines on; above 0, at most 100.
        mode: "compat" or "fixed".
        masks: see `Parser`.
        seed: not used; nothing is drawn.

    >>> lines = ["user bob in", "user eve in", "bye"]
    >>> LogCluster(rsupport=66).parse(lines).templates
    ['user <*> in', 'bye']
    >>> LogCluster(rsupport=67, mode="compat").parse(lines).templates
    ['user *{1,1} in', 'bye']

    Raises:
        InputError: `rsupport` is not a percentage.
    """

    def __init__(self, *, rsupport: float = 2, mode: Mode = "fixed", masks: Sequence[str] = (), seed: int = 0) -> None:
        super().__init__(mode=mode, masks=masks, seed=seed)
        if not 0 < rsupport <= 100:
            raise InputError(f"LogCluster: rsupport is {rsupport}; it must be above 0 and at most 100 (percent)")
        self.rsupport = rsupport

    def parse(self, contents: Sequence[str]) -> Parsed:
        """Give every line its cluster's words and gaps, or its own text."""
        lines = Masker(self.masks, "" if self.mode == "compat" else WILDCARD).distinct(contents)
        share = self.rsupport * len(contents) / 100
        support = int(share) if self.mode == "compat" else math.ceil(share)
        frequent = _frequent_words(lines, support)
        candidates: dict[Constants, _Candidate] = {}
        candidate_of_text: list[Constants] = []
        for text, num_lines in zip(lines.texts, lines.counts.tolist(), strict=True):
            constants, gaps = _split(text, frequent)
            candidate_of_text.append(constants)
            candidates.setdefault(constants, _Candidate(gaps, gaps)).add(gaps, num_lines)
        template_of = {
            constants: self._template(constants, candidate)
            for constants, candidate in candidates.items()
            if constants and candidate.num_lines >= support
        }
        return self._label(contents, lines, [template_of.get(constants) for constants in candidate_of_text])

    def _template(self, constants: Constants, candidate: _Candidate) -> str:
        """The constants with every gap that is not empty in all lines between them."""
        pieces: list[str] = []
        for gap, (fewest, most) in enumerate(zip(candidate.fewest, candidate.most, strict=True)):
            if most:
                pieces.append(f"*{{{fewest},{most}}}" if self.mode == "compat" else WILDCARD)
            pieces.extend(constants[gap : gap + 1])
        return " ".join(pieces)

    def _label(self, contents: Sequence[str], lines: DistinctLines, templates: list[str | None]) -> Parsed:
        """Lines of no cluster keep their own text: as it came in compat, masked in fixed mode."""
        if self.mode == "fixed":
            own = [" ".join(text.split()) for text in lines.texts]
            texts = [text if template is None else template for text, template in zip(own, templates, strict=True)]
            return Parsed.from_groups(lines.index_of_line, texts)
        of_line = (templates[text] for text in lines.index_of_line.tolist())
        return Parsed.from_lines(
            [content if template is None else template for content, template in zip(contents, of_line, strict=True)]
        )
