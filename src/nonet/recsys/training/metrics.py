"""How good probabilities of clicks are: AUC, log loss, normalised entropy, calibration; whole or by window.

Every function takes weights, leaves nothing out and answers NaN where the measure has no meaning (AUC of one class).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.example import Floats, Ints

Doubles = NDArray[np.float64]
_TINY = 1e-7  # of float32: a probability of exactly 0 or 1 comes of rounding


def auc(label: Floats, score: Floats, weight: Floats | None = None) -> float:
    """P(score of a random positive > score of a random negative), ties one half; exact, by ranks.

    Args:
        label: [n], positive where > 0.5.
        score: [n], any increasing function of the probability.
        weight: [n], of each row.

    >>> auc(np.array([0, 1, 1, 0]), np.array([.1, .9, .4, .4]))
    0.875
    """
    if len(label) == 0:
        return float("nan")
    order = np.argsort(score, kind="stable")
    sorted_score = np.asarray(score)[order]
    positive = np.asarray(label)[order] > 0.5
    mass = np.ones(len(order)) if weight is None else np.asarray(weight, np.float64)[order]
    starts = np.flatnonzero(np.r_[True, sorted_score[1:] != sorted_score[:-1]])
    up = np.add.reduceat(mass * positive, starts)
    down = np.add.reduceat(mass * ~positive, starts)
    pairs = up.sum() * down.sum()
    below = np.cumsum(down) - down
    return float((up @ (below + down / 2)) / pairs) if pairs > 0 else float("nan")


def log_loss(label: Floats, probability: Floats, weight: Floats | None = None) -> float:
    """Mean cross-entropy in nats.

    >>> round(log_loss(np.array([1.]), np.array([.5])), 4)
    0.6931
    """
    y, p, w = _columns(label, probability, weight)
    return float(-(w @ (y * np.log(p) + (1 - y) * np.log1p(-p))) / w.sum()) if w.sum() > 0 else float("nan")


def normalised_entropy(label: Floats, probability: Floats, weight: Floats | None = None) -> float:
    """Log loss over that of always saying the mean label; below 1 is better than that (He et al. 2014, section 3)."""
    y, _, w = _columns(label, probability, weight)
    rate = float(w @ y / w.sum()) if w.sum() > 0 else float("nan")
    if not 0 < rate < 1:
        return float("nan")
    return log_loss(label, probability, weight) / -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))


def calibration(label: Floats, probability: Floats, weight: Floats | None = None) -> float:
    """Expected over observed positives, sum(p) / sum(y); 1 is right, above 1 promises too much.

    >>> calibration(np.array([1., 0.]), np.array([.9, .3]))
    1.2
    """
    y, _, w = _columns(label, probability, weight)
    return float(w @ np.asarray(probability, np.float64) / (w @ y)) if w @ y > 0 else float("nan")


def _columns(label: Floats, probability: Floats, weight: Floats | None) -> tuple[Doubles, Doubles, Doubles]:
    y = np.asarray(label, np.float64)
    p = np.clip(np.asarray(probability, np.float64), _TINY, 1 - _TINY)
    return y, p, np.ones(len(y)) if weight is None else np.asarray(weight, np.float64)


@dataclass(frozen=True, slots=True)
class Quality:
    """Measures over a window of rows.

    Args:
        rows: how many.
        positives: of them.
        first_ts_ms: earliest event time.
        last_ts_ms: latest.
        auc: see `auc`.
        log_loss: see `log_loss`.
        normalised_entropy: see `normalised_entropy`.
        calibration: see `calibration`.
    """

    rows: int
    positives: int
    first_ts_ms: int
    last_ts_ms: int
    auc: float
    log_loss: float
    normalised_entropy: float
    calibration: float


def measure(label: Floats, probability: Floats, weight: Floats | None = None, ts_ms: Ints | None = None) -> Quality:
    """All measures at once; rows whose probability is NaN (left out by the trainer) do not count."""
    kept = ~np.isnan(probability)
    y, p = np.asarray(label)[kept], np.asarray(probability)[kept]
    w = None if weight is None else np.asarray(weight)[kept]
    ts = np.zeros(1, np.int64) if ts_ms is None or not kept.any() else np.asarray(ts_ms)[kept]
    return Quality(
        len(y),
        int((y > 0.5).sum()),
        int(ts.min()),
        int(ts.max()),
        auc(y, p, w),
        log_loss(y, p, w),
        normalised_entropy(y, p, w),
        calibration(y, p, w),
    )


@dataclass(slots=True)
class Windows:
    """Measures over windows of a stream, by number of rows or by event time.

    Windows by time are aligned to multiples of `span_ms`; a row of a window that is closed counts in the open one and
    in `late`. No more than `rows` rows are held: where a window by time has more, it is closed early.

    Args:
        rows: size of a window, or its bound when `span_ms` is given.
        span_ms: length of a window in event time; 0 for windows by rows.

    Raises:
        InputError: a size below 1.

    >>> windows = Windows(rows=2)
    >>> done = windows.add(np.array([1., 0., 1.]), np.array([.8, .4, .9]))
    >>> [w.auc for w in done], windows.pending
    ([1.0], 1)
    """

    rows: int = 10_000
    span_ms: int = 0
    late: int = 0
    _held: list[tuple[Floats, Floats, Floats, Ints]] = field(default_factory=list)
    _number: int | None = None

    def __post_init__(self) -> None:
        if self.rows < 1 or self.span_ms < 0:
            raise InputError(f"windows need rows >= 1 and span_ms >= 0, got {self.rows} and {self.span_ms}")

    @property
    def pending(self) -> int:
        """Rows in the open window."""
        return sum(len(part[0]) for part in self._held)

    def add(
        self, label: Floats, probability: Floats, weight: Floats | None = None, ts_ms: Ints | None = None
    ) -> list[Quality]:
        """Take rows in the order of the stream; returns the windows that they complete."""
        size = len(label)
        columns = (
            np.asarray(label, np.float32),
            np.asarray(probability, np.float32),
            np.ones(size, np.float32) if weight is None else np.asarray(weight, np.float32),
            np.zeros(size, np.int64) if ts_ms is None else np.asarray(ts_ms, np.int64),
        )
        done: list[Quality] = []
        for start, stop, number in self._runs(columns[3]):
            if self.span_ms and self._number is not None and number > self._number:
                done += self.flush()
            self._number = number if self._number is None else max(number, self._number)
            done += self._fill([column[start:stop] for column in columns])
        return done

    def flush(self) -> list[Quality]:
        """Close the open window; empty when there is none."""
        if not self._held:
            return []
        label, probability, weight, ts_ms = (np.concatenate(column) for column in zip(*self._held, strict=True))
        self._held.clear()
        return [measure(label, probability, weight, ts_ms)]

    def _fill(self, columns: list[NDArray[np.generic]]) -> list[Quality]:
        done: list[Quality] = []
        start, size = 0, len(columns[0])
        while start < size:
            stop = min(size, start + self.rows - self.pending)
            self._held.append(tuple(column[start:stop] for column in columns))  # type: ignore[arg-type]
            start = stop
            if self.pending == self.rows:
                done += self.flush()
        return done

    def _runs(self, ts_ms: Ints) -> Iterator[tuple[int, int, int]]:
        """Runs of rows of one window: (start, stop, number); late rows belong to the newest window before them."""
        if len(ts_ms) == 0:
            return
        numbers = ts_ms // self.span_ms if self.span_ms else np.zeros(len(ts_ms), np.int64)
        floor = numbers[0] if self._number is None else max(self._number, numbers[0])
        newest = np.maximum.accumulate(np.maximum(numbers, floor))
        self.late += int((numbers < newest).sum())
        bounds = np.flatnonzero(np.r_[True, newest[1:] != newest[:-1], True])
        for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            yield start, stop, int(newest[start])
