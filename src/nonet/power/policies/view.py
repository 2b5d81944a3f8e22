"""A row as plain values: the `View` of shadow mode and of tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from nonet.common.errors import InputError
from nonet.power.policies.protocol import Priority


@dataclass
class RowView:
    """What a policy may know of a row, as values that the owner may change between calls.

    Raises:
        InputError: a budget that is not positive.

    >>> RowView.uniform(4, 0.5, budget_w=20e3).priorities
    (<Priority.LOW: 0>, <Priority.LOW: 0>, <Priority.HIGH: 1>, <Priority.HIGH: 1>)
    """

    budget_w: float
    priorities: Sequence[int]
    telemetry_period_s: float = 2.0
    cap_latency_s: float = 40.0
    brake_latency_s: float = 5.0
    cap_levels: Sequence[float] = field(default_factory=tuple)
    server_power_w: Sequence[float] | None = None
    in_flight: bool = False
    last_landed_s: float = -math.inf

    def __post_init__(self) -> None:
        if not 0 < self.budget_w < math.inf:
            raise InputError(f"budget {self.budget_w!r} W is not positive; give the budget of the row in watts")
        if not self.priorities:
            raise InputError("the row has no servers")
        if not self.cap_levels:
            self.cap_levels = [1.0] * len(self.priorities)

    @classmethod
    def uniform(cls, num_servers: int, low_priority_share: float, budget_w: float) -> RowView:
        """A row whose first servers, by share, are of low priority."""
        num_low = round(num_servers * low_priority_share)
        return cls(budget_w, (Priority.LOW,) * num_low + (Priority.HIGH,) * (num_servers - num_low))
