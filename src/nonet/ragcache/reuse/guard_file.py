"""A measured `Guard` on its way from `calibrate` to `serve`: its factor, and the settings under which it holds."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nonet.common.atomic import atomic_write
from nonet.common.errors import InputError
from nonet.ragcache.reuse.abstain import Guard

Settings = Mapping[str, str | float | None]
_SHOWN_CHARACTERS = 60


def check_place(path: Path) -> None:
    """Refuse a place where no guard can be written; measuring one takes minutes.

    Args:
        path: of the file to come.

    Raises:
        InputError: a folder, a file in a folder that is not there, or one in which nothing can be written.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file in it for the guard")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder for the guard")
    if path.exists() and not path.is_file():
        return  # such as /dev/stdout, which is written to as it is
    try:
        with tempfile.TemporaryFile(dir=path.resolve().parent):
            pass
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def write_guard(path: Path, guard: Guard, settings: Settings) -> None:
    """Write a guard as JSON, without its limit, which is chosen when it is read.

    Args:
        path: of the file.
        guard: of `calibrated_guard`.
        settings: under which it was measured, such as mode and alpha.

    Raises:
        InputError: the file cannot be written.
    """
    measured = {
        "factor": guard.factor,
        "miss": guard.miss,
        "num_calibrated": guard.num_calibrated,
        "fingerprint": guard.fingerprint,
    }
    try:
        with atomic_write(path) as file:
            file.write(json.dumps({**measured, "settings": dict(settings)}, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def read_guard(path: Path, limit: float, settings: Settings) -> Guard:
    """Read what `write_guard` wrote.

    Args:
        path: of the file.
        limit: damage that is accepted, in nats a token.
        settings: under which it is going to be used; the model is for the engine to check (`Guard.check_model`).

    Raises:
        InputError: no such file, or it was measured under other settings, for which its bound says nothing.
    """
    try:
        told = json.loads(path.read_text("utf-8"))
        guard = Guard(
            limit, float(told["factor"]), float(told["miss"]), int(told["num_calibrated"]), str(told["fingerprint"])
        )
        other = _first_other(told["settings"], settings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path}: no guard; calibrate --guard writes one") from error
    if other:
        raise InputError(f"{path}: measured with {other}; serve with that, or calibrate again")
    return guard


def _first_other(measured: Mapping[str, Any], settings: Settings) -> str:
    for name, value in settings.items():
        if not _is_same(measured.get(name), value):
            return f"{name} {_shown(measured.get(name))}, not {_shown(value)}"
    return ""


def _is_same(measured: object, value: str | float | None) -> bool:
    # An alpha is typed with the digits that were printed.
    if isinstance(value, float) and isinstance(measured, int | float):
        return math.isclose(measured, value, rel_tol=1e-5)
    return measured == value


def _shown(value: object) -> str:
    return "unset" if value is None else str(value)[:_SHOWN_CHARACTERS]
