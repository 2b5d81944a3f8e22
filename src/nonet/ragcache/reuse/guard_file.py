"""A measured `Guard` on its way from `calibrate` to `serve`: its factor, and the settings under which it holds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from nonet.common.errors import InputError
from nonet.ragcache.reuse.abstain import Guard

Settings = Mapping[str, str | float]


def write_guard(path: Path, guard: Guard, settings: Settings) -> None:
    """Write a guard as JSON, without its limit, which is chosen when it is read.

    Args:
        path: of the file.
        guard: of `calibrated_guard`.
        settings: under which it was measured, such as model, mode and alpha.

    Raises:
        InputError: the file cannot be written.
    """
    measured = {"factor": guard.factor, "miss": guard.miss, "num_calibrated": guard.num_calibrated}
    try:
        path.write_text(json.dumps({**measured, "settings": dict(settings)}, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def read_guard(path: Path, limit: float, settings: Settings) -> Guard:
    """Read what `write_guard` wrote.

    Args:
        path: of the file.
        limit: damage that is accepted, in nats a token.
        settings: under which it is going to be used.

    Raises:
        InputError: no such file, or it was measured under other settings, for which its bound says nothing.
    """
    try:
        told = json.loads(path.read_text("utf-8"))
        guard = Guard(limit, float(told["factor"]), float(told["miss"]), int(told["num_calibrated"]))
        measured = dict(told["settings"])
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no guard; calibrate --guard writes one") from error
    for name, value in settings.items():
        if not _is_same(measured.get(name), value):
            theirs = f"{name} {measured.get(name)}"
            raise InputError(f"{path}: measured with {theirs}, not {value}; serve with that, or calibrate again")
    return guard


def _is_same(measured: object, value: str | float) -> bool:
    # An alpha is typed with the digits that were printed.
    if isinstance(value, float) and isinstance(measured, int | float):
        return math.isclose(measured, value, rel_tol=1e-5)
    return measured == value
