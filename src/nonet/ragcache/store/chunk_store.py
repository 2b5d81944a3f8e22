"""The store of chunk KV: variants over several tiers, behind one object.

What is computed is handed in (`submit`) and kept in the background; what is needed is looked up (`variants`), opened
(`open`) and read layer by layer. Nothing here makes an answer wrong: what cannot be read is `VariantUnavailable`, and
the caller computes the chunk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from nonet.common.errors import InputError
from nonet.ragcache.store.discovery import Discovery
from nonet.ragcache.store.eviction import EVICTIONS, Eviction
from nonet.ragcache.store.index import Identity, Index, identity_of
from nonet.ragcache.store.layout import Packed, check_fit, pack
from nonet.ragcache.store.names import hash_of
from nonet.ragcache.store.placing import Placing
from nonet.ragcache.store.preload import BandwidthMeter
from nonet.ragcache.store.reading import Copy, Loader, StoredReader
from nonet.ragcache.store.specs import tiers_from_spec
from nonet.ragcache.store.stats import StoreStats, TierStats
from nonet.ragcache.store.tiers import Tier
from nonet.ragcache.store.variant import ChunkKV, VariantMeta, VariantUnavailable
from nonet.ragcache.store.write_back import WriteBack

_NAME, _PROMOTE, _STORE, _COPY = 0, 0, 1, 2
OnInvalidated = Callable[[set[str], set[str]], None]
"""Told the ids of variants that became invalid, and the chunks of the document, as `hash_of` their keys."""


class ChunkStore:
    """Variants of chunks in tiers, the fastest first; safe to call from several threads.

    Memory: the memory tier's capacity, `max_pending_bytes`, open readers, and about 1 KB + 2 bytes a token for each
    variant in any tier.

    Args:
        tiers: the fastest first; closed with the store.
        eviction: a name of `EVICTIONS`, or a policy.
        max_variants: of a chunk; beyond it the lowest priority goes.
        max_chunks: in all; None for no limit.
        max_pending_bytes: what may wait to be stored; beyond it submissions are dropped and counted.
        layer_s: compute time of a layer, by which reads are queued; `set_layer_time` corrects it.
        verify_memory: check checksums of the memory tier too.
        retry_s: how long a tier that failed is left alone.
        refresh_s: how often tiers that other machines write to are looked at.
        clock: seconds that only grow; ages of uses go by it.

    Raises:
        InputError: no tiers, unknown eviction, or a number that makes no sense.

    >>> store = ChunkStore.from_spec("ram:100MB", eviction="lru")
    >>> store.variants("no such chunk"), store.stats().num_variants
    ((), 0)
    >>> store.close()
    """

    def __init__(
        self,
        tiers: Sequence[Tier],
        *,
        eviction: str | Eviction = "value",
        max_variants: int = 5,
        max_chunks: int | None = None,
        max_pending_bytes: int = 1 << 30,
        layer_s: float = 0.01,
        verify_memory: bool = False,
        retry_s: float = 5.0,
        refresh_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not tiers or max_variants < 1 or (max_chunks is not None and max_chunks < 1):
            raise InputError("a store needs a tier, and room for a variant of a chunk: give tiers, max_variants >= 1")
        self._tiers = tuple(tiers)
        self._layer_s, self._verify_memory = layer_s, verify_memory
        policy = EVICTIONS[eviction]() if isinstance(eviction, str) else eviction
        self._index = Index(self._tiers, policy, clock)
        self._placing = Placing(
            self._tiers, self._index, max_variants=max_variants, max_chunks=max_chunks, retry_s=retry_s
        )
        self._meters = [BandwidthMeter() for _ in self._tiers]
        self._loaders = [None if one.is_memory else Loader(one.name, one.num_readers) for one in self._tiers]
        self._num_opened = [0] * len(self._tiers)
        self._pending: dict[Identity, VariantMeta] = {}
        self._work = WriteBack(max_pending_bytes)
        self._is_closed = False
        self._on_invalidated: list[OnInvalidated] = []
        self._discovery = Discovery(
            self._tiers, self._index, self._placing, lambda variant_ids: self._tell(variant_ids, set())
        )
        self._discovery.look()
        self._work.add(self._placing.trim, rank=_STORE)
        self._discovery.keep_looking(refresh_s)

    @classmethod
    def from_spec(cls, spec: str, **options: object) -> ChunkStore:
        """A store as a command line names it: "ram:4GB,disk:/var/kv:50GB,redis://host/0,s3://bucket/prefix".

        Args:
            spec: tiers, the fastest first; see `tiers_from_spec`.
            options: as for `ChunkStore`.

        Raises:
            InputError: the text names no tier, or a tier cannot be made.
        """
        return cls(tiers_from_spec(spec), **options)  # type: ignore[arg-type]

    def variants(self, chunk_key: str) -> tuple[VariantMeta, ...]:
        """The variants of a chunk that can be read now, the oldest first.

        Args:
            chunk_key: which chunk.
        """
        with self._index.lock:
            entries = self._index.of_chunk(chunk_key)
            return tuple(one.meta for one in entries if any(self._placing.is_up(tier) for tier in one.places))

    def tier_of(self, variant_id: str) -> str:
        """The name of the fastest tier that has a variant, "" when none has.

        Args:
            variant_id: which.
        """
        with self._index.lock:
            entry = self._index.get(variant_id)
            return self._tiers[min(entry.places)].name if entry and entry.places else ""

    def open(self, variant_id: str) -> StoredReader:
        """Begin to read a variant; it stays until the reader is closed.

        What was read to the end from a slow tier is kept in the memory tier as well.

        Args:
            variant_id: which.

        Raises:
            VariantUnavailable: no tier has it, or none that has it answers.
        """
        with self._index.lock:
            entry = self._index.get(variant_id)
            places = [tier for tier in sorted(entry.places) if self._placing.is_up(tier)] if entry else []
            if entry is None or not places:
                raise VariantUnavailable(f"variant {variant_id[:130]} is in no tier that answers")
            self._index.pin(variant_id, 1)
        try:
            reader = StoredReader(
                entry.meta,
                [Copy(self._tiers[tier], self._meters[tier], self._loaders[tier]) for tier in places],
                layer_s=self._layer_s,
                verify_memory=self._verify_memory,
                on_fault=lambda tier, error: self._placing.read_failed(self._tiers.index(tier), variant_id, error),
                on_close=partial(self._closed, variant_id),
            )
        except VariantUnavailable:
            self._index.pin(variant_id, -1)
            raise
        self._num_opened[self._tiers.index(reader.tier)] += 1
        return reader

    def submit(self, meta: VariantMeta, kv: ChunkKV) -> None:
        """Keep a variant, in the background; returns at once.

        Args:
            meta: its description.
            kv: its keys and values; they must not change until they are stored (`flush`), so hand in copies of what
                will be written to again.

        Raises:
            InputError: not computed exactly, or description and tensors do not fit.
        """
        if not meta.exact:
            raise InputError(
                f"variant {meta.variant_id}: only exactly computed KV is stored, errors of repaired KV would add up"
            )
        check_fit(meta, kv)
        identity = identity_of(meta)
        with self._index.lock:
            self._placing.counts["submitted"] += 1
            same = self._index.get(self._index.same(identity) or "")
            # One without statistics is described anew by one that has them.
            is_better = same is not None and same.meta.variant_id == meta.variant_id and _adds(meta, same.meta)
            if identity in self._pending or (same is not None and not is_better):
                self._placing.counts["duplicates"] += 1
                self.named((meta.chunk_key, document) for document in meta.documents)
                return
            if meta.variant_id in self._index and not is_better:
                raise InputError(f"variant_id {meta.variant_id} is another variant's; make ids with variant_id_of")
            self._pending[identity] = meta
            self._index.names.refer(meta)
        if not self._work.add(partial(self._store, meta, kv), num_bytes=meta.num_bytes, rank=_STORE):
            with self._index.lock:
                self._unwait(meta)
                self._placing.counts["refused"] += 1

    def named(self, names: Iterable[tuple[str, str]]) -> None:
        """Note that chunks came as parts of documents, so that their KV goes with each of these; returns at once.

        It holds for KV that is there and for KV that is submitted later, by whatever name, as long as some depends on
        the chunk. To be called before `submit`, for all chunks of a prompt: a variant carries what was before it. A
        chunk that already has 256 names loses its KV, rather than a name; the next one who needs it computes it.

        Args:
            names: keys of chunks, and the document of each.
        """
        new = []
        for chunk_key, document in names:
            with self._index.lock:
                is_full = self._index.names.is_full(chunk_key, document)
            if is_full:
                self.invalidate(chunk_key=chunk_key)
            with self._index.lock:
                if self._index.names.add(chunk_key, document):
                    new.append((hash_of(document), hash_of(chunk_key)))
        if new and self._placing.names.lasting:
            self._placing.names.owe(new)
            self._work.add(self._placing.write_names, rank=_NAME)

    def used(self, variant_id: str, cfo: float) -> None:
        """Count a use of a variant; what is gone by now is no error.

        Args:
            variant_id: which.
            cfo: share of its rows that was repaired, in [0, 1].
        """
        self._index.used(variant_id, min(1.0, max(0.0, cfo)))

    def pin(self, variant_id: str) -> None:
        """Keep a variant from eviction until as many `unpin`; invalidation drops it all the same.

        Args:
            variant_id: which.

        Raises:
            VariantUnavailable: it is not known.
        """
        if not self._index.pin(variant_id, 1):
            raise VariantUnavailable(f"variant {variant_id[:130]} is in no tier")

    def unpin(self, variant_id: str) -> None:
        """Take a pin away; what is gone by now is no error.

        Args:
            variant_id: which.
        """
        self._index.pin(variant_id, -1)

    def promote(self, variant_ids: Iterable[str]) -> None:
        """Begin to bring variants into the fastest tier, for a request that waits; returns at once.

        Args:
            variant_ids: which; what is gone or there already is passed over.
        """
        pinned = [variant_id for variant_id in variant_ids if self._index.pin(variant_id, 1)]
        if pinned and not self._work.add(partial(self._promote, pinned), rank=_PROMOTE):
            self._unpin_all(pinned)

    def load_time_s(self, variant_ids: Iterable[str]) -> float:
        """How long reading these variants will take together, by how fast their tiers were of late.

        Args:
            variant_ids: which; what is gone counts nothing.
        """
        total_s = 0.0
        with self._index.lock:
            for variant_id in variant_ids:
                entry = self._index.get(variant_id)
                places = [tier for tier in sorted(entry.places) if self._placing.is_up(tier)] if entry else []
                if entry and places and not self._tiers[places[0]].is_memory:
                    total_s += entry.meta.num_bytes / self._meters[places[0]].bytes_per_s
        return total_s

    def set_layer_time(self, layer_s: float) -> None:
        """Say how long a layer computes, by which reads are queued.

        Args:
            layer_s: seconds.
        """
        self._layer_s = max(0.0, layer_s)

    def invalidate(self, *, document: str | None = None, chunk_key: str | None = None) -> int:
        """Drop the variants that depend on a document or on a chunk from all tiers; how many there were.

        Those are the variants of its chunks, under whatever name they were computed, and those of other chunks that
        were computed behind them: their KV carries its content. A variant that waits to be stored meanwhile is dropped
        too. Other machines with the same shared tier drop theirs when they next look at it. A tier that does not answer
        is told again before anything else goes there, as long as this process lives.

        Args:
            document: one of the names under which its chunks came.
            chunk_key: key of a chunk.

        Raises:
            InputError: neither or both are given.
        """
        if (document is None) == (chunk_key is None):
            raise InputError("invalidate takes either a document or a chunk_key")
        chunks = self._placing.noted(document) if document is not None else {hash_of(str(chunk_key))}
        with self._index.lock:
            if document is not None:
                chunks |= self._index.names.chunks_of(document)
            ids = self._index.names.dependents(chunks)
            waiting = [one for one in self._pending.values() if one.variant_id in ids]
            for meta in waiting:
                self._unwait(meta)
        num = sum(self._placing.invalidate(one) for one in ids) + len(waiting)
        if document is not None:
            self._placing.forget_names(document, chunks)
        with self._index.lock:
            self._placing.counts["invalidated"] += num
        self._tell(ids, chunks)
        return num

    def on_invalidated(self, callback: OnInvalidated) -> None:
        """Be told what became invalid, here or on another machine, so that copies of it can go too.

        Args:
            callback: must not call the store.
        """
        self._on_invalidated.append(callback)

    def refresh(self) -> None:
        """Learn what other machines have written to or removed from the tiers that are shared with them."""
        self._discovery.look_again()

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until everything that was submitted is stored; whether that came to be.

        Args:
            timeout_s: how long to wait at most.
        """
        return self._work.flush(timeout_s)

    def stats(self) -> StoreStats:
        """What the store holds and has done."""
        with self._index.lock:
            tiers = tuple(
                TierStats(
                    one.name,
                    self._index.num_in(tier),
                    self._index.used_bytes(tier),
                    self._placing.rooms.capacity_bytes(tier),
                    self._num_opened[tier],
                    self._meters[tier].total_bytes,
                    self._meters[tier].bytes_per_s,
                    self._placing.is_up(tier),
                )
                for tier, one in enumerate(self._tiers)
            )
            return StoreStats(
                self._index.num_chunks,
                len(self._index),
                tiers,
                dict(self._placing.counts),
                dict(self._placing.faults),
                self._work.pending_bytes,
            )

    def check_integrity(self) -> None:
        """Raise when the books do not agree with each other or with the tiers; nothing may be going on meanwhile.

        Raises:
            RuntimeError: what does not agree.
        """
        with self._index.lock:
            self._index.check_integrity(self._pending.values())
        for tier, one in enumerate(self._tiers):
            if one.ids() != self._index.ids_in(tier):
                raise RuntimeError(f"{one.name} does not hold what the index says")
            capacity = self._placing.rooms.capacity_bytes(tier)
            if capacity is not None and self._index.used_bytes(tier) > capacity:
                raise RuntimeError(f"{one.name} is over its capacity")

    def close(self, timeout_s: float = 30.0) -> None:
        """Store what waits, then close the tiers; safe to call twice.

        Args:
            timeout_s: how long storing may take.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._discovery.close()
        self._work.close(timeout_s)
        for loader in self._loaders:
            if loader is not None:
                loader.close()
        for tier in self._tiers:
            tier.close()

    def _store(self, meta: VariantMeta, kv: ChunkKV) -> None:
        try:
            packed = pack(meta, kv)
        except Exception:
            with self._index.lock:
                self._unwait(meta)
            raise
        with self._index.lock:
            if self._pending.pop(identity_of(meta), None) is None:
                return  # invalidated while it waited
            known = self._index.get(meta.variant_id)
            names = self._index.names.of_variant(meta)
            if known is not None and _adds(meta, known.meta):
                self._placing.drop(meta.variant_id, is_victim=False)
            # From now on this entry keeps the names of its chunks, not the waiting variant.
            self._index.add(meta)
            for name in names:
                self._index.names.restore(name)
        self._placing.insert(packed)
        if len(self._tiers) > 1:
            self._work.add(partial(self._placing.copy_down, meta.variant_id), rank=_COPY)

    def _unwait(self, meta: VariantMeta) -> None:
        if self._pending.pop(identity_of(meta), None) is not None:
            self._index.names.release(meta)

    def _tell(self, variant_ids: set[str], chunks: set[str]) -> None:
        for callback in self._on_invalidated:
            callback(variant_ids, chunks)

    def _promote(self, pinned: Sequence[str]) -> None:
        # All stay pinned until the last is there, or they would push each other out.
        try:
            for variant_id in pinned:
                self._placing.promote(variant_id)
        finally:
            self._unpin_all(pinned)

    def _unpin_all(self, pinned: Iterable[str]) -> None:
        for variant_id in pinned:
            self._index.pin(variant_id, -1)

    def _closed(self, variant_id: str, packed: Packed | None) -> None:
        self._index.pin(variant_id, -1)
        if packed is not None and self._tiers[0].is_memory:
            job = partial(self._placing.promote, variant_id, packed)
            self._work.add(job, num_bytes=packed.meta.num_bytes, rank=_PROMOTE)


def _adds(meta: VariantMeta, known: VariantMeta) -> bool:
    return meta.observed and not known.observed
