"""The contract of a sparse optimizer."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.common.registry import Registry

Floats = NDArray[np.float32]

OPTIMIZERS: Registry[type[Optimizer]] = Registry("optimizer")


class Optimizer(ABC):
    """How the gradient of a key changes its weights. Subclasses are frozen dataclasses of their parameters.

    A table calls `update` with blocks of distinct keys; a key comes once a batch, with the sum of its gradients. All
    that an optimizer knows of a key is its row of state. A user's own is a class with three methods; the loop may be
    numba, as here, or NumPy:

    >>> import numba
    >>> @numba.njit(nogil=True)
    ... def sign_step(weights, state, gradients, lr):
    ...     for i in range(len(weights)):
    ...         for j in range(weights.shape[1]):
    ...             weights[i, j] -= lr * np.sign(gradients[i, j])
    >>> @dataclasses.dataclass(frozen=True)
    ... class SignSGD(Optimizer):
    ...     lr: float = 0.01
    ...     def state_dim(self, dim):
    ...         return 0
    ...     def initial_state(self, dim):
    ...         return np.zeros(0, np.float32)
    ...     def update(self, weights, state, gradients, step):
    ...         sign_step(weights, state, gradients, self.lr)
    >>> weights = np.zeros((1, 2), np.float32)
    >>> SignSGD(lr=0.5).update(weights, np.zeros((1, 0), np.float32), np.array([[3, -7]], np.float32), step=1)
    >>> weights.tolist()
    [[-0.5, 0.5]]
    """

    @abstractmethod
    def state_dim(self, dim: int) -> int:
        """Floats of state for a slice of `dim` weights."""

    @abstractmethod
    def initial_state(self, dim: int) -> Floats:
        """State of a new key, float32 (state_dim,)."""

    @abstractmethod
    def update(self, weights: Floats, state: Floats, gradients: Floats, step: int) -> None:
        """Update rows in place.

        Args:
            weights: float32 (n, dim), changed.
            state: float32 (n, state_dim), changed.
            gradients: float32 (n, dim), finite; not changed.
            step: number of batches that the table has seen, this one included, from 1.
        """


def check(optimizer: Any, **ranges: tuple[float, float]) -> None:
    """Raise unless all float fields are finite and >= 0, and every named one lies in its closed range.

    Raises:
        InputError: says which field of which optimizer, and the range.
    """
    name = type(optimizer).__name__
    for option in dataclasses.fields(optimizer):
        value = getattr(optimizer, option.name)
        if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name}: {option.name} is {value}; give a finite number >= 0")
    for option_name, (low, high) in ranges.items():
        value = getattr(optimizer, option_name)
        if not low <= value <= high:
            raise InputError(f"{name}: {option_name} is {value}; give a number in [{low}, {high}]")
