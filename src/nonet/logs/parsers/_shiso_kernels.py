"""The inner loop of SHISO: messages walking down the tree of formats.

A tree is flat arrays. Node n has the words pool[starts[n]:starts[n] + lengths[n]] and the children
children[n, :num_children[n]]; node 0 is the root and has no words. Word 0 is the wildcard. `used` holds the number of
nodes and of pool entries in use.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nonet.common.kernels import kernel

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

DONE, CHANGED, FULL = 0, 1, 2


@kernel
def distance(message: Ints, node: Ints, vectors: Floats, free_tail: bool) -> float:
    """How unlike a message and a format are: 0 for equal, at most 1.

    Sum of the distances of the unit vectors of words at equal positions, wildcards being near to everything, plus 1 for
    every word that one of the two lacks; over twice the longer length. With `free_tail` a format's further words cost
    nothing when the first of them is a wildcard.

    Args:
        message: word numbers.
        node: word numbers of the format.
        vectors: shape (words, 4), the unit vector of every word.
        free_tail: see above.
    """
    shorter, longer = min(len(message), len(node)), max(len(message), len(node))
    if longer == 0:
        return 0.0
    total = 0.0
    for position in range(shorter):
        ours, theirs = message[position], node[position]
        if ours not in (0, theirs) and theirs != 0:
            square = 0.0
            for part in range(4):
                square += (vectors[ours, part] - vectors[theirs, part]) ** 2
            total += np.sqrt(square)
    if not (free_tail and len(node) > shorter and node[shorter] == 0):
        total += longer - shorter
    return total / (2 * longer)


@kernel
def generalise(message: Ints, node: Ints) -> bool:
    """Turn the words of a format that differ from a message of its length into wildcards; whether any did."""
    changed = False
    for position in range(len(node)):
        if node[position] != message[position] and node[position] != 0:
            node[position] = 0
            changed = True
    return changed


@kernel
def walk(
    words: Ints,
    text_starts: Ints,
    text_of_line: Ints,
    first_line: int,
    vectors: Floats,
    starts: Ints,
    lengths: Ints,
    children: Ints,
    num_children: Ints,
    pool: Ints,
    used: Ints,
    node_of_line: Ints,
    merge_threshold: float,
    free_tail: bool,
    stop_on_change: bool,
) -> tuple[int, int]:
    """Place lines from `first_line` on; returns the next line to place and why it stopped.

    DONE: all lines are placed. FULL: the arrays must grow first. CHANGED (only with `stop_on_change`): the line before
    has changed the format of its node.
    """
    for line in range(first_line, len(text_of_line)):
        text = text_of_line[line]
        message = words[text_starts[text] : text_starts[text + 1]]
        if used[0] == len(lengths) or used[1] + len(message) > len(pool):
            return line, FULL
        node = 0
        while True:
            nearest, least = -1, np.inf
            similar, least_similar = -1, np.inf
            for place in range(num_children[node]):
                child = children[node, place]
                its_words = pool[starts[child] : starts[child] + lengths[child]]
                apart = distance(message, its_words, vectors, free_tail)
                if apart < least:
                    nearest, least = child, apart
                if lengths[child] == len(message) and apart <= merge_threshold and apart < least_similar:
                    similar, least_similar = child, apart
            if similar >= 0:
                node_of_line[line] = similar
                its_words = pool[starts[similar] : starts[similar] + lengths[similar]]
                if generalise(message, its_words) and stop_on_change:
                    return line + 1, CHANGED
                break
            if num_children[node] < children.shape[1]:
                child = used[0]
                starts[child], lengths[child] = used[1], len(message)
                for position in range(len(message)):  # assigning the slice would allocate
                    pool[used[1] + position] = message[position]
                children[node, num_children[node]] = child
                num_children[node] += 1
                used[0] += 1
                used[1] += len(message)
                node_of_line[line] = child
                break
            node = nearest
    return len(text_of_line), DONE
