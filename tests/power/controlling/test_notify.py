"""What systemd is told: ready, alive with every period, stopping."""

from __future__ import annotations

import signal
import socket

from tests.power.controlling.conftest import eventually


def test_systemd_is_told(make_feeder, write_row, start_daemon, tmp_path, monkeypatch):
    make_feeder(500.0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20.0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        daemon = start_daemon(write_row())
        assert [manager.recv(64) for _ in range(4)] == [b"READY=1"] + [b"WATCHDOG=1"] * 3
        assert daemon.end(signal.SIGTERM) == 0
        said: list[bytes] = []
        assert eventually(lambda: said.append(manager.recv(64)) or said[-1] == b"STOPPING=1")
