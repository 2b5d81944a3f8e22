"""`nonet recsys up` as a process of its own: curl an action and a recommendation, SIGTERM, `kill -9`, and on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from nonet.recsys.config import load_job
from nonet.recsys.running import keeping
from nonet.recsys.running.starting import Columns, write_job
from tests.recsys.running.conftest import eventually

_UP = "import sys; from nonet.recsys.cli import app; app(['up', *sys.argv[1:]])"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """The job that `init` writes, with short times."""
    path = write_job(tmp_path / "shop", Columns())[1]
    short = {"wait: 30s": "wait: 300ms", "allowed_lateness: 5s": "allowed_lateness: 100ms", "sync_interval: 5s": ""}
    text = path.read_text()
    for old, new in short.items():
        assert old in text
        text = text.replace(old, new.replace("300ms", "0.3").replace("100ms", "0.1") or "sync_interval: 0.2")
    path.write_text(text)
    (tmp_path / "items.csv").write_text("item\n" + "\n".join(f"i{n}" for n in range(10)) + "\n")
    return path


@contextmanager
def running(job: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], httpx2.Client]]:
    command = [sys.executable, "-c", _UP, str(job), "--port", "0", *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"serving \d+ items at (\S+)\n", line)
        assert found, line + (process.stderr.read() if process.stderr and process.poll() is not None else "")
        with httpx2.Client(base_url=found[1], timeout=60) as client:
            yield process, client
    finally:
        process.kill()
        process.communicate()


def click(client: httpx2.Client, item: str, times: int) -> None:
    for _ in range(times):
        shown = client.post("/v1/recommend", json={"user": "ada", "k": 10}).json()
        done = client.post("/v1/actions", json={"request_id": shown["request_id"], "item": item, "action": "click"})
        assert done.status_code == 202


def first(client: httpx2.Client) -> str:
    """What is best for her, without showing it: what is shown and not clicked counts against it."""
    items = [f"i{n}" for n in range(10)]
    return str(client.post("/v1/rank", json={"user": "ada", "items": items}).json()["items"][0]["id"])


def test_a_shop_learns_and_ends_in_order(job: Path, tmp_path: Path) -> None:
    with running(job, "--items", str(tmp_path / "items.csv")) as (process, client):
        assert client.get("/readyz").status_code == 200
        assert client.get("/v1/status").json()["staleness_s"] is None
        click(client, "i7", 10)
        eventually(lambda: first(client) == "i7", patience_s=150)
        assert client.post("/v1/recommend", json={"user": "ada", "k": 1}).json()["items"][0]["id"] == "i7"
        assert client.get("/v1/status").json()["staleness_s"] < 150
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert "curl" in said
    place = load_job(job).snapshot.path
    assert keeping.describe(place)["offsets"]["examples:0"] >= 100
    assert not (place / "running.json").exists()


@pytest.mark.slow
def test_a_shop_goes_on_after_a_kill(job: Path, tmp_path: Path) -> None:
    with running(job, "--items", str(tmp_path / "items.csv")) as (process, client):
        click(client, "i2", 10)
        eventually(lambda: first(client) == "i2", patience_s=150)
        assert client.post("/v1/snapshot").status_code == 200
        click(client, "i4", 40)
        eventually(lambda: first(client) == "i4", patience_s=150)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with running(job) as (_, client):
        eventually(lambda: first(client) == "i4")  # i2 from the snapshot, i4 replayed from the log
