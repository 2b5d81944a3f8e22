"""JSON of any layout as a stream of objects: one document, a List with items, one object a line, objects in a row.

Memory is bounded by the largest single object (at most `MAX_VALUE_CHARS`), not by the file.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any

from nonet.coldstart.importing.sources import LineSafeStream

MAX_VALUE_CHARS = 64 << 20
_CHUNK_BYTES = 256 << 10
_BLANKS = " \t\r\n"
_LONGEST_WORD = len("-Infinity")


class Damage(Exception):  # noqa: N818 - a note about the data that travels to the quarantine, never to the user
    """What stands there is no JSON; `line` says where, `text` what."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"line {line}")
        self.line, self.text = line, text


def json_values(stream: LineSafeStream, inside: tuple[str, ...]) -> Iterator[tuple[int, Any | Damage]]:
    """Line and value of every JSON value; elements of top-level arrays one by one.

    Args:
        stream: UTF-8 text.
        inside: an object that has one of these keys with an array gives the elements of that array instead of itself
            ("items" of a Kubernetes List).

    Yields:
        the line where the value begins, and the value; or a `Damage`, after which reading goes on with the next line.
    """
    text = _Text(stream)
    while text.peek():
        try:
            yield from _top(text, inside)
        except Damage as damage:
            yield damage.line, damage
            # An object that a line end cut off: the line where that shows may be sound.
            if text.line == damage.line:
                text.skip_line()
        except RecursionError:
            yield text.line, Damage(text.line, "nested too deeply")
            text.skip_line()


def _top(text: _Text, inside: tuple[str, ...]) -> Iterator[tuple[int, Any]]:
    first = text.peek()
    if first == "[":
        yield from _elements(text)
    elif first == "{":
        yield from _object(text, inside)
    else:
        line = text.line
        value = text.value()
        if not isinstance(value, dict | list):
            raise Damage(line, str(value)[:200])
        yield line, value
    if text.peek() == ",":
        text.take()


def _elements(text: _Text) -> Iterator[tuple[int, Any]]:
    text.take()
    if text.peek() == "]":
        text.take()
        return
    while True:
        text.peek()
        line = text.line
        yield line, text.value()
        mark = text.peek()
        if mark not in ("]", ","):
            raise Damage(text.line, text.excerpt())
        text.take()
        if mark == "]":
            return


def _object(text: _Text, inside: tuple[str, ...]) -> Iterator[tuple[int, Any]]:
    line = text.line
    text.take()
    values: dict[str, Any] = {}
    opened = False
    while text.peek() != "}":
        key = text.value() if text.peek() == '"' else None
        if key is None or text.peek() != ":":
            raise Damage(line, text.excerpt())
        text.take()
        if key in inside and text.peek() == "[":
            opened = True
            yield from _elements(text)
        else:
            values[key] = text.value()
        mark = text.peek()
        if mark == ",":
            text.take()
        elif mark != "}":
            raise Damage(line, text.excerpt())
    text.take()
    if not opened:
        yield line, values


class _Text:
    """A window of decoded text that grows as values need it."""

    def __init__(self, stream: LineSafeStream) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        self._scan = json.JSONDecoder().raw_decode
        self._text, self._at, self._ended = "", 0, False
        self.line = 1

    def peek(self) -> str:
        """The next character that is no blank, "" at the end."""
        while True:
            while self._at < len(self._text):
                character = self._text[self._at]
                if character not in _BLANKS:
                    return character
                self.line += character == "\n"
                self._at += 1
            if not self._more(_CHUNK_BYTES):
                return ""

    def take(self) -> None:
        """Step over that character."""
        self._at += 1

    def value(self) -> Any:
        """The JSON value that begins at the next character that is no blank."""
        self.peek()
        wanted = _CHUNK_BYTES
        while True:
            try:
                value, end = self._scan(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._may_go_on(error) or not self._more(wanted):
                    raise Damage(self.line, self.excerpt()) from None
                wanted *= 2
                continue
            # A number near the end of the window may go on behind it: "0." and "1e-" are cut ones.
            if end + 3 > len(self._text) and not self._text[end:].strip(".eE+-") and self._more(wanted):
                continue
            self.line += self._text.count("\n", self._at, end)
            self._at = end
            return value

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        # Only an error at the end of the window, or in a text that it cuts, can be mended by more text.
        cut = error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _LONGEST_WORD
        return cut and len(self._text) - self._at <= MAX_VALUE_CHARS

    def excerpt(self) -> str:
        """What stands here, for the quarantine."""
        return self._text[self._at : self._at + 200].split("\n", 1)[0]

    def skip_line(self) -> None:
        """Go on behind the next line end."""
        while True:
            end = self._text.find("\n", self._at)
            if end >= 0:
                self.line += 1
                self._at = end + 1
                return
            self._at = len(self._text)
            if not self._more(_CHUNK_BYTES):
                return

    def _more(self, num_bytes: int) -> bool:
        if self._ended:
            return False
        data = self._stream.read(num_bytes) or b""
        self._ended = not data
        self._text = self._text[self._at :] + self._decode(data, self._ended)
        self._at = 0
        return bool(data)
