"""Dynamo (Wu et al., ISCA 2016): three bands, low priority and big consumers first, never below a floor.

Above `cap_at` it takes the watts down to `target`; below `uncap_at` it lifts every cap; in between it holds. The bands
are those remembered of the paper and are configuration. In the paper capping takes seconds; behind a slow control
path the upper band lies too near the budget, which is the comparison.
"""

from __future__ import annotations

import math

from pydantic import Field, model_validator

from nonet.power.policies.protocol import Command, Priority, View
from nonet.power.policies.server_levels import ServerLevelConfig, ServerLevelPolicy


class DynamoConfig(ServerLevelConfig):
    """Parameters of Dynamo."""

    cap_at: float = Field(default=0.99, gt=0, lt=2, description="Row power over budget above which it caps.")
    target: float = Field(default=0.95, gt=0, lt=2, description="And down to which.")
    uncap_at: float = Field(default=0.90, gt=0, lt=2, description="Below this every cap is lifted.")
    bucket_w: float = Field(default=250.0, gt=0, description="Width of the buckets of server power, watts.")

    @model_validator(mode="after")
    def _consistent(self) -> DynamoConfig:
        if not self.uncap_at < self.target < self.cap_at <= self.brake_at:
            raise ValueError("bands must be uncap_at < target < cap_at <= brake_at")
        return self


class Dynamo(ServerLevelPolicy):
    """Three bands; see the module."""

    name = "dynamo"
    config_model = DynamoConfig

    @property
    def release_below_u(self) -> float:
        """Where caps are lifted, too."""
        return self.config.uncap_at

    @property
    def room_u(self) -> float:
        """The target of a cut."""
        return self.config.target

    def _regulate(self, now_s: float, u: float, view: View, settled: bool) -> list[Command]:
        config = self.config
        if not settled:
            return []
        if u < config.uncap_at:
            return self._set(dict.fromkeys(self.capped, 1.0), now_s, view, f"u {u:.3f} < {config.uncap_at:g}")
        if u > config.cap_at:
            return self._set(self._cuts(u, view), now_s, view, f"u {u:.3f} > {config.cap_at:g}")
        return []

    def _cuts(self, u: float, view: View) -> dict[int, float]:
        """New levels that together save what is above the target, as far as the floors allow."""
        missing_w = (u - self.config.target) * view.budget_w
        demand_w, levels = self._demand_w(u, view), {}
        for priority in (Priority.LOW, Priority.HIGH):
            most_w = {
                server: self.config.slope
                * demand_w[server]
                * max(0.0, self.capped.get(server, 1.0) - self._floor(priority))
                for server, own in enumerate(view.priorities)
                if own == priority
            }
            chosen = self._buckets(most_w, demand_w, missing_w)
            total_w = sum(most_w[server] for server in chosen)
            part = min(1.0, missing_w / total_w) if total_w > 0 else 0.0
            for server in chosen:
                cut = part * most_w[server] / (self.config.slope * demand_w[server])
                levels[server] = self.capped.get(server, 1.0) - cut
            missing_w -= part * total_w
            if missing_w <= 0:
                break
        return levels

    def _buckets(self, most_w: dict[int, float], demand_w: list[float], missing_w: float) -> list[int]:
        """Servers of the highest buckets, as many buckets as the missing watts need."""
        buckets: dict[int, list[int]] = {}
        for server in most_w:
            buckets.setdefault(int(demand_w[server] / self.config.bucket_w), []).append(server)
        chosen: list[int] = []
        for bucket in sorted(buckets, reverse=True):
            if sum(most_w[server] for server in chosen) >= missing_w:
                break
            chosen += buckets[bucket]
        return chosen

    def _bounds(self, now_s: float, view: View, settled: bool) -> tuple[float, float] | None:
        if not settled:
            return -math.inf, math.inf
        low = self.config.uncap_at if self.capped else -math.inf
        return low, math.inf if self._lowest(view) else self.config.cap_at
