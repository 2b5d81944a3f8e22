"""What holds the house together: import rules, docs that say what the code says, chores that exist, sizes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

import nonet
from nonet.common.settings import Settings
from nonet.rooms import ROOMS

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src" / "nonet").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 80
P90_FUNCTION_LINES = 30


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_a_file_imports_only_what_its_place_allows(path: Path) -> None:
    place = path.relative_to(ROOT / "src" / "nonet").parts[0]
    foreign_rooms = [name for name in ROOMS if name != place]
    for module in imported(path):
        assert module.partition(".")[0] != "pandas"
        if place == "common" or place in ROOMS:
            banned = [f"nonet.{name}" for name in (*foreign_rooms, "cli", "tour", "rooms")]
            assert not any(module == name or module.startswith(f"{name}.") for name in banned), module


def test_the_import_contract_holds() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def function_sizes() -> list[tuple[int, str]]:
    return sorted(
        (
            (node.end_lineno - node.lineno + 1, f"{path.relative_to(ROOT)}:{node.name}")
            for path in SOURCES
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
        ),
        reverse=True,
    )


def test_files_and_functions_stay_readable() -> None:
    long_files = [str(p) for p in SOURCES if len(p.read_text().splitlines()) > MAX_FILE_LINES]
    assert long_files == []
    sizes = function_sizes()
    assert [name for lines, name in sizes if lines > MAX_FUNCTION_LINES] == []
    assert sizes[len(sizes) // 10][0] <= P90_FUNCTION_LINES


def test_every_make_command_in_the_docs_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(code_of(page))))
        assert named <= targets, f"{page.name}: {named - targets}"


def test_every_nonet_command_in_the_docs_exists() -> None:
    for page in PAGES:
        for command in re.findall(r"\bnonet ((?:[a-z][a-z-]*\s?)+)", "\n".join(code_of(page))):
            words = command.split()
            if words[0] in ROOMS and len(words) > 1:
                assert words[1] in verbs(words[0]), f"{page.name}: nonet {command}"
            else:
                assert words[0] in {*ROOMS, "tour", "config"}, f"{page.name}: nonet {command}"


def code_of(page: Path) -> list[str]:
    """The code in a page: fenced shell blocks and inline code."""
    text = page.read_text()
    fenced = re.findall(r"^```(?:sh|console|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return fenced + inline


def verbs(room: str) -> list[str]:
    command = get_command(ROOMS[room].load("cli").app)
    assert isinstance(command, TyperGroup)
    return list(command.commands)


@pytest.mark.parametrize("room", ROOMS)
def test_the_rooms_page_names_every_verb_and_every_public_name(room: str) -> None:
    text = (ROOT / "docs" / f"{room}.md").read_text()
    missing = [verb for verb in verbs(room) if f"nonet {room} {verb}" not in text]
    module = __import__(f"nonet.{room}", fromlist=["__all__"])
    missing += [name for name in module.__all__ if not re.search(rf"`[^`]*\b{name}\b[^`]*`", text)]
    assert missing == []
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("room", ROOMS)
def test_every_verb_has_help_with_an_example(room: str) -> None:
    command = get_command(ROOMS[room].load("cli").app)
    assert isinstance(command, TyperGroup)
    for name, verb in command.commands.items():
        assert f"nonet {room} {name}" in (verb.help or "") + (verb.epilog or ""), name


def test_every_setting_and_exit_code_is_documented() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text()
    for name in Settings.model_fields:
        assert f"`NONET_{name.upper()}`" in text
    for code in (0, 1, 2, 130, 141):
        assert f"| {code} |" in text


def test_rooms_are_known_everywhere() -> None:
    readme = (ROOT / "README.md").read_text()
    for room in ROOMS:
        assert room in PROJECT["project"]["optional-dependencies"]
        assert f"`{room}`" in readme
        assert (ROOT / "docs" / f"{room}.md").is_file()


def test_the_change_log_knows_the_version() -> None:
    assert f"## [{nonet.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_constraints_pin_every_direct_dependency_and_hold_no_address() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+-]+", line) for line in lines)
    pinned = {normal(line.partition("==")[0]) for line in lines}
    groups = {**PROJECT["project"]["optional-dependencies"], **PROJECT["dependency-groups"]}
    wanted = [name for group in groups.values() for name in group] + PROJECT["project"]["dependencies"]
    names = {normal(re.split(r"[<>=\[;]", name)[0]) for name in wanted} - {"nonet"}
    assert names <= pinned


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_local_links_of_the_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
