"""Times and durations as logs write them, to integer microseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}:\d{2})(?:[.,](\d{1,9}))?\s*(Z|z|UTC|[+-]\d{2}:?\d{2})?", re.ASCII
)
_PIECE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_UNIT_US = {"ns": 1e-3, "us": 1.0, "µs": 1.0, "μs": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6, "h": 3600e6}
UNITS_US = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6, "min": 60e6, "h": 3600e6}
"""Microseconds of a unit that a user may name."""


def time_us(text: object) -> int | None:
    """An RFC 3339 time (a blank instead of `T`, a missing zone meaning UTC, and nanoseconds are accepted).

    None when `text` is none.

    >>> time_us("1970-01-01T00:00:01.5Z"), time_us("1970-01-01 01:00:00.123456789+01:00"), time_us("soon")
    (1500000, 123456, None)
    """
    match = _TIME.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    zone = "+00:00" if zone in (None, "Z", "z", "UTC") else zone
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{zone}")
    except ValueError:
        return None
    return (moment - _EPOCH) // timedelta(microseconds=1) + int((fraction or "0").ljust(6, "0")[:6])


def unix_us(value: object) -> int | None:
    """A moment as a number since 1970 whose size tells the unit (s, ms, us or ns), as text or number; else `time_us`.

    >>> unix_us(1_700_000_000), unix_us("1700000000123"), unix_us(1_700_000_000.5)
    (1700000000000000, 1700000000123000, 1700000000500000)
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        try:
            value = int(value) if value.strip().lstrip("-").isdigit() else float(value)
        except ValueError:
            return time_us(value)
    if not isinstance(value, int | float) or not abs(value) <= 9e18:
        return None
    for limit, factor, divisor in ((1e11, 1_000_000, 1), (1e14, 1_000, 1), (1e17, 1, 1)):
        if abs(value) < limit:
            return round(value * factor) // divisor
    return int(value) // 1000


def duration_us(text: object) -> int | None:
    """A duration as Go and kubelet write it ("2.1s", "1m2.5s", "150ms"); None when `text` is none.

    >>> duration_us("1m2.5s"), duration_us("150ms"), duration_us("-1s"), duration_us("0s"), duration_us("2 s")
    (62500000, 150000, -1000000, 0, None)
    """
    if not isinstance(text, str) or not text:
        return None
    sign, body = (-1, text[1:]) if text[0] == "-" else (1, text)
    pieces = list(_PIECE.finditer(body))
    if not pieces or "".join(piece.group() for piece in pieces) != body:
        return None
    return sign * round(sum(float(piece[1]) * _UNIT_US[piece[2]] for piece in pieces))
