"""Rows: a shape cut into tokens, with everything decided that one shape can decide alone.

A row is a sequence of tokens, and the span of the masked text behind each. A token is a word, a delimiter, or `WILD`
for a variable part; a token that follows a blank begins with one, so that the tokens put together are the template.
What is decided here follows how people write log statements, whatever the system:

1. A hard hole is variable. A soft hole is variable too, unless it looks like a name: `EXT3`, `ide0:`, `java.util.Map[`.
2. A variable takes what is glued to it: `blk_-42`, `node-7`, `pool-1-abcd`, `12.5-rc1` are one variable. It stops
   at what separates within a word: `CPU#3`, `fn+0x1f`, `Apache/2.4`, `512-byte`, `touch....1`, `addr:1`.
3. In `key=value` the value is variable, in quotes or brackets too (`err="no route to host"`, but not `msg="..."`, which
   is the message itself). So are `true` and `false`, one quoted word, lists of numbers without blanks,
   and names of codes (`ERR_NO_DATA`) where a value is expected.
4. A date and a time, or the words and numbers of a written date, are one variable; but a date and a time that open a
   message are two, as in a header.
5. Where a value may be missing (`key= next=`, `()`, `by (uid=0)`) an empty token holds its place, so that rows with
   and without it line up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from nonet.logs.mining.shape import Kind, Shape

Span = tuple[int, int]

WILD = b"\x01"
"""A variable part. With the blank before it: `b" " + WILD`."""

UNIT = b"\x02"
"""A unit of size after a number: printed when all lines agree on it, part of the number where they do not."""

_HARD = rb",;|\"'()\[\]{}<>=!?`"
_DELIMITERS = frozenset(b",;|\"'()[]{}<>=!?`:")
_ENDS = frozenset(b",;|\"'()[]{}<>`:")
_CHUNK_ENDS = frozenset(b" \t\x18,;|\"'()[]{}<>=!?`:")
_PIECE = re.compile(rb"( *)([^ :" + _HARD + rb"]+|[:" + _HARD + rb"])")
_MARK = 0x14
_BACKSLASH = ord("\\")
_VIEW = bytes(1 if code < 0x20 and code != Kind.SPACE else 32 if code == Kind.SPACE else code for code in range(256))

_KEPT_LEFT = re.compile(rb".*(?:[+#/]|([.\-*~])\1|(?<![A-Za-z])[A-Za-z]{3,}\.(?=\x01[^\x01]*$))", re.DOTALL)
_TAKEN_RIGHT = re.compile(rb"(?:-(?=[A-Z]{1,2}$)|-(?![A-Za-z])|\.(?!\.|$)|[^+#/\-.])*")
_TAKEN_BY_NAME = re.compile(rb"(?:-(?!-)|\.(?!\.|$)|[^+#/\-.])*")
_NAME_WITH_NUMBER = re.compile(rb"[A-Za-z_]+([0-9]+)[A-Za-z_]*")
_ORDINAL = re.compile(rb"[0-9]*(?:1st|2nd|3rd|[0-9]th)")
_ZONE = re.compile(rb" [A-Z]{2,5}")
_DIGIT = re.compile(rb"[0-9]")
_LETTER = re.compile(rb"[A-Za-z\x80-\xff]")

_OF_DATE = frozenset([Kind.CALENDAR, Kind.INT, Kind.TIME, Kind.DATE, Kind.SPACE, *b" ,", *range(65, 91)])
_UNITS = frozenset(b"B KB MB GB TB kB KiB MiB GiB TiB".split())
_TRUTH = frozenset(b"true false True False TRUE FALSE".split())
_CLOSES = {b"(": b")", b"[": b"]", b"{": b"}", b'"': b'"', b"'": b"'", b"<": b">", b"`": b"'"}
_CODE_NAME = re.compile(rb"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
_DEVICE = re.compile(rb"[a-z]+[0-9]")
_MESSAGE_KEYS = frozenset(b"msg message event text log".split())
_MAX_QUOTED = 64
_MAX_CHUNK = 16
_ENDS_FIELD = frozenset([b"=", *_CLOSES, *_CLOSES.values()])
_TRIGGERS = frozenset([b"=", b" )", b" ]", *_CLOSES, *(b" " + opening for opening in _CLOSES)])
PREPOSITIONS = frozenset(b"for from by at on via of with as in to".split())
"""Words after which a log statement usually prints a value."""

NOUNS = frozenset(
    b"user process class type driver device interface host state module domain file name service package command job"
    b" task node server account daemon program reason status application object method group queue thread table volume"
    b" filesystem partition member client id event filter topic index database schema keyspace segment replica shard"
    b" broker bucket namespace pod container image region zone tenant role channel session transaction collection field"
    b" column plugin pipeline repository branch project customer subnet policy rule snapshot backend upstream listener"
    b" endpoint agent controller handler operation version key cluster worker instance resource component stage stream"
    b" consumer producer subscription function action mode level disk deployment".split()
)
"""Words that are commonly followed by the name of one of their kind."""


def is_wild(token: bytes) -> bool:
    """Whether a token, with or without its blank, is the wildcard."""
    return token in (WILD, b" " + WILD)


def row_of(shape: Shape) -> tuple[tuple[bytes, ...], tuple[Span, ...]]:
    r"""Tokens of a shape and their spans in `shape.masked`.

    >>> row_of(Shape(b"lost node-\x01 at \x15 \x01 \x0e, left=\x01", (None,) * 5, 1))[0]
    (b'lost', b' \x01', b' at', b' \x01', b',', b' left', b'=', b'\x01')
    """
    return _row_of(shape.masked, shape.constants)


@lru_cache(1 << 14)  # a stream settles the same shapes again and again
def _row_of(masked: bytes, constants: Sequence[bytes | None]) -> tuple[tuple[bytes, ...], tuple[Span, ...]]:
    view, kept = _view(masked, constants)
    tokens, spans = _with_values(*_cut_words(masked, view, kept))
    return tuple(tokens), tuple(spans)


def _view(masked: bytes, constants: Sequence[bytes | None]) -> tuple[bytes, dict[int, bytes]]:
    """The masked text with variables as `WILD`, and the constants kept: offset (marked in the text) to value."""
    view = masked.translate(_VIEW)
    if not any(constants):
        return view, {}
    offsets = (i for i, code in enumerate(masked) if code < 0x20)
    values = zip(offsets, constants, strict=True)
    kept = {i: value for i, value in values if value is not None and _is_name(value, masked, i)}
    if kept:
        marked = bytearray(view)
        for i in kept:
            marked[i] = _MARK
        view = bytes(marked)
    return view, kept


def _is_name(constant: bytes, masked: bytes, i: int) -> bool:
    """Whether the constant of a soft hole is rather part of the message than a value that happens not to vary."""
    before, after = masked[i - 1 : i] if i else b"", masked[i + 1 : i + 2]
    if masked[i] == Kind.HOST:
        if i == 0 and not _DIGIT.search(constant) and masked[1:4].lstrip(b" ")[:2] == b": ":
            return True
        return after in (b"[", b"{", b"(", b"=") or masked[i + 1 : i + 3] == b" ="
    if masked[i] != Kind.ID or before == b"=" or not _is_alone(masked, i):
        return False
    if _ORDINAL.fullmatch(constant):
        return True
    if i and _DEVICE.fullmatch(constant) and _introduces(masked[max(0, i - 20) : i].split(b" ")[-2:-1]):
        return False
    match = _NAME_WITH_NUMBER.fullmatch(constant)
    return match is not None and (i == 0 or after in (b":", b"=") or len(match.group(1)) == 1)


def _introduces(words: list[bytes]) -> bool:
    """Whether a value is likely to follow the word (a list of none or one)."""
    return any(word[-1:] == b":" or word.lower() in PREPOSITIONS or word.lower() in NOUNS for word in words)


def _is_alone(masked: bytes, i: int) -> bool:
    """Whether the hole at `i` is the only one between its delimiters."""
    for step in (-1, 1):
        j = i + step
        while 0 <= j < len(masked) and masked[j] not in _CHUNK_ENDS:
            if masked[j] < 0x20:
                return False
            j += step
    return True


@lru_cache(1 << 16)
def _variable_part(word: bytes) -> Span:
    """Span of a word with a wildcard that is variable as a whole (rule 2)."""
    first, last = word.index(WILD), word.rindex(WILD) + 1
    if word[:first] == b"HTTP/":
        return 0, len(word)
    kept = _KEPT_LEFT.match(word[: first + 1])
    start = kept.end() if kept else 0
    right = (_TAKEN_RIGHT if start == first else _TAKEN_BY_NAME).match(word, last)
    end = right.end() if right else last
    if word[start - 1 : start] == b"#" == word[end : end + 1]:
        return start - 1, end + 1
    return start, end


def _cut_words(masked: bytes, view: bytes, kept: dict[int, bytes]) -> tuple[list[bytes], list[Span]]:
    """Words and delimiters, each variable part one token (rules 1, 2, 4 and lists of rule 3)."""
    tokens: list[bytes] = []
    spans: list[Span] = []
    end = 0
    for blanks, word in _PIECE.findall(view):
        start = end + len(blanks)
        end = start + len(word)
        blank = b" " if blanks and tokens else b""
        if WILD in word:
            a, b = _variable_part(word)
            b -= word[b - 1] == _BACKSLASH and view[end : end + 1] == b'"'
            if a:
                tokens.append(blank + _literal(word[:a], start, kept))
                spans.append((start, start + a))
                blank = b""
            if a or not _joins(tokens, spans, blank, masked, (start, start + b), b == len(word)):
                tokens.append(blank + WILD)
                spans.append((start + a, start + b))
            if b < len(word):
                tokens.append(_literal(word[b:], start + b, kept))
                spans.append((start + b, end))
        else:
            if blank and word in _UNITS and is_wild(tokens[-1]):
                token = UNIT
            elif _is_value_word(word, tokens, view[end : end + 2]):
                token = WILD
            else:
                token = _literal(word, start, kept)
            tokens.append(blank + token)
            spans.append((start, end))
    return tokens, spans


def _is_value_word(word: bytes, tokens: list[bytes], following: bytes) -> bool:
    """Whether a literal word is a value wherever it stands: a truth value, `null`, a name of a code (`ERR_NO_DATA`)."""
    if word in _TRUTH:
        return True
    if not tokens or (word != b"null" and not _CODE_NAME.fullmatch(word)):
        return False
    before = tokens[-1].lstrip()
    if before in (b"(", b",", b"=", b":", b"|"):
        return following[:1] not in (b"=", b"(") and following != b" ="
    return word != b"null" and (before in PREPOSITIONS or before.lower() in NOUNS)


def _literal(word: bytes, start: int, kept: dict[int, bytes]) -> bytes:
    """A word with its marks replaced by the constants they stand for."""
    if _MARK not in word:
        return word
    return b"".join(kept[start + i] if code == _MARK else word[i : i + 1] for i, code in enumerate(word))


def _joins(tokens: list[bytes], spans: list[Span], blank: bytes, masked: bytes, span: Span, whole: bool) -> bool:
    """Let the last variable take a variable that follows: `1:2`, `1,2` (a list), `Jun 11` (a date); False if apart."""
    if not tokens:
        return False
    drop = _num_between(tokens, spans, masked, span) if blank else _num_glue(tokens, whole)
    if drop is None:
        return False
    if drop:
        del tokens[-drop:], spans[-drop:]
    spans[-1] = (spans[-1][0], span[1])
    return True


def _num_glue(tokens: list[bytes], whole: bool) -> int | None:
    """1 when the last token is a colon or a list's comma that follows a variable, else None."""
    if len(tokens) < 2 or not is_wild(tokens[-2]):
        return None
    if tokens[-1] == b":":
        return 1
    in_brackets = len(tokens) > 2 and tokens[-3][-1:] in (b"(", b"[")
    return 1 if tokens[-1] == b"," and whole and not in_brackets else None


def _num_between(tokens: list[bytes], spans: list[Span], masked: bytes, span: Span) -> int | None:
    """How many tokens stand between the last variable and this one, if the two are one date; else None."""
    drop = 0
    if not is_wild(tokens[-1]):
        if len(tokens) < 2 or not is_wild(tokens[-2]):
            return None
        if tokens[-1] != b"," and not _ZONE.fullmatch(tokens[-1]):
            return None
        drop = 1
    left, right = masked[slice(*spans[-1 - drop])], masked[slice(*span)]
    if not drop and left[-1] == Kind.DATE and right[0] == Kind.TIME:
        return 0 if len(tokens) > 1 else None
    if not (_is_of_date(left) and _is_of_date(right) and (Kind.CALENDAR in left or Kind.CALENDAR in right)):
        return None
    if drop and tokens[-1] == b"," and left != bytes([Kind.CALENDAR]):
        return None
    return drop


def _is_of_date(masked: bytes) -> bool:
    """Whether a part consists of day and month names, numbers and times."""
    return all(code in _OF_DATE for code in masked)


def _with_values(tokens: list[bytes], spans: list[Span]) -> tuple[list[bytes], list[Span]]:
    """Apply rules 3 and 5 to the tokens: values of keys, quoted words, empty places."""
    row: list[bytes] = []
    row_spans: list[Span] = []
    i = depth = 0
    while i < len(tokens):
        token = tokens[i]
        row.append(token)
        row_spans.append(spans[i])
        i += 1
        if token not in _TRIGGERS:
            depth -= token == b"}"
            continue
        depth += token.lstrip() == b"{"
        if token == b"=" and len(row) > 1 and _LETTER.search(row[-2]):
            end = _end_of_enclosed(tokens, i, row[-2]) or _end_of_value(tokens, i)
            if depth > 0 and end > i:
                end = _end_of_field(tokens, end)
            if end > i:
                row.append(WILD)
                row_spans.append((spans[i][0], spans[end - 1][1]))
                i = end
            elif _lacks_value(tokens, i):
                row.append(WILD)
                row_spans.append((spans[i - 1][1], spans[i - 1][1]))
        elif token in (b" )", b" ]") and len(row) > 1 and row[-2] == b",":
            row[-1:] = [b" ", token[1:]]
            row_spans[-1:] = [(spans[i - 1][0], spans[i - 1][0]), spans[i - 1]]
        elif token.lstrip() in _CLOSES:
            i = _in_brackets(tokens, spans, i, row, row_spans)
    return row, row_spans


def _end_of_value(tokens: list[bytes], i: int) -> int:
    """End of the value that is glued to the `=` before token `i`; `i` itself when there is none."""
    end = i
    while end < len(tokens) and tokens[end][:1] != b" " and (tokens[end][0] not in _ENDS or tokens[end] == b":"):
        end += 1
    while end > i and tokens[end - 1] in (b":", b".", b"=", b"!", b"?"):
        end -= 1
    return end


def _end_of_field(tokens: list[bytes], i: int) -> int:
    """End of the words from token `i` up to what ends a field of `{a=b c, d=e}`; `i` itself if nothing does."""
    for end in range(i, min(len(tokens), i + _MAX_CHUNK)):
        if tokens[end] in (b",", b"}"):
            return end
        if tokens[end].lstrip()[:1] in _ENDS_FIELD:
            break
    return i


def _end_of_enclosed(tokens: list[bytes], i: int, key: bytes) -> int:
    """End of the value in quotes or brackets that is glued to the `=` before token `i`; 0 when there is none.

    Quoted text may be anything, but for the key of the message itself; brackets hold no keys of their own.
    """
    opening = tokens[i] if i < len(tokens) else b""
    if opening in (b'"', b"'"):
        return 0 if key.lstrip() in _MESSAGE_KEYS else _end_of_quoted(tokens, i + 1, opening, _MAX_QUOTED)
    if opening in (b"[", b"<"):
        closing = _CLOSES[opening]
        for end in range(i + 1, min(len(tokens), i + _MAX_QUOTED)):
            if tokens[end] == closing:
                return end + 1
            if tokens[end].lstrip() in (b"=", opening) or (opening == b"<" and tokens[end][:1] in (b" ", b":")):
                break
    return 0


def _end_of_quoted(tokens: list[bytes], i: int, closing: bytes, limit: int) -> int:
    """Index behind the quote that closes what begins with token `i`; 0 when none of the next `limit` tokens does."""
    for end in range(i, min(len(tokens), i + limit)):
        if tokens[end].lstrip() == closing and tokens[end - 1][-1:] != b"\\":
            return end + 1
    return 0


def _lacks_value(tokens: list[bytes], i: int) -> bool:
    """Whether `key=` before token `i` has no value, as in `a= b=1`: another key follows, or the end of several keys."""
    if i == len(tokens):
        return tokens.count(b"=") > 1
    return tokens[i][:1] == b" " and i + 1 < len(tokens) and tokens[i + 1] == b"="


def _in_brackets(tokens: list[bytes], spans: list[Span], i: int, row: list[bytes], row_spans: list[Span]) -> int:
    """What follows the opening token `i - 1` (nothing, one quoted word) or is missing before it; the next index."""
    opening = tokens[i - 1]
    bare = opening.lstrip()
    closing = _CLOSES[bare]
    if tokens[i : i + 1] == [closing] and (opening[:1] == b" " or bare != b"("):
        row.append(b"")
        row_spans.append((spans[i - 1][1], spans[i - 1][1]))
        return i
    if opening == b" (" and len(row) > 1:
        if is_wild(row[-2]) and tokens[i : i + 2] in ([b"IPv4", b")"], [b"IPv6", b")"]):
            del row[-1], row_spans[-1]
            row_spans[-1] = (row_spans[-1][0], spans[i + 1][1])
            return i + 2
        if row[-2].lstrip() in PREPOSITIONS:
            row[-1:] = [b" ", b"("]
            row_spans[-1:] = [(spans[i - 1][0], spans[i - 1][0]), spans[i - 1]]
            return i
    end = i
    if bare in (b'"', b"'", b"`") and (opening[:1] == b" " or i == 1):
        end = _end_of_quotation(tokens, i, closing, row)
        if end == i and bare == b"`":
            end = _end_of_quotation(tokens, i, bare, row)
    if end > i:
        row.append(WILD)
        row_spans.append((spans[i][0], spans[end - 1][1]))
    return end


def _end_of_quotation(tokens: list[bytes], i: int, closing: bytes, row: list[bytes]) -> int:
    """End of the quoted value that begins with token `i`; `i` itself when what the quotes hold is no value."""
    end = _end_of_chunk(tokens, i, closing)
    if end > i or len(row) == 1:
        return end
    if not is_wild(row[-2]) and _is_request(tokens[i : i + 4], closing):
        return i + 3
    return i if row[-2] == b":" else _end_of_phrase(tokens, i, closing)


def _is_request(tokens: list[bytes], closing: bytes) -> bool:
    """Whether the tokens are the first line of an HTTP request: `GET <*> <*>"`."""
    return len(tokens) == 4 and tokens[0].isupper() and is_wild(tokens[2]) and tokens[3] == closing


def _end_of_phrase(tokens: list[bytes], i: int, closing: bytes) -> int:
    """End of the quoted text of plain words that begins with token `i`; `i` itself when there is none."""
    for end in range(i, min(len(tokens), i + _MAX_CHUNK)):
        if tokens[end] == closing:
            following = tokens[end + 1] if end + 1 < len(tokens) else b" "
            return end if following[:1] in b" .,;:)]" else i
        if (tokens[end].lstrip() or b" ")[0] in _DELIMITERS or is_wild(tokens[end]):
            break
    return i


def _end_of_chunk(tokens: list[bytes], i: int, closing: bytes) -> int:
    """End of the quoted text without blanks that begins with token `i`; `i` itself when there is none."""
    for end in range(i, min(len(tokens), i + _MAX_CHUNK)):
        if tokens[end] == closing:
            return end
        if tokens[end][:1] == b" " or (tokens[end][0] in _DELIMITERS and tokens[end] not in (b":", b"=")):
            break
    return i
