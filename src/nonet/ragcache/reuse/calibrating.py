"""Which alpha to use: the one that computes least while quality stays above a target, on the user's own questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nonet.common.errors import InputError

DEFAULT_ALPHAS = (0.0, 0.15, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
"""CCI is at least 0.5, so that at 2 everything is computed that has no common neighbour."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What serving the questions with one alpha gave.

    Args:
        quality: of each question; the higher the better (agreement with the full run, or a gold score).
        computed: share of each prompt's rows that were computed.

    Raises:
        InputError: not one finite value of both for each of at least one question.

    >>> Trial(np.array([0.9, 1.0]), np.array([0.3, 0.2])).quality.mean()
    np.float64(0.95)
    """

    quality: NDArray[np.float64]
    computed: NDArray[np.float64]

    def __post_init__(self) -> None:
        shapes = {np.shape(self.quality), np.shape(self.computed)}
        sizes = {(len(np.atleast_1d(self.quality)),)}
        if shapes != sizes or not np.size(self.quality):
            raise InputError("calibration: a trial needs one quality and one computed share for each question")
        if not (np.isfinite(self.quality).all() and np.isfinite(self.computed).all()):
            raise InputError("calibration: quality and computed shares must be finite")


@dataclass(frozen=True, slots=True)
class Setting:
    """A line of the table.

    Args:
        alpha: that was tried.
        quality: mean over questions.
        low: lower end of its bootstrap interval.
        high: upper end.
        computed: mean share of rows computed.
        is_pareto: whether no other setting has more quality for as few rows, or as much for fewer.
        reaches: whether the lower end of its interval reaches the target.
    """

    alpha: float
    quality: float
    low: float
    high: float
    computed: float
    is_pareto: bool
    reaches: bool


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was found.

    Args:
        alpha: the setting with the fewest rows that reaches the target; None when none does.
        target: quality that was wanted.
        confidence: of the intervals.
        table: all that was tried, by alpha.
    """

    alpha: float | None
    target: float
    confidence: float
    table: tuple[Setting, ...]

    @property
    def best(self) -> Setting:
        """The chosen setting; when none reaches the target, the one with the highest lower end."""
        reaching = [one for one in self.table if one.reaches]
        if reaching:
            return min(reaching, key=lambda one: (one.computed, one.alpha))
        return max(self.table, key=lambda one: (one.low, -one.computed))


def bootstrap_interval(
    values: ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean.

    Args:
        values: one a question.
        confidence: of the interval, two-sided.
        resamples: how many.
        seed: of the draws.

    >>> bootstrap_interval([0.5, 0.5, 0.5])
    (0.5, 0.5)
    """
    given = np.asarray(values, np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(given), (resamples, len(given)))
    low, high = np.quantile(given[drawn].mean(1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def calibrate(
    evaluate: Callable[[float], Trial],
    *,
    target: float,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    refinements: int = 2,
    confidence: float = 0.95,
    seed: int = 0,
) -> Calibration:
    """Try alphas, then halve the gap below the one that is best.

    The target is held to be reached when the lower end of the bootstrap interval does: a mean over few questions
    promises nothing. The interval is that of one setting; the choice among several makes it a little too narrow.

    Args:
        evaluate: serves the questions with an alpha; they must not be those that filled the store.
        target: quality that is wanted.
        alphas: to try.
        refinements: further trials between the best alpha and the next lower one that was tried.
        confidence: of the intervals.
        seed: of the bootstrap.

    Raises:
        InputError: no alphas, a negative one, or a confidence outside 0 and 1.

    >>> def asked(alpha: float) -> Trial:  # what serving ten questions would give
    ...     return Trial(np.full(10, min(1.0, 0.7 + alpha)), np.full(10, 0.2 + alpha / 2))
    >>> found = calibrate(asked, target=0.9)
    >>> round(found.alpha, 3), round(found.best.computed, 2)
    (0.225, 0.31)
    """
    if not alphas or not all(0 <= alpha < float("inf") for alpha in alphas) or not 0 < confidence < 1:
        raise InputError("calibration: needs alphas of 0 or more, and a confidence between 0 and 1")
    trials = {float(alpha): evaluate(float(alpha)) for alpha in sorted(set(alphas))}
    for _ in range(refinements):
        best = _calibration(trials, target, confidence, seed).alpha
        lower = [alpha for alpha in trials if best is not None and alpha < best]
        if best is None or not lower:
            break
        between = (best + max(lower)) / 2
        trials[between] = evaluate(between)
    return _calibration(trials, target, confidence, seed)


def _calibration(trials: dict[float, Trial], target: float, confidence: float, seed: int) -> Calibration:
    points = {alpha: (float(t.quality.mean()), float(t.computed.mean())) for alpha, t in trials.items()}
    table = []
    for alpha in sorted(trials):
        quality, computed = points[alpha]
        low, high = bootstrap_interval(trials[alpha].quality, confidence=confidence, seed=seed)
        is_beaten = any(q >= quality and c <= computed and (q > quality or c < computed) for q, c in points.values())
        table.append(Setting(alpha, quality, low, high, computed, not is_beaten, low >= target))
    found = Calibration(None, target, confidence, tuple(table))
    return Calibration(found.best.alpha, target, confidence, found.table) if found.best.reaches else found
