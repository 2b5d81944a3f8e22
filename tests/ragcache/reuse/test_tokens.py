import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.ragcache.reuse.plan import SegmentPlan
from nonet.ragcache.reuse.tokens import guided_scores, num_of, picked, random_rows, shared_budget, top_rows
from tests.ragcache.reuse.parts import make_meta, make_prompt
from tests.ragcache.reuse.test_metrics import fit

SHARES = st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0.0, 0.1, 1.0, 7.5])), max_size=6)


@given(SHARES, st.integers(0, 300))
def test_a_budget_is_given_out_exactly_and_by_weight(chunks, total):
    sizes, weights = [size for size, _ in chunks], [weight for _, weight in chunks]
    given_out = shared_budget(total, weights, sizes)
    assert sum(given_out) == min(total, sum(sizes))
    assert all(0 <= rows <= size for rows, size in zip(given_out, sizes, strict=True))
    # Largest remainders: who is not full and weighs more never gets less than his share of what the others got.
    for rows, size, weight in zip(given_out, sizes, weights, strict=True):
        for other, other_weight in zip(given_out, weights, strict=True):
            if rows < size and weight > 0 and other_weight > 0:
                assert rows + 1 >= (other - 1) * weight / other_weight - 1e-6


def test_a_budget_where_nothing_weighs_goes_by_size():
    assert shared_budget(6, [0.0, 0.0], [4, 8]) == [2, 4]
    assert shared_budget(6, [1.0, 0.0, 0.0], [2, 4, 4]) == [2, 2, 2]
    assert shared_budget(0, [1.0], [5]) == [0]
    assert shared_budget(3, [], []) == []


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), max_size=12), st.integers(-1, 14))
def test_the_best_rows_equal_a_sort_of_pairs(scores, budget):
    rows = np.arange(len(scores)) + 100
    expected = sorted(
        row for _, row in sorted((-score, row) for score, row in zip(scores, rows, strict=True))[: max(0, budget)]
    )
    assert top_rows(rows, np.array(scores), budget).tolist() == expected


@pytest.mark.parametrize(
    ("share", "size", "expected"), [(0.3, 10, 3), (0.31, 10, 4), (1.0, 7, 7), (0.1, 0, 0), (1e-12, 5, 0)]
)
def test_rows_of_a_share(share, size, expected):
    assert num_of(share, size) == expected


def test_random_rows_repeat_and_cover_evenly():
    rows = np.arange(50, 60)
    assert random_rows(rows, 4, 1).tolist() == random_rows(rows, 4, 1).tolist()
    counts = np.zeros(10)
    for seed in range(2000):
        counts[random_rows(rows, 4, seed) - 50] += 1
    assert abs(counts / 2000 - 0.4).max() < 0.06


def parts_of(*variants):
    prompt = make_prompt(*((meta.chunk_key, meta.num_tokens) for meta, _ in variants))
    return [
        SegmentPlan(chunk, "reused", meta, np.empty(0, np.int64), overlap, "")
        for chunk, (meta, overlap) in zip(prompt.chunks, variants, strict=True)
    ]


def test_guided_scores_by_hand():
    parts = parts_of(
        (make_meta("A", ("X",), tokens=2, tau=[1, 3]), fit("X", [("X", 5), ("Y", 5)])),
        (make_meta("B", (), tokens=2), fit("", [("A", 2)])),
    )
    asked = np.array([9.0] * 4 + [0.1, 0.1, 0.2, 0.4] + [9.0] * 3)
    assert guided_scores(asked, parts, 0.0).tolist() == [0.1, 0.1, 0.2, 0.4]
    # A: misfit 0.5 (one of two neighbours was there), rows lean 0.5 and 1.5 of the mean; B: misfit 1, no tau.
    assert guided_scores(asked, parts, 1.0) == pytest.approx([0.1 * 0.25, 0.1 * 0.75, 0.2, 0.4])
    assert guided_scores(asked, parts, 0.5) == pytest.approx([0.1 * 0.5, 0.1 * 0.75**0.5, 0.2, 0.4], rel=1e-6)


def test_rows_compete_over_the_request_or_within_their_chunk():
    parts = parts_of(
        (make_meta("A", ("X",), tokens=3), fit("X", [])),
        (make_meta("B", ("X",), tokens=3), fit("X", [])),
    )
    scores = [np.array([5.0, 4.0, 3.0]), np.array([1.0, 2.0, 0.0])]
    assert picked(parts, scores, [1, 2], per_part=False).tolist() == [4, 5, 6]
    assert picked(parts, scores, [1, 2], per_part=True).tolist() == [4, 7, 8]
    assert picked([], [], [], per_part=False).tolist() == picked([], [], [], per_part=True).tolist() == []
