"""Rises against the definition, written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import norm

from nonet.common.errors import InputError
from nonet.power.load.rises import _tail_bound, analyse_rises, rise, rises_to


def plain_rise(u, steps):
    """max over t and 0 < d <= steps of u(t + d) - u(t), by two loops."""
    best = -np.inf
    for t in range(len(u)):
        for d in range(1, steps + 1):
            if t + d < len(u) and not np.isnan(u[t]) and not np.isnan(u[t + d]):
                best = max(best, u[t + d] - u[t])
    return best


@settings(max_examples=300)
@given(
    st.lists(st.one_of(st.integers(0, 50).map(lambda k: k / 50), st.just(np.nan)), min_size=2, max_size=40),
    st.integers(1, 45),
)
def test_rise_is_its_definition(values, steps):
    u = np.array(values)
    expected = plain_rise(u, steps)
    found = rise(u, 2.0 * steps)
    if np.isinf(expected):
        assert np.isnan(found)
    else:
        assert found == pytest.approx(expected, abs=1e-12)


def test_windows_count_whole_periods():
    u = np.array([0.0, 0.1, 0.3, 0.6])
    assert rise(u, 5.0) == pytest.approx(0.5)
    assert rise(u, 6.0) == pytest.approx(0.6)
    assert np.isnan(rises_to(u, 1)[0])


def test_thresholds_leave_room_for_the_rise():
    rng = np.random.default_rng(0)
    u = 0.65 + 0.005 * rng.standard_normal(200_000)
    u[1000:1010] += 0.118
    report = analyse_rises(u * 200_000, 200_000)
    largest = plain = max(plain_rise(u[900:1100], 20), rise(u, 40.0))
    assert report.rises[-1].window_s == 40.0
    assert report.rises[-1].largest == pytest.approx(largest, abs=1e-9)
    assert report.t2 is not None and report.t1 is not None
    assert report.t2 <= 1 - plain < report.t2 + 0.011
    assert report.t1 == pytest.approx(report.t2 - 0.09)
    assert not report.training


def _noise(generator, num, kind):
    """Watts over budget of rows that wander and burst, with memory of about a minute."""
    wander = lfilter([1.0], [1.0, -0.95], generator.normal(0.0, 0.004, num))
    if kind == "bursts":
        bursts = np.where(generator.random(num) < 1 / 2000, generator.exponential(0.02, num), 0.0)
        wander = wander + lfilter([1.0], [1.0, -0.9], bursts)
    return 0.6 + wander


@pytest.mark.parametrize("kind", ["wander", "bursts"])
@pytest.mark.parametrize("hours", [6, 24])
def test_bound_covers_the_true_quantile(kind, hours):
    # The truth comes from forty days; the bound from a few hours, 200 times, at a level of which they saw few cases.
    steps, level, num = 20, 0.999, hours * 600
    truth = np.nanquantile(rises_to(_noise(np.random.default_rng(0), 40 * 14_400, kind), steps), level)
    covered, wide = 0, []
    for seed in range(200):
        u = _noise(np.random.default_rng(1 + seed), num, kind)
        bound = _tail_bound(rises_to(u, steps)[steps:], steps, level, 0.95)
        covered += bound >= truth
        wide.append(bound / truth)
    assert covered >= 187  # 190 expected; 187 or fewer happen once in ten at exactly 95 %
    assert np.median(wide) < 1.6


def test_bound_exceeds_what_a_short_series_saw_and_holds_of_white_noise():
    # Of white noise the rise within one step has the law N(0, 2): its quantile is known.
    true = norm.ppf(0.999) * np.sqrt(2) * 0.01
    covered = 0
    for seed in range(40):
        u = 0.6 + 0.01 * np.random.default_rng(seed).standard_normal(20_000)
        report = analyse_rises(u * 1e5, 1e5, windows_s=(2.0,), level=0.999, seed=seed)
        covered += report.rises[0].bound >= true
    assert covered >= 38
    short = 0.6 + 0.01 * np.random.default_rng(1).standard_normal(600)
    found = analyse_rises(short * 1e5, 1e5).rises[-1]
    assert found.bound > found.largest


def test_rises_that_end_are_not_extrapolated():
    steps_up_and_down = 0.6 + 0.08 * (np.arange(20_000) // 60 % 2)
    found = analyse_rises(steps_up_and_down * 1e5, 1e5).rises
    assert [one.bound for one in found] == pytest.approx([0.08] * 3)


def test_a_long_series_is_its_own_bound():
    # Rare jumps of one height: an exponential tail over the noise between them would end far above.
    draws = np.random.default_rng(3)
    u = 0.5 + 0.001 * draws.standard_normal(200_000) + 0.05 * (np.cumsum(draws.random(200_000) < 1 / 1500) % 2)
    found = analyse_rises(u * 1e5, 1e5, level=0.999).rises
    assert all(one.bound <= one.largest for one in found)


def test_every_statistic_is_the_largest_over_the_grids():
    calm, rough = np.full(1000, 0.5), np.full(1000, 0.5)
    rough[700:] = 0.6
    report = analyse_rises(calm * 1e5, 1e5, shifted=[rough * 1e5])
    assert report.rises[0].largest == pytest.approx(0.1)
    assert report.rises[0].at == 700
    assert report.peak == pytest.approx(0.6)


def test_windows_are_numbers():
    with pytest.raises(InputError, match="numbers of seconds"):
        analyse_rises(np.ones(100), 1.0, windows_s=(float("nan"),))


def test_training_is_refused():
    swings = np.tile([0.9, 0.9, 0.5, 0.9], 5000)
    report = analyse_rises(swings * 1e5, 1e5)
    assert report.training
    assert report.t1 is None and report.t2 is None


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan")])
def test_no_budget(budget):
    with pytest.raises(InputError, match="budget"):
        analyse_rises(np.ones(10), budget)


def test_too_short():
    with pytest.raises(InputError, match="two samples"):
        analyse_rises(np.array([1.0, np.nan]), 1.0)
