"""What was computed exactly goes to the store, as variants for later requests.

A chunk's KV is exact when all its rows, and all before it, were computed here or taken from exactly the same prefix.
What was reused elsewhere or repaired is an approximation and would carry its error into every answer after it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from nonet.ragcache.engine.observing import Observer
from nonet.ragcache.engine.paging import BlockPool
from nonet.ragcache.engine.sequence import Sequence
from nonet.ragcache.reuse.plan import Plan
from nonet.ragcache.reuse.prompt import Prompt, Segment
from nonet.ragcache.reuse.variants import Observed, ReceivedTable, describe
from nonet.ragcache.store.chunk_store import ChunkStore
from nonet.ragcache.store.variant import ChunkKV, KVLayout


def exact_segments(plan: Plan) -> list[int]:
    """Numbers of the segments that this plan computes exactly, so that they can be stored.

    Args:
        plan: of a prompt.
    """
    found = []
    seen: set[str] = set()
    for number, part in enumerate(plan.segments[:-1]):
        if part.segment.num_tokens == 0:
            continue
        if part.decision not in ("computed", "prefix"):
            break
        if part.decision == "computed" and part.segment.key not in seen:
            found.append(number)
        elif part.segment.key in seen:
            # Under itself: later chunks would name a prefix that holds one key twice.
            break
        seen.add(part.segment.key)
    return found


def missing_segments(plan: Plan) -> list[int]:
    """Numbers of chunks without any variant that this plan cannot store, because something before them is reused.

    Args:
        plan: of a prompt.
    """
    exact = set(exact_segments(plan))
    return [
        number
        for number, part in enumerate(plan.segments)
        if part.segment.kind == "chunk"
        and part.segment.num_tokens
        and part.decision == "computed"
        and number not in exact
        and part.variant is None
    ]


def neighbours_of(prompt: Prompt, number: int) -> list[int]:
    """Numbers of the segments with which a missing chunk is computed in the background: the one before it, and itself.

    Args:
        prompt: where it stands.
        number: of its segment.
    """
    before = [n for n in range(1, number) if prompt.segments[n].num_tokens][-1:]
    return [*before, number]


class Keeper:
    """Hands computed segments to the store.

    Args:
        pool: where their KV is.
        store: where they go.
        model: fingerprint of the weights.
        layout: of the KV.
        on_kept: told every chunk that was handed over, with its prompt.
        observe: watch attention; without, what is kept serves as an exact prefix only.

    Attributes:
        received: attention that the rows of what was handed over received, for mode "h2o".
    """

    def __init__(
        self,
        pool: BlockPool,
        store: ChunkStore,
        model: str,
        layout: KVLayout,
        on_kept: Callable[[Prompt, Segment], None] = lambda *_: None,
        *,
        observe: bool = True,
    ) -> None:
        self._pool, self._store, self._model, self._layout = pool, store, model, layout
        self._on_kept, self._observe = on_kept, observe
        self.received = ReceivedTable()

    def observer_for(self, plan: Plan, num_layers: int) -> Observer | None:
        """What must watch the computation of a plan, None for nothing: it computes nothing that needs to be watched."""
        if not self._observe or not exact_segments(plan):
            return None
        segments = torch.from_numpy(plan.prompt.segment_of_row())
        return Observer(segments, len(plan.segments), num_layers)

    def keep(self, plan: Plan, sequence: Sequence, observer: Observer | None) -> int:
        """Submit all that the plan computed exactly; gives how many.

        Args:
            plan: that was carried out.
            sequence: with its KV.
            observer: what `observer_for` gave for this plan.
        """
        observed = None
        if observer is not None:
            observed = Observed(observer.sums.numpy(), observer.onto.numpy(), observer.received.numpy())
        elif self._observe:
            return 0
        slots = sequence.layer_slots(0)
        numbers = exact_segments(plan)
        for number in numbers:
            segment = plan.segments[number].segment
            meta = describe(plan.prompt, number, observed, model=self._model, layout=self._layout, exact=True)
            keys, values = self._pool.read(slots[segment.start : segment.stop])
            self._store.submit(meta, ChunkKV(keys, values))
            if observed is not None:
                self.received.add(meta.variant_id, observed.received[segment.start : segment.stop])
            if segment.kind == "chunk":
                self._on_kept(plan.prompt, segment)
        return len(numbers)
