"""Nearest items by inner product, from an index that follows the sync: a changed vector is found as soon as applied."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import MissingExtraError

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

_BLOCK = 256  # rows changed between two searches at most


class ItemIndex:
    """Vectors of items by id. Searching is allowed while it changes.

    All items are compared as long as that takes no longer than a walk through the graph of neighbours (HNSW, of
    usearch). The graph goes by inner product, as long vectors draw its links; on learned vectors it needs a wide search
    in order to find 95 % of the nearest.

    Memory: about 4 * dim + 600 bytes an item.

    Args:
        dim: of the vectors.
        exact_up_to: items that are all compared; 100,000 of 16 numbers take 2 ms.
        connectivity: links of an item; more find more and cost more.
        expansion: candidates that are looked at in a search and in an insertion.

    Raises:
        MissingExtraError: usearch is not installed.

    >>> index = ItemIndex(2)
    >>> index.update(np.array([-5, 7]), np.array([[1, 0], [0, 1]], np.float32))
    >>> index.search(np.array([1, 0], np.float32), 1)[0].tolist()
    [-5]
    """

    def __init__(self, dim: int, *, exact_up_to: int = 100_000, connectivity: int = 64, expansion: int = 768) -> None:
        try:
            from usearch.index import Index
        except ImportError as error:
            raise MissingExtraError("retrieval needs usearch: pip install 'nonet[recsys]'") from error
        self.dim, self._exact_up_to = dim, exact_up_to
        self._index: Any = Index(
            ndim=dim,
            metric="ip",
            dtype="f32",
            connectivity=connectivity,
            expansion_add=expansion,
            expansion_search=expansion,
        )
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._index)

    def update(self, ids: Ints, rows: Floats) -> None:
        """Insert items, or move those that are there.

        Args:
            ids: int64 [n], each once.
            rows: float32 [n, dim].
        """
        for first in range(0, len(ids), _BLOCK):
            keys = ids[first : first + _BLOCK].view(np.uint64)
            with self._changing:
                known = keys[np.asarray(self._index.contains(keys), bool)]
                if len(known):
                    self._index.remove(known)
                self._index.add(keys, np.ascontiguousarray(rows[first : first + _BLOCK]))

    def erase(self, ids: Ints) -> None:
        """Take items out; those that are not there are passed over."""
        keys = np.ascontiguousarray(ids, np.int64).view(np.uint64)
        if not len(keys):
            return
        with self._changing:
            known = keys[np.asarray(self._index.contains(keys), bool)]
            if len(known):
                self._index.remove(known)

    def search(self, query: Floats, count: int) -> tuple[Ints, Floats]:
        """The items with the largest inner products, largest first.

        Args:
            query: float32 [dim].
            count: how many.

        Returns:
            ids int64 [<= count], inner products float32.
        """
        with self._changing:
            size = len(self._index)
            if not size or count < 1:
                return np.empty(0, np.int64), np.empty(0, np.float32)
            found = self._index.search(
                np.ascontiguousarray(query, np.float32), min(count, size), exact=size <= self._exact_up_to
            )
        return np.asarray(found.keys, np.uint64).view(np.int64), 1 - np.asarray(found.distances, np.float32)
