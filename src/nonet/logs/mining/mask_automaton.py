r"""User masks as automata: the quick road for patterns over ASCII, in front of RE2.

A pattern becomes a Thompson program, and that a deterministic automaton over classes of bytes, built whole. Its states
are ordered lists of threads: a thread behind one that has matched is cut off, which gives the match that a
backtracking engine prefers, without backtracking. Assertions (`^`, `$`, `\b`, one-character lookarounds) are decided
when the next byte is known. Lookarounds over several characters are not: their text is part of the pattern, as `lead`
characters in front of the match and `trail` behind it.

What does not fit (other constructs, other alphabets, too many states) has no automaton and stays with RE2.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from re import _constants as codes  # type: ignore[attr-defined]  # no public name for the parse tree
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonet.logs.mining.mask_bans import Ban

MAX_STATES = 2_000
MAX_INSTRUCTIONS = 2_000
RE2_ONLY = re.compile(r"\[\[:|\\[QEpPCz]|\\x\{|\(\?P?<\w+>|\(\?[a-zA-Z]*U")
_WORD = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")
_DIGITS = frozenset(b"0123456789")
_SPACES = frozenset(b"\t\n\f\r ")
_ASCII = frozenset(range(128))
_CATEGORIES = {
    codes.CATEGORY_DIGIT: _DIGITS,
    codes.CATEGORY_NOT_DIGIT: _ASCII - _DIGITS,
    codes.CATEGORY_SPACE: _SPACES,
    codes.CATEGORY_NOT_SPACE: _ASCII - _SPACES,
    codes.CATEGORY_WORD: _WORD,
    codes.CATEGORY_NOT_WORD: _ASCII - _WORD,
}

Bytes = frozenset[int]
FOREIGN = -2
"""The step over a byte that is not ASCII: `FOREIGN >> 1` is negative and no state."""

EDGE = -1
"""In place of a byte: the start or the end of the line."""


@dataclass(frozen=True, slots=True)
class Automaton:
    """A deterministic automaton over bytes. State 0 is dead, and no line with a byte from 0x80 on is for it.

    Attributes:
        starts: int32 (257,), start state by the byte before, the last for the start of the line; int32 (1,) when it
            depends on neither.
        steps: int32 (states * 256,), by state and byte: 2 * next state, plus 1 when a match ends before the byte;
            FOREIGN for bytes from 0x80 on.
        at_end: bool (states,), whether a match ends at the end of the line.
        can_start: bool (256,), whether a match can begin at a byte (or the search has to stop there).
        beside: int64 (2 + 2 * bans,), how many bytes of what is found stand before and behind the match itself; then
            for each ban its offset from the start of the match and its length.
        bans: bool (places * 256,), which bytes the bans have at each of their places.
    """

    starts: NDArray[np.int32]
    steps: NDArray[np.int32]
    at_end: NDArray[np.bool_]
    can_start: NDArray[np.bool_]
    beside: NDArray[np.int64]
    bans: NDArray[np.bool_]

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Arguments of the search kernel."""
        return self.starts, self.steps, self.at_end, self.can_start, self.beside, self.bans


class _NoAutomatonError(Exception):
    """The pattern is left to RE2."""


@lru_cache(maxsize=256)
def automaton_of(pattern: str, lead: int = 0, trail: int = 0, bans: tuple[Ban, ...] = ()) -> Automaton | None:
    r"""The automaton of a pattern that RE2 has accepted, or None.

    Args:
        pattern: of the match with its neighbours.
        lead, trail: characters before and behind the match itself.
        bans: what may not stand where the match begins.

    >>> len(automaton_of(r"(\d+\.){3}\d+").at_end) > 4
    True
    >>> automaton_of("größe") is None
    True
    """
    if not pattern.isascii() or RE2_ONLY.search(pattern):
        return None
    try:
        tree = _parser.parse(pattern, re.ASCII)
        program = _Program(tree)
        return _Subsets(program).automaton(lead, trail, bans)
    except (_NoAutomatonError, re.error, RecursionError):
        return None


class _Program:
    """Thompson instructions: (set of bytes), ("split", preferred, other), ("jump", to), ("check", predicate),
    ("match",).
    """

    def __init__(self, tree: Any) -> None:
        self.code: list[tuple[Any, ...]] = []
        self.sets: list[Bytes] = [_WORD]
        flags = tree.state.flags
        if flags & re.MULTILINE:
            raise _NoAutomatonError
        self._sequence(tree, flags)
        self._emit("match")

    def _emit(self, *instruction: Any) -> int:
        if len(self.code) >= MAX_INSTRUCTIONS:
            raise _NoAutomatonError
        self.code.append(instruction)
        return len(self.code) - 1

    def _sequence(self, items: Any, flags: int) -> None:
        for op, argument in items:
            handler = _HANDLERS.get(op)
            if handler is None:
                raise _NoAutomatonError
            handler(self, argument, flags)

    def _bytes(self, chosen: Bytes, flags: int) -> None:
        if flags & re.IGNORECASE:
            chosen = chosen | {ord(c) for b in chosen for c in (chr(b).lower() + chr(b).upper()) if ord(c) < 128}
        self.sets.append(chosen)
        self._emit("bytes", chosen)

    def _literal(self, byte: int, flags: int) -> None:
        self._bytes(frozenset({byte}), flags)

    def _not_literal(self, byte: int, flags: int) -> None:
        excluded = {byte, ord(chr(byte).lower()), ord(chr(byte).upper())} if flags & re.IGNORECASE else {byte}
        self._bytes(_ASCII - excluded, flags & ~re.IGNORECASE)

    def _any(self, _: None, flags: int) -> None:
        self._bytes(_ASCII if flags & re.DOTALL else _ASCII - {10}, 0)

    def _in(self, items: Any, flags: int) -> None:
        negated = items[0][0] is codes.NEGATE
        chosen = frozenset().union(*(members(item, flags) for item in items[negated:]))
        self._bytes(_ASCII - chosen if negated else chosen, 0)

    def _group(self, argument: Any, flags: int) -> None:
        _, added, removed, items = argument
        self._sequence(items, (flags | added) & ~removed)

    def _branch(self, argument: Any, flags: int) -> None:
        ends = []
        for items in argument[1][:-1]:
            split = self._emit("split", len(self.code) + 1, None)
            self._sequence(items, flags)
            ends.append(self._emit("jump", None))
            self.code[split] = ("split", split + 1, len(self.code))
        self._sequence(argument[1][-1], flags)
        for end in ends:
            self.code[end] = ("jump", len(self.code))

    def _repeat(self, argument: Any, flags: int, lazy: bool = False) -> None:
        low, high, items = argument
        unbounded = high is codes.MAXREPEAT
        if unbounded and items.getwidth()[0] == 0:
            raise _NoAutomatonError
        for _ in range(low):
            self._sequence(items, flags)
        splits = []
        for _ in range(1 if unbounded else high - low):
            splits.append(self._emit("split", None, None))
            self._sequence(items, flags)
            if unbounded:
                self._emit("jump", splits[-1])
        for split in splits:
            inside, outside = split + 1, len(self.code)
            self.code[split] = ("split", outside, inside) if lazy else ("split", inside, outside)

    def _lazy(self, argument: Any, flags: int) -> None:
        self._repeat(argument, flags, lazy=True)

    def _at(self, where: Any, _: int) -> None:
        predicate = _ASSERTIONS.get(where)
        if predicate is None:
            raise _NoAutomatonError
        self._emit("check", predicate)

    def _look(self, argument: Any, flags: int, negative: bool = False) -> None:
        direction, items = argument
        chosen, at_edge = _one_byte(items, flags)
        self.sets.append(chosen)

        def predicate(before: int, after: int) -> bool:
            byte = before if direction < 0 else after
            return (at_edge if byte == EDGE else byte in chosen) != negative

        self._emit("check", predicate)

    def _look_not(self, argument: Any, flags: int) -> None:
        self._look(argument, flags, negative=True)


def _is_boundary(before: int, after: int) -> bool:
    return (before in _WORD) != (after in _WORD)


_ASSERTIONS: dict[Any, Callable[[int, int], bool]] = {
    codes.AT_BEGINNING: lambda before, after: before == EDGE,
    codes.AT_BEGINNING_STRING: lambda before, after: before == EDGE,
    codes.AT_END: lambda before, after: after == EDGE,
    codes.AT_BOUNDARY: _is_boundary,
    codes.AT_NON_BOUNDARY: lambda before, after: not _is_boundary(before, after),
}
_HANDLERS: dict[Any, Callable[[_Program, Any, int], None]] = {
    codes.LITERAL: _Program._literal,
    codes.NOT_LITERAL: _Program._not_literal,
    codes.ANY: _Program._any,
    codes.IN: _Program._in,
    codes.SUBPATTERN: _Program._group,
    codes.BRANCH: _Program._branch,
    codes.MAX_REPEAT: _Program._repeat,
    codes.MIN_REPEAT: _Program._lazy,
    codes.AT: _Program._at,
    codes.ASSERT: _Program._look,
    codes.ASSERT_NOT: _Program._look_not,
}


def members(item: Any, flags: int) -> Bytes:
    """Bytes of one part of a character class."""
    op, argument = item
    if op is codes.LITERAL:
        chosen = frozenset({argument})
    elif op is codes.RANGE:
        chosen = frozenset(range(argument[0], argument[1] + 1))
    elif op is codes.CATEGORY:
        return _CATEGORIES[argument]
    else:
        raise _NoAutomatonError
    if flags & re.IGNORECASE:
        chosen |= {ord(c) for b in chosen for c in (chr(b).lower() + chr(b).upper()) if ord(c) < 128}
    return chosen & _ASCII


def _one_byte(items: Any, flags: int) -> tuple[Bytes, bool]:
    """The bytes that a lookaround of one character accepts, and whether it accepts the edge of the line (`(?=C|$)`)."""
    if len(items) == 1 and items[0][0] is codes.BRANCH:
        parts = [_one_byte(part, flags) for part in items[0][1][1]]
        return frozenset().union(*(p[0] for p in parts)), any(p[1] for p in parts)
    if len(items) != 1:
        raise _NoAutomatonError
    op, argument = items[0]
    if op is codes.AT and argument in (codes.AT_BEGINNING, codes.AT_END):
        return frozenset(), True
    if op is codes.IN:
        negated = argument[0][0] is codes.NEGATE
        chosen = frozenset().union(*(members(item, flags) for item in argument[negated:]))
        return (_ASCII - chosen if negated else chosen), False
    if op is codes.ANY:
        return _ASCII - {10}, False
    if op is codes.NOT_LITERAL:
        return _ASCII - members((codes.LITERAL, argument), flags), False
    if op is codes.LITERAL:
        return members((op, argument), flags), False
    raise _NoAutomatonError


class _Subsets:
    """The subset construction."""

    def __init__(self, program: _Program) -> None:
        self._code = program.code
        signature: dict[tuple[bool, ...], int] = {}
        of_byte = [signature.setdefault(tuple(b in s for s in program.sets), len(signature)) for b in range(128)]
        self._foreign = len(signature)
        self._class_of = np.array(of_byte + [self._foreign] * 128, np.uint8)
        self._representative = [of_byte.index(c) for c in range(len(signature))] + [0x80, EDGE]
        self._looks_back = any(op[0] == "check" for op in self._code)
        self._order: list[tuple[tuple[int, ...], int]] = [((), 0)]
        self._states: dict[tuple[tuple[int, ...], int], int] = {}
        self._steps: list[list[int]] = []

    def automaton(self, lead: int, trail: int, bans: tuple[Ban, ...]) -> Automaton:
        """Build all states that can be reached."""
        num_classes = len(self._representative)
        befores = [self._before(c) for c in range(num_classes)]
        starts = [self._state((0,), before) for before in befores]
        for threads, before in self._order:  # grows while it is walked
            self._steps.append([self._step(threads, before, c) for c in range(num_classes)])
        by_class = np.array(self._steps, np.int32)
        steps = by_class[:, self._class_of]
        steps[:, 0x80:] = FOREIGN
        can_start = (steps[np.unique(starts)] != 0).any(axis=0)
        by_byte = np.append(np.array(starts, np.int32)[self._class_of], np.int32(starts[-1]))
        if (by_byte == by_byte[-1]).all():
            by_byte = by_byte[:1]
        at_end = by_class[:, -1] & 1 == 1
        beside = [lead, trail, *(number for ban in bans for number in (ban.offset, len(ban.sets)))]
        banned = [byte in chosen for ban in bans for chosen in ban.sets for byte in range(256)]
        return Automaton(
            by_byte,
            steps.ravel(),
            at_end,
            np.asarray(can_start),
            np.array(beside, np.int64),
            np.array(banned, np.bool_),
        )

    def _before(self, byte_class: int) -> int:
        return byte_class if self._looks_back else 0

    def _state(self, threads: tuple[int, ...], before: int) -> int:
        if not threads:
            return 0
        key = (threads, before)
        if key not in self._states:
            if len(self._order) >= MAX_STATES:
                raise _NoAutomatonError
            self._states[key] = len(self._order)
            self._order.append(key)
        return self._states[key]

    def _step(self, threads: tuple[int, ...], before: int, byte_class: int) -> int:
        """Encoded step: threads are resolved knowing both neighbours, then moved over the byte."""
        after = self._representative[byte_class]
        waiting, matched = self._resolve(threads, self._representative[before], after)
        moved = dict.fromkeys(pc + 1 for pc in waiting if after in self._code[pc][1])
        return 2 * self._state(tuple(moved), self._before(byte_class)) + matched

    def _resolve(self, threads: tuple[int, ...], before: int, after: int) -> tuple[list[int], bool]:
        """Threads at byte instructions in order of preference, cut off behind a match; and whether there is a match."""
        waiting: list[int] = []
        seen: set[int] = set()
        stack = list(reversed(threads))
        while stack:
            pc = stack.pop()
            if pc in seen:
                continue
            seen.add(pc)
            op = self._code[pc]
            if op[0] == "bytes":
                waiting.append(pc)
            elif op[0] == "match":
                return waiting, True
            elif op[0] == "jump":
                stack.append(op[1])
            elif op[0] == "split":
                stack += [op[2], op[1]]
            elif op[1](before, after):
                stack.append(pc + 1)
        return waiting, False
