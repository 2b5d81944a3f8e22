"""The state of the miner: distinct shapes with counts, a commutative monoid under `merge`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonet.logs.mining import _table_kernels as kernels
from nonet.logs.mining._scan_kernels import MAX_MASKED_BYTES
from nonet.logs.mining._table_kernels import Table
from nonet.logs.mining.shape import SOFT, Shape
from nonet.logs.reading.lines import as_array

DEFAULT_HALF_LIFE_LINES = 1 << 20
_HOLES_A_LINE = 8  # a first guess; the arrays grow
_FREE_SHARE = 0.25  # an eviction frees this share of the limit, so that its cost is spread over many lines


@dataclass(frozen=True, slots=True)
class Spans:
    """Contents of a block: bytes and the half-open spans of its lines, with the spans of user masks.

    Attributes:
        buffer: uint8 bytes.
        starts, ends: int64 (number of lines,).
        user_starts, user_ends: int64 spans of user masks, sorted, disjoint.
        user_at: int64 (number of lines + 1,); line i owns user spans [user_at[i], user_at[i + 1]).
    """

    buffer: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    user_starts: NDArray[np.int64]
    user_ends: NDArray[np.int64]
    user_at: NDArray[np.int64]

    @classmethod
    def without_user_masks(cls, buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Spans:
        """Spans of lines on which no user mask was run."""
        none = np.empty(0, np.int64)
        return cls(buffer, starts, ends, none, none, np.zeros(len(starts) + 1, np.int64))

    def __len__(self) -> int:
        return len(self.starts)

    def arrays(self) -> kernels.Lines:
        """As the kernels take them."""
        return kernels.Lines(self.buffer, self.starts, self.ends, self.user_starts, self.user_ends, self.user_at)


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a table knows of some lines.

    Attributes:
        entries: int32 (number of lines,), index of the shape in the table, -1 when it is not there.
        hole_at: int64 (number of lines + 1,); line i owns holes [hole_at[i], hole_at[i + 1]).
        kinds, starts, ends: uint8, int32, int32 (number of holes,): kind of every hole, and its span from the start of
            its line.
    """

    entries: NDArray[np.int32]
    hole_at: NDArray[np.int64]
    kinds: NDArray[np.uint8]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return self.entries.nbytes + self.hole_at.nbytes + self.kinds.nbytes + self.starts.nbytes + self.ends.nbytes


class _HoleArrays:
    """Output arrays for holes, grown when a kernel says so."""

    def __init__(self, num_offsets: int, num_holes: int) -> None:
        self._at = np.zeros(num_offsets, np.int64)
        self._kinds = np.empty(num_holes, np.uint8)
        self._starts = np.empty(num_holes, np.int32)
        self._ends = np.empty(num_holes, np.int32)

    def arrays(self) -> kernels.Holes:
        return kernels.Holes(self._at, self._kinds, self._starts, self._ends)

    def grow(self) -> None:
        more = len(self._kinds) + MAX_MASKED_BYTES
        self._kinds = np.concatenate([self._kinds, np.empty(more, np.uint8)])
        self._starts = np.concatenate([self._starts, np.empty(more, np.int32)])
        self._ends = np.concatenate([self._ends, np.empty(more, np.int32)])

    def labelled(self, entries: NDArray[np.int32]) -> Labelled:
        n = int(self._at[-1])
        return Labelled(entries, self._at, self._kinds[:n].copy(), self._starts[:n].copy(), self._ends[:n].copy())


def _new_table(num_shapes: int, num_soft: int, num_bytes: int) -> Table:
    def integers(n: int) -> NDArray[np.int64]:
        return np.zeros(n, np.int64)

    slots = np.full(1 << max(4, (2 * num_shapes - 1).bit_length()), -1, np.int32)
    return Table(
        slots=slots,
        hashes=np.zeros(num_shapes, np.uint64),
        **{name: integers(num_shapes) for name in _ENTRY_FIELDS},
        soft_hash=np.zeros(num_soft, np.uint64),
        soft_value_at=integers(num_soft),
        soft_len=integers(num_soft),
        arena=np.zeros((num_bytes + 7) & ~7, np.uint8),
        meta=integers(8),
    )


_ENTRY_FIELDS = (
    "text_at",
    "text_len",
    "counts",
    "first_seen",
    "last_seen",
    "weights",
    "sample_at",
    "sample_len",
    "soft_at",
    "soft_num",
    "soft_open",
)


class ShapeTable:
    """Distinct shapes of lines with counts, bounded by `max_shapes`.

    Memory: about 120 bytes a shape beside its text, its soft values and a sample line of at most 512 bytes; never more
    than `max_shapes` shapes. While nothing was evicted, the content is a function of the multiset of lines alone:
    merging tables in any order or grouping gives the same shapes, counts and constants.

    Args:
        max_shapes: bound on distinct shapes; beyond it the shapes with the lowest decayed weight are evicted.
        half_life_lines: the weight of a shape halves every so many lines without it (rounded down to a power of two).

    Not safe for concurrent writers: give each thread its own table and merge.
    """

    def __init__(self, max_shapes: int = 1_000_000, half_life_lines: int = DEFAULT_HALF_LIFE_LINES) -> None:
        self.max_shapes = max_shapes
        self.half_life_lines = half_life_lines
        self.half_life_shift = half_life_lines.bit_length() - 1
        self._table = _new_table(min(max_shapes, 256), 512, 1 << 16)
        self._masked = np.zeros(MAX_MASKED_BYTES + 16, np.uint8)

    @property
    def arrays(self) -> Table:
        """The arrays now; others take their place when the table grows, merges or evicts."""
        return self._table

    def __len__(self) -> int:
        return int(self._table.meta[kernels.NUM_ENTRIES])

    @property
    def num_lines(self) -> int:
        """Lines learned, evicted ones included."""
        return int(self._table.meta[kernels.LINES])

    @property
    def num_evicted_lines(self) -> int:
        """Lines whose shape was evicted later; `counts().sum() + num_evicted_lines == num_lines`."""
        return int(self._table.meta[kernels.EVICTED_LINES])

    @property
    def num_evicted_shapes(self) -> int:
        """Evictions so far."""
        return int(self._table.meta[kernels.EVICTED_SHAPES])

    def _column(self, name: str) -> NDArray[np.int64]:
        column: NDArray[np.int64] = getattr(self._table, name)[: len(self)]
        return column

    def counts(self) -> NDArray[np.int64]:
        """Lines by entry; int64 (number of shapes,)."""
        return self._column("counts").copy()

    def first_seen(self) -> NDArray[np.int64]:
        """Ordinal of the first line by entry."""
        return self._column("first_seen").copy()

    def last_seen(self) -> NDArray[np.int64]:
        """Ordinal of the last line by entry."""
        return self._column("last_seen").copy()

    def hashes(self) -> NDArray[np.uint64]:
        """64-bit hash of the masked text by entry: the same in every process."""
        return self._table.hashes[: len(self)].copy()

    def learn(self, lines: Spans, ordinal: int | None = None) -> NDArray[np.int32]:
        """Count the shapes of `lines`; returns the entry of each line, int32, -1 for shapes evicted on the way.

        Args:
            lines: the lines.
            ordinal: number of the first of them in the whole stream, when other tables have lines between (default: the
                lines learned so far).
        """
        one_line = MAX_MASKED_BYTES + 18
        return self._learn(lines, ordinal, False, _HoleArrays(1, one_line))

    def learn_and_label(self, lines: Spans, ordinal: int | None = None) -> Labelled:
        """`learn`, and keep the holes of the lines: what `label` would say right after, without a second scan."""
        holes = _HoleArrays(len(lines) + 1, MAX_MASKED_BYTES + 18 + _HOLES_A_LINE * len(lines))
        entries = self._learn(lines, ordinal, True, holes)
        return holes.labelled(entries)

    def _learn(self, lines: Spans, ordinal: int | None, keep_holes: bool, holes: _HoleArrays) -> NDArray[np.int32]:
        if ordinal is None:
            ordinal = self.num_lines
        arrays, entries = lines.arrays(), np.empty(len(lines), np.int32)
        done = 0
        while True:
            done, short = kernels.learn(
                arrays,
                done,
                ordinal,
                self._table,
                self.half_life_shift,
                self._masked,
                entries,
                keep_holes,
                holes.arrays(),
            )
            if not short:
                return entries
            if short == kernels.NO_HOLES:
                holes.grow()
            elif (kept := self.make_room()) is not None:
                entries[:done] = np.where(entries[:done] >= 0, kept[entries[:done]], -1)

    def label(self, lines: Spans) -> Labelled:
        """Look up the shapes of `lines` without counting them. Safe to call from many threads on one frozen table."""
        entries = np.empty(len(lines), np.int32)
        holes = _HoleArrays(len(lines) + 1, MAX_MASKED_BYTES + 18 + _HOLES_A_LINE * len(lines))
        masked = np.zeros_like(self._masked)
        done = 0
        while done < len(lines):
            done = kernels.label(lines.arrays(), done, self._table, masked, entries, holes.arrays())
            if done < len(lines):
                holes.grow()
        return holes.labelled(entries)

    def make_room(self) -> NDArray[np.int32] | None:
        """Grow, or evict where the bound is reached; then the new index of every old entry, -1 for the evicted."""
        if len(self) >= self.max_shapes:
            return self._evict(self.max_shapes)
        self._grow()
        return None

    def _grow(self) -> None:
        """Double what is short."""
        t, meta = self._table, self._table.meta
        num_shapes, num_soft, num_bytes = len(t.hashes), len(t.soft_len), len(t.arena)
        if len(self) >= num_shapes:
            num_shapes = min(2 * num_shapes, self.max_shapes)
        if meta[kernels.SOFT_USED] + MAX_MASKED_BYTES + 1 > num_soft:
            num_soft = 2 * num_soft + MAX_MASKED_BYTES
        worst = (MAX_MASKED_BYTES + 2) * (kernels.MAX_SOFT_BYTES + 8) + MAX_MASKED_BYTES + kernels.MAX_SAMPLE_BYTES
        if meta[kernels.ARENA_USED] + worst > num_bytes:
            num_bytes = 2 * num_bytes + worst
        self._copy_into(_new_table(num_shapes, num_soft, num_bytes), np.arange(len(self)))

    def _copy_into(self, target: Table, chosen: NDArray[np.int64]) -> None:
        kernels.copy_entries(self._table, target, chosen)
        target.meta[kernels.LINES :] = self._table.meta[kernels.LINES :]
        self._table = target

    def bound(self, max_shapes: int) -> None:
        """Lower or raise the bound, evicting at once what is too much."""
        self.max_shapes = max_shapes
        if len(self) > max_shapes:
            self._evict(max_shapes)

    def _evict(self, bound: int) -> NDArray[np.int32]:
        """Drop the shapes with the lowest decayed weight to somewhat below `bound` (ties: seen longest ago, then by
        hash).

        Returns the new index of every old entry, -1 for the evicted.
        """
        n = len(self)
        keep = min(n, bound) - max(1, int(_FREE_SHARE * bound))
        age = np.minimum((self._column("last_seen").max() - self._column("last_seen")) >> self.half_life_shift, 62)
        score = self._column("weights") >> age
        order = np.lexsort((self._table.hashes[:n], self._column("last_seen"), score))
        evicted = order[: n - max(keep, 0)]
        chosen = np.setdiff1d(np.arange(n), evicted, assume_unique=True)
        new_index = np.full(n, -1, np.int32)
        new_index[chosen] = np.arange(len(chosen), dtype=np.int32)
        self._table.meta[kernels.EVICTED_LINES] += self._column("counts")[evicted].sum()
        self._table.meta[kernels.EVICTED_SHAPES] += len(evicted)
        t = self._table
        self._copy_into(_new_table(len(t.hashes), len(t.soft_len), len(t.arena)), chosen)
        return new_index

    def entries_of(self, other: ShapeTable) -> NDArray[np.int32]:
        """Entry here of each entry of `other`, -1 for those that are not here."""
        return kernels.match_entries(other._table, self._table).astype(np.int32)

    def merge(self, other: ShapeTable) -> None:
        """Add the lines of `other`, which is not changed. Commutative and associative up to evictions."""
        found = kernels.match_entries(other._table, self._table)
        known = np.flatnonzero(found >= 0)
        pairs = np.stack([known, found[known]], axis=1)
        kernels.meet_entries(other._table, self._table, pairs, self.half_life_shift)
        new = np.flatnonzero(found < 0)
        t, o = self._table, other._table.meta
        room = _new_table(
            max(len(t.hashes), len(self) + len(new)),
            int(t.meta[kernels.SOFT_USED] + o[kernels.SOFT_USED]),
            int(t.meta[kernels.ARENA_USED] + o[kernels.ARENA_USED]),
        )
        self._copy_into(room, np.arange(len(self)))
        kernels.copy_entries(other._table, self._table, new)
        self._table.meta[kernels.LINES :] += o[kernels.LINES :]
        if len(self) > self.max_shapes:
            self._evict(self.max_shapes)

    def copy(self) -> ShapeTable:
        """An independent table with the same content."""
        twin = ShapeTable(self.max_shapes, self.half_life_lines)
        twin.merge(self)
        return twin

    def masked_text(self, entry: int) -> bytes:
        """The masked text of an entry."""
        t = self._table
        return t.arena[t.text_at[entry] : t.text_at[entry] + t.text_len[entry]].tobytes()

    def sample(self, entry: int) -> bytes:
        """The Content of the first line of an entry, cut at 512 bytes."""
        t = self._table
        return t.arena[t.sample_at[entry] : t.sample_at[entry] + t.sample_len[entry]].tobytes()

    def count(self, entry: int) -> int:
        """Lines of an entry."""
        return int(self._table.counts[entry])

    def num_constants(self, entry: int) -> int:
        """Soft holes of an entry whose value never varied so far."""
        return int(self._table.soft_open[entry])

    def shape(self, entry: int) -> Shape:
        """Entry as a `Shape`."""
        t = self._table
        masked = self.masked_text(entry)
        constants: list[bytes | None] = []
        soft = int(t.soft_at[entry])
        for byte in masked:
            if byte < 0x20:
                constants.append(None)
                if byte in SOFT:
                    constants[-1] = self._soft_value(soft)
                    soft += 1
        return Shape(masked, tuple(constants), int(t.counts[entry]))

    def _soft_value(self, soft: int) -> bytes | None:
        t = self._table
        if t.soft_len[soft] == kernels.VARIED:
            return None
        return t.arena[t.soft_value_at[soft] : t.soft_value_at[soft] + t.soft_len[soft]].tobytes()

    def shapes(self) -> Iterator[Shape]:
        """All shapes, in order of entry."""
        return (self.shape(entry) for entry in range(len(self)))

    def to_rows(self) -> dict[str, list[Any]]:
        """Columns `masked`, `constants`, `count`, `weight`, `first_seen`, `last_seen`, `sample`, one entry a shape."""
        shapes = list(self.shapes())
        return {
            "masked": [s.masked for s in shapes],
            "constants": [list(s.constants) for s in shapes],
            "count": self.counts().tolist(),
            "weight": self._column("weights").tolist(),
            "first_seen": self.first_seen().tolist(),
            "last_seen": self.last_seen().tolist(),
            "sample": [self.sample(entry) for entry in range(len(self))],
        }

    @classmethod
    def from_rows(
        cls, rows: Sequence[Mapping[str, Any]], totals: Sequence[int], max_shapes: int, half_life_lines: int
    ) -> ShapeTable:
        """The table that `to_rows` was taken from; `totals` are lines, evicted lines, evicted shapes."""
        table = cls(max_shapes, half_life_lines)
        num_soft = sum(len(r["constants"]) for r in rows)
        num_bytes = sum(
            len(r["masked"]) + len(r["sample"]) + 32 + sum(len(c or b"") + 8 for c in r["constants"]) for r in rows
        )
        table._table = _new_table(max(len(rows), 256), max(num_soft, 512), max(num_bytes, 1 << 16))
        for row in rows:
            table._insert(row)
        table._table.meta[kernels.LINES : kernels.LINES + 3] = totals
        kernels.rebuild_slots(table._table)
        return table

    def _insert(self, row: Mapping[str, Any]) -> None:
        t = self._table
        masked = as_array(row["masked"] + bytes(-len(row["masked"]) % 8))
        h = np.uint64(kernels.hash_words(masked.view(np.uint64), len(masked) // 8))
        entry = kernels.insert_text(t, 0, h, masked, 0, len(row["masked"]))
        t.counts[entry], t.weights[entry] = row["count"], row["weight"]
        t.first_seen[entry], t.last_seen[entry] = row["first_seen"], row["last_seen"]
        for byte, constant in zip((b for b in row["masked"] if b < 0x20), row["constants"], strict=True):
            if byte in SOFT:
                soft = int(t.meta[kernels.SOFT_USED])
                t.soft_len[soft] = kernels.VARIED
                if constant is not None:
                    t.soft_value_at[soft], t.soft_len[soft] = self._append(constant), len(constant)
                    value = as_array(constant)
                    t.soft_hash[soft] = kernels.hash_bytes(value, 0, len(value))
                    t.soft_open[entry] += 1
                t.soft_num[entry] += 1
                t.meta[kernels.SOFT_USED] += 1
        t.sample_at[entry], t.sample_len[entry] = self._append(row["sample"]), len(row["sample"])

    def _append(self, value: bytes) -> int:
        t = self._table
        at = int(t.meta[kernels.ARENA_USED])
        t.arena[at : at + len(value)] = np.frombuffer(value, np.uint8)
        t.meta[kernels.ARENA_USED] = at + len(value) + (-len(value) % 8)
        return at

    def check_integrity(self) -> None:
        """Raise AssertionError when the arrays contradict each other (for tests and after loading)."""
        t, n = self._table, len(self)
        texts = [self.masked_text(entry) for entry in range(n)]
        if len(set(texts)) != n:
            raise AssertionError("a shape is in the table twice")
        if not np.array_equal(kernels.match_entries(t, t), np.arange(n)):
            raise AssertionError("a shape cannot be found by its text")
        if int(t.counts[:n].sum()) + self.num_evicted_lines != self.num_lines:
            raise AssertionError("counts and evicted lines do not add up to the lines learned")
        for entry in range(n):
            soft = slice(int(t.soft_at[entry]), int(t.soft_at[entry] + t.soft_num[entry]))
            if sum(byte in SOFT for byte in texts[entry]) != t.soft_num[entry]:
                raise AssertionError(f"entry {entry}: number of soft holes differs from its text")
            if int((t.soft_len[soft] != kernels.VARIED).sum()) != t.soft_open[entry]:
                raise AssertionError(f"entry {entry}: number of constants is wrong")
