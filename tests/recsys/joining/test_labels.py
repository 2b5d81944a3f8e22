"""Weights of the fake-negative policy, and sampling, against what they are to bring about."""

from __future__ import annotations

import numpy as np
import pytest

from nonet.recsys.joining import SAMPLINGS, ActionRate, FeatureRate, fake_negative_weights
from nonet.recsys.joining.sampling import is_kept


@pytest.mark.parametrize("p", [0.01, 0.2, 0.9])
@pytest.mark.parametrize("guess", [0.05, 0.5])
def test_fake_negatives_weighted_give_the_loss_of_the_true_rate(p: float, guess: float) -> None:
    # Of n rows n go out as negatives at once, and n p as positives later.
    n = 1000
    label = np.concatenate([np.zeros(n), np.ones(round(n * p))])
    weight = fake_negative_weights(label, np.full(len(label), p))
    loss = -(label * np.log(guess) + (1 - label) * np.log(1 - guess))
    true = -(p * np.log(guess) + (1 - p) * np.log(1 - guess))
    assert (weight * loss).sum() / len(label) == pytest.approx(true, rel=1e-3)


def test_a_smaller_rate_keeps_a_part_of_a_larger_one() -> None:
    keys = [b"%d" % n for n in range(5000)]
    kept = {rate: {key for key in keys if is_kept(key, rate, seed=3)} for rate in (0.0, 0.1, 0.5, 1.0)}
    assert kept[0.0] < kept[0.1] < kept[0.5] < kept[1.0] == set(keys)
    for rate in (0.1, 0.5):
        assert abs(len(kept[rate]) - 5000 * rate) < 4 * (5000 * rate * (1 - rate)) ** 0.5
    assert kept[0.5] != {key for key in keys if is_kept(key, 0.5, seed=4)}


def test_rates_by_feature_and_by_action() -> None:
    by_feature, by_action = (
        FeatureRate("f", {-1: 0.2}, default=0.3),
        ActionRate({"like": 0.4, "share": 0.9}, default=0.1),
    )
    assert [by_feature.rate(ids, ()) for ids in ({"f": [-1, 5]}, {"f": [5]}, {"f": []}, {})] == [0.2, 0.3, 0.3, 0.3]
    assert [by_action.rate({}, seen) for seen in ((), {"x"}, {"like"}, {"like", "share"})] == [0.1, 0.1, 0.4, 0.9]
    assert list(SAMPLINGS) == ["constant", "feature", "action"]
