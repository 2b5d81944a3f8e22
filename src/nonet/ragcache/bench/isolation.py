"""Requests do not disturb each other, and what is repaired for one never reaches the store.

Both are told by oracles without reuse: the same requests one after the other, and the whole prefix of each stored
variant computed anew, by transformers where it is installed.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from nonet.common.console import track
from nonet.common.errors import InputError, MissingExtraError
from nonet.common.findings import Finding
from nonet.ragcache.bench.questions import SYSTEM, Case
from nonet.ragcache.bench.twin import llama_twin, twin_kv
from nonet.ragcache.engine.forward import Slice, forward
from nonet.ragcache.engine.paging import BlockPool
from nonet.ragcache.engine.sequence import Sequence as Rows
from nonet.ragcache.models.loading import LoadedModel
from nonet.ragcache.reuse.prompt import Prompt
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.prompting import ChunkText
from nonet.ragcache.scheduling.request import EndEvent, Event, SamplingParams
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.store.chunk_store import ChunkStore
from nonet.ragcache.store.variant import VariantMeta

TOLERANCE = 1e-3
_AT_ONCE = 8

FreshKV = Callable[[Sequence[int]], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is served twice.

    Args:
        prompt: what is asked.
        recompute: share of the reused rows that is computed anew for it; None for the planner's own.
    """

    prompt: Prompt
    recompute: float | None = None


def concurrent_equals_serial(
    model: LoadedModel,
    texts: Mapping[str, str],
    *,
    mode: str | None = None,
    num_requests: int = _AT_ONCE,
    num_chunks: int = 6,
    per_request: int = 4,
    max_tokens: int = 16,
    rounds: int = 3,
    seed: int = 0,
) -> list[Finding]:
    """Requests at once that share chunks but repair other rows of them, against the same ones one after the other.

    Args:
        model: loaded.
        texts: chunks by id; the first `num_chunks` of a shuffled order are used.
        mode: None for the engine's own.
        num_requests: at once.
        num_chunks: from which all requests take theirs.
        per_request: chunks of a request.
        max_tokens: of each answer.
        rounds: times that all are sent at once, in another order each time.
        seed: of the draws.

    Returns:
        `concurrent_equals_serial`, the share of answers with the same tokens, and `shared_pages_unchanged`, the share
        of shared pages' bytes that are afterwards what they were before and what the store holds.
    """
    draws = random.Random(seed)
    store = ChunkStore.from_spec("ram:4GB")
    engine = Engine(model, store, EngineConfig(background=False, max_running=num_requests))
    chosen = draws.sample(list(texts), num_chunks)
    chunks = [ChunkText(texts[chunk], chunk) for chunk in chosen]
    engine.warm(SYSTEM, [draws.sample(chunks, per_request) for _ in range(2)] + [[chunk] for chunk in chunks])
    engine.finish_background()
    asked = []
    for number in range(num_requests):
        prompt = engine.prompt(SYSTEM, draws.sample(chunks, per_request), f"What is said in passage {number}?")
        asked.append(Asked(prompt, (number + 1) / (2 * num_requests)))
    params = SamplingParams(max_tokens=max_tokens, ignore_eos=True)
    alone = [
        engine.complete(one.prompt, mode=mode, recompute=one.recompute, params=params, keep=False) for one in asked
    ]
    before = page_sums(engine)
    engine.start()
    same = []
    for number in track(range(rounds), "requests at once"):
        order = list(range(num_requests))
        random.Random(seed + number).shuffle(order)
        answers = _at_once(engine, [asked[place] for place in order], mode, params)
        same += [answers[at] == alone[place].token_ids for at, place in enumerate(order)]
    after = page_sums(engine)
    stored = {variant_id: _stored_sum(store, variant_id, model.config.num_layers) for variant_id in before}
    engine.stop()
    kept = [before[one] == after.get(one) == stored[one] for one in before]
    source = f"{rounds} x {num_requests} requests at once, {per_request} of {num_chunks} chunks each"
    repaired = sum(one.report.repaired_tokens for one in alone)
    note = (
        f"repairs of {asked[0].recompute:.0%} to {asked[-1].recompute:.0%}, {max_tokens} tokens each; {repaired} rows"
    )
    return [
        _share("concurrent_equals_serial", same, source, f"{note} repaired in one round"),
        _share(
            "shared_pages_unchanged",
            kept,
            source,
            f"{len(kept)} variants in shared pages, by checksum, against before and against the store",
        ),
    ]


def _share(name: str, held: Sequence[bool], source: str, note: str) -> Finding:
    return Finding("ragcache", name, float(np.mean(held)), "", "match", source, promise=1.0, note=note)


def store_uncontaminated(
    model: LoadedModel,
    cases: Sequence[Case],
    texts: Mapping[str, str],
    *,
    num_requests: int = 500,
    max_tokens: int = 4,
    store: str = "ram:8GB",
    seed: int = 0,
) -> Finding:
    """Share of the stored variants that equal a fresh computation of everything before them and themselves.

    Requests come eight at a time in the default mode; background jobs are done after each eight.

    Args:
        model: loaded.
        cases: a trace.
        texts: its chunks.
        num_requests: of the trace that are served, in a shuffled order.
        max_tokens: of each answer.
        store: spec.
        seed: of the order.
    """
    opened = ChunkStore.from_spec(store)
    engine = Engine(model, opened, EngineConfig(background=True)).start()
    order = list(cases)
    random.Random(seed).shuffle(order)
    order = order[:num_requests]
    ids_of: dict[str, list[int]] = {}
    params = SamplingParams(max_tokens=max_tokens, ignore_eos=True)
    for first in track(range(0, len(order), _AT_ONCE), "requests that fill the store"):
        prompts = []
        for case in order[first : first + _AT_ONCE]:
            chunks = [ChunkText(texts[chunk], chunk) for chunk in case.chunks]
            prompts.append(engine.prompt(SYSTEM, chunks, case.question))
            _learn(ids_of, prompts[-1])
        _at_once(engine, [Asked(prompt) for prompt in prompts], None, params)
        engine.finish_background()
    variants = [meta for key in ids_of for meta in opened.variants(key)]
    if len(variants) != opened.stats().num_variants:
        raise InputError(f"{opened.stats().num_variants} variants are stored, {len(variants)} of them under known keys")
    fresh, oracle = fresh_kv_of(model)
    differences = variant_differences(opened, variants, ids_of, fresh)
    engine.stop()
    worst = max(differences.values())
    behind = sum(bool(meta.prefix_keys) for meta in variants)
    return Finding(
        "ragcache",
        "store_uncontaminated",
        float(np.mean([difference <= TOLERANCE for difference in differences.values()])),
        "",
        "match",
        f"{len(order)} requests, {len(variants)} variants, {behind} of them behind other chunks",
        promise=1.0,
        note=f"largest difference {worst:.2g} from {oracle}, at most {TOLERANCE:g} is the same",
    )


def fresh_kv_of(model: LoadedModel) -> tuple[FreshKV, str]:
    """What computes keys and values of whole prompts, and its name.

    Transformers where it is installed and the model is a plain Llama, else our own forward over all rows.

    Args:
        model: whose.
    """
    try:
        return partial(twin_kv, llama_twin(model.decoder)), "transformers' computation of the whole prefix"
    except (MissingExtraError, InputError):
        return partial(own_kv, model), "our forward over all rows of the whole prefix"


def own_kv(model: LoadedModel, ids: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys, not rotated, and values of all rows in a pool of its own.

    Args:
        model: loaded.
        ids: the prompt.

    Returns:
        Twice [layers, len(ids), KV heads, head size].
    """
    pool = BlockPool(model.config, len(ids) // 16 + 1, 16, dtype=model.decoder.dtype)
    sequence = Rows(pool, torch.tensor(list(ids)))
    rows = torch.arange(len(ids))
    sequence.reserve(rows)
    forward(model.decoder, pool, [Slice(sequence, rows, want_logits=False)])
    return pool.read(sequence.layer_slots(0))


def variant_differences(
    store: ChunkStore, variants: Sequence[VariantMeta], ids_of: Mapping[str, Sequence[int]], fresh: FreshKV
) -> dict[str, float]:
    """By variant, the largest difference of its stored keys and values from fresh ones.

    Args:
        store: that holds them.
        variants: which.
        ids_of: token ids by key, of the system segment and of all chunks.
        fresh: computes whole prompts.

    Raises:
        InputError: a variant stands behind a segment whose ids are not known.
    """
    chains = {meta.variant_id: _chain(meta) for meta in variants}
    left = sorted(variants, key=lambda meta: len(chains[meta.variant_id]), reverse=True)
    differences: dict[str, float] = {}
    for longest in track(left, "variants computed anew"):
        if longest.variant_id in differences:
            continue
        chain = chains[longest.variant_id]
        if unknown := [key for key in chain if key not in ids_of]:
            raise InputError(f"variant {longest.variant_id} stands behind {unknown[0][:16]}, whose ids are not known")
        keys, values = fresh([token for key in chain for token in ids_of[key]])
        stops = np.cumsum([len(ids_of[key]) for key in chain]).tolist()
        for meta in left:
            mine = chains[meta.variant_id]
            if meta.variant_id not in differences and chain[: len(mine)] == mine:
                rows = slice(stops[len(mine) - 1] - meta.num_tokens, stops[len(mine) - 1])
                differences[meta.variant_id] = _difference(store, meta, keys[:, rows], values[:, rows])
    return differences


def page_sums(engine: Engine) -> dict[str, str]:
    """Checksums of the variants that are in shared pages now, by their ids.

    Args:
        engine: that does nothing meanwhile.
    """
    # What is in pages is nobody's business but the scheduler's, except here.
    scheduler = engine._scheduler
    pool, residents = engine._pool, scheduler.residency._known
    return {name: _sum_of(*pool.read(resident.blocks.slots)) for name, resident in residents.items()}


def _chain(meta: VariantMeta) -> tuple[str, ...]:
    # The system segment has no system key of its own.
    return (*((meta.system_key,) if meta.system_key else ()), *meta.prefix_keys, meta.chunk_key)


def _learn(ids_of: dict[str, list[int]], prompt: Prompt) -> None:
    for segment in prompt.segments[:-1]:
        ids_of[segment.key] = prompt.ids[segment.start : segment.stop].tolist()


def _at_once(engine: Engine, asked: Sequence[Asked], mode: str | None, params: SamplingParams) -> list[tuple[int, ...]]:
    answers: list[tuple[int, ...]] = [()] * len(asked)
    faults: list[str] = []
    ended = threading.Semaphore(0)

    def collect(place: int, event: Event) -> None:
        if isinstance(event, EndEvent):
            answers[place] = tuple(event.token_ids)
            if event.finish_reason not in ("stop", "length"):
                faults.append(event.error or event.finish_reason)
            ended.release()

    for place, one in enumerate(asked):
        engine.submit(one.prompt, params, mode=mode, recompute=one.recompute, on_event=partial(collect, place))
    for _ in asked:
        ended.acquire()
    if faults:
        raise InputError(f"{len(faults)} of {len(asked)} requests failed: {faults[0]}")
    return answers


def _difference(store: ChunkStore, meta: VariantMeta, keys: torch.Tensor, values: torch.Tensor) -> float:
    reader = store.open(meta.variant_id)
    try:
        worst = 0.0
        for layer in range(len(keys)):
            for stored, expected in zip(reader.layer(layer), (keys[layer], values[layer]), strict=True):
                worst = max(worst, float((stored.float() - expected.float()).abs().max()))
        return worst
    finally:
        reader.close()


def _stored_sum(store: ChunkStore, variant_id: str, num_layers: int) -> str:
    reader = store.open(variant_id)
    try:
        layers = [reader.layer(layer) for layer in range(num_layers)]
        return _sum_of(torch.stack([keys for keys, _ in layers]), torch.stack([values for _, values in layers]))
    finally:
        reader.close()


def _sum_of(keys: torch.Tensor, values: torch.Tensor) -> str:
    digest = hashlib.blake2b()
    for part in (keys, values):
        digest.update(part.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
