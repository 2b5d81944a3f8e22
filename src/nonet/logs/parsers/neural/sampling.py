"""Adaptive random sampling: few lines to label that differ from each other.

Chen et al.: "Adaptive Random Testing: the ART of test case diversity", 2010, as used by LogPPT (Le, Zhang: "Log Parsing
with Prompt-based Few-shot Learning", ICSE 2023, section III-A).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def jaccard_distance(left: frozenset[str], right: frozenset[str]) -> float:
    """1 - |intersection| / |union|; 0 between two empty sets.

    >>> jaccard_distance(frozenset("ab"), frozenset("b"))
    0.5
    """
    union = len(left | right)
    return 1 - len(left & right) / union if union else 0.0


def adaptive_random_sample(
    lines: Sequence[str], size: int, *, rng: np.random.Generator, num_candidates: int = 128
) -> list[int]:
    """Choose lines one by one: the longest, then of `num_candidates` random ones the farthest from those chosen.

    Args:
        lines: where to choose from.
        size: how many; all lines if there are not more.
        rng: source of the candidates.
        num_candidates: random candidates in every round.

    Returns:
        Indices into `lines`, in the order chosen.

    >>> adaptive_random_sample(["a b", "a b c", "x y"], 2, rng=np.random.default_rng(0))
    [1, 2]
    """
    if not lines or size < 1:
        return []
    tokens = [frozenset(line.split()) for line in lines]
    chosen = [max(range(len(lines)), key=lambda line: len(lines[line]))]
    left = [line for line in range(len(lines)) if line != chosen[0]]
    # The distance to the nearest chosen line only shrinks, so one update a round keeps it.
    nearest = {line: jaccard_distance(tokens[line], tokens[chosen[0]]) for line in left}
    while left and len(chosen) < size:
        candidates = rng.choice(len(left), min(num_candidates, len(left)), replace=False)
        best = left.pop(max(candidates, key=lambda candidate: nearest[left[candidate]]))
        chosen.append(best)
        for line in left:
            nearest[line] = min(nearest[line], jaccard_distance(tokens[line], tokens[best]))
    return chosen
