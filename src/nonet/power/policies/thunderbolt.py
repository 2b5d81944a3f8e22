"""Thunderbolt (Li et al., OSDI 2020): multiplicative decrease at two thresholds, randomised unthrottling.

Only low priority is throttled: gently above the lower threshold, as far as allowed above the upper one, and as far as
allowed when telemetry is lost. Unthrottled are some servers at a time, drawn at random, so that they do not come back
together. Multipliers are remembered of the paper; where caps are clocks, a floor bounds them.
"""

from __future__ import annotations

import math
import random
from typing import Any

from pydantic import Field, model_validator

from nonet.power.policies.protocol import Command, Priority, View
from nonet.power.policies.server_levels import ServerLevelConfig, ServerLevelPolicy


class ThunderboltConfig(ServerLevelConfig):
    """Parameters of Thunderbolt."""

    low_floor: float = Field(default=0.5, gt=0, le=1, description="Low priority is never capped below this.")
    soft_at: float = Field(default=0.89, gt=0, lt=2, description="Above this levels fall by soft_multiplier.")
    hard_at: float = Field(default=0.96, gt=0, lt=2, description="Above this levels fall by hard_multiplier.")
    soft_multiplier: float = Field(default=0.75, gt=0, lt=1, description="Gentle decrease.")
    hard_multiplier: float = Field(default=0.01, gt=0, lt=1, description="Decrease in an emergency.")
    unthrottle_share: float = Field(default=0.25, gt=0, le=1, description="Share of servers unthrottled at a time.")
    seed: int = Field(default=0, ge=0, description="Of the draw of servers.")

    @model_validator(mode="after")
    def _consistent(self) -> ThunderboltConfig:
        if not self.hysteresis < self.soft_at < self.hard_at <= self.brake_at:
            raise ValueError("thresholds must be hysteresis < soft_at < hard_at <= brake_at")
        return self


class Thunderbolt(ServerLevelPolicy):
    """Two thresholds, multiplicative decrease; see the module."""

    name = "thunderbolt"
    config_model = ThunderboltConfig

    @property
    def release_below_u(self) -> float:
        """Where servers are unthrottled, too."""
        return self.config.soft_at - self.config.hysteresis

    @property
    def room_u(self) -> float:
        """The lower threshold."""
        return self.config.soft_at

    def reset(self) -> None:
        """Nothing is capped, nothing drawn."""
        super().reset()
        self.draws = 0

    def _regulate(self, now_s: float, u: float, view: View, settled: bool) -> list[Command]:
        config = self.config
        if u > config.hard_at:
            return self._decrease(config.hard_multiplier, now_s, view, f"u {u:.3f} > {config.hard_at:g}")
        if settled and u > config.soft_at:
            return self._decrease(config.soft_multiplier, now_s, view, f"u {u:.3f} > {config.soft_at:g}")
        if settled and self.capped and u < config.soft_at - config.hysteresis:
            return self._unthrottle(now_s, u, view)
        return []

    def _decrease(self, multiplier: float, now_s: float, view: View, reason: str) -> list[Command]:
        low = [server for server, priority in enumerate(view.priorities) if priority == Priority.LOW]
        return self._set({server: multiplier * self.capped.get(server, 1.0) for server in low}, now_s, view, reason)

    def _unthrottle(self, now_s: float, u: float, view: View) -> list[Command]:
        num_low = sum(priority == Priority.LOW for priority in view.priorities)
        num = min(len(self.capped), math.ceil(self.config.unthrottle_share * num_low))
        drawn = random.Random(f"{self.config.seed}-{self.draws}").sample(sorted(self.capped), num)
        self.draws += 1
        return self._set(dict.fromkeys(drawn, 1.0), now_s, view, f"u {u:.3f}: {num} servers unthrottled")

    def _bounds(self, now_s: float, view: View, settled: bool) -> tuple[float, float] | None:
        config = self.config
        lowest = self._lowest(view, (Priority.LOW,))
        if not settled:
            return -math.inf, math.inf if lowest else config.hard_at
        low = config.soft_at - config.hysteresis if self.capped else -math.inf
        return low, math.inf if lowest else config.soft_at

    def _saved(self) -> dict[str, Any]:
        return {**super()._saved(), "draws": self.draws}

    def _load(self, state: dict[str, Any]) -> None:
        super()._load(state)
        self.draws = int(state["draws"])
