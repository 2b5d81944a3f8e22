"""Time stamps of header fields: which form they have, and their value in microseconds.

A stamp with a zone becomes UTC; one without is taken as written. A missing year is chosen so that the first stamp is
the latest that is not after `reference` (the file's modification time), and moves on when the months begin again.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from nonet.logs.reading import _time_kernels as kernels

NO_TIME = int(kernels.NO_TIME)

TIME_FORMS: tuple[str, ...] = (
    "%Y-%m-%dT%H:%M:%S%f%z",
    "%Y-%m-%d %H:%M:%S%f%z",
    "%b %e %H:%M:%S%f",
    "%y/%m/%d %H:%M:%S%f",
    "%y%m%d %H%M%S",
    "%Y/%m/%d %H:%M:%S%f%z",
    "%d/%b/%Y:%H:%M:%S%f%z",
    "%a %b %e %H:%M:%S%f %Y",
    "%a %b %e %H:%M:%S%f%z %Y",
    "%m-%d %H:%M:%S%f",
    "%Y-%m-%d-%H.%M.%S%f",
    "%Y%m%d-%H:%M:%S%f",
    "%Y%m%d %H:%M:%S%f",
    "%m%d %H:%M:%S%f",
    "%m.%d %H:%M:%S%f",
    "%d.%m.%Y %H:%M:%S%f",
    "%e %b %Y %H:%M:%S%f%z",
    "%b %e %Y %H:%M:%S%f%z",
    "%b %e, %Y %H:%M:%S%f%z",
    "%Y.%m.%d %H:%M:%S%f",
    "%Y-%m-%d_%H:%M:%S%f",
    "%Y%m%dT%H%M%S%f%z",
    "%d-%b-%Y %H:%M:%S%f%z",
    "%m/%d/%Y %H:%M:%S%f",
    "%m/%d/%Y-%H:%M:%S%f",
    "%s",
    "%H:%M:%S%f",
)
"""Known forms. As in strptime, but: `%e` one or two digits, `%f` and `%z` are optional and `%f` includes its
separator, `%s` is a Unix time in s, ms, us or ns, a blank is one or more."""

_CODES = {
    "Y": kernels.YEAR4,
    "y": kernels.YEAR2,
    "m": kernels.MONTH2,
    "d": kernels.DAY2,
    "e": kernels.DAY,
    "H": kernels.HOUR,
    "M": kernels.MINUTE,
    "S": kernels.SECOND,
    "f": kernels.FRACTION,
    "b": kernels.MONTH_NAME,
    "a": kernels.WEEKDAY,
    "z": kernels.ZONE,
    "s": kernels.EPOCH,
}
_TIME_NAMES = frozenset({"date", "time", "timestamp", "month", "day", "year", "weekday", "datetime", "zone"})


@cache
def compile_form(form: str) -> NDArray[np.int16]:
    """The codes of a form."""
    codes: list[int] = []
    letters = iter(form)
    for letter in letters:
        if letter == "%":
            codes.append(_CODES[next(letters)])
        else:
            codes.append(kernels.BLANKS if letter == " " else ord(letter))
    return np.array(codes, np.int16)


class TimeParser:
    """Parses spans of one form, batch after batch.

    Args:
        form: one of `TIME_FORMS` or another text in the same language.
        reference: for forms without a year: no first stamp lies more than a day after this moment.

    >>> parser = TimeParser("%b %e %H:%M:%S%f", datetime.datetime(2026, 1, 3))
    >>> lines = [b"Dec 31 23:59:59", b"Jan  1 00:00:01"]
    >>> [str(np.datetime64(t, "us")) for t in parser.parse_texts(lines)]
    ['2025-12-31T23:59:59.000000', '2026-01-01T00:00:01.000000']
    """

    def __init__(self, form: str, reference: datetime.datetime) -> None:
        self.form = form
        self._codes = compile_form(form)
        self.has_year = any(code in form for code in ("%Y", "%y", "%s"))
        self._reference = reference.replace(tzinfo=None)
        # A stamp without a day is today's; the month and day are overwritten where the form has them.
        self._day = np.array([reference.year, reference.month, reference.day], np.int64)
        self._last_us = np.array([NO_TIME], np.int64)

    def parse(self, buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """Microseconds since 1970, `NO_TIME` where a span does not have the form (or starts below 0)."""
        if not self.has_year and self._last_us[0] == NO_TIME:
            self._choose_year(buffer, starts, ends)
        return kernels.parse_times(buffer, starts, ends, self._codes, self.has_year, self._day, self._last_us)

    def parse_texts(self, texts: Sequence[bytes]) -> list[int]:
        """The same for Python bytes."""
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        starts = ends - np.array([len(text) for text in texts], np.int64)
        buffer = np.frombuffer(bytearray(b"".join(texts)), np.uint8)
        times: list[int] = self.parse(buffer, starts, ends).tolist()
        return times

    def _choose_year(self, buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        day, last = self._day.copy(), self._last_us.copy()
        times = kernels.parse_times(buffer, starts, ends, self._codes, True, day, last)
        known = times[times != NO_TIME]
        limit = (self._reference - datetime.datetime(1970, 1, 1) + datetime.timedelta(days=1)) // _US
        if len(known) and int(known[0]) > limit:
            self._day[0] -= 1


_US = datetime.timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class TimeFields:
    """Where in a header the time stands: columns `first` to `last` (with what is between them), and its form."""

    first: int
    last: int
    form: str

    def spans(
        self, field_starts: NDArray[np.int32], field_ends: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Spans of the stamps, negative starts where the fields are absent."""
        return field_starts[:, self.first].astype(np.int64), field_ends[:, self.last].astype(np.int64)


def find_time_fields(
    names: Sequence[str], buffer: NDArray[np.uint8], field_starts: NDArray[np.int32], field_ends: NDArray[np.int32]
) -> TimeFields | None:
    """The fields and the form that parse most of a sample (at least nine in ten), the earliest of equals."""
    if not len(field_starts):
        return None
    best, best_count = None, 0.9 * len(field_starts)
    reference = datetime.datetime(2000, 12, 31)
    for first, last in _candidates(names):
        for form in TIME_FORMS:
            fields = TimeFields(first, last, form)
            times = TimeParser(form, reference).parse(buffer, *fields.spans(field_starts, field_ends))
            count = int(np.count_nonzero(times != NO_TIME))
            if count > best_count:
                best, best_count = fields, count
        if best_count == len(field_starts):
            break
    return best


def _candidates(names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Runs of neighbouring columns with a name of time, long ones first."""
    is_time = [name.lower() in _TIME_NAMES for name in names]
    runs = [
        (first, last)
        for first in range(len(names))
        for last in range(first, min(len(names), first + 5))
        if all(is_time[first : last + 1])
    ]
    yield from sorted(runs, key=lambda run: (run[0] - run[1], run[0]))
