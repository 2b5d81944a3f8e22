"""Describing a chunk that was just computed, from what was observed meanwhile."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nonet.ragcache.reuse.metrics import attention_means, cache_context_impact
from nonet.ragcache.reuse.prompt import Prompt
from nonet.ragcache.store.variant import KVLayout, VariantMeta, variant_id_of

_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True)
class Observed:
    """Sums of attention of one prompt.

    Args:
        sums: [layers, segments, segments], attention of a segment's rows onto a segment's keys.
        onto: [n, segments], attention of each row onto each segment, summed over layers.
        received: [n], attention onto each key from the rows of the prompt, summed over layers.
    """

    sums: NDArray[np.float64]
    onto: NDArray[np.float64]
    received: NDArray[np.float64]


def describe(
    prompt: Prompt, number: int, observed: Observed | None, *, model: str, layout: KVLayout, exact: bool
) -> VariantMeta:
    """The description of a chunk, or of the system segment, as a variant.

    Args:
        prompt: in which it was computed.
        number: of the segment: 0 is the system segment, 1 the first chunk.
        observed: attention of that computation, None when nobody watched.
        model: fingerprint of the weights.
        layout: of its KV.
        exact: whether all rows up to its end were computed, or taken from exactly the same prefix.
    """
    segment = prompt.segments[number]
    earlier = [n for n in range(1, number) if prompt.segments[n].num_tokens]
    keys = tuple(prompt.segments[n].key for n in earlier)
    inter_sums, a_mean, b_mean, tau = [0.0] * len(earlier), 0.0, 0.0, np.zeros(segment.num_tokens)
    if observed is not None:
        inter = observed.sums[:, number, earlier]
        lengths = [prompt.segments[n].num_tokens for n in earlier]
        a_mean, b_mean = attention_means(inter, observed.sums[:, number, number], lengths, segment.num_tokens)
        inter_sums = inter.sum(0).tolist()
        tau = observed.onto[segment.start : segment.stop][:, earlier].sum(1) / len(observed.sums)
    system_key = prompt.system.key if number else ""
    return VariantMeta(
        variant_id=variant_id_of(segment.key, system_key, keys),
        chunk_key=segment.key,
        system_key=system_key,
        prefix_keys=keys,
        num_tokens=segment.num_tokens,
        inter_sums=tuple(inter_sums),
        inter_mean=a_mean,
        intra_mean=b_mean,
        cci=cache_context_impact(a_mean, b_mean),
        tau=tau.astype(np.float16),
        exact=exact,
        documents=(segment.document,) if segment.document else (),
        tenant=prompt.tenant,
        created_s=time.time(),
        model=model,
        layout=str(layout),
        num_bytes=layout.num_bytes(segment.num_tokens),
        observed=observed is not None,
    )


class ReceivedTable:
    """Attention that the rows of variants received when they were computed, for the baseline "h2o" only.

    It is not part of what is stored: kept in memory, 2 bytes a token, and gone with the process.

    Args:
        max_variants: the oldest go first.

    >>> table = ReceivedTable(max_variants=1)
    >>> table.add("a", np.array([0.5, 2.0]))
    >>> table.get("a").tolist(), table.get("b")
    ([0.5, 2.0], None)
    """

    def __init__(self, max_variants: int = 10_000) -> None:
        self._max_variants = max_variants
        self._lock = threading.Lock()
        self._values: OrderedDict[str, NDArray[np.float16]] = OrderedDict()

    def add(self, variant_id: str, received: NDArray[np.floating]) -> None:
        """Remember a variant.

        Args:
            variant_id: whose.
            received: of its rows, such as `observed.received[segment.start : segment.stop]`.
        """
        with self._lock:
            self._values[variant_id] = np.minimum(received, _LARGEST).astype(np.float16)
            self._values.move_to_end(variant_id)
            while len(self._values) > self._max_variants:
                self._values.popitem(last=False)

    def discard(self, variant_ids: Iterable[str]) -> None:
        """Forget variants, known or not."""
        with self._lock:
            for variant_id in variant_ids:
                self._values.pop(variant_id, None)

    def get(self, variant_id: str) -> NDArray[np.float16] | None:
        """What its rows received, None when it is not known; to be given to `Planner`."""
        with self._lock:
            return self._values.get(variant_id)
