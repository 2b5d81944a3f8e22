"""Gradient descent, plain and with momentum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nonet.recsys.table.optimizers import _update_kernels as kernels
from nonet.recsys.table.optimizers.base import OPTIMIZERS, Floats, Optimizer, check


@OPTIMIZERS.register("sgd")
@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent: w -= lr g.

    Args:
        lr: learning rate.
        weight_decay: L2 penalty, added to the gradient.
    """

    lr: float = 0.01
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check(self)

    def state_dim(self, dim: int) -> int:
        """See `Optimizer.state_dim`."""
        return 0

    def initial_state(self, dim: int) -> Floats:
        """See `Optimizer.initial_state`."""
        return np.zeros(0, np.float32)

    def update(self, weights: Floats, state: Floats, gradients: Floats, step: int) -> None:
        """See `Optimizer.update`."""
        kernels.sgd(weights, gradients, self.lr, self.weight_decay)


@OPTIMIZERS.register("momentum")
@dataclass(frozen=True)
class Momentum(Optimizer):
    """Momentum: u = mu u - lr g; w += u.

    Args:
        lr: learning rate.
        momentum: mu, in [0, 1].
        nesterov: w += -mu u_old + (1 + mu) u instead.
        weight_decay: L2 penalty, added to the gradient.
    """

    lr: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check(self, momentum=(0.0, 1.0))

    def state_dim(self, dim: int) -> int:
        """See `Optimizer.state_dim`."""
        return dim

    def initial_state(self, dim: int) -> Floats:
        """See `Optimizer.initial_state`."""
        return np.zeros(dim, np.float32)

    def update(self, weights: Floats, state: Floats, gradients: Floats, step: int) -> None:
        """See `Optimizer.update`."""
        kernels.momentum(weights, state, gradients, self.lr, self.weight_decay, self.momentum, self.nesterov)
