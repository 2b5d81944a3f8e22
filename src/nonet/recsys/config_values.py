"""What configurations are made of: strict sections, durations and sizes with units, files in YAML or TOML."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nonet.common.errors import InputError

MAX_FILE_BYTES = 1 << 20

_NUMBER_AND_UNIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30}

Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    """A part of a configuration: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def parse_seconds(value: Any) -> Any:
    """Seconds from a number or text with a unit: s, m, min, h, d, w.

    Args:
        value: as it stands in the file; what is no text is given back.

    Raises:
        InputError: text without a number and a unit that is known.

    >>> parse_seconds("30d"), parse_seconds("1.5h"), parse_seconds(10)
    (2592000.0, 5400.0, 10)
    """
    return _with_unit(value, _SECONDS, "a duration such as 10s or 30d")


def parse_bytes(value: Any) -> Any:
    """Bytes from a number or text with a unit: B, kB, MB, GB, TB, KiB, MiB, GiB.

    Args:
        value: as it stands in the file; what is no text is given back.

    Raises:
        InputError: text without a number and a unit that is known.

    >>> parse_bytes("2GB"), parse_bytes("1 MiB")
    (2000000000.0, 1048576.0)
    """
    return _with_unit(value, _BYTES, "a size such as 512MB or 2GiB")


Seconds = Annotated[float, BeforeValidator(parse_seconds), Field(gt=0)]
"""A duration above 0; "10s", "5m", "1d" or a number of seconds."""

WholeSeconds = Annotated[int, BeforeValidator(parse_seconds), Field(ge=1, lt=2**32)]
"""The same in whole seconds, as tables have it."""

Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(ge=1)]
"""A size; "512MB" or a number of bytes."""


def checked(model: type[Model], values: Any, where: str) -> Model:
    """A configuration from plain values.

    Args:
        model: its class.
        values: mappings, lists, text, numbers.
        where: for messages, such as the file.

    Raises:
        InputError: names the first key that is wrong, and the known key that is nearest.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = _known_keys(model, first["loc"][:-1])
            near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f" (known: {', '.join(known)})" if known else ""
            raise InputError(f"{where}: unknown key {place!r}{hint}") from error
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{where}: {place or 'the whole'}: {message[:1].lower()}{message[1:]}") from error


def read_values(path: str | Path) -> Mapping[str, Any]:
    """The values of a file in YAML (.yaml, .yml) or TOML (.toml).

    Args:
        path: at most 1 MB.

    Raises:
        InputError: no such file, another ending, a syntax error, a key twice, or a YAML alias.
    """
    place = Path(path)
    try:
        with place.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {place}: {error.strerror}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise InputError(f"{place}: more than {MAX_FILE_BYTES} bytes; a configuration is smaller")
    try:
        text = raw.decode()
        if place.suffix == ".toml":
            values: Any = tomllib.loads(text)
        elif place.suffix in (".yaml", ".yml"):
            values = _read_yaml(text)
        else:
            raise InputError(f"{place}: a configuration is a .yaml, .yml or .toml file")
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{place}: not valid: {error}") from error
    except ValueError as error:
        raise InputError(str(error) if str(place) in str(error) else f"{place}: {error}") from error
    if not isinstance(values, Mapping):
        raise InputError(f"{place}: must hold keys and values, not {type(values).__name__}")
    return values


def _with_unit(value: Any, units: Mapping[str, int], what: str) -> Any:
    if not isinstance(value, str):
        return value
    found = _NUMBER_AND_UNIT.fullmatch(value)
    if found is None or found[2].lower() not in units:
        raise InputError(f"{value!r} is not {what}")
    return float(found[1]) * units[found[2].lower()]


def _known_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Keys of the section at a path, as far as it is found by names of fields."""
    section: Any = model
    for part in path:
        fields = getattr(section, "model_fields", {})
        if part not in fields:
            continue  # an index, a key of a mapping or the tag of a union
        kinds = [fields[part].annotation, *getattr(fields[part].annotation, "__args__", ())]
        section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
    return list(getattr(section, "model_fields", {}))


def _read_yaml(text: str) -> Any:
    import yaml

    class Strict(yaml.SafeLoader):
        """A key stands once, and nothing is repeated by reference."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                line = self.peek_event().start_mark.line + 1
                raise InputError(f"line {line}: YAML aliases are not read; write it out")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = [key for n, key in enumerate(keys) if key in keys[:n]]
            if twice:
                raise InputError(f"line {node.start_mark.line + 1}: the key {twice[0]!r} stands twice")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Strict)
    except yaml.YAMLError as error:
        raise InputError(f"not valid YAML: {' '.join(str(error).split())}") from error
