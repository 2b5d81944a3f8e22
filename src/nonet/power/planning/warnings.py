"""What to doubt in a plan, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from nonet.power.load.rises import TRAINING_RISE_2S
from nonet.power.planning.outcome import Outcome
from nonet.power.simulating.row import Row

_FEW_DAYS, _FEW_SEEDS, _LARGE_ROW = 7.0, 3, 20


def warnings_of(
    row: Row, outcomes: Sequence[Outcome], added: int, thresholds: Mapping[str, float], seeds: Sequence[int]
) -> tuple[str, ...]:
    """The warnings of a plan.

    Args:
        row: without added servers.
        outcomes: all runs.
        added: the answer.
        thresholds: of the policy asked for.
        seeds: of the traffic.
    """
    at_answer = [outcome for outcome in outcomes if outcome.added == added] or list(outcomes)
    return (*_of_row(row, at_answer), *_of_traffic(row, at_answer, thresholds, seeds), *_guesses(at_answer))


def _of_row(row: Row, outcomes: Sequence[Outcome]) -> Iterator[str]:
    if row.num_low == 0 and not row.shared:
        yield (
            "All servers are of high priority: POLCA has nobody to cap first and degenerates to capping everyone above"
            " T2; give some servers low priority."
        )
    rise_2s = _most(outcome.rise_2s for outcome in outcomes)
    if rise_2s > TRAINING_RISE_2S and row.num_servers >= _LARGE_ROW:
        yield (
            f"Power rises by {rise_2s:.0%} of the budget within 2 s, as in rows that train; such a row is not for"
            " oversubscription."
        )


def _of_traffic(
    row: Row, outcomes: Sequence[Outcome], thresholds: Mapping[str, float], seeds: Sequence[int]
) -> Iterator[str]:
    rise_cap, t2 = _most(outcome.rise_cap for outcome in outcomes), thresholds.get("t2")
    cap_s = row.cap_latency.most_s
    if t2 is not None and t2 + rise_cap > 1.0:
        yield (
            f"T2 {t2:.2f} and the largest rise until a cap lands ({rise_cap:.1%} of the budget within {cap_s:g} s,"
            f" without a policy) are more than the budget together; T2 = {max(0.0, 1 - rise_cap):.2f} would be safe."
        )
    days = min(outcome.days for outcome in outcomes)
    if days < _FEW_DAYS - 0.1:
        yield f"Only {days:.1f} days of traffic a seed: a week or more shows the peaks and rises that are rare."
    if len(seeds) < _FEW_SEEDS:
        yield f"Only {len(seeds)} seed{'s' * (len(seeds) > 1)}: the interval over traffic is wide or missing."


def _guesses(outcomes: Sequence[Outcome]) -> Iterator[str]:
    worst = {name: _most(o.extrapolated[name] for o in outcomes) for name in ("prompts", "batch_share", "level_share")}
    if worst["prompts"] > 0:
        requests = max(outcome.requests for outcome in outcomes)
        yield (
            f"Extrapolated: {worst['prompts']:,.0f} of {requests:,} prompts lie outside the range that the profile was"
            " measured in."
        )
    if worst["batch_share"] > 0:
        yield f"Extrapolated: {worst['batch_share']:.1%} of the decoding time is at batches that were not measured."
    if worst["level_share"] > 0:
        yield (
            f"Extrapolated: {worst['level_share']:.2%} of the server time is at clocks below those that the profile was"
            " fitted on (the brake)."
        )


def _most(values: Iterable[float]) -> float:
    return max((value for value in values if not math.isnan(value)), default=0.0)
