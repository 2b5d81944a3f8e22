"""The terminal: what goes to stdout, what to stderr, and what is silent."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from nonet.common import console
from nonet.common.findings import Finding, Rival
from nonet.common.jsonable import jsonable

SOME = [
    Finding("logs", "speed", 30.0, "x", "higher", "Linux, real", (Rival("drain3", 2.0, "measured"),), 10.0, "one core"),
    Finding("logs", "fga", 0.7, "", "higher", "synthetic", (Rival("Drain", 0.8, "published", "table 3"),), 0.8),
    Finding("logs", "rows", 18.0, "", "match", "Linux, real"),
]

PROGRESS = """
import sys, time
from nonet.common import console
console.set_quiet(len(sys.argv) > 1)
for _ in console.track(range(20), "counting", unit="turns"):
    time.sleep(0.01)
console.note("a note")
"""


@pytest.fixture(autouse=True)
def _not_quiet() -> None:
    console.set_quiet(False)


def on_terminal(*arguments: str) -> str:
    """What a program writes to stderr when that is a terminal."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRESS, *arguments],
        stderr=terminal,
        stdout=subprocess.PIPE,
        env=environment,
        check=True,
    )
    os.close(terminal)
    assert done.stdout == b""
    seen = b""
    try:
        while chunk := os.read(controller, 65536):
            seen += chunk
    except OSError:  # the other side is closed
        pass
    os.close(controller)
    return seen.decode()


def test_progress_shows_on_a_terminal_and_is_silent_when_quiet() -> None:
    assert "counting" in on_terminal()
    assert on_terminal("quiet") == ""


def test_progress_is_silent_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress(3, "work") as bar:
        bar.advance()
        bar.describe("more")
    assert capsys.readouterr() == ("", "")


def test_notes_go_to_stderr_unless_quiet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    console.note("seen")
    monkeypatch.setenv("NONET_QUIET", "1")
    console.note("unseen")
    assert capsys.readouterr() == ("", "seen\n")


def test_errors_are_one_line_also_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    console.set_quiet(True)
    console.print_error("a\nb")
    assert capsys.readouterr() == ("", "error: a b\n")


def test_findings_show_ours_rivals_ratio_promise(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_findings(SOME, title="logs")
    lines = capsys.readouterr().out.splitlines()
    speed = next(line for line in lines if "drain3" in line).split()
    assert speed == ["speed", "30", "x", "drain3", "2", "x", "15x", ">=", "10", "kept"]
    assert any("Drain (published)" in line and "NOT KEPT" in line for line in lines)
    assert "speed: Linux, real; one core" in lines
    assert "fga: synthetic; Drain: table 3" in lines
    assert lines[-1] == "3 findings, 1 of 2 promises kept"


def test_unlike_things_have_no_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    rival = Rival("prefix mode", 3315.0, "measured", unit="ms")
    console.print_findings([Finding("ragcache", "latency", 1.066, "x", "higher", "a trace", (rival,))])
    line = next(one for one in capsys.readouterr().out.splitlines() if "prefix mode" in one)
    assert line.split() == ["latency", "1.066", "x", "prefix", "mode", "3315", "ms"]


def test_a_table_in_a_pipe_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 500
    console.print_table(["text", "n"], [(long, 1_234_567), ("[red]markup[/red]", None)])
    out = capsys.readouterr().out
    assert long in out
    assert "[red]markup[/red]" in out
    assert "1,234,567" in out
    assert "\x1b" not in out


def test_json_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    console.emit_json({"a": np.float32(0.5), "b": np.arange(3), "c": SOME[0].rivals})
    assert json.loads(capsys.readouterr().out) == {
        "a": 0.5,
        "b": [0, 1, 2],
        "c": [{"name": "drain3", "value": 2.0, "kind": "measured", "source": "", "unit": ""}],
    }
    console.emit_jsonl([{"n": np.int64(1)}, {"n": float("inf")}])
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [{"n": 1}, {"n": None}]


def test_jsonable_refuses_what_has_no_json_form() -> None:
    assert jsonable([Path("a"), b"\xff", datetime(2026, 1, 2, tzinfo=UTC)]) == [
        "a",
        "\\xff",
        "2026-01-02T00:00:00+00:00",
    ]
    with pytest.raises(TypeError, match="no JSON form"):
        jsonable(object())
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(TypeError, match="too deep"):
        jsonable(loop)
