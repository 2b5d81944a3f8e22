"""The headline experiments of the room: exactness, what is computed, quality by mode, speed, peers, load, the store.

Files: `exactness` (beside transformers, ends of the scale), `trace` (hits and rows of a trace), `modes` on top of
`quality` and `agreement` (distance to full recomputation), `speed` (time to the first token), `peers` and `matches`
(KVBoost, llama.cpp, LMCache), `load` and `trace_load` on top of `under_load`, `replay` and `arrivals` (Poisson load;
the load of a published trace), `isolation` (requests at once, what is stored), `preload` and `eviction` (the store);
`questions` reads data, `twin` is the model in transformers; `tour_charts` are the tour's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.common.experiments import Experiment, Scale, run_experiments
from nonet.common.findings import Finding

if TYPE_CHECKING:
    import altair

    from nonet.ragcache.bench.questions import Case
    from nonet.ragcache.models.loading import LoadedModel

Trace = tuple[str, "Sequence[Case]", Mapping[str, str]]


def bench(
    scale: Scale = "quick",
    only: Sequence[str] = (),
    *,
    model: str = "smollm2",
    questions: Path | None = None,
    chunks: Path | None = None,
    arrivals: Path | None = None,
) -> list[Finding]:
    """Run the experiments; "quick" takes some minutes on two cores, "full" hours.

    What an experiment lacks (a rival that is not installed) is said on stderr and leaves its findings out; nothing
    else is skipped. Without published questions at hand, made-up ones are asked, and the findings say so.

    Args:
        scale: which sizes.
        only: names from `experiments()`; none means all, or the one that `questions` or `arrivals` ask for.
        model: a Llama, as `load_model` takes it.
        questions: JSON lines with question, top5 and answer, instead of the published ones; then `quality` is the only
            experiment unless `only` says more.
        chunks: JSON lines with chunk_id and text; with `questions`.
        arrivals: a published trace of requests; adds the experiment `trace_load`, then the only one unless `only` says
            more.

    Raises:
        InputError: a name that is not one, or files that cannot be read.
    """
    given = {"trace_load": arrivals, "quality": questions}
    asked_for = [name for name, file in given.items() if file is not None]
    return run_experiments(experiments(model, questions, chunks, arrivals), scale, only or asked_for[:1])


def experiments(
    model: str = "smollm2", questions: Path | None = None, chunks: Path | None = None, arrivals: Path | None = None
) -> dict[str, Experiment]:
    """The experiments by name, in the order in which they run; arguments as for `bench`."""
    from nonet.ragcache.models.loading import load_model

    loaded: Callable[[], LoadedModel] = cache(partial(load_model, model))
    trace: Callable[[], Trace] = cache(partial(_trace, questions, chunks))
    named: dict[str, Callable[[Scale, LoadedModel, Trace], list[Finding]]] = {
        "exactness": _exactness,
        "quality": _quality,
        "baselines": _baselines,
        "long_chunks": _long_chunks,
        "hotpotqa": _hotpotqa,
        "speed": _speed,
        "peers": _peers,
        "load": _load,
        "isolation": _isolation,
    }
    if arrivals is not None:
        named["trace_load"] = partial(_trace_load, arrivals)
    with_model = {name: _with(experiment, loaded, trace) for name, experiment in named.items()}
    return {**with_model, "preload": _preload, "eviction": _eviction}


def plots() -> list[tuple[str, altair.TopLevelMixin]]:
    """Charts for the tour: rows computed, distance and time to the first token by mode."""
    from nonet.ragcache.bench.questions import evaluation_of
    from nonet.ragcache.bench.tour_charts import charts
    from nonet.ragcache.models.loading import load_model

    name, cases, texts = _trace(None, None)
    few, met = _few(cases, texts, 8)
    return charts(load_model(), evaluation_of(name, few, met, num_warming=8, num_asked=3))


def _with(
    experiment: Callable[[Scale, LoadedModel, Trace], list[Finding]],
    loaded: Callable[[], LoadedModel],
    trace: Callable[[], Trace],
) -> Experiment:
    return lambda scale: experiment(scale, loaded(), trace())


def _trace(questions: Path | None, chunks: Path | None) -> Trace:
    from nonet.common.datasets import locate
    from nonet.common.errors import InputError
    from nonet.ragcache.bench.questions import made_up_cases, read_cases
    from nonet.ragcache.data import XQUAD

    if (questions is None) != (chunks is None):
        raise InputError("questions and chunks go together: give --questions FILE and --chunks FILE")
    if questions is not None and chunks is not None:
        return questions.stem, *read_cases(questions, chunks)
    files = locate(XQUAD)
    if len(files) == len(XQUAD.files):
        return "xquad", *read_cases(files["questions"], files["chunks"])
    return "synthetic: made-up towns", *made_up_cases()


def _exactness(scale: Scale, model: LoadedModel, trace: Trace) -> list[Finding]:
    from nonet.common.console import note
    from nonet.common.errors import MissingExtraError
    from nonet.ragcache.bench.exactness import endpoint_findings, gemma_error, logits_error
    from nonet.ragcache.bench.questions import evaluation_of
    from nonet.ragcache.bench.twin import llama_twin

    name, cases, texts = trace
    prompts = _prompts(model, cases, texts, 20 if scale == "full" else 2)
    findings = [logits_error("logits_max_error", model, llama_twin(model.decoder), prompts, "fp32, last row")]
    if scale == "full":
        try:
            findings.append(gemma_error(list(texts.values())))
        except MissingExtraError as error:
            note(f"bench: {error}")
    few, met = _few(cases, texts, 30 if scale == "full" else 8)
    sizes = (40, 20) if scale == "full" else (4, 2)
    evaluation = evaluation_of(name, few, met, num_warming=min(sizes[0], len(few) // 2), num_asked=sizes[1])
    return findings + endpoint_findings(model, evaluation)


def _quality(scale: Scale, model: LoadedModel, trace: Trace) -> list[Finding]:
    from nonet.ragcache.bench.modes import quality_findings
    from nonet.ragcache.bench.questions import evaluation_of, shares_of
    from nonet.ragcache.bench.trace import trace_findings

    name, cases, texts = trace
    is_full = scale == "full"
    few, met = (cases, texts) if is_full else _few(cases, texts, 8)
    warming, asked = shares_of(len(few), 300, 150) if is_full else (min(8, len(few) // 2), 3)
    evaluation = evaluation_of(name, few, met, num_warming=warming, num_asked=asked)
    calibrating = len(evaluation.asked) // 3 if is_full else 0
    findings, shares = quality_findings(model, evaluation, num_calibrating=calibrating)
    if not calibrating:
        # So few questions calibrate nothing, and nothing is promised.
        shares = {"": 0.3}
    for kind, share in shares.items():
        told = f"{name}: {len(cases)} questions, a store without limits, {share:.0%} of reused rows computed anew"
        findings += trace_findings(
            model,
            cases,
            texts,
            recompute=share,
            source=told,
            kind=kind,
            has_promise=calibrating > 0 and not kind,
            is_xquad=name == "xquad",
        )
    return findings


def _baselines(scale: Scale, model: LoadedModel, trace: Trace) -> list[Finding]:
    from nonet.common.console import note
    from nonet.ragcache.bench.modes import baseline_findings
    from nonet.ragcache.bench.questions import evaluation_of, shares_of

    if scale != "full":
        note("bench: baselines need many questions to be told apart; they run with --full only")
        return []
    warming, asked = shares_of(len(trace[1]), 300, 100)
    evaluation = evaluation_of(*trace, num_warming=warming, num_asked=asked)
    return baseline_findings(model, evaluation)


def _long_chunks(scale: Scale, model: LoadedModel, trace: Trace) -> list[Finding]:
    from nonet.common.console import note
    from nonet.ragcache.bench.modes import quality_findings
    from nonet.ragcache.bench.questions import evaluation_of, joined_chunks

    if scale != "full":
        note("bench: long_chunks asks 40 questions of 2,000 tokens; it runs with --full only")
        return []
    cases, texts = joined_chunks(trace[1], trace[2], 3, 4)
    evaluation = evaluation_of("long chunks", cases, texts, num_warming=60, num_asked=40)
    return quality_findings(model, evaluation)[0]


def _hotpotqa(scale: Scale, model: LoadedModel, _trace: Trace) -> list[Finding]:
    from nonet.common.console import note
    from nonet.common.datasets import locate
    from nonet.ragcache.bench.modes import quality_findings
    from nonet.ragcache.bench.questions import hotpot_cases, with_planted_neighbours
    from nonet.ragcache.data import HOTPOTQA

    files = locate(HOTPOTQA)
    if scale != "full" or not files:
        note("bench: hotpotqa asks 100 published questions; it runs with --full where they are at hand")
        return []
    evaluation = with_planted_neighbours("hotpotqa", *hotpot_cases(files["questions"]), num_asked=100)
    return quality_findings(model, evaluation)[0]


def _speed(scale: Scale, model: LoadedModel, trace: Trace) -> list[Finding]:
    import tempfile

    from nonet.ragcache.bench.speed import disk_store, first_token_finding, prefill_finding
    from nonet.ragcache.bench.twin import llama_twin

    is_full = scale == "full"
    twin = llama_twin(model.decoder)
    findings = [
        prefill_finding(model, twin, (500, 1000, 2000, 4000) if is_full else (500, 1000), runs=5 if is_full else 2)
    ]
    del twin
    first = partial(
        first_token_finding,
        num_prompts=4 if is_full else 1,
        runs=5 if is_full else 2,
        prompt_tokens=min(2000, model.config.max_context // 2),
    )
    findings.append(first("ttft_vs_full_ram", model, trace[2], "ram:4GB", promise=3.0))
    with tempfile.TemporaryDirectory(prefix="nonet-ragcache-") as folder:
        findings.append(first("ttft_vs_full_disk", model, trace[2], disk_store(Path(folder)), promise=2.5))
    return findings


def _peers(scale: Scale, model: LoadedModel, trace: Trace) -> list[Finding]:
    from nonet.common.console import note
    from nonet.common.errors import MissingExtraError
    from nonet.ragcache.bench.matches import matches_vs_lmcache
    from nonet.ragcache.bench.peers import reused_vs_llamacpp, ttft_vs_kvboost

    is_full, texts = scale == "full", trace[2]
    runs: list[Callable[[], list[Finding]]] = [
        lambda: [ttft_vs_kvboost(model, texts, num_prompts=2 if is_full else 1, runs=5 if is_full else 1)],
        lambda: reused_vs_llamacpp(model, texts, num_prompts=50 if is_full else 6),
        lambda: [matches_vs_lmcache(num_splices=1000 if is_full else 100)],
    ]
    findings = []
    for run in runs:
        try:
            findings += run()
        except MissingExtraError as error:
            note(f"bench: {error}")
    return findings


def _load(scale: Scale, model: LoadedModel, trace: Trace) -> list[Finding]:
    from nonet.common.console import note
    from nonet.ragcache.bench.load import FULL, load_findings

    if scale != "full":
        note("bench: load needs minutes to say anything; it runs with --full only")
        return []
    _, cases, texts = trace
    return load_findings(model, cases, texts, FULL)[0]


def _trace_load(arrivals: Path, scale: Scale, model: LoadedModel, trace: Trace) -> list[Finding]:
    from nonet.ragcache.bench.trace_load import trace_load_findings

    number, rounds = (60, 3) if scale == "full" else (10, 1)
    return trace_load_findings(model, arrivals, trace[2], num_warming=number, num_requests=number, rounds=rounds)


def _isolation(scale: Scale, model: LoadedModel, trace: Trace) -> list[Finding]:
    from nonet.ragcache.bench.isolation import concurrent_equals_serial, store_uncontaminated

    is_full, (_, cases, texts) = scale == "full", trace
    few, met = (cases, texts) if is_full else _few(cases, texts, 12)
    return [
        *concurrent_equals_serial(model, texts, rounds=3 if is_full else 1, max_tokens=16 if is_full else 4),
        store_uncontaminated(model, few, met, num_requests=500 if is_full else 10),
    ]


def _preload(scale: Scale) -> list[Finding]:
    from nonet.ragcache.bench.preload import preload_findings

    return preload_findings(3 if scale == "full" else 1)


def _eviction(_scale: Scale) -> list[Finding]:
    from nonet.ragcache.bench.eviction import eviction_findings

    return eviction_findings()


def _few(cases: Sequence[Case], texts: Mapping[str, str], num_chunks: int) -> tuple[Sequence[Case], Mapping[str, str]]:
    """A small part of a trace: the chunks that are retrieved most together, and questions with three of them or more.

    A question keeps those of its chunks that are among them. Where none has three, those with the most are taken.
    """
    from collections import Counter
    from dataclasses import replace

    counts = Counter(chunk for case in cases for chunk in case.chunks)
    chosen = {max(counts, key=lambda chunk: counts[chunk])}
    while len(chosen) < num_chunks:
        beside = Counter(
            chunk for case in cases if chosen & set(case.chunks) for chunk in case.chunks if chunk not in chosen
        )
        if not beside:
            break
        chosen.add(beside.most_common(1)[0][0])
    kept = [replace(case, chunks=tuple(chunk for chunk in case.chunks if chunk in chosen)) for case in cases]
    fewest = min(3, max(len(case.chunks) for case in kept))
    return [case for case in kept if len(case.chunks) >= fewest], {one: texts[one] for one in sorted(chosen)}


def _prompts(model: LoadedModel, cases: Sequence[Case], texts: Mapping[str, str], number: int) -> list[list[int]]:
    from nonet.ragcache.bench.questions import SYSTEM
    from nonet.ragcache.scheduling.prompting import ChunkText, PromptMaker

    maker = PromptMaker(model, model.config.max_context)
    prompts = [
        maker.conversation(SYSTEM, [ChunkText(texts[chunk], chunk) for chunk in case.chunks], case.question)
        for case in cases[:number]
    ]
    return [prompt.ids.tolist() for prompt in prompts]
