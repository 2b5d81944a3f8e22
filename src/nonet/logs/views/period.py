"""Parts of a log by time: what `--since`, `--until` and a split time mean."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|sec|m|min|h|d|w)")
_UNITS_S = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SPANS_US = ((86_400_000_000, "days"), (3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"), (1000, "ms"))
_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Period:
    """Lines from `since_us` on and before `until_us`, microseconds since 1970; None for no bound."""

    since_us: int | None = None
    until_us: int | None = None

    @property
    def is_all(self) -> bool:
        """Whether it has no bounds."""
        return self.since_us is None and self.until_us is None

    def contains(self, ticks: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which times lie in it."""
        inside = np.ones(len(ticks), np.bool_)
        if self.since_us is not None:
            inside &= ticks >= self.since_us
        if self.until_us is not None:
            inside &= ticks < self.until_us
        return inside

    @classmethod
    def parse(cls, since: str | None, until: str | None, newest_us: Callable[[], int]) -> Period:
        """Read bounds: a date, a time stamp, or a span such as "90s", "15m", "1h", "2d", "1w" before the newest line.

        Args:
            since, until: the bounds, None for open ones.
            newest_us: gives the time of the newest line; called only when a span needs it.

        Raises:
            InputError: neither a time nor a span, or an empty period.
        """
        bounds = [None if text is None else _moment(text, newest_us) for text in (since, until)]
        if bounds[0] is not None and bounds[1] is not None and bounds[0] >= bounds[1]:
            raise InputError(
                f"the period from {since!r} until {until!r} is empty; give an earlier start or a later end"
            )
        return cls(*bounds)


def _moment(text: str, newest_us: Callable[[], int]) -> int:
    """Microseconds since 1970 of a bound; times with a zone are taken in UTC, as the reader takes them.

    >>> _moment("1970-01-02", lambda: 0), _moment("1970-01-01T01:00+01:00", lambda: 0), _moment("2s", lambda: 5_000_000)
    (86400000000, 0, 3000000)
    """
    ago = _AGO.fullmatch(text.strip())
    if ago:
        return newest_us() - round(float(ago.group(1)) * _UNITS_S[ago.group(2)] * 1_000_000)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError(
            f"time {text!r} cannot be read; give one such as 2026-11-22T12:30, or a span such as 15m, 1h, 2d"
        ) from None
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment_text(tick_us: int, *, with_fraction: bool = False) -> str:
    """A time for people.

    >>> moment_text(1_500_000), moment_text(1_500_000, with_fraction=True)
    ('1970-01-01 00:00:01', '1970-01-01 00:00:01.500000')
    """
    moment = _EPOCH + timedelta(microseconds=int(tick_us))
    return moment.isoformat(" ", "microseconds" if with_fraction else "seconds")


def span_text(span_us: int) -> str:
    """A length of time for people.

    >>> [span_text(us) for us in (20, 2_000, 10_000_000, 1_800_000_000, 172_800_000_000)]
    ['20 us', '2 ms', '10 s', '30 min', '2 days']
    """
    for unit_us, name in (
        (86_400_000_000, "days"),
        (3_600_000_000, "h"),
        (60_000_000, "min"),
        (1_000_000, "s"),
        (1000, "ms"),
    ):
        if span_us >= unit_us:
            number = f"{span_us / unit_us:.3g}"
            return f"{number} {'day' if name == 'days' and number == '1' else name}"
    return f"{span_us} us"
