"""Shadow mode: what a policy would have done on recorded row power.

The loop is open: commands land after their latency, as far as the policy can see, and the recorded power stays what it
was. So it shows when the policy would have acted, not what that would have done; `simulate` shows that.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nonet.power.policies.ledger import CommandLedger, LedgerConfig, Write
from nonet.power.policies.protocol import Action, Command, Policy, Priority, Sample
from nonet.power.policies.view import RowView

_GRACE_S = 4.0
_JUST_BEFORE_S = 1e-9


@dataclass(frozen=True, slots=True)
class ShadowCommand:
    """One command that would have been given.

    Attributes:
        time_s: when, on the clock of the series.
        utilization: the sample that led to it, over the budget; NaN when there was none.
        mode: of the policy afterwards; None where it has no modes.
        command: what it said.
    """

    time_s: float
    utilization: float
    mode: int | None
    command: Command

    def to_dict(self) -> dict[str, Any]:
        """One JSON object."""
        servers = self.command.servers
        return {
            "time_s": self.time_s,
            "action": str(self.command.action),
            "servers": servers.name.lower() if isinstance(servers, Priority) else list(servers),
            "level": self.command.level,
            "utilization": None if math.isnan(self.utilization) else self.utilization,
            "mode": self.mode,
            "reason": self.command.reason,
        }


def shadow(times_s: Sequence[float], power_w: Sequence[float], policy: Policy, view: RowView) -> list[ShadowCommand]:
    """The commands of a policy on a series of row power, in order.

    Args:
        times_s: of the samples, ascending; one call of the policy each.
        power_w: row power; NaN where a sample is missing: the policy then sees the last one, growing old.
        policy: a fresh one.
        view: budget, classes and latencies; its state of commands is kept here.

    >>> from nonet.power.policies.polca import Polca
    >>> found = shadow([0.0, 2.0, 4.0], [700.0, 850.0, 1010.0], Polca(), RowView.uniform(2, 0.5, budget_w=1000.0))
    >>> [(one.time_s, str(one.command.action), one.command.level) for one in found]
    [(2.0, 'cap', 0.9042553191489362), (4.0, 'brake', 1.0)]
    """
    ledger = CommandLedger(
        view.priorities,
        LedgerConfig(cap_timeout_s=view.cap_latency_s + _GRACE_S, brake_timeout_s=view.brake_latency_s + _GRACE_S),
        "shadow",
    )
    plant = _OpenLoop(ledger, view)
    found: list[ShadowCommand] = []
    sample: Sample | None = None
    for now_s, watts in zip(map(float, times_s), map(float, power_w), strict=True):
        plant.land(now_s - _JUST_BEFORE_S)
        if not math.isnan(watts):
            sample = Sample(watts, now_s)
            if 0 < watts < math.inf:
                ledger.note_sample(now_s)
        plant.land(now_s)
        plant.send(ledger.advance(now_s), now_s)
        plant.show()
        for command in policy.decide(now_s, sample, view):
            used = math.nan if sample is None else sample.power_w / view.budget_w
            found.append(ShadowCommand(now_s, used, getattr(policy, "mode", None), command))
            plant.send(ledger.submit(command, now_s), now_s)
    return found


class _OpenLoop:
    """Writes that land after their latency, always."""

    def __init__(self, ledger: CommandLedger, view: RowView) -> None:
        self.ledger, self.view = ledger, view
        self.landing: list[tuple[float, int, str]] = []
        self.number = 0

    def send(self, writes: Iterable[Write], now_s: float) -> None:
        for write in writes:
            latency_s = self.view.cap_latency_s if write.action is Action.CAP else self.view.brake_latency_s
            self.number += 1
            heapq.heappush(self.landing, (now_s + latency_s, self.number, write.key))

    def land(self, until_s: float) -> None:
        while self.landing and self.landing[0][0] <= until_s:
            at_s, _, key = heapq.heappop(self.landing)
            self.send(self.ledger.confirm(key, at_s), at_s)

    def show(self) -> None:
        self.view.in_flight = self.ledger.in_flight
        self.view.cap_levels = self.ledger.cap_levels
        self.view.last_landed_s = self.ledger.last_landed_s
