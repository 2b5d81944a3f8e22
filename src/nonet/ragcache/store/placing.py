"""Where variants lie: putting them into tiers, making room, demoting, promoting, and what happens when a tier fails.

Everything that writes to a tier for want of room runs on the write-back thread, one job after the other, so that two
decisions about room never cross. Faults are counted, logged, and answered by doing without.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from typing import cast

from nonet.ragcache.store.index import Entry, Index
from nonet.ragcache.store.layout import Packed, checksum
from nonet.ragcache.store.rooms import Rooms
from nonet.ragcache.store.tier_names import TierNames
from nonet.ragcache.store.tiers import SharedTier, Tier, TierFault, TierFull, VariantDamaged, VariantGone
from nonet.ragcache.store.variant import KVLayout, VariantMeta, VariantUnavailable

_LOG = logging.getLogger(__name__)
_FULL_TRIES = 4

COUNTS = (
    "submitted",
    "stored",
    "not_stored",
    "duplicates",
    "refused",
    "evicted",
    "demoted",
    "promoted",
    "copied_down",
    "invalidated",
)
"""What a store counts."""


class Placing:
    """Moves variants between tiers.

    Args:
        tiers: the fastest first.
        index: the books.
        max_variants: of a chunk.
        max_chunks: in all; None for no limit.
        retry_s: how long a tier that failed is left alone.

    Attributes:
        faults: how often what failed where, as "disk: damaged".
        counts: what was done, as "demoted".
        names: of documents, in the tiers.
        rooms: how much each tier may hold.
    """

    def __init__(
        self, tiers: Sequence[Tier], index: Index, *, max_variants: int, max_chunks: int | None, retry_s: float
    ) -> None:
        self._tiers, self._index = tiers, index
        self._max_variants, self._max_chunks, self._retry_s = max_variants, max_chunks, retry_s
        self._no_reads_until_s = [0.0] * len(tiers)
        self._no_writes_until_s = [0.0] * len(tiers)
        self.names, self.rooms = TierNames(tiers, index), Rooms(tiers)
        # Word of what became invalid that a tier could not take; told again before anything else goes there.
        self._owed_ids: list[set[str]] = [set() for _ in tiers]
        self._owed_documents: list[set[str]] = [set() for _ in tiers]
        self.faults: Counter[str] = Counter()
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))

    def is_up(self, tier: int) -> bool:
        """Whether a tier is worth reading from now."""
        return time.monotonic() >= self._no_reads_until_s[tier]

    def insert(self, packed: Packed) -> None:
        """Keep a new variant in the first tier that takes it, making room by the lowest priorities.

        Args:
            packed: the variant; the index knows it already.
        """
        meta = packed.meta
        entry = self._index.get(meta.variant_id)
        if entry is None:
            return  # invalidated just now
        try:
            self._limit(meta)
            any(self.put(packed, tier, entry.priority if tier else None) for tier in range(len(self._tiers)))
        finally:
            with self._index.lock:
                is_stored = bool(entry.places)
                if not is_stored:
                    self._index.drop(meta.variant_id, is_victim=True)
            self.counts["stored" if is_stored else "not_stored"] += 1

    def put(self, packed: Packed, tier: int, floor: float | None) -> bool:
        """Put a variant into a tier; whether it is there afterwards.

        Args:
            packed: the variant.
            tier: position of the tier.
            floor: what has a higher priority does not make room for it; None when whatever is lowest does.
        """
        meta = packed.meta
        size = self._tiers[tier].stored_bytes(meta)
        if not self._is_writable(tier) or not self.settle(tier) or not self._make_room(tier, size, floor):
            return False
        try:
            if not self._write(packed, tier, size, floor):
                return False
        except VariantUnavailable as error:
            self.write_failed(tier, error)
            return False
        if not self._index.place(meta.variant_id, tier, size):
            self._remove(meta.variant_id, tier)  # invalidated while it was being written
            return False
        return True

    def _write(self, packed: Packed, tier: int, size: int, floor: float | None) -> bool:
        """Write a variant, the names of its chunks first; a tier that is full makes room a few times."""
        for _ in range(_FULL_TRIES):
            try:
                self.names.write(tier, packed.meta)
                self._tiers[tier].put(packed)
            except TierFull as error:
                self._is_full(tier, error)
                if not self._make_room(tier, size, floor):
                    return False
            else:
                return True
        self._no_writes_until_s[tier] = time.monotonic() + self._retry_s
        return False

    def write_names(self) -> None:
        """Bring names that came late to the tiers; what a tier cannot take now goes with its next variant."""
        for tier in self.names.lasting:
            if self._is_writable(tier):
                try:
                    self.names.write(tier)
                except TierFull as error:
                    self._is_full(tier, error)
                except TierFault as error:
                    self.write_failed(tier, error)

    def noted(self, document: str) -> set[str]:
        """The chunks, as hashes, that any tier knows of a document; a tier that does not answer is asked later.

        Args:
            document: its name.
        """
        found: set[str] = set()
        for tier in self.names.lasting:
            try:
                found |= self.names.noted(tier, document)
            except TierFault as error:
                self.read_failed(tier, "", error)
                self._owed_documents[tier].add(document)
        return found

    def forget_names(self, document: str, chunks: set[str]) -> None:
        """Remove a document's names, once its variants are gone.

        Args:
            document: its name.
            chunks: hashes.
        """
        with self._index.lock:
            self._index.names.forget(document)
        for tier in self.names.lasting:
            try:
                self.names.forget(tier, document, chunks)
            except TierFault as error:
                self._count(tier, error)
                self._owed_documents[tier].add(document)

    def settle(self, tier: int) -> bool:
        """Repeat to a tier what it was told to forget while it did not answer; False when it still does not.

        Args:
            tier: position of the tier.
        """
        try:
            for variant_id in list(self._owed_ids[tier]):
                self._bury(tier, variant_id)
                self._owed_ids[tier].discard(variant_id)
            for document in list(self._owed_documents[tier]):
                chunks = self.names.noted(tier, document)
                for variant_id in self._index.names.dependents(chunks):
                    self.invalidate(variant_id)
                self.names.forget(tier, document, chunks)
                self._owed_documents[tier].discard(document)
        except TierFault as error:
            self.read_failed(tier, "", error)
            return False
        return True

    def copy_down(self, variant_id: str) -> None:
        """Copy a variant to the next tier that outlives the process, and to the first that other machines read too.

        Args:
            variant_id: which.
        """
        entry = self._index.get(variant_id)
        if entry is None or not entry.places:
            return
        lasting = [tier for tier, one in enumerate(self._tiers) if not one.is_memory and tier > min(entry.places)][:1]
        shared = [tier for tier, one in enumerate(self._tiers) if one.is_shared][:1]
        missing = [tier for tier in dict.fromkeys(lasting + shared) if tier not in entry.places]
        packed = self.fetch(entry) if missing else None
        if packed is not None:
            self.counts["copied_down"] += sum(self.put(packed, tier, entry.priority) for tier in missing)

    def promote(self, variant_id: str, packed: Packed | None = None) -> None:
        """Bring a variant into the fastest tier; where it was it stays.

        Args:
            variant_id: which.
            packed: its bytes if they are at hand, checked.
        """
        entry = self._index.get(variant_id)
        if entry is None or not entry.places or 0 in entry.places:
            return
        packed = packed or self.fetch(entry)
        if packed is not None and self.put(packed, 0, None):
            self.counts["promoted"] += 1

    def fetch(self, entry: Entry) -> Packed | None:
        """Read a whole variant from the fastest tier that can give it, checked; None when none can.

        Args:
            entry: which.
        """
        for tier in sorted(entry.places):
            if not self.is_up(tier):
                continue
            try:
                return _read_all(self._tiers[tier], entry.meta)
            except VariantUnavailable as error:
                self.read_failed(tier, entry.meta.variant_id, error)
        return None

    def trim(self) -> None:
        """Bring every tier below its capacity and every chunk below its number of variants."""
        for tier in range(len(self._tiers)):
            self._make_room(tier, 0, None)

    def invalidate(self, variant_id: str) -> bool:
        """Forget a variant everywhere, on other machines too; whether it was known.

        Args:
            variant_id: which.
        """
        with self._index.lock:
            is_known = variant_id in self._index
            places = self._index.drop(variant_id, is_victim=False)
        for tier, one in enumerate(self._tiers):
            if tier in places or one.is_shared:
                try:
                    self._bury(tier, variant_id)
                except TierFault as error:
                    self.read_failed(tier, variant_id, error)
                    self._owed_ids[tier].add(variant_id)
        return is_known

    def _bury(self, tier: int, variant_id: str) -> None:
        one = self._tiers[tier]
        if one.is_shared:
            cast(SharedTier, one).bury(variant_id)
        else:
            one.remove(variant_id)

    def drop(self, variant_id: str, *, is_victim: bool) -> bool:
        """Forget a variant everywhere; whether it was known.

        Args:
            variant_id: which.
            is_victim: for want of room.
        """
        with self._index.lock:
            is_known = variant_id in self._index
            places = self._index.drop(variant_id, is_victim=is_victim)
        for tier in places:
            self._remove(variant_id, tier)
        return is_known

    def read_failed(self, tier: int, variant_id: str, error: VariantUnavailable) -> None:
        """Note that a copy could not be read: it is forgotten, or its tier left alone for a while.

        Args:
            tier: position of the tier.
            variant_id: which variant.
            error: why.
        """
        self._count(tier, error)
        if isinstance(error, VariantGone | VariantDamaged):
            self._index.unplace(variant_id, tier, is_victim=False)
            self._remove(variant_id, tier)
        else:
            self._no_reads_until_s[tier] = self._no_writes_until_s[tier] = time.monotonic() + self._retry_s

    def write_failed(self, tier: int, error: VariantUnavailable) -> None:
        """Note that a tier took nothing; it may still be read.

        Args:
            tier: position of the tier.
            error: why.
        """
        self._count(tier, error)
        self._no_writes_until_s[tier] = time.monotonic() + self._retry_s

    def _is_writable(self, tier: int) -> bool:
        return time.monotonic() >= self._no_writes_until_s[tier]

    def _is_full(self, tier: int, error: TierFull) -> None:
        with self._index.lock:
            self.faults[f"{self._tiers[tier].name}: {error.kind}"] += 1
        self.rooms.is_full(tier, self._index.used_bytes(tier), str(error))

    def _count(self, tier: int, error: VariantUnavailable) -> None:
        name = self._tiers[tier].name
        with self._index.lock:
            self.faults[f"{name}: {error.kind}"] += 1
        _LOG.warning("store: %s: %s: %s", name, error.kind, error)

    def _limit(self, meta: VariantMeta) -> None:
        surplus = self._index.surplus(meta.chunk_key, self._max_variants, meta.variant_id)
        if self._max_chunks is not None:
            surplus += self._index.surplus_chunk(self._max_chunks, meta.chunk_key)
        for variant_id in surplus:
            self.drop(variant_id, is_victim=True)
            self.counts["evicted"] += 1

    def _make_room(self, tier: int, num_bytes: int, floor: float | None) -> bool:
        capacity = self.rooms.capacity_bytes(tier)
        if capacity is None:
            return True
        if num_bytes > capacity:
            return False
        while self._index.used_bytes(tier) + num_bytes > capacity:
            victim = self._index.victim(tier)
            if victim is None or (floor is not None and victim.priority > floor):
                return False
            self._evict(victim, tier)
        return True

    def _evict(self, victim: Entry, tier: int) -> None:
        variant_id = victim.meta.variant_id
        if set(victim.places) == {tier} and self._demote(victim, tier):
            self.counts["demoted"] += 1
        self._index.unplace(variant_id, tier, is_victim=True)
        self._remove(variant_id, tier)
        self.counts["evicted"] += variant_id not in self._index

    def _demote(self, victim: Entry, tier: int) -> bool:
        lower = [one for one in range(tier + 1, len(self._tiers)) if self._is_writable(one)]
        packed = self.fetch(victim) if lower else None
        return packed is not None and any(self.put(packed, one, victim.priority) for one in lower)

    def _remove(self, variant_id: str, tier: int) -> None:
        try:
            self._tiers[tier].remove(variant_id)
        except TierFault as error:
            self._count(tier, error)


def _read_all(tier: Tier, meta: VariantMeta) -> Packed:
    source = tier.open(meta.variant_id)
    try:
        sums = source.sums()
        layers = tuple(source.read(layer) for layer in range(KVLayout.parse(meta.layout).num_layers))
    finally:
        source.close()
    if not tier.is_memory and tuple(map(checksum, layers)) != sums:
        raise VariantDamaged(f"variant {meta.variant_id} from {tier.name}: a layer's checksum does not fit")
    return Packed(meta, layers, sums)
