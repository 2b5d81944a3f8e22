"""The baselines that POLCA was compared with: one threshold, or none. All have its hysteresis, settling and brake."""

from __future__ import annotations

import math

from pydantic import Field, model_validator

from nonet.power.policies.base import RowConfig
from nonet.power.policies.modes import ModePolicy
from nonet.power.policies.polca import LOW_LEVEL
from nonet.power.policies.protocol import View


class OneThresholdConfig(RowConfig):
    """Parameters of the policies with one threshold."""

    threshold: float = Field(default=0.89, gt=0, lt=2, description="Row power over budget above which it caps.")
    level: float = Field(default=LOW_LEVEL, gt=0, le=1, description="The level of capped servers.")

    @model_validator(mode="after")
    def _consistent(self) -> OneThresholdConfig:
        if not self.hysteresis < self.threshold <= self.brake_at:
            raise ValueError(f"threshold {self.threshold:g} must be above the hysteresis and not above brake_at")
        return self


class OneThresholdLow(ModePolicy):
    """1-Thresh-Low-Pri: above the threshold low priority is capped.

    >>> OneThresholdLow().levels
    ((1.0, 1.0), (0.7872340425531915, 1.0))
    """

    name = "one-threshold-low"
    config_model = OneThresholdConfig

    @property
    def levels(self) -> tuple[tuple[float, float], ...]:
        """Levels of modes 0 and 1."""
        return (1.0, 1.0), (self.config.level, 1.0)

    @property
    def release_below_u(self) -> float:
        """The threshold less the hysteresis."""
        return self.config.threshold - self.config.hysteresis

    @property
    def room_u(self) -> float:
        """The threshold."""
        return self.config.threshold

    def _next_mode(self, u: float, settled: bool) -> int:
        if u > self.config.threshold:
            return 1
        return 0 if settled and u < self.config.threshold - self.config.hysteresis else self.mode

    def _bounds(self, now_s: float, view: View, settled: bool) -> tuple[float, float] | None:
        if self.mode == 0:
            return -math.inf, self.config.threshold
        return (self.config.threshold - self.config.hysteresis if settled else -math.inf), math.inf


class OneThresholdAll(OneThresholdLow):
    """1-Thresh-All: above the threshold everyone is capped."""

    name = "one-threshold-all"

    @property
    def levels(self) -> tuple[tuple[float, float], ...]:
        """Levels of modes 0 and 1."""
        return (1.0, 1.0), (self.config.level, self.config.level)


class NoCapConfig(RowConfig):
    """Parameters of No-cap."""

    release_at: float = Field(default=0.89, gt=0, lt=2, description="A brake is released this less the hysteresis.")


class NoCap(ModePolicy):
    """No-cap: nothing but the brake. Blind it does nothing: it has no caps to fall back on."""

    name = "no-cap"
    config_model = NoCapConfig

    @property
    def levels(self) -> tuple[tuple[float, float], ...]:
        """Mode 0 only."""
        return ((1.0, 1.0),)

    @property
    def release_below_u(self) -> float:
        """`release_at` less the hysteresis, as for the others."""
        return self.config.release_at - self.config.hysteresis

    @property
    def room_u(self) -> float:
        """`release_at`."""
        return self.config.release_at

    def _next_mode(self, u: float, settled: bool) -> int:
        return 0

    def _bounds(self, now_s: float, view: View, settled: bool) -> tuple[float, float] | None:
        return -math.inf, math.inf
