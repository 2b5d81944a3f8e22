"""Merging rows: which words are values, seen from all rows together.

One row cannot tell `startup succeeded` of `syslogd startup succeeded` from a value; fifty rows that differ in the first word
alone can. All decisions of a step are taken at once from the rows before it, so the order of rows never matters:

1. *Absorb*: a row that becomes equal to another one when a word around a variable is taken as variable (`wpad:80 error`
   beside `10.0.0.1:80 error`) joins it.
2. *Columns*: rows equal but for one column are a family. The column is variable if the family is large enough; how large
   depends on what stands there: less after `user` or `from`, for identifiers, or when some row has a variable there; more for
   the first word of a message, which names what happened; never for a key. Repeated, since a merge brings families together.
3. *Words*: the same once more with everything between two blanks as one column (`vm:` beside `channel.jni:jni`), and for rows
   that share a long beginning, several columns at once.
4. *Lists*: a run of variables is one variable when it is long, or when rows differ in its length only.

Cost: rows are compared through hashes of all columns but one, never in pairs.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from nonet.logs.tokens import NOUNS, PREPOSITIONS, UNIT, WILD, Span, is_wild

Row = tuple[bytes, ...]
Plan = list[tuple[int, int, bytes]]
"""How to rewrite a row: (first token, past the last token, new token), covering the row."""

MIN_FAMILY_FIRST_WORD = 12
MIN_FAMILY_FIRST_NAME = 7
MIN_FAMILY_WORD = 6
MIN_FAMILY_BRACKETED = 4
MIN_FAMILY_PREPOSITION = 3
MIN_FAMILY_IDENTIFIER = 3
MIN_FAMILY_NOUN = 2
MIN_LIST = 4
_NUM_HEAD = 4
_MAX_ROUNDS = 6

_WORD = re.compile(rb"[A-Za-z\x80-\xff]{2}")
_DIGIT = re.compile(rb"[0-9]")
_IDENTIFIER = re.compile(rb"[a-z]+[A-Z]|[A-Z]{2}[a-z]|[A-Za-z0-9][_:/@\\+.$-]+[A-Za-z0-9]|[A-Z]+_[A-Z]|[0-9]|[A-Za-z][+-]$")
_CAPITALS = re.compile(rb" ?[A-Z]{2,}")
_DELIMITERS = frozenset(b",;|\"'()[]{}<>=!?`:")


class Rows:
    """Distinct rows, the shapes that have each, and the spans of every shape, rewritten together."""

    def __init__(self, rows: Iterable[tuple[Sequence[bytes], Sequence[Span]]]) -> None:
        self.members: dict[Row, list[int]] = {}
        self.spans: list[Sequence[Span]] = []
        for index, (tokens, spans) in enumerate(rows):
            self.members.setdefault(tuple(tokens), []).append(index)
            self.spans.append(spans)

    def rewrite(self, row: Row, plan: Plan) -> None:
        """Replace a row by its rewritten form, joining a row that is there already."""
        members = self.members.pop(row)
        for index in members:
            spans = self.spans[index]
            self.spans[index] = [(spans[first][0], spans[end - 1][1]) for first, end, _ in plan]
        self.members.setdefault(tuple(token for _, _, token in plan), []).extend(members)

    def relabel(self, row: Row, new_row: Row) -> None:
        """Replace a row by one of the same length with the same spans."""
        members = self.members.pop(row)
        self.members.setdefault(new_row, []).extend(members)

    def by_length(self) -> dict[int, list[Row]]:
        """The rows in buckets of equal length."""
        buckets: defaultdict[int, list[Row]] = defaultdict(list)
        for row in self.members:
            buckets[len(row)].append(row)
        return buckets


def merge(rows: Rows) -> None:
    """Run the steps of the module on the rows, in place."""
    _absorb(rows)
    _merge_columns(rows)
    _merge_words(rows, _without_punctuation)
    _merge_words(rows, lambda row, first, end: end)
    _merge_lists(rows)


def words_of(row: Row) -> list[Span]:
    """Token ranges between blanks."""
    starts = [i for i, token in enumerate(row) if i == 0 or token[:1] == b" "]
    return list(zip(starts, [*starts[1:], len(row)], strict=True))


def _num_literal(row: Iterable[bytes]) -> int:
    return sum(1 for token in row if _WORD.search(token))


def _wild_like(token: bytes) -> bytes:
    return b" " + WILD if token[:1] == b" " else WILD


def _without_punctuation(row: Row, first: int, end: int) -> int:
    """End of a word without the punctuation after it."""
    while end > first + 1 and row[end - 1] in (b":", b",", b";", b"."):
        end -= 1
    return end


# --- 1. absorb


def _absorb(rows: Rows) -> None:
    absorbed = [(row, plan) for row in rows.members if (plan := _absorbing_plan(row, rows.members)) is not None]
    for row, plan in sorted(absorbed, key=lambda found: (-len(found[0]), found[0])):
        rows.rewrite(row, plan)


def _absorbing_plan(row: Row, known: dict[Row, list[int]]) -> Plan | None:
    """Rewrite one word around a variable as variable, if the result is a known row with two literal words."""
    for first, end in words_of(row):
        end = _without_punctuation(row, first, end)
        if end - first < 2 or not any(is_wild(token) for token in row[first:end]):
            continue
        target = (*row[:first], _wild_like(row[first]), *row[end:])
        if target in known and _num_literal(target) >= 2:
            return [*_as_is(row, 0, first), (first, end, target[first]), *_as_is(row, end, len(row))]
    return None


def _as_is(row: Row, first: int, end: int) -> Plan:
    return [(i, i + 1, row[i]) for i in range(first, end)]


# --- 2. columns


def _merge_columns(rows: Rows) -> None:
    for length, bucket in rows.by_length().items():
        if length > 1:
            for row, new_row in _generalise(bucket, _is_value).items():
                rows.relabel(row, new_row)


def _generalise(bucket: list[Row], is_value: Callable[[set[bytes], Row, int], bool]) -> dict[Row, Row]:
    """The rows of one length that change, with what they become."""
    current = {row: row for row in bucket}
    for _ in range(_MAX_ROUNDS):
        distinct = list(set(current.values()))
        wild = defaultdict(set)
        for column, family in _families(distinct):
            if is_value({row[column] for row in family}, family[0], column):
                for row in family:
                    wild[row].add(column)
        if not wild:
            break
        changed = {row: tuple(_wild_like(t) if i in cols else t for i, t in enumerate(row)) for row, cols in wild.items()}
        current = {row: changed.get(now, now) for row, now in current.items()}
    return {row: now for row, now in current.items() if now != row}


def _families(rows: list[Row]) -> Iterator[tuple[int, list[Row]]]:
    """Groups of at least two of the distinct rows that are equal but for one column, with that column."""
    if len(rows) < 2:
        return
    hashes = _mix(_token_hashes(rows) + _mix(np.arange(1, len(rows[0]) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)))
    whole = hashes.sum(axis=1, dtype=np.uint64)
    for column in range(len(rows[0])):
        keys = whole - hashes[:, column]
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order], prepend=keys[order[0]] ^ np.uint64(1)))
        ends = np.append(starts[1:], len(rows))
        for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
            yield column, [rows[i] for i in order[start:end]]


def _token_hashes(rows: list[Row]) -> NDArray[np.uint64]:
    """64-bit hash of every token, shape (rows, columns); a function of the bytes alone."""
    known: dict[bytes, int] = {}
    for token in {token for row in rows for token in row}:
        known[token] = int.from_bytes(blake2b(token, digest_size=8).digest(), "little")
    return np.array([[known[token] for token in row] for row in rows], np.uint64)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64: every bit of the input changes half of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _is_value(family: set[bytes], row: Row, column: int) -> bool:
    """Whether the tokens that one column has in a family of rows are values of a variable."""
    if len({token[:1] == b" " for token in family}) > 1 or any(len(t.lstrip()) == 1 and t.lstrip()[0] in _DELIMITERS for t in family):
        return False
    following = row[column + 1] if column + 1 < len(row) else b" "
    if following in (b"=", b"(", WILD, b" ="):
        return False
    if not any(_WORD.search(token) for i, token in enumerate(row) if i != column):
        return False
    if any(is_wild(token) or not token.strip() for token in family):
        return True
    return len(family) >= _min_family(family, row, column, following)


def _min_family(family: set[bytes], row: Row, column: int, following: bytes) -> int:
    """How many different words there must be in a column to call it variable."""
    num_identifiers = sum(1 for token in family if _IDENTIFIER.search(token))
    num_numbered = sum(1 for token in family if _DIGIT.search(token))
    if num_numbered > 1 and num_numbered * 2 >= len(family):
        return 2
    if not any(_WORD.search(token) for token in row[:column]):
        names = num_identifiers * 2 < len(family) and _num_literal(row[column + 1 :]) >= 2
        return MIN_FAMILY_FIRST_NAME if names else MIN_FAMILY_FIRST_WORD
    before = row[column - 1].lstrip().lower()
    if before in NOUNS:
        return MIN_FAMILY_NOUN
    if before in PREPOSITIONS and (before != b"to" or all(_CAPITALS.fullmatch(t) or _IDENTIFIER.search(t) for t in family)):
        return MIN_FAMILY_PREPOSITION
    if num_identifiers * 2 > len(family):
        return MIN_FAMILY_IDENTIFIER
    if before in (b"(", b"[", b"{") and following[:1] in (b")", b"]", b"}", b","):
        return MIN_FAMILY_BRACKETED
    return MIN_FAMILY_WORD


# --- 3. words


def _merge_words(rows: Rows, end_of_word: Callable[[Row, int, int], int]) -> None:
    coarse: defaultdict[Row, list[Row]] = defaultdict(list)
    plans: dict[Row, Plan] = {}
    for row in rows.members:
        plan = _word_plan(row, end_of_word)
        words = tuple(token for _, _, token in plan)
        coarse[words].append(row)
        plans[row] = plan
    buckets: defaultdict[int, list[Row]] = defaultdict(list)
    for words in coarse:
        buckets[len(words)].append(words)
    for bucket in buckets.values():
        changed = _generalise(bucket, _is_word_value)
        current = [changed.get(words, words) for words in bucket]
        for words, now in _merge_tails(current).items():
            for old in bucket:
                if changed.get(old, old) == words:
                    changed[old] = now
        for words, now in changed.items():
            for row in coarse[words]:
                rows.rewrite(row, _fine_plan(row, plans[row], words, now))


def _word_plan(row: Row, end_of_word: Callable[[Row, int, int], int]) -> Plan:
    """The row with all between two blanks as one token; punctuation after it and brackets around it stay apart."""
    plan: Plan = []
    for first, end in words_of(row):
        start, stop = first, end_of_word(row, first, end)
        while start < stop and row[start].lstrip() in (b"(", b"[", b"{", b'"', b"'"):
            start += 1
        while stop > start + 1 and row[stop - 1] in (b")", b"]", b"}", b'"', b"'"):
            stop = end_of_word(row, start, stop - 1)
        plan += _as_is(row, first, start)
        if start < stop:
            plan.append((start, stop, b"".join(row[start:stop])))
        plan += _as_is(row, max(start, stop), end)
    return plan


def _fine_plan(row: Row, plan: Plan, words: Row, now: Row) -> Plan:
    """The plan that makes only the changed words variable and leaves the other words cut as they were."""
    fine: Plan = []
    for (first, end, _), old, new in zip(plan, words, now, strict=True):
        fine += [(first, end, new)] if old != new else _as_is(row, first, end)
    return fine


def _is_word_value(family: set[bytes], row: Row, column: int) -> bool:
    """As `_is_value`, for whole words: only words that look like identifiers, not the first."""
    if not any(_WORD.search(token) for token in row[:column]) or _num_literal(row) < 3:
        return False
    if any(is_wild(token) for token in family):
        return _is_value(family, row, column)
    if sum(1 for token in family if _IDENTIFIER.search(token) or WILD in token) * 2 <= len(family):
        return False
    return len(family) >= MIN_FAMILY_IDENTIFIER and _is_value(family, row, column)


def _merge_tails(bucket: list[Row]) -> dict[Row, Row]:
    """Rows with the same first words in which several later words vary, mostly among identifiers."""
    heads: defaultdict[Row, list[Row]] = defaultdict(list)
    for row in sorted(set(bucket)):
        if len(row) > _NUM_HEAD and _num_literal(row[:_NUM_HEAD]) >= _NUM_HEAD - 1:
            heads[row[:_NUM_HEAD]].append(row)
    changed: dict[Row, Row] = {}
    for family in heads.values():
        varying = [i for i in range(len(family[0])) if len({row[i] for row in family}) > 1]
        if len(family) >= MIN_FAMILY_IDENTIFIER and _are_tail_values(family, varying):
            for row in family:
                changed[row] = tuple(_wild_like(t) if i in varying else t for i, t in enumerate(row))
    return changed


def _are_tail_values(family: list[Row], varying: list[int]) -> bool:
    if not 1 < len(varying) <= min(3, len(family[0]) // 2) or any(len({row[i][:1] == b" " for row in family}) > 1 for i in varying):
        return False
    values = [token for i in varying for token in {row[i] for row in family}]
    if any(len(t.lstrip()) == 1 and t.lstrip()[0] in _DELIMITERS for t in values):
        return False
    return sum(1 for token in values if _IDENTIFIER.search(token) or WILD in token or _CAPITALS.fullmatch(token)) * 2 > len(values)


# --- 4. lists


def _merge_lists(rows: Rows) -> None:
    shortened: defaultdict[Row, list[tuple[Row, Plan]]] = defaultdict(list)
    for row in rows.members:
        plan = _list_plan(row)
        shortened[tuple(token for _, _, token in plan)].append((row, plan))
    for same in shortened.values():
        lengths = [{end - first for first, end, _ in column} for column in zip(*(plan for _, plan in same), strict=True)]
        fused = [max(seen) >= MIN_LIST or (len(seen) > 1 and max(seen) > 2) for seen in lengths]
        if any(fused):
            for row, plan in same:
                rows.rewrite(row, _keep_apart(row, plan, fused))


def _list_plan(row: Row) -> Plan:
    """The row with every run of variables between blanks as one."""
    plan: Plan = []
    for i, token in enumerate(row):
        if plan and token == b" " + WILD and is_wild(plan[-1][2]):
            plan[-1] = (plan[-1][0], i + 1, plan[-1][2])
        else:
            plan.append((i, i + 1, token))
    return plan


def _keep_apart(row: Row, plan: Plan, fused: list[bool]) -> Plan:
    parts: Plan = []
    for (first, end, token), fuse in zip(plan, fused, strict=True):
        parts += [(first, end, token)] if fuse else _as_is(row, first, end)
    return parts


def unit_columns(row: Row) -> list[int]:
    """Columns of a row that hold a unit after a number."""
    return [i for i, token in enumerate(row) if token.lstrip() == UNIT]
