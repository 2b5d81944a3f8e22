import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.ragcache.reuse.warming import most_similar, warming_groups


def test_neighbours_equal_scipys_cosines():
    from scipy.spatial.distance import cdist

    vectors = np.random.default_rng(0).normal(size=(1500, 8))
    distances = cdist(vectors, vectors, "cosine")
    np.fill_diagonal(distances, np.inf)
    assert (most_similar(vectors, 3) == np.argsort(distances, 1)[:, :3]).mean() > 0.999


def test_few_chunks_zero_vectors_and_wrong_ones():
    assert most_similar(np.ones((1, 2)), 3).shape == (1, 0)
    assert most_similar(np.zeros((0, 2)), 3).shape == (0, 0)
    assert most_similar(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), 1).tolist() == [[1], [2], [1]]
    for wrong in (np.ones(3), np.array([[np.nan]])):
        with pytest.raises(InputError, match="warming"):
            most_similar(wrong, 1)


@given(st.integers(1, 8), st.integers(0, 4), st.integers(0, 40), st.data())
def test_each_chunk_ends_a_group_or_stands_within_one_behind_its_neighbours(num, neighbours, max_tokens, data):
    sizes = data.draw(st.lists(st.integers(0, 12), min_size=num, max_size=num))
    vectors = np.random.default_rng(num).normal(size=(num, 3))
    nearest = most_similar(vectors, neighbours)
    groups = warming_groups(nearest, sizes, max_tokens=max_tokens)
    computed = {group[:size] for group in groups for size in range(1, len(group) + 1)}
    for chunk in range(num):
        behind = [set(beginning[:-1]) for beginning in computed if beginning[-1] == chunk]
        if not 0 < sizes[chunk] <= max_tokens:
            assert not behind
            continue
        left, expected = max_tokens - sizes[chunk], set()
        for other in nearest[chunk].tolist():
            if 0 < sizes[other] <= left:
                expected.add(other)
                left -= sizes[other]
        assert expected in behind
    assert len(set(groups)) == len(groups)
    for group in groups:
        assert len(set(group)) == len(group)
        assert sum(sizes[chunk] for chunk in group) <= max_tokens


def test_groups_share_their_beginnings():
    nearest = np.array([[1], [0], [0], [0]])
    groups = warming_groups(nearest, [10] * 4, max_tokens=100)
    assert groups == [(0, 1), (0, 2), (0, 3), (1, 0)]
