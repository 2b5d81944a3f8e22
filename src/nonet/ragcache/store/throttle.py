"""A tier that delivers no more than so many bytes a second, to measure preloading without the slow machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.ragcache.store.layout import Packed
from nonet.ragcache.store.tiers import LayerSource, Name, Tier
from nonet.ragcache.store.variant import VariantMeta


class ThrottledTier:
    """Another tier, read at a given speed by all readers together; writing is not slowed.

    Args:
        tier: the other one.
        bytes_per_s: what it delivers.
        latency_s: what each read takes besides.

    Raises:
        InputError: a speed that is not above 0, or a negative latency.
    """

    is_memory = False
    is_shared = False
    num_readers = 1

    def __init__(self, tier: Tier, bytes_per_s: float, latency_s: float = 0.0) -> None:
        if not bytes_per_s > 0 or latency_s < 0:
            raise InputError(f"cannot read at {bytes_per_s} bytes/s with a latency of {latency_s} s")
        self.name, self.capacity_bytes = tier.name, tier.capacity_bytes
        self._tier, self._bytes_per_s, self._latency_s = tier, bytes_per_s, latency_s
        self._free_s = 0.0
        self._lock = threading.Lock()

    def ids(self) -> set[str]:
        """See `Tier`."""
        return self._tier.ids()

    def meta(self, variant_id: str) -> VariantMeta:
        """See `Tier`."""
        return self._tier.meta(variant_id)

    def stored_bytes(self, meta: VariantMeta) -> int:
        """See `Tier`."""
        return self._tier.stored_bytes(meta)

    def put(self, packed: Packed) -> None:
        """See `Tier`."""
        self._tier.put(packed)

    def open(self, variant_id: str) -> LayerSource:
        """See `Tier`."""
        return _ThrottledSource(self, self._tier.open(variant_id))

    def remove(self, variant_id: str) -> None:
        """See `Tier`."""
        self._tier.remove(variant_id)

    def note(self, names: Collection[Name]) -> None:
        """See `Tier`."""
        self._tier.note(names)

    def noted(self, document: str) -> set[str]:
        """See `Tier`."""
        return self._tier.noted(document)

    def notes(self) -> dict[Name, float]:
        """See `Tier`."""
        return self._tier.notes()

    def unnote(self, names: Collection[Name]) -> None:
        """See `Tier`."""
        self._tier.unnote(names)

    def close(self) -> None:
        """See `Tier`."""
        self._tier.close()

    def wait(self, num_bytes: int, asked_s: float) -> None:
        """Wait until so many bytes would have come.

        Args:
            num_bytes: how many.
            asked_s: when they were asked for, by `time.perf_counter`.
        """
        with self._lock:
            self._free_s = max(self._free_s, asked_s) + self._latency_s + num_bytes / self._bytes_per_s
            until_s = self._free_s
        time.sleep(max(0.0, until_s - time.perf_counter()))


class _ThrottledSource:
    def __init__(self, tier: ThrottledTier, source: LayerSource) -> None:
        self._tier, self._source = tier, source

    def read(self, layer: int) -> NDArray[np.uint8]:
        asked_s = time.perf_counter()
        data = self._source.read(layer)
        self._tier.wait(data.size, asked_s)
        return data

    def sums(self) -> tuple[bytes, ...]:
        return self._source.sums()

    def close(self) -> None:
        self._source.close()
