"""Registered things as plain values and back, for configurations and manifests: `{"name": "adagrad", "lr": 0.1}`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from nonet.common.errors import InputError
from nonet.common.registry import Registry

_PLAIN: dict[str, tuple[type, ...]] = {"float": (float, int), "int": (int,), "bool": (bool,), "str": (str,)}


def to_spec(thing: Any, registry: Registry[Any]) -> dict[str, Any]:
    """Name and options of a registered frozen dataclass.

    Args:
        thing: an instance.
        registry: where its class is.

    Returns:
        JSON values; a class that is not registered has its own name with a "!" before it.

    >>> from nonet.recsys.table import SGD, OPTIMIZERS
    >>> to_spec(SGD(lr=0.5), OPTIMIZERS)
    {'name': 'sgd', 'lr': 0.5, 'weight_decay': 0.0}
    """
    name = next((name for name in registry if registry[name] is type(thing)), None)
    if name is None:
        return {"name": f"!{type(thing).__qualname__}"}
    options = {f.name: getattr(thing, f.name) for f in dataclasses.fields(thing) if f.init}
    return {"name": name} | {option: _plain(value, registry) for option, value in options.items()}


def from_spec(spec: str | Mapping[str, Any], registry: Registry[Any], where: str) -> Any:
    """The thing that a spec describes.

    Args:
        spec: a name, or a mapping with `name` and options; the keys of an option by slot may be text.
        registry: where the class is.
        where: for messages, such as "table 'users': optimizer".

    Raises:
        InputError: an unknown name or option, or a value that the class refuses.

    >>> from nonet.recsys.table import OPTIMIZERS
    >>> from_spec({"name": "sgd", "lr": 0.5}, OPTIMIZERS, "optimizer")
    SGD(lr=0.5, weight_decay=0.0)
    """
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise InputError(f"{where}: needs a name; known: {', '.join(registry)}")
    if name.startswith("!"):
        raise InputError(f"{where}: {name[1:]} is in no registry; register it before, or give the object itself")
    try:
        kind = registry[name]
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    known = {f.name: f for f in dataclasses.fields(kind) if f.init}
    unknown = [option for option in options if option not in known]
    if unknown:
        raise InputError(f"{where}: {name} has no option {unknown[0]!r} (known: {', '.join(known) or 'none'})")
    for option, value in options.items():
        wanted = str(getattr(known[option].type, "__name__", known[option].type))
        if type(value) not in _PLAIN.get(wanted, (type(value),)):
            raise InputError(f"{where}: {name}: {option} must be {wanted}, got {value!r}")
    try:
        return kind(**{option: _thing(value, registry, where) for option, value in options.items()})
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {name}: {error}") from error


def _plain(value: Any, registry: Registry[Any]) -> Any:
    if dataclasses.is_dataclass(value):
        return to_spec(value, registry)
    if isinstance(value, tuple | list):
        return [_plain(item, registry) for item in value]
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    return value


def _thing(value: Any, registry: Registry[Any], where: str) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_thing(item, registry, where) for item in value)
    if isinstance(value, Mapping) and "name" in value:
        return from_spec(value, registry, where)
    if isinstance(value, Mapping):
        return {_slot(key, where): item for key, item in value.items()}
    return value


def _slot(key: Any, where: str) -> int:
    try:
        return int(key)
    except ValueError:
        raise InputError(f"{where}: {key!r} is no slot; give its number") from None
