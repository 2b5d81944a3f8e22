"""Rows that are statistics, not weights: a gradient is the value to be averaged, or only an occurrence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nonet.recsys.table.optimizers import _update_kernels as kernels
from nonet.recsys.table.optimizers.base import OPTIMIZERS, Floats, Optimizer, check


@OPTIMIZERS.register("moving_average")
@dataclass(frozen=True)
class MovingAverage(Optimizer):
    """Exponential average of what is given: w = mu w + (1 - mu) g.

    Args:
        momentum: mu, in [0, 1].
    """

    momentum: float = 0.9

    def __post_init__(self) -> None:
        check(self, momentum=(0.0, 1.0))

    def state_dim(self, dim: int) -> int:
        """See `Optimizer.state_dim`."""
        return 0

    def initial_state(self, dim: int) -> Floats:
        """See `Optimizer.initial_state`."""
        return np.zeros(0, np.float32)

    def update(self, weights: Floats, state: Floats, gradients: Floats, step: int) -> None:
        """See `Optimizer.update`."""
        kernels.moving_average(weights, gradients, self.momentum)


@OPTIMIZERS.register("batch_softmax")
@dataclass(frozen=True)
class BatchSoftmax(Optimizer):
    """Steps between two occurrences of a key, for the correction of in-batch softmax. Yi et al. 2019, algorithm 2.

    The gradient is not looked at. The state is the last step, an int32 in the bits of the float.

    Args:
        rate: a, in (0, 1].
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        check(self, rate=(1e-30, 1.0))

    def state_dim(self, dim: int) -> int:
        """See `Optimizer.state_dim`."""
        return 1

    def initial_state(self, dim: int) -> Floats:
        """See `Optimizer.initial_state`."""
        return np.zeros(1, np.float32)

    def update(self, weights: Floats, state: Floats, gradients: Floats, step: int) -> None:
        """See `Optimizer.update`."""
        kernels.batch_softmax(weights, state.view(np.int32), step, self.rate)
