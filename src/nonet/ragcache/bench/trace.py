"""Which chunks of a trace are met again, and what each mode would compute: by plans alone, without a model.

The store is a dictionary without limits; after each request all its chunks are in it behind the chunks before them, as
if they had been computed exactly. That is what a prefix cache without limits knows, too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nonet.common.findings import Finding
from nonet.ragcache.bench.questions import SYSTEM, Case
from nonet.ragcache.models.loading import LoadedModel
from nonet.ragcache.reuse.modes import DEFAULT_MODE
from nonet.ragcache.reuse.planner import Planner
from nonet.ragcache.reuse.prompt import Prompt, Segment, joined, prefix_before
from nonet.ragcache.scheduling.keeping import exact_segments, missing_segments, neighbours_of
from nonet.ragcache.scheduling.prompting import ChunkText, PromptMaker, shortened
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

    def keep(self, prompt: Prompt, numbers: Sequence[int]) -> None:
        """Some segments of a prompt, each behind those before it.

        Args:
            prompt: that was computed.
            numbers: of its segments.
        """
        for number in numbers:
            if number == 0:
                self._add(prompt.system, "", ())
            else:
                self._add(prompt.segments[number], prompt.system.key, prefix_before(prompt, number - 1))

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


@dataclass(frozen=True, slots=True)
class TraceTokens:
    """Rows of prompts that go through the layers, over a whole trace.

    Args:
        full: with everything computed.
        prefix: with exact prefixes taken over, from a store without limits.
        ours: with chunks taken over at any position, probes and jobs in the background included.
    """

    full: int
    prefix: int
    ours: int


def trace_tokens(
    cases: Sequence[Case], prompt_of: Callable[[Case], Prompt], *, mode: str, recompute: float, seed: int = 0
) -> TraceTokens:
    """What a trace costs in a store without limits that knows only what the engine would have stored.

    Args:
        cases: questions with their chunks.
        prompt_of: gives the token ids of a question.
        mode: a name of `MODES`.
        recompute: share of the reused rows that are computed anew.
        seed: of the order in which they come.
    """
    order = list(cases)
    random.Random(seed).shuffle(order)
    everything, known = EndlessIndex(), EndlessIndex()
    exact, planner = Planner(everything, alpha=0.0), Planner(known, alpha=0.0)
    full = prefix = ours = 0
    for case in order:
        prompt = prompt_of(case)
        full += len(prompt.ids)
        prefix += len(exact.plan(prompt, "prefix").active_rows)
        everything.take(prompt)
        plan = planner.plan(prompt, mode, recompute)
        ours += len(plan.active_rows) + plan.budget
        ours += prompt.question.num_tokens if plan.probe else 0
        known.keep(prompt, exact_segments(plan))
        for number in missing_segments(plan):
            short = shortened(prompt, neighbours_of(prompt, number))
            job = planner.plan(short, "prefix")
            ours += len(job.active_rows)
            known.keep(short, exact_segments(job))
    return TraceTokens(full, prefix, ours)


PUBLISHED_HITS = TraceHits(0.9597, 0.2403)
"""Of the XQuAD trace, counted by others."""


def trace_findings(
    model: LoadedModel,
    cases: Sequence[Case],
    texts: Mapping[str, str],
    *,
    recompute: float,
    source: str,
    kind: str = "",
    has_promise: bool = True,
    is_xquad: bool = False,
) -> list[Finding]:
    """`trace_chunk_hit`, `trace_prefix_hit`, `trace_hits_error`, `tokens_vs_prefix` and `tokens_vs_full`.

    Args:
        model: whose tokens are counted.
        cases: the trace.
        texts: its chunks.
        recompute: share of the reused rows that the default mode computes anew.
        source: name of the trace and of the setting.
        kind: of the calibration, an end of `tokens_vs_*`; where it is not empty, those two alone are given.
        has_promise: whether they are promised.
        is_xquad: whether this is the trace whose hits are known.
    """
    maker = PromptMaker(model, model.config.max_context)

    def prompt_of(case: Case) -> Prompt:
        return maker.conversation(SYSTEM, [ChunkText(texts[chunk], chunk) for chunk in case.chunks], case.question)

    tokens = trace_tokens(cases, prompt_of, mode=DEFAULT_MODE, recompute=recompute)
    told = f"{tokens.ours:,} rows; prefix {tokens.prefix:,}, full {tokens.full:,}"
    findings = [] if kind else _hits(cases, source, is_xquad=is_xquad)
    for name, rows, bar in (("tokens_vs_prefix", tokens.prefix, 0.49), ("tokens_vs_full", tokens.full, 0.4)):
        promise = bar if has_promise else None
        ratio = tokens.ours / rows
        findings.append(Finding("ragcache", name + kind, ratio, "x", "lower", source, promise=promise, note=told))
    return findings


def _hits(cases: Sequence[Case], source: str, *, is_xquad: bool) -> list[Finding]:
    hits = trace_hits(cases)
    findings = [
        Finding("ragcache", "trace_chunk_hit", hits.chunk, "", "higher", source),
        Finding("ragcache", "trace_prefix_hit", hits.prefix, "", "higher", source),
    ]
    if is_xquad:
        error = max(abs(hits.chunk - PUBLISHED_HITS.chunk), abs(hits.prefix - PUBLISHED_HITS.prefix))
        note = f"distance to {PUBLISHED_HITS.chunk} and {PUBLISHED_HITS.prefix}, which a plain dictionary counted"
        findings.append(Finding("ragcache", "trace_hits_error", error, "", "lower", source, promise=0.0005, note=note))
    return findings
