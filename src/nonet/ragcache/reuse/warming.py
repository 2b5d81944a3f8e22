"""Before anybody asks: each chunk is computed behind the chunks that it is most likely to be retrieved with.

Similar chunks are retrieved together, so a variant behind the most similar ones meets known neighbours (as FusionRAG
does). A group is computed in full and gives every chunk in it a variant behind those before it; groups that begin alike
share that beginning as an exact prefix, so neighbours are put in one order everywhere, frequent ones first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError

Group = tuple[int, ...]
_BLOCK = 1024


def most_similar(vectors: NDArray[np.floating], neighbours: int) -> NDArray[np.int64]:
    """The most similar others of each chunk by cosine, best first; of equal ones the first.

    Args:
        vectors: [n, d], embeddings; a zero vector is similar to none.
        neighbours: how many, at most n - 1.

    Returns:
        int64 [n, min(neighbours, n - 1)]. Memory: 1024 x n floats.

    Raises:
        InputError: not a table of finite numbers, or a negative number of neighbours.

    >>> most_similar(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]]), 1).tolist()
    [[2], [2], [0]]
    """
    table = np.asarray(vectors, np.float32)
    if table.ndim != 2 or not np.isfinite(table).all() or neighbours < 0:
        raise InputError("warming: needs finite vectors, one line a chunk, and no negative number of neighbours")
    num = len(table)
    count = min(neighbours, max(0, num - 1))
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    unit = table / np.where(lengths > 0, lengths, 1)
    found = np.empty((num, count), np.int64)
    for start in range(0, num, _BLOCK):
        scores = unit[start : start + _BLOCK] @ unit.T
        rows = np.arange(len(scores))
        scores[rows, start + rows] = -np.inf
        found[start : start + _BLOCK] = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return found


def warming_groups(nearest: NDArray[np.int64], num_tokens: Sequence[int], *, max_tokens: int) -> list[Group]:
    """What to compute, in order: for each chunk one group that ends with it, behind its most similar ones.

    A group that another one begins with is left out: its chunks get their variants there.

    Args:
        nearest: [n, neighbours], of `most_similar`.
        num_tokens: of each chunk.
        max_tokens: of a group; the least similar neighbours are left out where it would be longer. A chunk that is
            longer by itself is left out.

    Returns:
        Groups of numbers of chunks, so that those that begin alike follow each other.
    """
    often = Counter(int(one) for one in nearest.ravel())
    rank = {chunk: place for place, chunk in enumerate(sorted(range(len(nearest)), key=lambda one: (-often[one], one)))}
    groups: list[Group] = []
    for chunk, others in enumerate(nearest.tolist()):
        left = max_tokens - num_tokens[chunk]
        if left < 0 or num_tokens[chunk] == 0:
            continue
        before = []
        for other in others:
            if 0 < num_tokens[other] <= left:
                before.append(other)
                left -= num_tokens[other]
        groups.append((*sorted(before, key=lambda one: rank[one]), chunk))
    begun = {group[:size] for group in groups for size in range(1, len(group))}
    kept = [group for group in groups if group not in begun]
    return sorted(kept, key=lambda group: [rank[chunk] for chunk in group])
