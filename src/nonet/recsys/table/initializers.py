"""First weights of a key. Random ones depend on (seed, key, column) alone: shards, replays and restarts agree."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.common.registry import Registry
from nonet.recsys.table import _initial_kernels as kernels

INITIALIZERS: Registry[type[Initializer]] = Registry("initializer")


class Initializer(ABC):
    """Fills the weights of keys that are new. Subclasses are frozen dataclasses."""

    @abstractmethod
    def fill(self, keys: NDArray[np.int64], seed: int, first_column: int, out: NDArray[np.float32]) -> None:
        """Write first weights.

        Args:
            keys: int64 (n,).
            seed: of the table.
            first_column: where in the row the segment begins.
            out: float32 output (n, dim of the segment).
        """


@INITIALIZERS.register("zeros")
@dataclass(frozen=True)
class Zeros(Initializer):
    """All weights 0."""

    def fill(self, keys: NDArray[np.int64], seed: int, first_column: int, out: NDArray[np.float32]) -> None:
        """See `Initializer.fill`."""
        out[:] = 0.0


@INITIALIZERS.register("constant")
@dataclass(frozen=True)
class Constant(Initializer):
    """All weights `value`."""

    value: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise InputError(f"Constant: value is {self.value}; give a finite number")

    def fill(self, keys: NDArray[np.int64], seed: int, first_column: int, out: NDArray[np.float32]) -> None:
        """See `Initializer.fill`."""
        out[:] = self.value


@INITIALIZERS.register("uniform")
@dataclass(frozen=True)
class Uniform(Initializer):
    """Uniform in [low, high).

    >>> out = np.empty((2, 2), np.float32)
    >>> Uniform(-1.0, 1.0).fill(np.array([5, 5]), 0, 0, out)
    >>> bool((out[0] == out[1]).all()), bool(out[0, 0] == out[0, 1])
    (True, False)
    """

    low: float = -0.05
    high: float = 0.05

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise InputError(f"Uniform: [{self.low}, {self.high}) is no range; give finite low <= high")

    def fill(self, keys: NDArray[np.int64], seed: int, first_column: int, out: NDArray[np.float32]) -> None:
        """See `Initializer.fill`."""
        kernels.uniform(keys, seed, first_column, self.low, self.high, out)


@INITIALIZERS.register("normal")
@dataclass(frozen=True)
class Normal(Initializer):
    """Normal with mean and standard deviation."""

    mean: float = 0.0
    std: float = 0.01

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std >= 0):
            raise InputError(f"Normal: mean {self.mean}, std {self.std}; give finite numbers, std >= 0")

    def fill(self, keys: NDArray[np.int64], seed: int, first_column: int, out: NDArray[np.float32]) -> None:
        """See `Initializer.fill`."""
        kernels.normal(keys, seed, first_column, self.mean, self.std, out)
