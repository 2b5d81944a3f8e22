"""The `View` of a live row: what a policy may know of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nonet.power.controlling.clock import Clock
from nonet.power.controlling.config import RowFile
from nonet.power.policies.ledger import CommandLedger


class RowState:
    """The `View` of a live row."""

    def __init__(self, row: RowFile, ledger: CommandLedger, clock: Clock) -> None:
        self._row, self._ledger, self._clock = row, ledger, clock
        self.priorities: Sequence[int] = ledger.priorities
        self.telemetry_period_s = row.row.telemetry_period_s
        self.cap_latency_s = row.row.cap_latency_s
        self.brake_latency_s = row.row.brake_latency_s
        self.server_power_w: Sequence[float] | None = None

    @property
    def budget_w(self) -> float:
        """Budget now, watts."""
        return self._row.budget_w_at(self._clock.wall_s())

    @property
    def cap_levels(self) -> Sequence[float]:
        """Confirmed cap level of each server."""
        return self._ledger.cap_levels

    @property
    def in_flight(self) -> bool:
        """Whether any command is open."""
        return self._ledger.in_flight

    @property
    def last_landed_s(self) -> float:
        """When a command last took effect."""
        return self._ledger.last_landed_s

    def take_server_power(self, powers: Mapping[int, float] | None) -> None:
        """Per-server powers of the latest reading."""
        if powers is None:
            self.server_power_w = None
        else:
            self.server_power_w = [powers.get(server, math.nan) for server in range(len(self.priorities))]
