"""Variants of the store in the pages of the pool: brought in layer by layer, shared by all requests that use them.

A variant that nobody uses any more stays until its pages are needed, the longest unused first. What is in memory is
copied at once. Each variant that has to be waited for has a thread, so that the first layers of all come before the
second ones and computation can begin early.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from nonet.ragcache.engine.paging import BlockPool, Blocks, PoolExhausted
from nonet.ragcache.engine.team import team
from nonet.ragcache.store.chunk_store import ChunkStore
from nonet.ragcache.store.variant import LayerReader, VariantMeta, VariantUnavailable

_LOADERS = 32


@dataclass
class Resident:
    """A variant in pages.

    Attributes:
        meta: which variant.
        blocks: its pages, read-only once written.
        tier: where it was loaded from.
        num_users: requests that use it now.
        ready_layers: layers that can be read.
        is_loading: its pages are still written to.
        is_dropped: not to be shared any more; its pages go back when the last user has ended.
        failure: why it cannot be read, "" while nothing is wrong.
        began_s: when loading began, `time.monotonic()`.
    """

    meta: VariantMeta
    blocks: Blocks
    tier: str
    num_users: int = 0
    ready_layers: int = 0
    is_loading: bool = True
    is_dropped: bool = False
    failure: str = ""
    began_s: float = field(default_factory=time.monotonic)


class Residency:
    """Brings variants into the pool and keeps them there.

    Args:
        pool: of pages.
        store: where variants come from.
        num_layers: of the model.
    """

    def __init__(self, pool: BlockPool, store: ChunkStore, num_layers: int) -> None:
        self._pool, self._store, self._num_layers = pool, store, num_layers
        self._known: OrderedDict[str, Resident] = OrderedDict()
        self._num_loading = 0
        self._changed = threading.Condition()
        self._loaders = ThreadPoolExecutor(_LOADERS, thread_name_prefix="load")

    @property
    def is_loading(self) -> bool:
        """Whether pages are being written to, which nobody can have back before."""
        return self._num_loading > 0

    def acquire(self, meta: VariantMeta) -> Resident:
        """Bring a variant in, or share it when it is there; every call needs a `release`.

        Raises:
            PoolExhausted: no pages, even after everything unused was dropped.
            VariantUnavailable: the store does not have it any more.
        """
        with self._changed:
            found = self._known.get(meta.variant_id)
            if found is not None and not found.failure:
                found.num_users += 1
                self._known.move_to_end(meta.variant_id)
                return found
        self.make_room(meta.num_tokens)
        blocks = self._pool.allocate(meta.num_tokens)
        try:
            reader = self._store.open(meta.variant_id)
        except VariantUnavailable:
            self._pool.release(blocks)
            raise
        resident = Resident(meta, blocks, self._store.tier_of(meta.variant_id), 1)
        with self._changed:
            self._known[meta.variant_id] = resident
            self._num_loading += 1
        if not self._store.tier_of(meta.variant_id):
            # Dropped from the store before it could be forgotten here: nobody else is to find it. Asked only now, since
            # what is dropped from here on is known by now.
            self.forget({meta.variant_id})
        if reader.ready_layers() == self._num_layers:
            self._load(resident, reader, self._copy_all)
        else:
            self._loaders.submit(self._load, resident, reader, self._copy_as_they_come)
        return resident

    def release(self, resident: Resident) -> None:
        """Stop using it; it stays until its pages are needed."""
        with self._changed:
            resident.num_users -= 1
            if resident.is_dropped:
                self._drop(resident)

    def wait(self, resident: Resident, num_layers: int) -> None:
        """Wait until the first layers can be read.

        Args:
            resident: which.
            num_layers: how many.

        Raises:
            VariantUnavailable: it turned out damaged or gone.
        """
        with self._changed:
            self._changed.wait_for(lambda: resident.failure or resident.ready_layers >= num_layers)
        if resident.failure:
            raise VariantUnavailable(resident.failure)

    def make_room(self, num_tokens: int) -> None:
        """Drop what nobody uses, the longest unused first, until so many tokens fit.

        Raises:
            PoolExhausted: they do not fit all the same.
        """
        with self._changed:
            for resident in [one for one in self._known.values() if not one.num_users and not one.is_loading]:
                if self._pool.free_tokens >= num_tokens:
                    return
                self._drop(resident)
        if self._pool.free_tokens < num_tokens:
            raise PoolExhausted(f"{num_tokens} tokens do not fit into the pages: {self._pool.free_tokens} are free")

    def drop_unused(self) -> None:
        """Give the pages of all variants back that nobody uses."""
        with self._changed:
            for resident in [one for one in self._known.values() if not one.num_users and not one.is_loading]:
                self._drop(resident)

    def forget(self, variant_ids: set[str]) -> None:
        """Use these no more; requests that have them in use keep them to their end."""
        with self._changed:
            for variant_id in variant_ids & self._known.keys():
                self._drop(self._known[variant_id])

    def close(self) -> None:
        """Stop loading."""
        self._loaders.shutdown(wait=True, cancel_futures=True)

    def _copy_all(self, resident: Resident, reader: LayerReader) -> None:
        # Nothing to wait for: a thread a variant would only take the cores from the computation that has begun.
        def piece(layer: int, _member: int) -> None:
            self._pool.write(layer, resident.blocks, *reader.layer(layer))

        team().run(self._num_layers, piece, is_plain=True)
        resident.ready_layers = self._num_layers

    def _copy_as_they_come(self, resident: Resident, reader: LayerReader) -> None:
        for layer in range(self._num_layers):
            self._pool.write(layer, resident.blocks, *reader.layer(layer))
            with self._changed:
                resident.ready_layers = layer + 1
                self._changed.notify_all()

    def _load(self, resident: Resident, reader: LayerReader, copy: Callable[[Resident, LayerReader], None]) -> None:
        try:
            copy(resident, reader)
        except Exception as error:
            # Whatever it is, requests wait for these layers; they compute the chunk instead, and say why.
            with self._changed:
                resident.failure = str(error) or type(error).__name__
        finally:
            reader.close()
            with self._changed:
                resident.is_loading = False
                resident.blocks.is_frozen = True
                self._changed.notify_all()
                if resident.failure or resident.is_dropped:
                    self._drop(resident)
                self._num_loading -= 1

    def _drop(self, resident: Resident) -> None:
        # Called with the condition held. Whoever comes last, user or loader, gives the pages back.
        resident.is_dropped = True
        if self._known.get(resident.meta.variant_id) is resident:
            del self._known[resident.meta.variant_id]
        if not resident.num_users and not resident.is_loading:
            self._pool.release(resident.blocks)
