"""The services of a row: token ranges, share of the requests, and how much of each is of low priority."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nonet.common.errors import InputError


class Service(BaseModel):
    """One service.

    Args:
        name: what it is called in results.
        prompt_tokens: smallest and largest prompt.
        output_tokens: smallest and largest output.
        share: of all requests; the shares of a mix are scaled to sum to 1.
        low_share: share of its requests that are of low priority.
        lengths: "uniform" over the range, or "log_uniform" (half the requests below the geometric middle).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    prompt_tokens: tuple[int, int]
    output_tokens: tuple[int, int]
    share: float = Field(gt=0)
    low_share: float = Field(ge=0, le=1)
    lengths: Literal["uniform", "log_uniform"] = "uniform"

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for low, high in (self.prompt_tokens, self.output_tokens):
            if not 1 <= low <= high:
                raise ValueError(f"service {self.name!r}: token range {low}-{high} must be 1 <= low <= high")
        return self

    def draw(self, which: Literal["prompt", "output"], uniforms: NDArray[np.float64]) -> NDArray[np.int32]:
        """Token counts for uniforms in [0, 1), int32."""
        low, high = self.prompt_tokens if which == "prompt" else self.output_tokens
        if self.lengths == "log_uniform":
            tokens = np.exp(np.log(low) + uniforms * (np.log(high + 1) - np.log(low)))
        else:
            tokens = low + uniforms * (high + 1 - low)
        return np.minimum(tokens, high).astype(np.int32)

    def mean(self, which: Literal["prompt", "output"]) -> float:
        """Mean tokens, over a fine grid of the law."""
        grid = (np.arange(4096) + 0.5) / 4096
        return float(self.draw(which, grid).mean())


POLCA_MIX: tuple[Service, ...] = (
    Service(name="summarize", prompt_tokens=(2048, 8192), output_tokens=(256, 512), share=0.25, low_share=1.0),
    Service(name="search", prompt_tokens=(512, 2048), output_tokens=(1024, 2048), share=0.25, low_share=0.0),
    Service(name="chat", prompt_tokens=(2048, 4096), output_tokens=(128, 2048), share=0.5, low_share=0.5),
)
"""The mix of the POLCA evaluation: half the requests low, half high priority (from memory of the paper, so open)."""


def check_mix(services: Sequence[Service]) -> None:
    """Raise InputError when the mix is empty or a name stands twice."""
    names = [service.name for service in services]
    if not names:
        raise InputError("services: name at least one")
    doubles = {name for name in names if names.count(name) > 1}
    if doubles:
        raise InputError(f"services: {sorted(doubles)[0]!r} is named twice")


def low_priority_share(services: Sequence[Service]) -> float:
    """Share of low-priority requests of a mix.

    >>> low_priority_share(POLCA_MIX)
    0.5
    """
    total = sum(service.share for service in services)
    return sum(service.share * service.low_share for service in services) / total
