"""Policies that give every server its own level, from its own power."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from nonet.power.policies.base import RowConfig, RowPolicy
from nonet.power.policies.polca import LOW_LEVEL
from nonet.power.policies.protocol import Action, Command, Priority, View

HIGH_LEVEL = 1305 / 1410
STEPS = 100
"""Levels are given to hundredths, rounded down: finer ones are none that a clock has."""


class ServerLevelConfig(RowConfig):
    """Parameters of policies with a level for each server."""

    low_floor: float = Field(default=LOW_LEVEL, gt=0, le=1, description="Low priority is never capped below this.")
    high_floor: float = Field(default=HIGH_LEVEL, gt=0, le=1, description="High priority is never capped below this.")
    slope: float = Field(default=0.9, gt=0, le=1, description="Share of server power saved per unit of level.")


class ServerLevelPolicy(RowPolicy):
    """Keeps the level ordered for each capped server; subclasses say how levels follow from power."""

    config_model = ServerLevelConfig

    def reset(self) -> None:
        """Nothing is capped."""
        super().reset()
        self.capped: dict[int, float] = {}

    def _floor(self, priority: int) -> float:
        return float(self.config.low_floor if priority == Priority.LOW else self.config.high_floor)

    def _demand_w(self, u: float, view: View) -> list[float]:
        """What each server would draw uncapped, watts; equal shares without telemetry of servers."""
        num = len(view.priorities)
        mean_w = u * view.budget_w / num
        powers = view.server_power_w or [mean_w] * num
        known = [power if power > 0.0 else mean_w for power in powers]  # NaN is not above 0
        slope = self.config.slope
        return [power / max(0.05, 1 - slope * (1 - view.cap_levels[i])) for i, power in enumerate(known)]

    def _lowest(self, view: View, priorities: tuple[Priority, ...] = (Priority.LOW, Priority.HIGH)) -> bool:
        """Every server of these classes is at its floor."""
        return all(
            self.capped.get(server, 1.0) <= self._floor(priority)
            for server, priority in enumerate(view.priorities)
            if priority in priorities
        )

    def _set(self, levels: Mapping[int, float], now_s: float, view: View, reason: str) -> list[Command]:
        """Commands for the servers whose level, rounded down and held above the floor, is another than ordered last."""
        by_level: dict[float, list[int]] = {}
        for server in sorted(levels):
            level = min(
                1.0, max(self._floor(view.priorities[server]), math.floor(levels[server] * STEPS + 1e-9) / STEPS)
            )
            if level != self.capped.get(server, 1.0):
                by_level.setdefault(level, []).append(server)
        for level, servers in by_level.items():
            self.last_change_s = now_s
            for server in servers:
                self.capped.pop(server, None)
                if level < 1.0:
                    self.capped[server] = level
        return [Command(Action.CAP, tuple(servers), level, reason) for level, servers in sorted(by_level.items())]

    def _when_blind(self, now_s: float, view: View, settled: bool) -> list[Command]:
        """Low priority to its floor."""
        low = {server: 0.0 for server, priority in enumerate(view.priorities) if priority == Priority.LOW}
        return self._set(low, now_s, view, "no telemetry")

    def _saved(self) -> dict[str, Any]:
        return {"capped": {str(server): level for server, level in sorted(self.capped.items())}}

    def _load(self, state: dict[str, Any]) -> None:
        self.capped = {int(server): float(level) for server, level in state["capped"].items()}
