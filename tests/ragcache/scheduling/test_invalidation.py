"""A document is deleted while requests come and go: nothing that was computed from it stays."""

from __future__ import annotations

import threading

import pytest

from nonet.ragcache.scheduling.prompting import ChunkText
from nonet.ragcache.scheduling.request import Listener, SamplingParams
from tests.ragcache.scheduling.parts import CHUNKS, SHORT, key_of, pages_left, toy_engine


def chunks_of(*pairs):
    return [ChunkText(CHUNKS[number], f"c{number}", document) for number, document in pairs]


@pytest.fixture
def engine():
    made = toy_engine()
    yield made
    made.stop(0)


def asked(engine, *pairs, mode="guided", tenant=""):
    prompt = engine.prompt("Be brief.", chunks_of(*pairs), "why?", tenant=tenant)
    report = engine.complete(prompt, mode=mode, params=SHORT).report
    engine.finish_background()
    return report


def stored(engine, number):
    return engine.store.variants(key_of(engine, CHUNKS[number]))


@pytest.mark.parametrize("mode", ["full", "prefix", "reuse", "guided"])
@pytest.mark.parametrize("name", ["docA", "docB"])
def test_a_text_of_two_documents_goes_with_either(engine, mode, name):
    asked(engine, (0, "docA"), (1, "other"))
    asked(engine, (0, "docB"), mode=mode)
    assert stored(engine, 0)
    assert engine.invalidate(name) >= 1
    assert stored(engine, 0) == () and engine.invalidate(name) == 0
    assert [chunk.decision for chunk in asked(engine, (0, "docA"), mode="reuse").chunks] == ["computed"]


@pytest.mark.parametrize("tenant", ["", "somebody"])
def test_a_chunk_of_a_document_goes_by_its_own_id_too(engine, tenant):
    asked(engine, (0, "doc"), tenant=tenant)
    asked(engine, (1, "doc"), tenant=tenant)
    assert engine.invalidate("c0", tenant="stranger") == 0
    assert engine.invalidate("c0", tenant=tenant) == 1
    decisions = {n: asked(engine, (n, "doc"), tenant=tenant, mode="prefix").chunks[0].decision for n in (1, 0)}
    assert decisions == {0: "computed", 1: "prefix"}
    assert engine.invalidate("doc", tenant=tenant) == 2 and engine.invalidate("c0", tenant=tenant) == 0


def test_a_text_of_no_document_has_no_name(engine):
    asked(engine, (0, ""))
    assert engine.invalidate("c0") == 0 and stored(engine, 0)


def test_what_was_computed_behind_it_goes_too_and_nothing_else(engine):
    asked(engine, (0, "a"), (1, "b"), (2, "c"))
    asked(engine, (1, "b"), (2, "c"), mode="full")
    key = key_of(engine, CHUNKS[0])
    assert engine.invalidate("a") == 3
    left = [one for number in range(3) for one in stored(engine, number)]
    assert len(left) == 2 and all(key not in one.prefix_keys for one in left)


def test_a_request_on_its_way_stores_nothing_of_it(engine):
    pair = engine.prompt("Be brief.", chunks_of((0, "a"), (1, "b")), "why?"), Listener()
    other = engine.prompt("Be brief.", chunks_of((2, "c")), "why?"), Listener()
    waiting = engine.prompt("Be brief.", chunks_of((0, "a"), (3, "d")), "why?"), Listener()
    for prompt, heard in (pair, other, waiting):
        engine.submit(prompt, SHORT, mode="prefix", on_event=heard)
    plan, is_planned = engine.planner.plan, []

    def planning(*args):
        made = plan(*args)
        if not is_planned:
            is_planned.append(1)
            engine.invalidate("a")  # after the plan was made, before anything is computed
        return made

    engine.planner.plan = planning
    while not all(heard.done.is_set() for _, heard in (pair, other, waiting)):
        engine._scheduler.step()
    engine.finish_background()
    assert all(heard.end.finish_reason == "length" for _, heard in (pair, other, waiting))
    assert [len(stored(engine, number)) for number in range(4)] == [0, 0, 1, 0]
    asked(engine, (0, "a"))
    assert stored(engine, 0)


def test_no_background_job_begins_for_what_was_deleted_meanwhile(engine):
    asked(engine, (0, "a"), (1, "b"))
    heard = Listener()
    prompt = engine.prompt("Be brief.", chunks_of((2, "c"), (1, "b"), (4, "e")), "why?")
    engine.submit(prompt, SHORT, mode="reuse", on_event=heard)
    engine._scheduler.step()
    assert engine.invalidate("b") and not heard.done.is_set()
    while not heard.done.is_set():
        engine._scheduler.step()
    engine.finish_background()
    assert stored(engine, 1) == ()


def test_background_jobs_for_it_end(engine):
    asked(engine, (0, "a"), (1, "b"))
    prompt = engine.prompt("Be brief.", chunks_of((1, "b"), (4, "e"), (5, "f")), "why?")
    engine.complete(prompt, mode="reuse", params=SHORT)
    assert len(engine._scheduler.idle) == 2
    engine.invalidate("e")  # a job computes f behind e
    engine.finish_background()
    assert stored(engine, 4) == () == stored(engine, 5)


def test_copies_outside_the_store_go_too(engine):
    asked(engine, (0, "a"), (1, "b"), mode="full")
    asked(engine, (1, "b"), (0, "a"), mode="reuse")
    ids = {one.variant_id for one in (*stored(engine, 0), *stored(engine, 1))}
    residency, received = engine._scheduler.residency, engine._keeper.received
    assert ids & residency._known.keys() and all(received.get(one) is not None for one in ids)
    tokens = engine.prompt("Be brief.", [CHUNKS[0]], "x").chunks[0]
    ids_of_text = engine.prompt("Be brief.", [CHUNKS[0]], "x").ids[tokens.start : tokens.stop].tolist()
    assert len(engine.text_prompt([70, *ids_of_text, 71]).chunks) == 1
    engine.invalidate("a")
    assert not ids & residency._known.keys() and not any(received.get(one) is not None for one in ids)
    assert engine.text_prompt([70, *ids_of_text, 71]).chunks == ()
    assert pages_left(engine) == 0


def test_pages_of_it_that_are_in_use_go_back_with_their_last_user(engine):
    asked(engine, (0, "a"), (1, "b"), mode="full")
    engine.drop_pages()
    prompt = engine.prompt("Be brief.", chunks_of((1, "b"), (0, "a")), "why?")
    heard = [Listener(), Listener()]
    for number, one in enumerate(heard):
        params = SamplingParams(max_tokens=4 + 4 * number, ignore_eos=True)
        engine.submit(prompt, params, mode="reuse", on_event=one)
    while engine._scheduler.residency._known.keys() == set() or not all(
        one.token_ids for one in engine._scheduler._running
    ):
        engine._scheduler.step()
    system = engine.store.variants(prompt.system.key)[0].variant_id
    engine.invalidate("a")
    assert engine._scheduler.residency._known.keys() == {system}
    while not heard[1].done.is_set():
        engine._scheduler.step()
    engine._scheduler.residency.forget({system})
    assert pages_left(engine) == 0
    assert heard[0].end.token_ids == heard[1].end.token_ids[:4]


def test_a_tenants_names_are_its_own(engine):
    asked(engine, (0, "a"), tenant="one")
    asked(engine, (0, "a"), tenant="two")
    asked(engine, (0, "b"), tenant="one")
    assert engine.invalidate("b", tenant="two") == 0
    assert engine.invalidate("b", tenant="one") == 1
    assert engine.invalidate("a", tenant="two") == 1


def test_what_leaves_no_trace_leaves_no_name(engine):
    asked(engine, (0, "a"))
    prompt = engine.prompt("Be brief.", chunks_of((0, "b")), "why?")
    engine.complete(prompt, mode="guided", params=SHORT, keep=False)
    assert engine.invalidate("b") == 0
    assert stored(engine, 0)


def test_names_come_with_a_running_engine(engine, tmp_path):
    store = f"ram:10MB,disk:{tmp_path}:100MB"
    first = toy_engine(store)
    asked(first, (0, "a"), (1, "b"))
    asked(first, (0, "late"), mode="reuse")
    first.stop(0)
    again = toy_engine(store).start()
    deleted = []
    thread = threading.Thread(target=lambda: deleted.append(again.invalidate("late")))
    thread.start()
    thread.join(30)
    assert deleted == [2] and stored(again, 0) == () == stored(again, 1)
    again.stop(0)
