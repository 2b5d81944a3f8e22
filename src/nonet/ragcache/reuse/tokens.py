"""Which rows of reused chunks are computed anew, and how a budget is shared among chunks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nonet.ragcache.reuse.plan import NO_ROWS, Rows, SegmentPlan

# Takes back what rounding adds: 0.15 * 100 is a little more than 15.
_SMALL = 1e-9


def num_of(share: float, size: int) -> int:
    """Rows of a share, rounded up.

    >>> num_of(0.15, 100), num_of(0.151, 100), num_of(0.0, 100)
    (15, 16, 0)
    """
    return min(size, max(0, math.ceil(share * size - _SMALL)))


def top_rows(rows: Rows, scores: NDArray[np.floating], budget: int) -> Rows:
    """The rows with the highest scores; of equal ones the earlier.

    Args:
        rows: to choose from.
        scores: of each.
        budget: how many.

    Returns:
        int64, rising.

    >>> top_rows(np.array([4, 5, 6]), np.array([0.1, 0.9, 0.9]), 1).tolist()
    [5]
    """
    if budget <= 0:
        return rows[:0]
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")[:budget]
    return np.sort(rows[order])


def random_rows(rows: Rows, budget: int, seed: int) -> Rows:
    """Rows drawn evenly, the same for the same seed."""
    drawn = np.random.default_rng(seed).permutation(len(rows))[:budget]
    return np.sort(rows[drawn])


def shared_budget(total: int, weights: Sequence[float], sizes: Sequence[int]) -> list[int]:
    """Share rows among chunks by weight, none getting more than it has.

    Args:
        total: rows in all; at most the sum of the sizes are given.
        weights: of the chunks, none negative; where all that is left weighs nothing, by size.
        sizes: rows of the chunks.

    Returns:
        Whole numbers that add up to the total; where they cannot be the exact shares, the largest remainders, and of
        equal ones the first, get one more.

    >>> shared_budget(10, [3.0, 1.0], [4, 20])
    [4, 6]
    >>> shared_budget(5, [1.0, 1.0, 1.0], [9, 9, 9])
    [2, 2, 1]
    """
    size, weight = np.asarray(sizes, np.int64), np.asarray(weights, np.float64)
    given = np.zeros(len(size), np.int64)
    left = min(total, int(size.sum()))
    while left > 0:
        is_open = given < size
        share = np.where(is_open, weight, 0.0)
        if share.sum() <= 0:
            share = np.where(is_open, size, 0).astype(np.float64)
        wanted = left * (share / share.sum())
        is_full = is_open & (wanted >= size)
        if is_full.any():
            given[is_full] = size[is_full]
            left -= int(size[is_full].sum())
            continue
        whole = np.floor(wanted).astype(np.int64)
        rest = left - int(whole.sum())
        whole[np.argsort((whole - wanted).round(9), kind="stable")[:rest]] += 1
        given += whole
        left = 0
    return [int(rows) for rows in given]


def guided_scores(asked: NDArray[np.floating], parts: Sequence[SegmentPlan], tau_power: float) -> NDArray[np.float64]:
    """How much it would help the answer to compute each row anew: it is read, and it is out of date.

    The score of a row is `attention of the question * staleness ** tau_power`. Its staleness is the misfit of the
    chunk's variant, new neighbours counted (1 - symmetric), times how much the row leant on its old neighbours, as a
    ratio to the mean row of its chunk; for chunks that were computed with nothing before them, all rows lean alike.

    Args:
        asked: [n], attention of the question's rows onto each row of the prompt, over all layers.
        parts: reused segments.
        tau_power: 0 leaves the question's attention alone; 1 counts staleness as much.

    Returns:
        One score a row, in the order of the segments.
    """
    pieces = [np.empty(0)]
    for part in parts:
        attention = np.asarray(asked[part.segment.start : part.segment.stop], np.float64)
        stale = np.full(len(attention), 1.0)
        if tau_power and part.variant is not None and part.overlap is not None:
            tau = part.variant.tau.astype(np.float64)
            leant = tau / tau.mean() if tau.any() else np.ones(len(tau))
            # A little for all, so that rows beyond all staleness are still told apart by attention.
            stale = (1 - part.overlap.symmetric) * leant + _SMALL
        pieces.append(attention * stale**tau_power)
    return np.concatenate(pieces)


def picked(
    parts: Sequence[SegmentPlan], scores: Sequence[NDArray[np.floating]], budgets: Sequence[int], *, per_part: bool
) -> Rows:
    """The best rows of reused segments.

    Args:
        parts: in order of the prompt.
        scores: of the rows of each.
        budgets: rows of each.
        per_part: each segment keeps its budget; else all rows compete for the sum.

    Returns:
        int64, rising.
    """
    if per_part:
        chosen = [top_rows(part.all_rows, mine, n) for part, mine, n in zip(parts, scores, budgets, strict=True)]
        return np.concatenate([NO_ROWS, *chosen])
    rows = np.concatenate([NO_ROWS, *(part.all_rows for part in parts)])
    return top_rows(rows, np.concatenate([np.empty(0), *scores]), sum(budgets))
