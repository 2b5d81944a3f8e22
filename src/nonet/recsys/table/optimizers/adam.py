"""Adam and AMSGrad with a count of steps for every key: a rare key is corrected for its own few steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nonet.recsys.table.optimizers import _update_kernels as kernels
from nonet.recsys.table.optimizers.base import OPTIMIZERS, Floats, Optimizer, check

_BELOW_1 = math.nextafter(1.0, 0.0)


@OPTIMIZERS.register("adam")
@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam, Kingma and Ba 2015: lr_t = lr sqrt(1 - beta2^t) / (1 - beta1^t); w -= lr_t m / (sqrt(v) + eps).

    Args:
        lr: learning rate.
        beta1: of the mean, in [0, 1).
        beta2: of the square, in [0, 1).
        eps: added to the root of the square, >= 0.
        nesterov: step with (1 - beta1) g + beta1 m.
        weight_decay: L2 penalty, added to the gradient.
    """

    lr: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    eps: float = 0.01
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check(self, beta1=(0.0, _BELOW_1), beta2=(0.0, _BELOW_1))

    @property
    def _keeps_largest(self) -> bool:
        return False

    def state_dim(self, dim: int) -> int:
        """See `Optimizer.state_dim`."""
        return (3 if self._keeps_largest else 2) * dim + 2

    def initial_state(self, dim: int) -> Floats:
        """See `Optimizer.initial_state`."""
        return np.array([0.0] * (self.state_dim(dim) - 2) + [self.beta1, self.beta2], np.float32)

    def update(self, weights: Floats, state: Floats, gradients: Floats, step: int) -> None:
        """See `Optimizer.update`."""
        rates = (self.lr, self.weight_decay, self.beta1, self.beta2, self.eps)
        kernels.adam(weights, state, gradients, *rates, self.nesterov, self._keeps_largest)


@OPTIMIZERS.register("amsgrad")
@dataclass(frozen=True)
class AMSGrad(Adam):
    """AMSGrad, Reddi et al. 2018: Adam with the largest v so far in place of v."""

    @property
    def _keeps_largest(self) -> bool:
        return True
