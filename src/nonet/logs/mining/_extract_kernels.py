"""Parameter extraction: from the holes of a line and the regions of its shape to spans and strings.

A region is given in offsets of the masked text. A masked offset p behind h holes lies in the line at
`end of hole h-1 + distance`, so a region is four numbers: (holes before its start, distance, holes before its end,
distance).
"""

from __future__ import annotations

from nonet.common.kernels import inlined_kernel, kernel

LINE_END = -1  # in place of a number of holes: the end of the line


@inlined_kernel
def _position(holes_before, distance, line_start, hole_ends, first_hole):
    if holes_before == 0:
        return line_start + distance
    return line_start + hole_ends[first_hole + holes_before - 1] + distance


@kernel
def place(programs, rows_at, rows, line_starts, line_ends, hole_at, hole_ends, out_at, out_starts, out_ends):
    """Spans in the block of the rows (regions or gaps) of every line's program.

    Args:
        programs: int32 (lines,), program of each line.
        rows_at: int64 (programs + 1,), rows of program p are [rows_at[p], rows_at[p + 1]).
        rows: int32 (rows, 4), (holes before start, distance, holes before end, distance).
        line_starts, line_ends: int64 (lines,).
        hole_at, hole_ends: holes of the lines, see `shape_table.Labelled`.
        out_at: int32 output (lines + 1,), offsets into the spans.
        out_starts, out_ends: int64 outputs (total rows,).
    """
    out = 0
    out_at[0] = 0
    for line in range(len(programs)):
        p = programs[line]
        for row in range(rows_at[p], rows_at[p + 1]):
            first = hole_at[line]
            out_starts[out] = _position(rows[row, 0], rows[row, 1], line_starts[line], hole_ends, first)
            if rows[row, 2] == LINE_END:
                out_ends[out] = line_ends[line]
            else:
                out_ends[out] = _position(rows[row, 2], rows[row, 3], line_starts[line], hole_ends, first)
            out += 1
        out_at[line + 1] = out


@kernel
def gather(buf, starts, ends, offsets, data):
    """Copy the spans behind each other: Arrow's string layout.

    Args:
        offsets: int32 output (spans + 1,).
        data: uint8 output, at least the sum of the lengths.
    """
    at = 0
    offsets[0] = 0
    for span in range(len(starts)):
        for k in range(starts[span], ends[span]):
            data[at] = buf[k]
            at += 1
        offsets[span + 1] = at
