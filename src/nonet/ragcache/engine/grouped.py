"""Attention of scattered rows in blocks that stay in a core's cache, without copies of keys for heads that share them.

The query heads that share a key head are lines of one product, so a block is three steps for each key head: scores,
weights, sum of values. A block reads the keys up to its last row only, and of these a row's line knows which it sees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from nonet.ragcache.engine._grouped_kernels import put_rows, take_lines, weigh
from nonet.ragcache.engine.team import team
from nonet.ragcache.models.config import ModelConfig

_BLOCK_LINES = 160
"""Lines of scores (rows x heads that share) that a block aims at: 1.3 MB for 2,000 keys, what a core's cache holds."""


class Scratch:
    """Memory that is used again by the next layer; what is taken under a name is overwritten by the next taker."""

    def __init__(self) -> None:
        self._held: dict[str, torch.Tensor] = {}

    def take(self, name: str, *shape: int) -> torch.Tensor:
        """A float32 tensor on the CPU, not cleared.

        Args:
            name: of the use.
            shape: of the tensor.
        """
        size = math.prod(shape)
        if name not in self._held or len(self._held[name]) < size:
            self._held[name] = torch.empty(size)
        return self._held[name][:size].view(shape)


@dataclass(slots=True)
class _Block:
    first: int
    sight: slice
    firsts: np.ndarray
    lasts: np.ndarray


class GroupedRows:
    """Blocks of the rows of one sequence over the keys of a view, used for all layers that share both.

    Args:
        rows: LongTensor[r], rising.
        positions: LongTensor[r].
        key_rows: LongTensor[k], rising; every row must be among them.
        key_positions: LongTensor[k].
        window: of the layers, None for none.
        config: of the model.
        scratch: for the scores: 160 lines x k floats a thread.
    """

    def __init__(
        self,
        rows: torch.Tensor,
        positions: torch.Tensor,
        key_rows: torch.Tensor,
        key_positions: torch.Tensor,
        window: int | None,
        config: ModelConfig,
        scratch: Scratch,
    ) -> None:
        self._scratch = scratch
        self._num_kv, self._group = config.num_kv_heads, config.num_heads // config.num_kv_heads
        lasts = torch.searchsorted(key_rows, rows, right=True)
        firsts = torch.zeros_like(lasts)
        if window is not None:
            # A key can be seen while it is fewer than `window` positions behind.
            firsts = torch.searchsorted(key_positions, positions - window, right=True)
        size = max(1, _BLOCK_LINES // self._group)
        self._blocks = [
            _block(first, min(len(rows), first + size), firsts.numpy(), lasts.numpy())
            for first in range(0, len(rows), size)
        ]
        # The longest last blocks first, so that no thread is left with one of them at the end.
        self._blocks.reverse()
        self._num_lines = size * self._group
        self._num_cells = self._num_lines * max(block.sight.stop - block.sight.start for block in self._blocks)

    def attend(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float) -> torch.Tensor:
        """Attend.

        Args:
            queries: float32 [r, heads, d], rotated.
            keys: float32 [kv_heads, k, d], rotated.
            values: float32 [kv_heads, k, d].
            scale: of the scores.

        Returns:
            [r, heads * d].
        """
        num_rows, num_heads, d = queries.shape
        helpers, group = team(), self._group
        attended = torch.empty(num_rows, num_heads, d)
        given, put = queries.contiguous().numpy(), attended.numpy()
        turned = keys.transpose(1, 2)
        asked, got = (self._scratch.take(name, helpers.size, self._num_lines, d) for name in ("asked", "got"))
        scores = self._scratch.take("scores", helpers.size, self._num_cells)
        sums = self._scratch.take("sums", helpers.size, self._num_lines)

        def piece(number: int, member: int) -> None:
            kv, place = divmod(number, len(self._blocks))
            block = self._blocks[place]
            first, num_rows, size = block.first, len(block.firsts), block.sight.stop - block.sight.start
            num_lines = num_rows * group
            lines, mine, mass = asked[member, :num_lines], got[member, :num_lines], sums[member, :num_lines].numpy()
            cells = scores[member, : num_lines * size].view(num_lines, size)
            take_lines(given, first, kv * group, np.float32(scale), lines.view(num_rows, group, d).numpy())
            torch.mm(lines, turned[kv, :, block.sight], out=cells)
            weigh(cells.numpy(), block.firsts, block.lasts, mass)
            torch.mm(cells, values[kv, block.sight], out=mine)
            put_rows(mine.view(num_rows, group, d).numpy(), mass, first, kv * group, put)

        helpers.run(self._num_kv * len(self._blocks), piece)
        return attended.view(num_rows, -1)


def _block(first: int, last: int, firsts: np.ndarray, lasts: np.ndarray) -> _Block:
    sight = slice(int(firsts[first]), int(lasts[last - 1]))
    return _Block(first, sight, firsts[first:last] - sight.start, lasts[first:last] - sight.start)
