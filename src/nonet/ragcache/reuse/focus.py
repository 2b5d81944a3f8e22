"""Early stop of repair: rows of chunks that the question does not look at are not computed to the end.

Retrieval brings more than is needed; after some layers the question's attention tells the chunks that matter from the
others (Cache-Craft, adaptive early termination). Chunks that are computed because nothing of them is stored go on
always: there is nothing that deeper layers could read instead.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch

from nonet.common.errors import InputError
from nonet.ragcache.reuse.plan import Plan

if TYPE_CHECKING:
    from nonet.ragcache.engine.observing import Observer


def focused(attention: list[float]) -> set[int]:
    """Places of the values above the largest gap in their order; all where they are equal.

    >>> sorted(focused([0.1, 0.9, 0.2, 0.8])), sorted(focused([0.5, 0.5])), focused([])
    ([1, 3], [0, 1], set())
    """
    order = sorted(range(len(attention)), key=lambda place: -attention[place])
    gaps = [attention[first] - attention[second] for first, second in itertools.pairwise(order)]
    if not gaps or max(gaps) <= 0:
        return set(order)
    return set(order[: gaps.index(max(gaps)) + 1])


class FocusSelector:
    """Drops repaired rows of chunks out of focus, once the focus has stayed the same for some layers.

    The slice must hold the question's rows and all repaired rows, and have an observer; without, nothing is dropped.

    Args:
        plan: with its rows chosen.
        num_layers: of the model.
        patience: layers in a row with the same focus.
        min_layer: first layer (from 0) after which rows may be dropped; None for a third of all.

    Attributes:
        dropped: pairs of layer and rows that were computed in none behind it.

    Raises:
        InputError: no patience.
    """

    def __init__(self, plan: Plan, num_layers: int, *, patience: int = 3, min_layer: int | None = None) -> None:
        if patience < 1:
            raise InputError(f"focus: patience must be 1 or more, not {patience}")
        self._patience, self._num_layers = patience, num_layers
        self._min_layer = num_layers // 3 if min_layer is None else min_layer
        self._question = len(plan.segments) - 1
        kept = [n for n, part in enumerate(plan.segments) if part.segment.kind == "chunk" and part.segment.num_tokens]
        self._chunks = kept
        self._repaired = {n: torch.from_numpy(plan.segments[n].rows) for n in kept if plan.segments[n].is_taken_over}
        self._attention = [0.0] * len(kept)
        self._focus: set[int] = set()
        self._num_same = 0
        self.dropped: list[tuple[int, int]] = []

    @property
    def num_saved(self) -> int:
        """Rows times layers that were not computed."""
        return sum((self._num_layers - layer - 1) * rows for layer, rows in self.dropped)

    def after_layer(
        self, layer: int, rows: torch.Tensor, keys: torch.Tensor, stored: torch.Tensor, observer: Observer | None
    ) -> torch.Tensor | None:
        """See `RowSelector`."""
        if observer is None or layer == self._num_layers - 1:
            return None
        seen = observer.sums[layer, self._question, self._chunks].tolist()
        self._attention = [before + now for before, now in zip(self._attention, seen, strict=True)]
        focus = focused(self._attention)
        self._num_same = self._num_same + 1 if focus == self._focus else 1
        self._focus = focus
        if self._num_same < self._patience or layer < self._min_layer or not any(self._attention):
            return None
        inside = {self._chunks[place] for place in focus}
        outside = [mine for number, mine in self._repaired.items() if number not in inside]
        if not outside:
            return None
        keep = ~torch.isin(rows, torch.cat(outside))
        num_dropped = len(rows) - int(keep.sum())
        if not num_dropped:
            return None
        self.dropped.append((layer, num_dropped))
        return keep
