"""What a source of row power must do; file, Prometheus, PDU over SNMP and Redfish are plug-ins of one shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from nonet.common.errors import NonetError
from nonet.common.registry import Registry
from nonet.power.controlling.actuators.protocol import Server


class TelemetryError(NonetError):
    """The source cannot be read now; the message says which, why, and how to mend it. The daemon goes on asking."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source says.

    Args:
        power_w: power of the whole row, watts, as it stands in the source: NaN, negative or absurd values are passed on
            and judged by the daemon's guards.
        measured_unix_s: the source's own time stamp, seconds since 1970; None when it gives none (then the time of
            arrival counts).
        server_power_w: power by server index, watts, when the source tells it.
    """

    power_w: float
    measured_unix_s: float | None = None
    server_power_w: Mapping[int, float] | None = None


@runtime_checkable
class Telemetry(Protocol):
    """Answers with the latest reading of row power.

    Contract: `read` is called from one thread, about once a telemetry period, and returns or raises within the
    source's own timeout; a source that has nothing new returns the same reading again, with the same time stamp (that
    is how staleness is seen); it never invents, interpolates or repeats with a new time stamp.
    """

    name: str

    def read(self) -> Reading | None:
        """The latest reading, None before the first.

        Raises:
            TelemetryError: the source cannot be read now.
        """

    def close(self) -> None:
        """Give back handles and connections."""


class TelemetryConfig(BaseModel):
    """What every source's section `[telemetry]` may hold beside `source`; sources add their own keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    timeout_s: float = Field(1.0, gt=0, description="Longest time that one reading may take, seconds.")


@dataclass(frozen=True)
class TelemetryKind:
    """A registered source.

    Args:
        config: the model of its section.
        build: makes one for a row.
        summary: one line for the help page.
    """

    config: type[TelemetryConfig]
    build: Callable[[Any, Sequence[Server]], Telemetry]
    summary: str


TELEMETRY: Registry[TelemetryKind] = Registry("telemetry source")
