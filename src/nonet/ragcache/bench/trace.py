"""Which chunks of a trace are met again, and what each mode would compute: by plans alone, without a model.

The store is a dictionary without limits; after each request all its chunks are in it behind the chunks before them, as
if they had been computed exactly. That is what a prefix cache without limits knows, too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nonet.ragcache.bench.questions import Case
from nonet.ragcache.reuse.planner import Planner
from nonet.ragcache.reuse.prompt import Prompt, Segment, joined, prefix_before
from nonet.ragcache.store.variant import VariantMeta, variant_id_of


@dataclass(frozen=True, slots=True)
class TraceHits:
    """Shares of chunk slots.

    Args:
        chunk: chunks that were computed before, at any position.
        prefix: chunks whose whole prefix is that of an earlier request.
    """

    chunk: float
    prefix: float


def trace_hits(cases: Sequence[Case], *, seed: int = 0) -> TraceHits:
    """Hits of a trace in a store without limits.

    Args:
        cases: questions with their chunks.
        seed: of the order in which they come.
    """
    order = list(cases)
    random.Random(seed).shuffle(order)
    index = EndlessIndex()
    planner = Planner(index, alpha=0.0)
    hits = {"reuse": 0, "prefix": 0}
    slots = 0
    for case in order:
        prompt = prompt_of_chunks(case.chunks, lambda chunk: [hash(chunk) & 0xFFFF] * 4)
        slots += len(case.chunks)
        for mode in hits:
            plan = planner.plan(prompt, mode)
            hits[mode] += sum(part.decision != "computed" for part in plan.segments[1:-1])
        index.take(prompt)
    return TraceHits(hits["reuse"] / slots, hits["prefix"] / slots)


def prompt_of_chunks(chunks: Sequence[str], ids_of: Callable[[str], Sequence[int]]) -> Prompt:
    """A prompt of chunks that are told by their names.

    Args:
        chunks: names, which become the keys.
        ids_of: gives the token ids of each.
    """
    pieces = [[1], *(ids_of(chunk) for chunk in chunks), [2]]
    names = ["system", *chunks, ""]
    segments, place = [], 0
    for number, (piece, name) in enumerate(zip(pieces, names, strict=True)):
        kind = "system" if number == 0 else "question" if number == len(pieces) - 1 else "chunk"
        segments.append(Segment(kind, place, place + len(piece), name, name))  # type: ignore[arg-type]
        place += len(piece)
    return Prompt(joined(pieces), tuple(segments))


class EndlessIndex:
    """Variants of all chunks that were ever met; without KV."""

    def __init__(self) -> None:
        self._variants: dict[str, dict[str, VariantMeta]] = {}

    def variants(self, chunk_key: str) -> Sequence[VariantMeta]:
        """All variants of a chunk."""
        return tuple(self._variants.get(chunk_key, {}).values())

    def take(self, prompt: Prompt) -> None:
        """All chunks of a prompt, each behind those before it."""
        self._add(prompt.system, "", ())
        for number, chunk in enumerate(prompt.chunks):
            self._add(chunk, prompt.system.key, prefix_before(prompt, number))

    def _add(self, segment: Segment, system_key: str, prefix: tuple[str, ...]) -> None:
        variant_id = variant_id_of(segment.key, system_key, prefix)
        known = self._variants.setdefault(segment.key, {})
        if variant_id in known:
            return
        known[variant_id] = VariantMeta(
            variant_id=variant_id,
            chunk_key=segment.key,
            system_key=system_key,
            prefix_keys=prefix,
            num_tokens=segment.num_tokens,
            inter_sums=(1.0,) * len(prefix),
            inter_mean=0.0,
            intra_mean=1.0,
            cci=0.5,
            tau=np.zeros(segment.num_tokens, np.float16),
            exact=True,
            documents=(),
            tenant="",
            created_s=0.0,
            model="",
            layout="",
            num_bytes=0,
        )
