"""Memory that comes from the system and goes back to it, not to an allocator that may keep it."""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import DTypeLike, NDArray

_HUGE_PAGE_BYTES = 1 << 21
# By default Python shares anonymous memory with forked processes, and Linux gives shared memory no huge pages.
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


def mapped(num_bytes: int, huge: bool = True) -> mmap.mmap:
    """Zeroed anonymous memory, resident only where it was touched, returned when the last array over it is gone.

    Args:
        num_bytes: size.
        huge: ask for 2 MB pages where the system has them: fewer misses of the address cache, coarser residency.
    """
    memory = mmap.mmap(-1, max(num_bytes, 1), **_PRIVATE)
    if huge and num_bytes >= _HUGE_PAGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def mapped_array(count: int, dtype: DTypeLike) -> NDArray:
    """A zeroed array of its own mapping, aligned to a page."""
    width = np.dtype(dtype).itemsize
    return np.frombuffer(mapped(count * width), dtype=dtype, count=count)
