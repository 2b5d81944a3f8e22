"""The scanner written plainly with regular expressions: the oracle of `nonet.logs._kernels`.

One word after another, first recogniser wins; nothing is shared with the code under test but the names of the kinds.
"""

from __future__ import annotations

import re

from nonet.logs.mining.shape import Kind

MASKED_LIMIT = 2048
HARD = rb",;|\"'()\[\]{}<>=!?`"
WORD = re.compile(rb"[^ \t\x00-\x1f\x7f" + HARD + rb"]+")
COLOUR = rb"\x1b\[[0-9;:]*[mK]"
CONTROL = re.compile(rb"(?:(?!" + COLOUR + rb")[\x00-\x08\x0b\x0c\x0e-\x1f\x7f])+")
BLANKS = re.compile(rb"(?:[ \t\r\n]|" + COLOUR + rb")+")
URL = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^ \t\x00-\x1f\x7f\"'<>)\]}|`]*")
PREFIX = re.compile(rb"[A-Za-z_]{2,}:(?!//)")
PREFIXED = (Kind.IP, Kind.IPV6, Kind.MAC, Kind.UUID, Kind.DATE, Kind.TIME, Kind.PATH, Kind.HOST)
TIME_TAIL = re.compile(rb",\d{3}(?![0-9A-Za-z\x80-\xff])")

_QUAD = rb"\d{1,3}(?:\.\d{1,3}){3}"
_TIME = rb"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?"
_NUMBER = rb"[+-]?\d+(?:\.\d+)*"
_LABEL = rb"[A-Za-z0-9_\x80-\xff-]+"
_DAYS = b"Mon Tue Wed Thu Fri Sat Sun Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
_MONTHS = (
    b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec "
    b"January February March April June July August September October November December"
)

RECOGNISERS: list[tuple[Kind, re.Pattern[bytes]]] = [
    (kind, re.compile(pattern))
    for kind, pattern in [
        (Kind.IP, rb"/?" + _QUAD + rb"(?:[:/]\d+)?"),
        (Kind.MAC, rb"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5,}|[0-9A-Fa-f]{2}(?:-[0-9A-Fa-f]{2}){5}"),
        (Kind.UUID, rb"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"),
        (
            Kind.DATE,
            rb"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:[T:-]" + _TIME + rb"(?:Z|[+-]\d{2}:?\d{2})?)?"
            rb"|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|\d{1,2}/\d{1,2}/\d{2}",
        ),
        (Kind.TIME, _TIME),
        (Kind.HEX, rb"0[xX][0-9A-Fa-f]+|(?=[A-Fa-f]*[0-9])(?=[0-9]*[A-Fa-f])[0-9A-Fa-f]{6,}"),
        (Kind.INT, rb"[+-]?\d+"),
        (Kind.NUMBER, _NUMBER + rb"%?"),
        (Kind.DURATION, _NUMBER + rb"(?:ns|us|ms|s|secs?|m|mins?|h|hrs?|hours?|d)"),
        (Kind.SIZE, _NUMBER + rb"(?:[BkKMGT]|[kKMGT]B|[KMGT]iB)(?:/s)?"),
        (Kind.PATH, rb"~?/.+|[A-Za-z]:\\.*|\\\\.*|[^/]*/[^/]*/.*"),
        (
            Kind.HOST,
            rb"(?=[^@]*@?[^@]*[A-Za-z\x80-\xff])(?:[A-Za-z0-9_.+\x80-\xff-]+@)?"
            rb"(?=[0-9:_.-]*[A-Za-z\x80-\xff])"
            rb"(?:" + _LABEL + rb"(?:\." + _LABEL + rb"){2,}(?::\d+)?|" + _LABEL + rb"\." + _LABEL + rb":\d+)"
            rb"|[A-Za-z0-9_.+\x80-\xff-]+@(?=[0-9_.-]*[A-Za-z\x80-\xff])" + _LABEL + rb"\." + _LABEL,
        ),
        (Kind.CALENDAR, (_DAYS + b" " + _MONTHS).replace(b" ", b"|")),
    ]
]
SUBTOKEN = re.compile(rb"[^.:+@#$%&\-~*^/\\]+")
_HEX = re.compile(rb"0[xX][0-9A-Fa-f]+|(?=[A-Fa-f]*[0-9])(?=[0-9]*[A-Fa-f])[0-9A-Fa-f]{6,}")
THROWABLE = re.compile(rb"(?:" + _LABEL + rb"\.)+" + _LABEL + rb"(?:Exception|Error)")
BOUND = re.compile(
    rb"[<>]" + _NUMBER + rb" (?:ns|us|ms|s|sec|secs|second|seconds|min|minutes|hours)(?![0-9A-Za-z_\x80-\xff])"
)


def _is_ipv6(word: bytes) -> bool:
    """Hex groups and colons, `::` once or exactly seven colons, perhaps a dotted quad at the end."""
    head, colon, tail = word.rpartition(b":")
    if not colon:
        return False
    groups = head.split(b":")
    if not re.fullmatch(_QUAD, tail):
        groups.append(tail)
    if not all(re.fullmatch(rb"[0-9A-Fa-f]{0,4}", group) for group in groups):
        return False
    return (b"::" in word and re.search(rb"[0-9A-Fa-f]", word) is not None) or word.count(b":") == 7


def recognise(word: bytes) -> Kind | None:
    """Kind of a trimmed word that is one hole as a whole."""
    if THROWABLE.fullmatch(word):
        return None
    for kind, pattern in RECOGNISERS:
        if kind is Kind.MAC and _is_ipv6(word):
            return Kind.IPV6
        if pattern.fullmatch(word):
            return kind
    return None


def _is_name_with_version(piece: bytes) -> bool:
    """A word such as `ext3_file_write`: one inner run of digits, three letters after it, three times more letters."""
    runs = re.findall(rb"\d+", piece)
    match = re.fullmatch(rb"[A-Za-z_\x80-\xff]+\d+[A-Za-z_\x80-\xff]{3,}", piece)
    return match is not None and len(piece) - len(runs[0]) >= 3 * len(runs[0])


def _subtokens(word: bytes, offset: int) -> list[tuple[Kind | None, int, int]]:
    """Pieces of a word that no recogniser took; None marks literal bytes."""
    pieces: list[tuple[Kind | None, int, int]] = []
    end = 0
    for match in SUBTOKEN.finditer(word):
        piece = match.group()
        kind: Kind | None = None
        if piece.isdigit():
            kind = Kind.INT
        elif _HEX.fullmatch(piece):
            kind = Kind.HEX
        elif re.search(rb"\d", piece) and not _is_name_with_version(piece):
            kind = Kind.ID
        pieces.append((None, offset + end, offset + match.start()))
        pieces.append((kind, offset + match.start(), offset + match.end()))
        end = match.end()
    pieces.append((None, offset + end, offset + len(word)))
    return [piece for piece in pieces if piece[1] < piece[2]]


def _next_pieces(content: bytes, i: int) -> list[tuple[Kind | None, int, int]]:
    """Holes and literals from offset `i` on: at least one, adjoining."""
    if content.startswith(b"<*>", i):
        return [(Kind.STAR, i, i + 3)]
    if match := BLANKS.match(content, i):
        single = match.group() == b" " and i > 0 and match.end() < len(content)
        return [(None if single else Kind.SPACE, i, match.end())]
    if match := CONTROL.match(content, i):
        return [(Kind.RAW, i, match.end())]
    if match := BOUND.match(content, i):
        return [(Kind.DURATION, i, match.end())]
    word = WORD.match(content, i)
    if word is None:
        return [(None, i, i + 1)]
    if match := URL.match(content, i):
        return [(Kind.URL, i, i + len(match.group().rstrip(b".,:;!?")))]
    text = word.group().rstrip(b".:")
    end = i + len(text)
    kind = recognise(text) if text else None
    is_key = end == word.end() and content[end : end + 2].lstrip(b" ").startswith(b"=")
    if kind is Kind.HOST and is_key:
        kind = None
    prefix = PREFIX.match(text)
    if (
        prefix
        and kind in (None, Kind.PATH, Kind.HOST)
        and (inner := recognise(text[prefix.end() :])) in PREFIXED
        and not (inner is Kind.HOST and is_key)
    ):
        return [(None, i, i + prefix.end()), (inner, i + prefix.end(), end)]
    if kind is None:
        return _subtokens(word.group(), i)
    if kind is Kind.TIME and end == word.end() and (tail := TIME_TAIL.match(content, end)):
        return [(kind, i, tail.end())]
    return [(kind, i, end)]


def scan(content: bytes) -> tuple[bytes, list[tuple[Kind, int, int]]]:
    """Masked text and the holes (kind, start, end) of one Content."""
    masked = bytearray()
    holes: list[tuple[Kind, int, int]] = []
    i = 0
    while i < len(content):
        for kind, start, end in _next_pieces(content, i):
            piece = bytes([kind]) if kind is not None else content[start:end]
            room = MASKED_LIMIT - len(masked)
            if len(piece) > room or room == 0:
                cut = start + (room if kind is None else 0)
                masked += content[start:cut]
                masked.append(Kind.REST)
                holes.append((Kind.REST, cut, len(content)))
                return bytes(masked), holes
            masked += piece
            if kind is not None:
                holes.append((kind, start, end))
            i = end
    return bytes(masked), holes
