"""Merging rows: which words are values, seen from all rows together.

One row cannot tell `syslogd` of `syslogd startup succeeded` from a fixed word; fifty rows that differ in the first
word alone can. All decisions of a step are taken at once from the rows before it, so the order of rows never matters:

1. *Absorb*: a row that becomes equal to another one when a word around a variable is taken as variable
   (`wpad:80 error` beside `10.0.0.1:80 error`) joins it.
2. *Columns*: rows equal but for one column are a family. The column is variable if the family is large enough; how
   large depends on what stands there: less after `user` or `from`, for identifiers, or where some row has a variable
   already; more for the first word of a message, which names what happened; never for a key. Repeated, since a merge
   brings families together. Then the same for several columns at once, where each has many rare words.
3. *Slots*: identifiers and words in capitals where values are expected vary together (`from NEW to RUNNING`). Then
   words that were found to be values are values in other messages too, after the same word.
4. *Words*: columns once more with all between two blanks as one (`vm:` beside `channel.jni:jni`), and rows that
   share a long beginning and differ in two or three identifiers after it.
5. *Lists*: a run of variables is one variable when it is long, or when rows differ in its length only; so is a
   repeated group of tokens (`node-1 3 <ok> node-2 5 <ok>`). Then absorb again.

Cost: near linear. Rows are compared through hashes of all columns but one, never in pairs.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import islice

from nonet.logs.mining.families import (
    AFTER_KEY,
    MARKS,
    MIN_FAMILY_IDENTIFIER,
    MIN_FAMILY_PREPOSITION,
    MIN_FAMILY_WORD,
    Row,
    expects_value,
    generalise,
    is_method,
    is_value,
    is_verb,
    is_word_value,
    looks_like_value,
    num_literal,
    wild_like,
)
from nonet.logs.mining.tokens import NOUNS, PREPOSITIONS, UNIT, WILD, Span, is_wild

Plan = list[tuple[int, int, bytes]]
"""How to rewrite a row: (first token, past the last token, new token), covering the row."""

MIN_FAMILY_OPEN = 10
MIN_LIST = 4
_NUM_HEAD = 4
_SLOT = b"\x03"
_COMPOSITE = re.compile(rb"[^ ]\x01|\x01[^ ]")
_REPEATED = re.compile(rb"\x01 \x01|(\x01[^\x01]{0,64})\1")
_UNIT_AFTER_BLANK = b" " + UNIT
_MAX_GROUP = 8
_MAX_TRIES = 16
_CUT = b"\x04"
_FUNCTION_WORDS = frozenset(
    b"the and but not nor yet now new all any each than then that this these those when while where which after before"
    b" during because due into onto over under until since without within per via only already also too very more"
    b" less".split()
)
_OPENING = re.compile(rb"(?:^| )[(\[{\"']++")
_WORD_OR_MARKS = re.compile(rb" ?[^ \x04]+| ")


def _closing(marks: bytes) -> re.Pattern[bytes]:
    """Pattern of the brackets, quotes and given marks that end a word; a full stop only after a variable."""
    marks = rb")\]}\"'" + marks
    return re.compile(rb"(?:(?<=\x01)[." + marks + rb"]++|(?<![" + marks + rb"])[" + marks + rb"]++)(?= |$)")


_CLOSING = _closing(b":,;")
_CLOSING_BUT_COLON = _closing(b",;")


class Rows:
    """Distinct rows, the shapes that have each, and the spans of every shape, rewritten together."""

    def __init__(self, rows: Iterable[tuple[Row, Sequence[Span]]]) -> None:
        self.members: dict[Row, list[int]] = {}
        self.spans: list[Sequence[Span]] = []
        for index, (tokens, spans) in enumerate(rows):
            self.members.setdefault(tokens, []).append(index)
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
        names = _merge_columns(rows)
        if len(rows.members) >= MIN_FAMILY_OPEN:
            _merge_open_columns(rows)
            _merge_columns(rows)
        _merge_slots(rows)
        _spread(rows, names)
        _merge_words(rows, _CLOSING)
        _merge_words(rows, _CLOSING_BUT_COLON)
    _merge_lists(rows)
    _absorb(rows)


def words_of(row: Row) -> list[Span]:
    """Token ranges between blanks."""
    starts = [i for i, token in enumerate(row) if i == 0 or token[:1] == b" "]
    return list(zip(starts, [*starts[1:], len(row)], strict=True))


def _as_is(row: Row, first: int, end: int) -> Plan:
    return [(i, i + 1, row[i]) for i in range(first, end)]


def _without_punctuation(row: Row, first: int, end: int) -> int:
    """End of a word without the punctuation after it."""
    while end > first + 1 and row[end - 1] in (b":", b",", b";", b"."):
        end -= 1
    return end


def _absorb(rows: Rows) -> None:
    composite = [row for row in rows.members if _COMPOSITE.search(b"".join(row))]
    absorbed = [(row, plan) for row in composite if (plan := _absorbing_plan(row, rows.members)) is not None]
    for row, plan in sorted(absorbed, key=lambda found: (-len(found[0]), found[0])):
        rows.rewrite(row, plan)


def _absorbing_plan(row: Row, known: dict[Row, list[int]]) -> Plan | None:
    """Rewrite a word around a variable, or its part after a colon, as variable, if that makes a known row."""
    for first, end in islice(_absorbable(row), _MAX_TRIES):
        target = (*row[:first], wild_like(row[first]), *row[end:])
        if target in known and num_literal(target) >= 2:
            return [*_as_is(row, 0, first), (first, end, target[first]), *_as_is(row, end, len(row))]
    return None


def _absorbable(row: Row) -> Iterator[Span]:
    """Token ranges of the words with a variable in them, and of what follows a colon within such a word."""
    for first, past in words_of(row):
        end = _without_punctuation(row, first, past)
        if end - first > 1 and any(is_wild(token) for token in row[first:end]):
            yield first, end
            yield from ((i + 1, end) for i in range(first, end - 2) if row[i] == b":")
            yield from _glued(row, first, end)


def _glued(row: Row, first: int, end: int) -> Iterator[Span]:
    """Token ranges between the delimiters of a word that hold a variable and more: `a/<*>` of `[a/<*>]`."""
    start = first
    for i in range(first, end + 1):
        if i == end or row[i].lstrip() in MARKS:
            if i - start > 1 and (start, i) != (first, end) and any(is_wild(token) for token in row[start:i]):
                yield start, i
            start = i + 1


def _merge_columns(rows: Rows, nouns: frozenset[bytes] = NOUNS) -> dict[bytes, set[bytes]]:
    """Make the columns of values variable; returns which words were found to be values, by the word before them."""
    names: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for row, new_row in generalise(list(rows.members), partial(is_value, nouns=nouns)).items():
        rows.relabel(row, new_row)
        for column in range(1, len(row)):
            if row[column] != new_row[column] and not is_wild(new_row[column - 1]):
                word = row[column].lstrip()
                if word not in NOUNS and word not in PREPOSITIONS and not is_verb(word):
                    names[row[column - 1].lstrip().lower()].add(word)
    return names


def _spread(rows: Rows, names: dict[bytes, set[bytes]]) -> None:
    """Words that are values in one statement are values in all others where the same word stands before them."""
    known = {before: words for before, words in names.items() if len(words) >= _least_names(before)}
    changed: dict[Row, Row] = {}
    for row in rows.members:
        columns = [
            column
            for column in range(1, len(row))
            if (words := known.get(row[column - 1].lstrip().lower()))
            and row[column].lstrip() in words
            and _may_vary(row, column)
        ]
        if columns:
            new_row = tuple(wild_like(t) if i in columns else t for i, t in enumerate(row))
            if num_literal(new_row):
                changed[row] = new_row
    for row, new_row in changed.items():
        rows.relabel(row, new_row)
    nouns = frozenset(before for before, words in names.items() if len(words) >= _least_names(before)) - PREPOSITIONS
    if changed or nouns:
        _merge_columns(rows, NOUNS | nouns)


def _least_names(before: bytes) -> int:
    """How many values there must be after a word to take them as values wherever they follow it."""
    if before in PREPOSITIONS:
        return MIN_FAMILY_PREPOSITION
    is_noun = before.isalpha() and len(before) > 2 and not is_verb(before) and before not in _FUNCTION_WORDS
    return MIN_FAMILY_WORD if is_noun else sys.maxsize


def _merge_open_columns(rows: Rows) -> None:
    """Rows equal but for words that hardly another row has in their column: several columns, with many values each."""
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
        if num_slots and num_literal(frame) > num_slots:
            frames[frame].append(row)
    for frame, family in frames.items():
        slots = [column for column, token in enumerate(frame) if token == _SLOT]
        if (
            all(2 * len({row[column] for row in family}) >= MIN_FAMILY_OPEN for column in slots)
            and len(family) >= MIN_FAMILY_OPEN
        ):
            for row in family:
                rows.relabel(row, tuple(wild_like(t) if column in slots else t for column, t in enumerate(row)))


def _may_vary(row: Row, column: int) -> bool:
    """Whether a column is neither a key, nor the first word, nor a delimiter."""
    following = row[column + 1] if column + 1 < len(row) else b""
    return column > 0 and following not in AFTER_KEY and row[column].lstrip() not in MARKS


def _merge_slots(rows: Rows) -> None:
    families: defaultdict[Row, list[Row]] = defaultdict(list)
    for row in rows.members:
        frame = tuple(_SLOT if _is_slot(row, i) else token for i, token in enumerate(row))
        if _SLOT in frame and num_literal(frame) > 1:
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
    if not column or not expects_value(row[column - 1]) or not looks_like_value(row[column]):
        return False
    if is_method(row, column):
        return False
    return column + 1 == len(row) or row[column + 1] not in AFTER_KEY


def _merge_words(rows: Rows, closing: re.Pattern[bytes]) -> None:
    coarse: defaultdict[Row, list[Row]] = defaultdict(list)
    for row in rows.members:
        coarse[_words_and_marks(b"".join(row), closing)].append(row)
    changed = generalise(list(coarse), is_word_value)
    tails = _merge_tails({changed.get(words, words) for words in coarse})
    for words, same in coarse.items():
        now = changed.get(words, words)
        now = tails.get(now, now)
        if now != words:
            for row in same:
                rows.rewrite(row, _word_plan(row, words, now))


@lru_cache(1 << 14)  # a stream settles the same rows again and again
def _words_and_marks(text: bytes, closing: re.Pattern[bytes]) -> Row:
    """The words of a row between blanks; what opens or closes a word stays apart from it."""
    text = _OPENING.sub(rb"\g<0>" + _CUT, closing.sub(_CUT + rb"\g<0>", text))
    return tuple(_WORD_OR_MARKS.findall(text))


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


def _merge_tails(rows: Iterable[Row]) -> dict[Row, Row]:
    """Rows with the same first words in which several later words vary, mostly among identifiers."""
    heads: defaultdict[tuple[int, Row], list[Row]] = defaultdict(list)
    for row in rows:
        if len(row) > _NUM_HEAD and num_literal(row[:_NUM_HEAD]) >= _NUM_HEAD - 1:
            heads[len(row), row[:_NUM_HEAD]].append(row)
    changed: dict[Row, Row] = {}
    for family in heads.values():
        varying = [i for i in range(len(family[0])) if len({row[i] for row in family}) > 1]
        if len(family) > 1 and _are_tail_values(family, varying):
            for row in family:
                changed[row] = tuple(wild_like(t) if i in varying else t for i, t in enumerate(row))
    return changed


def _are_tail_values(family: list[Row], varying: list[int]) -> bool:
    """Whether two or three columns of a family hold values; two rows do where one has variables there already."""
    if len(family) < MIN_FAMILY_IDENTIFIER and not any(all(is_wild(row[i]) for i in varying) for row in family):
        return False
    if not 1 < len(varying) <= min(3, len(family[0]) // 2):
        return False
    columns = [{row[i] for row in family} for i in varying]
    if any(len({token[:1] == b" " for token in column}) > 1 for column in columns):
        return False
    values = [token for column in columns for token in column]
    if any(token.lstrip() in MARKS for token in values):
        return False
    return sum(1 for token in values if WILD in token or looks_like_value(token)) * 2 >= len(values)


def _merge_lists(rows: Rows) -> None:
    shortened: defaultdict[Row, list[tuple[Row, Plan]]] = defaultdict(list)
    for row in rows.members:
        if _REPEATED.search(b"".join(row)):
            plan = _list_plan(row)
            shortened[tuple(token for _, _, token in plan)].append((row, plan))
    known = set(rows.members)
    for short, same in shortened.items():
        if short in known and all(row != short for row, _ in same):
            same.append((short, _as_is(short, 0, len(short))))
        columns = list(zip(*(plan for _, plan in same), strict=True))
        fused = [_is_list([end - first for first, end, _ in column], column[0][2]) for column in columns]
        if any(fused):
            for row, plan in same:
                rows.rewrite(row, _keep_apart(row, plan, fused))


def _is_list(lengths: list[int], token: bytes) -> bool:
    """Whether a run is one variable, from its lengths in the rows that have it."""
    return (max(lengths) >= MIN_LIST and is_wild(token)) or (len(set(lengths)) > 1 and max(lengths) > 2)


def _list_plan(row: Row) -> Plan:
    """The row with every run of variables between blanks, and every repetition of a group of tokens, as one token."""
    plan: Plan = []
    for i, token in enumerate(row):
        if plan and token == b" " + WILD and is_wild(plan[-1][2]):
            plan[-1] = (plan[-1][0], i + 1, plan[-1][2])
        else:
            plan.append((i, i + 1, token))
    return _with_groups(plan) if sum(is_wild(token) for _, _, token in plan) > 1 else plan


def _with_groups(plan: Plan) -> Plan:
    """Join groups of up to `_MAX_GROUP` tokens, a variable among them, that stand there several times in succession."""
    tokens = [token for _, _, token in plan]
    joined: Plan = []
    i = 0
    while i < len(plan):
        size, times = 1, 1
        for size in range(2, _MAX_GROUP + 1):
            group = tokens[i : i + size]
            times = 1
            while tokens[i + times * size : i + (times + 1) * size] == group and WILD in b"".join(group):
                times += 1
            if times > 1:
                break
        if times == 1:
            joined.append(plan[i])
            i += 1
        else:
            last = i + times * size
            joined.append((plan[i][0], plan[last - 1][1], b"".join(tokens[i : i + size]) + _CUT))
            i = last
    return joined


def _keep_apart(row: Row, plan: Plan, fused: list[bool]) -> Plan:
    parts: Plan = []
    for (first, end, token), fuse in zip(plan, fused, strict=True):
        parts += [(first, end, wild_like(token))] if fuse else _as_is(row, first, end)
    return parts


def unit_columns(row: Row) -> list[int]:
    """Columns of a row that hold a unit after a number."""
    if UNIT not in row and _UNIT_AFTER_BLANK not in row:
        return []
    return [i for i, token in enumerate(row) if token in (UNIT, _UNIT_AFTER_BLANK)]
