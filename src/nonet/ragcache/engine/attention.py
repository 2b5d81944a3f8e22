"""Attention of chosen rows over all keys that are there, wherever those lie in the pool.

Keys are stored as they were before rotation and are rotated here, to the positions that they have in this prompt. Each
layer's keys and values are put together once; then blocks of query rows read those that the block can see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from nonet.ragcache.engine._prefill_kernels import gather_turned
from nonet.ragcache.engine.grouped import GroupedRows, Scratch
from nonet.ragcache.engine.sequence import Sequence
from nonet.ragcache.engine.team import team
from nonet.ragcache.models.config import ModelConfig
from nonet.ragcache.models.rotary import Rotary, rotate

QUERY_BLOCK = 64
"""Query rows that are taken at a time: bounds memory at heads x 64 x keys, and leaves out keys behind the block."""
_GROUPED_FROM = 16
"""Fewer rows than these are one block."""
_GATHERED_ROWS = 256
_KEPT_MASK_CELLS = 1 << 25
_KEPT_MASKS = 16

Watch = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]


@dataclass(slots=True)
class KeyView:
    """The keys that some rows of a sequence can see in a layer.

    Attributes:
        rows: LongTensor[k], rows of the keys, rising.
        slots: LongTensor[k], where they are in the pool.
        added: LongTensor[k], where in the pool the change is that is added to each; -1 for none.
        positions: LongTensor[k].
    """

    rows: torch.Tensor
    slots: torch.Tensor
    added: torch.Tensor
    positions: torch.Tensor


def keys_in_sight(sequence: Sequence, layer: int, last_row: int, first_row: int, window: int | None) -> KeyView:
    """All rows up to the last one that have keys in this layer, without those that no row can see.

    Args:
        sequence: of the rows.
        layer: number of the layer.
        last_row: the last query row.
        first_row: the first query row.
        window: of the layer.
    """
    slots = sequence.layer_slots(layer)[: last_row + 1]
    there = slots >= 0
    if window is not None:
        there &= sequence.positions[: last_row + 1] > sequence.positions[first_row] - window
    rows = there.nonzero()[:, 0]
    return KeyView(rows, slots[rows], sequence.added_slots[rows], sequence.positions[rows])


class Attention:
    """Attention for one batch; keeps the cosines, sines and masks that several layers need.

    Args:
        config: of the model.
        rotary: of the model.
    """

    def __init__(self, config: ModelConfig, rotary: Rotary) -> None:
        self._config, self._rotary = config, rotary
        self._turns: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}
        self._masks: dict[tuple[int, int], tuple[KeyView, torch.Tensor, list[torch.Tensor]]] = {}
        self._groups: dict[tuple[int, int], tuple[KeyView, torch.Tensor, GroupedRows]] = {}
        self._scratch = Scratch()

    def turns(self, layer: int, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of positions in a layer, kept for the layers that rotate alike."""
        key = (self._rotary.group_of_layer[layer], id(positions))
        if key not in self._turns:
            # The positions are kept along, so that no other tensor can get their id.
            self._turns[key] = (positions, *self._rotary.cos_sin(layer, positions))
        return self._turns[key][1:]

    def rows(
        self,
        layer: int,
        queries: torch.Tensor,
        rows: torch.Tensor,
        positions: torch.Tensor,
        view: KeyView,
        pool_keys: torch.Tensor,
        pool_values: torch.Tensor,
        watch: Watch | None,
    ) -> torch.Tensor:
        """Attend from rows of one sequence.

        Args:
            layer: number of the layer.
            queries: [r, heads, d], rotated.
            rows: LongTensor[r], rising.
            positions: LongTensor[r].
            view: the keys, at least those that the rows can see.
            pool_keys: [slots, kv_heads, d] of this layer.
            pool_values: likewise.
            watch: told blocks of rows, key rows and head-mean attention.

        Returns:
            [r, heads * d].
        """
        keys, values = self._gathered(layer, view, pool_keys, pool_values)
        scale, window = self._config.attention_scale, self._config.layers[layer].window
        if watch is None and window is None and len(rows) == len(view.rows) > 1:
            return _whole(queries, keys, values, scale)
        is_plain = queries.dtype == torch.float32 and queries.device.type == "cpu"
        if watch is None and is_plain and len(rows) >= _GROUPED_FROM:
            return self._groups_of(rows, positions, view, window).attend(queries, keys, values, scale)
        parts = []
        masks = self._masks_of(rows, positions, view, window, queries.dtype)
        for first, mask in zip(range(0, len(rows), QUERY_BLOCK), masks, strict=True):
            block, seen = slice(first, first + QUERY_BLOCK), mask.shape[1]
            part = queries[block], keys[:, :seen], values[:, :seen], mask, scale
            if watch is None:
                parts.append(_masked(*part))
            else:
                attended, mean = _shown(*part)
                watch(rows[block], view.rows[:seen], mean)
                parts.append(attended)
        return torch.cat(parts)

    def _gathered(
        self, layer: int, view: KeyView, pool_keys: torch.Tensor, pool_values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # [kv_heads, k, d] each, the keys rotated; those of the layer before are overwritten.
        cos, sin = self.turns(layer, view.positions)
        if pool_keys.dtype != torch.float32 or pool_keys.device.type != "cpu":
            keys = rotate(_selected(pool_keys, view), cos, sin)
            return keys.transpose(0, 1), _selected(pool_values, view).transpose(0, 1)
        size, (num_kv, d) = len(view.slots), pool_keys.shape[1:]
        keys, values = self._scratch.take("keys", num_kv, size, d), self._scratch.take("values", num_kv, size, d)
        given = [one.numpy() for one in (pool_keys, pool_values, view.slots, view.added, cos, sin)]
        put = keys.numpy(), values.numpy()
        num_pieces = -(-size // _GATHERED_ROWS)

        def piece(number: int, _member: int) -> None:
            first = number * _GATHERED_ROWS
            gather_turned(*given, first, min(size, first + _GATHERED_ROWS), *put)

        team().run(num_pieces, piece, is_plain=True)
        return keys, values

    def _groups_of(self, rows: torch.Tensor, positions: torch.Tensor, view: KeyView, window: int | None) -> GroupedRows:
        # The same in all layers of a window, like the masks; without large parts of its own.
        key = (id(view), id(rows))
        if key not in self._groups:
            if len(self._groups) == _KEPT_MASKS:
                self._groups.clear()
            grouped = GroupedRows(rows, positions, view.rows, view.positions, window, self._config, self._scratch)
            self._groups[key] = (view, rows, grouped)
        return self._groups[key][2]

    def _masks_of(
        self, rows: torch.Tensor, positions: torch.Tensor, view: KeyView, window: int | None, dtype: torch.dtype
    ) -> list[torch.Tensor]:
        # One [block, seen keys] for each block of rows, 0 or -inf: the same in all layers of a window, so kept.
        key = (id(view), id(rows))
        if key in self._masks:
            return self._masks[key][2]
        masks = []
        for first in range(0, len(rows), QUERY_BLOCK):
            block = slice(first, first + QUERY_BLOCK)
            seen = int(torch.searchsorted(view.rows, rows[block][-1], right=True))
            hidden = view.rows[:seen] > rows[block, None]
            if window is not None:
                hidden |= positions[block, None] - view.positions[:seen] >= window
            masks.append(torch.zeros(hidden.shape, dtype=dtype, device=rows.device).masked_fill_(hidden, -torch.inf))
        if len(self._masks) == _KEPT_MASKS:
            self._masks.clear()
        if len(rows) * len(view.rows) <= _KEPT_MASK_CELLS:
            # Rows and keys are kept along, so that no other object can get their ids.
            self._masks[key] = (view, rows, masks)
        return masks


def _selected(pool: torch.Tensor, view: KeyView) -> torch.Tensor:
    own = pool.index_select(0, view.slots)
    added = pool.index_select(0, view.added.clamp(min=0))
    return own + added.masked_fill_((view.added < 0)[:, None, None], 0)


def _whole(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float) -> torch.Tensor:
    heads = queries.transpose(0, 1)[None]
    attended = functional.scaled_dot_product_attention(
        heads, keys[None], values[None], is_causal=True, scale=scale, enable_gqa=True
    )
    return attended[0].transpose(0, 1).flatten(1)


def _masked(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    heads = queries.transpose(0, 1)[None]
    attended = functional.scaled_dot_product_attention(
        heads, keys[None], values[None], attn_mask=mask, scale=scale, enable_gqa=True
    )
    return attended[0].transpose(0, 1).flatten(1)


def _shown(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    # The heads that share keys become more rows of one product.
    r, heads, d = queries.shape
    num_kv = len(keys)
    grouped = queries.view(r, num_kv, heads // num_kv, d).permute(1, 2, 0, 3).reshape(num_kv, -1, d)
    # In place: each copy of the scores costs as much as a product.
    scores = torch.baddbmm(grouped.new_empty(()), grouped, keys.transpose(1, 2), beta=0, alpha=scale).float()
    scores = scores.view(heads, r, -1).add_(mask)
    attention = torch.softmax(scores, -1, out=scores)
    attended = attention.view(num_kv, -1, attention.shape[-1]).to(values.dtype) @ values
    return attended.view(num_kv, -1, r, d).permute(2, 0, 1, 3).reshape(r, -1), attention.mean(0)
