"""The inner loops of LogSig: emitting and counting word pairs, and sweeps that move lines between groups.

Shapes: `counts` is (bundles, groups), `alone` (texts, 3), every other array is flat. `text_starts`, `bundles`,
`weights` and `repeats` are a compressed table: the entries of text t stand at text_starts[t]:text_starts[t + 1].
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nonet.common.kernels import kernel

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_LEAST_GAIN = 1e-9  # below it a gain of the potential is a rounding error


@kernel
def emit_pairs(words: Ints, word_starts: Ints, pair_starts: Ints, codes: Ints) -> None:
    """Write the ordered word pairs of every text as codes first * 2**32 + second, text by text."""
    for text in range(len(word_starts) - 1):
        at = pair_starts[text]
        for first in range(word_starts[text], word_starts[text + 1]):
            for second in range(first + 1, word_starts[text + 1]):
                codes[at] = (words[first] << 32) | words[second]
                at += 1


@kernel
def count_bundles(
    text_of_line: Ints,
    text_starts: Ints,
    bundles: Ints,
    repeats: Floats,
    group_of_line: Ints,
    counts: NDArray[np.int32],
) -> None:
    """Add up, in `counts`, how often every bundle occurs in every group."""
    for line in range(len(text_of_line)):
        text, group = text_of_line[line], group_of_line[line]
        for entry in range(text_starts[text], text_starts[text + 1]):
            counts[bundles[entry], group] += np.int32(repeats[entry])


@njit(cache=True, nogil=True)
def sweep_by_estimate(
    text_of_line: Ints,
    text_starts: Ints,
    bundles: Ints,
    weights: Floats,
    repeats: Floats,
    alone: Floats,
    counts: NDArray[np.int32],
    sizes: Ints,
    group_of_line: Ints,
) -> int:
    """One sweep of compat mode; returns how many lines moved. `alone` is (texts, 3): see `Pairs.alone`."""
    num_groups = len(sizes)
    totals = np.empty(num_groups)
    num_moved = 0
    for line in range(len(text_of_line)):
        text, old = text_of_line[line], group_of_line[line]
        totals[:] = alone[text, 0]
        totals[old] = alone[text, 1]
        base = alone[text, 2]
        for entry in range(text_starts[text], text_starts[text + 1]):
            row = counts[bundles[entry]]
            base += weights[entry] * float(row[old]) ** 2
            for group in range(num_groups):
                totals[group] += weights[entry] * (row[group] + 1.0) ** 2
        base /= float(sizes[old]) ** 2
        best, new = 0.0, old
        for group in range(num_groups):
            gain = totals[group] / (sizes[group] + 1.0) ** 2 - base
            if gain > best:
                best, new = gain, group
        if new != old:
            num_moved += 1
            group_of_line[line] = new
            sizes[old] -= 1
            sizes[new] += 1
            for entry in range(text_starts[text], text_starts[text + 1]):
                counts[bundles[entry], old] -= np.int32(repeats[entry])
                counts[bundles[entry], new] += np.int32(repeats[entry])
    return num_moved


@njit(cache=True, nogil=True)
def sweep_by_potential(
    text_of_line: Ints,
    text_starts: Ints,
    bundles: Ints,
    weights: Floats,
    alone: Floats,
    counts: NDArray[np.int32],
    sizes: Ints,
    group_of_line: Ints,
    cubes: Floats,
) -> int:
    """One sweep of fixed mode: a line moves to where the potential sum n(r)**3 / N**2 grows most.

    `cubes` holds sum n(r)**3 of every group and is kept up to date. Returns how many lines moved.
    """
    num_groups = len(sizes)
    joins = np.empty(num_groups)
    num_moved = 0
    for line in range(len(text_of_line)):
        text, old = text_of_line[line], group_of_line[line]
        joins[:] = alone[text, 0]
        leave = alone[text, 0]
        for entry in range(text_starts[text], text_starts[text + 1]):
            row = counts[bundles[entry]]
            ours = float(row[old])
            leave += weights[entry] * (3.0 * ours * ours - 3.0 * ours + 1.0)
            for group in range(num_groups):
                theirs = float(row[group])
                joins[group] += weights[entry] * (3.0 * theirs * theirs + 3.0 * theirs + 1.0)
        size = float(sizes[old])
        loss = cubes[old] / size**2
        if size > 1.0:
            loss -= (cubes[old] - leave) / (size - 1.0) ** 2
        best, new = _LEAST_GAIN, old
        for group in range(num_groups):
            if group != old:
                size = float(sizes[group])
                gain = (cubes[group] + joins[group]) / (size + 1.0) ** 2 - loss
                if size > 0.0:
                    gain -= cubes[group] / size**2
                if gain > best:
                    best, new = gain, group
        if new != old:
            num_moved += 1
            group_of_line[line] = new
            sizes[old] -= 1
            sizes[new] += 1
            cubes[old] -= leave
            cubes[new] += joins[new]
            for entry in range(text_starts[text], text_starts[text + 1]):
                counts[bundles[entry], old] -= np.int32(1)
                counts[bundles[entry], new] += np.int32(1)
    return num_moved
