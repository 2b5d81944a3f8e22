"""Exact parameters: every line is its template, its parameters and, where it has odd blanks, its spacing.

For each shape a small *program* says where, between which holes, the regions of its template begin and end. Running the
programs over a block is one kernel call and yields Arrow lists without a Python object a line.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nonet.common.arrow import arrow_array
from nonet.logs.mining import _extract_kernels as kernels
from nonet.logs.mining.shape import Kind, Shape
from nonet.logs.mining.shape_table import Labelled, Spans
from nonet.logs.reading._record_kernels import has_high_bytes, invalid_utf8

_BLANK = re.compile(rb"[ \x18]")
_HOLE = re.compile(rb"[\x00-\x1f]")
Region = tuple[int, int]
Row = tuple[int, int, int, int]
"""(holes before the start, distance from the last of them, holes before the end, distance)."""

WHOLE_LINE: Row = (0, 0, kernels.LINE_END, 0)


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the parameters (or blanks) of each shape lie; see `_extract_kernels.place` for the columns of `rows`."""

    rows_at: NDArray[np.int64]
    rows: NDArray[np.int32]

    @classmethod
    def of(cls, rows_of_shapes: Sequence[Sequence[Row]]) -> Programs:
        """The programs of shapes, given their rows."""
        rows_at = np.zeros(len(rows_of_shapes) + 1, np.int64)
        np.cumsum([len(rows) for rows in rows_of_shapes], out=rows_at[1:])
        return cls(rows_at, np.array([row for rows in rows_of_shapes for row in rows], np.int32).reshape(-1, 4))

    def run(
        self, programs: NDArray[np.int32], lines: Spans, seen: Labelled
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        """Offsets (lines + 1,), starts and ends (rows,) in the block of every line's rows."""
        total = int((self.rows_at[1:] - self.rows_at[:-1])[programs].sum()) if len(programs) else 0
        at = np.zeros(len(programs) + 1, np.int32)
        starts, ends = np.empty(total, np.int64), np.empty(total, np.int64)
        kernels.place(
            programs, self.rows_at, self.rows, lines.starts, lines.ends, seen.hole_at, seen.ends, at, starts, ends
        )
        return at, starts, ends


def gaps(shape: Shape, regions: Sequence[Region]) -> list[Region]:
    r"""The runs of blanks outside regions: at the start, between words, at the end (the outer two may be empty).

    >>> gaps(Shape(b"a b\x18c", (None,), 1), [])
    [(0, 0), (1, 2), (3, 4), (5, 5)]
    """
    masked, size = shape.masked, len(shape.masked)
    blanks: list[int] = []
    last = 0
    for start, end in (*regions, (size, size)):
        blanks += [blank.start() for blank in _BLANK.finditer(masked, last, start)]
        last = end
    leading = (0, 1) if blanks and blanks[0] == 0 else (0, 0)
    trailing = (size - 1, size) if blanks and blanks[-1] == size - 1 and size > leading[1] else (size, size)
    inner = [(i, i + 1) for i in blanks if i >= leading[1] and i < trailing[0]]
    return [leading, *inner, trailing]


def is_irregular(shape: Shape, regions: Sequence[Region]) -> bool:
    """Whether a line of this shape has blanks outside its parameters that its template does not show."""
    masked = shape.masked
    if Kind.SPACE not in masked:
        return False
    return any(masked[start] == Kind.SPACE for start, end in gaps(shape, regions) if end > start)


def invalid_lines(lines: Spans) -> NDArray[np.bool_]:
    """Which lines are not valid UTF-8."""
    if not len(lines) or not has_high_bytes(lines.buffer[lines.starts[0] : lines.ends[-1]]):
        return np.zeros(len(lines), np.bool_)
    return invalid_utf8(lines.buffer, lines.starts, lines.ends) > 0


def string_array(
    buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], some_invalid: bool = False
) -> pa.Array:
    """Arrow string array of the spans, copied; with `some_invalid`, bytes that are not UTF-8 become U+FFFD."""
    if some_invalid:
        return pa.array(
            [buffer[a:b].tobytes().decode("utf-8", "replace") for a, b in zip(starts, ends, strict=True)], pa.string()
        )
    offsets = np.empty(len(starts) + 1, np.int32)
    data = np.empty(int((ends - starts).sum()), np.uint8)
    kernels.gather(buffer, starts, ends, offsets, data)
    return pa.Array.from_buffers(pa.string(), len(starts), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def list_array(at: NDArray[np.int32], values: pa.Array, valid: NDArray[np.bool_] | None = None) -> pa.Array:
    """Arrow list array over `values`; null where not `valid`."""
    mask = None if valid is None else arrow_array(~valid)
    return pa.ListArray.from_arrays(arrow_array(at), values, mask=mask)


def rows_of(shape: Shape, spans: Sequence[Region]) -> tuple[Row, ...]:
    r"""The rows of spans in the masked text of a shape.

    >>> rows_of(Shape(b"a \x01 of \x01!", (None, None), 1), [(2, 3), (7, 9)])
    ((0, 2, 1, 0), (1, 4, 2, 1))

    Raises:
        ValueError: the spans are not in order inside the masked text.
    """
    holes = [hole.start() for hole in _HOLE.finditer(shape.masked)]
    rows, last = [], 0
    for start, end in spans:
        if not last <= start <= end <= len(shape.masked):
            raise ValueError(f"span ({start}, {end}) is not in order in a masked text of {len(shape.masked)} bytes")
        rows.append((*_anchor(holes, start), *_anchor(holes, end)))
        last = end
    return tuple(rows)


def spans_in_line(hole_ends: Sequence[int], rows: Sequence[Row]) -> list[tuple[int, int]]:
    """The spans of one line that the rows of its shape give; `hole_ends` are offsets from its start."""

    def position(holes: int, distance: int) -> int:
        return hole_ends[holes - 1] + distance if holes else distance

    return [(position(row[0], row[1]), position(row[2], row[3])) for row in rows]


def cut(content: bytes, hole_ends: Sequence[int], rows: Sequence[Row]) -> list[bytes]:
    """As `spans_in_line`, the bytes."""
    return [content[start:end] for start, end in spans_in_line(hole_ends, rows)]


def _anchor(holes: list[int], position: int) -> tuple[int, int]:
    """(holes before `position`, distance from the end of the last of them, or from the start of the line)."""
    before = bisect_left(holes, position)
    return (before, position - holes[before - 1] - 1) if before else (0, position)
