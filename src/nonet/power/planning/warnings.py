"""What to doubt in a plan, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from nonet.power.load.rises import TRAINING_RISE_2S
from nonet.power.planning.outcome import MakeLoad, Outcome
from nonet.power.planning.traffic import RecordedTraffic
from nonet.power.policies.guards import row_warnings
from nonet.power.simulating.row import Row

_FEW_DAYS, _FEW_SEEDS, _LARGE_ROW = 7.0, 3, 20


def warnings_of(
    row: Row,
    make_load: MakeLoad,
    outcomes: Sequence[Outcome],
    added: int,
    thresholds: Mapping[str, float],
    seeds: Sequence[int],
) -> tuple[str, ...]:
    """The warnings of a plan.

    Args:
        row: without added servers.
        make_load: its traffic.
        outcomes: all runs.
        added: the answer.
        thresholds: of the policy asked for.
        seeds: of the traffic.
    """
    at_answer = [outcome for outcome in outcomes if outcome.added == added] or list(outcomes)
    of_traffic = _of_traffic(make_load, at_answer, seeds)
    return (*_of_row(row, at_answer), *_of_thresholds(row, at_answer, thresholds), *of_traffic, *_guesses(at_answer))


def _of_row(row: Row, outcomes: Sequence[Outcome]) -> Iterator[str]:
    rise_2s = _most(outcome.rise_2s for outcome in outcomes)
    if rise_2s > TRAINING_RISE_2S and row.num_servers >= _LARGE_ROW:
        yield (
            f"Power rises by {rise_2s:.0%} of the budget within 2 s, as in rows that train; such a row is not for"
            " oversubscription."
        )


def _of_thresholds(row: Row, outcomes: Sequence[Outcome], thresholds: Mapping[str, float]) -> Iterator[str]:
    if {"t1", "t2"} <= set(thresholds):
        priorities = [] if row.shared else [server.priority for server in row.servers]
        rise_cap = _most(outcome.rise_cap for outcome in outcomes)
        cap_s = row.cap_latency.most_s
        for text in row_warnings(priorities, thresholds["t1"], thresholds["t2"], rise_cap, cap_s):
            yield f"{text[0].upper()}{text[1:]}."


def _of_traffic(make_load: MakeLoad, outcomes: Sequence[Outcome], seeds: Sequence[int]) -> Iterator[str]:
    days = min(outcome.days for outcome in outcomes)
    if days < _FEW_DAYS - 0.1:
        length = f"{days:.1f} days" if days >= 0.95 else f"{days * 24:.1f} hours"
        yield f"Only {length} of traffic a seed: a week or more shows the peaks and rises that are rare."
    if len(seeds) < _FEW_SEEDS:
        yield f"Only {len(seeds)} seed{'s' * (len(seeds) > 1)}: the interval over traffic is wide or missing."
    if isinstance(make_load, RecordedTraffic) and len(seeds) > 1:
        yield (
            "The requests are one recording: seeds only choose which of them added servers double, so the interval says"
            " nothing about other weeks."
        )


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
