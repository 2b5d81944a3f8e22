"""Compiled loops over bytes: lines, header fields, UTF-8, continuation lines. No Python objects inside.

The header matcher runs the same search as a backtracking regular-expression engine (same choices in the same order,
so the same fields), but remembers which ranges of a lazy field or a run of blanks were tried in vain: its time is
linear in the line for any number of fields, where a backtracking engine needs a power of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nonet.common.kernels import kernel

Bytes = NDArray[np.uint8]
Spans = NDArray[np.int32]
Table = NDArray[np.bool_]

LITERAL = 0  # (LITERAL, offset in literals, length)
BLANKS = 1  # one or more white-space bytes, as many as possible
FIELD = 2  # (FIELD, field number, byte class, minimum length): as few bytes as possible
OPTION = 3  # (OPTION, target after the group, first field inside, end of fields inside): try the group first
END = 4

ANY = 0  # the byte class of a field without restriction

GO_ON, MAY_END, MUST_END = 0, 1, 2


class HeaderProgram(NamedTuple):
    """A compiled header format.

    Attributes:
        ops: int32 (number of ops, 4): code and operands, see the constants above.
        literals: all literal bytes, one after another.
        classes: bool (number of byte classes, 256): bytes a field of that class may hold.
        following: bool (number of ops, 256): bytes with which the program may go on at that op.
        scan: uint8 (number of ops, 256): what a byte means to a field at that op: GO_ON in the field, MAY_END before
            the byte, or MUST_END there.
        num_fields: number of fields.
    """

    ops: NDArray[np.int32]
    literals: Bytes
    classes: NDArray[np.bool_]
    following: NDArray[np.bool_]
    scan: Bytes
    num_fields: int


NEWLINE = 0x0A
CARRIAGE_RETURN = 0x0D


@kernel
def count_newlines(buffer: Bytes) -> int:
    """Number of line feeds."""
    count = 0
    for i in range(buffer.size):
        count += buffer[i] == NEWLINE
    return count


@kernel
def last_newline(buffer: Bytes, start: int, end: int) -> int:
    """Position of the last line feed in [start, end), or -1."""
    for i in range(end - 1, start - 1, -1):
        if buffer[i] == NEWLINE:
            return i
    return -1


@kernel
def find_overlong_line(buffer: Bytes, start: int, end: int, max_line_bytes: int) -> int:
    """Start of the first line in [start, end) with more than `max_line_bytes` bytes before its newline, or -1."""
    line = start
    for i in range(start, end):
        if buffer[i] == NEWLINE:
            line = i + 1
        elif i - line >= max_line_bytes:
            return line
    return -1


@njit(cache=True, nogil=True)
def split_lines(buffer: Bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends (newline excluded, LF or CRLF) of all lines; a last line without newline counts.

    Returns:
        int64 arrays of shape (number of lines,).
    """
    size = buffer.size
    num_lines = count_newlines(buffer)
    if size > 0 and buffer[size - 1] != NEWLINE:
        num_lines += 1
    starts = np.empty(num_lines, np.int64)
    ends = np.empty(num_lines, np.int64)
    line = 0
    start = 0
    for i in range(size):
        if buffer[i] == NEWLINE:
            starts[line] = start
            ends[line] = i - 1 if i > start and buffer[i - 1] == CARRIAGE_RETURN else i
            line += 1
            start = i + 1
    if start < size:
        starts[line] = start
        ends[line] = size
    return starts, ends


@kernel
def is_blank(byte: int) -> bool:
    r"""White space as `\\s` on bytes has it: tab, line feed, vertical tab, form feed, carriage return, space."""
    return byte == 0x20 or (byte >= 0x09 and byte <= 0x0D)


@kernel
def _field_end(
    buffer: Bytes, end: int, candidate: int, first: int, op: int, program: HeaderProgram, tried: NDArray[np.int64]
) -> int:
    """The first end of the lazy field `op` at or after `candidate` where the rest may go on, or -1.

    `first` is the shortest end of this entry; `tried[op]` = (low, high), ends known to fail, grows when this entry
    fails.
    """
    low = tried[op, 0]
    high = tried[op, 1]
    if low <= candidate <= high:
        tried[op, 0] = min(first, low)
        return -1
    limit = low if candidate < low else end
    while candidate < limit and program.scan[op, buffer[candidate]] == GO_ON:
        candidate += 1
    if candidate < limit:
        if program.scan[op, buffer[candidate]] == MAY_END:
            return candidate
        tried[op, 0] = first
        tried[op, 1] = candidate
        return -1
    if limit == low:
        tried[op, 0] = first
        return -1
    return candidate


@kernel
def _blanks_end(buffer: Bytes, position: int, end: int, op: int, tried: NDArray[np.int64]) -> int:
    """Where the run of blanks at `position` ends, or where its tried part begins; `position` itself for nothing new."""
    low = tried[op, 0] - 1
    if low <= position < tried[op, 1]:
        return position
    limit = low if position < low else end
    while position < limit and is_blank(buffer[position]):
        position += 1
    return position


@kernel
def _resume(
    buffer: Bytes,
    end: int,
    line: int,
    program: HeaderProgram,
    field_starts: Spans,
    field_ends: Spans,
    stack: NDArray[np.int64],
    depth: int,
    tried: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Take the newest untried choice: (next op, position, depth of the stack); next op -1 when none is left."""
    ops = program.ops
    while depth > 0:
        depth -= 1
        op = stack[depth, 0]
        position = stack[depth, 1]
        first = stack[depth, 2]
        if ops[op, 0] == OPTION:
            for field in range(ops[op, 2], ops[op, 3]):
                field_starts[line, field] = -1
                field_ends[line, field] = -1
            return ops[op, 1], position, depth
        if ops[op, 0] == BLANKS:
            if position > first:
                stack[depth, 1] = position - 1
                return op + 1, position, depth + 1
            if tried[op, 0] != stack[depth, 3] + 1:
                tried[op, 1] = stack[depth, 3]
            tried[op, 0] = first + 1
        elif position > end or not program.classes[ops[op, 2], buffer[position - 1]]:
            tried[op, 0] = first
            tried[op, 1] = position - 1
        else:
            position = _field_end(buffer, end, position, first, op, program, tried)
            if position >= 0:
                stack[depth, 1] = position + 1
                field_ends[line, ops[op, 1]] = position
                return op + 1, position, depth + 1
    return -1, 0, 0


@kernel
def _match_line(
    buffer: Bytes,
    start: int,
    end: int,
    line: int,
    program: HeaderProgram,
    field_starts: Spans,
    field_ends: Spans,
    stack: NDArray[np.int64],
    tried: NDArray[np.int64],
) -> bool:
    """Run the program on [start, end), fill the rows `line` of the spans and tell whether the line matched.

    `stack[k]` = (op, next position to try, first position, last position) are the untried choices. `tried[op]` = (low,
    high) are ends of a field or of blanks known to fail: an op is entered again only after all its choices failed.
    """
    ops = program.ops
    depth = 0
    op = 0
    position = start
    while op >= 0:
        code = ops[op, 0]
        good = False
        if code == FIELD:
            field_starts[line, ops[op, 1]] = position
            first = position + ops[op, 3]
            if first <= end and ops[op, 2] == ANY and ops[op + 1, 0] == END:
                field_ends[line, ops[op, 1]] = end
                return True
            if first <= end and (first == position or program.classes[ops[op, 2], buffer[position]]):
                candidate = _field_end(buffer, end, first, first, op, program, tried)
                if candidate >= 0:
                    field_ends[line, ops[op, 1]] = candidate
                    stack[depth, 0] = op
                    stack[depth, 1] = candidate + 1
                    stack[depth, 2] = first
                    depth += 1
                    position = candidate
                    good = True
        elif code == BLANKS:
            stop = _blanks_end(buffer, position, end, op, tried)
            if stop > position:
                stack[depth, 0] = op
                stack[depth, 1] = stop - 1
                stack[depth, 2] = position
                stack[depth, 3] = stop
                depth += 1
                position = stop
                good = True
        elif code == LITERAL:
            length = ops[op, 2]
            offset = ops[op, 1]
            good = position + length <= end
            k = 0
            while good and k < length:
                good = buffer[position + k] == program.literals[offset + k]
                k += 1
            position += length
        elif code == OPTION:
            stack[depth, 0] = op
            stack[depth, 1] = position
            depth += 1
            good = position == end or program.following[op + 1, buffer[position]]
        elif position == end:
            return True
        if good:
            op += 1
        else:
            op, position, depth = _resume(buffer, end, line, program, field_starts, field_ends, stack, depth, tried)
    return False


@njit(cache=True, nogil=True)
def match_headers(
    buffer: Bytes, starts: NDArray[np.int64], ends: NDArray[np.int64], program: HeaderProgram
) -> tuple[Spans, Spans, NDArray[np.bool_]]:
    """Match every line, stripped of blanks at both ends, against a header format.

    Returns:
        field starts and field ends, int32 of shape (number of lines, number of fields), -1 where a field is absent or
        the line did not match; and which lines matched, bool of shape (number of lines,).
    """
    num_lines = starts.size
    num_ops = program.ops.shape[0]
    field_starts = np.empty((num_lines, program.num_fields), np.int32)
    field_ends = np.empty((num_lines, program.num_fields), np.int32)
    matched = np.zeros(num_lines, np.bool_)
    stack = np.empty((num_ops, 4), np.int64)
    tried = np.empty((num_ops, 2), np.int64)
    tried_to = np.int64(0)
    for line in range(num_lines):
        start = starts[line]
        end = ends[line]
        while start < end and is_blank(buffer[start]):
            start += 1
        while end > start and is_blank(buffer[end - 1]):
            end -= 1
        # Ranges tried on lines further left in the buffer can stay: they end before this line starts.
        if line == 0 or start <= tried_to:
            tried[:] = -2
        tried_to = max(tried_to, end)
        matched[line] = _match_line(buffer, start, end, line, program, field_starts, field_ends, stack, tried)
        if not matched[line]:
            for field in range(program.num_fields):
                field_starts[line, field] = -1
                field_ends[line, field] = -1
    return field_starts, field_ends, matched
