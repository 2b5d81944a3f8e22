"""POLCA's policy: two thresholds, two priorities (ASPLOS 2024, Algorithm 1).

mode  entered when                        low priority  high priority  left when (and settled)
0     at the start                        uncapped      uncapped
1     u > T1                              1275 MHz      uncapped       u < T1 - hysteresis -> 0
2     u > T2, at once                     1110 MHz      uncapped       u < T2 - hysteresis -> 1
3     u > T2 although 2 has taken effect  1110 MHz      1305 MHz       u < T2 - hysteresis -> 2
brake u > 1.00                            288 MHz       288 MHz        see `release`

u is row power over the budget of now; clocks are those of an A100 (levels are fractions of 1410 MHz). The way up needs
no settling except from 2 to 3; the way down takes one mode at a time, each only when the one before has settled. A
whole-row brake freezes the mode. Blind (no usable sample for three periods) it enters mode 2, then mode 3 once that has
settled.
"""

from __future__ import annotations

import math

from pydantic import Field, model_validator

from nonet.power.policies.base import RowConfig
from nonet.power.policies.modes import ModePolicy
from nonet.power.policies.protocol import View

MAX_MHZ = 1410.0
BASE_LEVEL = 1275 / MAX_MHZ
LOW_LEVEL = 1110 / MAX_MHZ
HIGH_LEVEL = 1305 / MAX_MHZ


class PolcaConfig(RowConfig):
    """Parameters of POLCA."""

    t1: float = Field(default=0.80, gt=0, lt=2, description="Threshold of mode 1, row power over budget.")
    t2: float = Field(default=0.89, gt=0, lt=2, description="Threshold of modes 2 and 3.")
    lp_levels: tuple[float, float] = Field(
        default=(BASE_LEVEL, LOW_LEVEL), description="Low-priority levels in mode 1 and in modes 2 and 3."
    )
    hp_level: float = Field(default=HIGH_LEVEL, gt=0, le=1, description="High-priority level in mode 3.")

    @model_validator(mode="after")
    def _consistent(self) -> PolcaConfig:
        if self.t1 >= self.t2:
            raise ValueError(f"t1 {self.t1:g} is not below t2 {self.t2:g}; lower t1 or raise t2")
        if self.t2 > self.brake_at:
            raise ValueError(f"t2 {self.t2:g} is above brake_at {self.brake_at:g}; lower t2")
        if self.hysteresis >= self.t1:
            raise ValueError(f"hysteresis {self.hysteresis:g} is not below t1 {self.t1:g}; lower it")
        if not 0 < self.lp_levels[1] <= self.lp_levels[0] <= 1:
            raise ValueError(f"lp_levels {self.lp_levels} must be in (0, 1], the second not above the first")
        return self


class Polca(ModePolicy):
    """POLCA; see the module for its modes and `PolcaConfig` for its parameters.

    >>> Polca(t1=0.75, t2=0.85).levels[1]
    (0.9042553191489362, 1.0)
    >>> Polca(t1=0.9, t2=0.85)
    Traceback (most recent call last):
    nonet.common.errors.InputError: polca: values: t1 0.9 is not below t2 0.85; lower t1 or raise t2
    """

    name = "polca"
    config_model = PolcaConfig

    @property
    def levels(self) -> tuple[tuple[float, float], ...]:
        """Levels of modes 0 to 3."""
        first, second = self.config.lp_levels
        return (1.0, 1.0), (first, 1.0), (second, 1.0), (second, self.config.hp_level)

    @property
    def release_below_u(self) -> float:
        """T2 less the hysteresis."""
        return self.config.t2 - self.config.hysteresis

    @property
    def room_u(self) -> float:
        """T2."""
        return self.config.t2

    def _next_mode(self, u: float, settled: bool) -> int:
        config, mode = self.config, self.mode
        if u > config.t2:
            mode = 3 if mode == 3 or (mode == 2 and settled) else 2
        elif u > config.t1:
            mode = max(mode, 1)
        if settled and mode >= 2 and u < config.t2 - config.hysteresis:
            return mode - 1
        if settled and mode == 1 and u < config.t1 - config.hysteresis:
            return 0
        return mode

    def _bounds(self, now_s: float, view: View, settled: bool) -> tuple[float, float] | None:
        config = self.config
        down = {0: -math.inf, 1: config.t1 - config.hysteresis}.get(self.mode, config.t2 - config.hysteresis)
        up = {0: config.t1, 1: config.t2, 2: config.t2 if settled else math.inf}.get(self.mode, math.inf)
        return (down if settled else -math.inf), up
