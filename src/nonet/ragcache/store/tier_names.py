"""Names of documents in the tiers that outlive the process: what is still to be written, and clearing up."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from nonet.ragcache.store.index import Index
from nonet.ragcache.store.names import hash_of
from nonet.ragcache.store.tiers import Name, Tier
from nonet.ragcache.store.variant import VariantMeta

_UNUSED_S = 86400.0
_SWEEP_EVERY = 10_000


class TierNames:
    """Writes names beside variants, and clears away those on which nothing depends any more.

    Names without a variant of their chunk are left for a day: another process may be about to write the variant. They
    are looked for at the start and after every 10,000 names, so that is how many a tier has beyond what it needs.

    Args:
        tiers: the fastest first.
        index: the books, with the names in memory.
    """

    def __init__(self, tiers: Sequence[Tier], index: Index) -> None:
        self._tiers, self._index = tiers, index
        self._unwritten: list[set[Name]] = [set() for _ in tiers]
        self._num_written = [0] * len(tiers)
        self.lasting = [tier for tier, one in enumerate(tiers) if not one.is_memory]
        """Positions of the tiers that keep names."""

    def owe(self, names: Iterable[Name]) -> None:
        """Names that are to be written to every lasting tier.

        Args:
            names: that came just now.
        """
        new = set(names)
        with self._index.lock:
            for tier in self.lasting:
                self._unwritten[tier] |= new

    def write(self, tier: int, meta: VariantMeta | None = None) -> None:
        """Write what is owed to a tier.

        Args:
            tier: position of the tier; nothing is done for one that does not last.
            meta: a variant that is about to be put there: the names of its chunks are written in any case.

        Raises:
            TierFault: it does not answer, or has no room; everything stays owed.
        """
        if tier not in self.lasting:
            return
        with self._index.lock:
            names = set(self._unwritten[tier])
            if meta is not None:
                names |= set(self._index.names.of_variant(meta))
        if not names:
            return
        self._tiers[tier].note(names)
        with self._index.lock:
            self._unwritten[tier] -= names
        self._num_written[tier] += len(names)
        if self._num_written[tier] >= _SWEEP_EVERY:
            self.restore(tier)

    def restore(self, tier: int) -> None:
        """Learn the names of a tier, and clear away old ones on whose chunks no known variant depends.

        Args:
            tier: position of the tier.

        Raises:
            TierFault: it does not answer.
        """
        if tier not in self.lasting:
            return
        self._num_written[tier] = 0
        since = time.time() - _UNUSED_S
        unused = []
        for name, written_s in self._tiers[tier].notes().items():
            with self._index.lock:
                if not self._index.names.restore(name) and written_s < since:
                    unused.append(name)
        self._tiers[tier].unnote(unused)

    def noted(self, tier: int, document: str) -> set[str]:
        """The chunks, as hashes, that a tier knows of a document.

        Args:
            tier: position of the tier.
            document: its name.

        Raises:
            TierFault: it does not answer.
        """
        return self._tiers[tier].noted(hash_of(document))

    def forget(self, tier: int, document: str, chunks: Iterable[str]) -> None:
        """Remove a document's names from a tier.

        Args:
            tier: position of the tier.
            document: its name.
            chunks: hashes.

        Raises:
            TierFault: it does not answer.
        """
        names = {(hash_of(document), chunk) for chunk in chunks}
        with self._index.lock:
            self._unwritten[tier] -= names
        self._tiers[tier].unnote(names)
