"""What the store knows: each variant, the tiers that have it, who goes first, and under what names chunks came.

Only bookkeeping, no reading or writing; every method takes the one lock, so a caller may hold it over several.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from nonet.common.errors import InputError
from nonet.ragcache.store.eviction import Eviction, Victims
from nonet.ragcache.store.names import Names
from nonet.ragcache.store.tiers import Tier
from nonet.ragcache.store.variant import VariantMeta

Identity = tuple[str, str, tuple[str, ...]]


@dataclass(slots=True)
class Entry:
    """A variant.

    Attributes:
        meta: its description.
        places: the tiers that have it, as positions, with the bytes that it takes there.
        num_pins: who needs it to stay.
        priority: the lowest goes first.
    """

    meta: VariantMeta
    priority: float
    places: dict[int, int] = field(default_factory=dict)
    num_pins: int = 0


def identity_of(meta: VariantMeta) -> Identity:
    """What two variants have in common that are the same."""
    return meta.chunk_key, meta.system_key, meta.prefix_keys


class Index:
    """Entries by id, chunk and identity; bytes and victims by tier.

    Args:
        tiers: the fastest first.
        eviction: gives priorities.
        clock: seconds that only grow.

    Attributes:
        names: documents of chunks; what waits to be stored refers to them too.
    """

    def __init__(self, tiers: Sequence[Tier], eviction: Eviction, clock: Callable[[], float]) -> None:
        self.lock = threading.RLock()
        self._tiers, self._eviction, self._clock = tiers, eviction, clock
        self._entries: dict[str, Entry] = {}
        self._chunks: dict[str, dict[str, None]] = {}
        self._identities: dict[Identity, str] = {}
        self._victims = [Victims() for _ in tiers]
        self._pinned: set[str] = set()
        self._used_bytes = [0] * len(tiers)
        self.names = Names()

    def __contains__(self, variant_id: object) -> bool:
        return variant_id in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def num_chunks(self) -> int:
        """Chunks that have a variant."""
        return len(self._chunks)

    def used_bytes(self, tier: int) -> int:
        """What is kept in a tier."""
        return self._used_bytes[tier]

    def num_in(self, tier: int) -> int:
        """How many variants a tier has."""
        return len(self._victims[tier])

    def ids_in(self, tier: int) -> set[str]:
        """The variants that a tier is believed to have."""
        with self.lock:
            return {variant_id for variant_id, entry in self._entries.items() if tier in entry.places}

    def get(self, variant_id: str) -> Entry | None:
        """The entry of a variant."""
        return self._entries.get(variant_id)

    def of_chunk(self, chunk_key: str) -> list[Entry]:
        """The variants of a chunk, the oldest first."""
        with self.lock:
            return [self._entries[variant_id] for variant_id in self._chunks.get(chunk_key, ())]

    def same(self, identity: Identity) -> str | None:
        """The id of the variant with this identity."""
        return self._identities.get(identity)

    def add(self, meta: VariantMeta) -> Entry:
        """Enter a variant, in no tier yet; one that is there already is given back as it is.

        Raises:
            InputError: the id is another variant's.
        """
        with self.lock:
            known = self._entries.get(meta.variant_id)
            if known is not None:
                if identity_of(known.meta) != identity_of(meta):
                    raise InputError(f"variant_id {meta.variant_id} names two variants; make ids with variant_id_of")
                return known
            entry = Entry(meta, self._eviction.added(meta.variant_id, meta.chunk_key, meta.num_tokens, self._clock()))
            self._entries[meta.variant_id] = entry
            self._chunks.setdefault(meta.chunk_key, {})[meta.variant_id] = None
            self._identities[identity_of(meta)] = meta.variant_id
            self.names.refer(meta)
            return entry

    def place(self, variant_id: str, tier: int, num_bytes: int) -> bool:
        """Note that a tier has a variant; False when the variant was dropped meanwhile.

        Args:
            variant_id: which.
            tier: position of the tier.
            num_bytes: what it takes there.
        """
        with self.lock:
            entry = self._entries.get(variant_id)
            if entry is None:
                return False
            self._used_bytes[tier] += num_bytes - entry.places.get(tier, 0)
            entry.places[tier] = num_bytes
            self._victims[tier].set(variant_id, entry.priority)
            return True

    def unplace(self, variant_id: str, tier: int, *, is_victim: bool) -> None:
        """Note that a tier does not have a variant any more; when no tier has it, it is dropped.

        Args:
            variant_id: which, known or not.
            tier: position of the tier.
            is_victim: for want of room.
        """
        with self.lock:
            entry = self._entries.get(variant_id)
            if entry is None or tier not in entry.places:
                return
            self._used_bytes[tier] -= entry.places.pop(tier)
            self._victims[tier].remove(variant_id)
            if not entry.places:
                self.drop(variant_id, is_victim=is_victim)

    def drop(self, variant_id: str, *, is_victim: bool) -> list[int]:
        """Forget a variant; the positions of the tiers that had it.

        Args:
            variant_id: which, known or not.
            is_victim: for want of room.
        """
        with self.lock:
            entry = self._entries.pop(variant_id, None)
            if entry is None:
                return []
            for tier, num_bytes in entry.places.items():
                self._used_bytes[tier] -= num_bytes
                self._victims[tier].remove(variant_id)
            siblings = self._chunks[entry.meta.chunk_key]
            del siblings[variant_id], self._identities[identity_of(entry.meta)]
            if not siblings:
                del self._chunks[entry.meta.chunk_key]
            self._pinned.discard(variant_id)
            self.names.release(entry.meta)
            self._eviction.dropped(variant_id, is_victim=is_victim)
            return list(entry.places)

    def used(self, variant_id: str, cfo: float) -> None:
        """Count a use.

        Args:
            variant_id: which, known or not.
            cfo: share of its rows that was repaired.
        """
        with self.lock:
            entry = self._entries.get(variant_id)
            if entry is not None:
                entry.priority = self._eviction.used(variant_id, cfo, self._clock())
                for tier in entry.places:
                    self._victims[tier].set(variant_id, entry.priority)

    def pin(self, variant_id: str, by: int) -> bool:
        """Add pins or take them away; False when the variant is not known.

        Args:
            variant_id: which.
            by: 1 or -1.
        """
        with self.lock:
            entry = self._entries.get(variant_id)
            if entry is None:
                return False
            entry.num_pins = max(0, entry.num_pins + by)
            (self._pinned.add if entry.num_pins else self._pinned.discard)(variant_id)
            return True

    def victim(self, tier: int) -> Entry | None:
        """Who goes first from a tier; None when all that is there is pinned."""
        with self.lock:
            variant_id = self._victims[tier].lowest(self._pinned)
            return None if variant_id is None else self._entries[variant_id]

    def surplus(self, chunk_key: str, max_variants: int, besides: str) -> list[str]:
        """The variants of a chunk that are too many, the lowest priorities; pinned ones stay.

        Args:
            chunk_key: which chunk.
            max_variants: how many it may have.
            besides: a variant that stays: the one for which room is made.
        """
        with self.lock:
            entries = self.of_chunk(chunk_key)
            free = [one for one in entries if not one.num_pins and one.meta.variant_id != besides]
            free.sort(key=lambda one: one.priority)
            return [one.meta.variant_id for one in free[: max(0, len(entries) - max_variants)]]

    def surplus_chunk(self, max_chunks: int, besides: str) -> list[str]:
        """The variants of the chunk that goes first when there are too many chunks, else none.

        Args:
            max_chunks: how many there may be.
            besides: a chunk that stays.
        """
        with self.lock:
            if len(self._chunks) <= max_chunks:
                return []
            free = [
                (max(self._entries[one].priority for one in ids), key)
                for key, ids in self._chunks.items()
                if key != besides and not any(one in self._pinned for one in ids)
            ]
            return list(self._chunks[min(free)[1]]) if free else []

    def check_integrity(self, waiting: Iterable[VariantMeta] = ()) -> None:
        """Raise when the books do not agree with each other.

        Args:
            waiting: variants that refer to names but are not entered yet.

        Raises:
            RuntimeError: which ones.
        """
        with self.lock:
            self.names.check_integrity([*(entry.meta for entry in self._entries.values()), *waiting])
            for tier in range(len(self._tiers)):
                here = {one: entry for one, entry in self._entries.items() if tier in entry.places}
                if sum(entry.places[tier] for entry in here.values()) != self._used_bytes[tier]:
                    raise RuntimeError(f"bytes of tier {tier} do not add up")
                if len(here) != len(self._victims[tier]) or any(one not in self._victims[tier] for one in here):
                    raise RuntimeError(f"victims of tier {tier} are not what is there")
            if sorted(one for ids in self._chunks.values() for one in ids) != sorted(self._entries):
                raise RuntimeError("chunks do not list the variants")
            if sorted(self._identities.values()) != sorted(self._entries):
                raise RuntimeError("identities do not list the variants")
            if self._pinned != {one for one, entry in self._entries.items() if entry.num_pins}:
                raise RuntimeError("pins do not add up")
