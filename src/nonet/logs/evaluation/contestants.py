"""Parsers by the names that an evaluation takes: our own miner, the reference parsers, and parsers of one's own."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from nonet.common.errors import InputError
from nonet.logs.evaluation.job import NONET
from nonet.logs.evaluation.parser_settings import TRAINING, labelled_lines
from nonet.logs.parsers import PARSERS, Mode, Parsed, Parser, get_parser, masks_for, parameters_for

ParseFunction = Callable[[Sequence[str]], Parsed]
ALL = "all"


def parser_names(spec: str | Sequence[str]) -> list[str]:
    """The parsers that a user named, in the field's spelling; `all` is our miner and every reference parser.

    Raises:
        InputError: an unknown name, one named twice, or none.

    >>> parser_names("nonet, drain")
    ['nonet', 'Drain']
    """
    items = spec.split(",") if isinstance(spec, str) else spec
    names: list[str] = []
    for item in filter(None, (item.strip() for item in items)):
        names += [NONET, *PARSERS] if item == ALL else [_spelled(item)]
    if not names:
        raise InputError(f"no parser named; known: {NONET}, {', '.join(PARSERS)}, {ALL}")
    if len(set(names)) < len(names):
        raise InputError(f"parser named twice: {next(name for name in names if names.count(name) > 1)}")
    return names


def parse_function(
    name: str, system: str, mode: Mode, settings: Mapping[str, Any], masks: Sequence[str] | None = None
) -> ParseFunction:
    """What parses the contents of a system: a reference parser gets the masks and parameters tuned for that system.

    Args:
        name: a name that `parser_names` gave.
        system: e.g. "Linux"; only the reference parsers look at it.
        mode: mode of a reference parser.
        settings: parameters that take the place of the tuned ones; `training` names labelled lines.
        masks: in the place of the system's; a function of the user's own has masks of its own.

    Raises:
        InputError: `package.module:Name` does not lead to a parser class or function, a parser does not know a setting
            or lacks one.
        MissingExtraError: the parser needs an extra that is not installed.
    """
    if name == NONET:
        from nonet.logs.mining.as_parser import parse_contents

        return partial(parse_contents, **{"masks": masks or (), **settings})
    if ":" in name:
        return _own_parser(name, mode, settings, masks or ())
    masks = masks_for(name, system) if masks is None else masks
    chosen = {"masks": masks, **parameters_for(name, system), **settings}
    if TRAINING in chosen:
        chosen[TRAINING] = labelled_lines(chosen[TRAINING], system)
    return _made(name, PARSERS[name], mode, chosen).parse


def _made(name: str, parser: type[Parser], mode: Mode, settings: Mapping[str, Any]) -> Parser:
    try:
        return parser(mode=mode, **settings)
    except TypeError as error:
        raise InputError(f"{name}: {error}") from error


def _spelled(name: str) -> str:
    return name if name == NONET or ":" in name else get_parser(name).name


def _own_parser(path: str, mode: Mode, settings: Mapping[str, Any], masks: Sequence[str]) -> ParseFunction:
    module_name, _, attribute = path.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"parser {path!r}: {error}; expected package.module:Name") from error
    if isinstance(found, type) and issubclass(found, Parser):
        return _made(path, found, mode, {"masks": masks, **settings}).parse
    if callable(found):
        return partial(found, **settings)
    raise InputError(f"parser {path!r} is neither a Parser class nor a function")
