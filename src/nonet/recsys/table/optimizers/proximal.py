"""Rules that set weights to exactly zero: FTRL weight by weight, group lasso row by row."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nonet.recsys.table.optimizers import _update_kernels as kernels
from nonet.recsys.table.optimizers.base import OPTIMIZERS, Floats, Optimizer, check


@OPTIMIZERS.register("ftrl")
@dataclass(frozen=True)
class FTRL(Optimizer):
    """FTRL-proximal, McMahan et al. 2013.

    Args:
        lr: alpha, > 0.
        beta: added to the root of the squares, >= 0.
        initial_accumulator: of squared gradients, >= 0.
        l1: weights whose |z| is at most this are exactly 0.
        l2: ridge penalty.
        weight_decay: L2 penalty, added to the gradient.
    """

    lr: float = 0.01
    beta: float = 0.0
    initial_accumulator: float = 0.1
    l1: float = 0.0
    l2: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check(self, lr=(1e-30, math.inf))

    def state_dim(self, dim: int) -> int:
        """See `Optimizer.state_dim`."""
        return 2 * dim

    def initial_state(self, dim: int) -> Floats:
        """See `Optimizer.initial_state`."""
        return np.array([0.0] * dim + [self.initial_accumulator] * dim, np.float32)

    def update(self, weights: Floats, state: Floats, gradients: Floats, step: int) -> None:
        """See `Optimizer.update`."""
        kernels.ftrl(weights, state, gradients, self.lr, self.weight_decay, self.beta, self.l1, self.l2)


@OPTIMIZERS.register("group_adagrad")
@dataclass(frozen=True)
class GroupAdagrad(Optimizer):
    """Adagrad with a group lasso: one accumulator a row, and whole rows at zero.

    Args:
        lr: > 0.
        beta: added to the root of the accumulator, >= 0.
        initial_accumulator: of squared gradients, >= 0.
        l2: rows whose |z| is below this are exactly 0.
        weight_decay: L2 penalty, added to the gradient.
    """

    lr: float = 0.01
    beta: float = 0.0
    initial_accumulator: float = 0.1
    l2: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check(self, lr=(1e-30, math.inf))

    def state_dim(self, dim: int) -> int:
        """See `Optimizer.state_dim`."""
        return 1

    def initial_state(self, dim: int) -> Floats:
        """See `Optimizer.initial_state`."""
        return np.full(1, self.initial_accumulator, np.float32)

    def update(self, weights: Floats, state: Floats, gradients: Floats, step: int) -> None:
        """See `Optimizer.update`."""
        kernels.group_adagrad(weights, state, gradients, self.lr, self.weight_decay, self.beta, self.l2)
