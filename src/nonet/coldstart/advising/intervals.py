"""Block bootstrap: intervals of a ratio of sums over time.

Cold starts come in clusters, so single ones are no independent draws; blocks of time much longer than a keep-alive
nearly are. Blocks are drawn with replacement, numerator and denominator together (Künsch 1989, non-overlapping).
"""

from __future__ import annotations

import numpy as np

NUM_DRAWS = 2000
MIN_BLOCKS, MAX_BLOCKS = 10, 60


def block_edges(start_us: int, end_us: int, keep_alive_us: int) -> np.ndarray:
    """Edges of equal blocks, int64: ten keep-alives long (ten minutes at least), but no less than 10 and no more than
    60 blocks.

    >>> len(block_edges(0, 86_400_000_000, 60_000_000)) - 1
    60
    """
    length_us = max(10 * keep_alive_us, 600_000_000)
    num = int(np.clip((end_us - start_us) // length_us, MIN_BLOCKS, MAX_BLOCKS))
    return np.linspace(start_us, end_us, num + 1).astype(np.int64)


def ratio_interval(
    numerator: np.ndarray, denominator: np.ndarray, *, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of `sum(numerator) / sum(denominator)`; NaN when the denominator is 0 throughout.

    Args:
        numerator, denominator: (blocks,).
        seed: of the draws.
        level: of the interval.

    >>> low, high = ratio_interval(np.array([5, 6, 4, 5]), np.array([10, 10, 10, 10]))
    >>> 0.4 <= low <= 0.5 <= high <= 0.6
    True
    """
    num = len(numerator)
    draws = np.random.default_rng(seed).multinomial(num, np.full(num, 1 / num), NUM_DRAWS)
    bottom = draws @ np.asarray(denominator, float)
    top = draws @ np.asarray(numerator, float)
    ratios = top[bottom > 0] / bottom[bottom > 0]
    if not len(ratios):
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return float(low), float(high)
