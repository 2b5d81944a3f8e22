"""What is asked of the engine, and what it tells of every request."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Literal

from nonet.common.errors import InputError

REPETITION_RANGE = (0.01, 100.0)
"""Penalties within it leave no logit infinite."""
FinishReason = Literal["stop", "length", "cancelled", "timeout", "error"]


class BusyError(InputError):
    """Too many requests wait already."""


class StoppedError(BusyError):
    """The engine stops, or has failed; asking it again will not help."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How tokens are chosen.

    Args:
        max_tokens: at most so many are generated.
        temperature: 0 takes the likeliest token.
        top_p: only the likeliest tokens that together have this probability.
        seed: of the draws; None is another one each time.
        stop: texts that end the answer and are not part of it.
        ignore_eos: go on after the model's end token (for measurements).
        top_k: only so many of the likeliest tokens; 0 for all.
        min_p: only tokens that have at least this share of the likeliest one's probability.
        repetition_penalty: divides the positive logits of tokens of prompt and answer, multiplies the negative ones.
        frequency_penalty: taken off a token's logit for each time that it is in the answer.
        presence_penalty: taken off once when it is there.
        stop_token_ids: tokens that end the answer and are not part of it.
        min_tokens: before so many, no token ends the answer, and no stop text is looked for.

    Raises:
        InputError: a value outside its range.

    >>> SamplingParams(max_tokens=64, stop=("\\n\\n",)).temperature
    0.0
    >>> SamplingParams(top_p=2)
    Traceback (most recent call last):
    nonet.common.errors.InputError: top_p must be above 0 and at most 1, not 2
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    stop_token_ids: tuple[int, ...] = ()
    min_tokens: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise InputError(f"max_tokens must be 1 or more, not {self.max_tokens}")
        if not 0 <= self.temperature <= 2:
            raise InputError(f"temperature must be within 0 and 2, not {self.temperature:g}")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p must be above 0 and at most 1, not {self.top_p:g}")
        if self.seed is not None and not -(2**63) <= self.seed < 2**63:
            raise InputError(f"seed must fit into 64 bits, not be {self.seed}")
        if any(not text for text in self.stop):
            raise InputError("stop must not hold an empty text")
        if self.top_k < 0:
            raise InputError(f"top_k must be 0 (all) or more, not {self.top_k}")
        if not 0 <= self.min_p <= 1:
            raise InputError(f"min_p must be within 0 and 1, not {self.min_p:g}")
        low, high = REPETITION_RANGE
        if not low <= self.repetition_penalty <= high:
            raise InputError(f"repetition_penalty must be within {low:g} and {high:g}, not {self.repetition_penalty:g}")
        for name in ("frequency_penalty", "presence_penalty"):
            if not -2 <= getattr(self, name) <= 2:
                raise InputError(f"{name} must be within -2 and 2, not {getattr(self, name):g}")
        if not 0 <= self.min_tokens <= self.max_tokens:
            raise InputError(f"min_tokens must be within 0 and max_tokens ({self.max_tokens}), not {self.min_tokens}")

    def check_ids(self, vocab_size: int) -> None:
        """Refuse ids that are no tokens of a model.

        Args:
            vocab_size: of the model.

        Raises:
            InputError: there is one.
        """
        wrong = [one for one in self.stop_token_ids if not 0 <= one < vocab_size]
        if wrong:
            raise InputError(f"stop_token_ids: {wrong[0]} is no token of this model, whose ids are below {vocab_size}")


@dataclass(frozen=True, slots=True)
class ChunkReport:
    """What became of one chunk of a prompt.

    Args:
        chunk_id: as the caller named it.
        decision: "prefix" (exact, as a prefix cache would), "reused", "repaired" or "computed".
        num_tokens: of the chunk.
        num_computed: of these, how many went through the layers.
        variant_id: the stored KV that was used.
        tier: where that was: "pages", "ram", "disk", "redis", "s3".
        cci, beta, gamma, beta_prime, cfo: the published measures of the variant under the present neighbours.
        reason: one plain sentence.
        number: of the chunk in the request, from 0: mode "set" serves chunks in another order.

    >>> one = ChunkReport("kb-1", "repaired", 300, 45, "3f", "ram", 0.66, 0.4, 0.0, 0.4, 0.2, "stored behind 2 chunks")
    >>> f"{one.chunk_id}: {one.num_computed / one.num_tokens:.0%} computed anew, from {one.tier}"
    'kb-1: 15% computed anew, from ram'
    """

    chunk_id: str
    decision: str
    num_tokens: int
    num_computed: int
    variant_id: str | None
    tier: str | None
    cci: float | None
    beta: float | None
    gamma: float | None
    beta_prime: float | None
    cfo: float | None
    reason: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class RequestReport:
    """What one request cost and why.

    Args:
        request_id: of the request.
        mode: how it was served.
        prompt_tokens: in all.
        prefix_tokens: taken over from an exact prefix.
        reused_tokens: taken over from chunks computed elsewhere, and not repaired.
        repaired_tokens: of reused chunks, computed anew.
        computed_tokens: of the rest (system segment, question, chunks without a usable variant).
        probe_rows: rows that went through layers only to choose what to repair.
        output_tokens: generated.
        queue_s: from arrival to the first computation.
        ttft_s: from arrival to the first token.
        e2e_s: from arrival to the end.
        chunks: one entry a chunk, in the order of the prompt.
        notes: what went otherwise than planned (a stored variant that could not be read).
        damage_bound: what `Guard` says that reuse may cost, in the unit of its calibration; None without a guard.
        abstained: whether that was too much, so that everything but exact prefixes was computed.

    >>> done = RequestReport("7d", "guided", 1000, 100, 700, 50, 150, 0, 20, 0.0, 0.3, 0.9, chunks=())
    >>> done.cached_tokens, done.active_rows
    (800, 200)
    """

    request_id: str
    mode: str
    prompt_tokens: int
    prefix_tokens: int
    reused_tokens: int
    repaired_tokens: int
    computed_tokens: int
    probe_rows: int
    output_tokens: int
    queue_s: float
    ttft_s: float
    e2e_s: float
    chunks: tuple[ChunkReport, ...]
    notes: tuple[str, ...] = ()
    damage_bound: float | None = None
    abstained: bool = False

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that did not go through the layers."""
        return self.prefix_tokens + self.reused_tokens

    @property
    def active_rows(self) -> int:
        """Rows of the prompt that went through the layers, probes included."""
        return self.repaired_tokens + self.computed_tokens + self.probe_rows


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished answer.

    Args:
        text: without a stop text.
        token_ids: as generated.
        finish_reason: why it ended.
        report: what it cost.

    >>> from nonet.ragcache import ChunkStore, Engine, toy_model
    >>> engine = Engine(toy_model(), ChunkStore.from_spec("ram:10MB"))
    >>> done = engine.generate("Be brief.", ["a chunk"], "a question?", params=SamplingParams(max_tokens=2))
    >>> len(done.token_ids), done.finish_reason, [chunk.decision for chunk in done.report.chunks]
    (2, 'length', ['computed'])
    >>> engine.stop(0)
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    report: RequestReport


@dataclass(slots=True)
class TokenEvent:
    """A piece of an answer.

    Args:
        text: what can be shown now; may be empty while a character is incomplete.
        token_id: that was generated.
    """

    text: str
    token_id: int


@dataclass(slots=True)
class EndEvent:
    """The end of an answer.

    Args:
        finish_reason: why.
        text: what was still held back.
        report: what it cost.
        error: with finish_reason "error": what went wrong.
    """

    finish_reason: FinishReason
    text: str
    report: RequestReport
    error: str = ""
    token_ids: list[int] = field(default_factory=list)


Event = TokenEvent | EndEvent


class Listener:
    """Hears one request, for whoever waits for its end.

    Attributes:
        text: so far.
        end: the last event, None before it.
        done: set with it.
    """

    def __init__(self) -> None:
        self.text = ""
        self.end: EndEvent | None = None
        self.done = threading.Event()

    def __call__(self, event: Event) -> None:
        """Take an event, as `on_event` of a request."""
        self.text += event.text
        if isinstance(event, EndEvent):
            self.end = event
            self.done.set()
