"""Finding what is in the tiers: at the start, and again where other machines write too."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import cast

from nonet.common.errors import InputError
from nonet.ragcache.store.index import Index
from nonet.ragcache.store.placing import Placing
from nonet.ragcache.store.tiers import SharedTier, Tier, TierFault
from nonet.ragcache.store.variant import VariantMeta, VariantUnavailable

_LOG = logging.getLogger(__name__)


class Discovery:
    """Brings the books in line with the tiers, by the headers of what lies there.

    Args:
        tiers: the fastest first.
        index: the books.
        placing: is told of what failed.
        on_buried: told the ids of variants that another machine has invalidated.
    """

    def __init__(
        self, tiers: Sequence[Tier], index: Index, placing: Placing, on_buried: Callable[[set[str]], None]
    ) -> None:
        self._tiers, self._index, self._placing, self._on_buried = tiers, index, placing, on_buried
        self._is_closed = threading.Event()
        self._thread: threading.Thread | None = None

    def look(self) -> None:
        """Enter everything that is in any tier; what is damaged is removed and counted."""
        for tier in range(len(self._tiers)):
            self._look_into(tier)
        for tier in range(len(self._tiers)):
            try:
                self._placing.names.restore(tier)
            except TierFault as error:
                self._placing.read_failed(tier, "", error)

    def look_again(self) -> None:
        """Learn what other machines have written to, removed from or invalidated in the tiers that are shared."""
        for tier, one in enumerate(self._tiers):
            if one.is_shared and self._placing.settle(tier):
                self._look_into(tier)
                self._forget_buried(tier, cast(SharedTier, one))

    def keep_looking(self, every_s: float) -> None:
        """Look again from time to time, on a thread, if any tier is shared.

        Args:
            every_s: how often.
        """
        if any(one.is_shared for one in self._tiers):
            self._thread = threading.Thread(target=self._run, args=(every_s,), name="look-again", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._is_closed.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, every_s: float) -> None:
        while not self._is_closed.wait(every_s):
            try:
                self.look_again()
            except Exception:  # whatever a client library raises: the next look may succeed
                _LOG.exception("looking at shared tiers failed")

    def _look_into(self, tier: int) -> None:
        try:
            # In this order: what is written in between is found, rather than taken for removed.
            known, here = self._index.ids_in(tier), self._tiers[tier].ids()
        except TierFault as error:
            self._placing.read_failed(tier, "", error)
            return
        for variant_id in known - here:
            self._index.unplace(variant_id, tier, is_victim=False)
        found = [meta for meta in (self._meta(tier, one) for one in here - known) if meta is not None]
        for meta in sorted(found, key=lambda one: (one.created_s, one.variant_id)):
            self._enter(meta, tier)

    def _forget_buried(self, tier: int, shared: SharedTier) -> None:
        try:
            buried = shared.buried()
        except TierFault as error:
            self._placing.read_failed(tier, "", error)
            return
        known = {variant_id for variant_id in buried if self._placing.drop(variant_id, is_victim=False)}
        if known:
            self._on_buried(known)

    def _meta(self, tier: int, variant_id: str) -> VariantMeta | None:
        try:
            return self._tiers[tier].meta(variant_id)
        except VariantUnavailable as error:
            self._placing.read_failed(tier, variant_id, error)
            return None

    def _enter(self, meta: VariantMeta, tier: int) -> None:
        try:
            self._index.add(meta)
        except InputError as error:  # two tiers with different variants of one id: whoever came first stays
            _LOG.warning("store: %s: %s", self._tiers[tier].name, error)
            return
        self._index.place(meta.variant_id, tier, self._tiers[tier].stored_bytes(meta))
