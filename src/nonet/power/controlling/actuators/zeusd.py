"""Through zeusd, the privileged daemon of Zeus: the same levers as NVML without root in this process, also over TCP.

One zeusd runs on every node. `address` of a server is a socket path (`/run/zeusd/zeusd.sock`) or `http://host:4938`.
The API is the one with `POST /gpu/set_gpu_locked_clocks`, `/gpu/reset_gpu_locked_clocks`, `/gpu/set_power_limit`
(query parameters `gpu_ids`, `block=true`) and `GET /discover`, `/gpu/get_power_limit`. Clocks cannot be read back
through it; power limits can, where zeusd is new enough to have that route.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import httpx2
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
from nonet.power.policies.protocol import Action

MAX_ANSWER_BYTES = 1 << 20


class ZeusdConfig(ActuatorConfig):
    """Section `[actuators.zeusd]`."""

    lever: Literal["clocks", "power_limit"] = Field("clocks", description="What a level is written as.")
    min_clock_mhz: int = Field(210, gt=0, description="Lowest clock, MHz; the lower end of the locked range.")
    clock_step_mhz: int = Field(15, gt=0, description="Clocks are snapped down to a multiple of this, MHz.")
    min_limit_w: float = Field(100.0, gt=0, description="Lowest power limit of a GPU, watts.")
    max_limit_w: float = Field(400.0, gt=0, description="Power limit of a GPU without a cap, watts.")
    timeout_s: float = Field(3.0, gt=0, description="Longest time for one request, seconds.")
    token_env: str = Field("ZEUSD_TOKEN", description="Variable of the environment that holds the token, if any.")


class ZeusdServer(ActuatorConfig):
    """Options of a server."""

    gpus: list[int] = Field(default=[], description="GPU indices on that node; empty: all that zeusd names.")


class ZeusdActuator:
    """Writes levels through the zeusd of each server.

    Raises:
        InputError: an address that is neither an absolute path nor an http(s) address.
    """

    name = "zeusd"
    settle_s = 0.0

    def __init__(self, config: ZeusdConfig, servers: Sequence[Server], scale: Scale) -> None:
        self._config = config
        self._scale = scale
        clocks = config.lever == "clocks"
        self.capabilities = frozenset({Capability.CLOCKS if clocks else Capability.POWER_LIMIT})
        self.reads_back = not clocks
        self.resolution = (config.clock_step_mhz if clocks else 1.0) / scale.max_clock_mhz
        self._clients = {server.index: self._client(server) for server in servers}
        self._gpus: dict[int, list[int]] = {}
        self._lock = threading.Lock()

    def check(self, servers: Sequence[Server]) -> list[ActuatorError]:
        """Whether each zeusd answers, allows control and has the GPUs."""
        problems: list[ActuatorError] = []
        for server in servers:
            try:
                found = self._request(server, "GET", "/discover", {})
            except ActuatorError as error:
                problems.append(error)
                continue
            groups = found.get("enabled_api_groups")
            if isinstance(groups, list) and "gpu-control" not in groups:
                text = f"{server.name}: zeusd runs without gpu-control; start it with --enable gpu-control"
                problems.append(NoPermissionError(text))
            missing = set(server.options.get("gpus") or []) - set(_gpu_ids(found))
            if missing:
                problems.append(ServerLostError(f"{server.name}: zeusd lacks GPU {sorted(missing)}: {_gpu_ids(found)}"))
        return problems

    def set_level(self, server: Server, level: float, key: str, action: Action = Action.CAP) -> float:
        """Lock the clocks (or set the limit) of the server's GPUs in one request. See `Actuator.set_level`."""
        checked_level(level)
        config = self._config
        which: dict[str, str | int] = {"gpu_ids": ",".join(map(str, self._own_gpus(server))), "block": "true"}
        if config.lever == "power_limit":
            wanted_w = config.max_limit_w if level >= 1.0 else self._scale.limit_w(level)
            limit_mw = int(min(max(wanted_w, config.min_limit_w), config.max_limit_w) * 1000)
            self._request(server, "POST", "/gpu/set_power_limit", which | {"power_limit_mw": limit_mw})
            return self._level_of_limit(limit_mw)
        if level >= 1.0:
            self._request(server, "POST", "/gpu/reset_gpu_locked_clocks", which)
            return 1.0
        step = config.clock_step_mhz
        clock_mhz = max(config.min_clock_mhz, int((self._scale.clock_mhz(level) + 1e-6) // step) * step)
        clocks = {"min_clock_mhz": config.min_clock_mhz, "max_clock_mhz": clock_mhz}
        self._request(server, "POST", "/gpu/set_gpu_locked_clocks", which | clocks)
        return self._scale.level_of_clock(clock_mhz)

    def read_level(self, server: Server, expected: float = 1.0) -> float:
        """The limit in force; with clocks only whether zeusd answers. See `Actuator.read_level`."""
        if self._config.lever == "clocks":
            self._request(server, "GET", "/discover", {})
            return expected
        gpus = self._own_gpus(server)
        found = self._request(server, "GET", "/gpu/get_power_limit", {"gpu_ids": ",".join(map(str, gpus))})
        try:
            return max(self._level_of_limit(int(found[str(gpu)]["power_limit_mw"])) for gpu in gpus)
        except (KeyError, TypeError, ValueError) as error:
            raise RefusedError(f"{server.name}: zeusd's answer to get_power_limit lacks a GPU: {found}") from error

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()

    def _level_of_limit(self, limit_mw: int) -> float:
        whole = limit_mw >= self._config.max_limit_w * 1000
        return 1.0 if whole else self._scale.level_of_limit(limit_mw / 1000.0)

    def _own_gpus(self, server: Server) -> list[int]:
        given = server.options.get("gpus")
        if given:
            return list(given)
        with self._lock:
            known = self._gpus.get(server.index)
        if known is None:
            known = _gpu_ids(self._request(server, "GET", "/discover", {}))
            if not known:
                raise ServerLostError(f"{server.name}: zeusd names no GPU; check the driver on that node")
            with self._lock:
                self._gpus[server.index] = known
        return known

    def _client(self, server: Server) -> httpx2.Client:
        token = os.environ.get(self._config.token_env, "")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if server.address.startswith("/"):
            transport = httpx2.HTTPTransport(uds=server.address)
            return httpx2.Client(
                transport=transport, base_url="http://zeusd", timeout=self._config.timeout_s, headers=headers
            )
        if server.address.startswith(("http://", "https://")):
            return httpx2.Client(base_url=server.address, timeout=self._config.timeout_s, headers=headers)
        raise InputError(
            f"server {server.name}: address {server.address!r} of zeusd must be a socket path (/run/zeusd/zeusd.sock) "
            "or http://host:port"
        )

    def _request(self, server: Server, method: str, path: str, parameters: Mapping[str, str | int]) -> dict[str, Any]:
        where = f"{server.name}: zeusd {path}"
        try:
            answer = self._clients[server.index].request(method, path, params=dict(parameters))
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise ServerLostError(f"{where}: {error or 'no connection'}; is zeusd running there?") from error
        except httpx2.HTTPError as error:
            raise UnansweredError(f"{where}: {error or type(error).__name__}; it may have had an effect") from error
        if answer.status_code in (401, 403):
            raise NoPermissionError(
                f"{where}: {answer.status_code} {_text(answer)}; give a token with the scope gpu-control in "
                f"{self._config.token_env}, and run zeusd as root"
            )
        if answer.status_code >= 400:
            raise RefusedError(f"{where}: {answer.status_code} {_text(answer)}")
        try:
            found = answer.json() if answer.content and len(answer.content) <= MAX_ANSWER_BYTES else {}
        except ValueError as error:
            raise RefusedError(f"{where}: answered with something that is no JSON") from error
        return found if isinstance(found, dict) else {}


def _gpu_ids(found: Mapping[str, Any]) -> list[int]:
    gpus = found.get("gpus")
    return [int(gpu["id"]) for gpu in gpus if isinstance(gpu, dict) and "id" in gpu] if isinstance(gpus, list) else []


def _text(answer: httpx2.Response) -> str:
    return " ".join(answer.text[:200].split())


ACTUATORS.add("zeusd", ActuatorKind(ZeusdConfig, ZeusdServer, ZeusdActuator, "GPUs through the daemon of Zeus"))
