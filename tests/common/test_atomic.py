"""Atomic writes: whole or not at all, also when the writer is killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nonet.common.atomic import atomic_path, atomic_write
from nonet.common.errors import InputError


def test_replaces_the_old_file_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "state"
    target.write_text("old")
    with atomic_write(target) as file:
        file.write("new")
        file.flush()
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_leaves_the_old_file_and_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "state"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(target, "wb") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_text_newlines_are_kept_as_given(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "t") as file:
        file.write("a\r\nb\n")
    assert (tmp_path / "t").read_bytes() == b"a\r\nb\n"


def test_permissions_follow_the_old_file_or_the_umask(tmp_path: Path) -> None:
    kept, fresh, plain = tmp_path / "kept", tmp_path / "fresh", tmp_path / "plain"
    kept.write_text("")
    kept.chmod(0o640)
    plain.write_text("")
    for target in (kept, fresh):
        with atomic_write(target) as file:
            file.write("x")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o640
    assert fresh.stat().st_mode == plain.stat().st_mode


def test_a_symbolic_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    with atomic_write(link) as file:
        file.write("new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_a_pipe_is_written_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    with atomic_write(pipe, "wb") as file:
        file.write(b"through")
    assert reader.communicate(timeout=10)[0] == b"through"
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_the_temporary_path_ends_like_the_target(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "lines.parquet") as path:
        assert path.suffix == ".parquet"
        assert path.parent == tmp_path


@pytest.mark.parametrize(("name", "message"), [("", "it is a folder"), ("no/such", "does not exist")])
def test_a_bad_target_is_refused_in_one_line(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught, atomic_write(tmp_path / name):
        pass
    assert "\n" not in str(caught.value)


WRITER = """
import itertools, sys
from nonet.common.atomic import atomic_write
print("ready", flush=True)
for turn in itertools.count():
    with atomic_write(sys.argv[1], "wb") as file:
        for _ in range(64):
            file.write(bytes([65 + turn % 26]) * 65536)
"""


def test_kill_9_never_leaves_half_a_file(tmp_path: Path) -> None:
    target = tmp_path / "state"
    for attempt in range(5):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(target)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.03 + 0.017 * attempt)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        if target.exists():
            content = target.read_bytes()
            assert len(content) == 64 * 65536
            assert len(set(content)) == 1
    assert target.exists(), "no attempt finished a write: the test proved nothing"
