"""Merging rows: which words are values, seen from all rows together.

One row cannot tell `syslogd` of `syslogd startup succeeded` from a fixed word; fifty rows that differ in the first
word alone can. All decisions of a step are taken at once from the rows before it, so the order of rows never matters:

1. *Absorb*: a row that becomes equal to another one when a word around a variable is taken as variable
   (`wpad:80 error` beside `10.0.0.1:80 error`) joins it.
2. *Columns*: rows equal but for one column are a family. The column is variable if the family is large enough; how
   large depends on what stands there: less after `user` or `from`, for identifiers, or where some row has a variable
   already; more for the first word of a message, which names what happened; never for a key. Repeated, since a merge
   brings families together. Then the same for several columns at once, where each has many rare words.
3. *Slots*: identifiers and words in capitals where values are expected vary together (`from NEW to RUNNING`).
4. *Words*: columns once more with all between two blanks as one (`vm:` beside `channel.jni:jni`), and rows that
   share a long beginning and differ in two or three identifiers after it.
5. *Lists*: a run of variables is one variable when it is long, or when rows differ in its length only.

Cost: near linear. Rows are compared through hashes of all columns but one, never in pairs.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
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
MIN_FAMILY_OPEN = 10
MIN_LIST = 4
_NUM_HEAD = 4
_MAX_ROUNDS = 6

_WORD = re.compile(rb"[A-Za-z\x80-\xff]{2}")
_COMPOSITE = re.compile(rb"[^ ]\x01|\x01[^ ]")
_RUN = re.compile(rb"\x01 \x01")


def _words_without(punctuation: bytes) -> re.Pattern[bytes]:
    """Pattern of the words of a row; brackets, quotes and the given marks before and after a word stay apart."""
    after = rb"[)\]}\"'" + punctuation + rb"]"
    end = rb"(?=(?:" + after + rb"|(?<=\x01)\.)*(?: |$))"
    return re.compile(
        rb" (?=[)\]}])| ?[(\[{\"']+|" + after + rb"+|(?<=\x01)\.|[^ ]+?" + end + rb"| [^ (\[{\"']+?" + end + rb"| "
    )


_BARE_WORDS = _words_without(b":,;")
_WORDS_WITH_COLON = _words_without(b",;")
_DIGIT = re.compile(rb"[0-9]")
_IDENTIFIER = re.compile(
    rb"[a-z]+[A-Z]|[A-Z]{2}[a-z]|[A-Za-z0-9][_:/@\\+.$-]+[A-Za-z0-9]|[A-Z]+_[A-Z]|[0-9]|[A-Za-z][+-]$"
)
_CAPITALS = re.compile(rb" ?[A-Z]{2,}")
_SWITCHES = frozenset((b"yes", b"no", b"on", b"off"))
_ODD = np.uint64(0x9E3779B97F4A7C15)
_SLOT = b"\x03"
_AFTER_KEY = frozenset((b"=", b"(", b" =", WILD))
_BEFORE_VALUE = frozenset((b",", b":", b"=", b"(", b"["))
_MARKS = frozenset(bytes([mark]) for mark in b",;|\"'()[]{}<>=!?`:")


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


def merge(rows: Rows) -> None:
    """Run the steps of the module on the rows, in place."""
    if len(rows.members) > 1:
        _absorb(rows)
        _merge_columns(rows)
        if len(rows.members) >= MIN_FAMILY_OPEN:
            _merge_open_columns(rows)
            _merge_columns(rows)
        _merge_slots(rows)
        _merge_words(rows, _BARE_WORDS)
        _merge_words(rows, _WORDS_WITH_COLON)
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
    composite = [row for row in rows.members if _COMPOSITE.search(b"".join(row))]
    absorbed = [(row, plan) for row in composite if (plan := _absorbing_plan(row, rows.members)) is not None]
    for row, plan in sorted(absorbed, key=lambda found: (-len(found[0]), found[0])):
        rows.rewrite(row, plan)


def _absorbing_plan(row: Row, known: dict[Row, list[int]]) -> Plan | None:
    """Rewrite one word around a variable as variable, if the result is a known row with two literal words."""
    for first, past in words_of(row):
        end = _without_punctuation(row, first, past)
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
    for row, new_row in _generalise(list(rows.members), _is_value).items():
        rows.relabel(row, new_row)


def _generalise(rows: list[Row], is_value: Callable[[set[bytes], Row, int], bool]) -> dict[Row, Row]:
    """The rows that change when columns of values become variable, with what they become."""
    becomes: dict[Row, Row] = {}
    active = rows
    for _ in range(_MAX_ROUNDS):
        wild: defaultdict[Row, set[int]] = defaultdict(set)
        for column, family in _families(active):
            if is_value({row[column] for row in family}, family[0], column):
                for row in family:
                    if not is_wild(row[column]):
                        wild[row].add(column)
        if not wild:
            break
        changed = {
            row: tuple(_wild_like(t) if i in cols else t for i, t in enumerate(row)) for row, cols in wild.items()
        }
        becomes |= changed
        lengths = {len(row) for row in changed}
        active = list({changed.get(row, row) for row in active if len(row) in lengths})
    return {row: _last(row, becomes) for row in rows if row in becomes}


def _last(row: Row, becomes: dict[Row, Row]) -> Row:
    while row in becomes:
        row = becomes[row]
    return row


def _families(rows: list[Row]) -> Iterator[tuple[int, list[Row]]]:
    """Groups of at least two of the distinct rows that are equal but for one column, with that column."""
    lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
    total = int(lengths.sum())
    if total == 0:
        return
    row_of = np.repeat(np.arange(len(rows)), lengths)
    starts = np.cumsum(lengths) - lengths
    columns = np.arange(total) - starts[row_of]
    places = _mix(columns.astype(np.uint64) * _ODD + lengths[row_of].astype(np.uint64))
    hashes = _mix(_token_hashes(rows, total) + places)
    whole = np.add.reduceat(hashes, starts[lengths > 0])[np.cumsum(lengths > 0) - 1]
    keys = whole[row_of] - hashes + places
    order = np.argsort(keys, kind="stable")
    firsts = np.flatnonzero(np.concatenate(([True], keys[order[1:]] != keys[order[:-1]])))
    ends = np.append(firsts[1:], total)
    large = ends - firsts > 1
    for first, end in zip(firsts[large].tolist(), ends[large].tolist(), strict=True):
        members = order[first:end]
        yield int(columns[members[0]]), [rows[i] for i in row_of[members].tolist()]


def _token_hashes(rows: list[Row], total: int) -> NDArray[np.uint64]:
    """64-bit hash of every token of every row, one after another; a function of the bytes alone."""
    distinct = {token for row in rows for token in row}
    known = {token: int.from_bytes(blake2b(token, digest_size=8).digest(), "little") for token in distinct}
    return np.fromiter((known[token] for row in rows for token in row), np.uint64, total)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64: every bit of the input changes half of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _is_value(family: set[bytes], row: Row, column: int) -> bool:
    """Whether the tokens that one column has in a family of rows are values of a variable."""
    if len({token[:1] == b" " for token in family}) > 1 or any(token.lstrip() in _MARKS for token in family):
        return False
    following = row[column + 1] if column + 1 < len(row) else b" "
    if following in _AFTER_KEY and b" " not in family:
        return False
    if not any(_WORD.search(token) for i, token in enumerate(row) if i != column):
        return False
    if any(is_wild(token) or not token.strip() for token in family):
        return True
    if all(token.strip().lower() in _SWITCHES for token in family):
        return True
    if _is_singular_and_plural(family) and any(is_wild(token) for token in row[:column]):
        return True
    return len(family) >= _min_family(family, row, column, following)


def _is_singular_and_plural(family: set[bytes]) -> bool:
    """`failure` and `failures`, after a number."""
    words = sorted(token.strip(b" .") for token in family)
    return len(words) == 2 and words[1] == words[0] + b"s"


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
    if before in PREPOSITIONS and (
        before != b"to" or all(_CAPITALS.fullmatch(t) or _IDENTIFIER.search(t) for t in family)
    ):
        return MIN_FAMILY_PREPOSITION
    if num_identifiers * 2 > len(family):
        return MIN_FAMILY_IDENTIFIER
    if before in (b"(", b"[", b"{") and following[:1] in (b")", b"]", b"}", b","):
        return MIN_FAMILY_BRACKETED
    return MIN_FAMILY_WORD


def _merge_open_columns(rows: Rows) -> None:
    """Rows equal but for words that hardly any other row has in their column: several columns at once, each with many values."""
    counts: Counter[tuple[int, int, bytes]] = Counter()
    for row in rows.members:
        counts.update((len(row), column, token) for column, token in enumerate(row))
    frames: defaultdict[Row, list[Row]] = defaultdict(list)
    for row in rows.members:
        frame = tuple(
            _SLOT if counts[len(row), column, token] < MIN_FAMILY_OPEN and _may_vary(row, column) else token
            for column, token in enumerate(row)
        )
        num_slots = frame.count(_SLOT)
        if num_slots and _num_literal(frame) > num_slots:
            frames[frame].append(row)
    for frame, family in frames.items():
        slots = [column for column, token in enumerate(frame) if token == _SLOT]
        if (
            all(2 * len({row[column] for row in family}) >= MIN_FAMILY_OPEN for column in slots)
            and len(family) >= MIN_FAMILY_OPEN
        ):
            for row in family:
                rows.relabel(row, tuple(_wild_like(t) if column in slots else t for column, t in enumerate(row)))


def _may_vary(row: Row, column: int) -> bool:
    """Whether a column is neither a key, nor the first word, nor a delimiter."""
    following = row[column + 1] if column + 1 < len(row) else b""
    return column > 0 and following not in _AFTER_KEY and row[column].lstrip() not in _MARKS


# --- 3. slots


def _merge_slots(rows: Rows) -> None:
    families: defaultdict[Row, list[Row]] = defaultdict(list)
    for row in rows.members:
        frame = tuple(_SLOT if _is_slot(row, i) else token for i, token in enumerate(row))
        if _SLOT in frame and _num_literal(frame) > 1:
            families[frame].append(row)
    for frame, family in families.items():
        if len(family) >= MIN_FAMILY_IDENTIFIER:
            varying = [i for i, token in enumerate(frame) if token == _SLOT and len({row[i] for row in family}) > 1]
            for row in family:
                rows.relabel(
                    row, tuple(b" " * (t[:1] == b" ") + WILD if i in varying else t for i, t in enumerate(row))
                )


def _is_slot(row: Row, column: int) -> bool:
    """Whether a value is expected in a column, and what stands there looks like one."""
    if not column or not _expects_value(row[column - 1]) or not _looks_like_value(row[column]):
        return False
    return column + 1 == len(row) or row[column + 1] not in _AFTER_KEY


@lru_cache(1 << 14)
def _expects_value(token: bytes) -> bool:
    before = token.lstrip().lower()
    return before in _BEFORE_VALUE or before in PREPOSITIONS or before in NOUNS


@lru_cache(1 << 14)
def _looks_like_value(token: bytes) -> bool:
    return is_wild(token) or bool(_IDENTIFIER.search(token) or _CAPITALS.fullmatch(token))


# --- 4. words


def _merge_words(rows: Rows, words_in: re.Pattern[bytes]) -> None:
    coarse: defaultdict[Row, list[Row]] = defaultdict(list)
    for row in rows.members:
        coarse[tuple(words_in.findall(b"".join(row)))].append(row)
    changed = _generalise(list(coarse), _is_word_value)
    tails = _merge_tails({changed.get(words, words) for words in coarse})
    for words, same in coarse.items():
        now = changed.get(words, words)
        now = tails.get(now, now)
        if now != words:
            for row in same:
                rows.rewrite(row, _word_plan(row, words, now))


def _word_plan(row: Row, words: Row, now: Row) -> Plan:
    """The plan that makes the changed words variable and leaves the tokens of the other words as they were."""
    plan: Plan = []
    column = position = offset = 0
    for old, new in zip(words, now, strict=True):
        first = column
        offset += len(old)
        while column < len(row) and (position < offset or (old is words[-1] and not row[column])):
            position += len(row[column])
            column += 1
        plan += _as_is(row, first, column) if old == new else [(first, column, new)]
    return [*plan, *_as_is(row, column, len(row))]


def _is_word_value(family: set[bytes], row: Row, column: int) -> bool:
    """As `_is_value`, for whole words: only words that look like identifiers, not the first."""
    if not any(_WORD.search(token) for token in row[:column]) or _num_literal(row) < 3:
        return False
    if any(is_wild(token) for token in family):
        return _is_value(family, row, column)
    if sum(1 for token in family if _IDENTIFIER.search(token) or WILD in token) * 2 <= len(family):
        return False
    return len(family) >= MIN_FAMILY_IDENTIFIER and _is_value(family, row, column)


def _merge_tails(rows: Iterable[Row]) -> dict[Row, Row]:
    """Rows with the same first words in which several later words vary, mostly among identifiers."""
    heads: defaultdict[tuple[int, Row], list[Row]] = defaultdict(list)
    for row in rows:
        if len(row) > _NUM_HEAD and _num_literal(row[:_NUM_HEAD]) >= _NUM_HEAD - 1:
            heads[len(row), row[:_NUM_HEAD]].append(row)
    changed: dict[Row, Row] = {}
    for family in heads.values():
        varying = [i for i in range(len(family[0])) if len({row[i] for row in family}) > 1]
        if len(family) > 1 and _are_tail_values(family, varying):
            for row in family:
                changed[row] = tuple(_wild_like(t) if i in varying else t for i, t in enumerate(row))
    return changed


def _are_tail_values(family: list[Row], varying: list[int]) -> bool:
    """Whether two or three columns of a family hold values; two rows are a family if one has variables there already."""
    if len(family) < MIN_FAMILY_IDENTIFIER and not any(all(is_wild(row[i]) for i in varying) for row in family):
        return False
    if not 1 < len(varying) <= min(3, len(family[0]) // 2):
        return False
    columns = [{row[i] for row in family} for i in varying]
    if any(len({token[:1] == b" " for token in column}) > 1 for column in columns):
        return False
    values = [token for column in columns for token in column]
    if any(token.lstrip() in _MARKS for token in values):
        return False
    return sum(1 for token in values if WILD in token or _looks_like_value(token)) * 2 >= len(values)


# --- 5. lists


def _merge_lists(rows: Rows) -> None:
    shortened: defaultdict[Row, list[tuple[Row, Plan]]] = defaultdict(list)
    for row in rows.members:
        if _RUN.search(b"".join(row)):
            plan = _list_plan(row)
            shortened[tuple(token for _, _, token in plan)].append((row, plan))
    for short, same in shortened.items():
        if short in rows.members:
            same.append((short, _as_is(short, 0, len(short))))
        plans = [plan for _, plan in same]
        lengths = [{end - first for first, end, _ in column} for column in zip(*plans, strict=True)]
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
