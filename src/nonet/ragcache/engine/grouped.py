"""Attention of scattered rows in blocks that stay in a core's cache, without copies of keys for heads that share them.

The query heads that share a key head are rows of one product, so a block is four operations for each key head: scores,
a mask where it is needed, softmax, sum of values. A block reads the keys up to its last row only, and only the keys
behind its first row need a mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from nonet.ragcache.engine.team import team
from nonet.ragcache.models.config import ModelConfig

_BLOCK_LINES = 128
"""Lines of scores (rows x heads that share) that a block aims at: 1 MB for 2,000 keys, half of a core's cache."""


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
    last: int
    first_key: int
    last_key: int
    mask_from: int
    mask: torch.Tensor


class GroupedRows:
    """Blocks of the rows of one sequence over the keys of a view, used for all layers that share both.

    Args:
        rows: LongTensor[r], rising.
        positions: LongTensor[r].
        key_rows: LongTensor[k], rising.
        key_positions: LongTensor[k].
        window: of the layers, None for none.
        config: of the model.
        scratch: for the scores: 128 lines x k floats a thread.
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
        size = max(1, _BLOCK_LINES // self._group)
        self._blocks = [
            _block(rows, positions, key_rows, key_positions, window, first, min(len(rows), first + size))
            for first in range(0, len(rows), size)
        ]
        # The longest last blocks first, so that no thread is left with one of them at the end.
        self._blocks.reverse()

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
        num_rows, _, d = queries.shape
        lines = (self._num_kv, num_rows, self._group, d)
        asked, got = self._scratch.take("asked", *lines), self._scratch.take("got", *lines)
        torch.mul(queries.view(num_rows, self._num_kv, self._group, d).transpose(0, 1), scale, out=asked)
        asked, got = asked.flatten(1, 2), got.flatten(1, 2)
        turned = keys.transpose(1, 2)
        helpers = team()
        room = max(block.last_key - block.first_key for block in self._blocks) * _lines_of(self._blocks, self._group)
        scores = self._scratch.take("scores", helpers.size, room)

        def piece(number: int, member: int) -> None:
            kv, place = divmod(number, len(self._blocks))
            block = self._blocks[place]
            mine = slice(block.first * self._group, block.last * self._group)
            sight = slice(block.first_key, block.last_key)
            size = block.last_key - block.first_key
            cells = scores[member, : (mine.stop - mine.start) * size].view(-1, size)
            torch.mm(asked[kv, mine], turned[kv, :, sight], out=cells)
            cells.view(-1, self._group, size)[:, :, block.mask_from :].add_(block.mask)
            torch.softmax(cells, -1, out=cells)
            torch.mm(cells, values[kv, sight], out=got[kv, mine])

        helpers.run(self._num_kv * len(self._blocks), piece)
        together = torch.empty(num_rows, self._num_kv * self._group * d)
        together.view(num_rows, self._num_kv, -1).copy_(got.view(self._num_kv, num_rows, -1).transpose(0, 1))
        return together


def _lines_of(blocks: list[_Block], group: int) -> int:
    return max(block.last - block.first for block in blocks) * group


def _block(
    rows: torch.Tensor,
    positions: torch.Tensor,
    key_rows: torch.Tensor,
    key_positions: torch.Tensor,
    window: int | None,
    first: int,
    last: int,
) -> _Block:
    mine = rows[first:last]
    last_key = int(torch.searchsorted(key_rows, mine[-1], right=True))
    first_key, mask_from = 0, int(torch.searchsorted(key_rows, mine[0], right=True))
    if window is not None:
        # A key can be seen while it is fewer than `window` positions behind; every row of the block must see its own.
        first_key = int(torch.searchsorted(key_positions, positions[first] - window, right=True))
        mask_from = first_key
    hidden = key_rows[mask_from:last_key] > mine[:, None]
    if window is not None:
        hidden |= positions[first:last, None] - key_positions[mask_from:last_key] >= window
    mask = torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)[:, None]
    return _Block(first, last, first_key, last_key, mask_from - first_key, mask)
