"""Weights of a block of attention, against softmax in double precision."""

import numpy as np
import pytest
import torch

from nonet.ragcache.engine._grouped_kernels import weigh


@pytest.mark.parametrize("spread", [1e-3, 4.0, 80.0, 1e4])
@pytest.mark.parametrize("size", [1, 63, 64, 65, 300])
def test_weights_are_the_softmax_of_what_a_line_sees(spread, size):
    draws = np.random.default_rng(size)
    firsts = draws.integers(0, size, 7)
    lasts = firsts + draws.integers(1, size - firsts + 1)
    scores = (draws.standard_normal((21, size)) * spread).astype(np.float32)
    weights, sums = scores.copy(), np.empty(21, np.float32)
    weigh(weights, firsts, lasts, sums)
    for line in range(21):
        seen = slice(firsts[line // 3], lasts[line // 3])
        expected = np.zeros(size)
        expected[seen] = torch.from_numpy(scores[line, seen]).double().softmax(0).numpy()
        assert np.abs(weights[line] / sums[line] - expected).max() < 2e-6
        assert weights[line, seen].max() == pytest.approx(1.0, abs=1e-6)
        assert np.count_nonzero(weights[line, : seen.start]) == np.count_nonzero(weights[line, seen.stop :]) == 0


def test_small_weights_keep_their_ratio_to_the_largest():
    scores = np.linspace(-80, 0, 801, dtype=np.float32)[None]
    weights, sums = scores.copy(), np.empty(1, np.float32)
    weigh(weights, np.array([0]), np.array([801]), sums)
    assert np.abs(weights[0] / np.exp(scores[0].astype(np.float64)) - 1).max() < 2e-5
