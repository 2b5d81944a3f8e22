"""One request on its way: waiting for its chunks, probing, computing its prompt, answering."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Container
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import torch

from nonet.ragcache.engine.observing import Observer
from nonet.ragcache.engine.paging import Blocks
from nonet.ragcache.engine.sampling import Penalties, Sampler
from nonet.ragcache.engine.sequence import Sequence
from nonet.ragcache.reuse.plan import Plan
from nonet.ragcache.reuse.prompt import Prompt
from nonet.ragcache.scheduling.answering import Answer
from nonet.ragcache.scheduling.request import (
    ChunkReport,
    EndEvent,
    Event,
    FinishReason,
    RequestReport,
    SamplingParams,
)
from nonet.ragcache.scheduling.residency import Resident
from nonet.ragcache.scheduling.shadow import MAX_TOKENS


class State(Enum):
    """Where a request is."""

    WAITING = "waiting"
    LOADING = "loading"
    PROBING = "probing"
    PREFILL = "prefill"
    DECODE = "decode"
    DONE = "done"


@dataclass
class Request:
    """What is asked.

    Args:
        request_id: names it.
        prompt: what is asked.
        params: how tokens are chosen.
        mode: how it is served.
        recompute: share of the reused rows to compute anew, None for the planner's own.
        deadline_s: `time.monotonic()` at which it ends with what it has.
        on_event: told every token and the end; called from the engine's thread.
        on_gap: told the seconds between each two tokens.
        forced: tokens that the answer is made of, instead of sampled ones (for measurements).
        keep_logits: keep the logits of every step.
        keep: store what is computed exactly.
        only_prompt: stop before the first token (background work that fills the store).
        is_internal: nobody waits for it, nor is told of it.
    """

    request_id: str
    prompt: Prompt
    params: SamplingParams
    mode: str
    recompute: float | None = None
    deadline_s: float | None = None
    on_event: Callable[[Event], None] = lambda _: None
    on_gap: Callable[[float], None] = lambda _: None
    forced: tuple[int, ...] = ()
    keep_logits: bool = False
    keep: bool = True
    only_prompt: bool = False
    is_internal: bool = False
    arrival_s: float = field(default_factory=time.monotonic)


class Running:
    """A request with its state; touched by the engine's thread only.

    Args:
        request: what is asked.
        sampler: chooses tokens.
        answer: collects text.
    """

    def __init__(self, request: Request, sampler: Sampler, answer: Answer) -> None:
        self.request = request
        self.state = State.WAITING
        self.plan: Plan | None = None
        self.sequence: Sequence | None = None
        self.residents: dict[int, Resident] = {}
        self.pending: torch.Tensor = torch.empty(0, dtype=torch.long)
        self.spare: Blocks | None = None
        self.observer: Observer | None = None
        self.probe: Observer | None = None
        self.notes: list[str] = []
        self.tiers: dict[int, str] = {}
        self.token_ids: list[int] = []
        self.logits: list[torch.Tensor] = []
        self.probe_rows = 0
        self.is_cancelled = False
        self.is_outdated = False
        """Whether a document of it was invalidated since it came: nothing that it computes is stored."""
        self.started_s: float | None = None
        self.first_token_s: float | None = None
        self.last_token_s: float | None = None
        self._report: RequestReport | None = None
        self._sampler, self._answer = sampler, answer

    @property
    def num_new(self) -> int:
        """Tokens of the answer at most."""
        return 0 if self.request.only_prompt else self.request.params.max_tokens

    def take(self, logits: torch.Tensor) -> int:
        """Choose the next token; gives it."""
        forced = self.request.forced
        place = len(self.token_ids)
        if self.request.keep_logits and (self.request.forced or len(self.logits) < MAX_TOKENS):
            self.logits.append(logits)
        return forced[place] if place < len(forced) else self._sampler.sample(logits)

    def show(self, token_id: int) -> str:
        """Take a token into the answer; gives the text that can be shown now."""
        now = time.monotonic()
        self.first_token_s = self.first_token_s or now
        if self.last_token_s is not None:
            self.request.on_gap(now - self.last_token_s)
        self.last_token_s = now
        self.token_ids.append(token_id)
        return self._answer.push(token_id, may_stop=len(self.token_ids) > self.request.params.min_tokens)

    def is_end(self, token_id: int, eos_ids: Container[int]) -> bool:
        """Whether a token ends the answer, of which it is no part."""
        params = self.request.params
        if self.request.forced:
            return False
        return (token_id in eos_ids and not params.ignore_eos) or token_id in params.stop_token_ids

    @property
    def is_stopped(self) -> bool:
        """Whether a stop text has come."""
        return self._answer.stopped

    def end(self, reason: FinishReason, error: str = "") -> EndEvent:
        """The last event."""
        return EndEvent(reason, self._answer.rest(), self.report(), error, list(self.token_ids))

    def report(self) -> RequestReport:
        """What it cost; the same again once it has ended."""
        if self._report is None or self.state is not State.DONE:
            self._report = self._counted()
        return self._report

    def _counted(self) -> RequestReport:
        now, request, plan = time.monotonic(), self.request, self.plan
        first = self.first_token_s if self.first_token_s is not None else now
        started = self.started_s if self.started_s is not None else now
        return RequestReport(
            request_id=request.request_id,
            mode=request.mode,
            prompt_tokens=len(request.prompt.ids),
            prefix_tokens=plan.prefix_tokens if plan else 0,
            reused_tokens=plan.reused_tokens if plan else 0,
            repaired_tokens=plan.repaired_tokens if plan else 0,
            computed_tokens=plan.computed_tokens if plan else 0,
            probe_rows=self.probe_rows,
            output_tokens=len(self.token_ids),
            queue_s=started - request.arrival_s,
            ttft_s=first - request.arrival_s,
            e2e_s=now - request.arrival_s,
            chunks=self._chunk_reports(),
            notes=tuple(self.notes),
            damage_bound=plan.damage_bound if plan else None,
            abstained=plan.abstained if plan else False,
        )

    def _chunk_reports(self) -> tuple[ChunkReport, ...]:
        if self.plan is None:
            return ()
        reports = []
        for number, part in enumerate(self.plan.segments):
            if part.segment.kind != "chunk":
                continue
            fit = part.overlap
            reports.append(
                ChunkReport(
                    chunk_id=part.segment.chunk_id,
                    decision=part.decision,
                    num_tokens=part.segment.num_tokens,
                    num_computed=len(part.rows),
                    variant_id=part.variant.variant_id if part.variant else None,
                    tier=self.tiers.get(number),
                    cci=fit.cci if fit else None,
                    beta=fit.beta if fit else None,
                    gamma=fit.gamma if fit else None,
                    beta_prime=fit.beta_prime if fit else None,
                    cfo=fit.cfo if fit else None,
                    reason=part.reason,
                    number=part.segment.number,
                )
            )
        return tuple(reports)


def sampler_of(request: Request, eos_ids: tuple[int, ...]) -> Sampler:
    """What chooses a request's tokens.

    Args:
        request: what is asked.
        eos_ids: the model's end tokens.
    """
    params = request.params
    return Sampler(
        params.temperature,
        params.top_p,
        params.seed,
        top_k=params.top_k,
        min_p=params.min_p,
        penalties=Penalties(params.repetition_penalty, params.frequency_penalty, params.presence_penalty),
        prompt_ids=request.prompt.ids,
        end_ids=(*params.stop_token_ids, *(() if params.ignore_eos else eos_ids)),
        min_tokens=params.min_tokens,
    )


def rows_tensor(rows: np.ndarray) -> torch.Tensor:
    """LongTensor of rows."""
    return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int64))


def considered_of(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """By chunk, the variants that were looked at, with their measures."""
    return {
        chunk_id: [
            {"variant_id": variant.variant_id, "behind": len(variant.prefix_keys), **asdict(overlap)}
            for variant, overlap in looked_at
        ]
        for chunk_id, looked_at in plan.considered
    }


def full_request(prompt: Prompt, token_ids: list[int]) -> Request:
    """What computes an answer again in full, for its logits alone; `on_event` is still to be set.

    Args:
        prompt: that was answered.
        token_ids: the answer, of which the first `MAX_TOKENS` are compared.
    """
    tokens = tuple(token_ids[:MAX_TOKENS])
    return Request(
        uuid.uuid4().hex,
        prompt,
        SamplingParams(max_tokens=len(tokens), ignore_eos=True),
        "full",
        forced=tokens,
        keep_logits=True,
        keep=False,
        is_internal=True,
    )
