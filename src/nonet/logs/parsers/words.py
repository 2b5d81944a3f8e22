"""Words between separators: the tokeniser of IPLoM and Spell, and templates that keep the separators.

The two papers split a line at blanks and at `=`, `:` and `,` and then drop these. Templates made of words alone can
never equal the text of a line such as `uid=0`; `TemplateText` puts back what stood between the words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from nonet.logs.parsers.base import WILDCARD

_WORD = re.compile(r"[^\s=:,]+")
_BLANKS = re.compile(r"\s+")
_WILDCARDS = re.compile(f"(?:{re.escape(WILDCARD)})+")
_SEPARATORS_LEFT = re.compile(r"[\s=:,]*")
_SEPARATORS_RIGHT = re.compile(r"[\s=:,]*\Z")


def split_words(text: str) -> list[str]:
    """The words of a line, separators dropped.

    >>> split_words("uid=0, tty: NODEVssh ")
    ['uid', '0', 'tty', 'NODEVssh']
    """
    return _WORD.findall(text)


def _common_ends(ours: str, theirs: str) -> str:
    """A pattern for both texts: the separators they share at the left and at the right, a wildcard between.

    >>> _common_ends("=0 ", "= <*> "), _common_ends(", ", " "), _common_ends(": ", ": ")
    ('=<*> ', '<*> ', ': ')
    """
    if ours == theirs:
        return ours
    left = _common_prefix(_leading(ours), _leading(theirs))
    trailing = [_trailing(text[len(left) :])[::-1] for text in (ours, theirs)]
    return left + WILDCARD + _common_prefix(*trailing)[::-1]


def _common_prefix(ours: str, theirs: str) -> str:
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False)))


def _leading(text: str) -> str:
    found = _SEPARATORS_LEFT.match(text)
    return found.group() if found else ""


def _trailing(text: str) -> str:
    found = _SEPARATORS_RIGHT.search(text)
    return found.group() if found else ""


class TemplateText:
    """The text of one template: constant words with what stands between them in all of its lines.

    Every line that was added matches it, with a wildcard for any characters and a run of blanks for one blank.

    >>> text = TemplateText(["uid", "tty"])
    >>> text.add("uid=0 tty=x", [0, 2])
    >>> text.add("uid=17 tty=", [0, 2])
    >>> str(text)
    'uid=<*> tty=<*>'
    """

    def __init__(self, constants: Sequence[str]) -> None:
        self._constants = constants
        self._between: list[str] | None = None

    def add(self, line: str, positions: Sequence[int]) -> None:
        """Take in a line of which the words at `positions` (ascending) are the constants."""
        line = _BLANKS.sub(" ", line.strip())
        spans = [found.span() for found in _WORD.finditer(line)]
        ends = [0, *(spans[position][1] for position in positions)]
        starts = [*(spans[position][0] for position in positions), len(line)]
        between = [line[end:start] for end, start in zip(ends, starts, strict=True)]
        if self._between is None:
            self._between = between
        elif between != self._between:
            self._between = [_common_ends(ours, theirs) for ours, theirs in zip(self._between, between, strict=True)]

    def __str__(self) -> str:
        between = self._between or [""] * (len(self._constants) + 1)
        text = between[0] + "".join(word + gap for word, gap in zip(self._constants, between[1:], strict=True))
        return _WILDCARDS.sub(WILDCARD, text)
