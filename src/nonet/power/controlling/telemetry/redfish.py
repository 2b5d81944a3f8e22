"""Row power from Redfish services: rack PDUs, power shelves, or the BMCs of all servers.

Each meter is one resource that shows a power: EnvironmentMetrics and the Metrics of a PDU (`PowerWatts`), a Sensor
(`Reading`), or the old Power of a chassis (`PowerControl`). The row is the sum of its meters; when one of them does
not answer, there is no reading, never a part of the sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from nonet.common.errors import InputError
from nonet.power.controlling.actuators.protocol import Server
from nonet.power.controlling.pooling import Deadline, Pool
from nonet.power.controlling.redfish_session import (
    DeclinedError,
    RedfishError,
    RedfishLogin,
    RedfishSession,
    check_address,
)
from nonet.power.controlling.telemetry.file import parse_time_s
from nonet.power.controlling.telemetry.protocol import (
    TELEMETRY,
    Reading,
    TelemetryConfig,
    TelemetryError,
    TelemetryKind,
)

_UNITS_W = {"W": 1.0, "kW": 1000.0, "": 1.0}
_MOST_THREADS = 32


class RedfishMeter(BaseModel):
    """One entry of `[[telemetry.meters]]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    address: str = Field(description="https://host[:port] of the service.")
    path: str = Field(pattern=r"^/redfish/v1/", description="The resource.")
    server: str | None = Field(None, description="The server whose own power this is.")
    scale: float = Field(1.0, gt=0, description="Multiplies what is read.")


class RedfishTelemetryConfig(TelemetryConfig, RedfishLogin):
    """Section `[telemetry]` with `source = "redfish"`."""

    meters: list[RedfishMeter] = Field(min_length=1, description="What adds up to the row.")


class RedfishTelemetry:
    """Reads meters, all at the same time.

    Raises:
        InputError: a wrong address, no password, or a meter of a server that is not in the row.
        MissingExtraError: the library redfish is not installed.
    """

    name = "redfish"

    def __init__(self, config: RedfishTelemetryConfig, servers: Sequence[Server]) -> None:
        self._config = config
        indices = {server.name: server.index for server in servers}
        for meter in config.meters:
            if meter.server is not None and meter.server not in indices:
                raise InputError(f"telemetry.meters: no server {meter.server!r} in the row")
        self._indices = [indices[meter.server] if meter.server else None for meter in config.meters]
        self._pools = {check_address(meter.address): _pool(meter.address, config) for meter in config.meters}
        self._threads = ThreadPoolExecutor(min(_MOST_THREADS, len(config.meters)), thread_name_prefix="redfish")

    def read(self) -> Reading | None:
        """The sum of the meters now. See `Telemetry.read`.

        Its time is that of the oldest meter when all of them tell theirs.
        """
        deadline = Deadline(self._config.timeout_s)
        futures = [self._threads.submit(self._read_meter, meter, deadline) for meter in self._config.meters]
        found = []
        try:
            for future in futures:
                found.append(future.result(timeout=2 * deadline.left_s() + 0.5))  # noqa: PERF401
        except TimeoutError as error:
            raise TelemetryError(f"redfish: no answer within {self._config.timeout_s:g} s") from error
        finally:
            for future in futures:
                future.cancel()
        times = [measured_s for _, measured_s in found if measured_s is not None]
        measured_s = min(times) if len(times) == len(found) else None
        own: dict[int, float] = {}
        for index, (power_w, _) in zip(self._indices, found, strict=True):
            if index is not None:
                own[index] = own.get(index, 0.0) + power_w
        return Reading(math.fsum(power_w for power_w, _ in found), measured_s, own or None)

    def close(self) -> None:
        """Log out everywhere."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        deadline = Deadline(2 * self._config.timeout_s)
        for pool in self._pools.values():
            pool.close(min(1.0, deadline.left_s()))

    def _read_meter(self, meter: RedfishMeter, deadline: Deadline) -> tuple[float, float | None]:
        try:
            with self._pools[check_address(meter.address)].lent() as session:
                body = session.get(meter.path, deadline).body
        except RedfishError as fault:
            raise TelemetryError(f"redfish: {fault}") from fault
        power, measured_s = _reading(body, f"redfish: {meter.address}{meter.path}")
        return power * meter.scale, measured_s


def _reading(body: dict[str, Any], where: str) -> tuple[float, float | None]:
    """Power in watts and its time, from any of the resources that show one."""
    shown, unit, key = body, str(body.get("ReadingUnits") or ""), "Reading"
    if isinstance(body.get("PowerWatts"), dict):
        shown = body["PowerWatts"]
    elif isinstance(body.get("PowerControl"), list) and body["PowerControl"]:
        shown, key = body["PowerControl"][0], "PowerConsumedWatts"
    if not isinstance(shown, dict) or key not in shown:
        raise TelemetryError(f"{where} shows neither PowerWatts nor a Reading; give another path")
    if unit not in _UNITS_W:
        raise TelemetryError(f"{where} measures in {unit!r}; give a meter of power")
    value = shown[key]
    if value is None:
        value = math.nan  # the BMC says that it does not know
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TelemetryError(f"{where} shows {str(value)[:40]!r}, which is no number")
    stamp = shown.get("ReadingTime")
    return float(value) * _UNITS_W[unit], parse_time_s(stamp) if isinstance(stamp, str) else None


def _pool(address: str, config: RedfishTelemetryConfig) -> Pool[RedfishSession]:
    RedfishSession(address, config)  # wrong settings show now
    return Pool(lambda: RedfishSession(address, config), harmless=(DeclinedError,), keep=4)


TELEMETRY.add(
    "redfish", TelemetryKind(RedfishTelemetryConfig, RedfishTelemetry, "PDUs, power shelves or BMCs through Redfish")
)
