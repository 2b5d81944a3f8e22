"""Policies that are a ladder of modes: each mode has a level for low and one for high priority."""

from __future__ import annotations

from typing import Any

from nonet.power.policies.base import CappingPolicy
from nonet.power.policies.protocol import Command, View


class ModePolicy(CappingPolicy):
    """A ladder of modes. Subclasses say the levels of each mode, which mode follows, and where nothing follows."""

    def reset(self) -> None:
        """Mode 0, nothing capped."""
        super().reset()
        self.mode = 0

    @property
    def levels(self) -> tuple[tuple[float, float], ...]:
        """(low-priority level, high-priority level) of each mode."""
        raise NotImplementedError

    def _next_mode(self, u: float, settled: bool) -> int:
        raise NotImplementedError

    def _blind_mode(self, settled: bool) -> int:
        """The strictest mode but one at once, the strictest when that has taken effect and there still is no sample."""
        last = len(self.levels) - 1
        return max(self.mode, last if settled and self.mode == last - 1 else min(2, last))

    def _regulate(self, now_s: float, u: float, view: View, settled: bool) -> list[Command]:
        return self._enter(self._next_mode(u, settled), now_s, view, f"u {u:.3f}")

    def _when_blind(self, now_s: float, view: View, settled: bool) -> list[Command]:
        return self._enter(self._blind_mode(settled), now_s, view, "no telemetry")

    def _enter(self, mode: int, now_s: float, view: View, why: str) -> list[Command]:
        if mode != self.mode:
            why = f"{why}: mode {self.mode} -> {mode}"
            self.mode, self.last_change_s = mode, now_s
        low, high = self.levels[self.mode]
        return self._order(now_s, low, high, view, why)

    def _saved(self) -> dict[str, Any]:
        return {**super()._saved(), "mode": self.mode}

    def _load(self, state: dict[str, Any]) -> None:
        super()._load(state)
        mode = int(state["mode"])
        if not 0 <= mode < len(self.levels):
            raise ValueError(f"mode {mode}")
        self.mode = mode
