"""Work that nobody waits for: bounded though a server is never idle, and shadow checks that are done all the same."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from nonet.ragcache.reuse.prompt import Prompt, Segment
from nonet.ragcache.scheduling import idle
from nonet.ragcache.scheduling.idle import IdleJobs
from nonet.ragcache.scheduling.request import Listener, SamplingParams, StoppedError
from nonet.ragcache.scheduling.running import Request, Running
from nonet.ragcache.scheduling.shadow import ShadowConfig
from tests.ragcache.scheduling.parts import CHUNKS, SHORT, key_of


def job(*keys, arrival_s=0.0):
    """A job for chunks; without any, a check."""
    segments = [Segment("chunk", place, place + 1, key) for place, key in enumerate(keys, 1)]
    last = len(keys) + 1
    ends = Segment("system", 0, 1, "s"), Segment("question", last, last + 1, "")
    prompt = Prompt(np.arange(last + 1), (ends[0], *segments, ends[1]))
    return Running(Request("", prompt, SHORT, "full", only_prompt=bool(keys), arrival_s=arrival_s), None, None)


def asked(engine, *numbers, question="why?", **options):
    heard = Listener()
    prompt = engine.prompt("Be brief.", [CHUNKS[number] for number in numbers], question)
    engine.submit(prompt, SHORT, on_event=heard, **options)
    return heard


def under_load(engine, num, ask):
    """Answer so many requests, always three at a time; gives the sizes of the idle queue meanwhile."""
    live, sizes, asked_for = [ask(number) for number in range(3)], [], 3
    while asked_for < num:
        engine._scheduler.step()
        sizes.append(len(engine._scheduler.idle))
        ended = [one for one in live if one.done.is_set()]
        live = [one for one in live if one not in ended] + [ask(asked_for + place) for place in range(len(ended))]
        asked_for += len(ended)
    return sizes


def test_checks_and_chunks_wait_in_bounded_number(monkeypatch):
    monkeypatch.setattr(idle, "MAX_CHUNK_JOBS", 3)
    jobs = IdleJobs()
    assert [jobs.add(job(str(number)), ()) for number in range(5)] == [True] * 3 + [False] * 2
    assert [jobs.add(job(), ()) for _ in range(10)] == [True] * idle.MAX_CHECKS + [False] * (10 - idle.MAX_CHECKS)
    assert not jobs.takes_checks and len(jobs) == len(list(jobs)) == 3 + idle.MAX_CHECKS
    first = jobs.next(is_idle=True)
    jobs.begin(first)
    assert not first.request.only_prompt and jobs.takes_checks and first not in jobs
    jobs.clear()
    assert len(jobs) == 0 and jobs.next(is_idle=True) is None


def test_one_job_computes_a_chunk_behind_the_same_others():
    jobs, begun = IdleJobs(), job("a", "b")
    assert not jobs.add(job("a", "b"), [begun])
    assert jobs.add(job("b"), [begun]) and not jobs.add(job("b"), [begun])
    jobs.discard(jobs.next(is_idle=True))
    assert jobs.add(job("b"), [begun]) and jobs.add(job("a", "b"), ())


def test_one_check_begins_in_each_minute_beside_requests(monkeypatch):
    clock_s = 1000.0
    monkeypatch.setattr(idle, "time", SimpleNamespace(monotonic=lambda: clock_s))
    jobs, checks = IdleJobs(), [job(arrival_s=1000.0), job(arrival_s=1010.0), job(arrival_s=1100.0)]
    assert jobs.add(job("a"), ()) and all(jobs.add(one, ()) for one in checks)
    begun = []
    for clock_s in range(1000, 1400):
        due = jobs.next(is_idle=False)
        if due is not None:
            jobs.begin(due)
            begun.append((checks.index(due), clock_s))
    assert begun == [(0, 1060), (1, 1120), (2, 1180)]
    assert len(jobs) == 1, "chunks wait until there is nothing else to do"


def test_a_server_that_is_never_idle_does_not_grow_and_its_alarm_works(make_engine, monkeypatch):
    for every_s in (60.0, 0.0):
        monkeypatch.setattr(idle, "CHECK_EVERY_S", every_s)
        engine = make_engine(shadow=ShadowConfig(rate=1.0), background=False)
        for group in ([3, 0, 2], [5, 1]):
            engine.generate("Be brief.", [CHUNKS[number] for number in group], "why?", "full", params=SHORT)
        engine.finish_background()
        sizes = under_load(engine, 30, lambda number, to=engine: asked(to, 0, 1, 2, question=f"why {number}?"))
        assert max(sizes) <= idle.MAX_CHECKS
        assert bool(engine.shadow.num_checks) == engine.shadow.is_alarmed == (not every_s)
        if every_s:
            assert sizes[-1] == idle.MAX_CHECKS


def steps_until(engine, heard, most=60):
    for _ in range(most):
        if heard.done.is_set():
            return
        engine._scheduler.step()
    raise AssertionError("it has not ended")


def test_a_check_that_waits_for_pages_holds_nobody_up(make_engine, monkeypatch):
    monkeypatch.setattr(idle, "CHECK_EVERY_S", 0.0)
    engine = make_engine(shadow=ShadowConfig(rate=1.0), background=False)
    engine.generate("Be brief.", [CHUNKS[1], CHUNKS[0]], "why?", "full", params=SHORT)
    long = Listener()
    engine.submit(
        engine.prompt(None, [], "a long answer"), SamplingParams(max_tokens=200, ignore_eos=True), on_event=long
    )
    steps_until(engine, asked(engine, 0, 1, mode="reuse"))
    engine.drop_pages()
    held = engine._pool.allocate(engine._pool.free_tokens - 160)
    steps_until(engine, asked(engine))
    assert not engine.shadow.num_checks and len(engine._scheduler.idle) == 1 and not long.done.is_set()
    engine._pool.release(held)
    steps_until(engine, long, 300)
    assert engine.shadow.num_checks == 1


def test_a_stop_leaves_no_check_behind(make_engine):
    engine = make_engine(shadow=ShadowConfig(rate=1.0), background=False)
    engine.generate("Be brief.", [CHUNKS[1], CHUNKS[0]], "why?", "full", params=SHORT)
    heard = asked(engine, 0, 1, mode="reuse")
    for _ in range(3):
        engine._scheduler.step()
    engine.stop(0)
    assert heard.end.finish_reason == "cancelled" and heard.end.report.output_tokens
    assert len(engine._scheduler.idle) == 0


def test_what_comes_while_the_engine_stops_is_refused_and_not_lost(make_engine, monkeypatch):
    engine = make_engine().start()
    made = engine._new

    def stopped_meanwhile(*args, **options):
        running = made(*args, **options)
        engine.stop(0)
        return running

    monkeypatch.setattr(engine, "_new", stopped_meanwhile)
    with pytest.raises(StoppedError, match="takes no more requests"):
        asked(engine, 0)


def test_requests_that_miss_the_same_chunk_leave_one_job(make_engine):
    engine = make_engine()
    engine.generate("Be brief.", [CHUNKS[0]], "why?", params=SHORT)
    engine.finish_background()
    sizes = under_load(engine, 12, lambda number: asked(engine, 1, 0, 2, question=f"why {number}?"))
    assert set(sizes) <= {0, 1} and sizes[-1] == 1
    engine.finish_background()
    [variant] = engine.store.variants(key_of(engine, CHUNKS[2]))
    assert variant.prefix_keys == (key_of(engine, CHUNKS[0]),)


def test_a_missing_chunk_is_computed_behind_the_one_before_it_alone(make_engine):
    engine = make_engine()
    engine.generate("Be brief.", [CHUNKS[0], CHUNKS[1]], "why?", params=SHORT)
    engine.finish_background()
    engine.generate("Be brief.", [CHUNKS[1], CHUNKS[0], CHUNKS[4]], "why?", "reuse", params=SHORT)
    engine.finish_background()
    [variant] = engine.store.variants(key_of(engine, CHUNKS[4]))
    assert variant.prefix_keys == (key_of(engine, CHUNKS[0]),)


def test_logits_of_an_answers_first_tokens_only_are_kept(make_engine, monkeypatch):
    engine = make_engine(shadow=ShadowConfig(rate=1.0), background=False)
    engine.generate("Be brief.", [CHUNKS[0], CHUNKS[1]], "why?", "full", params=SHORT)
    engine.finish_background()
    kept = []
    monkeypatch.setattr(engine.shadow, "compare", lambda served, full: kept.append((len(served), len(full))))
    heard, prompt = Listener(), engine.prompt("Be brief.", [CHUNKS[1], CHUNKS[0]], "why?")
    engine.submit(prompt, SamplingParams(max_tokens=40, ignore_eos=True), mode="reuse", on_event=heard)
    while engine._scheduler.step():
        pass
    assert kept == [(32, 32)] and len(heard.end.token_ids) == 40
    assert len(engine.score(prompt, heard.end.token_ids, mode="reuse")[0]) == 40


@pytest.mark.parametrize("mode", ["prefix", "full", "reuse"])
def test_answers_with_nothing_inexact_do_not_hide_the_others(make_engine, mode):
    engine = make_engine(shadow=ShadowConfig(rate=1.0), background=False)
    engine.generate("Be brief.", [CHUNKS[0], CHUNKS[1]], "why?", "full", params=SHORT)
    engine.finish_background()
    for number in range(5):
        asked(engine, 0, 1, question=f"why {number}?", mode=mode)  # stored in this very company
    engine.finish_background()
    engine._scheduler.step()
    assert engine.shadow.num_checks == 0
    asked(engine, 1, 0, mode="reuse")
    while engine._scheduler.step():
        pass
    assert engine.shadow.num_checks == 1 and engine.shadow.is_alarmed


def test_a_check_goes_by_the_plan_that_was_carried_out(make_engine, monkeypatch):
    engine = make_engine(shadow=ShadowConfig(rate=1.0), background=False)
    for group in ([3, 0], [5, 1]):
        engine.generate("Be brief.", [CHUNKS[number] for number in group], "why?", "full", params=SHORT)
    engine.finish_background()
    work = engine._scheduler._work

    def damaging():
        found = work()
        for resident in found[0][0].residents.values() if found and not heard.done.is_set() else ():
            if resident.meta.chunk_key == key_of(engine, CHUNKS[0]):
                resident.failure, resident.ready_layers = "made to fail", 1
        return found

    monkeypatch.setattr(engine._scheduler, "_work", damaging)
    heard = asked(engine, 0, mode="reuse")
    while engine._scheduler.step():
        pass
    assert heard.end.report.notes == ("made to fail",) and engine.shadow.num_checks == 0


def test_only_requests_that_somebody_waits_for_are_counted(make_engine):
    engine = make_engine(shadow=ShadowConfig(rate=1.0), step_tokens=24)
    engine.generate("Be brief.", [CHUNKS[0], CHUNKS[1]], "why?", params=SHORT)
    engine.finish_background()
    heard = asked(engine, 1, 0, 4, mode="reuse")
    engine._scheduler.step()
    assert engine.num_running == 1
    while not heard.done.is_set():
        engine._scheduler.step()
    done = []
    while engine._scheduler.is_at_work:
        engine._scheduler.step()
        assert engine.num_running == engine.num_waiting == 0
        done += [one.request.mode for one in engine._scheduler._running]
    assert set(done) == {"full", "prefix"} and engine.shadow.num_checks == 1
    engine.finish_background()
    assert engine.store.variants(key_of(engine, CHUNKS[4]))
