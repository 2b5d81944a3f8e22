"""NSGA-II's two rankings, and the knee of a front; all objectives are maximised.

Deb, Pratap, Agarwal, Meyarivan: "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Transactions on
Evolutionary Computation 6(2), 2002, sections III-A and III-B.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dominates(objectives: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which point dominates which: nowhere worse, somewhere better.

    Args:
        objectives: shape (points, objectives).

    Returns:
        Shape (points, points): cell (i, j) says that i dominates j.
    """
    ours, theirs = objectives[:, None, :], objectives[None, :, :]
    nowhere_worse: NDArray[np.bool_] = np.all(ours >= theirs, axis=2)
    return nowhere_worse & np.any(ours > theirs, axis=2)


def front_ranks(objectives: NDArray[np.float64]) -> NDArray[np.int64]:
    """Front of every point: 0 if nothing dominates it, else 1 more than the last front that holds a dominating point.

    >>> front_ranks(np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 0.0]])).tolist()
    [0, 0, 1]
    """
    dominated_by = dominates(objectives)
    ranks = np.full(len(objectives), -1, np.int64)
    rank = 0
    while (ranks < 0).any():
        left = ranks < 0
        ranks[left & ~dominated_by[left].any(axis=0)] = rank
        rank += 1
    return ranks


def crowding_distances(objectives: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the neighbours of every point of one front lie apart, over all scaled objectives; infinite at the ends.

    >>> crowding_distances(np.array([[0.0, 4.0], [1.0, 3.0], [4.0, 0.0]])).tolist()
    [inf, 2.0, inf]
    """
    distances = np.zeros(len(objectives))
    for values in objectives.T:
        order = np.argsort(values, kind="stable")
        spread = values[order[-1]] - values[order[0]] if len(order) else 0.0
        distances[order[:1]] = distances[order[-1:]] = np.inf
        if spread > 0 and len(order) > 2:
            distances[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / spread
    return distances


def crowded_order(objectives: NDArray[np.float64]) -> NDArray[np.int64]:
    """Points from best to worst: lower front first, within a front the less crowded first.

    >>> crowded_order(np.array([[0.0, 0.0], [0.0, 4.0], [1.0, 3.0], [4.0, 0.0]])).tolist()
    [1, 3, 2, 0]
    """
    ranks, crowding = ranks_and_crowding(objectives)
    return np.lexsort((-crowding, ranks))


def ranks_and_crowding(objectives: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The front of every point, and its crowding distance within that front."""
    ranks = front_ranks(objectives)
    crowding = np.empty(len(objectives))
    for rank in range(int(ranks.max(initial=-1)) + 1):
        members = np.flatnonzero(ranks == rank)
        crowding[members] = crowding_distances(objectives[members])
    return ranks, crowding


def knee_point(objectives: NDArray[np.float64]) -> int:
    """The point of a front of two objectives that lies farthest above the line between the front's two ends.

    Both objectives are scaled to [0, 1] first; of equals (the ends, if nothing lies between) the one with the larger
    sum of unscaled objectives.

    >>> knee_point(np.array([[0.0, 1.0], [0.9, 0.9], [1.0, 0.0]]))
    1
    """
    low, high = objectives.min(axis=0), objectives.max(axis=0)
    scaled = (objectives - low) / np.where(high > low, high - low, 1.0)
    heights = scaled.sum(axis=1)
    farthest = heights >= heights.max() - 1e-9
    return int(np.argmax(np.where(farthest, objectives.sum(axis=1), -np.inf)))
