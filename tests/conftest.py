"""Shared fixtures: the data mirror, and an environment scrubbed of the user's settings."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from nonet.common.console import set_quiet

gc.disable()  # while collecting: what is imported and collected lives to the end, and looking through it takes as long


def pytest_collection_finish() -> None:
    """Never look again through what collecting has made; garbage of the tests is collected as ever."""
    gc.freeze()
    gc.enable()


def needs(condition: bool, reason: str) -> None:
    """Skip when the machine lacks something; under CI=true that is a failure, since CI installs what is needed."""
    if condition:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have it: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder of real data sets (NONET_MIRROR), with `logs/` inside."""
    folder = Path(os.environ.get("NONET_MIRROR", "../shared/data"))
    needs((folder / "logs").is_dir(), "no data mirror: set NONET_MIRROR to a folder that holds logs/")
    return folder.resolve()


@pytest.fixture(autouse=True)
def _scrubbed_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads or writes the user's own folders."""
    monkeypatch.setenv("NONET_HOME", str(tmp_path / "nonet-home"))
    set_quiet(False)  # what `--quiet` of an earlier test has left
    for name in [n for n in os.environ if n.startswith("NONET_") and n not in ("NONET_HOME", "NONET_MIRROR")]:
        monkeypatch.delenv(name)
