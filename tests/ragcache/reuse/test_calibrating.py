import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.ragcache.reuse.calibrating import Trial, bootstrap_interval, calibrate


def world(noise=0.0, num=200):
    """Quality 1 - 0.4 exp(-2 alpha), computed share 0.2 + 0.3 alpha, with noise of questions."""
    calls = []

    def evaluate(alpha):
        calls.append(alpha)
        draws = np.random.default_rng(5)
        quality = 1 - 0.4 * np.exp(-2 * alpha) + draws.normal(0, noise, num)
        return Trial(quality, np.full(num, min(1.0, 0.2 + 0.3 * alpha)))

    return evaluate, calls


def test_finds_the_least_alpha_that_reaches_the_target():
    evaluate, calls = world()
    found = calibrate(evaluate, target=0.9, refinements=8)
    assert found.alpha == pytest.approx(np.log(4) / 2, abs=0.002)
    assert found.alpha >= np.log(4) / 2
    assert sorted(set(calls)) == sorted(calls)
    assert [one.alpha for one in found.table] == sorted(calls)
    assert all(one.is_pareto for one in found.table)
    assert found.best.alpha == found.alpha


def test_noise_makes_it_more_careful():
    careful, plain = (calibrate(world(noise)[0], target=0.9, refinements=6) for noise in (0.3, 0.0))
    assert careful.alpha > plain.alpha
    assert all(one.low < one.quality < one.high for one in careful.table)
    assert careful.best.low >= 0.9


def test_a_target_out_of_reach():
    found = calibrate(world()[0], target=1.1)
    assert found.alpha is None
    assert found.best.alpha == 2.0
    assert not any(one.reaches for one in found.table)


def test_settings_that_are_beaten_are_no_pareto():
    quality = {0.0: 0.5, 1.0: 0.9, 2.0: 0.8}
    found = calibrate(
        lambda alpha: Trial(np.full(3, quality[alpha]), np.full(3, 0.2 * alpha)),
        target=0.85,
        alphas=list(quality),
        refinements=0,
    )
    assert [one.is_pareto for one in found.table] == [True, True, False]
    assert found.alpha == 1.0


def test_the_interval_covers_the_mean_as_often_as_it_says():
    draws = np.random.default_rng(0)
    hits = []
    for _ in range(300):
        low, high = bootstrap_interval(draws.exponential(1.0, 80), confidence=0.9, resamples=400)
        hits.append(low <= 1.0 <= high)
    assert 0.82 <= np.mean(hits) <= 0.95


def test_wrong_trials_and_numbers():
    for quality, computed in (([], []), ([1.0], [1.0, 2.0]), ([np.nan], [1.0]), (1.0, 1.0)):
        with pytest.raises(InputError, match="calibration"):
            Trial(np.array(quality), np.array(computed))
    for wrong in ({"alphas": []}, {"alphas": [-1.0]}, {"confidence": 1.0}):
        with pytest.raises(InputError, match="calibration"):
            calibrate(world()[0], target=0.9, **wrong)
