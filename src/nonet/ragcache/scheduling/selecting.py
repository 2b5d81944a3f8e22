"""Choosing rows by how far their keys have moved, as CacheBlend does."""

from __future__ import annotations

import torch

from nonet.ragcache.engine.observing import Observer

CHECK_LAYER = 1
"""The second layer: keys of the first depend on the tokens alone, so there is nothing to see in it."""


class DeviationSelector:
    """Lets all reused rows run through the first layers, then only those go on whose keys deviate most.

    Args:
        candidates: LongTensor, rows of reused chunks.
        budget: how many of them go on.

    Attributes:
        chosen: LongTensor, those that went on; empty before the check.
        num_layers: that every candidate ran through.
    """

    num_layers = CHECK_LAYER + 1

    def __init__(self, candidates: torch.Tensor, budget: int) -> None:
        self._candidates, self._budget = candidates, budget
        self.chosen = candidates[:0]

    def after_layer(
        self, layer: int, rows: torch.Tensor, keys: torch.Tensor, stored: torch.Tensor, observer: Observer | None
    ) -> torch.Tensor | None:
        """See `RowSelector`."""
        if layer != CHECK_LAYER:
            return None
        is_candidate = torch.isin(rows, self._candidates)
        moved = (keys.float() - stored.float()).square().flatten(1).sum(1)
        moved[~is_candidate] = -1.0
        best = moved.argsort(descending=True, stable=True)[: min(self._budget, int(is_candidate.sum()))]
        keep = ~is_candidate
        keep[best] = True
        self.chosen = rows[keep & is_candidate]
        return keep
