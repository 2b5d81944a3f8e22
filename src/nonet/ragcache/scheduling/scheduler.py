"""Continuous batching: every step takes a bounded number of rows from all requests that can go on.

A step costs its rows, so a request whose chunks are reused is as cheap as its question and its repaired rows. Rows of
answers go first (one each), then prompts in the order of their arrival, cut where the step is full. Work that fills the
store is done when nobody waits.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np
import torch

from nonet.common.errors import NonetError
from nonet.ragcache.engine.forward import Slice, forward
from nonet.ragcache.engine.observing import Observer
from nonet.ragcache.engine.paging import BlockPool, PoolExhausted
from nonet.ragcache.engine.sequence import Sequence
from nonet.ragcache.models.decoder import Decoder
from nonet.ragcache.reuse.focus import FocusSelector
from nonet.ragcache.reuse.plan import Plan
from nonet.ragcache.reuse.planner import Planner
from nonet.ragcache.scheduling.idle import IdleJobs
from nonet.ragcache.scheduling.keeping import Keeper
from nonet.ragcache.scheduling.leading import led, num_together
from nonet.ragcache.scheduling.prompting import names_of
from nonet.ragcache.scheduling.request import FinishReason, StoppedError, TokenEvent
from nonet.ragcache.scheduling.residency import Residency
from nonet.ragcache.scheduling.running import Running, State, rows_tensor
from nonet.ragcache.scheduling.selecting import DeviationSelector
from nonet.ragcache.store.chunk_store import ChunkStore
from nonet.ragcache.store.preload import can_start
from nonet.ragcache.store.variant import VariantUnavailable

_SMOOTHING = 0.2
_LOADING_POLL_S = 5e-4


class Scheduler:
    """Carries requests out; `step` is called by one thread.

    Args:
        decoder: the model.
        pool: pages for all requests and the variants that they use.
        store: of variants.
        planner: plans requests.
        keeper: hands what was computed to the store.
        eos_ids: tokens that end an answer.
        max_running: requests that are carried out at a time.
        step_tokens: rows of a step.
        with_focus: stop repairing chunks out of the question's focus, where a prompt is computed in one step.
        probe_layers: share of the layers, from the first on, that a probe of the question runs through.
        on_end: told each request that has ended.

    Attributes:
        residency: variants in pages.
        idle: jobs for when nobody waits.
    """

    def __init__(
        self,
        decoder: Decoder,
        pool: BlockPool,
        store: ChunkStore,
        planner: Planner,
        keeper: Keeper,
        *,
        eos_ids: tuple[int, ...],
        max_running: int = 8,
        step_tokens: int = 512,
        with_focus: bool = False,
        probe_layers: float = 1.0,
        on_end: Callable[[Running, FinishReason], None] = lambda *_: None,
    ) -> None:
        self._decoder, self._pool, self._store = decoder, pool, store
        self._planner, self._keeper = planner, keeper
        self._eos_ids, self._max_running, self._step_tokens = set(eos_ids), max_running, step_tokens
        self._with_focus, self._on_end = with_focus, on_end
        self._num_layers = decoder.config.num_layers
        self._probe_layers = math.ceil(probe_layers * self._num_layers)
        self.residency = Residency(pool, store, self._num_layers)
        self._lock = threading.Lock()
        self._waiting: deque[Running] = deque()
        self.idle = IdleJobs()
        self._running: list[Running] = []
        self._has_ended = False
        self._row_s, self._probe_s = 2e-3, 0.1

    @property
    def num_running(self) -> int:
        """Requests that are being carried out, without the work that nobody waits for."""
        with self._lock:
            return sum(not one.request.is_internal for one in self._running)

    @property
    def num_waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    @property
    def is_at_work(self) -> bool:
        """Whether anything is computed, or is to be when nobody waits."""
        with self._lock:
            return bool(self._running or len(self.idle))

    def add(self, running: Running) -> None:
        """Let a request wait for its turn; its chunks begin to move to the fastest tier meanwhile.

        Raises:
            StoppedError: `end_all` came before.
        """
        with self._lock:
            if self._has_ended:
                raise StoppedError("the engine takes no more requests")
            self._waiting.append(running)
        chunks = running.request.prompt.chunks
        self._store.promote(one.variant_id for chunk in chunks for one in self._store.variants(chunk.key))

    def add_idle(self, job: Running) -> None:
        """Let a job wait until nothing else is to be done; not all are taken, see `IdleJobs.add`."""
        with self._lock:
            if not self._has_ended:
                self.idle.add(job, self._running)

    def cancel(self, request_id: str) -> bool:
        """End a request as soon as possible; False when it is not known."""
        with self._lock:
            known = [*self._waiting, *self.idle, *self._running]
        for running in known:
            if running.request.request_id == request_id:
                running.is_cancelled = True
                return True
        return False

    def outdate(self, document: str) -> None:
        """Let no request that is on its way store anything, where it has chunks of a document; jobs for it end.

        Args:
            document: that has become invalid, or the id of a chunk; see `names_of`.
        """
        with self._lock:
            for running in [*self._waiting, *self.idle, *self._running]:
                if any(name == document for _, name in names_of(running.request.prompt)):
                    running.is_outdated = True
                    running.is_cancelled |= running.request.only_prompt

    def step(self) -> bool:
        """Do one step; False when there was nothing to do."""
        self._end_overdue()
        self._admit()
        work = self._work()
        if not work:
            is_loading = any(running.state is State.LOADING for running in self._running)
            # Somebody may wait for the pages of what is loaded for a request that has ended.
            is_loading |= bool(self._waiting) and self.residency.is_loading
            if is_loading:
                time.sleep(_LOADING_POLL_S)
            return is_loading
        observed = self._observed(work)
        started = time.perf_counter()
        try:
            outputs = forward(
                self._decoder, self._pool, [one for _, one in work], before_layer=lambda layer: self._await(work, layer)
            )
        except VariantUnavailable:
            # Sums would count the step twice. Keys, values and marks are overwritten when it is repeated, and seen by
            # no row before that: rows are computed in their order, and see none behind themselves.
            for observer, saved in observed:
                observer.restore(saved)
            self._recover(work)
            return True
        self._measure(time.perf_counter() - started, work)
        for (running, piece), logits in zip(work, outputs, strict=True):
            self._advance(running, piece, logits)
        return True

    def end_all(self, reason: FinishReason, error: str = "") -> None:
        """End everything that is known, at a stop or after a fault; nothing is taken from then on."""
        with self._lock:
            self._has_ended = True
            waiting = [*self._waiting, *self.idle]
            self._waiting.clear()
            self.idle.clear()
        for running in [*waiting, *self._running]:
            self._finish(running, reason, error)

    def close(self) -> None:
        """Stop loading."""
        self.residency.close()

    def _end_overdue(self) -> None:
        now = time.monotonic()
        with self._lock:
            known = [*self._waiting, *self.idle, *self._running]
        for running in known:
            deadline = running.request.deadline_s
            if running.is_cancelled:
                self._finish(running, "cancelled")
            elif deadline is not None and now > deadline:
                self._finish(running, "timeout")

    def _admit(self) -> None:
        while len(self._running) < self._max_running:
            with self._lock:
                job = self.idle.next(is_idle=not self._waiting and not self._running)
                first = next(iter(self._waiting), None)
            # A job that has to wait for pages holds nobody up.
            running = next((one for one in (job, first) if one is not None and self._begin(one)), None)
            if running is None:
                return
            with self._lock:
                if running in self._waiting:
                    self._waiting.remove(running)
                self.idle.begin(running)
                self._running.append(running)

    def _begin(self, running: Running) -> bool:
        """Plan a request and get its pages; False when they are not free yet."""
        request = running.request
        # Asked before: what is given back in between may be enough.
        may_get_pages = bool(self._running) or self.residency.is_loading
        try:
            plan = self._planner.plan(request.prompt, request.mode, request.recompute)
            plan = self._hold(running, plan)
            running.plan = plan
            self._lay_out(running, plan)
        except PoolExhausted as error:
            self._let_go(running)
            if not may_get_pages:
                self._finish(running, "error", f"the prompt does not fit into the pages ({error})")
            return False
        running.started_s = time.monotonic()
        self._prepare(running)
        return True

    def _hold(self, running: Running, plan: Plan) -> Plan:
        """Bring the plan's variants into pages; what cannot be read is computed."""
        for number, part in enumerate(plan.segments):
            if part.variant is None:
                continue
            try:
                running.tiers[number] = self._store.tier_of(part.variant.variant_id)
                running.residents[number] = self.residency.acquire(part.variant)
            except VariantUnavailable as error:
                running.notes.append(str(error))
                plan = plan.without_variant(number, "its stored KV could not be read")
        return plan

    def _lay_out(self, running: Running, plan: Plan) -> None:
        prompt = plan.prompt
        num_probed = len(plan.candidates) if plan.probe == "deviation" else plan.budget
        num_own = len(plan.active_rows) + running.num_new + num_probed
        # Four allocations: rows of the answer, active rows, rows that a probe chooses, changes; each may fill a page in
        # part.
        self.residency.make_room(num_own + len(running.residents) + 4 * self._pool.block_tokens)
        sequence = Sequence(self._pool, torch.from_numpy(prompt.ids), len(prompt.ids) + running.num_new)
        running.sequence = sequence
        for number, resident in running.residents.items():
            sequence.use(plan.segments[number].segment.start, resident.blocks)
        sequence.reserve(torch.arange(len(prompt.ids), len(prompt.ids) + running.num_new))
        sequence.reserve(rows_tensor(plan.active_rows))
        # Held from the start: a request that is half way must not wait for pages of others that wait for its own.
        # One row more for each chunk: its change, which others follow; they may have been chosen before a new start.
        num_spare = num_probed + len(running.residents) + self._pool.block_tokens
        is_led = plan.carries and any(part.may_carry for part in plan.segments)
        running.spare = self._pool.allocate(num_spare) if num_probed or is_led else None

    def _prepare(self, running: Running) -> None:
        """Decide what comes first: loading, probing or computing."""
        plan = running.plan
        if plan is None:
            return
        if not self._can_start(running, plan):
            running.state = State.LOADING
            return
        if plan.probe == "question":
            question = plan.segments[-1]
            running.probe = self._observer(plan, only_asked=True)
            running.pending, running.state = rows_tensor(question.rows), State.PROBING
            return
        self._start_prefill(running, plan)

    def _can_start(self, running: Running, plan: Plan) -> bool:
        """Whether enough layers are there that computing will not have to wait for the others."""
        loading = [one for one in running.residents.values() if one.is_loading and not one.failure]
        if not loading:
            return True
        prefill_s = self._probe_s if plan.probe == "question" else len(plan.active_rows) * self._row_s
        load_s = self._store.load_time_s(one.meta.variant_id for one in loading)
        ready = min(one.ready_layers for one in loading)
        elapsed_s = time.monotonic() - min(one.began_s for one in loading)
        return can_start(self._num_layers, ready, elapsed_s, prefill_s, load_s)

    def _start_prefill(self, running: Running, plan: Plan) -> None:
        rows = plan.active_rows
        if plan.probe == "deviation":
            rows = np.union1d(rows, plan.candidates)
        running.pending = rows_tensor(rows)
        self._release_spare(running)
        if running.sequence is not None:
            running.sequence.reserve(running.pending)
            if plan.carries:
                running.sequence.follow(led(plan, self._step_tokens))
        if running.request.keep:
            running.observer = self._keeper.observer_for(plan, self._num_layers)
        running.state = State.PREFILL

    def _observer(self, plan: Plan, *, only_asked: bool = False) -> Observer:
        segments, count = torch.from_numpy(plan.prompt.segment_of_row()), len(plan.segments)
        return Observer(segments, count, self._num_layers, question=count - 1, only_asked=only_asked)

    def _work(self) -> list[tuple[Running, Slice]]:
        left = self._step_tokens
        work: list[tuple[Running, Slice]] = []
        for running in self._running:
            if running.state is State.DECODE and running.sequence is not None and left > 0:
                row = torch.tensor([running.sequence.num_tokens - 1])
                work.append((running, Slice(running.sequence, row)))
                left -= 1
        for running in self._running:
            if running.state is State.LOADING:
                self._prepare(running)
            if running.state in (State.PROBING, State.PREFILL) and left > 0:
                piece = self._piece(running, left)
                work.append((running, piece))
                left -= len(piece.rows)
        return work

    def _piece(self, running: Running, left: int) -> Slice:
        plan, sequence = running.plan, running.sequence
        if plan is None or sequence is None:
            raise NonetError("a request without a plan was to be computed")
        if running.state is State.PROBING:
            depth = self._probe_layers
            return Slice(sequence, running.pending, False, running.probe, keep_kv=False, num_layers=depth)
        if plan.probe == "deviation":
            # The choice is made among all rows in one batch, so they cannot be cut.
            selector = DeviationSelector(rows_tensor(plan.candidates), plan.budget)
            return Slice(sequence, running.pending, observer=running.observer, selector=selector)
        if sequence.has_followers:
            left = num_together(plan, running.pending, left, self._step_tokens)
        rows = running.pending[:left]
        if self._with_focus and plan.repaired_tokens and len(rows) == len(plan.active_rows):
            observer = running.observer or self._observer(plan)
            return Slice(sequence, rows, observer=observer, selector=FocusSelector(plan, self._num_layers))
        return Slice(sequence, rows, want_logits=len(rows) == len(running.pending), observer=running.observer)

    def _await(self, work: list[tuple[Running, Slice]], layer: int) -> None:
        for running, _ in work:
            for resident in running.residents.values():
                if resident.ready_layers <= layer:
                    self.residency.wait(resident, layer + 1)

    def _observed(self, work: list[tuple[Running, Slice]]) -> list[tuple[Observer, tuple[torch.Tensor, ...]]]:
        """What was observed before this step, where a variant may turn out damaged in it: it is not all there yet."""
        residents = [resident for running, _ in work for resident in running.residents.values()]
        if all(one.ready_layers == self._num_layers for one in residents):
            return []
        return [(piece.observer, piece.observer.saved()) for _, piece in work if piece.observer is not None]

    def _recover(self, work: list[tuple[Running, Slice]]) -> None:
        """A variant failed in the middle of a step: its requests start again without it, the others repeat the step."""
        for running, _ in work:
            failed = {n: resident for n, resident in running.residents.items() if resident.failure}
            if not failed or running.plan is None or running.sequence is None:
                continue
            plan = running.plan
            for number, resident in failed.items():
                running.notes.append(resident.failure)
                plan = plan.without_variant(number, "its stored KV could not be read")
                self.residency.release(running.residents.pop(number))
                running.tiers.pop(number, None)
            running.plan = plan
            running.sequence.close()
            self._release_spare(running)
            try:
                self._lay_out(running, plan)
                self._prepare(running)
            except PoolExhausted as error:
                self._finish(running, "error", str(error))

    def _advance(self, running: Running, piece: Slice, logits: torch.Tensor | None) -> None:
        if running.state is State.PROBING:
            self._after_probe(running, len(piece.rows))
            return
        if running.state is State.PREFILL:
            running.pending = running.pending[len(piece.rows) :]
            if len(running.pending):
                return
            self._after_prefill(running, piece)
            if running.request.only_prompt:
                self._finish(running, "stop")
                return
            running.state = State.DECODE
        if logits is not None:
            self._next_token(running, logits)

    def _after_probe(self, running: Running, num_rows: int) -> None:
        plan, probe = running.plan, running.probe
        if plan is None or probe is None:
            return
        running.probe_rows += num_rows
        running.plan = self._planner.choose(plan, probe.asked.numpy())
        running.probe = None
        self._start_prefill(running, running.plan)

    def _after_prefill(self, running: Running, piece: Slice) -> None:
        plan, sequence = running.plan, running.sequence
        if plan is None or sequence is None:
            return
        if isinstance(piece.selector, DeviationSelector):
            # Two of all layers were computed for the candidates that were not chosen; told in rows of the whole model.
            others = len(plan.candidates) - len(piece.selector.chosen)
            running.plan = plan = plan.with_chosen(piece.selector.chosen.numpy())
            running.probe_rows += -(-others * piece.selector.num_layers // self._num_layers)
        for number, resident in running.residents.items():
            overlap = plan.segments[number].overlap
            share = len(plan.segments[number].rows) / max(1, plan.segments[number].segment.num_tokens)
            self._store.used(resident.meta.variant_id, share if overlap is not None else 0.0)
        with self._lock:  # what is invalidated comes before this, or after and finds what is kept here
            if running.request.keep and not running.is_outdated:
                self._store.named(names_of(plan.prompt))
                self._keeper.keep(plan, sequence, running.observer)
        running.observer = None

    def _next_token(self, running: Running, logits: torch.Tensor) -> None:
        token_id = running.take(logits)
        request = running.request
        if running.is_end(token_id, self._eos_ids):
            self._finish(running, "stop")
            return
        text = running.show(token_id)
        request.on_event(TokenEvent(text, token_id))
        if running.is_stopped:
            self._finish(running, "stop")
        elif len(running.token_ids) >= request.params.max_tokens:
            self._finish(running, "length")
        elif running.sequence is not None:
            running.sequence.append(token_id)

    def _finish(self, running: Running, reason: FinishReason, error: str = "") -> None:
        if running.state is State.DONE:
            return
        running.state = State.DONE
        with self._lock:
            for queue in (self._waiting, self._running):
                if running in queue:
                    queue.remove(running)
            self.idle.discard(running)
        self._let_go(running)
        self._on_end(running, reason)
        running.request.on_event(running.end(reason, error))

    def _release_spare(self, running: Running) -> None:
        if running.spare is not None:
            self._pool.release(running.spare)
            running.spare = None

    def _let_go(self, running: Running) -> None:
        self._release_spare(running)
        if running.sequence is not None:
            running.sequence.close()
            running.sequence = None
        for resident in running.residents.values():
            self.residency.release(resident)
        running.residents.clear()

    def _measure(self, seconds: float, work: list[tuple[Running, Slice]]) -> None:
        if all(running.state is State.PROBING for running, _ in work):
            # A probe's few rows cost little beside its passes over weights and keys.
            self._probe_s += _SMOOTHING * (seconds - self._probe_s)
        else:
            num_rows = sum(len(one.rows) for _, one in work)
            self._row_s += _SMOOTHING * (seconds / num_rows - self._row_s)
        self._store.set_layer_time(seconds / self._num_layers)
