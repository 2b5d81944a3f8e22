"""What a place that keeps variants promises, and the ways in which it can fail.

A tier stores bytes under ids and knows nothing of models, values or budgets: `ChunkStore` decides what lies where. What
a tier hands out is judged by the reader's checksums, so a tier need not be trusted.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

from numpy.typing import NDArray

from nonet.ragcache.store.variant import VariantMeta, VariantUnavailable

if TYPE_CHECKING:
    import numpy as np

    from nonet.ragcache.store.layout import Packed


Name = tuple[str, str]
"""A document and one of its chunks, both as hashes of 32 hex digits."""


class VariantGone(VariantUnavailable):
    """The tier does not have it (any more)."""

    kind = "gone"


class VariantDamaged(VariantUnavailable):
    """What the tier has is not what was written."""

    kind = "damaged"


class TierFault(VariantUnavailable):
    """The tier does not answer, or cannot take more: a full disk, a server that is gone."""

    kind = "fault"


class TierFull(TierFault):
    """The tier has no more room, whatever its capacity says."""

    kind = "full"


FAULT_KINDS = tuple(one.kind for one in (VariantGone, VariantDamaged, TierFault, TierFull))
"""How a store counts what failed in a tier."""


class LayerSource(Protocol):
    """One variant in one tier, open for reading; `read` may be called from several threads."""

    def read(self, layer: int) -> NDArray[np.uint8]:
        """The bytes of a layer, keys before values, unchecked; the caller may keep them but must not write to them.

        Args:
            layer: from 0.

        Raises:
            VariantUnavailable: gone, cut short, or no answer.
        """

    def sums(self) -> tuple[bytes, ...]:
        """The checksum of each layer, as written with the variant.

        Raises:
            VariantUnavailable: the header cannot be read.
        """

    def close(self) -> None:
        """Let go; safe to call twice."""


class Tier(Protocol):
    """A place that keeps variants; safe to call from several threads.

    Attributes:
        name: "ram", "disk", "redis", "s3": what reports say.
        capacity_bytes: what may be stored here, by `stored_bytes`; None for no limit of ours.
        is_memory: reading costs nothing, so nothing is read ahead from it.
        is_shared: other machines write here too, so its ids are looked at again from time to time.
        num_readers: how many reads at once serve it well.
    """

    name: str
    capacity_bytes: int | None
    is_memory: bool
    is_shared: bool
    num_readers: int

    def ids(self) -> set[str]:
        """Every variant that is here.

        Raises:
            TierFault: it does not answer.
        """

    def meta(self, variant_id: str) -> VariantMeta:
        """The description of a variant, from its header.

        Raises:
            VariantUnavailable: gone, damaged, or no answer.
        """

    def stored_bytes(self, meta: VariantMeta) -> int:
        """What a variant takes here."""

    def put(self, packed: Packed) -> None:
        """Keep a variant; it is here as a whole or not at all, also after a crash. One that is here is replaced.

        Raises:
            TierFull: no room.
            TierFault: no answer.
        """

    def open(self, variant_id: str) -> LayerSource:
        """Open a variant for reading.

        Raises:
            VariantUnavailable: gone, damaged, or no answer.
        """

    def remove(self, variant_id: str) -> None:
        """Forget a variant; one that is not here is no error.

        Raises:
            TierFault: it does not answer.
        """

    def note(self, names: Collection[Name]) -> None:
        """Write down that chunks came under the names of documents, each name as a whole or not at all.

        They outlive the process if variants do. A name that is here already is as if it had been written now.

        Args:
            names: documents and chunks.

        Raises:
            TierFull: no room.
            TierFault: no answer.
        """

    def noted(self, document: str) -> set[str]:
        """The chunks that were noted for a document.

        Args:
            document: its hash.

        Raises:
            TierFault: it does not answer.
        """

    def notes(self) -> dict[Name, float]:
        """All names, and when each was written last, in seconds since 1970.

        Raises:
            TierFault: it does not answer.
        """

    def unnote(self, names: Collection[Name]) -> None:
        """Forget names, there or not.

        Args:
            names: documents and chunks.

        Raises:
            TierFault: it does not answer.
        """

    def close(self) -> None:
        """Let go of files and connections; safe to call twice."""


class SharedTier(Tier, Protocol):
    """A tier that other machines write to as well (`is_shared`): it carries word of what was invalidated."""

    def bury(self, variant_id: str) -> None:
        """Remove a variant and tell everybody else to forget it too; putting it again ends that.

        Args:
            variant_id: which, there or not.

        Raises:
            TierFault: it does not answer.
        """

    def buried(self) -> set[str]:
        """What was buried within the last day.

        Raises:
            TierFault: it does not answer.
        """
