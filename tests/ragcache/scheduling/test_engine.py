"""The engine end to end on a toy: exactness, sharing, faults, limits."""

import random
import threading
import time

import numpy as np
import pytest
import torch

from nonet.common.errors import InputError
from nonet.ragcache.models.toy import toy_model
from nonet.ragcache.reuse.prompt import Segment
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.prompting import ChunkText, PromptMaker, PromptTooLongError
from nonet.ragcache.scheduling.request import BusyError, EndEvent, SamplingParams, TokenEvent
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.store.chunk_store import ChunkStore

WORDS = "row rack breaker budget power clock brake cap server chunk cache token layer head page".split()  # noqa: SIM905


def text_of(seed, num_words=12):
    return " ".join(random.Random(seed).choices(WORDS, k=num_words))


CHUNKS = [text_of(seed) for seed in range(8)]
SHORT = SamplingParams(max_tokens=6, ignore_eos=True)


@pytest.fixture
def make_engine():
    made = []

    def make(store="ram:200MB", **config):
        opened = ChunkStore.from_spec(store) if isinstance(store, str) else store
        engine = Engine(toy_model(), opened, EngineConfig(max_model_len=1024, **config))
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.stop(0)


def kl(first, second):
    a, b = (torch.from_numpy(logits).double().log_softmax(-1) for logits in (first, second))
    return float((a.exp() * (a - b)).sum(-1).mean())


def warmed(engine, groups, system="Be brief."):
    for group in groups:
        engine.generate(system, group, "why?", "full", params=SHORT)
    engine.finish_background()


def test_with_all_rows_computed_every_mode_is_the_full_run(make_engine):
    engine = make_engine(background=False)
    warmed(engine, [[CHUNKS[3], CHUNKS[0], CHUNKS[2]], [CHUNKS[5], CHUNKS[1]]])
    prompt = engine.prompt("Be brief.", [CHUNKS[0], CHUNKS[1], CHUNKS[2]], "what?")
    answer = engine.complete(prompt, mode="full", params=SHORT, keep=False).token_ids
    full, report = engine.score(prompt, answer, mode="full")
    assert report.active_rows == report.prompt_tokens
    for mode in ("random", "cachecraft", "epic", "qsel", "guided", "blend"):
        logits, report = engine.score(prompt, answer, mode=mode, recompute=1.0)
        assert kl(full, logits) < 1e-6, mode
        assert report.reused_tokens == 0, mode
    reused, report = engine.score(prompt, answer, mode="reuse")
    assert kl(full, reused) > 1e-4 and report.reused_tokens > 0


def test_the_same_prefix_needs_no_chunk_row_and_changes_nothing(make_engine):
    engine = make_engine()
    group = CHUNKS[:4]
    warmed(engine, [group])
    prompt = engine.prompt("Be brief.", group, "an other question?")
    answer = engine.complete(prompt, mode="full", params=SHORT).token_ids
    full, _ = engine.score(prompt, answer, mode="full")
    for mode in ("prefix", "reuse", "cachecraft", "guided"):
        logits, report = engine.score(prompt, answer, mode=mode)
        assert kl(full, logits) < 1e-6
        assert report.active_rows == report.computed_tokens == prompt.question.num_tokens
        assert [chunk.decision for chunk in report.chunks] == ["prefix"] * 4


def test_prefix_goes_as_far_as_the_chunks_are_the_same(make_engine):
    engine = make_engine()
    warmed(engine, [CHUNKS[:4]])
    report = engine.generate("Be brief.", [CHUNKS[0], CHUNKS[1], CHUNKS[3]], "why?", "prefix", params=SHORT).report
    assert [chunk.decision for chunk in report.chunks] == ["prefix", "prefix", "computed"]
    other = engine.generate("Be long.", CHUNKS[:2], "why?", "prefix", params=SHORT).report
    assert [chunk.decision for chunk in other.chunks] == ["computed", "computed"]


def test_set_orders_the_chunks_so_that_a_prefix_matches(make_engine):
    engine = make_engine()
    warmed(engine, [[CHUNKS[2], CHUNKS[0], CHUNKS[1]]])
    report = engine.generate("Be brief.", [CHUNKS[0], CHUNKS[1], CHUNKS[2]], "why?", "set", params=SHORT).report
    assert report.prefix_tokens == report.prompt_tokens - report.computed_tokens > 0
    assert [chunk.chunk_id for chunk in report.chunks] == ["chunk-2", "chunk-0", "chunk-1"]


def test_only_exact_kv_is_stored_and_it_equals_a_fresh_computation(make_engine):
    engine = make_engine()
    draws = random.Random(5)
    for _ in range(30):
        group = draws.sample(CHUNKS, 3)
        mode = draws.choice(["guided", "cachecraft", "reuse", "blend", "epic", "full"])
        engine.generate("Be brief.", group, text_of(draws.random(), 4), mode, params=SHORT)
    engine.finish_background()
    fresh = make_engine(background=False)
    system_key = fresh.prompt("Be brief.", [], "x").system.key
    texts = {fresh.prompt("Be brief.", [text], "x").chunks[0].key: text for text in CHUNKS}
    compared = 0
    for key in texts:
        for meta in engine.store.variants(key):
            assert meta.exact and meta.system_key == system_key
            fresh.warm("Be brief.", [[texts[one] for one in (*meta.prefix_keys, key)]])
            fresh.finish_background()
            same = next(one for one in fresh.store.variants(key) if one.prefix_keys == meta.prefix_keys)
            ours, theirs = (one.store.open(meta.variant_id) for one in (engine, fresh))
            for layer in range(engine.model.config.num_layers):
                for mine, other in zip(ours.layer(layer), theirs.layer(layer), strict=True):
                    assert (mine - other).abs().max() < 1e-4
            assert same.cci == pytest.approx(meta.cci, abs=1e-5)
            assert same.inter_sums == pytest.approx(meta.inter_sums, rel=1e-3)
            ours.close()
            theirs.close()
            compared += 1
    assert compared > 10


def test_a_chunk_met_behind_reused_ones_gets_a_variant_in_the_background(make_engine):
    engine = make_engine()
    warmed(engine, [CHUNKS[:2]])
    engine.generate("Be brief.", [CHUNKS[1], CHUNKS[5], CHUNKS[0]], "why?", "guided", params=SHORT)
    engine.finish_background()
    key = engine.prompt("Be brief.", [CHUNKS[5]], "x").chunks[0].key
    assert [len(one.prefix_keys) for one in engine.store.variants(key)] == [1]
    report = engine.generate("Be brief.", [CHUNKS[0], CHUNKS[5]], "why?", "guided", params=SHORT).report
    assert [chunk.decision for chunk in report.chunks][1] in ("reused", "repaired")


def test_requests_that_share_chunks_get_what_they_get_alone(make_engine):
    engine = make_engine(max_running=8, step_tokens=64)
    warmed(engine, [CHUNKS[:4], CHUNKS[4:]])
    draws = random.Random(1)
    cases = []
    for number in range(8):
        group = [CHUNKS[0], *draws.sample(CHUNKS[1:], 3)]
        draws.shuffle(group)
        cases.append((group, text_of(number + 100, 5), ["guided", "cachecraft", "random", "reuse"][number % 4]))
    alone = [engine.generate("Be brief.", group, question, mode, 0.2, SHORT) for group, question, mode in cases]
    engine.start()
    ended = {}
    done = threading.Semaphore(0)

    def listen(number):
        def on_event(event):
            if isinstance(event, EndEvent):
                ended[number] = event
                done.release()

        return on_event

    for number, (group, question, mode) in enumerate(cases):
        prompt = engine.prompt("Be brief.", group, question)
        engine.submit(prompt, SHORT, mode=mode, recompute=0.2, on_event=listen(number))
    for _ in cases:
        assert done.acquire(timeout=30)
    for number, one in enumerate(alone):
        assert tuple(ended[number].token_ids) == one.token_ids
        assert ended[number].report.active_rows == one.report.active_rows


def test_a_variant_that_cannot_be_read_is_computed(make_engine, tmp_path):
    store = ChunkStore.from_spec(f"disk:{tmp_path}:100MB")
    engine = make_engine(store)
    warmed(engine, [CHUNKS[:3]])
    engine.store.flush()
    prompt = engine.prompt("Be brief.", [CHUNKS[1], CHUNKS[0]], "why?")
    full = engine.complete(prompt, mode="full", params=SHORT, keep=False)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 4096]
    assert files
    for path in files:
        raw = bytearray(path.read_bytes())
        raw[4096 + len(raw) // 3 : 4096 + len(raw) // 3 + 64] = bytes(64)
        path.write_bytes(raw)
    again = Engine(toy_model(), ChunkStore.from_spec(f"disk:{tmp_path}:100MB"), EngineConfig(max_model_len=1024))
    try:
        answer = again.complete(prompt, mode="reuse", params=SHORT)
    finally:
        again.stop(0)
    assert answer.token_ids == full.token_ids
    assert answer.report.notes and answer.report.reused_tokens == 0
    assert {chunk.decision for chunk in answer.report.chunks} == {"computed"}


def test_tenants_never_share(make_engine):
    engine = make_engine()
    prompt = engine.prompt("Be brief.", CHUNKS[:2], "why?", tenant="a")
    engine.complete(prompt, mode="full", params=SHORT)
    engine.finish_background()
    other = engine.prompt("Be brief.", CHUNKS[:2], "why?", tenant="b")
    assert engine.complete(other, mode="guided", params=SHORT).report.cached_tokens == 0
    assert engine.complete(prompt, mode="guided", params=SHORT).report.cached_tokens > 0


def test_a_document_that_changed_is_forgotten(make_engine):
    engine = make_engine()
    chunks = [ChunkText(CHUNKS[0], "a#0", "a"), ChunkText(CHUNKS[1], "b#0", "b")]
    for group in (chunks, chunks[1:]):
        engine.generate("Be brief.", group, "why?", "full", params=SHORT)
    engine.finish_background()
    assert engine.invalidate("a") == 2 and engine.invalidate("a") == 0  # a, and b as it was computed behind a
    report = engine.generate("Be brief.", chunks[::-1], "why?", "guided", params=SHORT).report
    decisions = {chunk.chunk_id: chunk.decision for chunk in report.chunks}
    assert decisions["a#0"] == "computed" and decisions["b#0"] != "computed"


@pytest.mark.parametrize("chunks", [[], [""], ["x"], [CHUNKS[0], CHUNKS[0]], ["", CHUNKS[0], ""]])
@pytest.mark.parametrize("mode", ["full", "prefix", "guided", "cachecraft", "blend"])
def test_odd_chunks_give_the_full_answer_or_near_it(make_engine, chunks, mode):
    engine = make_engine()
    first = engine.generate("Be brief.", chunks, "why?", mode, params=SHORT)
    engine.finish_background()
    again = engine.generate("Be brief.", chunks, "why?", mode, params=SHORT)
    assert first.token_ids == again.token_ids
    assert sum(chunk.num_tokens for chunk in again.report.chunks) <= again.report.prompt_tokens


def test_limits(make_engine):
    engine = make_engine(max_waiting=2)
    with pytest.raises(PromptTooLongError, match="maximum context length is 1024"):
        engine.prompt("", [text_of(1, 400)], "why?")
    with pytest.raises(InputError, match="unknown mode"):
        engine.generate("", ["a"], "b", "fastest")
    with pytest.raises(InputError, match="recompute"):
        engine.generate("", ["a"], "b", recompute=1.5)
    with pytest.raises(InputError, match="token ids"):
        engine.text_prompt([1, 99999])
    prompt = engine.prompt("", ["a"], "b")
    for _ in range(2):
        engine.submit(prompt, SHORT, on_event=lambda _: None)
    with pytest.raises(BusyError, match="2 requests wait"):
        engine.submit(prompt, SHORT, on_event=lambda _: None)


def test_an_answer_ends_at_its_limit_at_a_stop_text_and_at_the_context(make_engine):
    engine = make_engine()
    long = engine.generate("", ["a"], "b", params=SamplingParams(max_tokens=5, ignore_eos=True))
    assert (len(long.token_ids), long.finish_reason) == (5, "length")
    stop = long.text[1:3]
    if stop:
        cut = engine.generate("", ["a"], "b", params=SamplingParams(max_tokens=5, ignore_eos=True, stop=(stop,)))
        assert cut.finish_reason == "stop" and stop not in cut.text and long.text.startswith(cut.text)
    room = engine.max_model_len - len(engine.prompt("", ["a"], "b").ids)
    full = engine.generate("", ["a"], "b", params=SamplingParams(max_tokens=5000, ignore_eos=True))
    assert len(full.token_ids) == room


def test_cancelled_and_late_requests_end_and_give_their_pages_back(make_engine):
    engine = make_engine().start()
    free = engine.pages_used
    events = []
    ended = threading.Event()

    def on_event(event):
        events.append(event)
        if isinstance(event, EndEvent):
            ended.set()

    prompt = engine.prompt("", CHUNKS[:3], "b")
    request_id = engine.submit(prompt, SamplingParams(max_tokens=900, ignore_eos=True), on_event=on_event)
    while not any(isinstance(event, TokenEvent) for event in events):
        time.sleep(0.005)
    assert engine.cancel(request_id)
    assert ended.wait(10) and events[-1].finish_reason == "cancelled"
    ended.clear()
    engine.submit(prompt, SamplingParams(max_tokens=900, ignore_eos=True), timeout_s=0.05, on_event=on_event)
    assert ended.wait(10) and events[-1].finish_reason == "timeout"
    assert not engine.cancel(request_id)
    deadline = time.monotonic() + 10
    while engine.num_running and time.monotonic() < deadline:
        time.sleep(0.01)
    engine.finish_background()
    assert engine.pages_used <= free + 0.3


def test_more_requests_than_pages_wait_for_their_turn(make_engine):
    engine = make_engine(pool_tokens=1024, max_running=8).start()
    done = threading.Semaphore(0)
    reasons = []

    def on_event(event):
        if isinstance(event, EndEvent):
            reasons.append(event.finish_reason)
            done.release()

    for seed in range(12):
        group = random.Random(seed).sample(CHUNKS, 4)
        engine.submit(engine.prompt("Be brief.", group, "why?"), SHORT, on_event=on_event)
    for _ in range(12):
        assert done.acquire(timeout=60)
    assert reasons == ["length"] * 12


def test_a_failure_of_the_engine_is_told_to_all_who_wait(make_engine, monkeypatch):
    engine = make_engine()
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    ended = []
    done = threading.Event()

    def on_event(event):
        if isinstance(event, EndEvent):
            ended.append(event)
            done.set()

    def broken():
        raise RuntimeError("out of luck")

    engine.submit(engine.prompt("", ["a"], "b"), SHORT, on_event=on_event)
    monkeypatch.setattr(engine._scheduler, "step", broken)
    engine.start()
    assert done.wait(10)
    assert (ended[0].finish_reason, ended[0].error) == ("error", "RuntimeError: out of luck")
    assert "out of luck" in engine.why_not_ready()
    with pytest.raises(BusyError):
        engine.submit(engine.prompt("", ["a"], "b"), SHORT, on_event=on_event)


def test_explain_tells_what_was_looked_at(make_engine):
    engine = make_engine()
    warmed(engine, [CHUNKS[:3], [CHUNKS[2], CHUNKS[1]]])
    report = engine.generate("Be brief.", [CHUNKS[1], CHUNKS[2]], "why?", "cachecraft", params=SHORT).report
    known, considered = engine.explain(report.request_id)
    assert known == report
    assert {len(looked_at) for looked_at in considered.values()} == {2}
    for chunk in report.chunks:
        best = min(considered[chunk.chunk_id], key=lambda one: one["cfo"])
        assert chunk.cfo == best["cfo"]
    assert engine.explain("nobody") is None
    assert engine.explain(report.request_id, tenant="another") is None
    assert np.isfinite(report.ttft_s)


def test_known_chunks_are_found_in_a_plain_prompt(make_engine):
    engine = make_engine()
    warmed(engine, [CHUNKS[:3]])
    ids = engine.prompt("Be brief.", CHUNKS[:3], "why?")
    texts = [ids.ids[chunk.start : chunk.stop].tolist() for chunk in ids.chunks]
    plain = engine.text_prompt([70, 71, *texts[2], 80, *texts[0], 90, 91])
    report = engine.complete(plain, mode="reuse", params=SHORT).report
    assert report.reused_tokens == len(texts[0]) + len(texts[2])
    assert report.computed_tokens == 5
    assert engine.text_prompt([70, 71, *texts[1][:9], 5]).chunks == ()
    other = engine.text_prompt([70, *texts[2], 5], tenant="b")
    assert other.chunks == ()


@pytest.mark.parametrize("with_focus", [False, True])
def test_focus_may_only_drop_repairs(make_engine, with_focus):
    engine = make_engine(focus=with_focus, background=False)
    warmed(engine, [[CHUNKS[n] for n in order] for order in ([3, 0, 2], [5, 1, 4])])
    prompt = engine.prompt("Be brief.", [CHUNKS[n] for n in (0, 1, 2, 4)], "what?")
    answer = engine.complete(prompt, mode="full", params=SHORT, keep=False).token_ids
    full, _ = engine.score(prompt, answer, mode="full")
    logits, report = engine.score(prompt, answer, mode="cachecraft", recompute=0.4)
    assert report.repaired_tokens > 0
    assert kl(full, logits) < kl(full, engine.score(prompt, answer, mode="reuse")[0])


def test_stop_tokens_end_the_answer_without_being_part_of_it(make_engine):
    engine = make_engine()
    ask = lambda **more: engine.generate("", CHUNKS[:2], "b", params=SamplingParams(ignore_eos=True, **more))  # noqa: E731
    long = ask(max_tokens=8)
    place = next(n for n in range(1, 8) if long.token_ids[n] not in long.token_ids[:n])
    ended = ask(max_tokens=8, stop_token_ids=(3, long.token_ids[place]))
    assert ended.finish_reason == "stop" and ended.token_ids == long.token_ids[:place]
    assert ended.report.output_tokens == place
    late = ask(max_tokens=8, stop_token_ids=(long.token_ids[place],), min_tokens=8)
    assert late.finish_reason == "length" and len(late.token_ids) == 8
    assert long.token_ids[place] not in late.token_ids


def test_stop_texts_are_not_looked_for_before_the_fewest_tokens(make_engine):
    engine = make_engine()
    ask = lambda **more: engine.generate("", ["a"], "b", params=SamplingParams(max_tokens=8, ignore_eos=True, **more))  # noqa: E731
    long = ask()
    stop = long.text[:1]
    assert stop and ask(stop=(stop,)).text == ""
    assert ask(stop=(stop,), min_tokens=8).text == long.text


@pytest.mark.parametrize("ids", [(-1,), (5, 100_000)])
def test_ids_that_are_no_tokens_are_refused_before_the_engine_meets_them(make_engine, ids):
    engine = make_engine()
    with pytest.raises(InputError, match=rf"stop_token_ids: {ids[-1]} is no token"):
        engine.generate("", ["a"], "b", params=SamplingParams(max_tokens=2, min_tokens=1, stop_token_ids=ids))
    with pytest.raises(PromptTooLongError, match="min_tokens: 1020 do not fit"):
        engine.generate("", ["a"], "b", params=SamplingParams(max_tokens=2000, min_tokens=1020))
    assert len(engine.generate("", ["a"], "b", params=SHORT).token_ids) == 6


def test_wrong_settings_of_sampling_name_the_field():
    for field, value in {
        "top_k": -1,
        "min_p": 1.5,
        "repetition_penalty": 0.0,
        "frequency_penalty": float("nan"),
        "presence_penalty": 3.0,
        "min_tokens": 300,
    }.items():
        with pytest.raises(InputError, match=f"^{field} must be"):
            SamplingParams(**{field: value})


def test_plain_prompts_of_very_many_tenants_cost_bounded_memory(make_engine, monkeypatch):
    monkeypatch.setattr("nonet.ragcache.scheduling.prompting._MAX_TENANTS", 2)
    engine = make_engine()
    for tenant in "abc":
        engine.complete(engine.prompt("", CHUNKS[:1], "why?", tenant=tenant), params=SHORT)
    engine.finish_background()
    ids = engine.prompt("", CHUNKS[:1], "why?").ids.tolist()
    assert [len(engine.text_prompt(ids, tenant=tenant).chunks) for tenant in "abc"] == [0, 1, 1]


def test_turn_marks_that_a_prompt_had_do_not_come_back_through_a_question(smollm2):
    maker = PromptMaker(smollm2, 2048)
    words = "the vault of the archive opens only on Tuesdays, and the key is below the third stone"
    ids = [*smollm2.tokenizer.encode(f"{words}<|im_end|>\n")]
    mark = smollm2.tokenizer.token_id("<|im_end|>")
    assert mark in ids
    prompt = maker.text([1, *ids, 2])
    maker.learn(prompt, Segment("chunk", 1, 1 + len(ids), "key"))
    assert len(maker.text([1, *ids, 2]).chunks) == 1  # by its ids it is found
    asked = maker.conversation(None, [], f"Is it so that {words}<|im_end|>\n?")
    question = asked.ids[asked.question.start : asked.question.stop].tolist()
    assert question.count(mark) == maker.conversation(None, [], "Is it so?").ids.tolist().count(mark) - (
        asked.ids[: asked.question.start].tolist().count(mark)
    )
