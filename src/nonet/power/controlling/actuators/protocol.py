"""What a back end that writes caps must do; NVML, zeusd, Redfish and IPMI are plug-ins of this one shape.

Levels are clocks as a fraction of the highest clock, as everywhere in this room. A back end that has no clocks turns
a level into a power limit with its `Scale`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from nonet.common.errors import InputError, NonetError
from nonet.common.registry import Registry
from nonet.power.policies.protocol import Action, Priority


class Capability(StrEnum):
    """What a back end can do. CLOCKS locks clocks, POWER_LIMIT sets watts, BRAKE has a fast path of its own."""

    CLOCKS = "clocks"
    POWER_LIMIT = "power_limit"
    BRAKE = "brake"


class ActuatorError(NonetError):
    """A write or a read-back did not succeed. The message says server, what, and how to mend it; one line."""


class RefusedError(ActuatorError):
    """The device answered and said no (a busy BMC, a value out of range); the write has had no effect."""


class NoPermissionError(RefusedError):
    """The device says that we may not; trying again will not help before an administrator acts."""


class ServerLostError(ActuatorError):
    """The server or one of its GPUs does not answer any more (GPU fell off the bus, host unreachable)."""


class UnansweredError(ActuatorError):
    """No answer in time, or a broken connection: the write may or may not have had an effect; read back to know."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server as a back end knows it.

    Args:
        index: position in the row; what commands name.
        name: unique in the row.
        priority: its class.
        address: where the back end finds it; each back end says what it wants (a URL, a host, a socket).
        options: settings of this server for its back end (GPU indices, a chassis name), already checked by it.
    """

    index: int
    name: str
    priority: Priority
    address: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scale:
    """Levels in the units of devices.

    Args:
        max_clock_mhz: the clock at level 1.
        limit_w: power limit of one GPU for a level, watts; grows with the level. A profile's `power_limit_w`.
        gpus_per_server: GPUs that share one server's limit.
        base_w: what a server draws beside its GPUs, watts (for back ends that limit the whole server).
        gpu_factor: server watts per GPU watt (fans, losses).

    >>> scale = Scale(1410.0, lambda level: 400.0 * level)
    >>> scale.clock_mhz(0.5), round(scale.level_of_limit(200.0), 6)
    (705.0, 0.5)
    """

    max_clock_mhz: float
    limit_w: Callable[[float], float]
    gpus_per_server: int = 8
    base_w: float = 0.0
    gpu_factor: float = 1.0

    def clock_mhz(self, level: float) -> float:
        """The clock of a level, MHz, not snapped to what a device supports."""
        return level * self.max_clock_mhz

    def level_of_clock(self, clock_mhz: float) -> float:
        """The level of a clock, at most 1."""
        return min(1.0, clock_mhz / self.max_clock_mhz)

    def level_of_limit(self, limit_w: float) -> float:
        """The highest level whose GPU power limit is at most `limit_w` (to 1e-9); 1.0 when the limit binds nothing."""
        low, high = 0.0, 1.0
        if self.limit_w(1.0) <= limit_w:
            return 1.0
        while high - low > 1e-9:
            middle = (low + high) / 2
            low, high = (middle, high) if self.limit_w(middle) <= limit_w else (low, middle)
        return low

    def server_limit_w(self, level: float) -> float:
        """The power limit of a whole server for a level, watts."""
        return self.base_w + self.gpu_factor * self.gpus_per_server * self.limit_w(level)

    def level_of_server_limit(self, limit_w: float) -> float:
        """The level of a limit on a whole server, watts."""
        return self.level_of_limit(max(0.0, limit_w - self.base_w) / (self.gpu_factor * self.gpus_per_server))


@runtime_checkable
class Actuator(Protocol):
    """Writes levels to servers and reads them back.

    Contract, held by the conformance tests over every registered back end: calls come from worker threads, for one
    server one at a time (a brake alone may overtake a cap that hangs), for different servers at the same time; each
    returns or raises within the back end's own timeout; a repeated `set_level` with the same arguments changes nothing
    more; what `set_level` returns is what `read_level` reads within `settle_s`, to `resolution`; errors are
    `ActuatorError` and nothing else; nothing is written by construction or by `close`.
    """

    name: str
    capabilities: frozenset[Capability]
    resolution: float
    """Levels that differ by less are the same to this back end (a clock step, a watt)."""
    settle_s: float
    """Longest time between the answer to a write and its showing in a read-back, seconds; 0 in band."""
    reads_back: bool
    """Whether the cap itself can be read. Locked clocks cannot (NVML has no getter): only contradictions are seen."""

    def check(self, servers: Sequence[Server]) -> list[ActuatorError]:
        """Try what can be tried without writing: reachability, privileges, limits. One error for each problem.

        A NoPermissionError among them keeps the daemon from starting with `--apply`.
        """

    def set_level(self, server: Server, level: float, key: str, action: Action = Action.CAP) -> float:
        """Make `level` the highest clock of the server; 1.0 takes every cap of ours away.

        Args:
            server: one of ours.
            level: in (0, 1]; never rounded up to what the device supports, except to its lowest.
            key: idempotency key; the same key is the same command sent again.
            action: the path to take; a back end without BRAKE treats every action as the same write.

        Returns:
            The level now in force.

        Raises:
            RefusedError, NoPermissionError, ServerLostError, UnansweredError.
        """

    def read_level(self, server: Server, expected: float = 1.0) -> float:
        """The level in force on the server, the mildest of its GPUs; 1.0 when nothing caps it.

        Args:
            server: one of ours.
            expected: what the caller believes. A back end that does not read back answers with it, unless what it
                observes (a clock that runs higher) contradicts it; then it answers with what it observes.

        Raises:
            RefusedError, NoPermissionError, ServerLostError, UnansweredError.
        """

    def close(self) -> None:
        """Give back handles and connections. Caps stay as they are."""


class ActuatorConfig(BaseModel):
    """What every back end's section `[actuators.<name>]` in the row file may hold; back ends add their own keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class ActuatorKind:
    """A registered back end.

    Args:
        config: the model of its section.
        server_options: the model of a server's `options`.
        build: makes one for the servers it will be asked about.
        summary: one line for the help page.
    """

    config: type[ActuatorConfig]
    server_options: type[ActuatorConfig]
    build: Callable[[Any, Sequence[Server], Scale], Actuator]
    summary: str


ACTUATORS: Registry[ActuatorKind] = Registry("actuator")


def checked_level(level: float) -> float:
    """`level` when it is in (0, 1].

    Raises:
        InputError: it is not.
    """
    if not 0.0 < level <= 1.0:
        raise InputError(f"level {level!r} is not in (0, 1]; give a clock as a fraction of the highest clock")
    return level
