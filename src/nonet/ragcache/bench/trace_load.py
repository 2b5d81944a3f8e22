"""A published request trace, its gaps and lengths, in the default mode beside prefix mode.

Chunks are this bench's own, since traces hold no texts (ShareGPT does, and is asked as it stands). The gaps are the
trace's, stretched so that requests come at a share of prefix mode's capacity on average, and bursts stay bursts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from nonet.common.console import note
from nonet.common.errors import InputError
from nonet.common.findings import Finding, Rival
from nonet.ragcache.bench.arrivals import Arrival, arrivals_of, poisson_times
from nonet.ragcache.bench.load import LOAD_SHARE
from nonet.ragcache.bench.questions import SYSTEM
from nonet.ragcache.bench.replay import LoadReport, TimedRequest, sized_requests
from nonet.ragcache.bench.under_load import PREFIX, ModeUnderLoad
from nonet.ragcache.models.loading import LoadedModel
from nonet.ragcache.reuse.modes import DEFAULT_MODE
from nonet.ragcache.reuse.prompt import Prompt
from nonet.ragcache.scheduling.engine import Engine


def trace_load_findings(
    model: LoadedModel,
    path: Path,
    texts: Mapping[str, str],
    *,
    num_warming: int,
    num_requests: int,
    max_input_tokens: int = 1500,
    max_output_tokens: int = 32,
    mode: str = DEFAULT_MODE,
    store: str = "ram:5GB",
) -> list[Finding]:
    """`trace_latency_vs_prefix`: prefix mode's mean latency over the mode's; the notes tell the rest of both runs.

    Args:
        model: loaded.
        path: of the trace, as `arrivals_of` reads it; its first requests are taken.
        texts: chunks by id, of which prompts are made; longer ones are left out of them.
        num_warming: requests that fill each mode's store first.
        num_requests: requests after those, which are measured.
        max_input_tokens: longer prompts are made this long.
        max_output_tokens: likewise of answers.
        mode: that is compared with prefix mode.
        store: spec of the stores, one for each mode and as much again for each run.

    Raises:
        InputError: the trace cannot be read, or has too few requests.
    """
    arrivals = _arrivals(model, path, num_warming + num_requests)
    asked = arrivals[num_warming:]

    def workload(engine: Engine) -> tuple[list[Prompt], list[TimedRequest]]:
        requests = sized_requests(
            engine,
            arrivals,
            texts,
            system=SYSTEM,
            max_input_tokens=max_input_tokens,
            max_output_tokens=max_output_tokens,
        )
        return [one.prompt for one in requests[:num_warming]], requests[num_warming:]

    length = min(max_input_tokens + max_output_tokens + 1, model.config.max_context)
    benches = {one: ModeUnderLoad(model, one, workload, store=store, max_model_len=length) for one in (PREFIX, mode)}
    try:
        capacity = benches[PREFIX].run([0.0] * num_requests).request_throughput
        times = at_rate([one.arrival_s for one in asked], LOAD_SHARE * capacity)
        theirs, ours = (benches[one].run(times) for one in (PREFIX, mode))
    finally:
        for bench in benches.values():
            bench.close()
    return [
        Finding(
            "ragcache",
            "trace_latency_vs_prefix",
            theirs.mean_e2el_ms / ours.mean_e2el_ms,
            "x",
            "higher",
            f"{path.name}: its gaps and lengths, {num_requests} requests after {num_warming}, prompts of at most "
            f"{max_input_tokens} tokens and answers of {max_output_tokens}, at {LOAD_SHARE:.0%} of prefix mode's "
            f"capacity, {torch.get_num_threads()} threads",
            (Rival("prefix mode, mean latency", theirs.mean_e2el_ms, "measured", unit="ms"),),
            note=f"{mode}: {_told(ours)}; prefix mode: {_told(theirs)}",
        )
    ]


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


def _told(report: LoadReport) -> str:
    return (
        f"mean {report.mean_e2el_ms:.0f} ms, p95 {report.p95_e2el_ms:.0f} ms, first token {report.median_ttft_ms:.0f} "
        f"(median) and {report.p95_ttft_ms:.0f} ms (p95), {report.total_token_throughput:.0f} tokens/s"
    )
