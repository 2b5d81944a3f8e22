"""What a block of attention does beside its two products: lines of queries, weights without a mask, sums to rows."""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

_LANES = 64
_LOG2_E = np.float32(1.4426950408889634)
_LOWEST = np.float32(-3.4028235e38)


@intrinsic
def _float_of_bits(_context, _bits):
    def build(context, builder, _signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), build


@njit(cache=True, fastmath=True, nogil=True, inline="always")
def _power_of_two(x):
    # 2 ** x for x <= 0, within 2e-7 of it; 0 below the smallest normal number. The polynomial is the fit of degree 5
    # to 2 ** f, 0 <= f <= 1, with the least relative error (7.5e-8); whole powers are bits of the exponent.
    x = x if x > np.float32(-126.0) else np.float32(-126.0)
    whole = np.float32(np.int32(x)) - np.float32(1.0)
    f = x - whole
    p = np.float32(1.8775766e-3)
    p = p * f + np.float32(8.9893403e-3)
    p = p * f + np.float32(5.5826318e-2)
    p = p * f + np.float32(2.4015362e-1)
    p = p * f + np.float32(6.9315307e-1)
    p = p * f + np.float32(9.9999993e-1)
    return p * _float_of_bits(np.int32((whole + np.float32(127.0)) * np.float32(8388608.0)))


@njit(cache=True, fastmath=True, nogil=True)
def take_lines(queries, first, first_head, scale, lines):
    """Copy the query heads that share a key head, line after line.

    Args:
        queries: float32 [r, heads, d].
        first: first of the rows.
        first_head: first of the heads.
        scale: of the scores.
        lines: float32 [n, g, d], written: n rows of g heads.
    """
    num_rows, group, d = lines.shape
    for i in range(num_rows):
        for head in range(group):
            for j in range(d):
                lines[i, head, j] = queries[first + i, first_head + head, j] * scale


@njit(cache=True, fastmath=True, nogil=True)
def put_rows(lines, sums, first, first_head, out):
    """The inverse of `take_lines`, each line divided by the sum of its weights.

    Args:
        lines: float32 [n, g, d].
        sums: float32 [n * g].
        first: first of the rows.
        first_head: first of the heads.
        out: float32 [r, heads, d], written.
    """
    num_rows, group, d = lines.shape
    for i in range(num_rows):
        for head in range(group):
            share = np.float32(1.0) / sums[i * group + head]
            for j in range(d):
                out[first + i, first_head + head, j] = lines[i, head, j] * share


@njit(cache=True, fastmath=True, nogil=True)
def weigh(scores, firsts, lasts, sums):
    """Put exp(score - highest score of the line) in place of the scores that a line can see, 0 in place of the others.

    Args:
        scores: float32 [r * g, k], changed; g lines of a row.
        firsts: int64 [r], the first key that a row sees.
        lasts: int64 [r], the one after the last, above the first.
        sums: float32 [r * g], written: of each line's weights.
    """
    num_lines, size = scores.shape
    group = num_lines // len(firsts)
    tops = np.empty(_LANES, np.float32)
    for i in range(num_lines):
        first, last = firsts[i // group], lasts[i // group]
        scores[i, :first] = np.float32(0.0)
        scores[i, last:size] = np.float32(0.0)
        line = scores[i, first:last]
        # Lanes by hand: compilers do not split a maximum of floats.
        tops[:] = _LOWEST
        whole = len(line) // _LANES * _LANES
        for j in range(0, whole, _LANES):
            for lane in range(_LANES):
                score = line[j + lane]
                tops[lane] = score if score > tops[lane] else tops[lane]
        top = _LOWEST
        for lane in range(_LANES):
            top = max(top, tops[lane])
        for j in range(whole, len(line)):
            top = max(top, line[j])
        total = np.float32(0.0)
        for j in range(len(line)):
            weight = _power_of_two((line[j] - top) * _LOG2_E)
            line[j] = weight
            total += weight
        sums[i] = total
