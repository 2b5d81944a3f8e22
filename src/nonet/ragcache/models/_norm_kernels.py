"""Norms of rows in one pass over memory; torch makes a pass, and a tensor, of every step."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True, fastmath=True, nogil=True)
def rms_norm(x, weight, eps, out):
    """x / sqrt(mean(x^2) + eps) x weight, row by row.

    Args:
        x: float32 [r, size].
        weight: float32 [size].
        eps: float32.
        out: float32 [r, size], written.
    """
    num_rows, size = x.shape
    for i in range(num_rows):
        total = np.float32(0.0)
        for j in range(size):
            total += x[i, j] * x[i, j]
        factor = np.float32(1.0) / np.float32(math.sqrt(total / np.float32(size) + eps))
        for j in range(size):
            out[i, j] = x[i, j] * factor * weight[j]
