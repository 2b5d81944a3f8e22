"""A small job with short times."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nonet.recsys.config import JobFile

FEATURES = {
    "features": {"user": {"slot": 1}, "item": {"slot": 2}, "genre": {"slot": 3}},
    "defaults": {"dim": 4, "optimizer": {"name": "adagrad", "lr": 0.2}},
    "user": "user",
    "item": "item",
    "item_attributes": ["genre"],
}

MakeJob = Callable[..., JobFile]


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    def make(**sections: Any) -> JobFile:
        base: dict[str, Any] = {
            "features": FEATURES,
            "log": {"path": tmp_path / "log"},
            "labels": {"wait": 0.3, "late": "correct", "late_wait": 5.0},
            "joiner": {"allowed_lateness": 0.05, "idle": 0.1, "heartbeat": 0.1, "spill": tmp_path / "spill"},
            "trainer": {"hidden": [4], "batch_size": 64},
            "sync_interval": 0.1,
            "dense_sync_interval": 0.2,
            "snapshot": {"path": tmp_path / "snapshots"},
            "dictionaries": tmp_path / "dictionaries",
            "http": {"port": 0},
        }
        for name, values in sections.items():
            merged = isinstance(values, dict) and name != "features"
            base[name] = {**base.get(name, {}), **values} if merged else values
        return JobFile.model_validate(base)

    return make


def eventually(holds: Callable[[], Any], patience_s: float = 60.0) -> Any:
    """What it gives once that is true."""
    until_s = time.monotonic() + patience_s
    while time.monotonic() < until_s:
        if found := holds():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {patience_s:g} s: {holds}")
