"""The byte scanner: Content bytes in, masked text and typed spans out, in one left-to-right pass.

Numba over plain arrays; no Python objects inside. What is masked, and in which order the recognisers are tried, is told
in `nonet.logs.mining.masks`; the same rules written with regular expressions in the tests are the oracle of this file.
"""

from __future__ import annotations

import numpy as np

from nonet.common.kernels import inlined_kernel, kernel
from nonet.logs.mining._recognise_kernels import (
    BLANK,
    CLASS,
    COLON,
    COMMA,
    CONTROL,
    DIGIT,
    DOT,
    GT,
    JOINT,
    K_CALENDAR,
    K_DATE,
    K_DURATION,
    K_HOST,
    K_INT,
    K_IP,
    K_IPV6,
    K_MAC,
    K_PATH,
    K_RAW,
    K_REST,
    K_SPACE,
    K_STAR,
    K_TIME,
    K_URL,
    K_USER,
    K_UUID,
    LETTER,
    LT,
    OTHER,
    SPACE_BYTE,
    STAR_BYTE,
    WORD,
    bound_end,
    colour_end,
    digits_end,
    is_calendar,
    prefix_end,
    recognise,
    subtoken_kind,
    url_end,
)

MAX_MASKED_BYTES = 2048
_MIXED = 0x7F  # no kind: a word of several parts
EQUALS = ord("=")
SUBTOKEN_CUTS = b".:+@#$%&-~*^/\\"
IS_CUT = np.zeros(256, np.bool_)
IS_CUT[list(SUBTOKEN_CUTS)] = True
IS_PREFIXED = np.zeros(32, np.bool_)  # kinds that may stand behind `name:`
IS_PREFIXED[[K_IP, K_IPV6, K_MAC, K_UUID, K_DATE, K_TIME, K_PATH, K_HOST]] = True


@kernel
def _blanks_end(buf, i, stop):
    """End of the blanks at i; terminal colours count as blanks, so that they hide no word from the masks."""
    while i < stop:
        if CLASS[buf[i]] == BLANK:
            i += 1
        else:
            end = colour_end(buf, i, stop)
            if end < 0:
                break
            i = end
    return i


@inlined_kernel
def _piece(buf, i, start, stop, end):
    """The run of alike bytes at i: (its end, its kind, whether it has a digit).

    The kind is 0 for literal bytes and _MIXED for a word that has to be looked at more closely.
    """
    c = buf[i]
    cls = CLASS[c]
    j = i + 1
    if cls & WORD:
        seen = cls
        while j < stop and CLASS[buf[j]] & WORD:
            seen |= CLASS[buf[j]]
            j += 1
        if seen & (DIGIT | JOINT) == 0:
            return j, K_CALENDAR if seen & OTHER == 0 and is_calendar(buf, i, j) else 0, False
        return j, K_INT if seen == DIGIT else _MIXED, seen & DIGIT != 0
    if cls == BLANK or (cls == CONTROL and colour_end(buf, i, stop) > 0):
        j = _blanks_end(buf, i, stop)
        is_single = c == SPACE_BYTE and j == i + 1 and i > start and j < end
        return j, 0 if is_single else K_SPACE, False
    if cls == CONTROL:
        while j < stop and CLASS[buf[j]] == CONTROL and colour_end(buf, j, stop) < 0:
            j += 1
        return j, K_RAW, False
    if c == LT and i + 2 < stop and buf[i + 1] == STAR_BYTE and buf[i + 2] == GT:
        return i + 3, K_STAR, False
    if c == LT or c == GT:
        bound = bound_end(buf, i, stop)
        if bound > 0:
            return bound, K_DURATION, False
    return j, 0, False


@kernel
def scan(buf, start, end, user_starts, user_ends, user, user_stop, masked, kinds, starts, ends, hole):
    """Mask buf[start:end].

    Args:
        buf: uint8 bytes.
        start, end: the Content.
        user_starts, user_ends: spans of user masks in `buf`, sorted and disjoint; those in [user, user_stop) belong to
            this Content.
        masked: uint8 output of at least MAX_MASKED_BYTES + 9 bytes; zero-padded to a multiple of 8 behind the text.
        kinds, starts, ends: outputs for holes (offsets from `start`), written from index `hole` on; up to
            MAX_MASKED_BYTES + 1 may be added.

    Returns:
        (length of the masked text, index behind the last hole).
    """
    out = 0
    i = start
    while i < end:
        if out >= MAX_MASKED_BYTES:
            masked[out] = K_REST
            kinds[hole], starts[hole], ends[hole] = K_REST, i - start, end - start
            out, hole = out + 1, hole + 1
            break
        stop = end
        if user < user_stop:
            if user_starts[user] == i:
                masked[out] = K_USER
                kinds[hole], starts[hole], ends[hole] = K_USER, i - start, user_ends[user] - start
                i = user_ends[user]
                out, hole, user = out + 1, hole + 1, user + 1
                continue
            stop = user_starts[user]
        j, kind, has_digit = _piece(buf, i, start, stop, end)
        if kind == _MIXED:
            i, j, out, hole, kind = _scan_word(
                buf, start, i, j, stop, end, has_digit, masked, out, kinds, starts, ends, hole
            )
            if i == j:
                continue
        if kind:
            masked[out] = kind
            kinds[hole], starts[hole], ends[hole] = kind, i - start, j - start
            out, hole = out + 1, hole + 1
        else:
            while i < j and out < MAX_MASKED_BYTES:
                masked[out] = buf[i]
                out, i = out + 1, i + 1
            j = i
        i = j
    for pad in range(out, (out + 7) & ~7):
        masked[pad] = 0
    return out, hole


@kernel
def _is_assigned(buf, k, end):
    """Whether `=` or ` =` stands at k."""
    if k < end and buf[k] == SPACE_BYTE:
        k += 1
    return k < end and buf[k] == EQUALS


@kernel
def _with_milliseconds(buf, t, stop):
    """End of a time at t with a `,ddd` behind it, if there is one."""
    if t + 3 < stop and buf[t] == COMMA and digits_end(buf, t + 1, stop) == t + 4:
        if t + 4 == stop or not CLASS[buf[t + 4]] & LETTER:
            return t + 4
    return t


@inlined_kernel
def _scan_word(buf, start, i, j, stop, end, has_digit, masked, out, kinds, starts, ends, hole):
    """Mask the word buf[i:j] that holds digits or marks.

    Returns (i, j, out, hole, kind): kind != 0 asks the caller to write buf[i:j] as one hole; kind == 0 with i < j asks
    it to copy buf[i:j]; i == j says that everything up to j is written.
    """
    t = j
    while t > i and buf[t - 1] in (DOT, COLON):
        t -= 1
    if t == i:
        return i, j, out, hole, 0
    url = url_end(buf, i, j, stop)
    if url > 0:
        return i, url, out, hole, K_URL
    kind = recognise(buf, i, t)
    is_key = t == j and _is_assigned(buf, j, end)
    if kind == K_HOST and is_key:
        kind = 0
    if kind == 0 or kind == K_PATH or kind == K_HOST:
        prefix = prefix_end(buf, i, t)
        inner = recognise(buf, prefix, t) if prefix > 0 else 0
        if IS_PREFIXED[inner] and not (inner == K_HOST and is_key):
            while i < prefix and out < MAX_MASKED_BYTES:
                masked[out] = buf[i]
                out, i = out + 1, i + 1
            return (i, t, out, hole, inner) if out < MAX_MASKED_BYTES else (i, i, out, hole, 0)
    if kind == K_TIME and t == j:
        t = _with_milliseconds(buf, t, stop)
    if kind:
        return i, t, out, hole, kind
    if not has_digit:
        return i, j, out, hole, 0
    while i < t and out < MAX_MASKED_BYTES:
        if IS_CUT[buf[i]]:
            masked[out] = buf[i]
            out, i = out + 1, i + 1
            continue
        k, seen = i, 0
        while k < t and not IS_CUT[buf[k]]:
            seen |= CLASS[buf[k]]
            k += 1
        kind = subtoken_kind(buf, i, k) if seen & DIGIT else 0
        if kind:
            masked[out] = kind
            kinds[hole], starts[hole], ends[hole] = kind, i - start, k - start
            out, hole, i = out + 1, hole + 1, k
        else:
            while i < k and out < MAX_MASKED_BYTES:
                masked[out] = buf[i]
                out, i = out + 1, i + 1
    return i, i, out, hole, 0
