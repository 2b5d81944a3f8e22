"""The command line: quick help, one-line errors, exit codes, completion."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

import nonet
from nonet.cli import main
from nonet.common.errors import GateFailedError, InputError, MissingExtraError
from nonet.rooms import ROOMS, Room

HELP_LIMIT_S = 0.3
HEAVY = ("numpy", "numba", "polars", "pyarrow", "altair", "jinja2", "pydantic", "pooch", "torch", "nonet.logs")


def nonet_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nonet", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60, check=False
    )


def run(*arguments: str) -> int:
    """The exit code of a command run in this process."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> dict[str, BaseException | None]:
    """A room "probe" whose verb `fail` raises what stands under "error"."""
    wanted: dict[str, BaseException | None] = {"error": None}
    app = typer.Typer()

    @app.callback()
    def probe() -> None:
        """A room for this test."""

    @app.command()
    def fail(times: int = 1) -> None:
        print("result" * times)
        if wanted["error"] is not None:
            raise wanted["error"]

    monkeypatch.setattr(Room, "load", lambda self, module: SimpleNamespace(app=app))
    return wanted


def test_help_is_quick_and_names_every_room() -> None:
    # Processor time, the least of seven: wall time on a busy machine measures what else it does.
    seconds = []
    for _ in range(7):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        shown = nonet_process("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert shown.returncode == 0
    assert shown.stderr == ""
    assert all(name in shown.stdout for name in (*ROOMS, "tour", "config"))
    assert min(seconds) < HELP_LIMIT_S


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from nonet.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"nonet {nonet.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lgos"], "error: No such command 'lgos'. Did you mean 'logs'? (see: nonet --help)"),
        (["tour", "--uot", "x"], "error: No such option: --uot"),
        (
            ["config", "show", "extra"],
            "error: Got unexpected extra argument(s) (extra) (see: ",
        ),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(message)
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["config"]])
def test_without_a_command_the_help_is_shown(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    shown = capsys.readouterr()
    assert "Usage: nonet" in shown.out + shown.err
    assert "error:" not in shown.err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("app.log: line 3: no\nheader"), 2, "error: app.log: line 3: no header"),
        (GateFailedError("speed fell"), 1, "error: speed fell"),
        (FileNotFoundError(2, "No such file or directory", "a.log"), 2, "error: No such file or directory: a.log"),
        (OSError(28, "No space left on device", "out"), 1, "error: No space left on device: out"),
        (MemoryError(), 1, "error: out of memory"),
        (ZeroDivisionError("odd"), 1, "error: unexpected ZeroDivisionError: odd (a bug in nonet; NONET_DEBUG=1"),
        (typer.BadParameter("too small"), 2, "error: Invalid value: too small"),
        (typer.Exit(3), 3, ""),
    ],
)
def test_errors_of_a_room(
    error: BaseException,
    code: int,
    line: str,
    room: dict[str, BaseException | None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    room["error"] = error
    assert run("logs", "fail") == code
    shown = capsys.readouterr()
    assert shown.out == "result\n"
    assert shown.err.startswith(line)
    assert shown.err.count("\n") == (1 if line else 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), typer.Abort()])
def test_interrupted(
    error: BaseException, room: dict[str, BaseException | None], capsys: pytest.CaptureFixture[str]
) -> None:
    room["error"] = error
    assert run("logs", "fail") == 130
    assert "Traceback" not in capsys.readouterr().err


def test_debug_shows_the_traceback(
    room: dict[str, BaseException | None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    room["error"] = InputError("bad line")
    monkeypatch.setenv("NONET_DEBUG", "1")
    assert run("logs", "fail") == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("error: bad line\n")


def test_a_reader_that_goes_away_is_no_error() -> None:
    """As `nonet ... | head`: the other end of the pipe closes before all is written."""
    code = """
import typer
from types import SimpleNamespace
from nonet.rooms import Room
from nonet.cli import main
app = typer.Typer()
@app.callback()
def room(): pass
@app.command()
def many():
    for _ in range(200_000):
        print("a line of the result")
Room.load = lambda self, module: SimpleNamespace(app=app)
main(["logs", "many"])
"""
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert writer.stdout is not None and writer.stderr is not None
    writer.stdout.readline()
    writer.stdout.close()
    assert writer.stderr.read() == b""
    assert writer.wait(timeout=30) == 141
    writer.stderr.close()


def test_a_missing_package_is_answered_with_the_command_that_installs_it(
    room: dict[str, BaseException | None], capsys: pytest.CaptureFixture[str]
) -> None:
    room["error"] = ModuleNotFoundError("No module named 'numpy.linalg'", name="numpy.linalg")
    assert run("logs", "fail") == 2
    wanted = "error: room 'logs' needs the package 'numpy'; install it with: pip install 'nonet[logs]'\n"
    assert capsys.readouterr().err == wanted


def test_a_room_that_cannot_be_imported_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.startswith("nonet.logs")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numpy", None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=r"pip install 'nonet\[logs\]'"):
        ROOMS["logs"].load("mining.miner")


def test_config_show_tells_the_origin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NONET_MIRROR", "/data")
    assert run("config", "show", "--origin") == 0
    row = next(line.split() for line in capsys.readouterr().out.splitlines() if "mirror" in line)
    assert row == ["mirror", "/data", "NONET_MIRROR"]


def test_a_bad_settings_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nonet.toml").write_text("mirorr = 'x'\n")
    monkeypatch.chdir(tmp_path)
    assert run("config", "show") == 2
    assert "did you mean mirror?" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_offers_rooms(shell: str) -> None:
    words = {"COMP_WORDS": "nonet lo", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "nonet lo"}
    done = nonet_process(_NONET_COMPLETE=f"complete_{shell}", _TYPER_COMPLETE_FISH_ACTION="get-args", **words)
    assert "logs" in done.stdout
