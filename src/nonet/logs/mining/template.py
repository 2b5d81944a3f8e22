"""Templates: a text with `<*>` holes, an id that depends on the text alone, and the way back to the line."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from nonet.logs.mining.shape import Kind

WILDCARD = "<*>"


@lru_cache(maxsize=1 << 16)
def template_id(text: str) -> str:
    """Stable id of a template: "t-" and 12 hexadecimal digits of the SHA-256 of its text.

    The same text has the same id on every machine, in every shard and after every restart.

    >>> template_id("Connection from <*> port <*>")
    't-3950a24a0542'
    """
    return "t-" + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Template:
    """One template and what its lines had in common.

    Attributes:
        text: constant words and `<*>`, single blanks.
        id: see `template_id`.
        count: number of lines.
        types: name of the type of each parameter ("ip", "int", ...; "str" where lines differ).
        first_seen, last_seen: ordinals of the first and last line (0-based).
        sample: Content of one line, cut at 512 bytes.
    """

    text: str
    count: int
    types: tuple[str, ...]
    first_seen: int
    last_seen: int
    sample: str
    id: str = field(default="")

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", template_id(self.text))

    @property
    def typed_text(self) -> str:
        """The text with the type in each hole.

        >>> Template("port <*> open", 1, ("int",), 0, 0, "port 80 open").typed_text
        'port <int> open'
        """
        pieces = self.text.split(WILDCARD)
        return pieces[0] + "".join(f"<{kind}>{piece}" for kind, piece in zip(self.types, pieces[1:], strict=True))


def printable(text: str) -> str:
    r"""The text with U+FFFD for bytes that are not UTF-8 (held as lone surrogates inside the miner).

    >>> printable("caf\udce9 <*>")
    'caf\ufffd <*>'
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def type_name(kinds: set[Kind | None]) -> str:
    """One name for the kinds that a hole had in its lines; None stands for a word.

    >>> type_name({Kind.INT}), type_name({Kind.INT, Kind.NUMBER}), type_name({Kind.IP, Kind.PATH})
    ('int', 'number', 'str')
    """
    first = next(iter(kinds), None)
    if len(kinds) == 1 and first is not None:
        return first.name.lower()
    if kinds <= {Kind.INT, Kind.NUMBER}:
        return "number"
    if kinds <= {Kind.IP, Kind.IPV6, Kind.HOST}:
        return "host"
    return "str"


def restore(template: str, parameters: Sequence[str], spacing: Sequence[str] | None = None) -> str:
    r"""The line that a template and its parameters came from, byte for byte.

    Args:
        template: text with `<*>` holes and single blanks.
        parameters: one value a hole, in order.
        spacing: None when all blanks of the line are the template's; else the run of blanks at the start, in place of
            each blank of the template's constant text, and at the end.

    Raises:
        ValueError: when the numbers of holes and values, or of blanks and runs, differ.

    >>> restore("port <*> open", ["80"])
    'port 80 open'
    >>> restore("port <*> open", ["80"], ["", "  ", "\t", " "])
    'port  80\topen '
    """
    pieces = template.split(WILDCARD)
    if len(pieces) - 1 != len(parameters):
        raise ValueError(f"template has {len(pieces) - 1} holes, {len(parameters)} values given")
    if spacing is not None:
        if template.count(" ") + 2 != len(spacing):
            raise ValueError(
                f"template has {template.count(' ')} blanks, {len(spacing)} runs given (two more are needed)"
            )
        runs = iter(spacing[1:-1])
        pieces = ["".join(next(runs) if char == " " else char for char in piece) for piece in pieces]
    line = pieces[0] + "".join(value + piece for value, piece in zip(parameters, pieces[1:], strict=True))
    return line if spacing is None else spacing[0] + line + spacing[-1]
