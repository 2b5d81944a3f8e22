"""Compiled parser of time stamps in bytes: a tiny strptime whose format is an array of codes."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nonet.common.kernels import kernel
from nonet.logs.reading._line_kernels import Bytes, is_blank

NO_TIME = np.iinfo(np.int64).min  # the null of time stamps

# Codes of a compiled format; literal bytes are their own code, these begin above them.
YEAR4, YEAR2, MONTH2, DAY2, DAY, HOUR, MINUTE, SECOND, FRACTION, MONTH_NAME, WEEKDAY, ZONE, EPOCH, BLANKS = range(
    256, 270
)

_MONTHS = np.frombuffer(b"janfebmaraprmayjunjulaugsepoctnovdec", np.uint8)
_DAY_US = 86_400_000_000
_NEW_YEAR_US = 183 * _DAY_US  # so far back, and the months have begun again
_OLD_YEAR_US = 335 * _DAY_US  # so far ahead, and it is December of the year before
_EPOCH_DIGITS = 10  # seconds; longer numbers are milli-, micro- or nanoseconds


@kernel
def days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the proleptic Gregorian calendar (counted in 400-year eras that begin on 1 March)."""
    shifted = year - (1 if month <= 2 else 0)
    era = shifted // 400
    year_of_era = shifted - era * 400
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468


@kernel
def _digits(buffer: Bytes, position: int, end: int, least: int, most: int) -> tuple[int, int]:
    """Value of `least` to `most` decimal digits and the position after them, or (0, -1)."""
    value = 0
    stop = min(end, position + most)
    first = position
    while position < stop and 0x30 <= buffer[position] <= 0x39:
        value = value * 10 + (int(buffer[position]) - 0x30)
        position += 1
    return (value, position) if position - first >= least else (0, -1)


@kernel
def _month_of_name(buffer: Bytes, position: int, end: int) -> int:
    """1 to 12 for the three letters at `position`, 0 for no month."""
    if position + 3 > end:
        return 0
    for month in range(12):
        same = True
        for k in range(3):
            same = same and (buffer[position + k] | 0x20) == _MONTHS[3 * month + k]
        if same:
            return month + 1
    return 0


@kernel
def _zone(buffer: Bytes, position: int, end: int) -> tuple[int, int]:
    """Offset in minutes of an optional zone (Z, UTC, +hh, +hhmm, +hh:mm, blanks before) and the position after it."""
    here = position
    while here < end and is_blank(buffer[here]):
        here += 1
    if here == end:
        return 0, position
    byte = buffer[here]
    if byte in (0x2B, 0x2D):
        hours, after = _digits(buffer, here + 1, end, 2, 2)
        if after < 0:
            return 0, -1
        if after < end and buffer[after] == 0x3A:
            after += 1
        minutes, last = _digits(buffer, after, end, 2, 2)
        total = hours * 60 + minutes
        return (total if byte == 0x2B else -total), (last if last > 0 else after)
    if (byte | 0x20) == 0x7A:
        return 0, here + 1
    letters = here
    while letters < end and 0x41 <= buffer[letters] <= 0x5A:
        letters += 1
    return 0, letters if 3 <= letters - here <= 5 else -1


@kernel
def _fraction_us(buffer: Bytes, position: int, end: int) -> tuple[int, int]:
    """Microseconds of an optional fraction after `.`, `,` or `:` (1 to 9 digits) and the position after it."""
    if position >= end or (buffer[position] != 0x2E and buffer[position] != 0x2C and buffer[position] != 0x3A):
        return 0, position
    value, after = _digits(buffer, position + 1, end, 1, 9)
    if after < 0:
        return 0, -1
    for _ in range(after - position - 1, 6):
        value *= 10
    for _ in range(6, after - position - 1):
        value //= 10
    return value, after


@kernel
def _epoch_us(buffer: Bytes, position: int, end: int) -> tuple[int, int]:
    """Microseconds of a Unix time in s (with an optional fraction), ms, us or ns, told by its number of digits."""
    value, after = _digits(buffer, position, end, 9, 19)
    if after < 0:
        return 0, -1
    count = after - position
    if count <= _EPOCH_DIGITS:
        fraction, last = _fraction_us(buffer, after, end)
        return value * 1_000_000 + fraction, last
    if count <= 13:
        return value * 1000, after
    return (value, after) if count <= 16 else (value // 1000, after)


@kernel
def _parse(buffer: Bytes, position: int, end: int, codes: NDArray[np.int16], default_day: NDArray[np.int64]) -> int:
    """One time stamp in microseconds, or NO_TIME; all of [position, end) must be used."""
    year, month, day = default_day[0], default_day[1], default_day[2]
    hour = minute = second = us = zone = 0
    for code in codes:
        if code == BLANKS:
            first = position
            while position < end and is_blank(buffer[position]):
                position += 1
            position = position if position > first else -1
        elif code < 256:
            position = position + 1 if position < end and buffer[position] == code else -1
        elif code == YEAR4:
            year, position = _digits(buffer, position, end, 4, 4)
        elif code == YEAR2:
            year, position = _digits(buffer, position, end, 2, 2)
            year += 2000 if year < 69 else 1900
        elif code == MONTH2:
            month, position = _digits(buffer, position, end, 2, 2)
        elif code == DAY2:
            day, position = _digits(buffer, position, end, 2, 2)
        elif code == DAY:
            day, position = _digits(buffer, position, end, 1, 2)
        elif code == HOUR:
            hour, position = _digits(buffer, position, end, 1, 2)
        elif code == MINUTE:
            minute, position = _digits(buffer, position, end, 1, 2)
        elif code == SECOND:
            second, position = _digits(buffer, position, end, 1, 2)
        elif code == FRACTION:
            us, position = _fraction_us(buffer, position, end)
        elif code == MONTH_NAME:
            month = _month_of_name(buffer, position, end)
            position = position + 3 if month else -1
        elif code == WEEKDAY:
            position = position + 3 if position + 3 <= end else -1
        elif code == ZONE:
            zone, position = _zone(buffer, position, end)
        else:
            epoch, last = _epoch_us(buffer, position, end)
            return epoch if last == end else NO_TIME
        if position < 0:
            return NO_TIME
    in_range = 1 <= month <= 12 and 1 <= day <= 31 and hour <= 24 and minute <= 59 and second <= 60
    if position != end or not in_range:
        return NO_TIME
    seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + (minute - zone) * 60 + second
    return seconds * 1_000_000 + us


@njit(cache=True, nogil=True)
def parse_times(
    buffer: Bytes,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    codes: NDArray[np.int16],
    has_year: bool,
    day: NDArray[np.int64],
    last_us: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Time stamps of many spans in microseconds since 1970; NO_TIME for a negative start or a text that does not fit.

    Without a year in the text, `day` = (year, month, day) gives it and moves on: a jump back by more than half a year
    is a new year; a jump ahead by more than 11 months is a straggler of the old one. `last_us` holds the last time,
    NO_TIME at first.
    """
    times = np.empty(starts.size, np.int64)
    for i in range(starts.size):
        time_us = _parse(buffer, starts[i], ends[i], codes, day) if starts[i] >= 0 else NO_TIME
        if not has_year and time_us != NO_TIME:
            last = last_us[0]
            if last != NO_TIME and time_us < last - _NEW_YEAR_US:
                day[0] += 1
                time_us = _parse(buffer, starts[i], ends[i], codes, day)
            if last != NO_TIME and time_us > last + _OLD_YEAR_US:
                day[0] -= 1
                time_us = _parse(buffer, starts[i], ends[i], codes, day)
                day[0] += 1
            else:
                last_us[0] = time_us
        times[i] = time_us
    return times
