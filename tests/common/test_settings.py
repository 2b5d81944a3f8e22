"""Settings: precedence, origins, and errors that say where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nonet.common.errors import InputError
from nonet.common.settings import Settings, export_settings, load_settings


def test_flag_beats_variable_beats_file_beats_default(tmp_path: Path) -> None:
    (tmp_path / "nonet.toml").write_text('mirror = "data"\nhome = "/h"\nquiet = true\n')
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    settings, origins = load_settings({"quiet": False}, folder=below, environment={"NONET_HOME": "/e", "PATH": "/"})
    assert settings == Settings(mirror=tmp_path / "data", home=Path("/e"), quiet=False, debug=False)
    file = str(tmp_path / "nonet.toml")
    assert origins == {"mirror": file, "home": "NONET_HOME", "quiet": "flag", "debug": "default"}


def test_pyproject_table_is_used_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "nonet.toml").write_text("quiet = true\n")
    below = tmp_path / "project"
    below.mkdir()
    project = below / "pyproject.toml"
    project.write_text("[project]\nname = 'x'\n")
    assert load_settings(folder=below, environment={})[0].quiet is True
    project.write_text("[tool.nonet]\ndebug = true\n")
    settings, _ = load_settings(folder=below, environment={})
    assert (settings.debug, settings.quiet) == (True, False)


@pytest.mark.parametrize(
    ("toml", "environment", "message"),
    [
        ("mirorr = 'x'", {}, r"unknown setting 'mirorr' in .*nonet.toml; did you mean mirror\?"),
        ("quiet = 'perhaps'", {}, r"nonet.toml: quiet = 'perhaps'"),
        ("quiet = ", {}, "not valid TOML"),
        ("", {"NONET_MIROR": "/x"}, r"unknown setting NONET_MIROR; did you mean NONET_MIRROR\?"),
        ("", {"NONET_DEBUG": "perhaps"}, "NONET_DEBUG: debug = 'perhaps'"),
    ],
)
def test_errors_name_the_place(tmp_path: Path, toml: str, environment: dict[str, str], message: str) -> None:
    (tmp_path / "nonet.toml").write_text(toml)
    with pytest.raises(InputError, match=message):
        load_settings(folder=tmp_path, environment=environment)


def test_exported_settings_reach_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NONET_HOME", "NONET_MIRROR", "NONET_QUIET"):
        monkeypatch.setenv(name, "before")
    export_settings(Settings(mirror=Path("/m"), quiet=True))
    assert [os.environ[n] for n in ("NONET_HOME", "NONET_MIRROR", "NONET_QUIET")] == ["before", "/m", "1"]
