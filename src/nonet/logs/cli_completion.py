"""What the shell offers for the values of options and arguments. Nothing is imported before the shell asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

Completion = Callable[[str], list[str]]


def one_of(*values: str) -> Completion:
    """Complete one of these values."""
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


def listed(values: Callable[[], Iterable[str]]) -> Completion:
    """Complete the last item of a list with commas between its items.

    >>> listed(lambda: ["nonet", "Drain"])("nonet,dr")
    ['nonet,Drain']
    """

    def complete(incomplete: str) -> list[str]:
        head, comma, last = incomplete.rpartition(",")
        return [head + comma + value for value in values() if value.lower().startswith(last.lower())]

    return complete


def parsers() -> list[str]:
    """Names of parsers."""
    from nonet.logs.evaluation.contestants import ALL
    from nonet.logs.evaluation.job import NONET
    from nonet.logs.parsers import PARSERS

    return [ALL, NONET, *PARSERS]


def data_sets() -> list[str]:
    """Names of data sets and of the families they are in."""
    from nonet.logs.evaluation import data

    return [*data.EDITIONS, *data.names_of_room()]


def systems() -> list[str]:
    """Names of the systems that a twin can be made of."""
    from nonet.logs.parsers.settings import systems as known

    return list(known())


def rule_versions() -> list[str]:
    """Versions of template rules."""
    from nonet.logs.evaluation import rules

    return list(rules.rule_versions())


def slices() -> list[str]:
    """The slices of the paper."""
    from nonet.logs.evaluation.slices import PAPER_SLICES

    return list(PAPER_SLICES)
