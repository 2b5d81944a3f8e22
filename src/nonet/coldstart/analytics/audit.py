"""The claims audit: every claim computed from the data at hand, and every two claims of one thing held together.

A claim is *contradicted* when the computed number lies outside of what it allows; also, whatever the data say, when
another claim gives the same quantity a value that excludes its own: then at least one of the two is wrong, and the one
that the data support is only named beside the other. What the data do not hold *cannot be checked here*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nonet.coldstart.analytics.claims import Claim
from nonet.coldstart.analytics.quantities import QUANTITIES, FigureSource
from nonet.common.errors import InputError
from nonet.common.jsonable import dumps

Verdict = Literal["supported", "contradicted", "cannot be checked here"]
SUPPORTED: Literal["supported"] = "supported"
CONTRADICTED: Literal["contradicted"] = "contradicted"
UNCHECKED: Literal["cannot be checked here"] = "cannot be checked here"
_DAY_SLACK = 0.5
"""A trace ends with its last request, somewhat before the end of its last day."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A claim with its verdict.

    Attributes:
        claim: what was checked.
        verdict: what came out.
        computed: the number from the data; None when it cannot be computed.
        evidence: the numbers that led to it.
        reason: why it cannot be checked; or which claims exclude it.
        conflicts: ids of claims that state another value of the same quantity.
    """

    claim: Claim
    verdict: Verdict
    computed: float | None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    conflicts: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            **self.claim.model_dump(),
            "verdict": self.verdict,
            "computed": self.computed,
            "evidence": dict(self.evidence),
            "reason": self.reason,
            "conflicts": list(self.conflicts),
        }


def audit(claims: Sequence[Claim], source: FigureSource) -> list[Checked]:
    """Check claims against one source, in their order.

    Args:
        claims: of the paper (`paper_claims`) or a user's own (`read_claims`).
        source: `Published` for the published curves, or `Figures` of a trace.
    """
    return [_checked(claim, source, _conflicts(claim, claims)) for claim in claims]


def _checked(claim: Claim, source: FigureSource, conflicts: tuple[str, ...]) -> Checked:
    clash = f"claim {', '.join(conflicts)} gives the same quantity another value" if conflicts else ""
    try:
        _check_extent(claim, source)
        measured = QUANTITIES[claim.quantity](source, **claim.args)
    except InputError as error:
        if conflicts:
            return Checked(claim, CONTRADICTED, None, {}, f"{clash}; the data do not decide: {error}", conflicts)
        return Checked(claim, UNCHECKED, None, {}, str(error))
    verdict: Verdict = SUPPORTED if claim.allows(measured.value) else CONTRADICTED
    return Checked(claim, verdict, measured.value, measured.evidence, clash, conflicts)


def _check_extent(claim: Claim, source: FigureSource) -> None:
    """Raises InputError when the data are of fewer regions or days than the claim is about."""
    lacking = [region for region in claim.regions if region not in source.regions]
    if lacking:
        raise InputError(f"it is about {', '.join(claim.regions)} together; the data lack {', '.join(lacking)}")
    if source.num_days < claim.days - _DAY_SLACK:
        raise InputError(f"it is about {claim.days:g} days; the data have {source.num_days:.1f}")


def _conflicts(claim: Claim, claims: Sequence[Claim]) -> tuple[str, ...]:
    """The ids of the claims of the same quantity whose values exclude each other's stated value."""
    key = _key(claim)
    return tuple(other.id for other in claims if other.id != claim.id and _key(other) == key and _exclude(claim, other))


def _key(claim: Claim) -> str:
    return dumps([claim.quantity, dict(sorted(claim.args.items()))])


def _exclude(one: Claim, other: Claim) -> bool:
    # The slack says how exactly we can compute, not what was stated: two different numbers for one thing disagree.
    if one.relation == other.relation == "=":
        return one.value != other.value
    (low, high), (low_other, high_other) = one.bounds, other.bounds
    return high < low_other or high_other < low


def counts(results: Sequence[Checked]) -> dict[str, int]:
    """How many claims have each verdict."""
    found = dict.fromkeys((SUPPORTED, CONTRADICTED, UNCHECKED), 0)
    for result in results:
        found[result.verdict] += 1
    return found


def findings(results: Sequence[Checked]) -> list[Checked]:
    """The claims that something is wrong with: contradicted by the data, or in conflict with another claim."""
    return [result for result in results if result.verdict == CONTRADICTED or result.conflicts]
