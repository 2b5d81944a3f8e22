r"""From a user's regular expression to programs that a linear-time engine (RE2) can run.

RE2 has no lookarounds and no back-references. One idiom is so common in masks that it is translated:
`((?<=[^A-Za-z0-9])|^)(X)((?=[^A-Za-z0-9])|$)`, and its parts alone (a leading lookbehind or a trailing lookahead over
one character class). The neighbouring character is consumed beside X instead of looked at, and the search for the next
match begins at the last character of X, so that two matches may share a neighbour. All else is refused with a reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import re2

from nonet.common.errors import InputError

GROUP = "match"  # the group of a program that is the match itself
MAX_MEMORY_BYTES = 8 << 20  # of one compiled pattern; also the limit inside Arrow's RE2
MAX_PROGRAM_SIZE = 5_000  # instructions; a step of the search costs at most so many

_TOKEN = re.compile(
    r"""\\Q.*?(?:\\E|$) | \\[pP]\{\^?\w+\} | \\x\{\w+\} | \\.
    | \[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]
    | \(\?P?<\w+> | \(\?<[=!] | \(\?P= | \(\?[a-zA-Z-]*[:)] | \(\?[=!] | \(\?
    | .""",
    re.DOTALL | re.VERBOSE,
)
_CLASS = re.compile(r"\[.+\]|\\[^A-Za-z0-9]|\\[sSdDwWtnrfv]|[^\\()\[\]{}|*+?^$]", re.DOTALL)
_NAMED_GROUP = re.compile(r"\(\?P?<\w+>")
_FLAGS = re.compile(r"\(\?[a-zA-Z-]+\)")
_LOOKAROUNDS = ("(?<=", "(?<!", "(?=", "(?!")


@dataclass(frozen=True, slots=True)
class Programs:
    """RE2 patterns of a mask; the named group `GROUP` is the match.

    Attributes:
        source: the pattern as the user wrote it.
        first: finds the first match of a line.
        later: finds the next one in the rest of the line that begins one character before where it may start.
    """

    source: str
    first: str
    later: str


@dataclass(frozen=True, slots=True)
class _Edge:
    """A neighbour of the match: one character of a class, or the end of the line where `at_end` says so."""

    character: str
    at_end: bool
    num_tokens: int

    def pattern(self, anchor: str) -> str:
        return f"(?:{anchor}|{self.character})" if self.at_end else f"(?:{self.character})"


@lru_cache(maxsize=256)
def compile_mask(pattern: str) -> Programs:
    r"""Translate a pattern.

    Raises:
        InputError: a back-reference, a lookaround other than the idiom above, a syntax error, or a pattern too large.

    >>> compile_mask(r"(?<!\w)\d+").first
    '(?:^|\\W)(?P<match>\\d+)'
    """
    tokens = _TOKEN.findall(pattern)
    flags = 0
    while flags < len(tokens) and _FLAGS.fullmatch(tokens[flags]):
        flags += 1
    before = _leading(tokens[flags:])
    body = tokens[flags + (before.num_tokens if before else 0) :]
    after = _trailing(body)
    if after:
        body = body[: -after.num_tokens]
    _refuse_unlinear(pattern, body, has_edges=bool(before or after))
    core = "".join("(?:" if token == "(" or _NAMED_GROUP.fullmatch(token) else token for token in body)
    if not core:
        raise InputError(f"mask {pattern!r} is empty; it needs at least one character to look for")
    prefix = "".join(tokens[:flags])
    if before and "m" in prefix:
        raise InputError(
            f"mask {pattern!r} cannot be used: no (?m) beside a lookbehind; a mask sees one line at a time"
        )
    _checked(pattern, prefix + core)
    tail = f"(?P<{GROUP}>{core})" + (after.pattern("$") if after else "")
    first = prefix + (before.pattern("^") if before else "") + tail
    later = prefix + (f"(?:{before.character})" if before else r"\C") + tail
    _checked(pattern, first)
    _checked(pattern, later)
    return Programs(pattern, first, later)


@lru_cache(maxsize=512)
def engine(program: str) -> Any:
    """The compiled RE2 object of a program."""
    options = re2.Options()
    options.max_mem = MAX_MEMORY_BYTES
    options.log_errors = False
    return re2.compile(program.encode(), options)


def _checked(pattern: str, program: str) -> None:
    try:
        size = engine(program).programsize
    except re2.error as error:
        reason = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
        raise InputError(f"mask {pattern!r} cannot be used: {reason} (masks are RE2 expressions)") from None
    if size > MAX_PROGRAM_SIZE:
        raise InputError(
            f"mask {pattern!r} is too large: {size:,} instructions, at most {MAX_PROGRAM_SIZE:,}; "
            "repeat less, or list fewer words"
        )


def _refuse_unlinear(pattern: str, body: list[str], has_edges: bool) -> None:
    depth = 0
    for token in body:
        if token in _LOOKAROUNDS:
            raise InputError(
                f"mask {pattern!r} cannot be used: a lookaround is only possible over one character class "
                "at the start or the end of a mask"
            )
        if re.fullmatch(r"\\[1-9]", token) or token == "(?P=":
            raise InputError(f"mask {pattern!r} cannot be used: back-references have no linear-time search")
        depth += token.startswith("(") and not _FLAGS.fullmatch(token)
        depth -= token == ")"
        if has_edges and token == "|" and depth == 0:
            raise InputError(f"mask {pattern!r} cannot be used: put the alternatives beside a lookaround in a group")


def _leading(tokens: list[str]) -> _Edge | None:
    """The lookbehind at the start, alone or in a group with `^`."""
    alone = _look(tokens, "(?<=", "(?<!")
    if alone or not tokens or tokens[0] not in ("(", "(?:"):
        return alone
    return _in_group(tokens, ("^", "\\A"), "(?<=", "(?<!")


def _trailing(tokens: list[str]) -> _Edge | None:
    """The lookahead at the end, alone or in a group with `$`."""
    for start in range(max(0, len(tokens) - 9), len(tokens)):
        rest = tokens[start:]
        edge = _look(rest, "(?=", "(?!")
        if edge is None and rest[0] in ("(", "(?:"):
            edge = _in_group(rest, ("$", "\\z"), "(?=", "(?!")
        if edge and edge.num_tokens == len(rest):
            return edge
    return None


def _look(tokens: list[str], positive: str, negative: str) -> _Edge | None:
    """`(?=C)`, `(?=C|$)` or `(?!C)` at the start of `tokens`."""
    if len(tokens) < 3 or tokens[0] not in (positive, negative) or not _CLASS.fullmatch(tokens[1]):
        return None
    if tokens[2] == ")":
        if tokens[0] == positive:
            return _Edge(tokens[1], False, 3)
        return _Edge(_negated(tokens[1]), True, 3)
    if positive == "(?=" and tokens[0] == positive and tokens[2:5] == ["|", "$", ")"]:
        return _Edge(tokens[1], True, 5)
    return None


def _in_group(tokens: list[str], anchors: tuple[str, ...], positive: str, negative: str) -> _Edge | None:
    """`(^|look)` or `(look|^)`."""
    if len(tokens) > 2 and tokens[1] in anchors and tokens[2] == "|":
        look, end = _look(tokens[3:], positive, negative), 3
        is_closed = look and tokens[3 + look.num_tokens : 4 + look.num_tokens] == [")"]
    else:
        look, end = _look(tokens[1:], positive, negative), 3
        rest = tokens[1 + look.num_tokens :][:3] if look else []
        is_closed = len(rest) == 3 and rest[0] == "|" and rest[1] in anchors and rest[2] == ")"
    return _Edge(look.character, True, look.num_tokens + end + 1) if look and is_closed else None


def _negated(character: str) -> str:
    """The class of all other characters.

    >>> _negated("[a-z]"), _negated("[^a-z]"), _negated(r"\\s"), _negated(r"\\.")
    ('[^a-z]', '[a-z]', '\\\\S', '[^\\\\.]')
    """
    if character == ".":
        return r"\n"
    if character.startswith("[^"):
        return "[" + character[2:]
    if character.startswith("["):
        return "[^" + character[1:]
    return "\\" + character[1].swapcase() if character[1:] in tuple("sSdDwW") else f"[^{character}]"
