"""Settings: a flag beats a NONET_* variable beats nonet.toml (or [tool.nonet] in pyproject.toml) beats the default.

The file is the nearest one from the working folder upwards. Unknown keys, unknown NONET_* variables and values of the
wrong type are errors that name where they stand.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nonet.common.errors import InputError

PREFIX = "NONET_"


class Settings(BaseModel):
    """What can be set for the whole house; a room's own options are flags of its commands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mirror: Path | None = Field(None, description="Folder of data sets that is read in place and never written.")
    home: Path | None = Field(None, description="Folder of downloads and caches instead of the system's cache folder.")
    quiet: bool = Field(False, description="No progress and no notes on stderr.")
    debug: bool = Field(False, description="Show the traceback of an error.")


def load_settings(
    flags: Mapping[str, Any] | None = None, *, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> tuple[Settings, dict[str, str]]:
    """The settings in force, and for each where its value comes from.

    Args:
        flags: values given on the command line, by setting name.
        folder: where the search for the file starts; the working folder when None.
        environment: the process's own when None.

    Raises:
        InputError: an unknown key or variable, a value of the wrong type, or a file that is no TOML.

    >>> settings, origins = load_settings({"quiet": True}, folder=Path("/"), environment={"NONET_MIRROR": "/data"})
    >>> str(settings.mirror), origins["mirror"], origins["quiet"], origins["home"]
    ('/data', 'NONET_MIRROR', 'flag', 'default')
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Settings.model_fields, "default")
    for layer in (
        _file_layer((folder or Path.cwd()).resolve()),
        _environment_layer(os.environ if environment is None else environment),
        {name: (value, "flag") for name, value in (flags or {}).items()},
    ):
        for name, (value, origin) in layer.items():
            if name not in Settings.model_fields:
                raise InputError(_unknown(name, origin))
            if (
                origin.endswith(".toml")
                and Settings.model_fields[name].annotation is bool
                and not isinstance(value, bool)
            ):
                raise InputError(f"{origin}: {name} = {value!r}: must be true or false")
            values[name], origins[name] = value, origin
    try:
        return Settings(**values), origins
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise InputError(f"{origins[name]}: {name} = {values[name]!r}: {first['msg'].lower()}") from error


def export_settings(settings: Settings) -> None:
    """Put what differs from the default into NONET_* of this process, where worker processes and libraries find it."""
    for name, value in settings.model_dump(exclude_defaults=True).items():
        os.environ[PREFIX + name.upper()] = "1" if value is True else str(value)


Layer = dict[str, tuple[Any, str]]


def _environment_layer(environment: Mapping[str, str]) -> Layer:
    return {
        variable.removeprefix(PREFIX).lower(): (value, variable)
        for variable, value in environment.items()
        if variable.startswith(PREFIX) and value != ""
    }


def _file_layer(folder: Path) -> Layer:
    for place in (folder, *folder.parents):
        for path, table in ((place / "nonet.toml", ()), (place / "pyproject.toml", ("tool", "nonet"))):
            found = _read_table(path, table)
            if found is not None:
                # A relative folder in the file is meant relative to the file.
                return {name: (_anchored(name, value, place), str(path)) for name, value in found.items()}
    return {}


def _read_table(path: Path, table: tuple[str, ...]) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error
    for key in table:
        found = found.get(key)
        if found is None:
            return None
    if not isinstance(found, dict):
        raise InputError(f"{path}: [{'.'.join(table)}] must be a table")
    return found


def _anchored(name: str, value: Any, place: Path) -> Any:
    is_folder = name in ("mirror", "home") and isinstance(value, str)
    return place / Path(value).expanduser() if is_folder else value


def _unknown(name: str, origin: str) -> str:
    from_variable = origin.startswith(PREFIX)
    known = [PREFIX + n.upper() for n in Settings.model_fields] if from_variable else list(Settings.model_fields)
    what = origin if from_variable else f"{name!r} in {origin}"
    near = difflib.get_close_matches(origin if from_variable else name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"unknown setting {what}; {hint}(known: {', '.join(known)})"
