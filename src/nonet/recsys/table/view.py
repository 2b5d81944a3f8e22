"""What kernels get to see of a store: the index, the rows, and the versions that guard them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class View(NamedTuple):
    """A set of arrays that belong together; a reader works on one view for as long as it is not retired.

    The writer changes slots and rows in place, guarded by versions. What it cannot change in place (another index,
    more or fewer pieces of memory) it puts into a new view: it publishes that, retires the old one, and only then
    goes on. A reader looks at `retired` after it has read the version of its key: if the view was alive then, later
    changes show in the version.

    Args:
        tags: uint64 (buckets,), a byte a slot: 0 is free, otherwise bits of the hash.
        slots: int64 (8 buckets, 2), key; row in the lower and update time in the upper half of the second word.
        num_buckets: uint64.
        multiplier: uint64, odd; the hash of a key is `mix64(key) * multiplier`.
        versions: uint32 (STRIPES,), odd while the writer changes a key of the stripe.
        retired: uint32 (1,), 1 once a newer view is published.
        bases: int64 (chunks,), address of every chunk `[weights | state | counts]` of the arena.
        row_bits: a chunk has `2 ** row_bits` rows.
        dim: floats of weights a row.
        state_dim: floats of optimizer state a row.
        counted: 1 if a chunk ends with a uint32 a row for how often the key was trained.
    """

    tags: NDArray[np.uint64]
    slots: NDArray[np.int64]
    num_buckets: np.uint64
    multiplier: np.uint64
    versions: NDArray[np.uint32]
    retired: NDArray[np.uint32]
    bases: NDArray[np.int64]
    row_bits: int
    dim: int
    state_dim: int
    counted: int
