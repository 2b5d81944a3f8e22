"""Placing shapes: which template a shape belongs to, and which of its parts are the parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from nonet.logs.mining.clustering import settle
from nonet.logs.mining.extraction import Region, Row, gaps, is_irregular, rows_of
from nonet.logs.mining.shape import Kind, Shape
from nonet.logs.mining.template import WILDCARD, template_id, type_name

Node = dict[str, Any]
_MAX_STEPS = 512  # of a search in the index; more means a text made to be slow


@dataclass(frozen=True, slots=True)
class Placement:
    """The template of a shape.

    Attributes:
        template: its text.
        regions: spans of the masked text that are the parameters, one a hole of the template.
        irregular: whether lines of the shape have blanks that the template does not show (see `template.restore`).
        num_constants: soft holes of the shape that had not varied when it was placed; when there are fewer, place it
            anew.
        rows: where the parameters lie in a line, see `extraction.Row`.
        blank_rows: where its runs of blanks lie; empty unless irregular.
        types: type of each parameter as far as this shape tells.
    """

    template: str
    regions: tuple[Region, ...]
    irregular: bool
    num_constants: int
    rows: tuple[Row, ...]
    blank_rows: tuple[Row, ...]
    types: tuple[str, ...]

    @property
    def id(self) -> str:
        """Id of the template."""
        return template_id(self.template)

    def fits(self, shape: Shape) -> bool:
        """Whether the shape it was made for is still the same: none of its constants turned out to vary."""
        return self.num_constants == sum(c is not None for c in shape.constants)


def place(shapes: Sequence[Shape], before: Mapping[bytes, Placement] | None = None) -> list[Placement]:
    """Settle the shapes together; one placement a shape, whatever their order.

    Args:
        shapes: all shapes.
        before: earlier placements by masked text; those that hold still are taken over.
    """
    settled, before = settle(shapes), before or {}
    placements = []
    for shape, label, regions in zip(shapes, settled.labels.tolist(), settled.regions, strict=True):
        template, known = settled.templates[label], before.get(shape.masked)
        if known is not None and known.template == template and known.regions == regions and known.fits(shape):
            placements.append(known)
        else:
            placements.append(_placement(shape, template, regions))
    return placements


def kind_of(masked: bytes) -> Kind | None:
    """The kind of a masked text that is exactly one hole; None for words and mixtures."""
    return Kind(masked[0]) if len(masked) == 1 and masked[0] < 0x20 else None


def _placement(shape: Shape, template: str, regions: tuple[Region, ...]) -> Placement:
    irregular = is_irregular(shape, regions)
    return Placement(
        template,
        regions,
        irregular,
        num_constants=sum(c is not None for c in shape.constants),
        rows=rows_of(shape, regions),
        blank_rows=rows_of(shape, gaps(shape, regions)) if irregular else (),
        types=tuple(_type_of(shape.masked[start:end]) for start, end in regions),
    )


@lru_cache(1 << 14)
def _type_of(masked: bytes) -> str:
    """Type of a parameter with this masked text."""
    return type_name({kind_of(masked)})


def _words(shape: Shape, regions: Sequence[Region]) -> list[Region]:
    """Spans between the blanks outside regions: one a blank-separated token of the template."""
    breaks = gaps(shape, regions)
    return [(left[1], right[0]) for left, right in pairwise(breaks)]


class TemplateIndex:
    """Templates by their words, for shapes that came in since the last settlement.

    A trie over words; a search prefers the same word over a wildcard at every level and gives up after `_MAX_STEPS`
    nodes.
    """

    def __init__(self, templates: Iterable[str]) -> None:
        self._root: Node = {}
        self._templates: set[str] = set()
        for template in templates:
            self._add(template)

    def _add(self, template: str) -> None:
        if template in self._templates:
            return
        self._templates.add(template)
        node = self._root
        for word in template.split(" "):
            node = node.setdefault(word, {})
        node[""] = {}

    def find(self, shape: Shape) -> Placement | None:
        """The shape as an instance of a known template, or None."""
        return self._find(shape, place([shape])[0])

    def _find(self, shape: Shape, alone: Placement) -> Placement | None:
        """`alone` is the shape settled without any other."""
        if alone.template in self._templates:
            return alone
        words = alone.template.split(" ")
        template = next(self._search(words), None)
        if template is None:
            return None
        regions: list[Region] = []
        for word, known, span in zip(words, template, _words(shape, alone.regions), strict=True):
            if known == WILDCARD and word != WILDCARD:
                regions.append(span)
            else:
                regions += [r for r in alone.regions if span[0] <= r[0] and r[1] <= span[1]]
        return _placement(shape, " ".join(template), tuple(regions))

    def place(self, shape: Shape) -> Placement:
        """The shape as an instance of a known template, else with a template of its own, which is known from now on."""
        alone = place([shape])[0]
        found = self._find(shape, alone)
        if found is None:
            self._add(alone.template)
        return found or alone

    def _search(self, words: list[str]) -> Iterator[list[str]]:
        stack: list[tuple[Node, list[str]]] = [(self._root, [])]
        for _ in range(_MAX_STEPS):
            if not stack:
                return
            node, path = stack.pop()
            if len(path) == len(words):
                if "" in node:
                    yield path
                continue
            word = words[len(path)]
            steps = dict.fromkeys((WILDCARD, word))
            stack += [(node[step], [*path, step]) for step in steps if step in node]
