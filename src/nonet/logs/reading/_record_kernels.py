"""Compiled loops that turn lines into records: which lines continue the one before, and which are valid UTF-8."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nonet.common.kernels import kernel
from nonet.logs.reading._line_kernels import Bytes, is_blank

OFF = 0
AUTO = 1  # lines that look like a continuation join
JOIN = 2  # all lines without a header join

_AT = np.frombuffer(b"at ", np.uint8)
_CAUSED_BY = np.frombuffer(b"Caused by:", np.uint8)
_SUPPRESSED = np.frombuffer(b"Suppressed:", np.uint8)
_TRACEBACK = np.frombuffer(b"Traceback (most recent call last)", np.uint8)
_EXCEPTION = np.frombuffer(b"Exception", np.uint8)
_ERROR = np.frombuffer(b"Error", np.uint8)
_MORE = np.frombuffer(b"... ", np.uint8)


@kernel
def _starts_with(buffer: Bytes, start: int, end: int, prefix: Bytes) -> bool:
    if end - start < prefix.size:
        return False
    for i in range(prefix.size):
        if buffer[start + i] != prefix[i]:
            return False
    return True


@kernel
def _is_exception(buffer: Bytes, start: int, end: int) -> bool:
    """A dotted name that ends in Exception or Error, followed by a colon, a blank or nothing."""
    stop = start
    while stop < end:
        byte = buffer[stop]
        letter = 0x41 <= (byte & 0xDF) <= 0x5A
        if not (letter or 0x30 <= byte <= 0x39 or byte in (0x2E, 0x5F, 0x24)):
            break
        stop += 1
    if stop < end and buffer[stop] != 0x3A and not is_blank(buffer[stop]):
        return False
    if stop - start > _EXCEPTION.size and _starts_with(buffer, stop - _EXCEPTION.size, stop, _EXCEPTION):
        return True
    return stop - start > _ERROR.size and _starts_with(buffer, stop - _ERROR.size, stop, _ERROR)


@kernel
def looks_continued(buffer: Bytes, start: int, end: int) -> bool:
    """Whether a line looks like the continuation of the one before: indented text or a part of a stack trace."""
    if start >= end:
        return False
    first = buffer[start]
    if is_blank(first):
        for i in range(start, end):
            if not is_blank(buffer[i]):
                return True
        return False
    if first == 0x2E:
        return _starts_with(buffer, start, end, _MORE)
    return (
        _starts_with(buffer, start, end, _AT)
        or _starts_with(buffer, start, end, _CAUSED_BY)
        or _starts_with(buffer, start, end, _SUPPRESSED)
        or _starts_with(buffer, start, end, _TRACEBACK)
        or _is_exception(buffer, start, end)
    )


@njit(cache=True, nogil=True)
def join_lines(
    buffer: Bytes,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    matched: NDArray[np.bool_],
    mode: int,
    max_lines: int,
    max_bytes: int,
) -> NDArray[np.int64]:
    """First lines of the records, int64 of shape (number of records,); the first line always starts one.

    A line with a matched header starts a record. A record never grows past `max_lines` lines or `max_bytes` bytes. In
    a Python traceback the first line that is not indented is the exception and still belongs to it.
    """
    firsts = np.empty(starts.size, np.int64)
    count = 0
    first = 0
    in_traceback = False
    for line in range(starts.size):
        start = starts[line]
        joins = False
        if line > 0 and not matched[line]:
            if mode == JOIN:
                joins = True
            elif looks_continued(buffer, start, ends[line]):
                joins = True
                in_traceback = in_traceback or _starts_with(buffer, start, ends[line], _TRACEBACK)
            elif in_traceback and start < ends[line]:
                joins = True
                in_traceback = False
            joins = joins and line - first < max_lines and ends[line] - starts[first] <= max_bytes
        if not joins:
            first = line
            firsts[count] = line
            count += 1
            in_traceback = _starts_with(buffer, start, ends[line], _TRACEBACK)
    return firsts[:count]


@kernel
def _is_utf8(buffer: Bytes, start: int, end: int) -> bool:
    """Well-formed UTF-8 (no overlong forms, no surrogates, at most U+10FFFF)."""
    i = start
    while i < end:
        byte = buffer[i]
        i += 1
        if byte < 0x80:
            continue
        low = 0x80
        high = 0xBF
        if 0xC2 <= byte <= 0xDF:
            more = 1
        elif 0xE0 <= byte <= 0xEF:
            more = 2
            low = 0xA0 if byte == 0xE0 else 0x80
            high = 0x9F if byte == 0xED else 0xBF
        elif 0xF0 <= byte <= 0xF4:
            more = 3
            low = 0x90 if byte == 0xF0 else 0x80
            high = 0x8F if byte == 0xF4 else 0xBF
        else:
            return False
        if i + more > end or buffer[i] < low or buffer[i] > high:
            return False
        for k in range(i + 1, i + more):
            if buffer[k] & 0xC0 != 0x80:
                return False
        i += more
    return True


@kernel
def has_high_bytes(buffer: Bytes) -> bool:
    """Whether any byte is not ASCII."""
    seen = np.uint8(0)
    for i in range(buffer.size):
        seen |= buffer[i]
    return bool(seen >= 0x80)


@njit(cache=True, nogil=True)
def invalid_utf8(buffer: Bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """1 for every line that is not valid UTF-8, else 0."""
    invalid = np.empty(starts.size, np.int64)
    for line in range(starts.size):
        invalid[line] = 0 if _is_utf8(buffer, starts[line], ends[line]) else 1
    return invalid
