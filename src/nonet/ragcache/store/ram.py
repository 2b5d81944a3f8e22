"""The tier in memory: the bytes of a variant as they are, handed out without a copy."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from nonet.ragcache.store.layout import Packed
from nonet.ragcache.store.tiers import LayerSource, Name, VariantGone
from nonet.ragcache.store.variant import VariantMeta


class RamTier:
    """Variants in this process.

    Memory: `capacity_bytes`, plus what is being written back or read at the moment.

    Args:
        capacity_bytes: what may be kept; None for no limit.
        name: in reports.
    """

    is_memory = True
    is_shared = False
    num_readers = 1

    def __init__(self, capacity_bytes: int | None = None, *, name: str = "ram") -> None:
        self.name = name
        self.capacity_bytes = capacity_bytes
        self._kept: dict[str, Packed] = {}
        self._names: dict[Name, float] = {}
        self._lock = threading.Lock()

    def ids(self) -> set[str]:
        """See `Tier`."""
        with self._lock:
            return set(self._kept)

    def meta(self, variant_id: str) -> VariantMeta:
        """See `Tier`."""
        return self._get(variant_id).meta

    def stored_bytes(self, meta: VariantMeta) -> int:
        """The KV alone; descriptions are kept by the store anyway."""
        return meta.num_bytes

    def put(self, packed: Packed) -> None:
        """See `Tier`."""
        with self._lock:
            self._kept[packed.meta.variant_id] = packed

    def open(self, variant_id: str) -> LayerSource:
        """See `Tier`; what was opened can be read to the end even when it is removed meanwhile."""
        return _RamSource(self._get(variant_id))

    def remove(self, variant_id: str) -> None:
        """See `Tier`."""
        with self._lock:
            self._kept.pop(variant_id, None)

    def note(self, names: Collection[Name]) -> None:
        """See `Tier`."""
        with self._lock:
            self._names |= dict.fromkeys(names, time.time())

    def noted(self, document: str) -> set[str]:
        """See `Tier`."""
        return {chunk for name, chunk in self.notes() if name == document}

    def notes(self) -> dict[Name, float]:
        """See `Tier`."""
        with self._lock:
            return dict(self._names)

    def unnote(self, names: Collection[Name]) -> None:
        """See `Tier`."""
        with self._lock:
            for name in names:
                self._names.pop(name, None)

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self._names.clear()

    def _get(self, variant_id: str) -> Packed:
        with self._lock:
            packed = self._kept.get(variant_id)
        if packed is None:
            raise VariantGone(f"variant {variant_id} is not in {self.name}")
        return packed


class _RamSource:
    def __init__(self, packed: Packed) -> None:
        self._packed = packed

    def read(self, layer: int) -> NDArray[np.uint8]:
        return self._packed.layers[layer]

    def sums(self) -> tuple[bytes, ...]:
        return self._packed.sums

    def close(self) -> None:
        pass
