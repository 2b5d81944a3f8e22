"""Row power from PDUs over SNMP.

Each meter is one object of one PDU; the row is the sum of them, and without one of them there is no reading. What a
unit of the object is, its MIB says: APC's rPDU2DeviceStatusPower (1.3.6.1.4.1.318.1.1.26.4.3.1.5.<unit>) counts
hundredths of a kilowatt, so `unit_w = 10`; Raritan's active power is in watts when its decimal digits are 0.

SNMP gives no time stamps: a reading counts as measured when its answer arrives.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nonet.common.errors import InputError
from nonet.power.controlling.actuators.protocol import Server
from nonet.power.controlling.optional import client_library
from nonet.power.controlling.telemetry.protocol import (
    TELEMETRY,
    Reading,
    TelemetryConfig,
    TelemetryError,
    TelemetryKind,
)

_ADDRESS = re.compile(r"([A-Za-z0-9_.-]+)(?::(\d{1,5}))?")


class SnmpMeter(BaseModel):
    """One entry of `[[telemetry.meters]]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    address: str = Field(description="Host of the PDU, with :port when that is not 161.")
    oid: str = Field(pattern=r"^\.?\d+(\.\d+)+$", description="The object with the power, in numbers.")
    unit_w: float = Field(1.0, gt=0, description="Watts of one unit of the object.")
    server: str | None = Field(None, description="The server whose own power this is.")


class SnmpConfig(TelemetryConfig):
    """Section `[telemetry]` with `source = "snmp"`."""

    meters: list[SnmpMeter] = Field(min_length=1, description="What adds up to the row.")
    version: Literal["2c", "3"] = Field("2c", description="Of SNMP.")
    community_env: str = Field("SNMP_COMMUNITY", description="Variable with the community (2c); public without.")
    user: str = Field("", description="User (version 3).")
    context: str = Field("", description="Context name (version 3); most PDUs have none.")
    auth_env: str = Field("SNMP_AUTH", description="Variable with the authentication pass phrase (version 3).")
    auth: Literal["SHA", "SHA256", "SHA512"] = Field(
        "SHA256", description="How messages are authenticated (version 3)."
    )
    privacy_env: str = Field("SNMP_PRIVACY", description="Variable with the privacy pass phrase (version 3).")
    retries: int = Field(1, ge=0, le=5, description="Questions that are sent again; the time is shared between them.")

    @model_validator(mode="after")
    def _has_a_user(self) -> SnmpConfig:
        if self.version == "3" and not self.user:
            raise ValueError('version = "3" needs a user')
        for meter in self.meters:
            if not _ADDRESS.fullmatch(meter.address):
                raise ValueError(f"address {meter.address!r} must be host or host:port")
        return self


class SnmpTelemetry:
    """Asks PDUs, all at the same time; from one thread.

    Raises:
        InputError: a meter of a server that is not in the row, or no pass phrase.
        MissingExtraError: pysnmp is not installed.
    """

    name = "snmp"

    def __init__(self, config: SnmpConfig, servers: Sequence[Server]) -> None:
        self._config = config
        indices = {server.name: server.index for server in servers}
        for meter in config.meters:
            if meter.server is not None and meter.server not in indices:
                raise InputError(f"telemetry.meters: no server {meter.server!r} in the row")
        self._indices = [indices[meter.server] if meter.server else None for meter in config.meters]
        self._snmp = _load()
        self._credentials = _credentials(self._snmp, config)
        self._context = self._snmp.ContextData(contextName=config.context.encode())
        self._loop: asyncio.AbstractEventLoop | None = asyncio.new_event_loop()
        self._engine = self._loop.run_until_complete(self._start())

    def read(self) -> Reading | None:
        """The sum of the meters now. See `Telemetry.read`."""
        if self._loop is None:
            raise TelemetryError("snmp: closed")
        powers_w = self._loop.run_until_complete(self._read_all())
        own: dict[int, float] = {}
        for index, power_w in zip(self._indices, powers_w, strict=True):
            if index is not None:
                own[index] = own.get(index, 0.0) + power_w
        return Reading(math.fsum(powers_w), None, own or None)

    def close(self) -> None:
        """Close the sockets."""
        if self._loop is not None:
            self._loop.run_until_complete(self._end())
            self._loop.close()
        self._loop = None

    async def _start(self) -> Any:
        """An engine that has read its tables, which takes longer than a reading may."""
        from pysnmp.hlapi.varbinds import MibViewControllerManager

        engine = self._snmp.SnmpEngine()
        view = MibViewControllerManager.get_mib_view_controller(engine.cache)
        self._snmp.ObjectType(self._snmp.ObjectIdentity(self._config.meters[0].oid.lstrip("."))).resolve_with_mib(view)
        return engine

    async def _end(self) -> None:
        self._engine.close_dispatcher()
        rest = asyncio.all_tasks() - {asyncio.current_task()}  # timers of the library
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _read_all(self) -> list[float]:
        questions = [asyncio.ensure_future(self._ask(meter)) for meter in self._config.meters]
        try:
            async with asyncio.timeout(self._config.timeout_s):
                return list(await asyncio.gather(*questions))
        except TimeoutError as error:
            raise TelemetryError(f"snmp: no answer within {self._config.timeout_s:g} s") from error
        finally:
            for question in questions:
                question.cancel()
            await asyncio.gather(*questions, return_exceptions=True)

    async def _ask(self, meter: SnmpMeter) -> float:
        snmp, config, where = self._snmp, self._config, f"snmp: {meter.address} {meter.oid}"
        match = _ADDRESS.fullmatch(meter.address)
        host, port = (match[1], int(match[2] or 161)) if match else (meter.address, 161)
        try:
            target = await snmp.UdpTransportTarget.create(
                (host, port), timeout=config.timeout_s / (config.retries + 1), retries=config.retries
            )
            error, status, _, bindings = await snmp.get_cmd(
                self._engine, self._credentials, target, self._context,
                snmp.ObjectType(snmp.ObjectIdentity(meter.oid.lstrip("."))), lookupMib=False,
            )  # fmt: skip
        except Exception as problem:  # pysnmp raises its own errors, and those of sockets
            raise TelemetryError(f"{where}: {' '.join(str(problem).split())[:200]}") from problem
        if error or status:
            raise TelemetryError(f"{where}: {error or status.prettyPrint()}; check address, community or user")
        return _number(bindings[0][1], where) * meter.unit_w


def _number(value: Any, where: str) -> float:
    kind = type(value).__name__
    if kind in ("NoSuchObject", "NoSuchInstance", "EndOfMibView"):
        raise TelemetryError(f"{where}: the PDU has no such object; look for its power with snmpwalk")
    try:
        return float(value)  # integers, gauges and counters
    except (TypeError, ValueError):
        pass
    try:
        return float(bytes(value).decode("ascii"))  # some PDUs write decimals as text
    except (TypeError, ValueError) as error:
        raise TelemetryError(f"{where}: {value.prettyPrint()[:40]!r} is no number") from error


def _load() -> Any:
    with client_library("SNMP needs pysnmp"):
        from pysnmp.hlapi.v3arch import asyncio as snmp
    return snmp


def _credentials(snmp: Any, config: SnmpConfig) -> Any:
    if config.version == "2c":
        return snmp.CommunityData(os.environ.get(config.community_env, "public"), mpModel=1)
    protocols = {
        "SHA": snmp.USM_AUTH_HMAC96_SHA,
        "SHA256": snmp.USM_AUTH_HMAC192_SHA256,
        "SHA512": snmp.USM_AUTH_HMAC384_SHA512,
    }
    phrase, privacy = os.environ.get(config.auth_env, ""), os.environ.get(config.privacy_env, "")
    if len(phrase) < 8 or (privacy and len(privacy) < 8):
        raise InputError(f"snmp: set {config.auth_env} to a pass phrase of at least 8 characters")
    if not privacy:
        return snmp.UsmUserData(config.user, authKey=phrase, authProtocol=protocols[config.auth])
    return snmp.UsmUserData(
        config.user, authKey=phrase, privKey=privacy, authProtocol=protocols[config.auth],
        privProtocol=snmp.USM_PRIV_CFB128_AES,
    )  # fmt: skip


TELEMETRY.add("snmp", TelemetryKind(SnmpConfig, SnmpTelemetry, "objects of PDUs over SNMP"))
