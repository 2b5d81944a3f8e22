"""Out of band through Redfish: power limits, of each GPU or of a whole server, set at the BMC.

A server's `paths` name what is written: resources of type EnvironmentMetrics (their `PowerLimitWatts`) or Control
(their `SetPoint`); which of the two is seen from what the BMC answers. Clocks have no standard Redfish property, so a
level becomes a limit in watts. A limit acts after a prefill's peak, not before it: in band, prefer locked clocks.

Every write is read first (limits that the BMC allows, ETag), sent with `If-Match`, and tried again when somebody else
changed the resource meanwhile. What a BMC says is not believed when it cannot be: a set point that is no number,
negative, or far above its own maximum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from nonet.power.controlling.actuators.protocol import (
    ACTUATORS,
    ActuatorConfig,
    ActuatorError,
    ActuatorKind,
    Capability,
    NoPermissionError,
    RefusedError,
    Scale,
    Server,
    ServerLostError,
    UnansweredError,
    checked_level,
)
from nonet.power.controlling.pooling import Deadline, Pool
from nonet.power.controlling.redfish_session import (
    Answer,
    DeclinedError,
    ForbiddenError,
    NotAnsweredError,
    NotReachedError,
    RedfishError,
    RedfishLogin,
    RedfishSession,
)
from nonet.power.policies.protocol import Action

_TRIES = 3
_ABSURD = 3.0
"""A limit of so many times the power of the device is a sensor or firmware that lies."""
_FAULTS: dict[type[RedfishError], type[ActuatorError]] = {
    NotReachedError: ServerLostError,
    NotAnsweredError: UnansweredError,
    ForbiddenError: NoPermissionError,
    DeclinedError: RefusedError,
}


class RedfishConfig(ActuatorConfig, RedfishLogin):
    """Section `[actuators.redfish]`."""

    timeout_s: float = Field(10.0, gt=0, description="Longest time for one command with all its requests, seconds.")
    settle_s: float = Field(40.0, ge=0, description="Longest time until a limit shows in a read-back, seconds.")
    step_w: float = Field(1.0, gt=0, description="Limits are snapped down to a multiple of this, watts.")


class RedfishServer(ActuatorConfig):
    """Options of a server."""

    paths: list[str] = Field(
        default=["/redfish/v1/Systems/HGX_Baseboard_0/Processors/GPU_SXM_[1-8]/EnvironmentMetrics"],
        min_length=1,
        validate_default=True,
        description="Resources to write: EnvironmentMetrics or Control; a range like [1-8] names several.",
    )
    scope: Literal["gpu", "server"] = Field("gpu", description="Whether a limit is one GPU's or the whole server's.")

    @field_validator("paths")
    @classmethod
    def _expanded(cls, paths: list[str]) -> list[str]:
        from nonet.power.controlling.config import expand  # which imports this module's registry

        wrong = [path for path in paths if not path.startswith("/redfish/v1/")]
        if wrong:
            raise ValueError(f"{wrong[0]!r} must begin with /redfish/v1/")
        return [each for path in paths for each in expand(path)]

    @model_validator(mode="after")
    def _one_for_a_server(self) -> RedfishServer:
        if self.scope == "server" and len(self.paths) != 1:
            raise ValueError('scope = "server" takes exactly one path')
        return self


@dataclass(frozen=True, slots=True)
class _Limit:
    """A power limit as a BMC describes it, watts."""

    set_point_w: float | None  # None: no limit in force
    lowest_w: float
    uncapped_w: float
    is_control: bool
    disabled: bool
    etag: str


class RedfishActuator:
    """Writes power limits to BMCs.

    Raises:
        InputError: an address that is no http(s) address, or no password.
        MissingExtraError: the library redfish is not installed.
    """

    name = "redfish"
    capabilities = frozenset({Capability.POWER_LIMIT})
    reads_back = True

    def __init__(self, config: RedfishConfig, servers: Sequence[Server], scale: Scale) -> None:
        self._config = config
        self._scale = scale
        self.settle_s = config.settle_s
        self.resolution = max(1.0 - scale.level_of_limit(scale.limit_w(1.0) - config.step_w / 2), 1e-6)
        self._pools = {server.index: _pool(server, config) for server in servers}

    def check(self, servers: Sequence[Server]) -> list[ActuatorError]:
        """Whether each BMC answers, shows the limits, and would let us write them."""
        problems: list[ActuatorError] = []
        for server in servers:
            try:
                with self._session(server) as (session, deadline):
                    for path in _paths(server):
                        answer = session.get(path, deadline)
                        self._limit(server, path, answer)
                        if answer.allow and "PATCH" not in answer.allow:
                            text = f"{server.name}: {path} cannot be written; its BMC allows only reading"
                            problems.append(NoPermissionError(text))
            except ActuatorError as error:
                problems.append(error)
        return problems

    def set_level(self, server: Server, level: float, key: str, action: Action = Action.CAP) -> float:
        """Set the limit of every path of the server. See `Actuator.set_level`."""
        checked_level(level)
        failed: ActuatorError | None = None
        levels = []
        with self._session(server) as (session, deadline):
            for path in _paths(server):
                try:
                    with _told(server):
                        levels.append(self._write(session, server, path, level, deadline))
                except ActuatorError as error:  # cap the others all the same
                    failed = failed or error
            if failed is not None:
                raise failed
        return max(levels)

    def read_level(self, server: Server, expected: float = 1.0) -> float:
        """The mildest limit of the server as a level. See `Actuator.read_level`."""
        with self._session(server) as (session, deadline):
            limits = [self._limit(server, path, session.get(path, deadline)) for path in _paths(server)]
        return max(self._level(server, limit.set_point_w, limit.uncapped_w) for limit in limits)

    def close(self) -> None:
        """Log out everywhere; limits stay."""
        deadline = Deadline(self._config.timeout_s)
        for pool in self._pools.values():
            pool.close(min(2.0, deadline.left_s()))

    # -- one path

    def _write(self, session: RedfishSession, server: Server, path: str, level: float, deadline: Deadline) -> float:
        for _ in range(_TRIES):
            limit = self._limit(server, path, session.get(path, deadline))
            limit_w = self._wanted_w(server, limit, level)
            setting: dict[str, Any] = {"SetPoint": int(limit_w) if limit_w.is_integer() else limit_w}
            if limit.disabled and level < 1.0:
                setting["ControlMode"] = "Automatic"
            try:
                session.patch(path, setting if limit.is_control else {"PowerLimitWatts": setting}, limit.etag, deadline)
            except DeclinedError as error:
                if error.status != 412:
                    raise
            else:
                return self._level(server, limit_w, limit.uncapped_w)
        raise RefusedError(f"{server.name}: {path} was changed by somebody else {_TRIES} times; who also sets it?")

    def _wanted_w(self, server: Server, limit: _Limit, level: float) -> float:
        if level >= 1.0:
            return limit.uncapped_w
        step_w = self._config.step_w
        most_w = min(self._full_w(server, level), limit.uncapped_w - step_w)
        return max(math.floor(most_w / step_w + 1e-9) * step_w, limit.lowest_w)

    def _full_w(self, server: Server, level: float) -> float:
        whole = server.options.get("scope") == "server"
        return self._scale.server_limit_w(level) if whole else self._scale.limit_w(level)

    def _level(self, server: Server, limit_w: float | None, uncapped_w: float) -> float:
        if limit_w is None or limit_w >= uncapped_w:
            return 1.0
        whole = server.options.get("scope") == "server"
        found = self._scale.level_of_server_limit(limit_w) if whole else self._scale.level_of_limit(limit_w)
        return max(found, 1e-6)

    def _limit(self, server: Server, path: str, answer: Answer) -> _Limit:
        where = f"{server.name}: {path}"
        is_control = "PowerLimitWatts" not in answer.body
        shown = answer.body if is_control else answer.body["PowerLimitWatts"]
        if not isinstance(shown, dict) or "SetPoint" not in shown:
            raise RefusedError(f"{where} shows neither PowerLimitWatts nor a SetPoint; give other paths")
        full_w = self._full_w(server, 1.0)
        highest_w, default_w = _watts(shown, "AllowableMax"), _watts(shown, "DefaultSetPoint")
        uncapped_w = default_w or highest_w or full_w
        lowest_w = _watts(shown, "AllowableMin") or self._config.step_w
        disabled = shown.get("ControlMode") == "Disabled"
        if uncapped_w > _ABSURD * full_w or lowest_w > uncapped_w:
            raise RefusedError(
                f"{where}: limits from {lowest_w:g} to {uncapped_w:g} W cannot be (the scale says {full_w:g} W); "
                "mend the BMC or the scale"
            )
        set_point = shown["SetPoint"]
        if set_point is not None and not disabled:
            set_point_w = _watts(shown, "SetPoint")
            if set_point_w is None or set_point_w > _ABSURD * max(highest_w or 0.0, full_w):
                raise RefusedError(f"{where}: a set point of {set_point!r} W cannot be; restart the BMC")
            return _Limit(set_point_w, lowest_w, uncapped_w, is_control, False, answer.etag)
        return _Limit(None, lowest_w, uncapped_w, is_control, disabled, answer.etag)

    @contextmanager
    def _session(self, server: Server) -> Iterator[tuple[RedfishSession, Deadline]]:
        with _told(server), self._pools[server.index].lent() as session:
            yield session, Deadline(self._config.timeout_s)


def _pool(server: Server, config: RedfishConfig) -> Pool[RedfishSession]:
    def make() -> RedfishSession:
        return RedfishSession(server.address, config)

    make()  # wrong settings show now, not at the first cap
    return Pool(make, harmless=(DeclinedError, ForbiddenError, RefusedError))


@contextmanager
def _told(server: Server) -> Iterator[None]:
    """Faults of Redfish as errors of actuators."""
    try:
        yield
    except RedfishError as fault:
        mend = "; give the user the right ConfigureComponents" if isinstance(fault, ForbiddenError) else ""
        unsure = "; it may have had an effect" if isinstance(fault, NotAnsweredError) else ""
        raise _FAULTS[type(fault)](f"{server.name}: {fault}{mend}{unsure}") from fault


def _paths(server: Server) -> list[str]:
    return list(server.options.get("paths") or RedfishServer.model_validate({}).paths)


def _watts(shown: dict[str, Any], key: str) -> float | None:
    """A power, None when it is missing or cannot be one."""
    value = shown.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        return None
    return float(value)


ACTUATORS.add("redfish", ActuatorKind(RedfishConfig, RedfishServer, RedfishActuator, "power limits at BMCs by Redfish"))
