"""One line at a time: the kernels of the shape table behind a single array of addresses.

Handing thirty arrays to a compiled function costs ten times what the function does with one line. Here they are handed
over once, as rows (address, length); who holds the rows must keep the arrays alive. `carray` does not compile in a
`common.kernels.kernel`; its arrays have no reference counts anyway.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from nonet.logs.mining._mask_kernels import merge_spans, search_line
from nonet.logs.mining._scan_kernels import scan
from nonet.logs.mining._table_kernels import Holes, Lines, Table, find, hash_words, holds_constants, learn

NUM_LINES, NUM_HOLES = len(Lines._fields), len(Holes._fields)
_MASKED, _ENTRIES = NUM_LINES, NUM_LINES + 1
_HOLES = NUM_LINES + 2
_TABLE = _HOLES + NUM_HOLES
_AUTOMATON_ARRAYS = 6
_FIRST_AUTOMATON = 9  # rows of `search_masks` before it


@intrinsic
def _pointer(typing_context: Any, address: Any) -> Any:
    """The integer as a pointer."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(address), codegen


@njit(cache=True, nogil=True, inline="always")
def _uint8(rows, i):
    return carray(_pointer(rows[i, 0]), (rows[i, 1],), np.uint8)


@njit(cache=True, nogil=True, inline="always")
def _bool(rows, i):
    return carray(_pointer(rows[i, 0]), (rows[i, 1],), np.bool_)


@njit(cache=True, nogil=True, inline="always")
def _int32(rows, i):
    return carray(_pointer(rows[i, 0]), (rows[i, 1],), np.int32)


@njit(cache=True, nogil=True, inline="always")
def _int64(rows, i):
    return carray(_pointer(rows[i, 0]), (rows[i, 1],), np.int64)


@njit(cache=True, nogil=True, inline="always")
def _uint64(rows, i):
    return carray(_pointer(rows[i, 0]), (rows[i, 1],), np.uint64)


@njit(cache=True, nogil=True, inline="always")
def _lines(rows):
    return Lines(_uint8(rows, 0), _int64(rows, 1), _int64(rows, 2), _int64(rows, 3), _int64(rows, 4), _int64(rows, 5))


@njit(cache=True, nogil=True, inline="always")
def _holes(rows):
    return Holes(_int64(rows, _HOLES), _uint8(rows, _HOLES + 1), _int32(rows, _HOLES + 2), _int32(rows, _HOLES + 3))


@njit(cache=True, nogil=True, inline="always")
def _table(rows):
    return Table(
        slots=_int32(rows, _TABLE),
        hashes=_uint64(rows, _TABLE + 1),
        text_at=_int64(rows, _TABLE + 2),
        text_len=_int64(rows, _TABLE + 3),
        counts=_int64(rows, _TABLE + 4),
        first_seen=_int64(rows, _TABLE + 5),
        last_seen=_int64(rows, _TABLE + 6),
        weights=_int64(rows, _TABLE + 7),
        sample_at=_int64(rows, _TABLE + 8),
        sample_len=_int64(rows, _TABLE + 9),
        soft_at=_int64(rows, _TABLE + 10),
        soft_num=_int64(rows, _TABLE + 11),
        soft_open=_int64(rows, _TABLE + 12),
        soft_hash=_uint64(rows, _TABLE + 13),
        soft_value_at=_int64(rows, _TABLE + 14),
        soft_len=_int64(rows, _TABLE + 15),
        arena=_uint8(rows, _TABLE + 16),
        meta=_int64(rows, _TABLE + 17),
    )


@njit(cache=True, nogil=True)
def learn_one(rows, ordinal, half_life_shift):
    """`learn` for the line in the rows.

    Args:
        rows: int64 (arrays, 2), address and length of the arrays of `Lines`, `masked`, `entries`, `Holes`, `Table`.
        ordinal: of the line in the stream.
        half_life_shift: see `touch`.

    Returns:
        Its entry (-1 when the table has no room for it, and it was not counted), number of holes, count of the entry
        and soft holes of the entry that never varied.
    """
    table, holes, entries = _table(rows), _holes(rows), _int32(rows, _ENTRIES)
    _, short = learn(_lines(rows), 0, ordinal, table, half_life_shift, _uint8(rows, _MASKED), entries, True, holes)
    if short:
        return -1, 0, 0, 0
    entry = entries[0]
    return entry, holes.at[1], table.counts[entry], table.soft_open[entry]


@njit(cache=True, nogil=True)
def find_one(rows):
    """Look up the line in the rows without counting it.

    Returns:
        Its entry (-1 when its shape is not there or the line differs from one of its constants), number of holes and
        bytes of its masked text.
    """
    table, holes, lines, masked = _table(rows), _holes(rows), _lines(rows), _uint8(rows, _MASKED)
    buf, start, end = lines.buf, lines.starts[0], lines.ends[0]
    kinds, starts, ends = holes.kinds, holes.starts, holes.ends
    num_bytes, num_holes = scan(
        buf, start, end, lines.user_starts, lines.user_ends, 0, lines.user_at[1], masked, kinds, starts, ends, 0
    )
    words, arena_words = masked.view(np.uint64), table.arena.view(np.uint64)
    h = hash_words(words, (num_bytes + 7) >> 3)
    entry, _ = find(table.slots, table.hashes, table.text_at, table.text_len, arena_words, words, num_bytes, h)
    if entry >= 0 and not holds_constants(table, entry, buf, start, kinds, starts, ends, 0, num_holes):
        entry = -1
    return entry, num_holes, num_bytes


@njit(cache=True, nogil=True)
def search_masks(rows, stop, is_cut, max_matches):
    """Matches of several masks in one line, those of earlier masks first; the result is in rows 3-5.

    Args:
        rows: int64 (arrays, 2), address and length of the line's bytes; starts and ends of the matches of one mask;
            starts, ends and owners of the result, and once more to work in; then the arrays of every automaton.
        stop: length of the line.
        is_cut: whether the line goes on behind `stop`; what matches up to there is then no match.
        max_matches: see `search_line`.

    Returns:
        How many spans there are; a negative number when RE2 has to search this line.
    """
    buf, starts, ends = _uint8(rows, 0), _int64(rows, 1), _int64(rows, 2)
    taken_starts, taken_ends, taken_owners = _int64(rows, 3), _int64(rows, 4), _int64(rows, 5)
    out_starts, out_ends, out_owners = _int64(rows, 6), _int64(rows, 7), _int64(rows, 8)
    num = 0
    for mask in range((len(rows) - _FIRST_AUTOMATON) // _AUTOMATON_ARRAYS):
        row = _FIRST_AUTOMATON + mask * _AUTOMATON_ARRAYS
        start_states, steps, at_end, can_start, beside, bans = (
            _int32(rows, row),
            _int32(rows, row + 1),
            _bool(rows, row + 2),
            _bool(rows, row + 3),
            _int64(rows, row + 4),
            _bool(rows, row + 5),
        )
        found = search_line(
            buf, 0, stop, start_states, steps, at_end, can_start, beside, bans, max_matches, starts, ends, 0
        )
        if found < 0:
            return found
        if found > 0 and is_cut and ends[found - 1] == stop:
            found -= 1
        if found > 0:
            num = merge_spans(
                taken_starts[:num],
                taken_ends[:num],
                taken_owners[:num],
                starts[:found],
                ends[:found],
                mask,
                out_starts,
                out_ends,
                out_owners,
            )
            taken_starts[:num], taken_ends[:num] = out_starts[:num], out_ends[:num]
            taken_owners[:num] = out_owners[:num]
    return num
