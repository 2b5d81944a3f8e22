"""In band through NVML: locked clocks, or power limits, of the GPUs of this machine.

A server is a group of GPUs of this machine (`options.gpus`: indices or UUIDs; all of them when left out). Clocks are
the default lever, since a locked clock acts before a prefill's peak and a power limit after it. NVML has no getter
for locked clocks: a read-back sees the clock that the GPU runs at, which proves that a cap is gone when it is higher,
and proves nothing when the GPU is idle. Power limits are read back exactly.

Writing needs root (or CAP_SYS_ADMIN); `check` looks for that before anything is written. Locked clocks and limits
vanish when the driver unloads: keep persistence mode on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

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
from nonet.power.policies.protocol import Action

T = TypeVar("T")
CAP_SYS_ADMIN = 21


class NvmlConfig(ActuatorConfig):
    """Section `[actuators.nvml]`."""

    lever: Literal["clocks", "power_limit"] = Field("clocks", description="What a level is written as.")


class NvmlServer(ActuatorConfig):
    """Options of a server."""

    gpus: list[int | str] = Field(default=[], description="GPU indices or UUIDs; empty: all GPUs of the machine.")


class NvmlActuator:
    """Writes levels to GPUs of this machine.

    Raises:
        MissingExtraError: nvidia-ml-py is not installed.
        ActuatorError: no driver, or no such GPU.
    """

    name = "nvml"
    settle_s = 2.0  # a busy GPU takes a moment to come down to its new clock

    def __init__(self, config: NvmlConfig, servers: Sequence[Server], scale: Scale) -> None:
        self._nvml = load_nvml()
        self._lever = config.lever
        self._scale = scale
        self._locks: dict[int, threading.Lock] = {}
        self._handles: dict[int, list[Any]] = {}
        self._clocks_mhz: list[int] = []
        clocks = self._lever == "clocks"
        self.capabilities = frozenset({Capability.CLOCKS if clocks else Capability.POWER_LIMIT})
        self.reads_back = not clocks
        self.resolution = 0.0
        self._call("nvmlInit", self._nvml.nvmlInit)
        try:
            self._find(servers)
        except BaseException:
            self.close()
            raise

    def check(self, servers: Sequence[Server]) -> list[ActuatorError]:
        """Privileges, supported clocks, limits."""
        problems: list[ActuatorError] = [] if may_write() else [NoPermissionError(_PRIVILEGES)]
        for server in servers:
            try:
                self.read_level(server)
            except ActuatorError as error:
                problems.append(error)
        return problems

    def set_level(self, server: Server, level: float, key: str, action: Action = Action.CAP) -> float:
        """Lock the clocks (or set the limit) of every GPU of the server. See `Actuator.set_level`."""
        checked_level(level)
        write = self._lock_clocks if self._lever == "clocks" else self._limit_power
        with self._locks[server.index]:  # a brake that overtakes waits for one driver call, not for a queue
            failed: ActuatorError | None = None
            levels = []
            for handle in self._handles[server.index]:
                try:
                    levels.append(write(server, handle, level))
                except ActuatorError as error:  # cap the others all the same
                    failed = failed or error
        if failed is not None:
            raise failed
        return max(levels)

    def read_level(self, server: Server, expected: float = 1.0) -> float:
        """The mildest GPU of the server. See `Actuator.read_level`."""
        read = self._read_clock if self._lever == "clocks" else self._read_limit
        return max(read(server, handle, expected) for handle in self._handles[server.index])

    def close(self) -> None:
        """Shut NVML down; locked clocks stay."""
        self._call("nvmlShutdown", self._nvml.nvmlShutdown)

    # -- clocks

    def _lock_clocks(self, server: Server, handle: Any, level: float) -> float:
        if level >= 1.0:
            self._call(server.name, self._nvml.nvmlDeviceResetGpuLockedClocks, handle)
            return 1.0
        clock_mhz = self._snap(level)
        self._call(server.name, self._nvml.nvmlDeviceSetGpuLockedClocks, handle, self._clocks_mhz[0], clock_mhz)
        return self._scale.level_of_clock(clock_mhz)

    def _read_clock(self, server: Server, handle: Any, expected: float) -> float:
        now_mhz = self._call(server.name, self._nvml.nvmlDeviceGetClockInfo, handle, self._nvml.NVML_CLOCK_SM)
        observed = self._scale.level_of_clock(now_mhz)
        return observed if observed > expected + self.resolution else expected

    def _snap(self, level: float) -> int:
        wanted_mhz = self._scale.clock_mhz(level) + 1e-6
        at_most = [clock for clock in self._clocks_mhz if clock <= wanted_mhz]
        return at_most[-1] if at_most else self._clocks_mhz[0]

    # -- power limits

    def _limit_power(self, server: Server, handle: Any, level: float) -> float:
        if level >= 1.0:
            limit_mw = self._call(server.name, self._nvml.nvmlDeviceGetPowerManagementDefaultLimit, handle)
            self._call(server.name, self._nvml.nvmlDeviceSetPowerManagementLimit, handle, limit_mw)
            return 1.0
        low_mw, high_mw = self._call(server.name, self._nvml.nvmlDeviceGetPowerManagementLimitConstraints, handle)
        limit_mw = min(max(int(self._scale.limit_w(level) * 1000.0), low_mw), high_mw)
        self._call(server.name, self._nvml.nvmlDeviceSetPowerManagementLimit, handle, limit_mw)
        return self._scale.level_of_limit(limit_mw / 1000.0)

    def _read_limit(self, server: Server, handle: Any, expected: float) -> float:
        limit_mw = self._call(server.name, self._nvml.nvmlDeviceGetPowerManagementLimit, handle)
        default_mw = self._call(server.name, self._nvml.nvmlDeviceGetPowerManagementDefaultLimit, handle)
        return 1.0 if limit_mw >= default_mw else self._scale.level_of_limit(limit_mw / 1000.0)

    # -- devices

    def _find(self, servers: Sequence[Server]) -> None:
        count = self._call("nvmlDeviceGetCount", self._nvml.nvmlDeviceGetCount)
        taken: dict[str, str] = {}
        for server in servers:
            gpus = server.options.get("gpus") or list(range(count))
            self._locks[server.index] = threading.Lock()
            self._handles[server.index] = [self._handle(server, gpu) for gpu in gpus]
            for handle in self._handles[server.index]:
                uuid = self._call(server.name, self._nvml.nvmlDeviceGetUUID, handle)
                if uuid in taken:
                    raise InputError(
                        f"server {server.name}: GPU {uuid} also belongs to {taken[uuid]}; give each server its gpus"
                    )
                taken[uuid] = server.name
        handles = [handle for own in self._handles.values() for handle in own]
        if handles:
            self._learn(handles[0])

    def _handle(self, server: Server, gpu: int | str) -> Any:
        if isinstance(gpu, int):
            return self._call(f"{server.name}: GPU {gpu}", self._nvml.nvmlDeviceGetHandleByIndex, gpu)
        return self._call(f"{server.name}: GPU {gpu}", self._nvml.nvmlDeviceGetHandleByUUID, gpu.encode())

    def _learn(self, handle: Any) -> None:
        memory_mhz = max(self._call("memory clocks", self._nvml.nvmlDeviceGetSupportedMemoryClocks, handle))
        clocks = self._call("graphics clocks", self._nvml.nvmlDeviceGetSupportedGraphicsClocks, handle, memory_mhz)
        self._clocks_mhz = sorted(clocks)
        highest_mhz = self._clocks_mhz[-1]
        if self._lever == "clocks" and abs(highest_mhz - self._scale.max_clock_mhz) > 0.5:
            raise InputError(
                f"nvml: the highest clock here is {highest_mhz} MHz, the scale says {self._scale.max_clock_mhz:g}; "
                f"set scale.max_clock_mhz = {highest_mhz} or take the profile of this GPU"
            )
        step_mhz = min((b - a for a, b in zip(self._clocks_mhz, self._clocks_mhz[1:], strict=False)), default=1)
        self.resolution = (step_mhz if self._lever == "clocks" else 1.0) / self._scale.max_clock_mhz

    def _call(self, what: str, function: Callable[..., T], *arguments: Any) -> T:
        try:
            return function(*arguments)
        except self._nvml.NVMLError as error:
            raise _translated(self._nvml, what, function.__name__, error) from error


_PRIVILEGES = (
    "nvml: setting clocks and limits needs root or CAP_SYS_ADMIN, which this process has not; run it as root, give the "
    "container --cap-add SYS_ADMIN, or use the back end zeusd"
)


def load_nvml() -> ModuleType:
    """The module of nvidia-ml-py.

    Raises:
        MissingExtraError: it is not installed.
    """
    with client_library("NVML needs nvidia-ml-py"):
        import pynvml
    return pynvml


def _translated(nvml: ModuleType, what: str, function: str, error: Any) -> ActuatorError:
    text = f"{what}: {function}: {error}"
    if error.value == nvml.NVML_ERROR_NO_PERMISSION:
        return NoPermissionError(f"{text}; run as root (or with CAP_SYS_ADMIN), or use the back end zeusd")
    if error.value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED, nvml.NVML_ERROR_GPU_NOT_FOUND):
        return ServerLostError(f"{text}; see dmesg for its Xid, drain the server and reset or reboot it")
    if error.value in (nvml.NVML_ERROR_LIBRARY_NOT_FOUND, nvml.NVML_ERROR_DRIVER_NOT_LOADED):
        return ServerLostError(f"{text}; install or load the NVIDIA driver")
    if error.value in (nvml.NVML_ERROR_TIMEOUT, nvml.NVML_ERROR_UNKNOWN):
        return UnansweredError(f"{text}; it may have had an effect")
    if error.value in (nvml.NVML_ERROR_INVALID_ARGUMENT, nvml.NVML_ERROR_NOT_FOUND):
        return RefusedError(f"{text}; no such GPU or value: see nvidia-smi -q -d SUPPORTED_CLOCKS,POWER")
    return RefusedError(text)


def may_write() -> bool:
    """Whether this process has the privileges for setting clocks and limits."""
    if os.geteuid() == 0:
        return True
    status = Path("/proc/self/status")
    if not status.is_file():
        return False
    for line in status.read_text("ascii", "replace").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> CAP_SYS_ADMIN & 1)
    return False


ACTUATORS.add("nvml", ActuatorKind(NvmlConfig, NvmlServer, NvmlActuator, "GPUs of this machine through NVML"))
