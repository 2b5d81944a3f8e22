"""The default parser: count shapes now, derive templates when asked.

A line costs a scan and a hash look-up (`shape_table`). Templates are a pure function of the set of shapes
(`clustering`), computed anew when enough shapes have come in; therefore the order of lines, the number of shards and
the order of merging leave no trace in templates, ids and counts. Between two settlements a new shape is answered
provisionally, and the lineage says afterwards what became of an id.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.logs.mining.crew import Crew
from nonet.logs.mining.extraction import cut, spans_in_line
from nonet.logs.mining.labelling import Labeller, Settled, summarise
from nonet.logs.mining.lineage import Event, Lineage
from nonet.logs.mining.masks import UserMask, find_spans
from nonet.logs.mining.one_line import LineMasks, OneLine, UserSpans
from nonet.logs.mining.placement import Placement, TemplateIndex, place
from nonet.logs.mining.shape import Kind, Shape
from nonet.logs.mining.shape_table import DEFAULT_HALF_LIFE_LINES, ShapeTable, Spans
from nonet.logs.mining.state import read_state, write_state
from nonet.logs.mining.template import Template

DEFAULT_MAX_CLUSTERS = 200_000
_SETTLE_GROWTH, _SETTLE_MINIMUM = 0.25, 4  # so many new shapes, by those settled, make the next settlement due
_SETTLE_LINES_A_SHAPE = 16  # so many lines after the first new shape do as well
_PAST_A_CLUSTER = 4  # template ids and lineage events remembered, by `max_clusters`
_MIN_LINES_A_THREAD = 8_192
_USER = Kind.USER.name.lower()

Line = str | bytes
Change = Literal["none", "new", "changed"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value and its type ("ip", "int", "path", ..., "str" for words)."""

    type: str
    value: str


class Mined:
    """What the miner says of one line.

    Attributes:
        template_id, template: the template at this moment; see `Miner.lineage` for what becomes of it.
        parameters, types, spans: one value a hole, its type, and where it stands in the line (bytes).
        spacing: see `template.restore`; None for ordinary blanks.
        count: lines of this line's shape so far; 0 from `match`.
        change: "new" when the line showed a template id never seen, "changed" when it made the templates of earlier
            lines change, else "none".
    """

    __slots__ = ("_content", "_hole_ends", "_masked", "_placement", "change", "count", "template", "template_id")

    def __init__(
        self,
        content: bytes,
        hole_ends: list[int],
        masked: Mapping[tuple[int, int], str],
        placement: Placement,
        count: int = 0,
        change: Change = "none",
    ) -> None:
        self._content, self._hole_ends, self._masked, self._placement = content, hole_ends, masked, placement
        self.template_id, self.template = placement.id, placement.template
        self.count, self.change = count, change

    # Cut out of the line when asked for: many only want the template.
    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """One value a hole."""
        return tuple(
            Parameter(kind, _text(self._content[start:end]))
            for kind, (start, end) in zip(self.types, self.spans, strict=True)
        )

    @property
    def types(self) -> tuple[str, ...]:
        """The types of the parameters; the name of the mask for those that a user mask matched."""
        types = self._placement.types
        if not self._masked or _USER not in types:
            return types
        return tuple(
            self._masked.get(span, kind) if kind == _USER else kind
            for span, kind in zip(self.spans, types, strict=True)
        )

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Where the parameters stand in the line, in bytes."""
        return spans_in_line(self._hole_ends, self._placement.rows)

    @property
    def spacing(self) -> tuple[str, ...] | None:
        """The runs of blanks, see `template.restore`; None for ordinary ones."""
        if not self._placement.irregular:
            return None
        return tuple(map(_text, cut(self._content, self._hole_ends, self._placement.blank_rows)))

    def __repr__(self) -> str:
        fields = ("template_id", "template", "parameters", "spacing", "count", "change")
        return f"Mined({', '.join(f'{name}={getattr(self, name)!r}' for name in fields)})"


class Miner:
    """Streaming and batch template miner with mergeable state.

    Memory is bounded by `max_clusters` shapes (about 0.5 KB each): beyond it, the shapes with the lowest decayed weight
    are forgotten; their lines stay counted in `num_evicted_lines`, and ids are never reused, since an id is a hash of
    the text.

    Args:
        masks: masks of your own (`UserMask` or a pattern), matched before the general ones.
        max_clusters: bound on the shapes that are kept, hence on templates.
        half_life_lines: the weight of a shape halves every so many lines without it.
        source_quota: the share of `max_clusters` that one source may fill when several feed the miner.

    Example:
        >>> miner = Miner()
        >>> miner.add("user eranr logged in from 10.2.3.4").parameters
        (Parameter(type='ip', value='10.2.3.4'),)
        >>> miner.add("user guest logged in from 10.2.3.5").template
        'user guest logged in from <*>'
    """

    def __init__(
        self,
        *,
        masks: Sequence[UserMask | str] = (),
        max_clusters: int = DEFAULT_MAX_CLUSTERS,
        half_life_lines: int = DEFAULT_HALF_LIFE_LINES,
        source_quota: float = 0.5,
    ) -> None:
        if max_clusters < 16:
            raise InputError(f"max_clusters must be at least 16, got {max_clusters}")
        if not 0 < source_quota <= 1:
            raise InputError(f"source_quota must be in (0, 1], got {source_quota}")
        self.masks = tuple(m if isinstance(m, UserMask) else UserMask(m) for m in masks)
        self.line_masks = LineMasks(self.masks)
        self.max_clusters = max_clusters
        self.half_life_lines = half_life_lines
        self.source_quota = source_quota
        self.lineage = Lineage()
        self._tables: dict[str, ShapeTable] = {}
        self._ways: dict[str, OneLine] = {}
        self._placed: dict[bytes, Placement] = {}
        self._index = TemplateIndex(())
        self._known_ids: set[str] = set()
        self._recent: dict[tuple[str, int, int], Placement] = {}
        self._shapes_of_id: Counter[str] = Counter()
        self._settle_at_line = self._settle_at_shapes = 0
        self._lines_at_settling = 0

    @property
    def num_lines(self) -> int:
        """Lines learned."""
        return sum(t.num_lines for t in self._tables.values())

    @property
    def num_evicted_lines(self) -> int:
        """Lines whose shape was forgotten later; template counts and this add up to `num_lines`."""
        return sum(t.num_evicted_lines for t in self._tables.values())

    def spans(self, buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Spans:
        """Lines of a block, with the miner's own masks found."""
        if not self.masks:
            return Spans.without_user_masks(buffer, starts, ends)
        return Spans(buffer, starts, ends, *find_spans(self.masks, buffer, starts, ends))

    def learn(self, lines: Spans, source: str = "") -> NDArray[np.int32]:
        """Count the shapes of `lines`, without computing a template; returns what `ShapeTable.learn` does."""
        return self._table(source).learn(lines, self.num_lines)

    def absorb(self, table: ShapeTable, source: str = "") -> None:
        """Add the shapes that another thread or machine counted."""
        self._table(source).merge(table)

    def new_table(self) -> ShapeTable:
        """An empty table for a thread of its own; see `absorb`."""
        return ShapeTable(self.max_clusters, self.half_life_lines)

    def _table(self, source: str) -> ShapeTable:
        if source not in self._tables:
            self._tables[source] = self.new_table()
            if len(self._tables) > 1:
                for table in self._tables.values():
                    table.bound(max(16, int(self.max_clusters * self.source_quota)))
        self._keep_bound()
        return self._tables[source]

    def _keep_bound(self) -> None:
        """Take from the largest table what all have too much together."""
        total = sum(map(len, self._tables.values()))
        if total > self.max_clusters:
            largest = max(self._tables.values(), key=len)
            largest.bound(max(16, len(largest) - (total - self.max_clusters)))

    def _combined(self) -> ShapeTable:
        """One table with the shapes of all sources."""
        if len(self._tables) == 1:
            return next(iter(self._tables.values()))
        combined = ShapeTable(max(self.max_clusters, 16) * 2, self.half_life_lines)
        for source in sorted(self._tables):
            combined.merge(self._tables[source])
        return combined

    def settle(self) -> None:
        """Derive the templates of all shapes anew and record in the lineage what became of ids given out before."""
        self._settle(None)

    def _settle(self, newcomer: bytes | None) -> None:
        """`newcomer` is the masked text of the line that is being added; its id is not given out yet."""
        shapes = list(self._combined().shapes())
        before = self._placed
        self._placed = dict(zip((s.masked for s in shapes), place(shapes, before), strict=True))
        self._record(before)
        self._index = TemplateIndex(p.template for p in self._placed.values())
        self._shapes_of_id = Counter(p.id for p in self._placed.values())
        self._known_ids.update(p.id for masked, p in self._placed.items() if masked != newcomer)
        self._recent.clear()
        self._forget()
        self._settle_at_shapes = self._num_shapes_ever() + int(_SETTLE_GROWTH * len(shapes)) + _SETTLE_MINIMUM
        self._settle_at_line = sys.maxsize
        self._lines_at_settling = self.num_lines

    def _forget(self) -> None:
        """Keep what is remembered of the past in bounds when shapes come and go for ever."""
        bound = _PAST_A_CLUSTER * self.max_clusters
        if len(self._known_ids) > bound:
            self._known_ids = set(self._shapes_of_id)
        self.lineage.keep_last(bound)

    def _settle_if_behind(self) -> None:
        if self._lines_at_settling != self.num_lines:
            self.settle()

    def _num_shapes_ever(self) -> int:
        return sum(len(t) + t.num_evicted_shapes for t in self._tables.values())

    def add(self, line: Line, source: str = "") -> Mined:
        """Learn one line and say what it is."""
        content = _content(line)
        table, way = self._way(source)
        ordinal = table.num_lines if len(self._tables) == 1 else self.num_lines
        num_events = self.lineage.num_recorded
        if ordinal >= self._settle_at_line:
            self.settle()
        user = self.line_masks.find(content)
        entry, hole_ends, count, num_constants = way.learn(content, ordinal, user)
        key = (source, table.num_evicted_shapes, entry)
        placement = self._recent.get(key)
        change: Change = "none"
        if placement is None or placement.num_constants != num_constants:
            self._recent[key] = placement = self._place_anew(table.shape(entry))
            self._keep_bound()
            if placement.id not in self._known_ids:
                self._known_ids.add(placement.id)
                change = "new"
            elif self.lineage.num_recorded > num_events:
                change = "changed"
        return Mined(content, hole_ends, self._names_of(user), placement, count, change)

    def _names_of(self, user: UserSpans) -> dict[tuple[int, int], str]:
        """Names of the masks by what they matched."""
        return {(start, end): self.masks[number].name for start, end, number in user}

    def _way(self, source: str) -> tuple[ShapeTable, OneLine]:
        """The table of a source, and the way of single lines into it."""
        table = self._tables.get(source)
        if table is None:
            table = self._table(source)
        way = self._ways.get(source)
        if way is None or way.table is not table:
            way = self._ways[source] = OneLine(table)
        return table, way

    def _place_anew(self, shape: Shape) -> Placement:
        """Place a shape that is new, or one of whose constants turned out to vary."""
        before = self._placed.get(shape.masked)
        if before is not None and before.fits(shape):
            return before
        if self._num_shapes_ever() >= self._settle_at_shapes:
            self._settle(shape.masked)
            return self._placed[shape.masked]
        self._settle_at_line = min(self._settle_at_line, self.num_lines + _SETTLE_LINES_A_SHAPE * len(self._placed))
        placement = self._index.place(shape)
        self._move(shape, before, placement)
        return placement

    def _move(self, shape: Shape, before: Placement | None, after: Placement) -> None:
        """Put one shape from the template that it had to another one."""
        self._placed[shape.masked] = after
        self._shapes_of_id[after.id] += 1
        if before is not None:
            self._shapes_of_id[before.id] -= 1
            if before.id != after.id:
                num_stay, num_there = self._shapes_of_id[before.id], self._shapes_of_id[after.id] - 1
                self.lineage.record_move(self.num_lines, before.id, after.id, num_stay > 0, num_there > 0)

    def _record(self, before: Mapping[bytes, Placement]) -> None:
        """Append to the lineage what became of the ids of `before`."""
        ids = ({masked: p.id for masked, p in placed.items()} for placed in (before, self._placed))
        self.lineage.record(self.num_lines, *ids)

    def match(self, line: Line) -> Mined | None:
        """Say what a line is without learning it; None when no template fits."""
        if self._num_shapes_ever() and not self._placed:
            self.settle()
        content = _content(line)
        user = self.line_masks.find(content)
        shape: Shape | None = None
        hole_ends: list[int] = []
        for source in self._tables:
            table, way = self._way(source)
            entry, hole_ends, num_bytes = way.find(content, user)
            if entry >= 0:
                placement = self._placed.get(table.masked_text(entry))
                if placement is not None:
                    return Mined(content, hole_ends, self._names_of(user), placement)
            shape = way.shape(content, len(hole_ends), num_bytes)
        found = None if shape is None else self._index.find(shape)
        return None if found is None else Mined(content, hole_ends, self._names_of(user), found)

    def add_lines(self, lines: Sequence[Line] | pa.Array, source: str = "", threads: int | None = None) -> pa.Table:
        """Learn many lines, settle, and label them.

        Args:
            lines: the lines.
            source: see `add`.
            threads: at most so many work (default: all cores); fewer for few lines.

        Returns:
            Arrow table with `template_id`, `template` (dictionary), `parameters` (list of strings), `spacing` (list of
            strings, null for ordinary blanks), one row a line. Bytes that are not UTF-8 are replaced by U+FFFD here.
        """
        buffer, starts, ends = join_lines(lines)
        threads = max(1, min(threads or os.cpu_count() or 1, len(starts) // _MIN_LINES_A_THREAD))
        num_blocks = 1 if threads == 1 else 2 * threads
        parts = zip(np.array_split(starts, num_blocks), np.array_split(ends, num_blocks), strict=True)
        with Crew(self, threads, source) as crew:
            seen = [future.result() for future in [crew.learn(buffer, *part) for part in parts]]
            crew.settle()
            tables = [future.result()[0] for future in [crew.label(block) for block in seen]]
        return pa.concat_tables(tables)

    def labeller(self) -> Labeller:
        """The settled templates, frozen, to be run over blocks by any number of threads."""
        self._settle_if_behind()
        table = self._combined()
        return Labeller(table, Settled.build(self._placements(table)))

    def templates(self, *, settle: bool = True) -> list[Template]:
        """The templates now, by count (ties by text).

        Args:
            settle: whether to settle before; otherwise these are the templates that `add` answers with until the next
                settlement.
        """
        if settle or not self._placed:
            self._settle_if_behind()
        table = self._combined()
        templates = summarise(table, self._placements(table))
        return [self._with_mask_names(template) for template in templates] if self.masks else templates

    def _with_mask_names(self, template: Template) -> Template:
        """The names of masks instead of `user`, as its sample has them (it may be cut and say nothing)."""
        if _USER not in template.types:
            return template
        mined = self.match(template.sample)
        if mined is None or mined.template != template.text:
            return template
        named = zip(template.types, mined.types, strict=True)
        return replace(template, types=tuple(name if kind == _USER else kind for kind, name in named))

    def _placements(self, table: ShapeTable) -> list[Placement]:
        return [self._placed[table.masked_text(entry)] for entry in range(len(table))]

    def merge_from(self, other: Miner) -> None:
        """Add what another miner learned. The order of merging leaves no trace in templates, ids and counts."""
        if other.masks != self.masks:
            raise InputError("miners with different masks cannot be merged: their shapes mean different things")
        for source in sorted(other._tables):
            self.absorb(other._tables[source], source)
        self.lineage = Lineage([*self.lineage, *other.lineage])
        self._known_ids |= other._known_ids
        self._placed = {**other._placed, **self._placed}
        self._shapes_of_id = Counter(p.id for p in self._placed.values())
        self._settle_at_line = 0
        self._recent.clear()

    def save(self, path: str | Path) -> None:
        """Write the state to one file, atomically; see `state`. Settles before, so that a restart changes nothing."""
        self._settle_if_behind()
        write_state(
            path,
            self._tables,
            {
                "max_clusters": self.max_clusters,
                "half_life_lines": self.half_life_lines,
                "source_quota": self.source_quota,
                "masks": [[m.pattern, m.name] for m in self.masks],
                "lineage": [[e.at_line, e.change, e.old_id, list(e.new_ids)] for e in self.lineage],
                "num_recorded": self.lineage.num_recorded,
                "known_ids": sorted(self._known_ids),
            },
        )

    @classmethod
    def load(cls, path: str | Path) -> Miner:
        """The miner that was saved.

        Raises:
            InputError: the file is missing, damaged or of another version.
        """
        tables, metadata = read_state(path)
        miner = cls(
            masks=[UserMask(pattern, name) for pattern, name in metadata["masks"]],
            max_clusters=metadata["max_clusters"],
            half_life_lines=metadata["half_life_lines"],
            source_quota=metadata["source_quota"],
        )
        miner._tables = tables
        events = (Event(at, change, old, tuple(new)) for at, change, old, new in metadata["lineage"])
        miner.lineage = Lineage(events, metadata["num_recorded"])
        miner._known_ids = set(metadata["known_ids"])
        return miner

    def check_integrity(self) -> None:
        """Raise AssertionError when the state contradicts itself."""
        for table in self._tables.values():
            table.check_integrity()


def merge(miners: Iterable[Miner]) -> Miner:
    """One miner that knows what all of them learned; the arguments are not changed.

    >>> a, b = Miner(), Miner()
    >>> _ = a.add("port 80 open"), b.add("port 81 open")
    >>> [(t.text, t.count) for t in merge([a, b]).templates()] == [(t.text, t.count) for t in merge([b, a]).templates()]
    True
    """
    miners = list(miners)
    if not miners:
        raise InputError("merge needs at least one miner")
    first = miners[0]
    merged = Miner(
        masks=first.masks,
        max_clusters=max(m.max_clusters for m in miners),
        half_life_lines=first.half_life_lines,
        source_quota=first.source_quota,
    )
    for miner in miners:
        merged.merge_from(miner)
    return merged


def join_lines(lines: Sequence[Line] | pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Buffer, starts and ends of lines given one by one."""
    if isinstance(lines, pa.ChunkedArray):
        lines = lines.combine_chunks()
    if not isinstance(lines, pa.Array):
        try:
            lines = pa.array(lines, pa.large_binary())
        except UnicodeEncodeError:  # lone surrogates stand for bytes that are not UTF-8
            lines = pa.array([_content(line) for line in lines], pa.large_binary())
    lines = lines.cast(pa.large_binary())
    _, offsets, data = lines.buffers()
    at = np.frombuffer(offsets, np.int64)[lines.offset : lines.offset + len(lines) + 1]
    # Kernels are compiled for writable arrays; Arrow's buffers are not writable, so they are copied.
    buffer = np.array(np.frombuffer(data, np.uint8)) if data is not None and data.size else np.zeros(1, np.uint8)
    at = at.copy()
    return buffer, at[:-1], at[1:]


def _content(line: Line) -> bytes:
    return line if isinstance(line, bytes) else line.encode("utf-8", "surrogateescape")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
