"""Peak and rises of a row-power series, and the thresholds that follow from them.

A cap lands up to `cap_latency_s` after it was sent, and until then power goes on rising: the largest rise within that
time is what must still fit between the upper threshold and the budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter1d
from scipy.special import gammaincinv

from nonet.common.errors import InputError

Floats = NDArray[np.float64]
TRAINING_RISE_2S = 0.25
_BLOCK_S = 86_400.0
_TAIL_SHARES = (0.05, 0.01, 0.002)
_FEWEST_CLUSTERS = 10


@dataclass(frozen=True, slots=True)
class RiseStatistics:
    """Rises within one window.

    Attributes:
        window_s: the window W.
        largest: max over t and 0 < d <= W of u(t+d) - u(t), fractions of the budget.
        quantile: quantile over t of the rise to t from the lowest of the W before, at the level asked for.
        bound: upper confidence bound of that quantile, see `analyse_rises`.
        at: index of the sample that the largest rise leads to.
    """

    window_s: float
    largest: float
    quantile: float
    bound: float
    at: int


@dataclass(frozen=True, slots=True)
class RiseReport:
    """What a row-power series says about oversubscription.

    Attributes:
        peak: highest sample, fraction of the budget.
        mean: of the samples, likewise.
        rises: one entry a window.
        t1: suggested lower threshold; None when the row is refused.
        t2: suggested upper threshold; None when the row is refused.
        seconds: length of the series.
        missing: share of its samples that are gaps.
        level: of `RiseStatistics.quantile`.
        confidence: of `RiseStatistics.bound`.
        training: rises of a quarter of the budget within two seconds, as synchronous training makes them.
    """

    peak: float
    mean: float
    rises: tuple[RiseStatistics, ...]
    t1: float | None
    t2: float | None
    seconds: float
    missing: float
    level: float
    confidence: float
    training: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        rises = [{name: getattr(rise, name) for name in RiseStatistics.__slots__} for rise in self.rises]
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "rises"}
        return {**plain, "rises": rises}


def rises_to(u: NDArray[np.floating[Any]], num_steps: int) -> Floats:
    """How far each sample lies above the lowest of the `num_steps` before it; NaN where there is none.

    Gaps (NaN) are no samples: a rise across a gap shorter than the window counts.

    >>> rises_to(np.array([1.0, 0.5, 0.75, 1.5]), 2).tolist()
    [nan, -0.5, 0.25, 1.0]
    """
    if num_steps < 1:
        raise InputError(f"rises: a window must hold at least one step, got {num_steps}")
    values = np.asarray(u, dtype=np.float64)
    if len(values) < 2:
        return np.full(len(values), np.nan)
    steps = min(num_steps, len(values) - 1)
    known = np.where(np.isnan(values), np.inf, values)
    # The filter's window ends at its own sample; shifted by one, it holds the `steps` samples before.
    lowest = minimum_filter1d(known, steps, mode="constant", cval=np.inf, origin=(steps - 1) // 2)
    before = np.concatenate([[np.inf], lowest[:-1]])
    return np.where(np.isfinite(before), values - np.where(np.isfinite(before), before, 0.0), np.nan)


def rise(u: NDArray[np.floating[Any]], window_s: float, period_s: float = 2.0) -> float:
    """Largest rise within a window: max over t and 0 < d <= window of u(t+d) - u(t).

    >>> rise(np.array([0.5, 0.45, 0.5, 0.55]), 4.0)
    0.1
    """
    rises = rises_to(u, _steps(window_s, period_s))
    known = rises[~np.isnan(rises)]
    return round(float(known.max()), 12) if len(known) else math.nan


def analyse_rises(
    power_w: NDArray[np.floating[Any]],
    budget_w: float,
    *,
    shifted: Sequence[NDArray[np.floating[Any]]] = (),
    period_s: float = 2.0,
    windows_s: Sequence[float] = (2.0, 5.0, 40.0),
    cap_latency_s: float = 40.0,
    margin: float = 0.0,
    threshold_gap: float = 0.09,
    level: float = 0.9999,
    confidence: float = 0.95,
    seed: int = 0,
) -> RiseReport:
    """Peak, rises and thresholds of a series.

    T2 leaves room for the larger of the largest rise seen within `cap_latency_s` and the bound of its quantile, less
    `margin`, rounded down to whole percents; T1 lies `threshold_gap` below (0.80 and 0.89 in the paper).

    The bound is the larger of two. One is the `confidence` quantile of the quantile over 200 resamplings of blocks
    (days, or twentieths of a short series), which never exceeds what was seen. The other takes the rises above their
    95, 99 and 99.8 % quantiles to fall off exponentially, with as many observations as there are separate groups of
    them, and uses the upper limits of their number and of their mean excess; in a series so long that one group above
    the quantile was surely seen, it stays below the largest rise. It holds from about a day of samples on,
    where rises have no heavier tail.

    Args:
        power_w: watts of each period, NaN in gaps.
        budget_w: of the row.
        shifted: the same log on grids that begin a part of a period earlier; every statistic is the largest over all.
        period_s: of the samples.
        windows_s: windows to report.
        cap_latency_s: longest time that a cap needs to land; always among the windows.
        margin: kept free besides, share of the budget.
        threshold_gap: T2 - T1.
        level: of the quantiles.
        confidence: of their bounds.
        seed: of the resampling.

    Raises:
        InputError: no budget, no samples, no period, or a window shorter than the period.

    >>> watts = 100_000 + 5_000 * np.sin(np.arange(2_000) / 40)
    >>> report = analyse_rises(watts, 140_000)
    >>> round(report.peak, 3), report.t1, report.t2, report.training
    (0.75, 0.88, 0.97, False)
    """
    if not (math.isfinite(budget_w) and budget_w > 0):
        raise InputError(f"budget must be above 0 W, got {budget_w}")
    u = np.asarray(power_w, dtype=np.float64) / budget_w
    known = u[~np.isnan(u)]
    if len(known) < 2:
        raise InputError("rises: fewer than two samples")
    windows = sorted({*windows_s, cap_latency_s})
    if not all(math.isfinite(w) for w in windows):
        raise InputError(f"rises: windows must be numbers of seconds, got {', '.join(f'{w:g}' for w in windows)}")
    if windows[0] < period_s:
        raise InputError(
            f"rises: samples every {period_s:g} s say nothing of rises within {windows[0]:g} s; ask for windows of at"
            f" least {period_s:g} s, or log more often"
        )
    grids = [u, *(np.asarray(other, dtype=np.float64) / budget_w for other in shifted)]
    found = {w: _statistics(grids, w, period_s, level, confidence, seed) for w in windows}
    training = max(rise(grid, max(2.0, period_s), period_s) for grid in grids) > TRAINING_RISE_2S
    needed = max(found[cap_latency_s].largest, found[cap_latency_s].bound)
    t2 = math.floor((1 - needed - margin) * 100 + 1e-9) / 100
    usable = not training and t2 - threshold_gap > 0
    return RiseReport(
        peak=max(float(np.nanmax(grid)) for grid in grids),
        mean=float(known.mean()),
        rises=tuple(found[w] for w in windows),
        t1=round(t2 - threshold_gap, 4) if usable else None,
        t2=t2 if usable else None,
        seconds=len(u) * period_s,
        missing=1 - len(known) / len(u),
        level=level,
        confidence=confidence,
        training=bool(training),
    )


def _statistics(
    grids: Sequence[Floats], window_s: float, period_s: float, level: float, confidence: float, seed: int
) -> RiseStatistics:
    steps = _steps(window_s, period_s)
    found = []
    for grid in grids:
        rises = rises_to(grid, steps)
        known = rises[~np.isnan(rises)]
        quantile = float(np.quantile(known, level))
        seen = _bootstrap_bound(known, period_s, level, confidence, seed)
        beyond = _tail_bound(known, steps, level, confidence)
        found.append((float(known.max()), quantile, max(quantile, seen, beyond), int(np.nanargmax(rises))))
    largest, quantile, bound = (max(values) for values in list(zip(*found, strict=True))[:3])
    return RiseStatistics(window_s, largest, quantile, bound, max(found)[3])


def _tail_bound(rises: Floats, steps: int, level: float, confidence: float) -> float:
    ordered = np.sort(rises)
    bound, expected = -math.inf, 0.0
    for share in _TAIL_SHARES:
        if share <= 2 * (1 - level):
            break
        threshold = ordered[int((1 - share) * len(ordered))]
        above = np.flatnonzero(rises > threshold)
        if not len(above):  # the rises end here, as those of a row that only steps up and down
            return float(threshold)
        clusters = 1 + int((np.diff(above) > steps).sum())
        if clusters < _FEWEST_CLUSTERS and bound > -math.inf:
            break
        # Upper limits of the mean of `clusters` exponential variables, and of a Poisson mean that gave `clusters`.
        excess = float((rises[above] - threshold).mean()) * clusters / float(gammaincinv(clusters, 1 - confidence))
        often = len(above) / len(rises) * float(gammaincinv(clusters + 1, confidence)) / clusters
        bound = max(bound, float(threshold) + excess * math.log(often / (1 - level)))
        expected = len(rises) * (1 - level) * clusters / len(above)
    # Groups above the quantile come as a Poisson number: where that many are expected, one was surely seen.
    surely_seen = expected >= -math.log(1 - confidence)
    return min(bound, float(ordered[-1])) if surely_seen else bound


def _bootstrap_bound(rises: Floats, period_s: float, level: float, confidence: float, seed: int) -> float:
    # A high quantile needs only the top of each block: what is below the level in every resampling is counted.
    length = max(1, min(int(_BLOCK_S / period_s), len(rises) // 20))
    num_blocks = max(1, len(rises) // length)
    floor = np.quantile(rises, max(0.0, 1 - 20 * (1 - level)))
    tops = [block[block >= floor] for block in np.array_split(rises, num_blocks)]
    sizes = np.array([len(block) for block in np.array_split(rises, num_blocks)])
    draws = np.random.Generator(np.random.Philox(seed))
    quantiles = []
    for _ in range(200):
        chosen = draws.integers(0, num_blocks, num_blocks)
        rank = max(1, math.ceil((1 - level) * int(sizes[chosen].sum())))
        pool = np.concatenate([tops[i] for i in chosen])
        quantiles.append(np.partition(pool, len(pool) - rank)[len(pool) - rank] if len(pool) >= rank else floor)
    return float(np.quantile(quantiles, confidence))


def _steps(window_s: float, period_s: float) -> int:
    if not period_s > 0:
        raise InputError(f"rises: the period must be above 0 s, got {period_s}")
    return max(1, math.floor(window_s / period_s + 1e-9))
