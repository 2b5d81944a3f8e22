r"""Header formats: `<Date> <Time> <Level>: <Content>` compiled to a regular expression and to a small byte program.

Meaning (specification of Loghub-2.0's formats): a format is split at `<Name>`; a name is a lazy group, the pieces
between are regular-expression text in which a run of blanks stands for `\s+`; the expression is anchored at both ends
and applied to the stripped line, on bytes. `<Name:class>` is ours: it restricts the bytes of a field (`FIELD_CLASSES`).
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import re2
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.logs.reading import _line_kernels as kernels
from nonet.logs.reading._line_kernels import HeaderProgram

CONTENT = "Content"

FIELD_CLASSES: dict[str, str] = {
    "any": ".",
    "token": r"\S",
    "int": "[0-9]",
    "word": "[A-Za-z]",
    "upper": "[A-Z]",
    "name": r"[A-Za-z0-9_.$/\-]",
}
"""Byte classes of fields; all but `any` need at least one byte."""

_NAME = re.compile(r"<([^<>:]*)(?::([^<>]*))?>")
_SPECIAL = frozenset(".^$*+?[|")
_CONTROL_ESCAPES = {"t": "\t", "r": "\r", "f": "\f", "v": "\v"}


class _Piece(NamedTuple):
    """A part of a format: the name and class of a field, or literal text."""

    name: str
    byte_class: str
    literal: str


class _NotSimpleError(Exception):
    """The literal text needs a real regular-expression engine."""


class Matches(NamedTuple):
    """Where the fields are; see `match_headers`."""

    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    matched: NDArray[np.bool_]


@dataclass(frozen=True)
class HeaderFormat:
    r"""A parsed header format.

    Attributes:
        text: the format as written.
        fields: names in order; one of them is Content.
        name: a short name for formats of the registry, else "".

    >>> header = HeaderFormat.parse(r"<Date> <Time> <Level>: <Content>")
    >>> header.fields
    ('Date', 'Time', 'Level', 'Content')
    >>> header.split(b"2026-11-22 12:30:01 INFO: disk full")
    {'Date': b'2026-11-22', 'Time': b'12:30:01', 'Level': b'INFO', 'Content': b'disk full'}
    >>> header.split(b"no header here") is None
    True
    """

    text: str
    fields: tuple[str, ...]
    name: str = ""
    _pieces: tuple[_Piece, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def parse(cls, text: str, name: str = "") -> HeaderFormat:
        """Read a format.

        Raises:
            InputError: no Content field, a name twice or that is no identifier, an unknown class, a literal that is
                no regular expression.
        """
        pieces = tuple(_split(text))
        fields = tuple(piece.name for piece in pieces if piece.name)
        if CONTENT not in fields:
            raise InputError(f"header format {text!r} has no <{CONTENT}> field; put it where the message stands")
        for one in fields:
            if not one.isidentifier() or not one.isascii():
                raise InputError(f"header format {text!r}: <{one}> is not a name of letters, digits and _")
            if fields.count(one) > 1:
                raise InputError(f"header format {text!r}: <{one}> stands twice; give every field its own name")
        if _has_open_alternative("".join("x" if piece.name else piece.literal for piece in pieces)):
            raise InputError(f"header format {text!r}: a bar means one of two formats; write \\| for the character")
        header = cls(text, fields, name, pieces)
        _ = header.regex  # a literal that is no regular expression is refused here
        return header

    @property
    def content_index(self) -> int:
        """Column of Content among `fields`."""
        return self.fields.index(CONTENT)

    @cached_property
    def pattern(self) -> str:
        """The regular expression as text."""
        parts = []
        for piece in self._pieces:
            if not piece.name:
                parts.append(_with_blanks(piece.literal))
            elif piece.byte_class == "any":
                parts.append(f"(?P<{piece.name}>.*?)")
            else:
                parts.append(f"(?P<{piece.name}>{FIELD_CLASSES[piece.byte_class]}+?)")
        return "^" + "".join(parts) + "$"

    @cached_property
    def regex(self) -> re.Pattern[bytes]:
        """The regular expression over bytes, to be applied to the stripped line."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                return re.compile(self.pattern.encode())
        except re.error as error:
            raise InputError(
                f"header format {self.text!r} is not a regular expression between its fields: {error}"
            ) from None

    @cached_property
    def program(self) -> HeaderProgram | None:
        """The byte program; None when the literal text needs a real regular-expression engine."""
        try:
            return _Compiler(self).compile()
        except _NotSimpleError:
            return None

    def match(self, buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Matches:
        """Find the fields of every line: the compiled program where there is one, else the regular expression."""
        if self.program is not None:
            found = Matches(*kernels.match_headers(buffer, starts, ends, self.program))
        else:
            found = self._match_by_regex(buffer, starts, ends)
        # Where an optional group left Content out, the line would lose its text: it counts as not matched.
        return found._replace(matched=found.matched & (found.starts[:, self.content_index] >= 0))

    @cached_property
    def _engine(self) -> Any:
        """The same expression in a linear-time engine; `re` where that refuses it (look-around, back-references)."""
        options = re2.Options()
        options.log_errors = False
        options.encoding = re2.Options.Encoding.LATIN1
        try:
            return re2.compile(_spell_out_blanks(self.pattern).encode(), options)
        except re2.error:
            return self.regex

    def split(self, line: bytes) -> dict[str, bytes | None] | None:
        """The fields of one line by the regular expression (None for absent ones); None when it does not match."""
        found = self.regex.match(line.strip())
        return found.groupdict() if found else None

    def _match_by_regex(self, buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Matches:
        spans_from = np.full((len(starts), len(self.fields)), -1, np.int32)
        spans_to = np.full((len(starts), len(self.fields)), -1, np.int32)
        matched = np.zeros(len(starts), np.bool_)
        data = buffer.tobytes()
        groups = [self.regex.groupindex[name] for name in self.fields]
        for i, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            line = data[start:end]
            left = start + len(line) - len(line.lstrip())
            found = self._engine.match(line.strip())
            if found is None:
                continue
            matched[i] = True
            for column, group in enumerate(groups):
                low, high = found.span(group)
                if low >= 0:
                    spans_from[i, column] = left + low
                    spans_to[i, column] = left + high
        return Matches(spans_from, spans_to, matched)


def _split(text: str) -> list[_Piece]:
    """Cut a format at its names."""
    pieces: list[_Piece] = []
    position = 0
    for found in _NAME.finditer(text):
        if found.start() > position:
            pieces.append(_Piece("", "", text[position : found.start()]))
        byte_class = found.group(2) or "any"
        if byte_class not in FIELD_CLASSES:
            known = ", ".join(FIELD_CLASSES)
            raise InputError(
                f"header format {text!r}: unknown class {byte_class!r} of <{found.group(1)}> (known: {known})"
            )
        pieces.append(_Piece(found.group(1), byte_class, ""))
        position = found.end()
    if position < len(text):
        pieces.append(_Piece("", "", text[position:]))
    return pieces


def _spell_out_blanks(pattern: str) -> str:
    r"""`\s` byte by byte: RE2 leaves the vertical tab out of it, `re` does not."""
    tokens = re.findall(r"\\.|\[(?:\\.|[^\]])*\]|.", pattern)
    blanks = r"\t-\r "
    return "".join(f"[{blanks}]" if token == r"\s" else token.replace(r"\s", blanks) for token in tokens)


def _has_open_alternative(expression: str) -> bool:
    r"""Whether a bar stands outside all groups and classes.

    >>> [_has_open_alternative(e) for e in (r"a|b", r"a\|b", "(a|b)", "[|]", r"[\]|]|")]
    [True, False, False, False, True]
    """
    bare = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "", expression, flags=re.DOTALL)
    depth = 0
    for character in bare:
        depth += (character == "(") - (character == ")")
        if character == "|" and depth == 0:
            return True
    return False


def _with_blanks(literal: str) -> str:
    return re.sub(" +", r"\\s+", literal)


class _Compiler:
    """From pieces to ops; raises _NotSimpleError for what is not literal, blanks, field or optional group."""

    def __init__(self, header: HeaderFormat) -> None:
        self._header = header
        self._ops: list[list[int]] = []
        self._literals = bytearray()
        self._open: list[int] = []  # indices of OPTION ops whose group is not closed yet; -1 for a plain group
        self._num_fields = 0

    def compile(self) -> HeaderProgram:
        """The finished program."""
        class_numbers = list(FIELD_CLASSES)
        for piece in self._header._pieces:
            if piece.name:
                number = class_numbers.index(piece.byte_class)
                self._ops.append([kernels.FIELD, self._num_fields, number, 0 if piece.byte_class == "any" else 1])
                self._num_fields += 1
            else:
                self._add_literal(_with_blanks(piece.literal))
        if self._open:
            raise _NotSimpleError
        self._ops.append([kernels.END, 0, 0, 0])
        classes = np.array([_class_table(one) for one in FIELD_CLASSES.values()])
        ops = np.array(self._ops, np.int32)
        literals = np.frombuffer(self._literals, np.uint8)
        following = _following(ops, literals, classes)
        return HeaderProgram(ops, literals, classes, following, _scan(ops, classes, following), self._num_fields)

    def _add_literal(self, text: str) -> None:
        position = 0
        while position < len(text):
            rest = text[position:]
            if rest.startswith("\\s+"):
                self._ops.append([kernels.BLANKS, 0, 0, 0])
                position += 3
            elif rest[0] == "\\":
                self._add_byte(_unescape(rest))
                position += 2
            elif rest.startswith("(?:"):
                position += self._open_group(3)
            elif rest[0] == "(" and not rest.startswith("(?"):
                position += self._open_group(1)
            elif rest[0] == ")":
                position += self._close_group(rest.startswith(")?"))
            elif rest[0] in _SPECIAL or re.match(r"\{[0-9,]|\(", rest):
                raise _NotSimpleError
            else:
                self._add_byte(rest[0])
                position += 1
            if re.match(r"[*+?]|\{[0-9,]", text[position:]):
                raise _NotSimpleError

    def _add_byte(self, character: str) -> None:
        data = character.encode()
        last = self._ops[-1] if self._ops else None
        at_target = any(op[0] == kernels.OPTION and op[1] == len(self._ops) for op in self._ops)
        if last is not None and last[0] == kernels.LITERAL and not at_target:
            last[2] += len(data)
        else:
            self._ops.append([kernels.LITERAL, len(self._literals), len(data), 0])
        self._literals += data

    def _open_group(self, num_characters: int) -> int:
        self._open.append(len(self._ops))
        self._ops.append([kernels.OPTION, -1, self._num_fields, -1])
        return num_characters

    def _close_group(self, is_optional: bool) -> int:
        if not self._open:
            raise _NotSimpleError
        if not is_optional:
            raise _NotSimpleError
        option = self._ops[self._open.pop()]
        option[1] = len(self._ops)
        option[3] = self._num_fields
        return 2


def _unescape(text: str) -> str:
    """The character that an escape at the start of `text` stands for."""
    letter = text[1:2]
    if letter in _CONTROL_ESCAPES:
        return _CONTROL_ESCAPES[letter]
    if not letter or letter.isalnum() or not letter.isascii():
        raise _NotSimpleError
    return letter


@cache
def _class_table(expression: str) -> NDArray[np.bool_]:
    """Which of the 256 bytes a one-byte expression accepts."""
    accepts = re.compile(expression.encode())
    return np.array([accepts.fullmatch(bytes([byte])) is not None for byte in range(256)])


def _following(ops: NDArray[np.int32], literals: NDArray[np.uint8], classes: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """For every op the bytes with which the rest of the program can begin."""
    table = np.zeros((len(ops), 256), np.bool_)
    for i in range(len(ops) - 2, -1, -1):
        code, first, second, third = ops[i]
        if code == kernels.LITERAL:
            table[i, literals[first]] = True
        elif code == kernels.BLANKS:
            table[i] = _class_table(r"\s")
        elif code == kernels.OPTION:
            table[i] = table[i + 1] | table[first]
        else:
            table[i] = classes[second] if third else classes[second] | table[i + 1]
    return table


def _scan(ops: NDArray[np.int32], classes: NDArray[np.bool_], following: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """For every field what each byte means, see `HeaderProgram`."""
    table = np.zeros((len(ops), 256), np.uint8)
    for i, (code, _, byte_class, _) in enumerate(ops):
        if code == kernels.FIELD:
            inside = np.where(classes[byte_class], kernels.GO_ON, kernels.MUST_END)
            table[i] = np.where(following[i + 1], kernels.MAY_END, inside)
    return table
