"""Streams: one line at a time into a shape table, without the cost of a call made for blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nonet.logs.mining import _one_line_kernels as kernels
from nonet.logs.mining._scan_kernels import MAX_MASKED_BYTES
from nonet.logs.mining._table_kernels import MAX_SOFT_BYTES, Holes, Lines, Table
from nonet.logs.mining.masks import MAX_MATCHES, MAX_SEARCH_BYTES, UserMask, find_in_line
from nonet.logs.mining.shape import SOFT, Shape
from nonet.logs.mining.shape_table import ShapeTable

_FIRST_BYTES = 1 << 12
UserSpans = Sequence[tuple[int, int, int]]
"""Matches of user masks in a line: start, end, number of the mask; in order and disjoint."""


class LineMasks:
    """The matches of user masks in single lines, as `masks.find_in_line` finds them.

    The automata of the masks run in one compiled call; RE2 takes the lines that they leave, and all lines when one of
    the masks has no automaton.

    Args:
        masks: in order of precedence.
    """

    def __init__(self, masks: Sequence[UserMask]) -> None:
        self.masks = masks
        automata = [mask.programs.automaton for mask in masks]
        self._line = np.zeros(MAX_SEARCH_BYTES, np.uint8)
        self._bytes = memoryview(self._line)  # type: ignore[arg-type]
        self._spans = np.zeros((2, MAX_MATCHES), np.int64)
        # Room for the matches of all masks, since a later mask can match between those of an earlier one.
        self._taken = np.zeros((6, max(1, len(masks)) * MAX_MATCHES), np.int64)
        self._automata = [array for automaton in automata if automaton is not None for array in automaton.arrays()]
        arrays = (self._line, *self._spans, *self._taken, *self._automata)
        self._rows = np.array([(array.ctypes.data, len(array)) for array in arrays], np.int64)
        self._has_all = None not in automata

    def find(self, content: bytes) -> UserSpans:
        """Start, end and number of the mask of every match in a line; in order and disjoint."""
        if not self.masks:
            return ()
        if not self._has_all:
            return find_in_line(self.masks, content)
        stop = min(len(content), MAX_SEARCH_BYTES)
        self._bytes[:stop] = content[:stop]
        num = kernels.search_masks(self._rows, stop, stop < len(content), MAX_MATCHES)
        if num < 0:
            return find_in_line(self.masks, content)
        return list(zip(*self._taken[:3, :num].tolist(), strict=True))


class OneLine:
    """The way of single lines into a shape table.

    Args:
        table: what learns; nobody else may write to it meanwhile.
    """

    def __init__(self, table: ShapeTable) -> None:
        self.table = table
        self._masked = np.zeros(MAX_MASKED_BYTES + 16, np.uint8)
        self._entries = np.zeros(1, np.int32)
        n = MAX_MASKED_BYTES + 18
        self._holes = Holes(np.zeros(2, np.int64), np.zeros(n, np.uint8), np.zeros(n, np.int32), np.zeros(n, np.int32))
        self._lines = self._room_for(_FIRST_BYTES)
        self._bytes = memoryview(self._lines.buf)  # type: ignore[arg-type]
        self._has_user_spans = False
        self._bind()

    @staticmethod
    def _room_for(num_bytes: int) -> Lines:
        starts, ends, at = np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(2, np.int64)
        spans = np.zeros((2, MAX_MASKED_BYTES), np.int64)
        return Lines(np.zeros(num_bytes, np.uint8), starts, ends, spans[0], spans[1], at)

    def _bind(self) -> None:
        """Note where the arrays are now; they are kept alive by the tuples of this object."""
        self._arrays: Table = self.table.arrays
        arrays = (*self._lines, self._masked, self._entries, *self._holes, *self._arrays)
        self._rows: NDArray[np.int64] = np.array([(array.ctypes.data, len(array)) for array in arrays], np.int64)

    def learn(self, content: bytes, ordinal: int, user: UserSpans = ()) -> tuple[int, list[int], int, int]:
        """Count the shape of a line.

        Args:
            content: the line.
            ordinal: its number in the whole stream.
            user: see `UserSpans`.

        Returns:
            Its entry in the table, the ends of its holes from its start, the lines of the entry so far, and how many
            soft holes of the entry never varied.
        """
        self._put(content, user)
        while True:
            entry, num_holes, count, num_open = kernels.learn_one(self._rows, ordinal, self.table.half_life_shift)
            if entry >= 0:
                return entry, self._holes.ends[:num_holes].tolist(), count, num_open
            self.table.make_room()
            self._bind()

    def find(self, content: bytes, user: UserSpans = ()) -> tuple[int, list[int], int]:
        """Look up a line without counting it.

        Returns:
            Its entry (-1 when the table does not have it), the ends of its holes, and the bytes of its masked text, for
            `shape`.
        """
        self._put(content, user)
        entry, num_holes, num_bytes = kernels.find_one(self._rows)
        return entry, self._holes.ends[:num_holes].tolist(), num_bytes

    def shape(self, content: bytes, num_holes: int, num_bytes: int) -> Shape:
        """The shape of the line that `find` was asked for last."""
        spans = zip(
            self._holes.kinds[:num_holes].tolist(),
            self._holes.starts[:num_holes].tolist(),
            self._holes.ends[:num_holes].tolist(),
            strict=True,
        )
        constants = tuple(
            content[start:end] if kind in SOFT and end - start <= MAX_SOFT_BYTES else None for kind, start, end in spans
        )
        return Shape(self._masked[:num_bytes].tobytes(), constants, 1)

    def _put(self, content: bytes, user: UserSpans) -> None:
        """Make `content` the line of the kernels."""
        num_bytes = len(content)
        if num_bytes > len(self._bytes):
            self._lines = self._room_for(2 * num_bytes)
            self._bytes = memoryview(self._lines.buf)  # type: ignore[arg-type]
            self._bind()
        elif self._arrays is not self.table.arrays:
            self._bind()
        self._bytes[:num_bytes] = content
        self._lines.ends[0] = num_bytes
        if user or self._has_user_spans:
            self._has_user_spans = bool(user)
            user = user[:MAX_MASKED_BYTES]  # a masked text is full with as many
            self._lines.user_at[1] = len(user)
            for i, (low, high, _) in enumerate(user):
                self._lines.user_starts[i], self._lines.user_ends[i] = low, high
