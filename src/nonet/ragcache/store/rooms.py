"""How much each tier may hold: what it was given, or less where that turned out to be more than there is."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from nonet.ragcache.store.tiers import Tier

_LOG = logging.getLogger(__name__)


class Rooms:
    """The effective capacity of each tier.

    A tier that is full before its capacity is reached (others fill the disk too) gets what it held then as its
    capacity, for a while; the first time is told as a warning. Afterwards its own capacity is tried again.

    Args:
        tiers: the fastest first.
        lowered_s: how long a capacity stays lowered.
        clock: seconds that only grow.
    """

    def __init__(
        self, tiers: Sequence[Tier], lowered_s: float = 600.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tiers, self._lowered_s, self._clock = tiers, lowered_s, clock
        self._lowered: dict[int, tuple[int, float]] = {}
        self._told: set[int] = set()

    def capacity_bytes(self, tier: int) -> int | None:
        """What a tier may hold now, None for no limit.

        Args:
            tier: its position.
        """
        own = self._tiers[tier].capacity_bytes
        lowered_bytes, until_s = self._lowered.get(tier, (0, 0.0))
        if self._clock() >= until_s:
            return own
        return lowered_bytes if own is None else min(own, lowered_bytes)

    def is_full(self, tier: int, used_bytes: int, reason: str) -> None:
        """A tier took no more: what it holds is what it may hold for a while.

        Args:
            tier: its position.
            used_bytes: what it holds.
            reason: what it said.
        """
        self._lowered[tier] = used_bytes, self._clock() + self._lowered_s
        say = _LOG.info if tier in self._told else _LOG.warning
        self._told.add(tier)
        one = self._tiers[tier]
        given = "no limit" if one.capacity_bytes is None else f"{one.capacity_bytes:,} bytes"
        say(
            "store: %s is full at %s bytes though it was given %s; until there is room it is held at that, "
            "and old variants make way for new ones (%s)",
            one.name,
            f"{used_bytes:,}",
            given,
            reason,
        )
