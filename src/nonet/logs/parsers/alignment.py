"""Smith-Waterman alignment of two token sequences, and the pattern that both share.

Smith, Waterman: "Identification of common molecular subsequences", J. Mol. Biol. 147, 1981. LogMine (CIKM 2016, section
4.3) merges two patterns by it: an equal column scores 10, an unequal one 1, a gap 0; unequal columns become wildcards.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

WILDCARD_TOKEN = 0
"""The number that stands for the wildcard in every encoded sequence."""

EQUAL_SCORE = 10
UNEQUAL_SCORE = 1

MAX_CELLS = 64_000_000
"""Largest score table (four bytes a cell); longer pairs are compared column by column, the rest being one wildcard."""


@njit(cache=True, nogil=True)
def alignment_scores(left: NDArray[np.int32], right: NDArray[np.int32]) -> NDArray[np.int32]:
    """The score table: cell (i, j) is the best score of the first i and first j tokens. Gaps cost nothing.

    Returns:
        int32 array, shape (len(left) + 1, len(right) + 1).
    """
    scores = np.zeros((len(left) + 1, len(right) + 1), np.int32)
    for i in range(1, len(left) + 1):
        for j in range(1, len(right) + 1):
            pair = EQUAL_SCORE if left[i - 1] == right[j - 1] else UNEQUAL_SCORE
            scores[i, j] = max(scores[i - 1, j - 1] + pair, scores[i - 1, j], scores[i, j - 1])
    return scores


@njit(cache=True, nogil=True)
def _trace(
    left: NDArray[np.int32], right: NDArray[np.int32], scores: NDArray[np.int32], keep_head: bool
) -> NDArray[np.int32]:
    """Walk the table back from its last cell, which no other cell exceeds; pairs before gaps."""
    i, j = len(left), len(right)
    pattern = np.empty(i + j, np.int32)
    length = 0
    while i > 0 and j > 0:
        equal = left[i - 1] == right[j - 1]
        pattern[length] = WILDCARD_TOKEN
        if scores[i, j] == scores[i - 1, j - 1] + (EQUAL_SCORE if equal else UNEQUAL_SCORE):
            if equal:
                pattern[length] = left[i - 1]
            i, j = i - 1, j - 1
        elif scores[i, j] == scores[i - 1, j]:
            i -= 1
        else:
            j -= 1
        length += 1
    if keep_head:
        pattern[length : length + i + j] = WILDCARD_TOKEN
        length += i + j
    return pattern[:length][::-1].copy()


def merge_patterns(
    left: NDArray[np.int32], right: NDArray[np.int32], *, keep_head: bool = True, max_cells: int = MAX_CELLS
) -> NDArray[np.int32]:
    """The pattern that two token sequences share: equal columns keep their token, unequal ones and gaps are wildcards.

    Args:
        left: token numbers; 0 is the wildcard.
        right: the other sequence.
        keep_head: whether tokens before the first aligned column become wildcards too; a local alignment drops them.
        max_cells: largest score table; a longer pair is compared column by column.

    >>> merge_patterns(np.array([5, 6, 7], np.int32), np.array([5, 9, 7], np.int32)).tolist()
    [5, 0, 7]
    >>> merge_patterns(np.array([4, 5, 6], np.int32), np.array([5, 6], np.int32)).tolist()
    [0, 5, 6]
    >>> merge_patterns(np.array([4, 5, 6], np.int32), np.array([5, 6], np.int32), keep_head=False).tolist()
    [5, 6]
    """
    if (len(left) + 1) * (len(right) + 1) > max_cells:
        shared = min(len(left), len(right))
        columns = np.where(left[:shared] == right[:shared], left[:shared], WILDCARD_TOKEN)
        rest = [WILDCARD_TOKEN] if len(left) != len(right) else []
        return np.append(columns, rest).astype(np.int32)
    return _trace(left, right, alignment_scores(left, right), keep_head)
