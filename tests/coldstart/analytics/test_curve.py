"""Curves against plain counting, and the laws of the paper from their moments (E1)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.coldstart.analytics.curve import Curve, curve_of_values, published_curve
from nonet.coldstart.analytics.distances import ks, ks_within, pearson
from nonet.coldstart.analytics.raw import LogHistogram
from nonet.coldstart.laws import LogNormal, Weibull
from nonet.common.errors import InputError

VALUES = st.lists(st.integers(0, 50), min_size=1, max_size=60).filter(lambda values: max(values) > 0)


@given(VALUES, st.integers(1, 60))
def test_shares_of_values_are_counted(values: list[int], x: int) -> None:
    curve = curve_of_values(values)
    # Only at a value, or outside of all, is a step law known: between two it is drawn as a line.
    if x in values or x >= max(values):
        assert curve.at(x)[0] == pytest.approx(sum(v <= x for v in values) / len(values))
    if x in values:
        assert curve.at(x, "left")[0] == pytest.approx(sum(v < x for v in values) / len(values))


@given(VALUES, st.floats(0.001, 1.0))
def test_a_quantile_is_the_smallest_value_that_reaches_the_share(values: list[int], share: float) -> None:
    found = curve_of_values(values).quantile(share)[0]
    smallest = min(v for v in values if sum(w <= v for w in values) / len(values) >= share - 1e-12)
    below = [v for v in values if v < smallest]
    # On a step the quantile is the value, between two it lies on the line that joins them.
    assert found <= smallest * (1 + 1e-9)
    assert not below or found >= max(below) * (1 - 1e-9)


@settings(deadline=None)
@given(VALUES, VALUES)
def test_ks_is_the_largest_difference_of_counted_shares(first: list[int], second: list[int]) -> None:
    # Ours joins values by lines: the laws are only comparable when both have a step at every value.
    a, b = ([v + 1 for v in values] + list(range(1, 52)) for values in (first, second))
    expected = max(abs(sum(v <= x for v in a) / len(a) - sum(v <= x for v in b) / len(b)) for x in range(1, 52))
    one, two = curve_of_values(a), curve_of_values(b)
    assert ks(one, two)[0] == pytest.approx(expected, abs=1e-9)
    assert 0 <= ks_within(one, two)[0] <= ks(one, two)[0] + 1e-12


def test_a_plot_that_was_cut_does_not_know_what_lies_outside() -> None:
    curve = published_curve([0.1, 1.0, 10.0], [0.2, 0.5, 0.9])
    assert np.isnan(curve.at([0.01, 100.0])).all()
    assert curve.at(1.0)[0] == 0.5
    assert np.isnan(curve.quantile([0.1, 0.95])).all()
    assert curve.quantile(0.7)[0] == pytest.approx(10**0.5)
    assert curve.is_cut_left and curve.is_cut_right


def test_a_whole_plot_knows_its_ends() -> None:
    curve = published_curve([0.1, 10.0], [0.0, 1.0])
    assert curve.at([0.01, 100.0]).tolist() == [0.0, 1.0]
    assert curve.quantile([0.0, 0.5, 1.0]) == pytest.approx([0.1, 1.0, 10.0])


@pytest.mark.parametrize(("x", "cdf"), [([2.0, 1.0], [0.0, 1.0]), ([1.0, 2.0], [1.0, 0.0]), ([0.0], [1.0]), ([], [])])
def test_a_curve_that_is_none_is_refused(x: list[float], cdf: list[float]) -> None:
    with pytest.raises(InputError, match="rising order"):
        Curve(np.array(x), np.array(cdf))


def test_a_shifted_step_is_a_distance_only_beyond_the_reading_error() -> None:
    step, near, far = (Curve(np.array([x, x]), np.array([0.0, 1.0])) for x in (1.0, 1.004, 1.02))
    assert ks(step, near)[0] == 1.0
    assert ks_within(step, near)[0] == 0.0
    assert ks_within(step, far)[0] == 1.0


def test_moments_give_the_laws_of_the_paper() -> None:
    lognormal, weibull = LogNormal.from_moments(3.24, 7.10), Weibull.from_moments(1.25, 3.66)
    assert (lognormal.mu, lognormal.sigma) == pytest.approx((0.2965, 1.3260), abs=1e-3)
    assert (weibull.shape, weibull.scale) == pytest.approx((0.4176, 0.4217), abs=1e-3)
    assert lognormal.moments() == pytest.approx((3.24, 7.10))
    assert weibull.moments() == pytest.approx((1.25, 3.66))


def test_a_fit_to_a_million_values_recovers_each_parameter_within_one_percent() -> None:
    rng = np.random.default_rng(11)
    lognormal = LogNormal.fit(np.exp(0.2965 + 1.3260 * rng.standard_normal(1_000_000)))
    weibull = Weibull.fit(0.4217 * (-np.log(rng.random(1_000_000))) ** (1 / 0.4176))
    assert (lognormal.mu, lognormal.sigma) == pytest.approx((0.2965, 1.3260), rel=0.01)
    assert (weibull.shape, weibull.scale) == pytest.approx((0.4176, 0.4217), rel=0.01)


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0], [0.0, -1.0, np.nan]])
def test_what_cannot_be_fitted_is_refused(values: list[float]) -> None:
    with pytest.raises(InputError, match="at least two different positive values"):
        LogNormal.fit(values)


def test_moments_that_no_law_has_are_refused() -> None:
    with pytest.raises(InputError, match="positive numbers"):
        LogNormal.from_moments(-1.0, 1.0)
    with pytest.raises(InputError, match="too far off"):
        Weibull.from_moments(1.0, 1e-9)


@settings(deadline=None)  # the first call loads a compiled kernel
@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=200), st.integers(0, 5))
def test_a_histogram_gives_quantiles_within_a_bin_and_adds_up(values: list[float], num_zero: int) -> None:
    half = len(values) // 2
    whole, first, second = LogHistogram(), LogHistogram(), LogHistogram()
    whole.add(np.array([*values, *[0.0] * num_zero]))
    first.add(np.array(values[:half]))
    second.add(np.array([*values[half:], *[0.0] * num_zero]))
    first.merge(second)
    assert (first.counts == whole.counts).all() and first.num == whole.num == len(values) + num_zero
    curve = whole.curve()
    ordered = sorted([*values, *[0.0] * num_zero])
    for index in range(num_zero, len(ordered)):
        share = sum(v <= ordered[index] for v in ordered) / len(ordered)
        quantile = curve.quantile(share)[0]
        assert quantile == pytest.approx(ordered[index], rel=0.0117)


def test_pearson_is_that_of_numpy_and_needs_two_values() -> None:
    a, b = [1.0, 2.0, 4.0], [2.0, 1.0, 5.0]
    assert pearson(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert np.isnan(pearson([1, 1], [1, 2]))
    with pytest.raises(InputError, match="one length"):
        pearson([1.0], [1.0])
