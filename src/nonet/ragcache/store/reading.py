"""Reading a variant back, layer by layer, ahead of whoever uses it.

Reads from a slow tier are queued by when they will be needed: layer i of a variant opened at time t is due at
t + i x (compute time of a layer). So the layers of several variants that one request opens arrive interleaved, all
first layers before all second ones, and an older request goes before a younger one.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nonet.ragcache.store.layout import Packed, checksum, unpack_layer
from nonet.ragcache.store.preload import BandwidthMeter
from nonet.ragcache.store.tiers import LayerSource, Tier, VariantDamaged
from nonet.ragcache.store.variant import KVLayout, VariantMeta, VariantUnavailable

if TYPE_CHECKING:
    import torch


class Loader:
    """The threads that read from one tier; started at the first read.

    Args:
        name: of the threads.
        num_threads: how many reads at once.
    """

    def __init__(self, name: str, num_threads: int) -> None:
        self._name, self._num_threads = name, num_threads
        self._jobs: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        self._changed = threading.Condition()

    def add(self, due_s: float, job: Callable[[], None]) -> None:
        """Queue a read.

        Args:
            due_s: when it is needed; the earliest goes first.
            job: reads; must not raise.
        """
        with self._changed:
            if not self._threads:
                self._threads = [
                    threading.Thread(target=self._run, name=f"read-{self._name}", daemon=True)
                    for _ in range(self._num_threads)
                ]
                for thread in self._threads:
                    thread.start()
            heapq.heappush(self._jobs, (due_s, next(self._order), job))
            self._changed.notify()

    def close(self) -> None:
        """Stop after the reads that are under way."""
        with self._changed:
            self._is_closed = True
            self._jobs.clear()
            self._changed.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._is_closed)
                if self._is_closed:
                    return
                job = heapq.heappop(self._jobs)[2]
            job()


@dataclass(frozen=True, slots=True)
class Copy:
    """One of the tiers that have a variant.

    Args:
        tier: which.
        meter: takes note of how fast it delivers.
        loader: its threads; None where reading costs nothing.
    """

    tier: Tier
    meter: BandwidthMeter
    loader: Loader | None


class StoredReader:
    """A `LayerReader` over the copies of a variant; when one fails, the next takes over at the layer that failed.

    Memory: the variant, until it is closed.

    Args:
        meta: of the variant.
        copies: where it is, the fastest first.
        layer_s: compute time of a layer, by which reads are due.
        verify_memory: whether to check checksums also where reading costs nothing.
        on_fault: told of each copy that failed, and why.
        on_close: told once, with the whole variant if it was read from a slow tier, else None.

    Raises:
        VariantUnavailable: no copy could be opened.
    """

    def __init__(
        self,
        meta: VariantMeta,
        copies: Sequence[Copy],
        *,
        layer_s: float,
        verify_memory: bool,
        on_fault: Callable[[Tier, VariantUnavailable], None],
        on_close: Callable[[Packed | None], None],
    ) -> None:
        self._meta, self._copies, self._layer_s, self._verify_memory = meta, list(copies), layer_s, verify_memory
        self._on_fault, self._on_close = on_fault, on_close
        self._layout = KVLayout.parse(meta.layout)
        self._layers: list[NDArray[np.uint8] | None] = [None] * self._layout.num_layers
        self._num_ready = 0
        self._failure: VariantUnavailable | None = None
        self._is_closed = False
        self._changed = threading.Condition()
        self._copy, self._source, self._sums = self._open_next()
        if self._copy.loader is None:
            self._fill_from_memory()
        else:
            self._queue(self._copy.loader, time.monotonic())

    @property
    def tier(self) -> Tier:
        """The tier that it is being read from."""
        return self._copy.tier

    def ready_layers(self) -> int:
        """See `LayerReader`."""
        return self._num_ready

    def layer(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See `LayerReader`."""
        with self._changed:
            self._changed.wait_for(lambda: self._layers[i] is not None or self._failure or self._is_closed)
            data = self._layers[i]
        if data is None:
            raise self._failure or VariantUnavailable(f"variant {self._meta.variant_id}: its reader was closed")
        return unpack_layer(data, self._layout, self._meta.num_tokens)

    def close(self) -> None:
        """See `LayerReader`; reads that are still queued do nothing."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            self._changed.notify_all()
            whole = self._whole()
            self._source.close()
        self._on_close(whole)

    def _whole(self) -> Packed | None:
        layers = tuple(layer for layer in self._layers if layer is not None)
        if self._copy.loader is None or len(layers) < len(self._layers):
            return None
        return Packed(self._meta, layers, self._sums)

    def _open_next(self) -> tuple[Copy, LayerSource, tuple[bytes, ...]]:
        why = VariantUnavailable(f"variant {self._meta.variant_id} is nowhere any more")
        while self._copies:
            copy = self._copies.pop(0)
            try:
                source = copy.tier.open(self._meta.variant_id)
                sums = source.sums()
                if len(sums) != self._layout.num_layers:
                    raise VariantDamaged(f"{len(sums)} checksums for {self._layout.num_layers} layers")
                return copy, source, sums
            except VariantUnavailable as error:
                self._on_fault(copy.tier, error)
                why = error
        raise why

    def _fill_from_memory(self) -> None:
        for layer in range(len(self._layers)):
            self._read(layer)

    def _queue(self, loader: Loader, opened_s: float) -> None:
        for layer in range(len(self._layers)):
            loader.add(opened_s + layer * self._layer_s, lambda layer=layer: self._read(layer))  # type: ignore[misc]

    def _read(self, layer: int) -> None:
        while not self._is_closed and self._failure is None:
            source = self._source
            try:
                data = self._checked(source, layer)
            except VariantUnavailable as error:
                self._fail_over(source, error)
            except Exception as error:  # a closed source, a client's own error: unusable all the same
                self._fail_over(source, VariantUnavailable(f"variant {self._meta.variant_id}: {error!r}"))
            else:
                with self._changed:
                    self._layers[layer] = data
                    while self._num_ready < len(self._layers) and self._layers[self._num_ready] is not None:
                        self._num_ready += 1
                    self._changed.notify_all()
                return

    def _checked(self, source: LayerSource, layer: int) -> NDArray[np.uint8]:
        size = self._layout.layer_bytes(self._meta.num_tokens)
        is_memory = self._copy.loader is None
        if is_memory:
            data = source.read(layer)
        else:
            with self._copy.meter.reading(size):
                data = source.read(layer)
        where = f"variant {self._meta.variant_id}, layer {layer} from {self._copy.tier.name}"
        if data.size != size:
            raise VariantDamaged(f"{where}: {data.size} bytes instead of {size}")
        if (self._verify_memory or not is_memory) and checksum(data) != self._sums[layer]:
            raise VariantDamaged(f"{where}: the checksum does not fit")
        return data

    def _fail_over(self, failed: LayerSource, error: VariantUnavailable) -> None:
        with self._changed:
            if self._is_closed or self._source is not failed:
                return  # the reader is done with it, or another thread has changed over already
            self._on_fault(self._copy.tier, error)
            failed.close()
            try:
                self._copy, self._source, self._sums = self._open_next()
            except VariantUnavailable:
                self._failure = error
            self._changed.notify_all()
