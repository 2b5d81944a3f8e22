"""One batch through the layers: the chosen rows of several sequences together, everything else read from pages.

Rows that are not chosen cost nothing but the reading of their keys and values. In the last layer only the rows whose
logits are wanted go on after attention, since nobody reads the others' output.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from nonet.common.errors import InputError
from nonet.ragcache.engine._decode_kernels import decode_attention
from nonet.ragcache.engine.attention import Attention, KeyView, keys_in_sight
from nonet.ragcache.engine.observing import Observer
from nonet.ragcache.engine.paging import BlockPool
from nonet.ragcache.engine.sequence import Sequence
from nonet.ragcache.models.decoder import Decoder
from nonet.ragcache.models.rotary import rotate


class RowSelector(Protocol):
    """Decides after a layer which rows go on."""

    def after_layer(
        self, layer: int, rows: torch.Tensor, keys: torch.Tensor, stored: torch.Tensor, observer: Observer | None
    ) -> torch.Tensor | None:
        """Which rows to compute in deeper layers.

        Args:
            layer: that was just computed.
            rows: LongTensor[r], the rows of the slice that are still computed.
            keys: [r, kv_heads, d], their keys in this layer, not rotated.
            stored: [r, kv_heads, d], the keys of the shared pages there; meaningless for rows without such.
            observer: of the slice.

        Returns:
            BoolTensor[r], True for those that go on; None for all. The others keep their shared slots in deeper layers.
        """
        ...


@dataclass
class Slice:
    """Rows of one sequence that are computed in a batch.

    Args:
        sequence: whose; the rows have slots of their own (`Sequence.reserve`).
        rows: LongTensor[r], rising.
        want_logits: whether the logits of the last row are wanted.
        observer: is shown the attention.
        selector: may drop rows on the way.
        keep_kv: False forgets the rows' keys and values afterwards.
        num_layers: the first layers only, without logits; None for all.

    Raises:
        InputError: no layer, or logits without all layers.
    """

    sequence: Sequence
    rows: torch.Tensor
    want_logits: bool = True
    observer: Observer | None = None
    selector: RowSelector | None = None
    keep_kv: bool = True
    num_layers: int | None = None

    def __post_init__(self) -> None:
        if self.num_layers is not None and (self.num_layers < 1 or self.want_logits):
            raise InputError(f"a slice of {self.num_layers} layers; it needs one at least, and all for logits")


@torch.inference_mode()
def forward(
    decoder: Decoder,
    pool: BlockPool,
    slices: Many[Slice],
    *,
    before_layer: Callable[[int], None] | None = None,
) -> list[torch.Tensor | None]:
    """Compute the slices' rows.

    Args:
        decoder: the model.
        pool: with the pages of all sequences.
        slices: of different sequences.
        before_layer: called before each layer reads pages; it may wait for them.

    Returns:
        One entry a slice: float32 [vocab_size], the logits of its last row, or None where none are wanted.
    """
    batch = _Batch(decoder, pool, slices)
    num_layers = decoder.config.num_layers
    x = decoder.embed(torch.cat([one.sequence.ids[one.rows] for one in slices]))
    for layer in range(num_layers):
        if before_layer is not None:
            before_layer(layer)
        x = batch.layer(layer, x, is_last=layer == num_layers - 1)
        if not len(x):
            break
    for one in slices:
        if not one.keep_kv:
            one.sequence.mark(one.rows, 0)
    wanted = [one.want_logits for one in slices]
    logits = iter(decoder.logits(x)) if any(wanted) else iter(())
    return [next(logits) if want else None for want in wanted]


class _Part:
    """A slice on its way through the layers."""

    def __init__(self, given: Slice, num_layers: int) -> None:
        self.given = given
        self.rows = given.rows
        self.sequence = given.sequence
        self.sequence.mark(self.rows, num_layers)
        self.positions = self.sequence.positions[self.rows]
        self._views: dict[tuple[int | None, int], KeyView] = {}

    def view(self, layer: int, window: int | None) -> KeyView:
        # Rows that were dropped on the way, now or in an earlier batch, are in other slots from some layer on.
        key = (window, layer if self.sequence.has_drops else -1)
        if key not in self._views:
            first, last = int(self.rows[0]), int(self.rows[-1])
            self._views[key] = keys_in_sight(self.sequence, layer, last, first, window)
        return self._views[key]

    def drop(self, keep: torch.Tensor, layer: int) -> None:
        self.sequence.mark(self.rows[~keep], layer + 1)
        self.rows, self.positions = self.rows[keep], self.positions[keep]
        self._views.clear()


class _Batch:
    def __init__(self, decoder: Decoder, pool: BlockPool, slices: Many[Slice]) -> None:
        self._decoder, self._pool = decoder, pool
        self._parts = [_Part(one, decoder.config.num_layers) for one in slices]
        self._attention = Attention(decoder.config, decoder.rotary)
        self._gather()

    def _gather(self) -> None:
        self._positions = torch.cat([part.positions for part in self._parts])
        self._own = torch.cat([part.sequence.own_slots(part.rows) for part in self._parts])
        sizes = [len(part.rows) for part in self._parts]
        self._bounds = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        decodes = all(size == 1 and part.given.observer is None for size, part in zip(sizes, self._parts, strict=True))
        self._decodes = decodes and self._pool.keys.dtype == torch.float32 and self._pool.keys.device.type == "cpu"

    def layer(self, number: int, x: torch.Tensor, *, is_last: bool) -> torch.Tensor:
        layer, pool = self._decoder.layers[number], self._pool
        queries, keys, values = layer.project(x)
        pool.keys[number].index_copy_(0, self._own, keys.to(pool.keys.dtype))
        pool.values[number].index_copy_(0, self._own, values.to(pool.values.dtype))
        for part in self._parts:
            part.sequence.lead(number, part.rows)
        queries = rotate(queries, *self._attention.turns(number, self._positions))
        if is_last:
            return self._last(number, x, queries)
        attended = self._decode(number, queries) if self._decodes else self._prefill(number, queries)
        x = layer.finish(x, attended.to(x.dtype))
        return self._select(number, x, keys)

    def _last(self, number: int, x: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        # Whoever observes sees all rows' attention; only rows with logits go through the matrices after it.
        chosen, attended = [], []
        for place, part in enumerate(self._parts):
            first, last = self._bounds[place], self._bounds[place + 1]
            if part.given.observer is not None:
                attended.append(self._attend(number, part, queries[first:last], part.rows)[-1:])
            elif part.given.want_logits:
                attended.append(self._attend(number, part, queries[last - 1 : last], part.rows[-1:]))
            if part.given.want_logits:
                chosen.append(last - 1)
            elif part.given.observer is not None:
                attended.pop()
        if not chosen:
            return x[:0]
        return self._decoder.layers[number].finish(x[chosen], torch.cat(attended).to(x.dtype))

    def _prefill(self, number: int, queries: torch.Tensor) -> torch.Tensor:
        pieces = []
        for place, part in enumerate(self._parts):
            mine = queries[self._bounds[place] : self._bounds[place + 1]]
            pieces.append(self._attend(number, part, mine, part.rows))
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]

    def _attend(self, number: int, part: _Part, queries: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        observer = part.given.observer
        watch = None if observer is None else lambda *shown: observer.observe(number, *shown)
        view = part.view(number, self._decoder.config.layers[number].window)
        positions = part.sequence.positions[rows]
        keys, values = self._pool.keys[number], self._pool.values[number]
        return self._attention.rows(number, queries, rows, positions, view, keys, values, watch)

    def _decode(self, number: int, queries: torch.Tensor) -> torch.Tensor:
        views = [part.view(number, self._decoder.config.layers[number].window) for part in self._parts]
        turns = [self._attention.turns(number, view.positions) for view in views]
        cos, sin = (torch.cat([turn[i] for turn in turns]).numpy() for i in (0, 1))
        slots, added = (torch.cat([getattr(view, name) for view in views]).numpy() for name in ("slots", "added"))
        starts = np.concatenate([[0], np.cumsum([len(view.slots) for view in views])])
        out = torch.empty_like(queries)
        scale = np.float32(self._decoder.config.attention_scale)
        keys, values = self._pool.keys[number].numpy(), self._pool.values[number].numpy()
        decode_attention(queries.contiguous().numpy(), keys, values, slots, added, starts, cos, sin, scale, out.numpy())
        return out.flatten(1)

    def _select(self, number: int, x: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        kept = []
        for place, part in enumerate(self._parts):
            first, last = self._bounds[place], self._bounds[place + 1]
            keep = None
            if part.given.selector is not None:
                stored = self._pool.keys[number].index_select(0, part.sequence.shared_slots(part.rows))
                keep = part.given.selector.after_layer(number, part.rows, keys[first:last], stored, part.given.observer)
            if part.given.num_layers == number + 1:
                keep = torch.zeros(last - first, dtype=torch.bool)
            if keep is not None:
                part.drop(keep, number)
            kept.append(torch.ones(last - first, dtype=torch.bool) if keep is None else keep)
        if all(bool(keep.all()) for keep in kept):
            return x
        self._parts = [part for part in self._parts if len(part.rows)]
        if self._parts:
            self._gather()
        return x[torch.cat(kept)]
