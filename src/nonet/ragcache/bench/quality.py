"""Quality of the modes against the model's own full recomputation, on questions that did not warm the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import numpy as np

from nonet.common.console import track
from nonet.ragcache.bench.agreement import kl_divergence, rouge_l, token_f1, top_agreement
from nonet.ragcache.bench.questions import SYSTEM, Case, Evaluation
from nonet.ragcache.models.loading import LoadedModel, load_model
from nonet.ragcache.reuse.abstain import exposure
from nonet.ragcache.reuse.calibrating import Trial
from nonet.ragcache.reuse.prompt import Prompt
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.prompting import ChunkText
from nonet.ragcache.scheduling.request import SamplingParams
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.store.chunk_store import ChunkStore


@dataclass(frozen=True)
class Reference:
    """The full run of one question.

    Args:
        case: what is asked.
        prompt: as token ids.
        token_ids: the answer.
        text: likewise.
        logits: float32 [steps, vocabulary] along it; None when KL is not wanted.
    """

    case: Case
    prompt: Prompt
    token_ids: tuple[int, ...]
    text: str
    logits: np.ndarray | None


@dataclass(frozen=True, slots=True)
class Judged:
    """One question in one mode.

    Args:
        kl: nats a step along the full answer, NaN when not asked for.
        same_top: share of steps with the same likeliest token.
        rouge_l: of the greedy answer against the full one.
        gold_f1: of the greedy answer against the gold answer.
        computed: share of the prompt's rows that went through the layers.
        repaired: share of the reused chunks' rows that were computed anew.
        ttft_s: time to the first token.
    """

    kl: float
    same_top: float
    rouge_l: float
    gold_f1: float
    computed: float
    repaired: float
    ttft_s: float


class Trialled:
    """An engine whose store is warm, and the full answers of the questions.

    Args:
        engine: warmed.
        references: of the questions.
        folder: of its store.
    """

    def __init__(self, engine: Engine, references: Sequence[Reference], folder: TemporaryDirectory[str]) -> None:
        self.engine, self.references = engine, tuple(references)
        self._folder = folder

    @classmethod
    def prepare(
        cls,
        evaluation: Evaluation,
        model: str | LoadedModel = "smollm2",
        *,
        max_tokens: int = 24,
        with_logits: bool = False,
        store: str | None = None,
        max_variants: int = 5,
    ) -> Trialled:
        """Fill a store as a server's is filled, by serving questions in the default mode, then answer others in full.

        Args:
            evaluation: what warms and what is asked.
            model: a name, or loaded.
            max_tokens: of an answer.
            with_logits: keep the logits of the full answers.
            store: of the variants; None takes a gigabyte of memory and a folder that lasts as long as this.
            max_variants: of a chunk.
        """
        loaded = load_model(model) if isinstance(model, str) else model
        folder = TemporaryDirectory(prefix="nonet-ragcache-")
        opened = ChunkStore.from_spec(store or f"ram:1GB,disk:{folder.name}:40GB", max_variants=max_variants)
        engine = Engine(loaded, opened, EngineConfig(step_tokens=4096))
        first_token = SamplingParams(max_tokens=1)
        for case in track(evaluation.warming, "serving, which fills the store"):
            engine.complete(engine.prompt(SYSTEM, _chunks(evaluation, case), case.question), params=first_token)
            engine.finish_background()
        params = SamplingParams(max_tokens=max_tokens)
        references = []
        for case in track(evaluation.asked, "full answers"):
            prompt = engine.prompt(SYSTEM, _chunks(evaluation, case), case.question)
            full = engine.complete(prompt, mode="full", params=params, keep=False)
            tokens = full.token_ids or (loaded.config.eos_ids[0],)
            logits = engine.score(prompt, tokens, mode="full")[0] if with_logits else None
            references.append(Reference(case, prompt, tokens, full.text, logits))
        return cls(engine, references, folder)

    def judge(self, reference: Reference, mode: str, recompute: float | None = None, *, answers: bool = True) -> Judged:
        """One question in one mode.

        Args:
            reference: the question.
            mode: how.
            recompute: share of the reused rows to compute anew.
            answers: also let it answer by itself.
        """
        kl = top = float("nan")
        report = None
        if reference.logits is not None:
            logits, report = self.engine.score(reference.prompt, reference.token_ids, mode=mode, recompute=recompute)
            kl, top = kl_divergence(reference.logits, logits), top_agreement(reference.logits, logits)
        rouge = gold = float("nan")
        if answers:
            params = SamplingParams(max_tokens=len(reference.token_ids))
            done = self.engine.complete(reference.prompt, mode=mode, recompute=recompute, params=params, keep=False)
            rouge, gold = rouge_l(reference.text, done.text), token_f1(reference.case.answer, done.text)
            report = done.report
        if report is None:
            raise ValueError("neither logits nor answers were asked for")
        reused = report.reused_tokens + report.repaired_tokens
        computed = report.active_rows / report.prompt_tokens
        return Judged(kl, top, rouge, gold, computed, report.repaired_tokens / max(1, reused), report.ttft_s)

    def close(self) -> None:
        """Stop the engine and give its store's folder back."""
        self.engine.stop(0)
        self._folder.cleanup()


def trial_of(trialled: Trialled, mode: str, alpha: float) -> Trial:
    """All questions with one alpha.

    Args:
        trialled: warm.
        mode: how.
        alpha: factor of the fix overhead.
    """
    trialled.engine.planner.alpha = alpha
    judged = [trialled.judge(one, mode) for one in trialled.references]
    return Trial(np.array([one.rouge_l for one in judged]), np.array([one.computed for one in judged]))


def damages_of(trialled: Trialled, mode: str, alpha: float) -> tuple[list[float], list[float]]:
    """What a guard is calibrated on: of each question, how exposed its plan is, and what reuse did to the answer.

    Args:
        trialled: warm, with logits.
        mode: how.
        alpha: factor of the fix overhead.

    Returns:
        Exposures within 0 and 1, and damages: KL from the full answer in nats a token.
    """
    trialled.engine.planner.alpha = alpha
    exposures = [exposure(trialled.engine.planner.plan(one.prompt, mode)) for one in trialled.references]
    return exposures, [trialled.judge(one, mode, answers=False).kl for one in trialled.references]


def _chunks(evaluation: Evaluation, case: Case) -> list[ChunkText]:
    return [ChunkText(evaluation.texts[chunk], chunk, chunk) for chunk in case.chunks]
