"""Linear-chain conditional random field over tag sequences.

Lafferty, McCallum, Pereira: "Conditional Random Fields", ICML 2001. The score of tags y for emissions e is
start[y_1] + sum_t e[t, y_t] + sum_t transition[y_(t-1), y_t] + end[y_T]; probabilities are its softmax over all y.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LinearChainCRF(nn.Module):
    """The layer with its three parameter tables.

    Batches are padded on the right: `mask`, bool of shape (batch, length), is true on real tokens, the first included.

    Args:
        num_tags: number of tags.
    """

    def __init__(self, num_tags: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.empty(num_tags).uniform_(-0.1, 0.1))
        self.end = nn.Parameter(torch.empty(num_tags).uniform_(-0.1, 0.1))
        self.transition = nn.Parameter(torch.empty(num_tags, num_tags).uniform_(-0.1, 0.1))

    def log_likelihood(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Log-probability of the given tags.

        Args:
            emissions: shape (batch, length, num_tags).
            tags: int64, shape (batch, length).
            mask: see the class.

        Returns:
            Shape (batch,).
        """
        return self._score(emissions, tags, mask) - self._log_partition(emissions, mask)

    def _score(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        real = mask.to(emissions.dtype)
        emitted = (emissions.gather(2, tags[:, :, None])[:, :, 0] * real).sum(1)
        moved = (self.transition[tags[:, :-1], tags[:, 1:]] * real[:, 1:]).sum(1)
        last = tags.gather(1, mask.sum(1, keepdim=True) - 1)[:, 0]
        return self.start[tags[:, 0]] + emitted + moved + self.end[last]

    def _log_partition(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Forward algorithm."""
        alpha = self.start + emissions[:, 0]
        for step in range(1, emissions.shape[1]):
            grown = torch.logsumexp(alpha[:, :, None] + self.transition, dim=1) + emissions[:, step]
            alpha = torch.where(mask[:, step, None], grown, alpha)
        return torch.logsumexp(alpha + self.end, dim=1)

    @torch.no_grad()
    def decode(self, emissions: Tensor, mask: Tensor) -> list[list[int]]:
        """The most probable tags of every sequence (Viterbi)."""
        best = self.start + emissions[:, 0]
        came_from = []
        for step in range(1, emissions.shape[1]):
            grown, previous = (best[:, :, None] + self.transition).max(dim=1)
            best = torch.where(mask[:, step, None], grown + emissions[:, step], best)
            came_from.append(previous)
        last = (best + self.end).argmax(dim=1).tolist()
        lengths = mask.sum(1).tolist()
        return [
            self._walk_back([previous[row] for previous in came_from[: length - 1]], tag)
            for row, (tag, length) in enumerate(zip(last, lengths, strict=True))
        ]

    @staticmethod
    def _walk_back(came_from: list[Tensor], last: int) -> list[int]:
        path = [last]
        for previous in reversed(came_from):
            path.append(int(previous[path[-1]]))
        return path[::-1]
