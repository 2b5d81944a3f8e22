"""What attention shows while rows are computed: sums by segment, row and key, never an n x n matrix.

The published measures need, for each layer, the attention of a chunk's rows onto each earlier chunk and onto itself;
choosing rows needs each row's attention onto earlier chunks, or each key's attention from the question. All are sums of
attention averaged over the query heads, taken block by block of query rows.
"""

from __future__ import annotations

import torch


class Observer:
    """Sums of attention of one prompt.

    Args:
        segment_of_row: LongTensor[n], number of the segment of each row of the prompt.
        num_segments: how many segments there are.
        num_layers: of the model.
        question: number of the segment whose attention onto each key is kept; None keeps none.
        only_asked: leave all other sums zero.

    Attributes:
        sums: float64 [layers, segments, segments]: attention of a segment's rows (second index) onto a segment's keys.
        onto: float64 [n, segments]: attention of each row onto each segment, summed over layers.
        received: float64 [n]: attention onto each key from all observed rows, summed over layers.
        asked: float64 [layers, n]: attention onto each key from the question's rows.
    """

    def __init__(
        self,
        segment_of_row: torch.Tensor,
        num_segments: int,
        num_layers: int,
        question: int | None = None,
        *,
        only_asked: bool = False,
    ) -> None:
        size = len(segment_of_row)
        self.segment_of_row = segment_of_row
        self._members = torch.nn.functional.one_hot(segment_of_row, num_segments).float()
        self._question, self._only_asked = question, only_asked
        wide = {"dtype": torch.float64, "device": segment_of_row.device}
        self.sums = torch.zeros(num_layers, num_segments, num_segments, **wide)
        self.onto = torch.zeros(size, num_segments, **wide)
        self.received = torch.zeros(size, **wide)
        self.asked = torch.zeros(num_layers if question is not None else 0, size, **wide)

    def saved(self) -> tuple[torch.Tensor, ...]:
        """Copies of all sums, for `restore`."""
        return self.sums.clone(), self.onto.clone(), self.received.clone(), self.asked.clone()

    def restore(self, saved: tuple[torch.Tensor, ...]) -> None:
        """Forget what was observed since.

        Args:
            saved: what `saved` gave; the observer goes on with these very tensors.
        """
        self.sums, self.onto, self.received, self.asked = saved

    def observe(self, layer: int, rows: torch.Tensor, key_rows: torch.Tensor, attention: torch.Tensor) -> None:
        """Add a block of query rows; rows of the answer are left out.

        Args:
            layer: number of the layer.
            rows: LongTensor[r], the query rows.
            key_rows: LongTensor[k], the rows of the keys.
            attention: [r, k], mean over the query heads; each line sums to 1.
        """
        size = len(self.segment_of_row)
        if int(rows[-1]) >= size:
            return
        attention = attention.float()
        segments = self.segment_of_row[rows]
        if self._question is not None:
            asking = segments == self._question
            if bool(asking.any()):
                self.asked[layer].index_add_(0, key_rows, attention[asking].sum(0).double())
        if self._only_asked:
            return
        by_segment = attention @ self._members[key_rows]
        wide = by_segment.double()
        self.onto.index_add_(0, rows, wide)
        self.sums[layer].index_add_(0, segments, wide)
        self.received.index_add_(0, key_rows, attention.sum(0).double())
