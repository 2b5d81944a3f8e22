"""The next token from logits.

What a request may ask for is done in this order, as vLLM does: no end before `min_tokens`, penalties, temperature,
`min_p`, `top_k`, `top_p`, each on what the one before it left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Penalties:
    """What tokens lose that are there already.

    Args:
        repetition: divides the positive logits of tokens of prompt and answer, multiplies the negative ones (as CTRL).
        frequency: taken off a logit for each time that the token is in the answer.
        presence: taken off once when it is there.

    >>> Penalties(frequency=0.5).is_none, Penalties().is_none
    (False, True)
    """

    repetition: float = 1.0
    frequency: float = 0.0
    presence: float = 0.0

    @property
    def is_none(self) -> bool:
        """Whether they leave all logits as they are."""
        return self == Penalties()


NO_PENALTIES = Penalties()


class Sampler:
    """Chooses the tokens of one answer; what it has chosen counts for penalties and `min_tokens`.

    Args:
        temperature: 0 takes the likeliest.
        top_p: draws from the likeliest tokens that together have this probability.
        seed: of the draws; None for another one each time.
        top_k: draws from so many of the likeliest; 0 for all.
        min_p: draws from tokens with at least this share of the likeliest one's probability.
        penalties: for tokens that are there already.
        prompt_ids: int [n], of the prompt; for the repetition penalty.
        end_ids: tokens that end the answer.
        min_tokens: none of them is chosen before so many.

    >>> Sampler().sample(torch.tensor([0.1, 0.9, 0.3]))
    1
    >>> Sampler(end_ids=[1], min_tokens=1).sample(torch.tensor([0.1, 0.9, 0.3]))
    2
    """

    def __init__(
        self,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        *,
        top_k: int = 0,
        min_p: float = 0.0,
        penalties: Penalties = NO_PENALTIES,
        prompt_ids: NDArray[np.integer] | Sequence[int] = (),
        end_ids: Sequence[int] = (),
        min_tokens: int = 0,
    ) -> None:
        self._temperature, self._top_p, self._top_k, self._min_p = temperature, top_p, top_k, min_p
        self._penalties, self._end_ids, self._min_tokens = penalties, list(end_ids), min_tokens
        self._seen = set(np.unique(np.asarray(prompt_ids)).tolist()) if penalties.repetition != 1 else set()
        self._chosen: Counter[int] = Counter()
        self._num_chosen = 0
        self._generator = torch.Generator()
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)

    def sample(self, logits: torch.Tensor) -> int:
        """The next token.

        Args:
            logits: float32 [vocab_size]; left as they are.
        """
        changed = self._changed(logits)
        token_id = int(changed.argmax()) if self._temperature == 0 else self._draw(changed)
        self._num_chosen += 1
        if not self._penalties.is_none:
            self._chosen[token_id] += 1
        return token_id

    def _changed(self, logits: torch.Tensor) -> torch.Tensor:
        is_early = self._num_chosen < self._min_tokens and bool(self._end_ids)
        if not is_early and self._penalties.is_none:
            return logits
        changed = logits.cpu().to(torch.float64, copy=True)
        if is_early:
            changed[self._end_ids] = -torch.inf
        given = self._penalties
        if given.repetition != 1:
            ids = torch.tensor(sorted(self._seen | self._chosen.keys()), dtype=torch.long)
            values = changed[ids]
            changed[ids] = torch.where(values > 0, values / given.repetition, values * given.repetition)
        if self._chosen:
            ids = torch.tensor(list(self._chosen), dtype=torch.long)
            counts = torch.tensor(list(self._chosen.values()), dtype=torch.float64)
            changed[ids] -= given.frequency * counts + given.presence
        return changed

    def _draw(self, logits: torch.Tensor) -> int:
        values = logits.double().cpu()
        # From the largest on, so that a temperature next to 0 gives no infinite values.
        ranked, order = ((values - values.max()) / self._temperature).softmax(-1).sort(descending=True)
        ranked[ranked < self._min_p * ranked[0]] = 0
        if self._top_k:
            ranked[self._top_k :] = 0
        if self._top_p < 1:
            # The token that passes the bound still counts, so that one always remains.
            ranked[ranked.cumsum(-1) - ranked >= self._top_p * ranked.sum()] = 0
        return int(order[torch.multinomial(ranked, 1, generator=self._generator)])
