"""Recognisers of the general mask classes: is this word an address, a time, a path, ...?

Each looks at bytes of a block in place. Which class wins is told in `masks`; the same rules written with regular
expressions in the tests are the oracle of this file.
"""

from __future__ import annotations

import numpy as np

from nonet.common.kernels import kernel
from nonet.logs.mining.shape import Kind

DIGIT, HEXLET, LETTER, OTHER, BLANK, HARD, CONTROL, JOINT = 1, 2, 4, 8, 16, 32, 64, 128
WORD = DIGIT | LETTER | OTHER | JOINT
WORD_OTHER = b"_+*#$%&~^"
WORD_JOINTS = b"-.:/\\@"  # without a digit or one of these no class but the calendar is possible
HARD_DELIMITERS = b",;|\"'()[]{}<>=!?`"
URL_STOPS = b"\"'<>)]}|` \t"


def _byte_classes() -> np.ndarray:
    table = np.zeros(256, np.uint8)
    for byte in range(256):
        char = chr(byte)
        if byte >= 0x80 or char.isalpha():
            table[byte] = LETTER | (HEXLET if char in "abcdefABCDEF" else 0)
        elif char.isdigit():
            table[byte] = DIGIT
        elif byte in WORD_OTHER:
            table[byte] = OTHER
        elif byte in WORD_JOINTS:
            table[byte] = JOINT
        elif char in " \t\r\n":  # records of several lines hold line ends
            table[byte] = BLANK
        elif byte in HARD_DELIMITERS:
            table[byte] = HARD
        else:
            table[byte] = CONTROL
    return table


def _members(members: bytes) -> np.ndarray:
    table = np.zeros(256, np.bool_)
    table[list(members)] = True
    return table


def _padded(names: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    table = np.zeros((len(names), max(map(len, names))), np.uint8)
    for row, name in enumerate(names):
        table[row, : len(name)] = list(name)
    return table, np.array([len(n) for n in names], np.int64)


_WEEKDAYS = b"Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_MONTHS = b"January February March April May June July August September October November December".split()
_DURATION_UNITS = b"ns us ms s sec secs m min mins h hr hrs hour hours d".split()
_BOUND_UNITS = b"ns us ms s sec secs second seconds min minutes hours".split()
_SIZE_UNITS = b"B k K M G T KB MB GB TB kB KiB MiB GiB TiB".split()

CLASS = _byte_classes()
IS_URL_STOP = _members(URL_STOPS)
IS_URL_TAIL = _members(b".,:;!?")
CALENDAR, CALENDAR_LENGTHS = _padded(sorted({w for n in _WEEKDAYS + _MONTHS for w in (n, n[:3])}))
DURATION, DURATION_LENGTHS = _padded(_DURATION_UNITS)
BOUND, BOUND_LENGTHS = _padded(_BOUND_UNITS)
THROWABLE, THROWABLE_LENGTHS = _padded([b"Exception", b"Error"])
SIZE, SIZE_LENGTHS = _padded([*_SIZE_UNITS, *(u + b"/s" for u in _SIZE_UNITS)])

K_INT, K_NUMBER, K_HEX, K_IP, K_IPV6 = int(Kind.INT), int(Kind.NUMBER), int(Kind.HEX), int(Kind.IP), int(Kind.IPV6)
K_MAC, K_UUID, K_URL, K_TIME, K_DATE = int(Kind.MAC), int(Kind.UUID), int(Kind.URL), int(Kind.TIME), int(Kind.DATE)
K_DURATION, K_SIZE, K_PATH, K_HOST = int(Kind.DURATION), int(Kind.SIZE), int(Kind.PATH), int(Kind.HOST)
K_ID, K_CALENDAR, K_STAR, K_RAW = int(Kind.ID), int(Kind.CALENDAR), int(Kind.STAR), int(Kind.RAW)
K_SPACE, K_REST, K_USER = int(Kind.SPACE), int(Kind.REST), int(Kind.USER)

LT, GT, STAR_BYTE, SPACE_BYTE = ord("<"), ord(">"), ord("*"), ord(" ")
ESCAPE, OPENING_BRACKET, SEMICOLON = 0x1B, ord("["), ord(";")
SLASH, DOT, COLON, DASH, PLUS, COMMA = ord("/"), ord("."), ord(":"), ord("-"), ord("+"), ord(",")
AT, BACKSLASH, TILDE, PERCENT, UNDERSCORE, ZERO = ord("@"), ord("\\"), ord("~"), ord("%"), ord("_"), ord("0")


@kernel
def digits_end(buf, i, t):
    """End of the run of digits that starts at i."""
    while i < t and CLASS[buf[i]] == DIGIT:
        i += 1
    return i


@kernel
def hex_end(buf, i, t):
    """End of the run of hexadecimal digits that starts at i."""
    while i < t and CLASS[buf[i]] & (DIGIT | HEXLET):
        i += 1
    return i


@kernel
def _one_of(buf, i, t, table, lengths):
    """Whether buf[i:t] is one of the names in `table`."""
    for row in range(table.shape[0]):
        if lengths[row] == t - i:
            k = 0
            while k < t - i and table[row, k] == buf[i + k]:
                k += 1
            if k == t - i:
                return True
    return False


@kernel
def colour_end(buf, i, end):
    """End of the escape sequence for a colour (or for clearing a line) at i, or -1."""
    if buf[i] != ESCAPE or i + 2 >= end or buf[i + 1] != OPENING_BRACKET:
        return -1
    k = i + 2
    while k < end and (CLASS[buf[k]] & DIGIT or buf[k] in (SEMICOLON, COLON)):
        k += 1
    return k + 1 if k < end and buf[k] in (ord("m"), ord("K")) else -1


@kernel
def url_end(buf, i, t, end):
    """End of the URL whose scheme starts at i in the word buf[i:t], or -1. A URL goes on behind the word."""
    if CLASS[buf[i]] & LETTER == 0 or buf[i] >= 0x80:
        return -1
    k = i + 1
    while k < t and ((CLASS[buf[k]] & (LETTER | DIGIT) and buf[k] < 0x80) or buf[k] in (PLUS, DOT, DASH)):
        k += 1
    if k + 2 >= end or buf[k] != COLON or buf[k + 1] != SLASH or buf[k + 2] != SLASH:
        return -1
    k += 3
    while k < end and not IS_URL_STOP[buf[k]] and CLASS[buf[k]] != CONTROL:
        k += 1
    while IS_URL_TAIL[buf[k - 1]]:
        k -= 1
    return k


@kernel
def _quad_end(buf, i, t):
    """End of a dotted quad at i, or -1."""
    for part in range(4):
        k = digits_end(buf, i, t)
        if k == i or k - i > 3:
            return -1
        if part == 3:
            return k
        if k >= t or buf[k] != DOT:
            return -1
        i = k + 1
    return -1


@kernel
def _is_ip(buf, i, t):
    if buf[i] == SLASH:
        i += 1
    k = _quad_end(buf, i, t)
    if k < 0 or k == t:
        return k == t
    return buf[k] in (COLON, SLASH) and k + 1 < t and digits_end(buf, k + 1, t) == t


@kernel
def _is_ipv6(buf, i, t):
    colons, empty, hexes, group = 0, False, 0, i
    while group <= t:
        k = hex_end(buf, group, t)
        if k < t and buf[k] == DOT:
            if _quad_end(buf, group, t) != t:
                return False
            hexes += 1
            break
        if k - group > 4 or (k < t and buf[k] != COLON):
            return False
        hexes += k - group
        if k == t:
            break
        colons += 1
        if k + 1 < t and buf[k + 1] == COLON:
            empty = True
        group = k + 1
    return hexes > 0 and (empty or colons == 7)


@kernel
def _is_mac(buf, i, t):
    groups = (t - i + 1) // 3
    if (t - i + 1) % 3 or groups < 6 or buf[i + 2] not in (COLON, DASH) or (buf[i + 2] == DASH and groups > 6):
        return False
    for part in range(groups):
        at = i + 3 * part
        if hex_end(buf, at, at + 2) != at + 2 or (part < groups - 1 and buf[at + 2] != buf[i + 2]):
            return False
    return True


@kernel
def _is_uuid(buf, i, t):
    if t - i != 36:
        return False
    for k in range(36):
        if k in (8, 13, 18, 23):
            if buf[i + k] != DASH:
                return False
        elif not CLASS[buf[i + k]] & (DIGIT | HEXLET):
            return False
    return True


@kernel
def _time_end(buf, i, t):
    """End of h:mm, hh:mm, hh:mm:ss or hh:mm:ss.fraction at i, or -1."""
    k = digits_end(buf, i, t)
    if k == i or k - i > 2 or k >= t or buf[k] != COLON or digits_end(buf, k + 1, t) - k - 1 != 2:
        return -1
    k += 3
    if k < t and buf[k] == COLON and digits_end(buf, k + 1, t) - k - 1 == 2:
        k += 3
        if k + 1 < t and buf[k] == DOT:
            fraction = digits_end(buf, k + 1, t)
            if fraction > k + 1:
                k = fraction
    return k


@kernel
def _zone_end(buf, k, t):
    """End of Z, +hh:mm or +hhmm at k, or k itself."""
    if k >= t:
        return k
    if buf[k] == ord("Z"):
        return k + 1
    if buf[k] in (PLUS, DASH):
        d = digits_end(buf, k + 1, t)
        if d - k - 1 == 4:
            return d
        if d - k - 1 == 2 and d < t and buf[d] == COLON and digits_end(buf, d + 1, t) - d - 1 == 2:
            return d + 3
    return k


@kernel
def _is_date(buf, i, t):
    a = digits_end(buf, i, t)
    if a == i or a >= t or buf[a] not in (DASH, SLASH, DOT):
        return False
    b = digits_end(buf, a + 1, t)
    if b == a + 1 or b - a > 3 or b >= t or buf[b] not in (DASH, SLASH, DOT):
        return False
    c = digits_end(buf, b + 1, t)
    first, last = a - i, c - b - 1
    if first <= 2:
        return c == t and (last == 4 or (last == 2 and buf[a] == SLASH and buf[b] == SLASH))
    if first != 4 or last == 0 or last > 2:
        return False
    if c == t:
        return True
    if buf[c] not in (ord("T"), DASH, COLON):
        return False
    k = _time_end(buf, c + 1, t)
    return k > 0 and _zone_end(buf, k, t) == t


@kernel
def _number_kind(buf, i, t):
    """INT, NUMBER, DURATION or SIZE when buf[i:t] is one, else 0."""
    if buf[i] in (PLUS, DASH):
        i += 1
    k = digits_end(buf, i, t)
    if k == i:
        return 0
    dots = 0
    while k + 1 < t and buf[k] == DOT and CLASS[buf[k + 1]] == DIGIT:
        k = digits_end(buf, k + 1, t)
        dots += 1
    if k == t:
        return K_NUMBER if dots else K_INT
    if k + 1 == t and buf[k] == PERCENT:
        return K_NUMBER
    if t - k > 5:
        return 0
    if _one_of(buf, k, t, DURATION, DURATION_LENGTHS):
        return K_DURATION
    return K_SIZE if _one_of(buf, k, t, SIZE, SIZE_LENGTHS) else 0


@kernel
def _is_hex(buf, i, t):
    if t - i > 2 and buf[i] == ZERO and buf[i + 1] in (ord("x"), ord("X")):
        return hex_end(buf, i + 2, t) == t
    return _is_bare_hex(buf, i, t)


@kernel
def _is_bare_hex(buf, i, t):
    if t - i < 6:
        return False
    seen = 0
    for k in range(i, t):
        seen |= CLASS[buf[k]]
        if not CLASS[buf[k]] & (DIGIT | HEXLET):
            return False
    return seen & DIGIT != 0 and seen & HEXLET != 0


@kernel
def _is_path(buf, i, t, slashes):
    if slashes >= 2:
        return True
    if buf[i] == SLASH:
        return t - i > 1
    if t - i > 2 and buf[i] == TILDE and buf[i + 1] == SLASH:
        return True
    if t - i > 1 and buf[i] == BACKSLASH and buf[i + 1] == BACKSLASH:
        return True
    return (
        t - i > 2 and CLASS[buf[i]] & LETTER != 0 and buf[i] < 0x80 and buf[i + 1] == COLON and buf[i + 2] == BACKSLASH
    )


@kernel
def _is_host(buf, i, t, ats):
    if ats == 1:
        k = i
        while buf[k] != AT:
            if not (CLASS[buf[k]] & (LETTER | DIGIT) or buf[k] in (DOT, DASH, UNDERSCORE, PLUS)):
                return False
            k += 1
        if k == i:
            return False
        i = k + 1
    dots, letters, label = 0, 0, 0
    k = i
    while k < t and buf[k] != COLON:
        c = buf[k]
        if c == DOT:
            if label == 0:
                return False
            dots += 1
            label = 0
        elif CLASS[c] & (LETTER | DIGIT) or c in (DASH, UNDERSCORE):
            label += 1
            letters += CLASS[c] & LETTER
        else:
            return False
        k += 1
    if label == 0 or letters == 0:
        return False
    if k == t:
        return dots >= 2 - ats
    return dots >= 1 and k + 1 < t and digits_end(buf, k + 1, t) == t


@kernel
def _is_throwable(buf, i, t):
    """A dotted name whose last label ends in Exception or Error."""
    label, dots = 0, 0
    for k in range(i, t):
        if buf[k] == DOT:
            if label == 0:
                return False
            dots, label = dots + 1, 0
        elif CLASS[buf[k]] & (LETTER | DIGIT) or buf[k] in (DASH, UNDERSCORE):
            label += 1
        else:
            return False
    for row in range(THROWABLE.shape[0]):
        length = THROWABLE_LENGTHS[row]
        if dots and label > length and _one_of(buf, t - length, t, THROWABLE, THROWABLE_LENGTHS):
            return True
    return False


@kernel
def is_calendar(buf, i, t):
    first = buf[i]
    if t - i < 3 or t - i > 9 or first < ord("A") or first > ord("W") or buf[i + 1] < ord("a"):
        return False
    return _one_of(buf, i, t, CALENDAR, CALENDAR_LENGTHS)


@kernel
def recognise(buf, i, t):
    """Kind of the whole trimmed word buf[i:t], or 0. URLs are looked for before, since they outgrow the word."""
    digits = letters = slashes = colons = dots = dashes = ats = 0
    for k in range(i, t):
        c = buf[k]
        cls = CLASS[c]
        if cls & LETTER:
            letters += 1
        elif cls == DIGIT:
            digits += 1
        elif c == DOT:
            dots += 1
        elif c == SLASH:
            slashes += 1
        elif c == COLON:
            colons += 1
        elif c == DASH:
            dashes += 1
        elif c == AT:
            ats += 1
    if dots and letters > 5 and _is_throwable(buf, i, t):
        return 0
    if digits:
        if dots >= 3 and _is_ip(buf, i, t):
            return K_IP
        if colons >= 2 and _is_ipv6(buf, i, t):
            return K_IPV6
        if (colons >= 5 or dashes == 5) and _is_mac(buf, i, t):
            return K_MAC
        if dashes == 4 and _is_uuid(buf, i, t):
            return K_UUID
        if dashes + slashes + dots >= 2 and _is_date(buf, i, t):
            return K_DATE
        if colons and _time_end(buf, i, t) == t:
            return K_TIME
        if letters and _is_hex(buf, i, t):
            return K_HEX
        kind = _number_kind(buf, i, t)
        if kind:
            return kind
    elif colons >= 2 and _is_ipv6(buf, i, t):
        return K_IPV6
    elif (colons >= 5 or dashes == 5) and _is_mac(buf, i, t):
        return K_MAC
    elif dashes == 4 and _is_uuid(buf, i, t):
        return K_UUID
    if (slashes or buf[i] == BACKSLASH or colons) and _is_path(buf, i, t, slashes):
        return K_PATH
    if ats <= 1 and (dots or colons) and _is_host(buf, i, t, ats):
        return K_HOST
    return K_CALENDAR if letters == t - i and is_calendar(buf, i, t) else 0


@kernel
def subtoken_kind(buf, i, t):
    """Kind of a subtoken that holds a digit; 0 for a name with a version in it (`ext3_file_write`)."""
    if digits_end(buf, i, t) == t:
        return K_INT
    if _is_hex(buf, i, t):
        return K_HEX
    k = i
    while k < t and CLASS[buf[k]] != DIGIT:
        k += 1
    d = digits_end(buf, k, t)
    if k > i and t - d >= 3 and t - i - (d - k) >= 3 * (d - k):
        while d < t and CLASS[buf[d]] != DIGIT:
            d += 1
        if d == t:
            return 0
    return K_ID


@kernel
def bound_end(buf, i, stop):
    """End of a bound such as `<1 sec` that starts with its sign at i, or -1."""
    k = i + 1
    if k < stop and buf[k] in (PLUS, DASH):
        k += 1
    d = digits_end(buf, k, stop)
    if d == k:
        return -1
    while d + 1 < stop and buf[d] == DOT and CLASS[buf[d + 1]] == DIGIT:
        d = digits_end(buf, d + 1, stop)
    if d >= stop or buf[d] != SPACE_BYTE:
        return -1
    k = d + 1
    while k < stop and (CLASS[buf[k]] & (DIGIT | LETTER) or buf[k] == UNDERSCORE):
        k += 1
    return k if _one_of(buf, d + 1, k, BOUND, BOUND_LENGTHS) else -1


@kernel
def prefix_end(buf, i, t):
    """End of a prefix `name:` (not in front of `//`) at the start of a word, or -1."""
    k = i
    while k < t and buf[k] < 0x80 and (CLASS[buf[k]] & LETTER or buf[k] == UNDERSCORE):
        k += 1
    if k - i < 2 or k + 1 >= t or buf[k] != COLON or (k + 2 < t and buf[k + 1] == SLASH and buf[k + 2] == SLASH):
        return -1
    return k + 1
