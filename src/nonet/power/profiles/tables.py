"""The measured tables inside a profile, and where each of its quantities comes from."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Points = tuple[float, ...]
Kind = Literal["measured", "fitted", "borrowed", "assumed"]

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
_MAX_POINTS = 4096


class Provenance(BaseModel):
    """Where a quantity of a profile comes from, and how far it is off on points that it has not seen.

    Attributes:
        kind: "measured" points, a curve "fitted" to them, "borrowed" from other hardware or another model, or
            "assumed". What is borrowed or assumed counts as extrapolated in every prediction.
        source: where the numbers come from.
        held_out: mean absolute relative error by kind of split, e.g. {"rows": 0.011, "cells": 0.04}.
        num_points: how many points it rests on.
    """

    model_config = _FROZEN

    kind: Kind
    source: str = Field(min_length=1)
    held_out: dict[str, float] = Field(default_factory=dict)
    num_points: int = Field(default=0, ge=0)

    @property
    def stands_on_data(self) -> bool:
        """Whether it was measured on this hardware and model."""
        return self.kind in ("measured", "fitted")


class PrefillTable(BaseModel):
    """Time and power of a prompt phase by its tokens (prompt x batch), at level 1.

    Attributes:
        tokens: rising, (n,).
        seconds: of the whole phase at batch 1, (n,).
        watts: peak power of each GPU in the phase, (n,).
        batches: (m,); factors are linear in log2(batch) between them, constant beyond them.
        seconds_factor: (m,), time of a batch of b prompts over that of one prompt of as many tokens.
        watts_factor: (m,), power likewise.
        range_tokens: the tokens that were measured, lowest and highest.

    Raises:
        ValidationError: (a ValueError) lengths differ, tokens do not rise, or a number is not positive.
    """

    model_config = _FROZEN

    tokens: Points = Field(min_length=1, max_length=_MAX_POINTS)
    seconds: Points
    watts: Points
    batches: Points = (1.0,)
    seconds_factor: Points = (1.0,)
    watts_factor: Points = (1.0,)
    range_tokens: tuple[float, float]

    @model_validator(mode="after")
    def _check(self) -> PrefillTable:
        _check_points("tokens", self.tokens, {"seconds": self.seconds, "watts": self.watts})
        _check_points(
            "batches", self.batches, {"seconds_factor": self.seconds_factor, "watts_factor": self.watts_factor}
        )
        return self

    def factors(self, batch: float) -> tuple[float, float]:
        """Factors on time and power for a batch of `batch` prompts."""
        at = math.log2(batch)
        xs = [math.log2(b) for b in self.batches]
        return _interpolate(at, xs, self.seconds_factor), _interpolate(at, xs, self.watts_factor)


class DecodeTable(BaseModel):
    """Time of a token and power of each GPU while decoding, by sequences in the batch, at level 1.

    Attributes:
        batch: rising, (n,).
        seconds_per_token: time of one step of the whole batch, (n,).
        watts: of each GPU, (n,).
        range_batch: the batches whose time was measured.
        range_batch_power: those whose power was.
    """

    model_config = _FROZEN

    batch: Points = Field(min_length=1, max_length=_MAX_POINTS)
    seconds_per_token: Points
    watts: Points
    range_batch: tuple[float, float]
    range_batch_power: tuple[float, float]

    @model_validator(mode="after")
    def _check(self) -> DecodeTable:
        _check_points("batch", self.batch, {"seconds_per_token": self.seconds_per_token, "watts": self.watts})
        return self


def _check_points(name: str, xs: Points, columns: dict[str, Points]) -> None:
    if any(b <= a for a, b in pairwise(xs)) or xs[0] <= 0:
        raise ValueError(f"{name} must rise and be positive")
    for column, ys in columns.items():
        if len(ys) != len(xs):
            raise ValueError(f"{column} has {len(ys)} points, {name} has {len(xs)}")
        if min(ys) <= 0:
            raise ValueError(f"{column} must be positive")


def _interpolate(x: float, xs: list[float], ys: Points) -> float:
    if x <= xs[0]:
        return ys[0]
    for (x0, y0), (x1, y1) in pairwise(zip(xs, ys, strict=True)):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return ys[-1]
