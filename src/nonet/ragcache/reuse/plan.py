"""A request's plan: for each segment what is taken over and which rows are computed, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.ragcache.reuse.metrics import Overlap
from nonet.ragcache.reuse.prompt import Prompt, Segment
from nonet.ragcache.store.variant import VariantMeta

Decision = Literal["prefix", "reused", "repaired", "computed"]
ProbeKind = Literal["", "question", "deviation"]
Rows = NDArray[np.int64]
NO_ROWS: Rows = np.empty(0, np.int64)


@dataclass(frozen=True)
class SegmentPlan:
    """What is done for one segment.

    Args:
        segment: which.
        decision: "prefix" (exact), "reused" (as stored), "repaired" (some rows computed anew) or "computed".
        variant: what is taken over, None for nothing.
        rows: rows of the segment that are computed, absolute, rising.
        overlap: measures of the variant.
        reason: one plain sentence.
        budget: rows that are still to be chosen; 0 when they are chosen already.
        by_probe: whether its rows are chosen after a probe; stays True when they are.
    """

    segment: Segment
    decision: Decision
    variant: VariantMeta | None
    rows: Rows
    overlap: Overlap | None
    reason: str
    budget: int = 0
    by_probe: bool = False

    @property
    def all_rows(self) -> Rows:
        """Every row of the segment."""
        return np.arange(self.segment.start, self.segment.stop)

    @property
    def is_taken_over(self) -> bool:
        """Whether stored KV is used that was computed in another company."""
        return self.decision in ("reused", "repaired")

    @property
    def may_carry(self) -> bool:
        """Whether rows of it can follow others: one row that is computed anew says nothing about the rest."""
        return self.is_taken_over and 1 < len(self.rows) < self.segment.num_tokens


@dataclass(frozen=True)
class Plan:
    """What is done for a request.

    Args:
        prompt: as it is served; mode "set" changes the order of its chunks.
        mode: name of the way.
        segments: one entry a segment.
        probe: what shows which rows to choose: "question" (the question's rows run over the reused KV first),
            "deviation" (all rows in question run through the first layers), or "" when all are chosen.
        considered: by chunk id, the variants that were looked at, each with its overlap.
        damage_bound: what `Guard` says of this plan; None without one.
        abstained: whether `Guard` had everything but exact prefixes computed.
        carries: whether the rows of a chunk that are not repaired follow the mean change of those that are.

    >>> from nonet.ragcache import ChunkStore, Engine, toy_model
    >>> engine = Engine(toy_model(), ChunkStore.from_spec("ram:10MB"))
    >>> plan = engine.planner.plan(engine.prompt("", ["a new chunk"], "a question?"))
    >>> len(plan.active_rows) == len(plan.prompt.ids), [part.decision for part in plan.segments]
    (True, ['computed', 'computed', 'computed'])
    >>> engine.stop(0)
    """

    prompt: Prompt
    mode: str
    segments: tuple[SegmentPlan, ...]
    probe: ProbeKind = ""
    considered: tuple[tuple[str, tuple[tuple[VariantMeta, Overlap], ...]], ...] = ()
    damage_bound: float | None = None
    abstained: bool = False
    carries: bool = False

    @cached_property
    def active_rows(self) -> Rows:
        """int64, rising: rows that are computed in all layers, as far as they are chosen."""
        return np.concatenate([part.rows for part in self.segments])

    @cached_property
    def candidates(self) -> Rows:
        """int64, rising: the rows among which a probe chooses, or has chosen.

        A chunk whose own budget is 0 may take part: with a choice over the whole request, that of another goes to it.
        """
        return np.concatenate([NO_ROWS, *(part.all_rows for part in self.segments if part.by_probe)])

    @property
    def budget(self) -> int:
        """How many of `candidates` are still to be chosen."""
        return sum(part.budget for part in self.segments)

    @property
    def prefix_tokens(self) -> int:
        """Tokens taken over exactly."""
        return self._num_tokens("prefix")

    @property
    def repaired_tokens(self) -> int:
        """Rows of reused chunks that are computed anew."""
        return sum(len(part.rows) for part in self.segments if part.is_taken_over)

    @property
    def reused_tokens(self) -> int:
        """Rows that are taken over though their neighbours are others."""
        return self._num_tokens("reused", "repaired") - self.repaired_tokens

    @property
    def computed_tokens(self) -> int:
        """Rows of everything else."""
        return self._num_tokens("computed")

    def with_chosen(self, rows: Rows) -> Plan:
        """The plan with the rows chosen that were left to a probe.

        Args:
            rows: some of `candidates`, each once.

        Raises:
            InputError: a row that is no candidate, or one twice.
        """
        wanted = np.sort(rows)
        if len(np.intersect1d(wanted, self.candidates)) != len(wanted):
            raise InputError("rows were chosen twice, or rows that are no candidates of the plan")
        then = "; the others follow their mean change" if self.carries else ""
        parts = [_chosen(part, wanted, then) if part.by_probe else part for part in self.segments]
        return replace(self, segments=tuple(parts), probe="")

    def without_variant(self, number: int, reason: str) -> Plan:
        """The plan with one segment computed, because its variant cannot be read.

        What was an exact prefix behind it stays one: the segment is computed exactly where it was read before.

        Args:
            number: of the segment.
            reason: what happened.
        """
        part = computed(self.segments[number].segment, reason)
        plan = replace(self, segments=(*self.segments[:number], part, *self.segments[number + 1 :]))
        return plan if plan.budget else replace(plan, probe="")

    def all_computed(self, reason: str) -> Plan:
        """The plan that takes over exact prefixes only.

        Args:
            reason: why nothing else is.
        """
        parts = tuple(computed(part.segment, reason) if part.is_taken_over else part for part in self.segments)
        return replace(self, segments=parts, probe="")

    def _num_tokens(self, *decisions: Decision) -> int:
        return sum(part.segment.num_tokens for part in self.segments if part.decision in decisions)


def computed(segment: Segment, reason: str) -> SegmentPlan:
    """A segment of which nothing is taken over."""
    return SegmentPlan(segment, "computed", None, np.arange(segment.start, segment.stop), None, reason)


def _chosen(part: SegmentPlan, wanted: Rows, then: str) -> SegmentPlan:
    first, last = np.searchsorted(wanted, (part.segment.start, part.segment.stop))
    done = repaired(part, wanted[first:last])
    return replace(done, reason=done.reason + then) if done.may_carry else done


def repaired(part: SegmentPlan, rows: Rows) -> SegmentPlan:
    """A reused segment with the rows that are computed anew.

    Args:
        part: reused.
        rows: absolute, rising; may be none.
    """
    decision: Decision = "repaired" if len(rows) else "reused"
    reason = f"{part.reason}; {len(rows)} of {part.segment.num_tokens} rows computed anew"
    return replace(part, rows=rows, decision=decision, reason=reason, budget=0)
