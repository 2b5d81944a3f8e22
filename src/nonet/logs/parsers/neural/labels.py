"""Labelled lines: a content with its template, and where in the content the parameters are."""

from __future__ import annotations

from collections.abc import Sequence

from nonet.common.errors import InputError
from nonet.logs.parsers.base import WILDCARD

Span = tuple[int, int]
"""Start and end of a parameter in its line, in characters."""


def collapse_blanks(text: str) -> str:
    """The text with every run of blanks as one blank, and none at either end."""
    return " ".join(text.split())


def parameter_spans(content: str, template: str) -> list[Span] | None:
    """Where the wildcards of a template stand in a line, each as short as it can be; None if the template does not fit.

    >>> parameter_spans("user ann on tty1", "user <*> on <*>")
    [(5, 8), (12, 16)]
    >>> parameter_spans("group ann", "user <*>") is None
    True
    """
    head, *middle = template.split(WILDCARD)
    if not middle:
        return [] if content == template else None
    *middle, tail = middle
    end = len(content) - len(tail)
    if end < len(head) or not content.startswith(head) or not content.endswith(tail):
        return None
    spans = []
    start = len(head)
    for constant in middle:
        place = content.find(constant, start, end)
        if place < 0:
            return None
        spans.append((start, place))
        start = place + len(constant)
    return [*spans, (start, end)]


def overlaps(span: Span, parameters: Sequence[Span]) -> bool:
    """Whether a stretch of text has a character in one of the parameters.

    >>> overlaps((5, 7), [(0, 5), (6, 9)]), overlaps((5, 6), [(0, 5), (6, 9)])
    (True, False)
    """
    return any(span[0] < end and start < span[1] for start, end in parameters)


def checked_training(parser: str, training: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Labelled lines with blanks collapsed, those left out whose template does not fit.

    Raises:
        InputError: none is left.
    """
    pairs = [(collapse_blanks(content), collapse_blanks(template)) for content, template in training]
    fitting = [
        (content, template) for content, template in pairs if content and parameter_spans(content, template) is not None
    ]
    if not fitting:
        raise InputError(
            f"{parser}: no labelled line to learn from whose template fits; give --set {parser}.training=FILE,"
            " or in Python training=[(content, template), ...]"
        )
    return fitting


def with_wildcards(content: str, parameters: Sequence[Span]) -> str:
    """The line with its parameters (ascending) as wildcards; neighbours that touch or stand one blank apart become one.

    >>> with_wildcards("user ann on tty 1", [(5, 8), (12, 15), (16, 17)])
    'user <*> on <*>'
    """
    pieces: list[str] = []
    end = 0
    for start, stop in parameters:
        between = content[end:start]
        if not pieces or between.strip(" "):
            pieces += [between, WILDCARD]
        end = stop
    return "".join(pieces) + content[end:]
