r"""Masks: the general classes of variable parts, and masks of the user's own.

The general classes are found by one byte scanner (`_scan_kernels`). User masks are regular expressions in a linear-time
engine; they come first, and what they match is hidden from the general classes.

A word (what stands between blanks and the marks `,;|"'()[]{}<>=!?` and the backtick, without trailing `.` and `:`) is
tried as a whole, in the order of `MASK_CLASSES`; when no class takes it, its pieces between `. : + @ # $ % & - ~ * ^ /`
and the backslash that hold a digit become int, hex or id. Soft classes stay constant while all lines of a shape have
one and the same value.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.logs.mining._extract_kernels import gather
from nonet.logs.mining._mask_kernels import STEPS_A_BYTE, merge_spans, search
from nonet.logs.mining._scan_kernels import MAX_MASKED_BYTES
from nonet.logs.mining.mask_patterns import GROUP, Programs, compile_mask, engine
from nonet.logs.mining.shape import SOFT, Kind

MAX_SEARCH_BYTES = 1 << 16  # of a line; user masks do not look further
MAX_MATCHES = MAX_MASKED_BYTES  # of one mask in one line; a masked text can show no more
_FEW_LINES = 48  # below this a search line by line is quicker than starting Arrow

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MaskClass:
    """A general class of variable parts.

    Attributes:
        kind: its code.
        examples: texts of the class.
        meaning: what it matches, in a few words.
    """

    kind: Kind
    examples: tuple[str, ...]
    meaning: str

    @property
    def name(self) -> str:
        """The name that parameters of the class have as their type."""
        return self.kind.name.lower()

    @property
    def is_soft(self) -> bool:
        """Whether a value that never varies stays in the template."""
        return self.kind in SOFT


MASK_CLASSES = (
    MaskClass(Kind.URL, ("https://example.org/a?b=1",), "scheme://..., up to a blank, quote or bracket"),
    MaskClass(Kind.IP, ("10.0.0.1", "10.0.0.1:80", "/10.0.0.1:80", "10.0.0.0/8"), "IPv4 address, also with a port"),
    MaskClass(Kind.IPV6, ("fe80::1", "2001:db8:0:0:0:0:0:1"), "IPv6 address"),
    MaskClass(Kind.MAC, ("00:1a:2b:3c:4d:5e",), "hardware address"),
    MaskClass(Kind.UUID, ("123e4567-e89b-12d3-a456-426614174000",), "UUID"),
    MaskClass(Kind.DATE, ("2026-11-22", "11/22/2026", "2026-11-22T12:30:01Z"), "date, with or without time and zone"),
    MaskClass(Kind.TIME, ("12:30", "12:30:01.250"), "time of day"),
    MaskClass(Kind.HEX, ("0x1f", "00a0ffee"), "0x..., or at least six hexadecimal digits with a letter and a digit"),
    MaskClass(Kind.INT, ("42", "-7"), "whole number"),
    MaskClass(Kind.NUMBER, ("3.14", "1.2.3", "50%"), "number with points, or a percentage"),
    MaskClass(Kind.DURATION, ("15ms", "2.5s"), "number with a unit of time"),
    MaskClass(Kind.SIZE, ("126MB", "8KiB"), "number with a unit of bytes"),
    MaskClass(Kind.PATH, ("/var/log/syslog", "~/notes", "C:\\temp"), "path of a file"),
    MaskClass(
        Kind.HOST,
        ("node1.cluster.example.org", "proxy.example.org:8080", "ann@example.org"),
        "dotted name, with port or user",
    ),
    MaskClass(Kind.CALENDAR, ("Mon", "January"), "name of a weekday or month"),
    MaskClass(Kind.ID, ("eth0", "blk_123", "a1b2"), "letters and digits mixed"),
)
"""The classes in the order in which they are tried."""

UNNAMED_KINDS = frozenset({Kind.STAR, Kind.RAW, Kind.SPACE, Kind.REST, Kind.USER})
"""Kinds that are no class of values: they keep odd bytes and blanks, over-long rests and user masks exact."""


@dataclass(frozen=True, slots=True)
class UserMask:
    r"""A mask of the user's own.

    `^` and `$` are the start and the end of a line, `\d`, `\w`, `\s` and `\b` are about ASCII; see `mask_edges` for
    the lookarounds that are understood.

    Args:
        pattern: an RE2 expression over UTF-8.
        name: what it finds, a name of letters, digits, `_` and `-`.

    Raises:
        InputError: a pattern that RE2 cannot run in linear time and bounded memory, or a bad name.

    >>> UserMask(r"req-\w+", "request")
    UserMask(pattern='req-\\w+', name='request')
    """

    pattern: str
    name: str = "user"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", self.name):
            raise InputError(f"mask name {self.name!r} must be letters, digits, _ and -, beginning with a letter")
        compile_mask(self.pattern)

    @classmethod
    def parse(cls, text: str) -> UserMask:
        r"""Read `PATTERN` or `PATTERN=NAME` (a name after the last `=`; `[=]` is always the pattern's).

        >>> UserMask.parse(r"blk_-?\d+=block").name, UserMask.parse("a=(x+)").pattern
        ('block', 'a=(x+)')
        """
        found = re.fullmatch(r"(.+)=([A-Za-z][A-Za-z0-9_-]*)", text, re.DOTALL)
        return cls(found.group(1), found.group(2)) if found else cls(text)

    @property
    def programs(self) -> Programs:
        """The RE2 programs."""
        return compile_mask(self.pattern)


def find_spans(
    masks: Sequence[UserMask], buffer: NDArray[np.uint8], starts: Int64s, ends: Int64s
) -> tuple[Int64s, Int64s, Int64s]:
    """Matches of user masks, as `shape_table.Spans` wants them.

    Every mask is searched in the whole line; earlier masks take precedence, and a later match that overlaps an earlier
    one is dropped. Empty matches count for nothing. A mask sees the first `MAX_SEARCH_BYTES` of a line and gives at
    most `MAX_MATCHES` matches there; no match crosses the end of a line. A negative lookaround at the start of a mask
    may turn down long candidates one after the other; when these are `STEPS_A_BYTE` times the line, the search ends.

    Args:
        masks: in order of precedence.
        buffer: uint8.
        starts, ends: int64 (lines,), ascending and disjoint.

    Returns:
        Starts and ends of the spans in `buffer`, and int64 (lines + 1,): line i owns spans [at[i], at[i + 1]).
    """
    span_starts, span_ends, _ = find_owned_spans(masks, buffer, starts, ends)
    at = np.append(np.searchsorted(span_starts, starts), len(span_starts)).astype(np.int64)
    return span_starts, span_ends, at


def find_owned_spans(
    masks: Sequence[UserMask], buffer: NDArray[np.uint8], starts: Int64s, ends: Int64s
) -> tuple[Int64s, Int64s, Int64s]:
    """As `find_spans`, with the index of the mask of every span in place of the offsets."""
    search = _find_in_few if len(starts) < _FEW_LINES else _find_in_many
    return search([mask.programs for mask in masks], buffer, starts, ends)


def _find_in_few(
    programs: Sequence[Programs], buffer: NDArray[np.uint8], starts: Int64s, ends: Int64s
) -> tuple[Int64s, Int64s, Int64s]:
    """Line by line, without NumPy calls."""
    rows: list[tuple[int, int, int]] = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        text = buffer[start : min(end, start + MAX_SEARCH_BYTES)].tobytes()
        taken = _find_in_text(programs, text, len(text) < end - start)
        rows += [(start + low, start + high, owner) for low, high, owner in taken]
    return _columns(rows)


def _columns(rows: list[tuple[int, int, int]]) -> tuple[Int64s, Int64s, Int64s]:
    """Copied, since for strided columns every kernel that takes them would be compiled once more."""
    first, second, third = np.array(rows, np.int64).reshape(-1, 3).T.copy()
    return first, second, third


def find_in_line(masks: Sequence[UserMask], content: bytes) -> list[tuple[int, int, int]]:
    """As `find_owned_spans` for one line: (start, end, index of the mask) of every span."""
    text = content[:MAX_SEARCH_BYTES]
    return _find_in_text([mask.programs for mask in masks], text, len(text) < len(content))


def _find_in_text(programs: Sequence[Programs], text: bytes, is_cut: bool) -> list[tuple[int, int, int]]:
    taken: list[tuple[int, int, int]] = []
    for owner, its in enumerate(programs):
        for low, high in _matches(its, text):
            before = bisect_left(taken, (high, -1, -1))
            is_free = before == 0 or taken[before - 1][1] <= low
            if is_free and not (is_cut and high == len(text)):
                taken.insert(before, (low, high, owner))
    return taken


def _find_in_many(
    programs: Sequence[Programs], buffer: NDArray[np.uint8], starts: Int64s, ends: Int64s
) -> tuple[Int64s, Int64s, Int64s]:
    """All lines at once, mask by mask."""
    none = np.empty(0, np.int64)
    accepted = (none, none, none)
    stops = np.minimum(ends, starts + MAX_SEARCH_BYTES)
    for owner, its in enumerate(programs):
        lines, found_starts, found_ends = _search_quickly(its, buffer, starts, stops)
        # At the cut of an over-long line `$` and greedy repetitions see an end that is none.
        is_real = (found_ends < stops[lines]) | (stops[lines] == ends[lines])
        accepted = _with_free(accepted, found_starts[is_real], found_ends[is_real], owner)
    return accepted


def _with_free(
    accepted: tuple[Int64s, Int64s, Int64s], starts: Int64s, ends: Int64s, owner: int
) -> tuple[Int64s, Int64s, Int64s]:
    """`accepted` with those new spans that overlap none of it, in order."""
    room = len(accepted[0]) + len(starts)
    merged = (np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64))
    num = merge_spans(*accepted, starts, ends, owner, *merged)
    all_starts, all_ends, owners = (column[:num] for column in merged)
    return all_starts, all_ends, owners


def _matches(programs: Programs, text: bytes) -> list[tuple[int, int]]:
    """Spans of the matches in one line."""
    spans: list[tuple[int, int]] = []
    found = engine(programs.first).search(text)
    later = engine(programs.later)
    budget = (len(text) + 32) * STEPS_A_BYTE
    for _ in range(MAX_MATCHES):
        if found is None or budget < 0:
            break
        start, end = found.span(1)
        if end > start and not programs.is_banned(text, start):
            spans.append((start, end))
            position, num_back = end, programs.num_before
        else:
            # What stands at a banned place is read in vain, so there are bounds to that. Where many places in a row are
            # banned, the search goes on behind all of them.
            budget -= end - start
            while programs.is_banned(text, start + 1):
                start += 1
            position, num_back = start, programs.num_before - 1
        floor = start if programs.num_before == 1 else 0
        found = later.search(text, _stepped_back(text, position, floor, num_back))
    return spans


def _stepped_back(text: bytes, position: int, floor: int, num_back: int) -> int:
    """The place so many characters before, not below the floor."""
    for _ in range(num_back):
        position -= position > floor
        while position > floor and text[position] & 0xC0 == 0x80:
            position -= 1
    return position


def _search_quickly(
    programs: Programs, buffer: NDArray[np.uint8], starts: Int64s, stops: Int64s
) -> tuple[Int64s, Int64s, Int64s]:
    """`_search` through the automaton of the mask, where it has one; RE2 takes the lines that the automaton leaves."""
    automaton = programs.automaton
    if automaton is None:
        return _search(programs, buffer, starts, stops)
    at = np.empty(len(starts) + 1, np.int64)
    room = 4 * len(starts) + 64
    while True:
        low, high = np.empty(room, np.int64), np.empty(room, np.int64)
        left = search(buffer, starts, stops, *automaton.arrays(), MAX_MATCHES, low, high, at)
        if len(left) == len(starts):
            break
        room *= 4
    lines = np.repeat(np.arange(len(starts)), np.diff(at))
    low, high = low[: at[-1]].copy(), high[: at[-1]].copy()
    rest = np.flatnonzero(left)
    if not len(rest):
        return lines, low, high
    more, more_low, more_high = _search(programs, buffer, starts[rest], stops[rest])
    lines, low, high = np.append(lines, rest[more]), np.append(low, more_low), np.append(high, more_high)
    order = np.argsort(low, kind="stable")
    return lines[order], low[order], high[order]


def _search(
    programs: Programs, buffer: NDArray[np.uint8], starts: Int64s, stops: Int64s
) -> tuple[Int64s, Int64s, Int64s]:
    """Line, start and end of every match: all first matches at once, then all second ones, and so on."""
    if programs.bans:
        lines, _, _ = _first_matches(programs.first, buffer, starts, stops)
        return _search_line_by_line(programs, buffer, starts, stops, lines)
    lines, from_ = np.arange(len(starts)), starts
    found: list[tuple[Int64s, Int64s, Int64s]] = []
    pattern = programs.first
    for _ in range(MAX_MATCHES):
        hits, low, high = _first_matches(pattern, buffer, from_, stops[lines])
        lines, low, high = lines[hits], from_[hits] + low, from_[hits] + high
        is_match = high > low
        found.append((lines[is_match], low[is_match], high[is_match]))
        position = np.where(is_match, high, low)
        go_on = position < stops[lines]
        lines, low, position, is_match = lines[go_on], low[go_on], position[go_on], is_match[go_on]
        if not len(lines):
            break
        floor = low if programs.num_before == 1 else starts[lines]
        from_ = _step_back(buffer, position, floor, programs.num_before - (~is_match).astype(np.int64))
        pattern = programs.later
    at_line, span_starts, span_ends = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(span_starts, kind="stable")
    return at_line[order], span_starts[order], span_ends[order]


def _search_line_by_line(
    programs: Programs, buffer: NDArray[np.uint8], starts: Int64s, stops: Int64s, lines: Int64s
) -> tuple[Int64s, Int64s, Int64s]:
    """`_search` in those lines alone, one after the other."""
    rows: list[tuple[int, int, int]] = []
    for line in lines.tolist():
        start = int(starts[line])
        spans = _matches(programs, buffer[start : stops[line]].tobytes())
        rows += [(line, start + low, start + high) for low, high in spans]
    return _columns(rows)


def _step_back(buffer: NDArray[np.uint8], positions: Int64s, floors: Int64s, num_back: Int64s) -> Int64s:
    """The places so many characters before, not below the floors."""
    for i in range(int(num_back.max())):
        is_on = i < num_back
        positions = positions - (is_on & (positions > floors))
        for _ in range(3):
            positions = positions - ((buffer[positions] & 0xC0 == 0x80) & is_on & (positions > floors))
    return positions


def _first_matches(
    pattern: str, buffer: NDArray[np.uint8], starts: Int64s, stops: Int64s
) -> tuple[Int64s, Int64s, Int64s]:
    """Rows that match, with start and end of the first match relative to their start."""
    offsets = np.zeros(len(starts) + 1, np.int64)
    data = np.empty(int((stops - starts).sum()) or 1, np.uint8)
    gather(buffer, starts, stops, offsets, data)
    # The bytes may be invalid UTF-8: RE2 lets no character class match those, and Arrow checks nothing here.
    texts = pa.Array.from_buffers(pa.large_string(), len(starts), [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    import pyarrow.compute as pc  # slow to import, and few miners have masks of their own

    spans = pc.extract_regex_span(texts, pattern)
    hits = np.flatnonzero(spans.is_valid().to_numpy(zero_copy_only=False))
    pairs = spans.field(GROUP).flatten().to_numpy().reshape(-1, 2)
    low, length = pairs[hits, 0], pairs[hits, 1]
    return hits, low, low + length
