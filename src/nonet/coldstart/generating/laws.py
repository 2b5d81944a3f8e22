"""The two laws that the paper fits over all regions (Figs 10b, 10d), from their moments and back.

The paper prints "mean 3.24, sd 7.10" for the log-normal of total cold-start times and "mean 1.25, sd 3.66" for the
Weibull of times between cold starts. On the drawn curves these are moments of the laws in seconds, not their
parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nonet.coldstart._random_kernels import mix64, uniforms
from nonet.common.errors import InputError


def _check(mean: float, sd: float) -> None:
    if not (mean > 0 and sd > 0 and math.isfinite(mean) and math.isfinite(sd)):
        raise InputError(f"a law needs a positive mean and a positive sd, got mean {mean} and sd {sd}")


@dataclass(frozen=True)
class LogNormal:
    """exp(mu + sigma * normal), in seconds."""

    mu: float
    sigma: float

    @classmethod
    def from_moments(cls, mean: float, sd: float) -> LogNormal:
        """The law with this mean and standard deviation.

        Raises:
            InputError: one of them is not positive.

        >>> law = LogNormal.from_moments(3.24, 7.10)
        >>> round(law.mu, 4), round(law.sigma, 4)
        (0.2965, 1.326)
        """
        _check(mean, sd)
        variance = math.log1p((sd / mean) ** 2)
        return cls(math.log(mean) - variance / 2, math.sqrt(variance))

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation."""
        mean = math.exp(self.mu + self.sigma**2 / 2)
        return mean, mean * math.sqrt(math.expm1(self.sigma**2))

    def sample(self, num: int, seed: int = 0) -> NDArray[np.float64]:
        """`num` values; value i depends on (seed, i) only."""
        from scipy import stats

        return np.exp(self.mu + self.sigma * stats.norm.ppf(uniforms(np.uint64(mix64(seed, 21, 0)), 0, num)))


@dataclass(frozen=True)
class Weibull:
    """scale * exponential ** (1 / shape), in seconds."""

    shape: float
    scale: float

    @classmethod
    def from_moments(cls, mean: float, sd: float) -> Weibull:
        """The law with this mean and standard deviation.

        Raises:
            InputError: one of them is not positive, or their ratio is beyond shapes of 0.1 to 50.

        >>> law = Weibull.from_moments(1.25, 3.66)
        >>> round(law.shape, 4), round(law.scale, 4)
        (0.4176, 0.4217)
        """
        from scipy import optimize

        _check(mean, sd)
        wanted = math.log1p((sd / mean) ** 2)

        def miss(log_shape: float) -> float:
            shape = math.exp(log_shape)
            return math.lgamma(1 + 2 / shape) - 2 * math.lgamma(1 + 1 / shape) - wanted

        low, high = math.log(0.1), math.log(50.0)
        if miss(low) < 0 or miss(high) > 0:
            raise InputError(f"no Weibull law of shape 0.1 to 50 has mean {mean} and sd {sd}")
        shape = math.exp(optimize.brentq(miss, low, high, xtol=1e-12))
        return cls(shape, mean / math.gamma(1 + 1 / shape))

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation."""
        mean = self.scale * math.gamma(1 + 1 / self.shape)
        return mean, math.sqrt(self.scale**2 * math.gamma(1 + 2 / self.shape) - mean**2)

    def sample(self, num: int, seed: int = 0) -> NDArray[np.float64]:
        """`num` values; value i depends on (seed, i) only."""
        return self.scale * (-np.log(uniforms(np.uint64(mix64(seed, 22, 0)), 0, num))) ** (1 / self.shape)


PAPER_TOTAL = LogNormal.from_moments(3.24, 7.10)
"""Total cold-start time over all regions, the fit of Fig 10b."""
PAPER_BETWEEN = Weibull.from_moments(1.25, 3.66)
"""Time between cold starts over all regions, the fit of Fig 10d."""
