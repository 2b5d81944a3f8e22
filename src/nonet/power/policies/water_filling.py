"""Water-filling: the budget is shared over servers by priority and demand.

High priority is served first. Within a class everybody gets what it asks for up to one common limit, the water level,
at which the class has used up its part: small consumers are left alone, big ones are cut to the limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field, model_validator

from nonet.power.policies.protocol import Command, Priority, View
from nonet.power.policies.server_levels import ServerLevelConfig, ServerLevelPolicy


def water_level(demands: Sequence[float], total: float) -> float:
    """The limit L with sum(min(demand, L)) = total; inf when the demands fit.

    >>> water_level([1.0, 4.0, 7.0], 9.0)
    4.0
    """
    left = total
    for rank, demand in enumerate(sorted(demands)):
        share = left / (len(demands) - rank)
        if demand > share:
            return max(0.0, share)
        left -= demand
    return math.inf


class WaterFillingConfig(ServerLevelConfig):
    """Parameters of water-filling."""

    cap_at: float = Field(default=0.89, gt=0, lt=2, description="Row power over budget above which it shares anew.")
    fill_to: float = Field(default=0.85, gt=0, lt=2, description="Share of the budget that is given out.")

    @model_validator(mode="after")
    def _consistent(self) -> WaterFillingConfig:
        if not self.hysteresis < self.fill_to < self.cap_at <= self.brake_at:
            raise ValueError("must be hysteresis < fill_to < cap_at <= brake_at")
        return self


class WaterFilling(ServerLevelPolicy):
    """Budget by priority and demand; see the module."""

    name = "water-filling"
    config_model = WaterFillingConfig

    @property
    def release_below_u(self) -> float:
        """Where levels are raised, too."""
        return self.config.fill_to - self.config.hysteresis

    @property
    def room_u(self) -> float:
        """Above it levels would be cut."""
        return self.config.cap_at

    def _regulate(self, now_s: float, u: float, view: View, settled: bool) -> list[Command]:
        if not settled:
            return []
        shares = self._shares(u, view)
        if u > self.config.cap_at:  # estimates of demand may be off, but nothing is raised in a row that is too high
            shares = {server: min(level, self.capped.get(server, 1.0)) for server, level in shares.items()}
        elif not self.capped or u >= self.config.fill_to - self.config.hysteresis:
            return []
        return self._set(shares, now_s, view, f"u {u:.3f}: shared anew")

    def _shares(self, u: float, view: View) -> dict[int, float]:
        left_w = self.config.fill_to * view.budget_w
        demand_w, levels = self._demand_w(u, view), {}
        for priority in (Priority.HIGH, Priority.LOW):
            own = [server for server, of in enumerate(view.priorities) if of == priority]
            others_w = sum(
                demand_w[server] * (1 - self.config.slope * (1 - self._floor(of)))
                for server, of in enumerate(view.priorities)
                if of < priority
            )  # what lower classes draw even at their floor cannot be given out
            limit_w = water_level([demand_w[server] for server in own], left_w - others_w)
            for server in own:
                share_w = min(demand_w[server], limit_w)
                levels[server] = 1 - (1 - share_w / demand_w[server]) / self.config.slope
                left_w -= share_w
        return levels

    def _bounds(self, now_s: float, view: View, settled: bool) -> tuple[float, float] | None:
        if not settled:
            return -math.inf, math.inf
        low = self.config.fill_to - self.config.hysteresis if self.capped else -math.inf
        return low, math.inf if self._lowest(view) else self.config.cap_at
