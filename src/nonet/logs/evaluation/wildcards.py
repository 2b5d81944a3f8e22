"""Other parsers' spellings of the wildcard, rewritten as `<*>`.

The paper compares template texts as they are, so a parser that writes `*`, `#spec#` or an empty word for a variable
scores near zero on PA and FTA whatever it found. The *normalised* columns of our reports rewrite the spelling first,
and collapse runs of blanks.

A spelling is a literal word (matched as a whole blank-separated word when it is `*`, anywhere otherwise), the empty
text (a gap between two single blanks, or at either end, is a wildcard), or `*{}` for LogCluster's `*{1,2}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

WILDCARD = "<*>"
COUNTED = "*{}"
COMMON_SPELLINGS = ("<.*>", "<_>", "#spec#", COUNTED, "*")
"""Spellings that are unlikely to be anything else; used for templates of unknown origin."""

SPELLINGS_BY_PARSER: dict[str, tuple[str, ...]] = {
    "lenma": ("",),
    "logcluster": (COUNTED,),
    "molfi": ("#spec#", "*"),
    "shiso": ("*",),
}
"""What the reference implementations print; parsers not listed print `<*>`."""

_COUNTED = re.compile(r"\*\{\d+,\d+\}")


def collapse_blanks(template: str) -> str:
    r"""Trim, and make every run of white space one blank.

    >>> collapse_blanks(" a\t b ")
    'a b'
    """
    return " ".join(template.split())


def wildcard_normaliser(spellings: Sequence[str] = COMMON_SPELLINGS) -> Callable[[str], str]:
    """A function that rewrites the given spellings as `<*>` and collapses blanks.

    >>> wildcard_normaliser()("user * from #spec# *{1,3}  took <_>")
    'user <*> from <*> <*> took <*>'
    >>> wildcard_normaliser([""])("user  logged in ")
    'user <*> logged in <*>'
    """
    gaps = "" in spellings
    words = frozenset(s for s in spellings if s == "*")
    counted = COUNTED in spellings
    literals = tuple(s for s in spellings if s not in ("", "*", COUNTED))

    def normalise(template: str) -> str:
        if gaps:
            template = " ".join(word or WILDCARD for word in template.split(" "))
        if counted:
            template = _COUNTED.sub(WILDCARD, template)
        for literal in literals:
            template = template.replace(literal, WILDCARD)
        return " ".join(WILDCARD if word in words else word for word in template.split())

    return normalise


def spellings_of(parser: str) -> tuple[str, ...]:
    """The wildcard spellings of a reference parser, by its name; none for those that print `<*>`."""
    return SPELLINGS_BY_PARSER.get(parser.lower(), ())
