"""The paper's two fitted laws: moments to parameters and back, and fits of what is drawn from them (E1)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nonet.coldstart._random_kernels import uniforms
from nonet.coldstart.laws import PAPER_TOTAL, LogNormal, Weibull
from nonet.common.errors import InputError

PAPER_BETWEEN = Weibull.from_moments(1.25, 3.66)  # the fit of Figure 10d


def test_parameters_of_the_paper() -> None:
    assert PAPER_TOTAL.mu == pytest.approx(0.2965, abs=1e-3)
    assert PAPER_TOTAL.sigma == pytest.approx(1.3260, abs=1e-3)
    assert PAPER_BETWEEN.shape == pytest.approx(0.4176, abs=1e-3)
    assert PAPER_BETWEEN.scale == pytest.approx(0.4217, abs=1e-3)


@given(st.floats(1e-3, 1e3), st.floats(0.1, 5.0))
@settings(max_examples=100, deadline=None)
def test_moments_and_back_agree_with_scipy(mean: float, ratio: float) -> None:
    sd = mean * ratio
    normal = LogNormal.from_moments(mean, sd)
    law = stats.lognorm(s=normal.sigma, scale=stats.lognorm(s=1).median() * 2.718281828459045**normal.mu)
    assert (law.mean(), law.std()) == (pytest.approx(mean, rel=1e-6), pytest.approx(sd, rel=1e-6))
    weibull = Weibull.from_moments(mean, sd)
    law = stats.weibull_min(weibull.shape, scale=weibull.scale)
    assert (law.mean(), law.std()) == (pytest.approx(mean, rel=1e-6), pytest.approx(sd, rel=1e-6))
    assert weibull.moments() == (pytest.approx(mean), pytest.approx(sd))
    assert normal.moments() == (pytest.approx(mean), pytest.approx(sd))


def test_a_fit_of_a_million_values_recovers_the_parameters() -> None:
    shares = uniforms(np.uint64(4), 0, 1_000_000)
    normal = LogNormal.fit(PAPER_TOTAL.quantile(shares))
    assert normal.mu == pytest.approx(PAPER_TOTAL.mu, abs=0.01)
    assert normal.sigma == pytest.approx(PAPER_TOTAL.sigma, rel=0.01)
    weibull = Weibull.fit(PAPER_BETWEEN.quantile(shares))
    assert weibull.shape == pytest.approx(PAPER_BETWEEN.shape, rel=0.01)
    assert weibull.scale == pytest.approx(PAPER_BETWEEN.scale, rel=0.01)
    for law in (PAPER_TOTAL, PAPER_BETWEEN):
        assert law.cdf(law.quantile(shares[:100])) == pytest.approx(shares[:100])


@pytest.mark.parametrize("mean, sd", [(0.0, 1.0), (1.0, -1.0), (float("nan"), 1.0)])
def test_impossible_moments(mean: float, sd: float) -> None:
    for law in (LogNormal, Weibull):
        with pytest.raises(InputError, match="positive"):
            law.from_moments(mean, sd)
