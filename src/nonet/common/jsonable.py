"""One strict way to JSON: what a room computes (dataclasses, NumPy scalars, paths, times) as plain JSON values."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any

_MAX_DEPTH = 64


def jsonable(value: Any, *, depth: int = 0) -> Any:
    """The value as JSON types: dataclasses and mappings become objects, other iterables arrays, NaN and inf null.

    Bytes become text (UTF-8, undecodable bytes as `\\xNN` escapes). NumPy scalars and arrays are recognised by their
    methods, so NumPy is not imported.

    Raises:
        TypeError: the value, or one inside it, has no JSON form, or lies deeper than 64 levels.

    >>> jsonable({"path": Path("a/b"), "share": float("nan"), "names": (b"x", None)})
    {'path': 'a/b', 'share': None, 'names': ['x', None]}
    """
    if depth > _MAX_DEPTH:
        raise TypeError("value is nested too deeply for JSON")
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, (Path, date)):  # datetime is a date
        return str(value) if isinstance(value, Path) else value.isoformat()
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return jsonable(value.tolist(), depth=depth + 1)
    return _container(value, depth + 1)


def _container(value: Any, depth: int) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name), depth=depth) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(jsonable(k, depth=depth)): jsonable(v, depth=depth) for k, v in value.items()}
    if isinstance(value, Iterable):
        return [jsonable(v, depth=depth) for v in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")


def dumps(value: Any, *, indent: int | None = None) -> str:
    """`value` as JSON text, any dataclass or NumPy value inside included.

    >>> dumps({"a": (1, 2.5)})
    '{"a": [1, 2.5]}'
    """
    return json.dumps(jsonable(value), indent=indent, ensure_ascii=False, allow_nan=False)
