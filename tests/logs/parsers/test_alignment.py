"""Alignment against every possible alignment of short sequences, and merged patterns worked by hand."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.logs.parsers.alignment import alignment_scores, merge_patterns

TOKENS = st.lists(st.integers(1, 3), max_size=6)


def encoded(tokens: list[int]) -> np.ndarray:
    return np.array(tokens, np.int32)


def best_score(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """By trying all alignments: pair the first tokens, or leave one of them out."""

    @cache
    def best(i: int, j: int) -> int:
        if i == len(left) or j == len(right):
            return 0
        pair = 10 if left[i] == right[j] else 1
        return max(pair + best(i + 1, j + 1), best(i + 1, j), best(i, j + 1))

    return best(0, 0)


@settings(deadline=None)
@given(TOKENS, TOKENS)
def test_last_score_is_that_of_the_best_of_all_alignments(left: list[int], right: list[int]) -> None:
    scores = alignment_scores(encoded(left), encoded(right))
    assert scores[-1, -1] == best_score(tuple(left), tuple(right)) == scores.max()


def fits(pattern: list[int], tokens: list[int]) -> bool:
    """Whether constants stand in order in the tokens, a wildcard being any one token or none."""
    if not pattern:
        return not tokens
    if pattern[0] == 0:
        return fits(pattern[1:], tokens) or (bool(tokens) and fits(pattern[1:], tokens[1:]))
    return bool(tokens) and tokens[0] == pattern[0] and fits(pattern[1:], tokens[1:])


@settings(deadline=None)
@given(TOKENS, TOKENS)
def test_merged_pattern_fits_both_sequences(left: list[int], right: list[int]) -> None:
    merged = merge_patterns(encoded(left), encoded(right)).tolist()
    assert fits(merged, left)
    assert fits(merged, right)
    assert best_score(tuple(left), tuple(right)) // 10 <= sum(token != 0 for token in merged)


@settings(deadline=None)
@given(TOKENS)
def test_equal_sequences_merge_to_themselves(tokens: list[int]) -> None:
    assert merge_patterns(encoded(tokens), encoded(tokens)).tolist() == tokens


def test_gaps_and_unequal_columns_become_wildcards() -> None:
    assert merge_patterns(encoded([1, 2, 3, 4]), encoded([1, 3, 5])).tolist() == [1, 0, 3, 0]
    assert merge_patterns(encoded([9, 8, 1]), encoded([1])).tolist() == [0, 0, 1]
    assert merge_patterns(encoded([9, 8, 1]), encoded([1]), keep_head=False).tolist() == [1]


def test_pairs_beyond_the_table_are_compared_column_by_column() -> None:
    assert merge_patterns(encoded([1, 2, 3]), encoded([1, 3]), max_cells=4).tolist() == [1, 0, 0]
    assert merge_patterns(encoded([1, 2]), encoded([1, 3]), max_cells=4).tolist() == [1, 0]
