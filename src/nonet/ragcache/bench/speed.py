"""Time to the first token with reused chunks beside full computation, and full computation beside transformers.

Every pair of runs is interleaved and medians are compared, since other work on the machine changes absolute times.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from nonet.common.console import track
from nonet.common.findings import Finding
from nonet.ragcache.bench.exactness import full_logits
from nonet.ragcache.bench.questions import SYSTEM
from nonet.ragcache.models.loading import LoadedModel
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.prompting import ChunkText
from nonet.ragcache.scheduling.request import SamplingParams
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.store.chunk_store import ChunkStore

REPAIR = 0.2
_FIRST_TOKEN = SamplingParams(max_tokens=1)


def prefill_finding(model: LoadedModel, theirs: nn.Module, lengths: Sequence[int], *, runs: int = 5) -> Finding:
    """Tokens a second of full prefill over transformers' with the same weights and threads; the worst of the lengths.

    Args:
        model: ours.
        theirs: transformers' model, with its fastest attention for CPUs.
        lengths: tokens of the prompts.
        runs: interleaved pairs of each.
    """
    draws = random.Random(0)
    ratios = {}
    for length in lengths:
        ids = [draws.randrange(model.config.vocab_size) for _ in range(length)]
        ours_s, theirs_s = [], []
        for run in range(runs + 1):
            begun = time.perf_counter()
            full_logits(model, ids)
            between = time.perf_counter()
            with torch.inference_mode():
                theirs(torch.tensor([ids]), use_cache=True, logits_to_keep=1)
            if run:
                ours_s.append(between - begun)
                theirs_s.append(time.perf_counter() - between)
        ratios[length] = statistics.median(theirs_s) / statistics.median(ours_s)
    told = ", ".join(f"{length}: {ratio:.2f}" for length, ratio in ratios.items())
    source = f"random tokens, {runs} interleaved runs, {torch.get_num_threads()} threads"
    return Finding(
        "ragcache",
        "full_prefill_vs_transformers",
        min(ratios.values()),
        "x",
        "higher",
        source,
        promise=0.8,
        note=f"by prompt tokens {told}",
    )


def first_token_finding(
    name: str,
    model: LoadedModel,
    texts: Mapping[str, str],
    store: str,
    *,
    promise: float,
    mode: str = "guided",
    prompt_tokens: int = 2000,
    num_prompts: int = 4,
    runs: int = 5,
) -> Finding:
    """Time to the first token of full computation over that with 20 % of the reused rows repaired.

    Args:
        name: of the finding.
        model: loaded.
        texts: chunks by id.
        store: spec of the tier that variants are read from; pages are dropped before each run.
        promise: what is promised.
        mode: how rows are chosen.
        prompt_tokens: of a prompt, about.
        num_prompts: prompts.
        runs: interleaved pairs of each.
    """
    opened = ChunkStore.from_spec(store)
    engine = Engine(model, opened, EngineConfig(background=False, step_tokens=1 << 20))
    full_s, reused_s, rows = [], [], []
    for number in track(range(num_prompts), name):
        group = _group(engine, texts, prompt_tokens, seed=number)
        engine.warm(SYSTEM, [group])
        engine.finish_background()
        turned = [*group[1:], group[0]]
        random.Random(number).shuffle(turned)
        prompt = engine.prompt(SYSTEM, turned, "What are these passages about?")
        for run in range(runs + 1):
            whole = engine.complete(prompt, mode="full", params=_FIRST_TOKEN, keep=False).report
            engine.drop_pages()
            part = engine.complete(prompt, mode=mode, recompute=REPAIR, params=_FIRST_TOKEN, keep=False).report
            if run:
                full_s.append(whole.ttft_s)
                reused_s.append(part.ttft_s)
                rows.append(part.active_rows / part.prompt_tokens)
    engine.stop(0)
    ratio = statistics.median(full_s) / statistics.median(reused_s)
    told = f"{statistics.median(reused_s):.3g} s instead of {statistics.median(full_s):.3g} s"
    source = (
        f"{num_prompts} prompts of about {prompt_tokens} tokens, {runs} interleaved runs each, {mode}, 20 % repaired"
    )
    return Finding(
        "ragcache",
        name,
        ratio,
        "x",
        "higher",
        source,
        promise=promise,
        note=f"{told}; {statistics.mean(rows):.0%} of rows",
    )


def disk_store(folder: Path) -> str:
    """A store on disk that is read past the page cache.

    Args:
        folder: where.
    """
    return f"disk:{folder}:20GB?direct=1"


def _group(engine: Engine, texts: Mapping[str, str], prompt_tokens: int, seed: int) -> list[ChunkText]:
    order = list(texts)
    random.Random(seed).shuffle(order)
    group: list[ChunkText] = []
    left = prompt_tokens
    for chunk in order:
        size = len(engine.model.tokenizer.encode(texts[chunk])) + 2
        if size <= left:
            group.append(ChunkText(texts[chunk], chunk))
            left -= size
        if left < 100:
            break
    return group
