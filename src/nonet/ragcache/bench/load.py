"""Requests that come by chance: what the default mode gains over prefix caching, in our own server.

Both modes get the same requests of one trace at the same Poisson times, each in an engine of its own whose store was
filled by earlier requests of the trace in the same mode, and goes on being filled. Prefix mode's engine does not
observe attention, which a prefix cache has no use for. The load is a share of what prefix mode can serve, which is
measured first with everything sent at once.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from nonet.common.console import note
from nonet.common.errors import InputError
from nonet.common.findings import Finding, Rival
from nonet.ragcache.bench.arrivals import poisson_times
from nonet.ragcache.bench.questions import SYSTEM, Case
from nonet.ragcache.bench.replay import LoadReport, TimedRequest, median_report
from nonet.ragcache.bench.under_load import PREFIX, ModeUnderLoad
from nonet.ragcache.models.loading import LoadedModel
from nonet.ragcache.reuse.modes import DEFAULT_MODE
from nonet.ragcache.reuse.prompt import Prompt
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.prompting import ChunkText

LOAD_SHARE = 0.8
THROUGHPUT_PROMISE, LATENCY_PROMISE = 1.5, 2.0


@dataclass(frozen=True, slots=True)
class LoadSize:
    """How much is measured.

    Args:
        num_warming: earlier requests of the trace that fill each mode's store.
        num_requests: that are measured in each run.
        max_tokens: of each answer, none ends earlier.
        factors: multiples of the base rate at which the default mode is tried for its throughput at equal p95, rising;
            trying ends at the first that is too much.
        rounds: times that all is measured, with other arrival times; medians are reported.
        num_chunks: confine the trace to questions over so few chunks, which then come back as often after few requests
            as all chunks do after many; None takes the whole trace.
        max_model_len: tokens of prompt and answer.
        store: spec of the stores, one for each mode and as much again for each run.

    Raises:
        InputError: numbers below 1, or factors that do not rise above 1.
    """

    num_warming: int = 100
    num_requests: int = 40
    max_tokens: int = 16
    factors: tuple[float, ...] = (1.5, 2.0, 3.0)
    rounds: int = 2
    num_chunks: int | None = None
    max_model_len: int = 2048
    store: str = "ram:5GB"

    def __post_init__(self) -> None:
        if min(self.num_warming, self.num_requests, self.max_tokens, self.rounds) < 1:
            raise InputError("a load needs warming, requests, tokens and rounds, at least 1 of each")
        if any(low >= high for low, high in pairwise((1.0, *self.factors))):
            raise InputError(f"factors of the rate must rise above 1, not {self.factors}")


FULL = LoadSize()


@dataclass(frozen=True, slots=True)
class LoadRun:
    """One run.

    Args:
        mode: of the requests.
        factor: of the base rate.
        report: what was counted.
    """

    mode: str
    factor: float
    report: LoadReport


def load_findings(
    model: LoadedModel,
    cases: Sequence[Case],
    texts: Mapping[str, str],
    size: LoadSize = FULL,
    *,
    mode: str = DEFAULT_MODE,
    seed: int = 0,
) -> tuple[list[Finding], list[LoadRun]]:
    """Throughput at equal p95 and mean latency of a mode, over prefix mode's.

    Args:
        model: loaded.
        cases: a trace, of which `size` takes the first ones of a shuffled order.
        texts: its chunks.
        size: how much.
        mode: that is compared with prefix mode.
        seed: of the order and of the arrival times.

    Returns:
        `throughput_vs_prefix` and `latency_vs_prefix`, of which the one that is nearer to its promise (or further
        beyond it) carries it, since one of both was promised; and all runs.

    Raises:
        InputError: the trace is too short.
    """
    order = list(cases) if size.num_chunks is None else confined(cases, size.num_chunks)
    if len(order) < size.num_warming + size.num_requests:
        raise InputError(f"{len(order)} requests are too few for {size.num_warming} + {size.num_requests}")
    random.Random(seed).shuffle(order)
    warming, asked = order[: size.num_warming], order[size.num_warming :][: size.num_requests]

    def workload(engine: Engine) -> tuple[list[Prompt], list[TimedRequest]]:
        first, then = ([_prompt(engine, case, texts) for case in cases] for cases in (warming, asked))
        return first, [TimedRequest(0.0, prompt, size.max_tokens) for prompt in then]

    benches = {
        one: ModeUnderLoad(model, one, workload, store=size.store, max_model_len=size.max_model_len)
        for one in (PREFIX, mode)
    }
    try:
        capacity = benches[PREFIX].run([0.0] * len(asked)).request_throughput
        base_per_s = LOAD_SHARE * capacity
        note(f"prefix mode serves {capacity:.3g} requests/s; the load is {base_per_s:.3g}/s")
        runs: list[LoadRun] = []
        for number in range(size.rounds):
            runs += _round(benches, mode, size, base_per_s, seed + number)
    finally:
        for bench in benches.values():
            bench.close()
    over = "" if size.num_chunks is None else f" over {size.num_chunks} chunks"
    described = (
        f"{len(asked)} requests{over} after {len(warming)}, {size.rounds} rounds, {size.max_tokens} tokens each, "
        f"{torch.get_num_threads()} threads"
    )
    return findings_of(runs, mode, described, base_per_s), runs


def findings_of(runs: Sequence[LoadRun], mode: str, described: str, base_per_s: float) -> list[Finding]:
    """Both findings of some runs.

    Args:
        runs: of prefix mode at factor 1 and of the mode at factor 1 and more.
        mode: that is compared.
        described: the input.
        base_per_s: requests a second at factor 1.
    """
    prefix = median_report([run.report for run in runs if run.mode == PREFIX])
    by_factor = {
        factor: median_report([run.report for run in runs if run.mode == mode and run.factor == factor])
        for factor in sorted({run.factor for run in runs if run.mode == mode})
    }
    latency = prefix.mean_e2el_ms / by_factor[1.0].mean_e2el_ms
    # A round ends at the first rate that is too much: a rate that not all rounds have reached is none that holds.
    rounds = sum(run.mode == PREFIX for run in runs)
    reached = Counter(run.factor for run in runs if run.mode == mode)
    within = [
        factor
        for factor, report in by_factor.items()
        if reached[factor] == rounds and report.p95_e2el_ms <= prefix.p95_e2el_ms
    ]
    best = by_factor[max(within)] if within else None
    throughput = best.request_throughput / prefix.request_throughput if best is not None else 0.0
    told = (
        f"{mode} at {base_per_s:.3g} requests/s: mean {by_factor[1.0].mean_e2el_ms:.0f} ms, p95 "
        f"{by_factor[1.0].p95_e2el_ms:.0f} ms; prefix mode {prefix.mean_e2el_ms:.0f} and {prefix.p95_e2el_ms:.0f} ms; "
        f"latency {latency:.2f}x lower, throughput at no higher p95 {throughput:.2f}x"
    )
    tried = ", ".join(f"{factor:g}x: {report.p95_e2el_ms:.0f} ms" for factor, report in by_factor.items())
    is_latency = latency / LATENCY_PROMISE > throughput / THROUGHPUT_PROMISE
    source = f"Poisson load at {LOAD_SHARE:.0%} of prefix mode's capacity, {described}"
    return [
        Finding(
            "ragcache",
            "throughput_vs_prefix",
            throughput,
            "x",
            "higher",
            source,
            (Rival("prefix mode", prefix.request_throughput, "measured", unit="requests/s"),),
            promise=None if is_latency else THROUGHPUT_PROMISE,
            note=f"{told}; p95 by rate {tried}",
        ),
        Finding(
            "ragcache",
            "latency_vs_prefix",
            latency,
            "x",
            "higher",
            source,
            (Rival("prefix mode, mean latency", prefix.mean_e2el_ms, "measured", unit="ms"),),
            promise=LATENCY_PROMISE if is_latency else None,
            note=told,
        ),
    ]


def confined(cases: Sequence[Case], num_chunks: int) -> list[Case]:
    """Questions whose chunks are all among so few, which are found by adding what completes most questions.

    Args:
        cases: a trace; its first question's chunks are where it begins.
        num_chunks: how many.

    >>> trace = [Case("a", "", ("1", "2")), Case("b", "", ("3", "4")), Case("c", "", ("2", "5"))]
    >>> [case.question for case in confined(trace, 3)]
    ['a', 'c']
    """
    chosen = set(cases[0].chunks[:num_chunks])
    while len(chosen) < num_chunks:
        gains: defaultdict[str, float] = defaultdict(float)
        for case in cases:
            missing = [chunk for chunk in case.chunks if chunk not in chosen]
            for chunk in missing:
                gains[chunk] += 4.0 ** -len(missing)
        if not gains:
            break
        chosen.add(max(gains, key=lambda chunk: gains[chunk]))
    return [case for case in cases if chosen.issuperset(case.chunks)]


def _round(
    benches: Mapping[str, ModeUnderLoad], mode: str, size: LoadSize, base_per_s: float, seed: int
) -> list[LoadRun]:
    times = poisson_times(size.num_requests, base_per_s, seed=seed)
    prefix = benches[PREFIX].run(times)
    runs = [LoadRun(PREFIX, 1.0, prefix)]
    for factor in (1.0, *size.factors):
        report = benches[mode].run([time_s / factor for time_s in times])
        runs.append(LoadRun(mode, factor, report))
        if report.p95_e2el_ms > prefix.p95_e2el_ms:
            break
    return runs


def _prompt(engine: Engine, case: Case, texts: Mapping[str, str]) -> Prompt:
    return engine.prompt(SYSTEM, [ChunkText(texts[chunk], chunk) for chunk in case.chunks], case.question)
