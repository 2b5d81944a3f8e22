"""What a policy sees and says: the same four types in the simulator, in shadow mode and in the daemon.

A policy is one object with `decide`. It is handed a row-power sample and a view of the row, and answers with commands.
It never sees a simulator, a BMC or a clock of its own, which is why the object judged in simulation is the object
that runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Protocol, runtime_checkable


class Priority(IntEnum):
    """Class of a server. POLCA caps LOW first."""

    LOW = 0
    HIGH = 1


class Action(StrEnum):
    """What a command does.

    CAP sets the cap level of its servers over the slow path (1.0 lifts the cap). BRAKE drops its servers to the brake
    level over the fast path, RELEASE ends the brake: a released server returns to its cap level.
    """

    CAP = "cap"
    BRAKE = "brake"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of row telemetry.

    Args:
        power_w: mean power of the row over the last telemetry period, watts. NaN or negative when the sensor lies.
        measured_at_s: when it was measured, seconds on the clock that `decide` is called with.
    """

    power_w: float
    measured_at_s: float


@dataclass(frozen=True, slots=True)
class Command:
    """One order of a policy.

    Args:
        action: see `Action`.
        servers: who it concerns: a class, or server indices.
        level: clock as a fraction of the highest clock, in (0, 1]. Given for CAP only; BRAKE and RELEASE take the row's
            brake level and the server's own cap level.
        reason: a short text for the journal, such as "u 0.91 > T2 0.89".
    """

    action: Action
    servers: Priority | tuple[int, ...]
    level: float = 1.0
    reason: str = ""


class View(Protocol):
    """What a policy may know of the row besides the sample. Read only."""

    @property
    def budget_w(self) -> float:
        """Budget of the row now, watts; changes when a budget schedule says so."""

    @property
    def telemetry_period_s(self) -> float:
        """Time between samples, seconds (2 in the paper)."""

    @property
    def cap_latency_s(self) -> float:
        """Longest time a CAP needs to land, seconds (40 out of band)."""

    @property
    def brake_latency_s(self) -> float:
        """Longest time a BRAKE needs to land, seconds (5)."""

    @property
    def priorities(self) -> Sequence[int]:
        """`Priority` of each server, by server index."""

    @property
    def cap_levels(self) -> Sequence[float]:
        """Cap level in effect on each server, as confirmed by read-back; 1.0 is uncapped."""

    @property
    def server_power_w(self) -> Sequence[float] | None:
        """Latest power of each server, watts; None when the row has no per-server telemetry."""

    @property
    def in_flight(self) -> bool:
        """Whether any command has been issued and neither confirmed nor given up."""

    @property
    def last_landed_s(self) -> float:
        """When a command last took effect, seconds; -inf before the first."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """A promise: `decide` would answer no commands and not change state while these bounds hold.

    It lets the simulator run thousands of ticks without coming back to Python. The promise ends at the first sample
    outside (low_w, high_w) (NaN is outside), at the first period without a new sample, when a command lands or fails,
    when the budget changes, or at `until_s`. Only who honours promises may ask for one: the next `decide` takes it as
    a fact that every sample left out lay inside.

    Args:
        low_w: samples must stay above this, watts.
        high_w: and below this, watts.
        until_s: and before this time, seconds.
    """

    low_w: float = -math.inf
    high_w: float = math.inf
    until_s: float = math.inf


@runtime_checkable
class Policy(Protocol):
    """Turns row telemetry into commands.

    Contract, held by the conformance tests over every registered policy: `decide` is called once for each telemetry
    period, with `now_s` never falling; same calls, same answers (a random policy takes a seed); `reset` returns it to
    the state of a fresh object; `state` and `restore` survive JSON, so that a restarted daemon goes on in the same
    mode; with `quiet` honoured or ignored, the command log is the same.

    >>> from nonet.power import build_policy
    >>> isinstance(build_policy("no-cap"), Policy)
    True
    """

    name: str

    def reset(self) -> None:
        """Forget everything: mode 0, nothing desired."""

    def decide(self, now_s: float, sample: Sample | None, view: View) -> Sequence[Command]:
        """Commands for this period. `sample` is the latest one known, perhaps old; None before the first."""

    def quiet(self, now_s: float, view: View) -> Quiet | None:
        """Bounds within which calls of `decide` may be left out; None when every call is needed."""

    def state(self) -> dict[str, object]:
        """What a restart needs, as JSON values."""

    def restore(self, state: dict[str, object]) -> None:
        """Go on from `state`."""
