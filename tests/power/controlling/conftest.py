"""The fake NVIDIA library, a telemetry file that keeps growing, and row files."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.power.controlling.fake_nvml import FakeGpus, build

RUNNER = Path(__file__).with_name("run_daemon.py")


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory) -> Path:
    needs(shutil.which("gcc") is not None, "gcc builds the fake libnvidia-ml.so.1")
    library = build(tmp_path_factory.mktemp("nvml"))
    # A library that is loaded under this name is what the real nvidia-ml-py then gets, without LD_LIBRARY_PATH.
    ctypes.CDLL(str(library))
    return library


@pytest.fixture
def make_gpus(nvml_library, tmp_path, monkeypatch):
    def make(num_gpus: int, **options) -> FakeGpus:
        gpus = FakeGpus(nvml_library, tmp_path / "gpus.state", num_gpus, **options)
        for name, value in gpus.environment.items():
            monkeypatch.setenv(name, value)
        return gpus

    return make


class Feeder:
    """Appends a line of row power every period, as a PDU's logger does."""

    def __init__(self, path: Path, power_w: float, period_s: float) -> None:
        self.path, self.power_w, self.period_s = path, power_w, period_s
        self.skew_s = 0.0
        self.silent = threading.Event()
        self._stop = threading.Event()
        path.write_text("time,power_w\n")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self.silent.is_set():
                with self.path.open("a") as file:
                    file.write(f"{time.time() + self.skew_s:.6f},{self.power_w}\n")
            self._stop.wait(self.period_s)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def make_feeder(tmp_path):
    feeders = []

    def make(power_w: float, period_s: float = 0.05) -> Feeder:
        feeders.append(Feeder(tmp_path / "power.csv", power_w, period_s))
        return feeders[-1]

    yield make
    for feeder in feeders:
        feeder.stop()


ROW = """
[row]
name = "test"
budget_w = 1000.0
telemetry_period_s = 0.1
cap_latency_s = 0.4
brake_latency_s = 0.2
backend = "{backend}"
{steps}

[[servers]]
names = "low[0-1]"
priority = "low"
{low}
[[servers]]
names = "high[0-1]"
priority = "high"
{high}
[telemetry]
source = "file"
path = "power.csv"

[policy]
name = "{policy}"

[control]
journal = "row.sqlite"
readback_period_s = 1.0
{control}
[ledger]
retry_s = 0.1
{ledger}
{more}
"""


@pytest.fixture
def write_row(tmp_path):
    def write(**parts: str) -> Path:
        values = {
            "backend": "dry",
            "steps": "",
            "low": "",
            "high": "",
            "policy": "polca",
            "control": "",
            "ledger": "",
            "more": "",
        }
        path = tmp_path / "row.toml"
        path.write_text(ROW.format(**values | parts))
        return path

    return write


class Nursery:
    """Starts daemons as processes of their own without importing everything each time."""

    def __init__(self, library: Path) -> None:
        environment = os.environ | {"LD_LIBRARY_PATH": str(library.parent)}  # read when a process starts, not later
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, str(RUNNER)], stdin=pipe, stdout=pipe, text=True, env=environment
        )

    def start(self, log: Path, arguments: list[str]) -> int:
        order = {"log": str(log), "arguments": arguments, "folder": str(Path.cwd()), "environment": dict(os.environ)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait(20)


@pytest.fixture(scope="session")
def nursery(nvml_library):
    found = Nursery(nvml_library)
    yield found
    found.stop()


class Forked:
    """A process of the nursery, as `subprocess.Popen` shows one of its own."""

    def __init__(self, pid: int, exit_file: Path) -> None:
        self.pid, self._exit_file = pid, exit_file

    def poll(self) -> int | None:
        return int(self._exit_file.read_text()) if self._exit_file.exists() else None

    def wait(self, timeout_s: float = 20.0) -> int:
        assert eventually(lambda: self.poll() is not None, timeout_s), "the daemon does not end"
        return self.poll()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Daemon:
    """The daemon as a process of its own."""

    def __init__(self, nursery: Nursery, row: Path, *arguments: str) -> None:
        self.log = row.with_name(f"daemon-{time.monotonic_ns()}.log")
        self.process = Forked(nursery.start(self.log, [str(row), *arguments]), self.log.with_suffix(".exit"))

    def says(self, text: str, timeout_s: float = 20.0) -> bool:
        return eventually(lambda: text in self._said() or self.process.poll() is not None, timeout_s) and (
            text in self._said()
        )

    def end(self, number: int, timeout_s: float = 20.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def report(self) -> dict:
        return json.loads(self.log.read_text().splitlines()[-1])

    def _said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


@pytest.fixture
def start_daemon(nursery):
    daemons = []

    def start(row: Path, *arguments: str) -> Daemon:
        daemons.append(Daemon(nursery, row, *arguments))
        return daemons[-1]

    yield start
    for daemon in daemons:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()


def eventually(condition, timeout_s: float = 10.0) -> bool:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())
