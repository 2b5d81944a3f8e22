"""What the command ledger knows of one server, and how that is written down."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from nonet.power.policies.protocol import Action


@dataclass(slots=True)
class Flight:
    """A write on its way, or about to be sent again."""

    action: Action
    level: float
    key: str
    attempt: int = 0
    due_s: float = math.inf
    sent: bool = False  # False while it pauses after a refusal or waits for a fresh sample


@dataclass(slots=True)
class Line:
    """One server. `cap` and `braked` are None when a write may or may not have changed them."""

    target: float = 1.0
    brake: bool = False
    cap: float | None = 1.0
    braked: bool | None = False
    read: float = 1.0  # cap level as last read back
    lowest: float = 1.0  # the lowest cap level that may be in effect
    given_up: bool = False
    again_s: float = math.inf  # when an order that was given up is taken up again
    flight: Flight | None = None
    retired: list[Flight] = field(default_factory=list)

    @property
    def due_s(self) -> float:
        """When something has to be done about this server; inf when nothing waits for time to pass."""
        return self.again_s if self.flight is None else self.flight.due_s


def finite(value: float) -> float | None:
    """JSON has no infinity: None in its place."""
    return value if math.isfinite(value) else None


def number(value: float | None, otherwise: float) -> float:
    """The way back."""
    return otherwise if value is None else float(value)


def line_values(line: Line) -> dict[str, Any]:
    """As `dataclasses.asdict`, which takes seconds for a row of tens of thousands."""
    flight = None if line.flight is None else _flight_values(line.flight)
    retired = [_flight_values(old) for old in line.retired]
    return {name: getattr(line, name) for name in line.__slots__} | {
        "again_s": finite(line.again_s),
        "flight": flight,
        "retired": retired,
    }


def _flight_values(flight: Flight) -> dict[str, Any]:
    values = {name: getattr(flight, name) for name in flight.__slots__}
    return values | {"due_s": finite(flight.due_s), "action": str(flight.action)}


def line_of(saved: dict[str, Any]) -> Line:
    """The line that `line_values` wrote down."""
    flight = None if saved["flight"] is None else _flight_of(saved["flight"])
    retired = [_flight_of(values) for values in saved["retired"]]
    again_s = number(saved["again_s"], math.inf)
    return Line(**{**saved, "again_s": again_s, "retired": retired, "flight": flight})


def _flight_of(saved: dict[str, Any]) -> Flight:
    return Flight(**{**saved, "due_s": number(saved["due_s"], math.inf), "action": Action(saved["action"])})
