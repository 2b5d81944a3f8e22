"""Out of band through IPMI: the DCMI power limit of a whole server, over RMCP+.

`address` of a server is the host of its BMC, with `:port` when that is not 623. A level becomes a limit on the whole
server (the scale's base, factor and GPUs); level 1 deactivates the limit. DCMI limits are whole watts and say nothing
of GPUs, which makes this the coarsest lever of all: use it where nothing else reaches a server.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field

from nonet.common.errors import InputError
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
from nonet.power.controlling.optional import client_library
from nonet.power.controlling.pooling import Deadline, Pool
from nonet.power.policies.protocol import Action

_NO_LIMIT = 0x80  # Get Power Limit: no active set power limit
_FORBIDDEN = (0xD4, 0xD5)  # insufficient privilege; not supported in this state
_UNSURE = (0xC3, 0xCE, 0xFF)  # time-out while processing; no response could be given; unspecified
_REASONS = {
    0x84: "the limit is out of the range that it allows",
    0x85: "the correction time is out of the range that it allows",
    0x89: "the sampling period is out of the range that it allows",
    0xC0: "it is busy",
    0xC1: "it does not know DCMI power limits",
}
_ABSURD = 3.0
"""A limit of so many times the power of the server is firmware that lies."""


class IpmiConfig(ActuatorConfig):
    """Section `[actuators.ipmi]`."""

    user: str = Field("admin", max_length=16, description="User of the BMC.")
    password_env: str = Field("IPMI_PASSWORD", description="Variable of the environment with the password.")
    cipher_suites: list[Literal[3, 17]] = Field(
        default=[17, 3], min_length=1, description="RMCP+ cipher suites, tried in this order: 17 is SHA-256, 3 SHA-1."
    )
    privilege: Literal["operator", "administrator"] = Field("administrator", description="Level asked for.")
    timeout_s: float = Field(5.0, gt=0, description="Longest time for one command with all its messages, seconds.")
    settle_s: float = Field(40.0, ge=0, description="Longest time until a limit shows in a read-back, seconds.")
    min_limit_w: int = Field(500, gt=0, le=65535, description="Lowest limit that is ever sent, watts of a server.")
    correction_ms: int = Field(1000, ge=0, description="DCMI correction time limit, milliseconds.")
    sampling_s: int = Field(1, ge=1, le=65535, description="DCMI statistics sampling period, seconds.")


class IpmiServer(ActuatorConfig):
    """Options of a server; nothing to set."""


class IpmiActuator:
    """Writes DCMI power limits to BMCs.

    Raises:
        InputError: an address that is no host, or no password.
        MissingExtraError: python-ipmi is not installed.
    """

    name = "ipmi"
    capabilities = frozenset({Capability.POWER_LIMIT})
    reads_back = True

    def __init__(self, config: IpmiConfig, servers: Sequence[Server], scale: Scale) -> None:
        load_ipmi()
        self._config = config
        self._scale = scale
        self._full_w = scale.server_limit_w(1.0)
        self.settle_s = config.settle_s
        self.resolution = max(1.0 - scale.level_of_server_limit(self._full_w - 0.5), 1e-6)
        self._pools = {server.index: _pool(server, config) for server in servers}

    def check(self, servers: Sequence[Server]) -> list[ActuatorError]:
        """Whether each BMC lets us in and knows DCMI power limits."""
        problems: list[ActuatorError] = []
        for server in servers:
            try:
                self.read_level(server)
            except ActuatorError as error:
                problems.append(error)
        return problems

    def set_level(self, server: Server, level: float, key: str, action: Action = Action.CAP) -> float:
        """Set and activate the limit of the server, or deactivate it. See `Actuator.set_level`."""
        config = self._config
        if checked_level(level) >= 1.0:
            self._call(server, lambda ipmi: ipmi.deactivate_power_limit())
            return 1.0
        limit_w = max(config.min_limit_w, min(int(self._scale.server_limit_w(level) + 1e-6), 65535))

        def write(ipmi: Any) -> None:
            ipmi.set_power_limit(limit_w, config.correction_ms, config.sampling_s)
            ipmi.activate_power_limit()

        self._call(server, write)
        return self._level(limit_w)

    def read_level(self, server: Server, expected: float = 1.0) -> float:
        """The limit in force as a level, 1.0 without one. See `Actuator.read_level`."""
        found = self._call(server, lambda ipmi: ipmi.get_power_limit(), no_limit_is_none=True)
        if found is None:
            return 1.0
        limit_w = found.power_limit
        if not 0 < limit_w <= _ABSURD * self._full_w:
            raise RefusedError(
                f"{server.name}: its BMC shows a limit of {limit_w} W (the scale says {self._full_w:.0f} W at most); "
                "reset the BMC, or mend the scale"
            )
        return self._level(limit_w)

    def close(self) -> None:
        """Close the sessions; limits stay."""
        deadline = Deadline(self._config.timeout_s)
        for pool in self._pools.values():
            pool.close(min(1.0, deadline.left_s()))

    def _level(self, limit_w: float) -> float:
        if limit_w >= self._full_w:
            return 1.0
        return max(self._scale.level_of_server_limit(limit_w), 1e-6)

    def _call(self, server: Server, call: Any, no_limit_is_none: bool = False) -> Any:
        errors = load_ipmi().errors
        deadline = Deadline(self._config.timeout_s)
        with _told(server), self._pools[server.index].lent() as session:
            try:
                return session.call(call, deadline)
            except errors.CompletionCodeError as error:
                if no_limit_is_none and error.cc == _NO_LIMIT:
                    return None
                raise _refusal(server, error) from error


class IpmiSession:
    """One RMCP+ session; for one caller at a time. Nothing is sent before the first call.

    Args:
        host: of the BMC.
        port: UDP.
        config: the section.
        password: of its user.
    """

    def __init__(self, host: str, port: int, config: IpmiConfig, password: str) -> None:
        self._host, self._port, self._config, self._password = host, port, config, password
        self._ipmi: Any = None

    def call(self, call: Any, deadline: Deadline) -> Any:
        """Do something with the session; a session that the BMC has forgotten is opened again, once.

        Raises:
            Exception: whatever python-ipmi raises.
        """
        errors = load_ipmi().errors
        fresh = self._ipmi is None
        if fresh:
            self._open(deadline)
        # A BMC that has forgotten a session keeps silent: leave half of the time for a new one.
        self._ipmi.interface.deadline = deadline if fresh else Deadline(deadline.left_s() / 2)
        try:
            return call(self._ipmi)
        except (errors.RetryError, TimeoutError):
            if fresh:
                raise
        self.drop()
        self._open(deadline)
        return call(self._ipmi)

    def close(self, timeout_s: float) -> None:
        """Tell the BMC that the session is over."""
        if self._ipmi is not None:
            try:
                self._ipmi.interface.deadline = Deadline(timeout_s)
                self._ipmi.session.close()
            except Exception:  # a broken answer may set off anything in the library; what is not closed expires
                pass
        self.drop()

    def drop(self) -> None:
        """Close the socket only."""
        if self._ipmi is not None:
            self._ipmi.interface.close()
        self._ipmi = None

    def _open(self, deadline: Deadline) -> None:
        library = load_ipmi()
        interface = _interface_class()(keep_alive_interval=0)
        interface.cipher_suites = list(self._config.cipher_suites)
        ipmi = library.create_connection(interface)
        ipmi.session.set_session_type_rmcp(self._host, port=self._port)
        ipmi.session.set_auth_type_user(self._config.user, self._password)
        ipmi.session.set_priv_level(self._config.privilege.upper())
        ipmi.target = library.Target(ipmb_address=0x20)
        interface.open()
        interface.deadline = deadline
        self._ipmi = ipmi
        try:
            ipmi.session.establish()
        except BaseException:
            self.drop()
            raise


def load_ipmi() -> Any:
    """The package of python-ipmi.

    Raises:
        MissingExtraError: it is not installed.
    """
    with client_library("IPMI needs python-ipmi"):
        import pyipmi
        import pyipmi.errors
        import pyipmi.interfaces
    return pyipmi


@functools.cache
def _interface_class() -> type:
    from pyipmi.interfaces.rmcpplus import RmcpPlus

    class RmcpPlusByDeadline(RmcpPlus):
        """All messages of a call together end by its deadline; the library has a time-out for each of them."""

        deadline = Deadline(0.0)

        def _receive_rmcp_msg(self) -> Any:
            self.set_timeout(self.deadline.left_s())
            return super()._receive_rmcp_msg()

    return RmcpPlusByDeadline


def _pool(server: Server, config: IpmiConfig) -> Pool[IpmiSession]:
    match = re.fullmatch(r"([A-Za-z0-9_.-]+)(?::(\d{1,5}))?", server.address)
    if match is None:
        raise InputError(f"server {server.name}: address {server.address!r} of ipmi must be a host or host:port")
    host, port = match[1], int(match[2] or 623)
    password = os.environ.get(config.password_env, "")
    if not password:
        raise InputError(f"ipmi: no password; set {config.password_env} in the environment of this process")
    return Pool(lambda: IpmiSession(host, port, config, password), harmless=(RefusedError,), keep=2)


def _refusal(server: Server, error: Any) -> ActuatorError:
    where = f"{server.name}: its BMC"
    if error.cc in _FORBIDDEN:
        return NoPermissionError(f"{where} says {error.cc_desc!r}; give the user of ipmi a higher privilege")
    if error.cc in _UNSURE:
        return UnansweredError(f"{where} says {error.cc_desc!r} ({error.cc:#04x}); it may have had an effect")
    return RefusedError(f"{where} refused: {_REASONS.get(error.cc, error.cc_desc)} ({error.cc:#04x})")


@contextmanager
def _told(server: Server) -> Iterator[None]:
    """What python-ipmi raises as errors of actuators."""
    errors = load_ipmi().errors
    try:
        yield
    except ActuatorError:
        raise
    except (errors.AuthenticationError, errors.IpmiLongPasswordError) as error:
        raise NoPermissionError(
            f"{server.name}: its BMC does not let us in: {error}; check user and password"
        ) from error
    except (errors.MessageStatusCodeError, errors.NotSupportedError) as error:
        text = f"{server.name}: no session: {error}; check cipher_suites, user and privilege"
        raise NoPermissionError(text) from error
    except (errors.IpmiConnectionError, OSError) as error:
        if isinstance(error, TimeoutError):
            raise UnansweredError(f"{server.name}: no answer in time; it may have had an effect") from error
        raise ServerLostError(f"{server.name}: {error}; is its BMC up, and IPMI over LAN enabled?") from error
    except errors.CompletionCodeError as error:
        raise _refusal(server, error) from error
    except Exception as error:  # RetryError, DecodingError and whatever a broken message sets off in the library
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UnansweredError(f"{server.name}: {text}; it may have had an effect") from error


ACTUATORS.add("ipmi", ActuatorKind(IpmiConfig, IpmiServer, IpmiActuator, "DCMI power limits of servers at their BMCs"))
