"""The face of the room: a model with a store, which answers questions about chunks.

`generate` answers one question and returns; a server starts the engine's own thread and submits requests from many.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nonet.common.errors import InputError
from nonet.ragcache.engine.paging import BlockPool
from nonet.ragcache.models.loading import DEFAULT_MODEL, LoadedModel, load_model
from nonet.ragcache.reuse.plan import Plan
from nonet.ragcache.reuse.planner import Planner
from nonet.ragcache.reuse.prompt import Prompt
from nonet.ragcache.scheduling.answering import Answer
from nonet.ragcache.scheduling.keeping import Keeper, missing_segments, neighbours_of
from nonet.ragcache.scheduling.prompting import (
    ChunkText,
    PromptMaker,
    PromptTooLongError,
    document_name,
    shortened,
    too_long,
)
from nonet.ragcache.scheduling.remembering import Remembered
from nonet.ragcache.scheduling.request import (
    BusyError,
    EndEvent,
    Event,
    FinishReason,
    Generation,
    Listener,
    RequestReport,
    SamplingParams,
    StoppedError,
)
from nonet.ragcache.scheduling.running import Request, Running, considered_of, full_request, sampler_of
from nonet.ragcache.scheduling.scheduler import Scheduler
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.scheduling.shadow import ShadowCheck
from nonet.ragcache.store.chunk_store import ChunkStore

DEFAULT_STORE = "ram:4GB"
_BLOCK_TOKENS = 16
_IDLE_WAIT_S = 0.05


class Engine:
    """Answers questions about chunks.

    Args:
        model: loaded.
        store: of variants; closed with the engine.
        config: sizes and defaults.

    Attributes:
        on_gap: told the seconds between each two tokens of a request, from the engine's thread.

    Raises:
        InputError: sizes that do not fit the model, or a guard of another one.

    >>> from nonet.ragcache.models.toy import toy_model
    >>> engine = Engine(toy_model(), ChunkStore.from_spec("ram:10MB"))
    >>> engine.generate("", ["a chunk"], "a question?", params=SamplingParams(max_tokens=2)).report.prompt_tokens
    32
    >>> engine.stop(0)
    """

    def __init__(self, model: LoadedModel, store: ChunkStore, config: EngineConfig | None = None) -> None:
        self.config = config or EngineConfig()
        if self.config.guard is not None:
            self.config.guard.check_model(model.fingerprint)
        self.model, self.store = model, store
        self.max_model_len = min(self.config.max_model_len or model.config.max_context, model.config.max_context)
        tokens = self.config.pool_tokens or 4 * self.max_model_len
        if tokens < self.max_model_len:
            raise InputError(f"pages for {tokens} tokens cannot hold one prompt of {self.max_model_len}; give more")
        shape = model.config
        self._prompts = PromptMaker(model, self.max_model_len)
        self._layout = self._prompts.layout
        self._pool = BlockPool(shape, -(-tokens // _BLOCK_TOKENS), _BLOCK_TOKENS, dtype=model.decoder.dtype)
        settings = self.config
        keeper = Keeper(
            self._pool, store, model.fingerprint, self._layout, self._prompts.learn, observe=settings.observe
        )
        self.planner = Planner(
            store,
            alpha=settings.alpha,
            theta_full=settings.theta_full,
            overlap=settings.overlap,
            tau_power=settings.tau_power,
            asked_from=settings.asked_from,
            guided_split=settings.guided_split,
            carry=settings.carry,
            guard=settings.guard,
            received=keeper.received.get,
            observed_only=settings.observe,
        )
        self._scheduler = Scheduler(
            model.decoder,
            self._pool,
            store,
            self.planner,
            keeper,
            eos_ids=shape.eos_ids,
            max_running=settings.max_running,
            step_tokens=settings.step_tokens,
            with_focus=settings.focus,
            probe_layers=settings.probe_layers,
            on_end=self._ended,
        )
        self.remembered = Remembered()
        store.on_invalidated(self._forget)
        self._keeper = keeper
        self._on_report: list[Callable[[RequestReport, FinishReason], None]] = []
        self.on_gap: Callable[[float], None] = lambda _: None
        self.shadow = ShadowCheck(self.config.shadow)
        self._wake = threading.Event()
        self._stepping = threading.RLock()
        self._thread: threading.Thread | None = None
        self._is_stopping = False
        self._failure = ""

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = DEFAULT_MODEL,
        *,
        dtype: str = "float32",
        store: str | ChunkStore = DEFAULT_STORE,
        config: EngineConfig | None = None,
    ) -> Engine:
        """Load a model and open a store.

        Args:
            model: "smollm2", a GGUF file, a folder with safetensors, or a name on the hub.
            dtype: "float32" or "bfloat16".
            store: where variants are kept, such as "ram:4GB,disk:/var/kv:50GB".
            config: sizes and defaults.

        Raises:
            InputError: no such model or store.
        """
        opened = ChunkStore.from_spec(store) if isinstance(store, str) else store
        return cls(load_model(model, dtype=dtype), opened, config)

    def prompt(
        self,
        system: str | None,
        chunks: Sequence[ChunkText | str],
        question: str,
        *,
        history: Sequence[tuple[str, str]] = (),
        tenant: str = "",
    ) -> Prompt:
        """A conversation as token ids; see `PromptMaker.conversation`."""
        return self._prompts.conversation(system, chunks, question, history=history, tenant=tenant)

    def text_prompt(self, text: str | Sequence[int], *, tenant: str = "") -> Prompt:
        """A plain text or its ids; see `PromptMaker.text`."""
        return self._prompts.text(text, tenant=tenant)

    def generate(
        self,
        system: str | None,
        chunks: Sequence[ChunkText | str],
        question: str,
        mode: str | None = None,
        recompute: float | None = None,
        params: SamplingParams | None = None,
    ) -> Generation:
        """Answer a question.

        Args:
            system: system prompt, None for the model's own.
            chunks: retrieved texts.
            question: about them.
            mode: a name of `MODES`, None for the engine's own.
            recompute: share of the reused rows to compute anew; None for the planner's own.
            params: how tokens are chosen.

        Raises:
            InputError: what `prompt` and `Planner.plan` raise.
        """
        return self.complete(self.prompt(system, chunks, question), mode=mode, recompute=recompute, params=params)

    def complete(
        self,
        prompt: Prompt,
        *,
        mode: str | None = None,
        recompute: float | None = None,
        params: SamplingParams | None = None,
        keep: bool = True,
    ) -> Generation:
        """Serve one prompt and wait for the end; arguments as for `generate`.

        Args:
            prompt: what is asked.
            mode: how.
            recompute: share.
            params: of tokens.
            keep: store what is computed exactly; False for measurements that must leave no trace.
        """
        heard = Listener()
        running = self._new(prompt, params or SamplingParams(), mode, recompute, None, heard, keep=keep)
        end = self._served(running, heard)
        return Generation(heard.text, tuple(end.token_ids), end.finish_reason, end.report)

    def score(
        self, prompt: Prompt, answer: Sequence[int], *, mode: str | None = None, recompute: float | None = None
    ) -> tuple[np.ndarray, RequestReport]:
        """Logits along a given answer; nothing is stored.

        Args:
            prompt: what is asked.
            answer: tokens; their logits are those from which they would have been chosen.
            mode: as for `generate`.
            recompute: likewise.

        Returns:
            float32 [len(answer), vocab_size], and what it cost.
        """
        if not answer:
            raise InputError("an answer to be scored needs at least one token")
        heard, params = Listener(), SamplingParams(max_tokens=len(answer), ignore_eos=True)
        running = self._new(
            prompt, params, mode, recompute, None, heard, forced=tuple(answer), keep_logits=True, keep=False
        )
        end = self._served(running, heard)
        return torch.stack(running.logits).numpy(), end.report

    def submit(
        self,
        prompt: Prompt,
        params: SamplingParams,
        *,
        mode: str | None = None,
        recompute: float | None = None,
        timeout_s: float | None = None,
        on_event: Callable[[Event], None],
    ) -> str:
        """Hand a request to the engine; gives its id at once.

        Args:
            prompt: what is asked.
            params: how tokens are chosen.
            mode: as for `generate`.
            recompute: likewise.
            timeout_s: then it ends with what it has.
            on_event: told tokens and the end, from the engine's thread.

        Raises:
            BusyError: too many wait; `StoppedError` when none is answered any more.
            PromptTooLongError: prompt and answer do not fit into the context.
            InputError: unknown mode.
        """
        may_check = (mode or self.config.mode) != "full" and self._scheduler.idle.takes_checks
        is_checked = may_check and self.shadow.is_drawn()
        running = self._new(prompt, params, mode, recompute, timeout_s, on_event, keep_logits=is_checked)
        self._scheduler.add(running)
        self._wake.set()
        return running.request.request_id

    def cancel(self, request_id: str) -> bool:
        """End a request as soon as possible; False when it is not known any more."""
        self._wake.set()
        return self._scheduler.cancel(request_id)

    def warm(self, system: str | None, groups: Sequence[Sequence[ChunkText | str]], *, tenant: str = "") -> int:
        """Compute chunks in the given companies, so that their variants are stored before anybody asks.

        Args:
            system: system prompt of the questions to come.
            groups: chunks in their order; every chunk of a group gets a variant behind the ones before it.
            tenant: to whom they belong.

        Returns:
            How many.
        """
        for group in groups:
            heard = Listener()
            self._scheduler.add(self._job(self.prompt(system, group, ".", tenant=tenant), on_event=heard))
            self._drive(heard.done)
        return len(groups)

    def finish_background(self) -> None:
        """Do all background jobs and write everything to the store."""
        while self._scheduler.is_at_work:
            if self._thread is None:
                self._step()
            else:
                time.sleep(_IDLE_WAIT_S)
        self.store.flush()

    def explain(self, request_id: str, *, tenant: str = "") -> tuple[RequestReport, Any] | None:
        """What a tenant's finished request cost, and for each chunk the variants looked at; None when not known."""
        return self.remembered.find(tenant, request_id)

    def invalidate(self, name: str, *, tenant: str = "") -> int:
        """Drop all KV that was computed from a document; gives how many variants there were.

        That is the KV of its chunks, under whatever names the same texts came too, and that of chunks computed behind
        them. What requests on their way compute of it is not stored.

        Args:
            name: one under which its chunks were given.
            tenant: whose.
        """
        document = document_name(tenant, name)
        self._scheduler.outdate(document)
        return self.store.invalidate(document=document)

    def store_stats(self) -> dict[str, Any]:
        """What the store holds."""
        return asdict(self.store.stats())

    def on_report(self, callback: Callable[[RequestReport, FinishReason], None]) -> None:
        """Be told of every request that ends."""
        self._on_report.append(callback)

    def drop_pages(self) -> None:
        """Forget the variants in pages that nobody uses, so that they are read from the store again."""
        self._scheduler.residency.drop_unused()

    @property
    def num_running(self) -> int:
        """Requests that are computed now."""
        return self._scheduler.num_running

    @property
    def num_waiting(self) -> int:
        """Requests that wait."""
        return self._scheduler.num_waiting

    @property
    def pages_used(self) -> float:
        """Share of the pages that is taken."""
        return 1 - self._pool.free_tokens / (self._pool.num_blocks * self._pool.block_tokens)

    def why_not_ready(self) -> str:
        """Why no request can be answered, "" when they can."""
        if self._failure:
            return self._failure
        return "" if self._thread is not None and not self._is_stopping else "the engine is not running"

    def start(self) -> Engine:
        """Work in a thread of its own from now on; without, whoever waits for an answer does the work."""
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()
        return self

    def stop(self, drain_s: float = 10.0) -> None:
        """Take no more requests, finish what is begun for a while, then end everything and close the store.

        Args:
            drain_s: how long requests may go on.
        """
        self._is_stopping = True
        deadline = time.monotonic() + drain_s
        while self._thread is not None and time.monotonic() < deadline and (self.num_running or self.num_waiting):
            time.sleep(_IDLE_WAIT_S)
        thread, self._thread = self._thread, None
        self._wake.set()
        if thread is not None:
            thread.join(30.0)
        with self._stepping:
            self._scheduler.end_all("cancelled")
        self._scheduler.close()
        self.store.close()

    def _run(self) -> None:
        while self._thread is threading.current_thread():
            try:
                if not self._step():
                    self._wake.wait(_IDLE_WAIT_S)
                    self._wake.clear()
            except Exception as error:
                # A fault of ours in one step must not leave clients waiting for ever: everything that runs is told.
                self._failure = f"{type(error).__name__}: {error}"
                self._scheduler.end_all("error", self._failure)
                raise

    def _served(self, running: Running, heard: Listener) -> EndEvent:
        self._scheduler.add(running)
        self._drive(heard.done)
        if heard.end is None or heard.end.finish_reason == "error":
            raise InputError(heard.end.error if heard.end is not None else "the request has not ended")
        return heard.end

    def _drive(self, done: threading.Event) -> None:
        if self._thread is not None:
            self._wake.set()
            while not done.wait(1.0):
                if self._failure:
                    raise InputError(f"the engine has failed: {self._failure}")
            return
        while not done.is_set():
            self._step()

    def _step(self) -> bool:
        # The engine's thread, or whoever waits for an answer where there is none: whoever has the turn serves all.
        with self._stepping:
            return self._scheduler.step()

    def _new(
        self,
        prompt: Prompt,
        params: SamplingParams,
        mode: str | None,
        recompute: float | None,
        timeout_s: float | None,
        on_event: Callable[[Event], None],
        **options: Any,
    ) -> Running:
        chosen = mode or self.config.mode
        self.config.check_mode(chosen)
        if self._is_stopping or self._failure:
            raise StoppedError(
                "the server is stopping" if self._is_stopping else f"the engine has failed: {self._failure}"
            )
        if self._scheduler.num_waiting >= self.config.max_waiting:
            raise BusyError(f"{self.config.max_waiting} requests wait already; try again later")
        if recompute is not None and not 0 <= recompute <= 1:
            raise InputError(f"recompute must be within 0 and 1, not {recompute:g}")
        room = self.max_model_len - len(prompt.ids)
        if room < 1:
            raise PromptTooLongError(too_long(len(prompt.ids), self.max_model_len))
        if params.max_tokens > room:
            if params.min_tokens > room:
                text = f"min_tokens: {params.min_tokens} do not fit behind a prompt of {len(prompt.ids)} tokens"
                raise PromptTooLongError(f"{text}; the context has {self.max_model_len}")
            params = replace(params, max_tokens=room)
        params.check_ids(self.model.config.vocab_size)
        deadline = time.monotonic() + timeout_s if timeout_s is not None else None
        request = Request(
            uuid.uuid4().hex, prompt, params, chosen, recompute, deadline, on_event, self.on_gap, **options
        )
        return self._running(request)

    def _running(self, request: Request) -> Running:
        answer = Answer(self.model.tokenizer.stream(), request.params.stop)
        return Running(request, sampler_of(request, self.model.config.eos_ids), answer)

    def _job(self, prompt: Prompt, **options: Any) -> Running:
        request = Request(uuid.uuid4().hex, prompt, SamplingParams(max_tokens=1), "prefix", only_prompt=True, **options)
        return self._running(request)

    def _ended(self, running: Running, reason: FinishReason) -> None:
        if running.request.only_prompt or running.request.is_internal:
            return
        report, plan = running.report(), running.plan
        self.remembered.add(running.request.prompt.tenant, report, considered_of(plan) if plan is not None else {})
        for callback in self._on_report:
            callback(report, reason)
        if running.request.keep_logits and running.request.keep and running.token_ids and self._is_approximate(plan):
            self._check_in_shadow(running)
        is_kept = running.request.keep and not running.is_outdated and reason in ("stop", "length")
        if plan is not None and is_kept and self.config.background:
            self._plan_background(plan)

    def _forget(self, variant_ids: set[str], chunks: set[str]) -> None:
        self._scheduler.residency.forget(variant_ids)
        self._keeper.received.discard(variant_ids)
        self._prompts.forget(chunks)

    def _is_approximate(self, plan: Plan | None) -> bool:
        # Asked at the end, since a variant that cannot be read changes the plan.
        return plan is not None and bool(plan.reused_tokens or (self.config.focus and plan.repaired_tokens))

    def _check_in_shadow(self, served: Running) -> None:
        request = full_request(served.request.prompt, served.token_ids)
        full = self._running(request)

        def compare(event: Event) -> None:
            if isinstance(event, EndEvent) and full.logits:
                self.shadow.compare(served.logits, full.logits)

        request.on_event = compare
        self._scheduler.add_idle(full)

    def _plan_background(self, plan: Plan) -> None:
        """Chunks that were met behind reused ones get a variant behind the chunk that stood before them."""
        for number in missing_segments(plan):
            prompt = shortened(plan.prompt, neighbours_of(plan.prompt, number))
            self._scheduler.add_idle(self._job(prompt, is_internal=True))
