"""Random numbers that depend on seed, key and column alone: first weights of a key, whenever and wherever it comes."""

from __future__ import annotations

import math

import numpy as np

from nonet.common.kernels import kernel
from nonet.recsys.table._hash_kernels import mix64

_UNIT = 2.0**-53


@kernel
def _unit(key, seed, draw):
    """Uniform in [0, 1)."""
    stream = mix64(np.int64(mix64(key) ^ mix64(seed)))
    return np.float64(mix64(np.int64(stream + np.uint64(draw))) >> np.uint64(11)) * _UNIT


@kernel
def uniform(keys, seed, first_column, low, high, out):
    """Fill `out` (float32 (n, columns)) with draws from [low, high)."""
    for i in range(len(keys)):
        for column in range(out.shape[1]):
            out[i, column] = low + (high - low) * _unit(keys[i], seed, first_column + column)


@kernel
def normal(keys, seed, first_column, mean, std, out):
    """Fill `out` with normal draws, by Box and Muller."""
    for i in range(len(keys)):
        for column in range(out.shape[1]):
            draw = 2 * (first_column + column)
            radius = math.sqrt(-2.0 * math.log(1.0 - _unit(keys[i], seed, draw)))
            out[i, column] = mean + std * radius * math.cos(2.0 * math.pi * _unit(keys[i], seed, draw + 1))
