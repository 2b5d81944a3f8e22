"""A published request trace, its gaps and lengths, in the default mode beside prefix mode.

Chunks are this bench's own, since traces hold no texts (ShareGPT does, and is asked as it stands). The gaps are the
trace's, stretched so that requests come at a share of prefix mode's capacity on average, and bursts stay bursts. Whole
chunks fill a prompt as far as they can; the finding says how long prompts are, and how long the trace wants them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch

from nonet.common.console import note
from nonet.common.errors import InputError
from nonet.common.findings import Finding, Rival
from nonet.ragcache.bench.arrivals import Arrival, arrivals_of, poisson_times
from nonet.ragcache.bench.load import LOAD_SHARE
from nonet.ragcache.bench.questions import SYSTEM
from nonet.ragcache.bench.replay import LoadReport, TimedRequest, median_report, sized_requests
from nonet.ragcache.bench.under_load import PREFIX, ModeUnderLoad
from nonet.ragcache.models.loading import LoadedModel
from nonet.ragcache.reuse.modes import DEFAULT_MODE
from nonet.ragcache.reuse.prompt import Prompt
from nonet.ragcache.scheduling.engine import Engine

_FILLED = 0.9
"""Share of the trace's prompt tokens below which more chunks are asked for."""


def trace_load_findings(
    model: LoadedModel,
    path: Path,
    texts: Mapping[str, str],
    *,
    num_warming: int,
    num_requests: int,
    rounds: int = 1,
    max_input_tokens: int = 1500,
    max_output_tokens: int = 32,
    mode: str = DEFAULT_MODE,
    store: str = "ram:5GB",
) -> list[Finding]:
    """`trace_latency_vs_prefix`: prefix mode's mean latency over the mode's; the notes tell the rest of both.

    Args:
        model: loaded.
        path: of the trace, as `arrivals_of` reads it; its first requests are taken.
        texts: chunks by id, of which prompts are made; longer ones are left out of them.
        num_warming: requests that fill each mode's store first.
        num_requests: requests after those, which are measured.
        rounds: runs of each mode, by turns; medians are reported.
        max_input_tokens: longer prompts are made this long, or as long as the model's context lets them be.
        max_output_tokens: likewise of answers.
        mode: that is compared with prefix mode.
        store: spec of the stores, one for each mode and as much again for each run.

    Raises:
        InputError: the trace cannot be read, or has too few requests.
    """
    arrivals = _arrivals(model, path, num_warming + num_requests)
    asked = arrivals[num_warming:]
    longest = min(max_input_tokens, model.config.max_context - max_output_tokens - 1)

    def workload(engine: Engine) -> tuple[list[Prompt], list[TimedRequest]]:
        requests = sized_requests(
            engine,
            arrivals,
            texts,
            system=SYSTEM,
            max_input_tokens=longest,
            max_output_tokens=max_output_tokens,
        )
        return [one.prompt for one in requests[:num_warming]], requests[num_warming:]

    length = longest + max_output_tokens + 1
    benches = {one: ModeUnderLoad(model, one, workload, store=store, max_model_len=length) for one in (PREFIX, mode)}
    try:
        capacity = benches[PREFIX].run([0.0] * num_requests).request_throughput
        times = at_rate([one.arrival_s for one in asked], LOAD_SHARE * capacity)
        reports = by_turns(benches, times, rounds)
    finally:
        for bench in benches.values():
            bench.close()
    described = (
        f"{path.name}: its gaps, {num_requests} requests after {num_warming}, {rounds} rounds, "
        f"{_lengths(asked, reports[PREFIX][0], longest)}, answers of at most {max_output_tokens}, at "
        f"{LOAD_SHARE:.0%} of prefix mode's capacity, {torch.get_num_threads()} threads"
    )
    return [latency_finding(reports[PREFIX], reports[mode], mode, described)]


class Runnable(Protocol):
    """What a mode is measured with; a `ModeUnderLoad` is one."""

    def run(self, times: Sequence[float]) -> LoadReport:
        """As `ModeUnderLoad.run`."""
        ...


def by_turns(benches: Mapping[str, Runnable], times: Sequence[float], rounds: int) -> dict[str, list[LoadReport]]:
    """Runs of all modes, by mode; every other round goes in reverse, so that a busy hour slows no mode alone.

    Args:
        benches: by mode.
        times: of the requests.
        rounds: runs of each.
    """
    reports: dict[str, list[LoadReport]] = {mode: [] for mode in benches}
    order = list(benches)
    for _ in range(rounds):
        for mode in order:
            reports[mode].append(benches[mode].run(times))
        order.reverse()
    return reports


def latency_finding(prefix: Sequence[LoadReport], ours: Sequence[LoadReport], mode: str, described: str) -> Finding:
    """`trace_latency_vs_prefix` of some rounds.

    Args:
        prefix: prefix mode's reports, one a round.
        ours: the mode's.
        mode: that is compared.
        described: the input.
    """
    theirs, mine = median_report(prefix), median_report(ours)
    by_round = ", ".join(f"{p.mean_e2el_ms / o.mean_e2el_ms:.2f}x" for p, o in zip(prefix, ours, strict=True))
    return Finding(
        "ragcache",
        "trace_latency_vs_prefix",
        theirs.mean_e2el_ms / mine.mean_e2el_ms,
        "x",
        "higher",
        described,
        (Rival("prefix mode, mean latency", theirs.mean_e2el_ms, "measured", unit="ms"),),
        note=f"medians; by round {by_round}; {mode}: {_told(mine)}; prefix mode: {_told(theirs)}",
    )


def at_rate(times: Sequence[float], rate_per_s: float) -> list[float]:
    """Times with the gaps of others, the first at 0, at another mean rate; Poisson times where all are the same.

    Args:
        times: seconds, rising.
        rate_per_s: requests a second.

    >>> at_rate([5.0, 6.0, 9.0], 0.5)
    [0.0, 1.0, 4.0]
    """
    span = times[-1] - times[0]
    if span <= 0:
        note(f"bench: the {len(times)} requests have no times of their own; they come by chance")
        return poisson_times(len(times), rate_per_s)
    factor = (len(times) - 1) / rate_per_s / span
    return [factor * (one - times[0]) for one in times]


def _arrivals(model: LoadedModel, path: Path, number: int) -> list[Arrival]:
    def count(text: str) -> int:
        return len(model.tokenizer.encode(text))

    arrivals = arrivals_of(path, limit=number, count_tokens=count)
    if len(arrivals) < number:
        raise InputError(f"{path}: holds {len(arrivals)} requests with an answer, and {number} are needed")
    return arrivals


def _lengths(asked: Sequence[Arrival], report: LoadReport, longest: int) -> str:
    """How long prompts were on average, beside the trace's; a note where the chunks could not fill them."""
    made = report.total_input_tokens / report.completed
    wanted = sum(min(one.input_tokens, longest) for one in asked) / len(asked)
    if made < _FILLED * wanted:
        note(
            f"bench: the chunks make prompts of {made:.0f} tokens on average, where the trace has {wanted:.0f}: more "
            "or shorter chunks (--questions with --chunks) fill them"
        )
    return f"prompts of {made:.0f} tokens on average (the trace, cut at {longest}: {wanted:.0f})"


def _told(report: LoadReport) -> str:
    return (
        f"mean {report.mean_e2el_ms:.0f} ms, p95 {report.p95_e2el_ms:.0f} ms, first token {report.median_ttft_ms:.0f} "
        f"(median) and {report.p95_ttft_ms:.0f} ms (p95), {report.total_token_throughput:.0f} tokens/s"
    )
