"""Labelling blocks with settled templates: template, parameters and spacing of every line, as Arrow columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nonet.common.arrow import arrow_array, arrow_strings
from nonet.logs.mining.extraction import WHOLE_LINE, Programs, invalid_lines, list_array, string_array
from nonet.logs.mining.placement import Placement, kind_of
from nonet.logs.mining.shape import Kind
from nonet.logs.mining.shape_table import Labelled, ShapeTable, Spans
from nonet.logs.mining.template import WILDCARD, Template, printable, template_id, type_name


@dataclass(frozen=True, slots=True)
class Settled:
    """Templates of all shapes of a table, ready to be run over blocks.

    Attributes:
        texts: distinct template texts; the last one is the lone wildcard for lines whose shape is not in the table.
        text_of_program: int32 (shapes + 1,), index into `texts`; the last program takes the whole line as one
            parameter.
        parameters, blanks: programs for regions and for gaps; the latter are empty for regular shapes.
        irregular: bool (shapes + 1,).
    """

    texts: list[str]
    text_of_program: NDArray[np.int32]
    parameters: Programs
    blanks: Programs
    irregular: NDArray[np.bool_]

    @classmethod
    def build(cls, placements: Sequence[Placement]) -> Settled:
        """Compile the placements of the entries of a table."""
        index: dict[str, int] = {}
        texts = [index.setdefault(p.template, len(index)) for p in placements]
        return cls(
            texts=[*index, WILDCARD],
            text_of_program=np.array([*texts, len(index)], np.int32),
            parameters=Programs.of([*(p.rows for p in placements), [WHOLE_LINE]]),
            blanks=Programs.of([*(p.blank_rows for p in placements), []]),
            irregular=np.array([*(p.irregular for p in placements), False], np.bool_),
        )


@dataclass(frozen=True, slots=True)
class Labeller:
    """A frozen table with its templates; safe for any number of threads."""

    shapes: ShapeTable
    settled: Settled

    def programs(self, entries: NDArray[np.int32]) -> NDArray[np.int32]:
        """Program of each line; the last one for lines whose shape is unknown."""
        return np.where(entries < 0, np.int32(len(self.settled.text_of_program) - 1), entries)

    def translated(self, seen: Labelled, table: ShapeTable) -> Labelled:
        """What another table of the same miner said of lines, in entries of this one."""
        if table is self.shapes or not len(table):
            return seen
        here = np.append(self.shapes.entries_of(table), np.int32(-1))
        return replace(seen, entries=here[seen.entries])

    def table(self, lines: Spans, seen: Labelled | None = None) -> pa.Table:
        """Label lines.

        Args:
            lines: the lines.
            seen: what `shapes` says of them, when it is known already.

        Returns:
            Columns `template_id`, `template` (dictionaries), `parameters`, `spacing` (null for ordinary blanks) and
            `raw`. `raw` (binary) holds the Content of lines that are not valid UTF-8, whose parameters have U+FFFD for
            the bad bytes; null for all others.
        """
        seen = self.shapes.label(lines) if seen is None else seen
        bad = invalid_lines(lines)
        programs = self.programs(seen.entries)
        texts = self.settled.text_of_program[programs]
        return pa.table(
            {
                "template_id": self._dictionary(texts, self._ids()),
                "template": self._dictionary(texts, [printable(t) for t in self.settled.texts]),
                "parameters": list_array(*_strings(self.settled.parameters, programs, lines, seen, bool(bad.any()))),
                "spacing": self._spacing(programs, lines, seen),
                "raw": _raw(lines, bad),
            }
        )

    def _ids(self) -> list[str]:
        return [template_id(text) for text in self.settled.texts]

    def _spacing(self, programs: NDArray[np.int32], lines: Spans, seen: Labelled) -> pa.Array:
        irregular = self.settled.irregular[programs]
        if not irregular.any():
            return pa.nulls(len(programs), pa.list_(pa.string()))
        return list_array(*_strings(self.settled.blanks, programs, lines, seen, False), valid=irregular)

    @staticmethod
    def _dictionary(codes: NDArray[np.int32], values: list[str]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(arrow_array(codes), arrow_strings(values))


def _strings(
    programs: Programs, of_line: NDArray[np.int32], lines: Spans, seen: Labelled, some_invalid: bool
) -> tuple[NDArray[np.int32], pa.Array]:
    at, starts, ends = programs.run(of_line, lines, seen)
    return at, string_array(lines.buffer, starts, ends, some_invalid)


def _raw(lines: Spans, bad: NDArray[np.bool_]) -> pa.Array:
    if not bad.any():
        return pa.nulls(len(lines), pa.binary())
    contents = [
        lines.buffer[a:b].tobytes() if is_bad else None
        for a, b, is_bad in zip(lines.starts, lines.ends, bad, strict=True)
    ]
    return pa.array(contents, pa.binary())


def summarise(table: ShapeTable, placements: Sequence[Placement]) -> list[Template]:
    """Templates with counts, types, first and last line, by count (ties by text)."""
    entries: defaultdict[str, list[int]] = defaultdict(list)
    for entry, placement in enumerate(placements):
        entries[placement.template].append(entry)
    counts, first, last = table.counts(), table.first_seen(), table.last_seen()
    templates = []
    for text, its in entries.items():
        kinds: list[set[Kind | None]] = [set() for _ in range(text.count(WILDCARD))]
        for entry in its:
            masked = table.masked_text(entry)
            for kind, (start, end) in zip(kinds, placements[entry].regions, strict=True):
                kind.add(kind_of(masked[start:end]))
        oldest = min(its, key=lambda e: (first[e], table.masked_text(e)))
        templates.append(
            Template(
                text=text,
                count=int(counts[its].sum()),
                types=tuple(map(type_name, kinds)),
                first_seen=int(first[its].min()),
                last_seen=int(last[its].max()),
                sample=table.sample(oldest).decode("utf-8", "replace"),
            )
        )
    return sorted(templates, key=lambda t: (-t.count, t.text))
