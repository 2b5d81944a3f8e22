"""Families of rows: rows equal but for one column, and whether what varies there is a value.

Families are found through 64-bit hashes of a row without one column, so the cost is that of a sort. The size that a
family must have depends on its place: see `min_family`. These sizes are the tuned numbers of the miner; they were set
on the labelled logs of sixteen systems together, where halving or doubling most of them hardly moves the averages.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from nonet.logs.mining.tokens import NOUNS, PREPOSITIONS, WILD, is_wild

Row = tuple[bytes, ...]
"""The tokens of a row, see `tokens`."""

MIN_FAMILY_FIRST_WORD = 12
MIN_FAMILY_FIRST_NAME = 7
MIN_FAMILY_WORD = 6
MIN_FAMILY_BRACKETED = 3
MIN_FAMILY_LAST = 4
MIN_FAMILY_NAME = 4
MIN_FAMILY_PREPOSITION = 3
MIN_FAMILY_IDENTIFIER = 3
MIN_FAMILY_NOUN = 2
_MAX_ROUNDS = 6
_ODD = np.uint64(0x9E3779B97F4A7C15)

AFTER_KEY = frozenset((b"=", b"(", b" =", WILD))
"""Tokens that make the word before them a key or the name of a function."""
MARKS = frozenset(bytes([mark]) for mark in b",;|\"'()[]{}<>=!?`:")
"""The delimiters."""
_BEFORE_VALUE = frozenset((b",", b":", b"=", b"(", b"["))
_SWITCHES = frozenset((b"yes", b"no", b"on", b"off"))
_WORD = re.compile(rb"[A-Za-z\x80-\xff]{2}")
_DIGIT = re.compile(rb"[0-9]")
_IDENTIFIER = re.compile(rb"[a-z][A-Z]|[A-Z]{2}[a-z]|[A-Za-z0-9][_:/@\\+.$-]+[A-Za-z0-9]|[0-9]|[A-Za-z][+-]$")
_GLUED = re.compile(rb"[^ ]/\x01|\x01/[^ ]")
_WITH_SUFFIX = re.compile(rb" ?[a-z0-9@_-]+\.([a-z]{3,})")
_VERB = re.compile(
    rb" ?(?:[a-z][a-z-]+(?:ed|ing)|is|are|was|were|has|had|will|can|cannot|could|must|does|did|not"
    rb"|left|lost|sent|found|began|became|went|came|took|got|died|quit|up|down|set|shut|done|gone)[.!]?"
)
_NAME = re.compile(rb" [A-Z][a-z]+")
_CAPITALS = re.compile(rb" ?[A-Z]{2,}")


def num_literal(row: Iterable[bytes]) -> int:
    """Number of tokens with a word of at least two letters."""
    return sum(1 for token in row if _WORD.search(token))


def wild_like(token: bytes) -> bytes:
    """The wildcard, with a blank if the token has one."""
    return b" " + WILD if token[:1] == b" " else WILD


def generalise(rows: list[Row], is_value: Callable[[set[bytes], Row, int], bool]) -> dict[Row, Row]:
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
            row: tuple(wild_like(t) if i in cols else t for i, t in enumerate(row)) for row, cols in wild.items()
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
    tokens = np.fromiter(map(_token_hash, chain.from_iterable(rows)), np.uint64, total)
    hashes = _mix(tokens + places)
    whole = np.add.reduceat(hashes, starts[lengths > 0])[np.cumsum(lengths > 0) - 1]
    keys = whole[row_of] - hashes + places
    order = np.argsort(keys, kind="stable")
    firsts = np.flatnonzero(np.concatenate(([True], keys[order[1:]] != keys[order[:-1]])))
    ends = np.append(firsts[1:], total)
    large = ends - firsts > 1
    for first, end in zip(firsts[large].tolist(), ends[large].tolist(), strict=True):
        members = order[first:end]
        yield int(columns[members[0]]), [rows[i] for i in row_of[members].tolist()]


@lru_cache(1 << 16)  # a stream settles the same tokens again and again
def _token_hash(token: bytes) -> int:
    """64-bit hash of a token; a function of its bytes alone."""
    return int.from_bytes(blake2b(token, digest_size=8).digest(), "little")


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64: every bit of the input changes half of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def is_value(family: set[bytes], row: Row, column: int, nouns: frozenset[bytes] = NOUNS) -> bool:
    """Whether the tokens that one column has in a family of rows are values of a variable."""
    if len({token[:1] == b" " for token in family}) > 1 or any(token.lstrip() in MARKS for token in family):
        return False
    following = row[column + 1] if column + 1 < len(row) else b" "
    if following in AFTER_KEY and b" " not in family:
        return False
    if not any(_WORD.search(token) for i, token in enumerate(row) if i != column):
        return False
    if any(is_wild(token) or not token.strip() for token in family):
        return True
    if all(token.strip().lower() in _SWITCHES for token in family):
        return True
    if _is_singular_and_plural(family) and any(is_wild(token) for token in row[:column]):
        return True
    return len(family) >= min_family(family, row, column, following, nouns)


def is_method(row: Row, column: int) -> bool:
    """Whether a column is the second part of `Class::method`."""
    return column > 1 and row[column - 1] == b":" and row[column - 2] == b":"


def _is_singular_and_plural(family: set[bytes]) -> bool:
    """`failure` and `failures`, after a number."""
    words = sorted(token.strip(b" .") for token in family)
    return len(words) == 2 and words[1] == words[0] + b"s"


def min_family(family: set[bytes], row: Row, column: int, following: bytes, nouns: frozenset[bytes]) -> int:
    """How many different words there must be in a column to call it variable."""
    num_identifiers = sum(1 for token in family if is_identifier(token) or _GLUED.search(token))
    num_numbered = sum(1 for token in family if _DIGIT.search(token))
    if num_numbered > 1 and num_numbered * 2 >= len(family):
        return 2
    if all(_GLUED.search(token) or is_wild(token) for token in family):
        return MIN_FAMILY_IDENTIFIER
    if not any(_WORD.search(token) for token in row[:column]):
        if _have_suffix(family):
            return MIN_FAMILY_IDENTIFIER
        if (
            all(_CAPITALS.fullmatch(token.replace(b"_", b"")) for token in family)
            and num_literal(row[column + 1 :]) >= 2
        ):
            return MIN_FAMILY_NAME
        names = num_identifiers * 2 < len(family) and num_literal(row[column + 1 :]) >= 2
        return MIN_FAMILY_FIRST_NAME if names else MIN_FAMILY_FIRST_WORD
    before = row[column - 1].lstrip().lower()
    if is_method(row, column):
        return MIN_FAMILY_FIRST_WORD
    if before in nouns:
        are_states = sum(1 for token in family if _VERB.fullmatch(token)) * 2 >= len(family)
        return MIN_FAMILY_FIRST_WORD if are_states else MIN_FAMILY_NOUN
    if (
        before == b":"
        and column > 1
        and row[column - 2].lstrip().lower() in NOUNS
        and (following[:1] != b" " or column + 1 == len(row))
        and not any(_VERB.fullmatch(token) for token in family)
    ):
        return MIN_FAMILY_NOUN if num_identifiers * 2 > len(family) else MIN_FAMILY_PREPOSITION
    if before in PREPOSITIONS and (before != b"to" or all(_CAPITALS.fullmatch(t) or is_identifier(t) for t in family)):
        return MIN_FAMILY_PREPOSITION
    if num_identifiers * 2 > len(family):
        return MIN_FAMILY_IDENTIFIER
    if before in (b"(", b"[", b"{") and following[:1] in (b")", b"]", b"}", b","):
        return MIN_FAMILY_BRACKETED
    if before == b":" and column + 1 == len(row) and any(is_wild(token) for token in row[:column]):
        return MIN_FAMILY_LAST
    if _VERB.fullmatch(following) and all(_NAME.fullmatch(token) for token in family):
        return MIN_FAMILY_NAME
    return MIN_FAMILY_WORD


def _have_suffix(family: set[bytes]) -> bool:
    """Whether most are names of files or units with the same ending: `sshd.service`."""
    endings = Counter(match.group(1) for token in family if (match := _WITH_SUFFIX.fullmatch(token)))
    return bool(endings) and max(endings.values()) * 2 > len(family)


def is_verb(token: bytes) -> bool:
    """Whether a token says what happens."""
    return bool(_VERB.fullmatch(token))


@lru_cache(1 << 14)
def is_identifier(token: bytes) -> bool:
    """Whether a token looks like the name of a thing: `half-configured` has the marks of one, but is a verb."""
    return _IDENTIFIER.search(token) is not None and not _VERB.fullmatch(token)


@lru_cache(1 << 14)
def expects_value(token: bytes) -> bool:
    """Whether a value usually follows the token."""
    before = token.lstrip().lower()
    return before in _BEFORE_VALUE or before in PREPOSITIONS or before in NOUNS


@lru_cache(1 << 14)
def looks_like_value(token: bytes) -> bool:
    """Whether a token is a variable, an identifier or a word in capitals."""
    return is_wild(token) or is_identifier(token) or bool(_CAPITALS.fullmatch(token))


def is_word_value(family: set[bytes], row: Row, column: int) -> bool:
    """As `is_value`, for whole words: only words that look like identifiers, not the first."""
    if num_literal(row) < 3:
        return False
    if not any(_WORD.search(token) for token in row[:column]) and not all(_GLUED.search(token) for token in family):
        return False
    if any(is_wild(token) for token in family):
        return is_value(family, row, column)
    if sum(1 for token in family if is_identifier(token) or WILD in token) * 2 <= len(family):
        return False
    return len(family) >= MIN_FAMILY_IDENTIFIER and is_value(family, row, column)
