"""From a prompt and the variants that are stored to a plan; no tensors, well under a millisecond."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.ragcache.reuse.abstain import Guard
from nonet.ragcache.reuse.metrics import Overlap, Rule, overlap_of
from nonet.ragcache.reuse.modes import DEFAULT_MODE, MODES, Mode, Split
from nonet.ragcache.reuse.plan import NO_ROWS, Plan, Rows, SegmentPlan, computed, repaired
from nonet.ragcache.reuse.prompt import Prompt, Segment, in_order
from nonet.ragcache.reuse.tokens import guided_scores, num_of, picked, random_rows, shared_budget, top_rows
from nonet.ragcache.store.variant import VariantMeta

TAU_POWER, ASKED_FROM = 0.75, 0.4
"""Of mode "guided": the best of grids on questions that the bench does not report (decisions 15 and 20)."""

Considered = tuple[tuple[VariantMeta, Overlap], ...]
# Orders that mode "set" looks at, at most; a prompt of five chunks has 120.
_MAX_ORDERS = 1000


class VariantIndex(Protocol):
    """Where variants are looked up."""

    def variants(self, chunk_key: str) -> Sequence[VariantMeta]:
        """All variants of a chunk that can be read now."""
        ...


class Planner:
    """Plans requests.

    Args:
        store: what is stored.
        alpha: factor of the fix overhead; `calibrate` finds it for a quality target.
        theta_full: a chunk whose fix overhead reaches this is computed in full.
        overlap: "symmetric" counts new neighbours against a variant, too.
        tau_power: with mode "guided", how much a row's staleness counts beside the question's attention: 0 not at all,
            1 as much (`guided_scores`).
        asked_from: with mode "guided", the share of the model's layers, from the first, whose attention does not count.
        guided_split: with mode "guided", "overhead" keeps each chunk's budget, "request" lets all rows compete for the
            sum.
        carry: in modes that do, let the rows of a chunk that are not repaired follow the mean change of those that are.
        guard: computes everything where reuse might do too much damage; None never does.
        received: attention that the rows of a variant received when it was computed, for mode "h2o"; None (or a None
            that it gives) ranks by tau instead and says so.
        observed_only: leave out variants without statistics also where an exact prefix needs none, so that they are
            computed again and get some.
        seed: of mode "random".

    Attributes:
        alpha: may be changed between plans.
        carry: likewise.

    Raises:
        InputError: numbers outside their range, or an unknown rule.

    >>> from nonet.ragcache import ChunkStore, Engine, toy_model
    >>> engine = Engine(toy_model(), ChunkStore.from_spec("ram:10MB"))
    >>> _ = engine.generate("", ["one chunk", "another one"], "a question?", "full")
    >>> engine.finish_background()
    >>> moved = engine.prompt("", ["another one", "one chunk"], "a question?")
    >>> [part.decision for part in Planner(engine.store, alpha=0.5).plan(moved, "reuse").segments[1:3]]
    ['reused', 'reused']
    >>> engine.stop(0)
    """

    def __init__(
        self,
        store: VariantIndex,
        *,
        alpha: float = 0.5,
        theta_full: float = 1.0,
        overlap: Rule = "published",
        tau_power: float = TAU_POWER,
        asked_from: float = ASKED_FROM,
        guided_split: Split = "overhead",
        carry: bool = True,
        guard: Guard | None = None,
        received: Callable[[str], NDArray[np.floating] | None] | None = None,
        observed_only: bool = True,
        seed: int = 0,
    ) -> None:
        if not (0 <= alpha < float("inf") and 0 < theta_full <= 1 and 0 <= tau_power < float("inf")):
            raise InputError("planner: alpha and tau_power must not be negative, theta_full within 0 and 1")
        if not 0 <= asked_from < 1:
            raise InputError(f"planner: asked_from must be at least 0 and below 1, not {asked_from:g}")
        if overlap not in ("published", "symmetric"):
            raise InputError(f"planner: overlap must be 'published' or 'symmetric', not {overlap!r}")
        if guided_split not in ("overhead", "request"):
            raise InputError(f"planner: guided_split must be 'overhead' or 'request', not {guided_split!r}")
        self._store, self.alpha, self._theta_full = store, alpha, theta_full
        self._rule, self._tau_power, self._guided_split = overlap, tau_power, guided_split
        self._asked_from, self.carry = asked_from, carry
        self._guard, self._received, self._seed = guard, received, seed
        self._observed_only = observed_only

    def plan(self, prompt: Prompt, mode: str = DEFAULT_MODE, recompute: float | None = None) -> Plan:
        """Plan a request.

        Args:
            prompt: what is asked.
            mode: a name of `MODES`.
            recompute: share of the reused rows to compute anew; None leaves it to the fix overhead of each chunk.

        Returns:
            A plan whose rows are chosen, or one with a `probe`, to be run before `choose` (or `Plan.with_chosen`).

        Raises:
            InputError: an unknown mode, or a share outside 0 and 1.
        """
        way = MODES[mode]
        if recompute is not None and not 0 <= recompute <= 1:
            raise InputError(f"recompute must be within 0 and 1, not {recompute:g}")
        if way.lookup == "set":
            prompt = self._reordered(prompt, way)
        parts, considered = self._looked_up(prompt, way)
        plan = Plan(prompt, mode, tuple(parts), considered=tuple(considered), carries=self.carry and way.carries)
        if way.choice != "none":
            plan = self._repaired(plan, way, recompute)
        return self._guard.checked(plan) if self._guard is not None else plan

    def choose(self, plan: Plan, asked: NDArray[np.floating]) -> Plan:
        """Choose rows after a probe of the question.

        Args:
            plan: with `probe == "question"`.
            asked: [layers, n], attention of the question's rows onto each row of the prompt.
        """
        parts = [part for part in plan.segments if part.by_probe]
        is_guided = MODES[plan.mode].choice == "guided"
        first_layer = int(self._asked_from * len(asked)) if is_guided else 0
        onto_rows = asked[first_layer:].sum(0)
        per_part = is_guided and self._guided_split == "overhead"
        scores = [guided_scores(onto_rows, [part], self._tau_power if is_guided else 0.0) for part in parts]
        return plan.with_chosen(picked(parts, scores, [part.budget for part in parts], per_part=per_part))

    def _looked_up(self, prompt: Prompt, way: Mode) -> tuple[list[SegmentPlan], list[tuple[str, Considered]]]:
        system = self._system_part(prompt, way)
        parts, considered = [system], []
        # Whether all before a chunk is exact: computed here, or taken from exactly this prefix.
        is_exact, new, order = True, dict[str, int](), list[str]()
        for chunk in prompt.chunks:
            part, looked_at = self._chunk_part(prompt, chunk, new, tuple(order), way, is_exact)
            parts.append(part)
            considered.append((chunk.chunk_id, looked_at))
            if chunk.num_tokens:
                is_exact = is_exact and not part.is_taken_over
                new.setdefault(chunk.key, chunk.num_tokens)
                order.append(chunk.key)
        question = computed(prompt.question, "the question is always computed")
        return [*parts, question], considered

    def _system_part(self, prompt: Prompt, way: Mode) -> SegmentPlan:
        segment = prompt.system
        if way.lookup != "none" and segment.num_tokens:
            for variant in self._usable(segment, way):
                if not variant.prefix_keys and not variant.system_key:
                    return SegmentPlan(segment, "prefix", variant, NO_ROWS, None, "the same start as before")
        return computed(segment, "no system segment" if not segment.num_tokens else "the start is not stored")

    def _chunk_part(
        self,
        prompt: Prompt,
        chunk: Segment,
        new: dict[str, int],
        order: tuple[str, ...],
        way: Mode,
        is_exact: bool,
    ) -> tuple[SegmentPlan, Considered]:
        if way.lookup == "none":
            return computed(chunk, "mode full computes everything"), ()
        if chunk.num_tokens == 0:
            return computed(chunk, "an empty chunk"), ()
        if chunk.key in new:
            return computed(chunk, "the second time in this prompt: behind itself it is not taken over"), ()
        system_key = prompt.system.key
        looked_at = tuple(
            (one, overlap_of(one, system_key, new, alpha=self.alpha, rule=self._rule))
            for one in self._usable(chunk, way)
        )
        if is_exact:
            for variant, overlap in looked_at:
                if variant.system_key == system_key and variant.prefix_keys == order:
                    return SegmentPlan(
                        chunk, "prefix", variant, NO_ROWS, overlap, "the same prefix as before"
                    ), looked_at
        if way.lookup != "any":
            return computed(chunk, "no stored prefix goes this far"), looked_at
        if not looked_at:
            return computed(chunk, "never computed before, or no longer stored"), looked_at
        variant, overlap = min(looked_at, key=lambda one: _rank(one, system_key))
        if overlap.cfo >= self._theta_full:
            return computed(chunk, f"its best variant would need {overlap.cfo:.0%} computed anew"), looked_at
        why = _why(variant, overlap, system_key, new)
        return SegmentPlan(chunk, "reused", variant, NO_ROWS, overlap, why), looked_at

    def _usable(self, segment: Segment, way: Mode) -> list[VariantMeta]:
        # What a store says of itself is not trusted: rows must match, and repaired KV is never taken over.
        found = self._store.variants(segment.key)
        watched = self._observed_only or way.lookup == "any"
        return [
            one
            for one in found
            if one.exact and one.num_tokens == segment.num_tokens == len(one.tau) and (one.observed or not watched)
        ]

    def _repaired(self, plan: Plan, way: Mode, recompute: float | None) -> Plan:
        numbers = [n for n, part in enumerate(plan.segments) if part.decision == "reused"]
        split = self._guided_split if way.choice == "guided" else way.split
        budgets = dict(zip(numbers, self._budgets(plan, numbers, split, recompute), strict=True))
        parts = list(plan.segments)
        for number, budget in budgets.items():
            parts[number] = self._open_or_chosen(parts[number], way, budget)
        is_open = any(part.by_probe and part.budget for part in parts)
        kind = (way.probe or "deviation") if is_open else ""
        plan = replace(plan, segments=tuple(parts), probe=kind)
        return self._at_random(plan, numbers, sum(budgets.values())) if way.choice == "random" else plan

    def _budgets(self, plan: Plan, numbers: Sequence[int], split: Split, recompute: float | None) -> list[int]:
        """Rows to repair of each reused segment."""
        parts = [plan.segments[n] for n in numbers]
        sizes = [part.segment.num_tokens for part in parts]
        fits = [part.overlap for part in parts if part.overlap is not None]
        rows = [num_of(fit.cfo, size) for fit, size in zip(fits, sizes, strict=True)]
        weights = [fit.cci * (1 - fit.beta_prime) * size for fit, size in zip(fits, sizes, strict=True)]
        if split == "even":
            weights = [float(size) for size in sizes]
        if recompute is None:
            return rows if split != "even" else shared_budget(sum(rows), weights, sizes)
        return shared_budget(num_of(recompute, sum(sizes)), weights, sizes)

    def _open_or_chosen(self, part: SegmentPlan, way: Mode, budget: int) -> SegmentPlan:
        rows, variant = part.all_rows, part.variant
        if way.choice == "first":
            return repaired(part, rows[:budget])
        if way.choice == "received" and variant is not None and self._received is not None:
            received = self._received(variant.variant_id)
            if received is not None and len(received) == len(rows):
                return repaired(part, top_rows(rows, received, budget))
        if way.choice in ("tau", "received") and variant is not None and variant.tau.any():
            note = "" if way.choice == "tau" else "; what its rows received is not known, so they are ranked by tau"
            part = replace(part, reason=part.reason + note)
            return repaired(part, top_rows(rows, variant.tau, budget))
        # Its tau is all zero, because it was computed with nothing before it: rows are told apart by a probe.
        return replace(part, budget=budget, by_probe=True) if way.choice != "random" else part

    def _at_random(self, plan: Plan, numbers: Sequence[int], budget: int) -> Plan:
        rows = np.concatenate([NO_ROWS, *(plan.segments[n].all_rows for n in numbers)])
        keys = "/".join(segment.key for segment in plan.prompt.segments)
        drawn = random_rows(rows, budget, zlib.crc32(f"{self._seed}/{keys}".encode()))
        parts = list(plan.segments)
        for number in numbers:
            parts[number] = repaired(parts[number], _within(drawn, parts[number].segment))
        return replace(plan, segments=tuple(parts))

    def _reordered(self, prompt: Prompt, way: Mode) -> Prompt:
        """The prompt with its chunks in an order of which the longest prefix in tokens is stored."""
        chunks = [chunk for chunk in prompt.chunks if chunk.num_tokens]
        best: tuple[int, list[Segment]] = (0, [])
        left = _MAX_ORDERS
        stack: list[list[Segment]] = [[]]
        while stack and left:
            order = stack.pop()
            left -= 1
            size = sum(chunk.num_tokens for chunk in order)
            if size > best[0]:
                best = (size, order)
            before = tuple(chunk.key for chunk in order)
            nexts = {chunk.key: chunk for chunk in reversed(chunks) if chunk.key not in before}
            stack += [[*order, one] for one in nexts.values() if self._has(one, prompt.system.key, before, way)]
        taken = {id(chunk) for chunk in best[1]}
        return in_order(prompt, [*best[1], *(chunk for chunk in prompt.chunks if id(chunk) not in taken)])

    def _has(self, chunk: Segment, system_key: str, prefix: tuple[str, ...], way: Mode) -> bool:
        return any(one.system_key == system_key and one.prefix_keys == prefix for one in self._usable(chunk, way))


def _rank(one: tuple[VariantMeta, Overlap], system_key: str) -> tuple[float, bool, float, str]:
    """The least fix overhead; of equal ones the same system segment, then the better fit with new neighbours."""
    variant, overlap = one
    return overlap.cfo, variant.system_key != system_key, -overlap.symmetric, variant.variant_id


def _why(variant: VariantMeta, overlap: Overlap, system_key: str, new: dict[str, int]) -> str:
    """What a variant stood behind, and what of that is otherwise now: all that its fit depends on."""
    old = set(variant.prefix_keys)
    num_common = len(old & set(new))
    num_new = len(new) - num_common
    text = "stored under another system text" if variant.system_key != system_key else "stored"
    text += f" behind {_counted(len(old))}" if old else " with no chunk before it"
    if len(old) == 1:
        text += f", which {'is' if num_common else 'is not'} before it now"
    elif old:
        text += f", {num_common or 'none'} of which {'is' if num_common < 2 else 'are'} before it now"
    if overlap.gamma:
        text += " in another order"
    if num_new:
        text += f"; {_counted(num_new)} before it now {'is' if num_new == 1 else 'are'} new to it"
    return f"{text}; fit {overlap.beta_prime:.2f}, fix overhead {overlap.cfo:.2f}"


def _counted(num_chunks: int) -> str:
    return "1 chunk" if num_chunks == 1 else f"{num_chunks} chunks"


def _within(rows: Rows, segment: Segment) -> Rows:
    first, last = np.searchsorted(rows, (segment.start, segment.stop))
    return rows[first:last]
