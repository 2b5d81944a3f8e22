"""Abstaining: a request whose reuse might do too much damage is computed in full.

What damage is, is the caller's choice; the server's shadow check measures KL from the full recomputation. A plan's
*exposure* is what can be told of it beforehand: the share of the context that is taken over from other company and not
computed anew, each row weighted by how much its chunk listens to neighbours (CCI) and how badly they fit (1 - beta',
new neighbours counted). `calibrated_guard` measures on past requests by what factor damage may exceed exposure.

What the bound means: among requests like those it was calibrated on (exchangeable with them: same model, mode, settings
and kind of question), the damage of a plan exceeds its bound at most in a share `miss` of all cases (split conformal
prediction; no other assumption). Since nothing with a bound above the limit is reused, at most that share of all
requests is reused *and* damaged beyond the limit. It does not say so of any one request, nor of the reused ones alone,
and it holds no longer when the questions change: then calibrate again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nonet.common.errors import InputError
from nonet.ragcache.reuse.plan import Plan

# Added to every exposure: damage is not quite 0 where exposure is (new neighbours without common ones, rounding).
EXPOSURE_FLOOR = 0.01
# A KL of 0 comes out a little below it.
_ROUNDING = 1e-6
MISS = 0.1
"""Share of requests whose damage may exceed its bound, unless another is asked for."""


def exposure(plan: Plan) -> float:
    """Share of the rows before the question that are stale, weighted by CCI * (1 - beta'), new neighbours counted.

    Args:
        plan: chosen or before its probe; rows that are still to be chosen are taken to be shared by budget.

    Returns:
        Within 0 and 1.

    >>> from nonet.ragcache import ChunkStore, Engine, toy_model
    >>> engine = Engine(toy_model(), ChunkStore.from_spec("ram:10MB"))
    >>> exposure(engine.planner.plan(engine.prompt("", ["a new chunk"], "a question?")))
    0.0
    >>> engine.stop(0)
    """
    rows = plan.prompt.question.start
    stale = sum(
        (part.segment.num_tokens - len(part.rows) - part.budget) * part.overlap.cci * (1 - part.overlap.symmetric)
        for part in plan.segments
        if part.is_taken_over and part.overlap is not None
    )
    return stale / rows if rows else 0.0


@dataclass(frozen=True, slots=True)
class Guard:
    """Decides whether a plan may reuse.

    Args:
        limit: damage that is accepted, in the unit of the calibration.
        factor: damage for each unit of exposure; `calibrated_guard` finds it.
        miss: share of requests whose damage may exceed its bound.
        num_calibrated: requests behind the factor.
        fingerprint: of the model that the factor was measured on (`LoadedModel.fingerprint`); "" for any.

    Raises:
        InputError: a value outside its range.

    >>> from nonet.ragcache import ChunkStore, Engine, EngineConfig, toy_model
    >>> config = EngineConfig(guard=Guard(limit=0.1, factor=0.5))
    >>> engine = Engine(toy_model(), ChunkStore.from_spec("ram:10MB"), config)
    >>> engine.planner.plan(engine.prompt("", ["a chunk"], "a question?")).damage_bound
    0.0
    >>> engine.stop(0)
    """

    limit: float
    factor: float
    miss: float = MISS
    num_calibrated: int = 0
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if not (self.limit >= 0 and 0 <= self.factor < math.inf):
            text = f"limit {self.limit:g} must be 0 or more, and factor {self.factor:g} 0 or more and finite"
            raise InputError(f"guard: {text}")
        if not (0 < self.miss < 1 and self.num_calibrated >= 0):
            text = f"miss {self.miss:g} must be above 0 and below 1, and {self.num_calibrated} requests 0 or more"
            raise InputError(f"guard: {text}")

    def check_model(self, fingerprint: str) -> None:
        """Refuse a model on which nothing was measured.

        Args:
            fingerprint: of the model.

        Raises:
            InputError: the guard is another model's.
        """
        if self.fingerprint not in ("", fingerprint):
            raise InputError("guard: measured on another model; serve that one, or calibrate this one with --guard")

    def bound(self, plan: Plan) -> float:
        """Damage that a share `miss` of requests exceeds; 0 for a plan that takes over exact prefixes only."""
        if not any(part.is_taken_over for part in plan.segments):
            return 0.0
        return self.bound_at(exposure(plan))

    def bound_at(self, exposed: float) -> float:
        """Damage that a share `miss` of requests with this `exposure` exceeds, where anything is taken over."""
        return self.factor * (exposed + EXPOSURE_FLOOR)

    def checked(self, plan: Plan) -> Plan:
        """The plan with its bound; where that exceeds the limit, one that computes all but exact prefixes."""
        bound = self.bound(plan)
        if bound > self.limit:
            why = f"abstained: reuse might cost {bound:.3g}, more than the limit {self.limit:g}"
            plan = plan.all_computed(why)
        return replace(plan, damage_bound=bound, abstained=bound > self.limit)


def check_number(num_requests: int, miss: float = MISS) -> None:
    """Refuse to measure a guard on too few requests.

    Args:
        num_requests: that are to be measured.
        miss: share of requests whose damage may exceed its bound.

    Raises:
        InputError: no factor can keep that promise from so few.
    """
    if math.ceil((num_requests + 1) * (1 - miss) - 1e-9) > num_requests:
        needed = math.ceil(1 / miss) - 1
        raise InputError(f"guard: a miss of {miss:g} needs at least {needed} requests, not {num_requests}")


def calibrated_guard(
    exposures: Sequence[float], damages: Sequence[float], *, limit: float, miss: float = MISS, fingerprint: str = ""
) -> Guard:
    """A guard from measured requests that were served without one.

    The factor is the conformal quantile of damage / (exposure + EXPOSURE_FLOOR): the smallest value that at least
    (n + 1)(1 - miss) of the n requests do not exceed.

    Args:
        exposures: of the plans, by `exposure`.
        damages: measured afterwards.
        limit: damage that is accepted.
        miss: share of requests whose damage may exceed its bound.
        fingerprint: of the model; "" does not tell.

    Raises:
        InputError: too few requests for this share, or values that are negative or no numbers.

    >>> calibrated_guard([0.1] * 9, [0.01 * n for n in range(9)], limit=0.05).factor.__round__(3)
    0.727
    """
    x, y = np.asarray(exposures, np.float64), np.asarray(damages, np.float64)
    if x.shape != y.shape or x.ndim != 1 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("guard: needs one exposure and one damage a request, all of them finite")
    if (x < 0).any() or (y < -_ROUNDING).any() or not 0 < miss < 1:
        raise InputError("guard: exposures and damages must not be negative, miss within 0 and 1")
    check_number(len(x), miss)
    rank = math.ceil((len(x) + 1) * (1 - miss) - 1e-9)
    scores = np.sort(np.maximum(y, 0.0) / (x + EXPOSURE_FLOOR))
    return Guard(limit, float(scores[rank - 1]), miss, len(x), fingerprint)
