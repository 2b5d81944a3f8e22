"""Threads that mine blocks of lines together: each counts in a table of its own, and the tables merge.

Because merging leaves no trace, the result is that of one thread. Kernels release the interpreter lock.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nonet.logs.mining.shape_table import Labelled, ShapeTable, Spans

if TYPE_CHECKING:
    from nonet.logs.mining.miner import Miner


@dataclass(frozen=True, slots=True)
class Seen:
    """What the first pass knows of a block.

    Attributes:
        lines: the block.
        labelled: entries of `table` and holes; the entries are good while nothing was evicted from it.
        table: the table of one thread.
        num_evicted: evictions of the table when the block was done.
    """

    lines: Spans
    labelled: Labelled
    table: ShapeTable
    num_evicted: int

    @property
    def nbytes(self) -> int:
        """Memory beside the block itself."""
        return self.labelled.nbytes + self.lines.user_starts.nbytes + self.lines.user_ends.nbytes


class Crew:
    """A context manager: `learn` blocks, `settle` once, `label` blocks.

    Args:
        miner: what is learned goes here at `settle`.
        threads: how many; block i goes to thread i modulo `threads`, so that evictions are repeatable too.
        source: see `Miner.add`.
    """

    def __init__(self, miner: Miner, threads: int, source: str = "") -> None:
        self._miner = miner
        self._source = source
        self._tables = [miner.new_table() for _ in range(threads)]
        self._num_blocks = 0
        self._ordinal = miner.num_lines
        self._stack = ExitStack()

    def __enter__(self) -> Crew:
        self._pools = [self._stack.enter_context(ThreadPoolExecutor(1)) for _ in self._tables]
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def learn(self, buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Future[Seen]:
        """Count the shapes of a block's lines."""
        thread = self._num_blocks % len(self._pools)
        table, ordinal = self._tables[thread], self._ordinal
        self._num_blocks += 1
        self._ordinal += len(starts)

        def learn() -> Seen:
            lines = self._miner.spans(buffer, starts, ends)
            labelled = table.learn_and_label(lines, ordinal)
            return Seen(lines, labelled, table, table.num_evicted_shapes)

        return self._pools[thread].submit(learn)

    def settle(self) -> None:
        """Give everything to the miner and derive the templates; no `learn` may be under way."""
        for table in self._tables:
            self._miner.absorb(table, self._source)
        self._miner.settle()
        self._labeller = self._miner.labeller()
        self._num_blocks = 0

    def label(self, seen: Seen) -> Future[tuple[pa.Table, int]]:
        """Columns of a block (see `Labeller.table`), and how many of its lines no template took."""

        def label() -> tuple[pa.Table, int]:
            if seen.table.num_evicted_shapes != seen.num_evicted:
                labelled = self._labeller.shapes.label(seen.lines)
            else:
                labelled = self._labeller.translated(seen.labelled, seen.table)
            return self._labelled(seen.lines, labelled)

        return self._submit(label)

    def label_anew(
        self, buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> Future[tuple[pa.Table, int]]:
        """`label` for a block that was not kept."""

        def label() -> tuple[pa.Table, int]:
            lines = self._miner.spans(buffer, starts, ends)
            return self._labelled(lines, self._labeller.shapes.label(lines))

        return self._submit(label)

    def _labelled(self, lines: Spans, labelled: Labelled) -> tuple[pa.Table, int]:
        return self._labeller.table(lines, labelled), int((labelled.entries < 0).sum())

    def _submit(self, label: Callable[[], tuple[pa.Table, int]]) -> Future[tuple[pa.Table, int]]:
        self._num_blocks += 1
        return self._pools[self._num_blocks % len(self._pools)].submit(label)
