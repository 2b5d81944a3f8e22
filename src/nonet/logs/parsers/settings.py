"""Header formats, masks and tuned parameters of the Loghub-2.0 evaluation, by system (facts, kept in `settings.json`).

The published tables were made with parameters tuned by hand for every system; the compat rows need the same values.
Nothing here is used by the default miner, which has one configuration for all data.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from nonet.common.errors import InputError


@cache
def _settings() -> dict[str, Any]:
    """The whole table."""
    text = files(__package__).joinpath("settings.json").read_text(encoding="utf-8")
    settings: dict[str, Any] = json.loads(text)
    return settings


def systems() -> tuple[str, ...]:
    """The systems whose settings are known: the 14 of Loghub-2.0, and Android and Windows of the 2k set.

    >>> "HDFS" in systems(), len(systems())
    (True, 16)
    """
    return tuple(_settings()["header_formats"])


def source() -> str:
    """Where the settings come from."""
    text: str = _settings()["source"]
    return text


def header_format(system: str) -> str:
    r"""The header format of a system: `<Name>` is a lazily captured field, the rest is a regular expression.

    >>> header_format("Apache")
    '\\[<Time>\\] \\[<Level>\\] <Content>'

    Raises:
        InputError: the system is not known.
    """
    formats: dict[str, str] = _settings()["header_formats"]
    if system not in formats:
        raise InputError(
            f"no header format is known for system {system!r}; give one, or name one of {', '.join(formats)}"
        )
    return formats[system]


def masks_for(parser: str, system: str) -> tuple[str, ...]:
    r"""The ordered masks that a parser was given on a system; none for an unknown system.

    >>> masks_for("Drain", "HDFS")
    ('blk_-?\\d+', '(\\d+\\.){3}\\d+(:\\d+)?')
    >>> masks_for("Drain", "my-service")
    ()
    """
    by_parser: dict[str, list[str]] = _settings()["masks"].get(system, {})
    return tuple(by_parser.get(parser, by_parser.get("default", ())))


def parameters_for(parser: str, system: str) -> dict[str, Any]:
    """The parameters that a parser was given on a system, as keyword arguments of its constructor.

    An unknown system gets the parser's default set: of every parameter, the lower median over the 16 known systems.

    >>> parameters_for("Drain", "Linux")
    {'st': 0.39, 'depth': 6}
    >>> parameters_for("Drain", "my-service")
    {'st': 0.5, 'depth': 4}

    Raises:
        InputError: the parser is not known.
    """
    tables: dict[str, dict[str, dict[str, Any]]] = _settings()["parameters"]
    if parser not in tables:
        raise InputError(f"no parameters are known for parser {parser!r}; known: {', '.join(tables)}")
    return dict(tables[parser].get(system, tables[parser]["default"]))
