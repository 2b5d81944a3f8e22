"""The test's side of the fake libnvidia-ml.so.1: builds it with gcc, makes its state file, reads what was written."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_nvml.c")
MAX_GPUS, LOG_SIZE = 64, 65536
LOCK, RESET, LIMIT = 1, 2, 3


class Gpu(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("lost", "no_permission", "refuse", "delay_ms")),
        *((name, ctypes.c_uint32) for name in ("locked_min_mhz", "locked_max_mhz")),
        *((name, ctypes.c_uint32) for name in ("limit_mw", "default_limit_mw", "min_limit_mw", "max_limit_mw")),
        *((name, ctypes.c_uint32) for name in ("busy", "power_mw", "max_clock_mhz", "temperature_c")),
        *((name, ctypes.c_uint32) for name in ("in_write", "most_in_write", "clocks_unsupported", "padding")),
        ("energy_mj", ctypes.c_uint64),
        ("used_bytes", ctypes.c_uint64),
        ("uuid", ctypes.c_char * 64),
    )


class Entry(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("gpu", "op", "value", "pid")),
        ("at_ns", ctypes.c_uint64),
    )


class State(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("num_gpus", "driver_missing", "log_count", "padding")),
        ("gpus", Gpu * MAX_GPUS),
        ("log", Entry * LOG_SIZE),
    )


@dataclass(frozen=True)
class Written:
    gpu: int
    op: int
    value: int
    pid: int
    at_ns: int


class FakeGpus:
    """GPUs that every process with this environment sees."""

    def __init__(self, library: Path, state_path: Path, num_gpus: int, max_clock_mhz: int = 1410) -> None:
        self.environment = {"LD_LIBRARY_PATH": str(library.parent), "FAKE_NVML_STATE": str(state_path)}
        state_path.write_bytes(bytes(ctypes.sizeof(State)))
        with state_path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.state = State.from_buffer(self._map)
        self.state.num_gpus = num_gpus
        for index in range(num_gpus):
            gpu = self.state.gpus[index]
            gpu.max_clock_mhz, gpu.busy, gpu.power_mw, gpu.temperature_c = max_clock_mhz, 1, 300_000, 55
            gpu.limit_mw = gpu.default_limit_mw = gpu.max_limit_mw = 400_000
            gpu.min_limit_mw = 100_000
            gpu.energy_mj, gpu.used_bytes = 123_000, 40 * 2**30
            gpu.uuid = f"GPU-fake-{index:04d}".encode()

    def __getitem__(self, index: int) -> Gpu:
        return self.state.gpus[index]

    def clocks(self) -> list[int]:
        """Locked clock of each GPU, MHz; 0 when it is not locked."""
        return [self.state.gpus[i].locked_max_mhz for i in range(self.state.num_gpus)]

    def writes(self) -> list[Written]:
        return [
            Written(e.gpu, e.op, e.value, e.pid, e.at_ns) for e in self.state.log[: min(self.state.log_count, LOG_SIZE)]
        ]

    def most_writers(self) -> int:
        return max(self.state.gpus[i].most_in_write for i in range(self.state.num_gpus))


def build(folder: Path) -> Path:
    """Compile the library; returns its path, which ends in libnvidia-ml.so.1."""
    library = folder / "libnvidia-ml.so.1"
    command = ["gcc", "-O1", "-Wall", "-Werror", "-Wno-stringop-truncation", "-shared", "-fPIC"]
    command += ["-Wl,-soname,libnvidia-ml.so.1", "-o"]
    subprocess.run([*command, str(library), str(SOURCE)], check=True, capture_output=True, text=True)
    return library
