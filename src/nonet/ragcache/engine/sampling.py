"""The next token from logits."""

from __future__ import annotations

import torch


class Sampler:
    """Chooses tokens.

    Args:
        temperature: 0 takes the likeliest.
        top_p: draws from the likeliest tokens that together have this probability.
        seed: of the draws; None for another one each time.

    >>> Sampler().sample(torch.tensor([0.1, 0.9, 0.3]))
    1
    """

    def __init__(self, temperature: float = 0.0, top_p: float = 1.0, seed: int | None = None) -> None:
        self._temperature, self._top_p = temperature, top_p
        self._generator = torch.Generator()
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)

    def sample(self, logits: torch.Tensor) -> int:
        """The next token.

        Args:
            logits: float32 [vocab_size].
        """
        if self._temperature == 0:
            return int(logits.argmax())
        probabilities = (logits.double().cpu() / self._temperature).softmax(-1)
        ranked, order = probabilities.sort(descending=True)
        # The token that passes the bound still counts, so that one always remains.
        ranked[ranked.cumsum(-1) - ranked >= self._top_p] = 0
        return int(order[torch.multinomial(ranked, 1, generator=self._generator)])
