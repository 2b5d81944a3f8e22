"""The two laws of the paper's Figure 10: LogNormal cold-start times and Weibull times between cold starts.

The paper prints "mean 3.24, sd 7.10" and "mean 1.25, sd 3.66". On the drawn curves these are the moments of the laws in
seconds, not their parameters; `from_moments` gives the parameters back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError


@dataclass(frozen=True, slots=True)
class LogNormal:
    """ln(x) is normal with mean `mu` and standard deviation `sigma` (x in seconds)."""

    mu: float
    sigma: float

    @classmethod
    def from_moments(cls, mean: float, sd: float) -> LogNormal:
        """The law with this mean and standard deviation.

        >>> law = LogNormal.from_moments(3.24, 7.10)
        >>> round(law.mu, 4), round(law.sigma, 4)
        (0.2965, 1.326)
        """
        _check_moments(mean, sd)
        variance = math.log1p((sd / mean) ** 2)
        return cls(math.log(mean) - variance / 2, math.sqrt(variance))

    @classmethod
    def fit(cls, values: Any) -> LogNormal:
        """The maximum-likelihood fit to positive values (scipy, location 0)."""
        from scipy import stats

        sigma, _, median = stats.lognorm.fit(_positive(values), floc=0)
        return cls(math.log(median), float(sigma))

    def cdf(self, x: Any) -> NDArray[np.float64]:
        """The share of values <= x."""
        from scipy import stats

        return np.asarray(stats.lognorm.cdf(x, self.sigma, scale=math.exp(self.mu)))

    def quantile(self, share: Any) -> NDArray[np.float64]:
        """The x below which `share` of the law lies."""
        from scipy import stats

        return np.asarray(stats.lognorm.ppf(share, self.sigma, scale=math.exp(self.mu)))

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation."""
        mean = math.exp(self.mu + self.sigma**2 / 2)
        return mean, mean * math.sqrt(math.expm1(self.sigma**2))


@dataclass(frozen=True, slots=True)
class Weibull:
    """P(X > x) = exp(-(x / scale)**shape) (x and scale in seconds)."""

    shape: float
    scale: float

    @classmethod
    def from_moments(cls, mean: float, sd: float) -> Weibull:
        """The law with this mean and standard deviation.

        Raises:
            InputError: sd / mean is outside of 0.01..1e6.

        >>> law = Weibull.from_moments(1.25, 3.66)
        >>> round(law.shape, 4), round(law.scale, 4)
        (0.4176, 0.4217)
        """
        from scipy import optimize, special

        _check_moments(mean, sd)
        target = math.log1p((sd / mean) ** 2)

        def excess(shape: float) -> float:
            return float(special.gammaln(1 + 2 / shape) - 2 * special.gammaln(1 + 1 / shape)) - target

        if not 0.01 <= sd / mean <= 1e6:
            raise InputError(
                f"no Weibull law for mean {mean:g} and standard deviation {sd:g}: their ratio is too far off"
            )
        shape = float(optimize.brentq(excess, 0.02, 200.0, xtol=1e-12))
        return cls(shape, mean / math.gamma(1 + 1 / shape))

    @classmethod
    def fit(cls, values: Any) -> Weibull:
        """The maximum-likelihood fit to positive values (scipy, location 0)."""
        from scipy import stats

        shape, _, scale = stats.weibull_min.fit(_positive(values), floc=0)
        return cls(float(shape), float(scale))

    def cdf(self, x: Any) -> NDArray[np.float64]:
        """The share of values <= x."""
        from scipy import stats

        return np.asarray(stats.weibull_min.cdf(x, self.shape, scale=self.scale))

    def quantile(self, share: Any) -> NDArray[np.float64]:
        """The x below which `share` of the law lies."""
        from scipy import stats

        return np.asarray(stats.weibull_min.ppf(share, self.shape, scale=self.scale))

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation."""
        first, second = math.gamma(1 + 1 / self.shape), math.gamma(1 + 2 / self.shape)
        return self.scale * first, self.scale * math.sqrt(second - first**2)


def _positive(values: Any) -> NDArray[np.float64]:
    found = np.asarray(values, np.float64)
    found = found[np.isfinite(found) & (found > 0)]
    if len(found) < 2 or found.min() == found.max():
        raise InputError("a law cannot be fitted: it needs at least two different positive values")
    return found


def _check_moments(mean: float, sd: float) -> None:
    if not (mean > 0 and sd > 0 and math.isfinite(mean) and math.isfinite(sd)):
        raise InputError(f"mean and standard deviation must be positive numbers, got {mean!r} and {sd!r}")


PAPER_TOTAL = LogNormal.from_moments(3.24, 7.10)
"""Total cold-start time over all regions, the fit of Fig 10b."""
