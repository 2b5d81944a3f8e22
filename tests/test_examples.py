"""Examples and the commands of the guide: run, and compared with what the pages show."""

from __future__ import annotations

import io
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nonet.cli import exit_code_of
from nonet.common import console
from nonet.common.errors import NonetError
from nonet.logs.cli import app

DOCS = Path(__file__).resolve().parents[1] / "docs"
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
MAX_EXAMPLE_LINES = 60
CONSOLE = re.compile(r"^```console\n\$ nonet logs ([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = ("logs-guide.md", "logs-evaluation.md")
MEASURED = re.compile(r"\d+\.\d+ s\b")  # seconds differ from run to run
STABLE_CELLS = 7  # of the wide tables; behind them stand seconds, speed and memory


@pytest.fixture(autouse=True)
def _loud() -> Iterator[None]:
    yield
    console.set_quiet(False)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_is_committed(
    example: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = example.with_suffix(".in")
    monkeypatch.setattr(sys, "argv", [str(example)])
    monkeypatch.setattr(sys, "stdin", io.StringIO(given.read_text("utf-8") if given.exists() else ""))
    runpy.run_path(str(example), run_name="__main__")
    expected = example.with_suffix(".out").read_text("utf-8")
    assert capsys.readouterr().out == expected, f"if this is right: python {example.name} > {example.stem}.out"


def test_examples_are_short_and_shown() -> None:
    pages = "".join((DOCS / name).read_text("utf-8") for name in ("logs.md", *PAGES))
    assert EXAMPLES
    for example in EXAMPLES:
        assert len(example.read_text("utf-8").splitlines()) <= MAX_EXAMPLE_LINES, example.name
        assert f"examples/{example.name}" in pages, f"no page leads to {example.name}"


def test_the_guide_shows_the_output_of_the_stream() -> None:
    assert (DOCS / "examples" / "stream.out").read_text("utf-8") in (DOCS / "logs-guide.md").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_print_what_it_shows(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for log in (DOCS / "examples").glob("*.log"):
        shutil.copy(log, tmp_path)
    monkeypatch.chdir(tmp_path)
    commands = CONSOLE.findall((DOCS / page).read_text("utf-8"))
    assert commands
    for command, shown in commands:
        printed = run(shlex.split(command))
        form = table if command.startswith(("compare", "evaluate")) else text
        wanted, found = form(shown), form(printed)
        if wanted[-1] == ["..."]:
            wanted, found = wanted[:-1], found[: len(wanted) - 1]
        assert found == wanted, f"nonet logs {command}"


def run(arguments: list[str]) -> str:
    """Stdout of a command that ends well, the line on stderr of one that does not."""
    result = CliRunner().invoke(app, arguments)
    if result.exit_code == 0:
        return result.stdout
    assert isinstance(result.exception, NonetError), result.output
    assert exit_code_of(result.exception) == 2
    return f"error: {result.exception}"


def text(printed: str) -> list[list[str]]:
    """Lines without their trailing blanks and without seconds."""
    return [[MEASURED.sub("# s", line.rstrip())] for line in printed.strip().splitlines()]


def table(printed: str) -> list[list[str]]:
    """The cells of each line that do not depend on the machine; rules are left out."""
    lines = [line for line in printed.splitlines() if line.strip() and "──" not in line]
    return [re.split(r"\s{2,}", line.strip())[:STABLE_CELLS] for line in lines]
