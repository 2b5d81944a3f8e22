"""Compiled JSON: validate one object a line and find the values of some of its keys, without building objects.

Accepts what Python's `json.loads` accepts (also NaN and Infinity), nesting up to `MAX_DEPTH`; the last of equal keys
counts.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nonet.common.kernels import kernel
from nonet.logs.reading._line_kernels import Bytes

MAX_DEPTH = 512

ABSENT = 0
STRING = 1  # span without the quotes
ESCAPED = 2  # the same, with backslashes inside
SCALAR = 3  # number, true, false, NaN, Infinity
NULL = 4
NESTED = 5  # object or array, span with its brackets

_QUOTE, _BACKSLASH, _COMMA, _COLON, _MINUS = 0x22, 0x5C, 0x2C, 0x3A, 0x2D
_OPEN_BRACE, _CLOSE_BRACE, _OPEN_BRACKET, _CLOSE_BRACKET = 0x7B, 0x7D, 0x5B, 0x5D
_TRUE = np.frombuffer(b"true", np.uint8)
_FALSE = np.frombuffer(b"false", np.uint8)
_NULL = np.frombuffer(b"null", np.uint8)
_NAN = np.frombuffer(b"NaN", np.uint8)
_INFINITY = np.frombuffer(b"Infinity", np.uint8)
_PLAIN_ESCAPES = np.frombuffer(b'"\\/bfnrt', np.uint8)
_ESCAPED_BYTES = np.frombuffer(b'"\\/\b\f\n\r\t', np.uint8)


@kernel
def _skip_blanks(buffer: Bytes, i: int, end: int) -> int:
    while i < end and (buffer[i] == 0x20 or 0x09 <= buffer[i] <= 0x0A or buffer[i] == 0x0D):
        i += 1
    return i


@kernel
def _hex4(buffer: Bytes, i: int, end: int) -> int:
    """Value of four hexadecimal digits at `i`, or -1."""
    if i + 4 > end:
        return -1
    value = 0
    for k in range(i, i + 4):
        byte = int(buffer[k])
        if 0x30 <= byte <= 0x39:
            value = value * 16 + byte - 0x30
        elif 0x61 <= (byte | 0x20) <= 0x66:
            value = value * 16 + (byte | 0x20) - 0x57
        else:
            return -1
    return value


@kernel
def _is_escape(letter: int) -> bool:
    for k in range(_PLAIN_ESCAPES.size):
        if letter == _PLAIN_ESCAPES[k]:
            return True
    return False


@kernel
def _string_end(buffer: Bytes, i: int, end: int) -> tuple[int, bool]:
    """Position after the closing quote (-1 for a bad string) and whether there are escapes; `i` is after the first."""
    escaped = False
    while i < end:
        byte = buffer[i]
        if byte == _QUOTE:
            return i + 1, escaped
        if byte < 0x20:
            return -1, escaped
        if byte == _BACKSLASH:
            escaped = True
            i += 1
            if i >= end:
                return -1, escaped
            if buffer[i] == 0x75:
                if _hex4(buffer, i + 1, end) < 0:
                    return -1, escaped
                i += 4
            elif not _is_escape(buffer[i]):
                return -1, escaped
        i += 1
    return -1, escaped


@kernel
def _word_end(buffer: Bytes, i: int, end: int, word: Bytes) -> int:
    if i + word.size > end:
        return -1
    for k in range(word.size):
        if buffer[i + k] != word[k]:
            return -1
    return i + word.size


@kernel
def _skip_digits(buffer: Bytes, i: int, end: int) -> int:
    """Position after one or more digits, or -1."""
    first = i
    while i < end and 0x30 <= buffer[i] <= 0x39:
        i += 1
    return i if i > first else -1


@kernel
def _number_end(buffer: Bytes, i: int, end: int) -> int:
    """Position after a number (also Infinity, -Infinity, NaN), or -1."""
    if i < end and buffer[i] == 0x4E:
        return _word_end(buffer, i, end, _NAN)
    if i < end and buffer[i] == _MINUS:
        i += 1
    if i < end and buffer[i] == 0x49:
        return _word_end(buffer, i, end, _INFINITY)
    after = _skip_digits(buffer, i, end)
    if after < 0 or (buffer[i] == 0x30 and after > i + 1):
        return -1
    i = after
    if i < end and buffer[i] == 0x2E:
        i = _skip_digits(buffer, i + 1, end)
        if i < 0:
            return -1
    if i < end and (buffer[i] | 0x20) == 0x65:
        i += 1
        if i < end and (buffer[i] == 0x2B or buffer[i] == _MINUS):
            i += 1
        i = _skip_digits(buffer, i, end)
    return i


@kernel
def _simple_end(buffer: Bytes, i: int, end: int) -> tuple[int, int]:
    """Position after a value that is neither object nor array (or -1), and its kind."""
    byte = buffer[i]
    if byte == _QUOTE:
        after, escaped = _string_end(buffer, i + 1, end)
        return after, ESCAPED if escaped else STRING
    if byte == 0x74:
        return _word_end(buffer, i, end, _TRUE), SCALAR
    if byte == 0x66:
        return _word_end(buffer, i, end, _FALSE), SCALAR
    if byte == 0x6E:
        return _word_end(buffer, i, end, _NULL), NULL
    return _number_end(buffer, i, end), SCALAR


@kernel
def _key_end(buffer: Bytes, i: int, end: int) -> tuple[int, int, int]:
    """Start and end of the key at `i` without its quotes, and the position after its colon or -1."""
    i = _skip_blanks(buffer, i, end)
    if i >= end or buffer[i] != _QUOTE:
        return 0, 0, -1
    after, _ = _string_end(buffer, i + 1, end)
    if after < 0:
        return 0, 0, -1
    colon = _skip_blanks(buffer, after, end)
    if colon >= end or buffer[colon] != _COLON:
        return 0, 0, -1
    return i + 1, after - 1, colon + 1


@kernel
def _value_end(buffer: Bytes, i: int, end: int, stack: Bytes) -> tuple[int, int]:
    """Position after the value at `i` (or -1), and its kind."""
    depth = 0
    kind = ABSENT
    while True:
        i = _skip_blanks(buffer, i, end)
        if i >= end:
            return -1, kind
        byte = buffer[i]
        if byte in (_OPEN_BRACE, _OPEN_BRACKET):
            if depth == stack.size:
                return -1, kind
            if depth == 0:
                kind = NESTED
            stack[depth] = byte + 2  # the closing bracket of both kinds
            depth += 1
            i = _skip_blanks(buffer, i + 1, end)
            if i < end and buffer[i] == byte + 2:
                depth -= 1
                i += 1
            else:
                if byte == _OPEN_BRACE:
                    _, _, i = _key_end(buffer, i, end)
                    if i < 0:
                        return -1, kind
                continue
        else:
            i, simple_kind = _simple_end(buffer, i, end)
            if i < 0:
                return -1, kind
            if depth == 0:
                kind = simple_kind
        while True:  # a value is complete: close brackets up to the next comma
            if depth == 0:
                return i, kind
            i = _skip_blanks(buffer, i, end)
            if i >= end:
                return -1, kind
            if buffer[i] == stack[depth - 1]:
                depth -= 1
                i += 1
                continue
            if buffer[i] != _COMMA:
                return -1, kind
            i += 1
            if stack[depth - 1] == _CLOSE_BRACE:
                _, _, i = _key_end(buffer, i, end)
                if i < 0:
                    return -1, kind
            break


@kernel
def _find_key(buffer: Bytes, start: int, end: int, keys: Bytes, offsets: NDArray[np.int64], hint: int) -> int:
    """Number of the key whose bytes are [start, end), or -1; `hint` is looked at first (keys mostly come in order)."""
    num_keys = offsets.size - 1
    for k in range(num_keys):
        number = (hint + k) % num_keys
        first = offsets[number]
        if offsets[number + 1] - first != end - start:
            continue
        same = True
        for i in range(end - start):
            if keys[first + i] != buffer[start + i]:
                same = False
                break
        if same:
            return number
    return -1


@kernel
def _scan_object(
    buffer: Bytes,
    i: int,
    end: int,
    keys: Bytes,
    offsets: NDArray[np.int64],
    spans: NDArray[np.int32],
    stack: Bytes,
) -> bool:
    """Validate one object and fill the rows (start, end, kind) of `spans` with the values of the keys."""
    i = _skip_blanks(buffer, i, end)
    if i >= end or buffer[i] != _OPEN_BRACE:
        return False
    i = _skip_blanks(buffer, i + 1, end)
    hint = 0
    if i < end and buffer[i] == _CLOSE_BRACE:
        return _skip_blanks(buffer, i + 1, end) == end
    while True:
        key_start, key_end, i = _key_end(buffer, i, end)
        if i < 0:
            return False
        start = _skip_blanks(buffer, i, end)
        i, kind = _value_end(buffer, start, end, stack)
        if i < 0:
            return False
        number = _find_key(buffer, key_start, key_end, keys, offsets, hint)
        if number >= 0:
            quote = 1 if kind in (STRING, ESCAPED) else 0
            spans[number, 0] = start + quote
            spans[number, 1] = i - quote
            spans[number, 2] = kind
            hint = number + 1
        i = _skip_blanks(buffer, i, end)
        if i >= end:
            return False
        if buffer[i] == _CLOSE_BRACE:
            return _skip_blanks(buffer, i + 1, end) == end
        if buffer[i] != _COMMA:
            return False
        i += 1


@njit(cache=True, nogil=True)
def find_members(
    buffer: Bytes, starts: NDArray[np.int64], ends: NDArray[np.int64], keys: Bytes, offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Values of some keys in one JSON object a line.

    Args:
        buffer, starts, ends: the lines; a negative start is not an object.
        keys: the keys' bytes one after another, key k is keys[offsets[k]:offsets[k + 1]]; at least one.

    Returns:
        int32 (lines, keys, 3): start and end of the value (strings without their quotes) and its kind; and whether
        the line is a valid JSON object, bool (lines,). Rows of invalid lines are ABSENT.
    """
    spans = np.zeros((starts.size, offsets.size - 1, 3), np.int32)
    valid = np.zeros(starts.size, np.bool_)
    stack = np.empty(MAX_DEPTH, np.uint8)
    for line in range(starts.size):
        if starts[line] >= 0:
            valid[line] = _scan_object(buffer, starts[line], ends[line], keys, offsets, spans[line], stack)
        if not valid[line]:
            spans[line] = 0
    return spans, valid


@kernel
def _write_code_point(out: Bytes, position: int, code: int) -> int:
    """Write UTF-8 and return the position after it."""
    if code < 0x80:
        out[position] = code
        return position + 1
    if code < 0x800:
        out[position] = 0xC0 | code >> 6
        out[position + 1] = 0x80 | code & 0x3F
        return position + 2
    if code < 0x10000:
        out[position] = 0xE0 | code >> 12
        out[position + 1] = 0x80 | code >> 6 & 0x3F
        out[position + 2] = 0x80 | code & 0x3F
        return position + 3
    out[position] = 0xF0 | code >> 18
    out[position + 1] = 0x80 | code >> 12 & 0x3F
    out[position + 2] = 0x80 | code >> 6 & 0x3F
    out[position + 3] = 0x80 | code & 0x3F
    return position + 4


@kernel
def write_unescaped(buffer: Bytes, i: int, end: int, out: Bytes, position: int) -> int:
    """Write a valid JSON string without its escapes; the position after it. A lone surrogate becomes U+FFFD."""
    while i < end:
        byte = buffer[i]
        if byte != _BACKSLASH:
            out[position] = byte
            position += 1
            i += 1
            continue
        letter = buffer[i + 1]
        if letter != 0x75:
            for k in range(_PLAIN_ESCAPES.size):
                if _PLAIN_ESCAPES[k] == letter:
                    out[position] = _ESCAPED_BYTES[k]
            position += 1
            i += 2
            continue
        code = _hex4(buffer, i + 2, end)
        i += 6
        if 0xD800 <= code <= 0xDFFF:
            low = -1
            if code < 0xDC00 and i + 6 <= end and buffer[i] == _BACKSLASH and buffer[i + 1] == 0x75:
                low = _hex4(buffer, i + 2, end)
            if 0xDC00 <= low <= 0xDFFF:
                code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
                i += 6
            else:
                code = 0xFFFD
        position = _write_code_point(out, position, code)
    return position
