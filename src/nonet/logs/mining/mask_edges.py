r"""Lookarounds at the edges of a mask, translated into what a linear-time engine (RE2) knows.

- A lookbehind of fixed width, or a lookahead of bounded width, becomes an `Edge`: it is consumed beside the match
  instead of looked at, and the search for the next match begins in front of what it may look back at. So two matches
  may share a neighbour, and a lookbehind may read the match before. Its negation is an edge too, where that is an
  expression of the same kind: `(?<!C)` over one class, `(?!CC)` at the end over a sequence of classes.
- A negative lookahead at the start, or a negative lookbehind over several characters, becomes a `Ban`: whether a match
  may begin at a place does not depend on the match, so every candidate is checked where it begins.

All else is refused with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from re import _constants as codes  # type: ignore[attr-defined]  # no public name for the parse tree
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from nonet.logs.mining.mask_automaton import RE2_ONLY, Bytes, members
from nonet.logs.mining.mask_bans import Ban

MAX_LOOK_CHARACTERS = 100
FLAGS = re.compile(r"\(\?[a-zA-Z-]+\)")
NAMED_GROUP = re.compile(r"\(\?P?<\w+>")
_CLASS = re.compile(r"\[.+\]|\\[^A-Za-z0-9]|\\[sSdDwWtnrfv]|[^\\()\[\]{}|*+?^$]", re.DOTALL)
_LOOKAROUNDS = ("(?<=", "(?<!", "(?=", "(?!")
_STARTS, _ENDS, _BOUNDARIES = ("^", "\\A"), ("$", "\\z"), ("\\b", "\\B")
_QUANTIFIERS = ("*", "+", "?", "{")
_WIDE_CATEGORIES = (codes.CATEGORY_NOT_DIGIT, codes.CATEGORY_NOT_SPACE, codes.CATEGORY_NOT_WORD)

Tokens = list[str]


class RefusedError(Exception):
    """A mask that cannot be searched in linear time; the message says why."""


@dataclass(frozen=True, slots=True)
class Edge:
    """What has to stand beside a match.

    Attributes:
        expression: what is consumed.
        num_min, num_max: characters that it consumes.
        at_edge: whether the edge of the line does as well.
        source: the lookaround as the user wrote it.
    """

    expression: str
    num_min: int
    num_max: int
    at_edge: bool
    source: str

    @property
    def is_fixed(self) -> bool:
        """Whether the same number of characters is always consumed."""
        return not self.at_edge and self.num_min == self.num_max

    def consumed(self, anchor: str) -> str:
        """The expression with the edge of the line, `anchor`, where that does as well."""
        return f"(?:{anchor}|{self.expression})" if self.at_edge else f"(?:{self.expression})"


@dataclass(frozen=True, slots=True)
class Parts:
    """A mask without its lookarounds.

    Attributes:
        before, after: edges.
        bans: what may not stand where a match begins.
        body: the rest.
    """

    before: Edge | None
    bans: tuple[Ban, ...]
    body: Tokens
    after: Edge | None


def split(tokens: Tokens, flags: Tokens) -> Parts:
    """Take the lookarounds from both ends of a mask.

    Args:
        tokens: of the mask, without its flags.
        flags: in front of it.

    Raises:
        RefusedError: a lookaround that cannot be translated.
    """
    if sum(map(_opens, tokens)) > tokens.count(")"):
        raise RefusedError("missing )")
    tokens = _unwrapped(tokens)
    before: Edge | None = None
    bans: tuple[Ban, ...] = ()
    kept: Tokens = []  # assertions of no width, whose order does not matter
    while tokens:
        size = _group_size(tokens)
        group = tokens[:size]
        edge = None if before else _behind(group)
        if tokens[size : size + 1] and tokens[size] in _QUANTIFIERS:
            break
        if edge:
            before = edge
        elif group[0] in (*_STARTS, *_BOUNDARIES):
            kept += group
        elif group[0] in ("(?!", "(?<!"):
            bans += _bans(group, _ignores_case(flags))
        else:
            break
        tokens = tokens[size:]
    at = _last_item(tokens)
    after = _ahead(tokens[at:])
    body = kept + (tokens[:at] if after else tokens)
    refuse_unlinear(body)
    if (before or bans or after) and len(_alternatives(body)) > 1:
        raise RefusedError("put the alternatives beside a lookaround in a group")
    if before and before.num_max > 1 and "\\C" in body:
        raise RefusedError("no \\C beside a lookbehind over several characters")
    return Parts(before, bans, body, after)


def refuse_unlinear(tokens: Tokens) -> None:
    """Raise RefusedError for a lookaround or a back-reference."""
    for token in tokens:
        if token in _LOOKAROUNDS:
            raise RefusedError(
                "a lookbehind is only possible at the start of a mask, a positive lookahead at the end, "
                "a negative one at either, and none inside another"
            )
        if re.fullmatch(r"\\[1-9]", token) or token == "(?P=":
            raise RefusedError("back-references have no linear-time search")


def uncaptured(tokens: Tokens) -> str:
    """The expression without capturing groups."""
    return "".join("(?:" if token == "(" or NAMED_GROUP.fullmatch(token) else token for token in tokens)


def _behind(group: Tokens) -> Edge | None:
    """The lookbehind that a group is, alone or beside `^`."""
    inner = group[1:-1]
    if group[0] == "(?<!" and len(inner) == 1 and _CLASS.fullmatch(inner[0]):
        return Edge(_negated(inner[0]), 1, 1, True, "".join(group))
    if group[0] == "(?<=":
        num_min, num_max = _width(inner)
        if num_min != num_max or not 0 < num_max <= MAX_LOOK_CHARACTERS:
            raise RefusedError(f"a lookbehind must have a fixed width, of 1 to {MAX_LOOK_CHARACTERS} characters")
        if any(token in (*_STARTS, *_ENDS, *_BOUNDARIES) for token in inner):
            raise RefusedError("a lookbehind may hold no ^, $ or \\b")
        return Edge(uncaptured(inner), num_min, num_max, False, "".join(group))
    return _in_group(group, _STARTS)


def _ahead(group: Tokens) -> Edge | None:
    """The lookahead that a group is, alone or beside `$`."""
    inner, source = group[1:-1], "".join(group)
    if group and group[0] == "(?!":
        if not inner or not all(map(_CLASS.fullmatch, inner)) or len(inner) > MAX_LOOK_CHARACTERS:
            raise RefusedError("a negative lookahead at the end must be over a sequence of characters and classes")
        return Edge(_unless(inner), 0, len(inner), False, source)
    if group and group[0] == "(?=":
        num_min, num_max = _width(inner)
        if num_max > MAX_LOOK_CHARACTERS:
            raise RefusedError(f"a lookahead must be bounded, to {MAX_LOOK_CHARACTERS} characters")
        return Edge(uncaptured(inner), num_min, num_max, False, source)
    return _in_group(group, _ENDS) if group else None


def _in_group(group: Tokens, anchors: Sequence[str]) -> Edge | None:
    """`(^|look)` or `(look|^)`, `($|look)` or `(look|$)`."""
    if group[0] not in ("(", "(?:"):
        return None
    parts = _alternatives(group[1:-1])
    looks = [part for part in parts if part not in ([anchor] for anchor in anchors)]
    if len(parts) != 2 or len(looks) != 1 or not looks[0] or _group_size(looks[0]) < len(looks[0]):
        return None
    look = _behind if anchors is _STARTS else _ahead
    edge = look(looks[0]) if looks[0][0] in _LOOKAROUNDS else None
    return replace(edge, at_edge=True, source="".join(group)) if edge else None


def _bans(group: Tokens, ignores_case: bool) -> tuple[Ban, ...]:
    """A negative lookaround where a match begins."""
    texts = ["".join(part) for part in _alternatives(group[1:-1])]
    return tuple(Ban(_byte_sets(text, ignores_case), group[0] == "(?<!") for text in texts)


def _byte_sets(text: str, ignores_case: bool) -> tuple[Bytes, ...]:
    flags = re.ASCII | re.IGNORECASE if ignores_case else re.ASCII
    sets = _sets(_parsed(text), flags, text.isascii())
    if not 0 < len(sets) <= MAX_LOOK_CHARACTERS:
        raise RefusedError(f"a negative lookaround must be over 1 to {MAX_LOOK_CHARACTERS} characters")
    return tuple(sets)


def _sets(items: Any, flags: int, is_ascii: bool) -> list[Bytes]:
    sets: list[Bytes] = []
    for op, argument in items:
        if op is codes.LITERAL and argument < 128:
            sets.append(members((op, argument), flags))
        elif op is codes.LITERAL and not flags & re.IGNORECASE:
            sets += [frozenset({byte}) for byte in chr(argument).encode()]
        elif op is codes.IN and is_ascii and not any(_is_wide(item) for item in argument):
            sets.append(frozenset().union(*(members(item, flags) for item in argument)))
        elif op is codes.MAX_REPEAT and argument[0] == argument[1] <= MAX_LOOK_CHARACTERS:
            sets += _sets(argument[2], flags, is_ascii) * argument[0]
        else:
            raise RefusedError("a negative lookaround at the start must be over characters and ASCII classes")
    return sets


def _is_wide(item: Any) -> bool:
    """Whether a part of a class holds more than ASCII."""
    return item[0] is codes.NEGATE or item[1] in _WIDE_CATEGORIES


def _ignores_case(flags: Tokens) -> bool:
    ignores = False
    for token in flags:
        on, _, off = token[2:-1].partition("-")
        ignores = (ignores or "i" in on) and "i" not in off
    return ignores


def _width(tokens: Tokens) -> tuple[int, int]:
    """How many characters an expression in a lookaround takes."""
    if len(tokens) == 1 and _CLASS.fullmatch(tokens[0]):
        return 1, 1
    refuse_unlinear(tokens)
    low, high = _parsed(uncaptured(tokens)).getwidth()
    return int(low), int(high)


def _parsed(text: str) -> Any:
    if RE2_ONLY.search(text):
        raise RefusedError(f"{text!r} in a lookaround is understood by RE2 only")
    try:
        return _parser.parse(text, re.ASCII)
    except (re.error, RecursionError) as error:
        raise RefusedError(f"{text!r} in a lookaround is no expression ({error})") from None


def _opens(token: str) -> bool:
    return token.startswith("(") and not FLAGS.fullmatch(token)


def _group_size(tokens: Tokens) -> int:
    """How many tokens the first item has: a group with all that is in it, or one."""
    depth = 0
    for i, token in enumerate(tokens, start=1):
        depth += _opens(token) - (token == ")")
        if depth <= 0:
            return i
    return len(tokens)


def _last_item(tokens: Tokens) -> int:
    at = 0
    while at < len(tokens) and (size := _group_size(tokens[at:])) < len(tokens) - at:
        at += size
    return at


def _alternatives(tokens: Tokens) -> list[Tokens]:
    parts: list[Tokens] = [[]]
    depth = 0
    for token in tokens:
        depth += _opens(token) - (token == ")")
        if token == "|" and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _unwrapped(tokens: Tokens) -> Tokens:
    """The mask without a group around the whole of it."""
    while len(tokens) > 2 and (tokens[0] in ("(", "(?:") or NAMED_GROUP.fullmatch(tokens[0])):
        if _group_size(tokens) < len(tokens) or len(_alternatives(tokens[1:-1])) > 1:
            break
        tokens = tokens[1:-1]
    return tokens


def _unless(characters: Tokens) -> str:
    """What stands where a sequence of characters does not.

    >>> _unless(["m", "s"])
    '$|[^m]|m(?:$|[^s])'
    """
    first, rest = characters[0], characters[1:]
    return f"$|{_negated(first)}" + (f"|{first}(?:{_unless(rest)})" if rest else "")


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
