"""Laying a template over a message in linear time: every value as short as the rest allows.

With wildcards as short as possible, taking every piece between two wildcards at its earliest place finds a fit whenever
there is one, so no search goes back. A masked value is one character here, which only the hole of its mask takes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from nonet.logs.mining.template import WILDCARD

# Lone surrogates cannot occur in decoded text, so they can stand for masked values.
_FIRST_PLACEHOLDER, _PAST_PLACEHOLDERS = 0xD800, 0xDC00

Unit = tuple[str, str]
"""A character to compare, and the text that it stands for."""


class ExtractedParameter(NamedTuple):
    """A value of a message and the name of the mask of its hole, "*" for none."""

    value: str
    mask_name: str


def placeholder(mask_number: int) -> str:
    """The character that stands for a value of a mask."""
    return chr(_FIRST_PLACEHOLDER + mask_number)


def units_of(message: str, masked: Sequence[tuple[int, int, int]]) -> list[Unit]:
    """A message as units: a run of blanks is one, a masked value is one.

    Args:
        message: the text.
        masked: spans in its UTF-8 bytes with the number of their mask, in order and disjoint.

    >>> units_of("to  10.0.0.1", [(4, 12, 0)]) == [("t", "t"), ("o", "o"), (" ", "  "), (placeholder(0), "10.0.0.1")]
    True
    """
    raw = message.encode("utf-8", "surrogateescape")
    units: list[Unit] = []
    end = 0
    for low, high, mask_number in masked:
        units += _plain_units(raw[end:low])
        units.append((placeholder(mask_number), raw[low:high].decode("utf-8", "surrogateescape")))
        end = high
    return units + _plain_units(raw[end:])


def _plain_units(raw: bytes) -> list[Unit]:
    text = raw.decode("utf-8", "surrogateescape")
    return [(" " if run[0] in " \t" else run, run) for run in re.findall(r"[ \t]+|.", text, re.DOTALL)]


def align(template: str, units: Sequence[Unit]) -> list[str] | None:
    """The values of the wildcards and placeholders of a template, in order; None when it does not fit.

    Args:
        template: text with `<*>` for what takes one character or more, and placeholders.
        units: the message.

    >>> align("to <*> port <*>", units_of("to a  b port 80", []))
    ['a  b', '80']
    >>> align("to <*> port", units_of("to port", [])) is None
    True
    """
    shown = "".join(character for character, _ in units)
    pieces = template.split(WILDCARD)
    starts = _piece_starts(pieces, shown)
    if starts is None:
        return None
    values = []
    for number, (piece, start) in enumerate(zip(pieces, starts, strict=True)):
        if number:
            after_last = starts[number - 1] + len(pieces[number - 1])
            values.append("".join(raw for _, raw in units[after_last:start]))
        values += [units[start + i][1] for i, character in enumerate(piece) if _is_placeholder(character)]
    return values


def _piece_starts(pieces: Sequence[str], text: str) -> list[int] | None:
    """Where every piece begins when at least one character stands between two pieces; None when that is impossible."""
    first, last = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return [0] if text == first else None
    if not text.startswith(first) or not text.endswith(last):
        return None
    starts, position, end = [0], len(first), len(text) - len(last)
    for piece in pieces[1:-1]:
        start = text.find(piece, position + 1, end)
        if start < 0:
            return None
        starts.append(start)
        position = start + len(piece)
    return [*starts, end] if position < end else None


def _is_placeholder(character: str) -> bool:
    return _FIRST_PLACEHOLDER <= ord(character) < _PAST_PLACEHOLDERS
