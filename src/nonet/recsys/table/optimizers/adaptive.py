"""A learning rate for every weight, from its past gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nonet.recsys.table.optimizers import _update_kernels as kernels
from nonet.recsys.table.optimizers.base import OPTIMIZERS, Floats, Optimizer, check


@OPTIMIZERS.register("adagrad")
@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad without epsilon: n += g^2; w -= lr g / sqrt(n). Duchi et al. 2011.

    Args:
        lr: learning rate.
        initial_accumulator: of squared gradients, >= 0.
        weight_decay: L2 penalty, added to the gradient.
    """

    lr: float = 0.001
    initial_accumulator: float = 0.1
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check(self)

    def state_dim(self, dim: int) -> int:
        """See `Optimizer.state_dim`."""
        return dim

    def initial_state(self, dim: int) -> Floats:
        """See `Optimizer.initial_state`."""
        return np.full(dim, self.initial_accumulator, np.float32)

    def update(self, weights: Floats, state: Floats, gradients: Floats, step: int) -> None:
        """See `Optimizer.update`."""
        kernels.adagrad(weights, state, gradients, self.lr, self.weight_decay)


@OPTIMIZERS.register("rmsprop")
@dataclass(frozen=True)
class RMSProp(Optimizer):
    """RMSProp: n = mu n + (1 - mu) g^2; w -= lr g / (sqrt(n) + 1).

    Args:
        lr: learning rate.
        momentum: mu, in [0, 1].
        weight_decay: L2 penalty, added to the gradient.
    """

    lr: float = 0.01
    momentum: float = 0.9
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
        kernels.rmsprop(weights, state, gradients, self.lr, self.weight_decay, self.momentum)


@OPTIMIZERS.register("adadelta")
@dataclass(frozen=True)
class Adadelta(Optimizer):
    """Adadelta, Zeiler 2012.

    Args:
        lr: learning rate.
        rho: decay of both averages, in [0, 1].
        eps: > 0.
        weight_decay: L2 penalty, added to the gradient.
    """

    lr: float = 0.01
    rho: float = 0.9
    eps: float = 0.01
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check(self, rho=(0.0, 1.0), eps=(1e-30, math.inf))

    def state_dim(self, dim: int) -> int:
        """See `Optimizer.state_dim`."""
        return 2 * dim

    def initial_state(self, dim: int) -> Floats:
        """See `Optimizer.initial_state`."""
        return np.zeros(2 * dim, np.float32)

    def update(self, weights: Floats, state: Floats, gradients: Floats, step: int) -> None:
        """See `Optimizer.update`."""
        kernels.adadelta(weights, state, gradients, self.lr, self.weight_decay, self.rho, self.eps)
