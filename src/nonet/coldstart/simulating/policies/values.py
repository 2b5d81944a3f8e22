"""Values of policies on the command line that are shares, or must not be there."""

from __future__ import annotations

from nonet.common.errors import InputError


def parse_share(text: str, what: str) -> float:
    """A number in [0, 1].

    Raises:
        InputError: no number, or one outside.

    >>> parse_share("0.25", "spes")
    0.25
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise InputError(f"{what}: {text!r}: expected a number between 0 and 1")
    return value


def no_value(what: str, text: str) -> None:
    """Refuse a value where none is taken.

    Raises:
        InputError: there is one.
    """
    if text:
        raise InputError(f"{what} takes no value, got {text!r}")
