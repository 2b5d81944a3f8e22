"""A sampled check in running service: would full recomputation have said the same?

Some requests keep the logits of their first tokens. When nobody waits, the same tokens are scored with everything
computed, and the distance of the two distributions is told. Reuse is an approximation whose error nobody would see.
Requests that took nothing over, or exact prefixes only, have no such error and do not count: the mean would hide it.

At most 8 checks wait; while they do, no more requests are drawn. On a server that is never idle one of them begins
every minute beside the requests, when there are pages for it: the alarm then costs one prompt a minute that is
computed in full.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from nonet.common.console import note
from nonet.common.errors import InputError

MAX_TOKENS = 32
"""Tokens of an answer that are compared; their logits are kept meanwhile, vocabulary x 4 bytes each."""


@dataclass(frozen=True, slots=True)
class ShadowConfig:
    """How often to check, and when to be alarmed.

    Args:
        rate: share of the requests with approximate KV that are checked, at most.
        limit: mean KL in nats that is still fine.
        window: checks over which the mean is taken.

    Raises:
        InputError: numbers outside their range.

    >>> ShadowConfig(rate=0.02, limit=0.05).window
    50
    >>> ShadowConfig(rate=2)
    Traceback (most recent call last):
    nonet.common.errors.InputError: shadow check: rate within 0 and 1, limit above 0, window 1 or more
    """

    rate: float = 0.0
    limit: float = 0.1
    window: int = 50

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1 or self.limit <= 0 or self.window < 1:
            raise InputError("shadow check: rate within 0 and 1, limit above 0, window 1 or more")


NO_SHADOW = ShadowConfig()


class ShadowCheck:
    """Draws requests, compares, and raises the alarm.

    Args:
        config: how often.
        on_result: told the KL of every check.
        seed: of the draws.
    """

    def __init__(
        self, config: ShadowConfig, on_result: Callable[[float], None] = lambda _: None, seed: int | None = None
    ) -> None:
        self.config = config
        self._on_result = on_result
        self._draws = random.Random(seed)
        self._recent: deque[float] = deque(maxlen=config.window)
        self.num_checks = 0
        self.is_alarmed = False

    def is_drawn(self) -> bool:
        """Whether the next request is checked, if it turns out to take something over inexactly."""
        return self._draws.random() < self.config.rate

    @property
    def mean(self) -> float:
        """Mean KL of the last checks; 0 before the first."""
        return sum(self._recent) / len(self._recent) if self._recent else 0.0

    def compare(self, served: Sequence[torch.Tensor], full: Sequence[torch.Tensor]) -> float:
        """Take in one check.

        Args:
            served: logits of the answer's tokens as they were served.
            full: of the same tokens with everything computed.

        Returns:
            Mean KL(full || served), nats.
        """
        size = min(len(served), len(full))
        first = torch.stack(list(full[:size])).double().log_softmax(-1)
        second = torch.stack(list(served[:size])).double().log_softmax(-1)
        distance = float((first.exp() * (first - second)).sum(-1).mean())
        self._recent.append(distance)
        self.num_checks += 1
        self._on_result(distance)
        was_alarmed, self.is_alarmed = self.is_alarmed, self.mean > self.config.limit
        if self.is_alarmed and not was_alarmed:
            note(
                f"shadow check: answers differ from full recomputation by {self.mean:.3g} nats a token on average, "
                f"more than {self.config.limit:g}; raise alpha, or serve with mode full"
            )
        return distance
