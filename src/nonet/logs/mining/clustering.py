"""The canonical clustering: templates as a pure function of a set of shapes.

The same shapes give the same templates, whatever their order and however they were sharded, because nothing is learned
along the way. Three steps, each in its own file:

1. `tokens.row_of`: each shape becomes a row of tokens; what one shape can tell about its variables is decided.
2. `merging.merge`: rows that are the same message with other words in some places are brought together (`families`
   says when a word that varies is a value).
3. `settle` (here): each row is written as a template, with the span of the masked text behind every `<*>`. Wildcards
   that would touch become one, and brackets or quotes that belong to the value are taken in, as annotators of logs do
   (`[<0x1f>]` is `[<*>]`, ` '<*>' ` is ` <*> `). Rows that end as the same text are one cluster.

Counts of shapes are not used: a template does not depend on how often its lines come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nonet.logs.mining.families import Row
from nonet.logs.mining.merging import Rows, merge, unit_columns
from nonet.logs.mining.shape import Shape
from nonet.logs.mining.tokens import WILD, Span, is_wild, row_of

_WILDCARD = b"<*>"


@dataclass(frozen=True, slots=True)
class Clustering:
    """Shapes put into clusters, one a template.

    Attributes:
        labels: int32, shape (number of shapes,): index of the template of each shape.
        templates: distinct texts, sorted; blanks are single, none at either end. Bytes are read as UTF-8, those that
            are not as lone surrogates.
        regions: for each shape half-open ranges of its masked text, sorted and disjoint; the i-th is the i-th `<*>`.
    """

    labels: NDArray[np.int32]
    templates: list[str]
    regions: list[tuple[Span, ...]]


def settle(shapes: Sequence[Shape]) -> Clustering:
    r"""Cluster the shapes; the result does not depend on their order.

    >>> found = settle([Shape(b"job \x01 took \x10", (None, None), 9), Shape(b"job \x14 took \x10", (b"x7", None), 1)])
    >>> found.templates, found.regions[1]
    (['job <*> took <*>'], ((4, 5), (11, 12)))
    """
    rows = Rows(row_of(shape) for shape in shapes)
    merge(rows)
    texts: dict[int, bytes] = {}
    regions: list[tuple[Span, ...]] = [()] * len(shapes)
    for row, members in rows.members.items():
        constants = _constants(row, members, rows.spans, shapes)
        parts = _variable_parts(row, constants)
        text = _text(row, parts, constants)
        for index in members:
            spans = rows.spans[index]
            texts[index] = text
            regions[index] = tuple((spans[first][0], spans[last][1]) for first, last in parts)
    distinct = sorted(set(texts.values()))
    label_of = {text: label for label, text in enumerate(distinct)}
    labels = np.fromiter((label_of[texts[i]] for i in range(len(shapes))), np.int32, len(shapes))
    return Clustering(labels, [text.decode("utf-8", "surrogateescape") for text in distinct], regions)


def _constants(row: Row, members: list[int], spans: list[Sequence[Span]], shapes: Sequence[Shape]) -> dict[int, bytes]:
    """Column to text, for units that all members agree on."""
    constants: dict[int, bytes] = {}
    for column in unit_columns(row):
        seen = {shapes[i].masked[slice(*spans[i][column])] for i in members}
        if len(seen) == 1:
            constants[column] = seen.pop()
    return constants


def _variable_parts(row: Row, constants: dict[int, bytes]) -> list[tuple[int, int]]:
    """Ranges (first, last) of columns that are one wildcard each."""
    variable = [i for i, token in enumerate(row) if is_wild(token)]
    variable += [i for i in unit_columns(row) if i not in constants]
    parts: list[tuple[int, int]] = []
    for i in sorted(variable):
        if parts and _touch(row, parts[-1][1], i):
            parts[-1] = (parts[-1][0], i)
        else:
            parts.append((i, i))
    return [_with_wrapping(row, first, last) for first, last in parts]


def _touch(row: Row, last: int, column: int) -> bool:
    """Whether two variable columns are one: nothing or a colon between them, or a number and its unit."""
    between = row[last + 1 : column]
    if not is_wild(row[column]):
        return not between
    return row[column] == WILD and between in ((), (b":",))


def _with_wrapping(row: Row, first: int, last: int) -> tuple[int, int]:
    """Take in angle brackets that touch the variable, and quotes or a `#` with blanks on both sides."""
    if first and row[first - 1].lstrip() == b"<" and row[first] == WILD:
        first -= 1
    while last + 1 < len(row) and row[last + 1] == b">":
        last += 1
    after = row[last + 2][:1] if last + 2 < len(row) else b""
    if (
        first
        and last + 1 < len(row)
        and row[first - 1] in (b' "', b" '", b" `")
        and row[last + 1] in (b'"', b"'", b"`")
        and after == b" "
    ):
        return first - 1, last + 1
    if first and row[first - 1] == b" #" and (last + 1 == len(row) or row[last + 1][:1] == b" "):
        return first - 1, last
    return first, last


def _text(row: Row, parts: list[tuple[int, int]], constants: dict[int, bytes]) -> bytes:
    """The template of a row."""
    pieces: list[bytes] = []
    column = 0
    for first, last in [*parts, (len(row), len(row))]:
        pieces += [b" " + constants[i] if i in constants else row[i] for i in range(column, first)]
        if first < len(row):
            pieces.append(b" " + _WILDCARD if row[first][:1] == b" " else _WILDCARD)
        column = last + 1
    return b"".join(pieces).strip(b" ")
