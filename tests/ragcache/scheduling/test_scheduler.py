"""Pages, shares and pieces of requests, step by step."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import numpy as np
import pytest
import torch

from nonet.ragcache.engine.paging import PoolExhausted
from nonet.ragcache.reuse.focus import FocusSelector
from nonet.ragcache.scheduling.keeping import exact_segments
from nonet.ragcache.scheduling.leading import led, num_together
from nonet.ragcache.scheduling.request import Listener, SamplingParams
from nonet.ragcache.scheduling.running import State, rows_tensor
from nonet.ragcache.store.chunk_store import ChunkStore
from nonet.ragcache.store.disk import DiskTier
from nonet.ragcache.store.throttle import ThrottledTier
from tests.ragcache.scheduling.parts import CHUNKS, SHORT, key_of, pages_left, text_of

LONG = SamplingParams(max_tokens=200, ignore_eos=True)


def warmed(engine, *groups):
    for group in groups:
        engine.generate("Be brief.", [CHUNKS[number] for number in group], "why?", "full", params=SHORT)
    engine.finish_background()


def prompt_of(engine, *numbers, question="what?"):
    return engine.prompt("Be brief.", [CHUNKS[number] for number in numbers], question)


def submitted(engine, prompt, params=SHORT, **options):
    heard = Listener()
    request_id = engine.submit(prompt, params, on_event=heard, **options)
    return request_id, heard


def step_until(engine, condition, limit_s=60):
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        if condition():
            return
        engine._scheduler.step()
    raise AssertionError("it never came to that")


def running_of(engine, request_id):
    return next((one for one in engine._scheduler._running if one.request.request_id == request_id), None)


def is_in(engine, request_id, state):
    running = running_of(engine, request_id)
    return running is not None and running.state is state


@pytest.mark.parametrize("mode", ["guided", "qsel"])
@pytest.mark.parametrize("how", ["cancelled", "timeout"])
def test_a_request_that_ends_while_it_probes_gives_all_pages_back(make_engine, mode, how):
    engine = make_engine(step_tokens=1, background=False)
    warmed(engine, [3, 0, 2], [5, 1])
    assert pages_left(engine) == 0
    first, first_heard = submitted(engine, prompt_of(engine, 7), LONG, mode="full")
    step_until(engine, lambda: is_in(engine, first, State.DECODE))  # from now on it takes the one row of each step
    second, heard = submitted(engine, prompt_of(engine, 0, 1, 2), mode=mode, recompute=0.3, timeout_s=1e6)
    step_until(engine, lambda: is_in(engine, second, State.PROBING))
    assert running_of(engine, second).spare is not None
    if how == "timeout":
        running_of(engine, second).request.deadline_s = time.monotonic() - 1
    else:
        assert engine.cancel(second)
    engine._scheduler.step()
    assert heard.end.finish_reason == how and not first_heard.done.is_set()
    engine.cancel(first)
    engine._scheduler.step()
    assert pages_left(engine) == 0 and engine.num_running == 0


def test_a_request_that_ends_while_it_loads_gives_all_pages_back(make_engine, tmp_path):
    warm = make_engine(f"disk:{tmp_path}:100MB")
    warmed(warm, [3, 0, 2], [5, 1])
    warm.stop(0)
    slow = ThrottledTier(DiskTier(tmp_path), 2e5, latency_s=0.01)
    engine = make_engine(ChunkStore([slow]), background=False)
    request_id, heard = submitted(engine, prompt_of(engine, 0, 1, 2), mode="guided", recompute=0.3)
    step_until(engine, lambda: is_in(engine, request_id, State.LOADING))
    assert running_of(engine, request_id).spare is not None
    engine.cancel(request_id)
    engine._scheduler.step()
    assert heard.end.finish_reason == "cancelled"
    assert pages_left(engine) == 0


def test_pages_that_are_loaded_for_nobody_are_waited_for(make_engine, tmp_path, monkeypatch):
    chunks = [text_of(100 + number, 25) for number in range(7)]
    warm = make_engine(f"disk:{tmp_path}:100MB")
    warm.generate("Be brief.", chunks[:3], "why?", "full", params=SHORT)
    warm.finish_background()
    warm.stop(0)
    engine = make_engine(f"disk:{tmp_path}:100MB", background=False, pool_tokens=1024)
    residency, gate = engine._scheduler.residency, threading.Event()
    copy = residency._copy_as_they_come
    monkeypatch.setattr(residency, "_copy_as_they_come", lambda *given: (gate.wait(60), copy(*given)))
    first, _ = submitted(engine, engine.prompt("Be brief.", chunks[2::-1], "what?"), mode="reuse")
    step_until(engine, lambda: is_in(engine, first, State.LOADING))
    engine.cancel(first)
    _, heard = submitted(engine, engine.prompt("Be brief.", chunks[3:], "what?"), mode="full")
    _, too_long = submitted(engine, engine.prompt("Be brief.", [text_of(1, 160)], "what?"), LONG, mode="full")
    for _ in range(3):
        assert engine._scheduler.step() and engine.num_waiting == 2
    gate.set()
    step_until(engine, lambda: heard.done.is_set() and too_long.done.is_set())
    assert heard.end.finish_reason == "length"
    assert too_long.end.finish_reason == "error" and "does not fit into the pages" in too_long.end.error
    assert pages_left(engine) == 0 and not residency.is_loading


@pytest.mark.parametrize("mode", ["blend", "cachecraft", "guided"])
def test_a_request_that_loads_keeps_the_pages_that_it_will_need(make_engine, tmp_path, mode):
    warm = make_engine(f"disk:{tmp_path}:100MB")
    warmed(warm, [0], [1], [2])  # each with nothing before it, so that "cachecraft" knows no rows either
    warm.stop(0)
    slow = ThrottledTier(DiskTier(tmp_path), 2e5, latency_s=0.01)
    engine = make_engine(ChunkStore([slow]), background=False, pool_tokens=1024, max_running=40)
    first, heard = submitted(engine, prompt_of(engine, 2, 1, 0), mode=mode, recompute=0.3)
    step_until(engine, lambda: is_in(engine, first, State.LOADING))
    others = [submitted(engine, prompt_of(engine), SHORT, mode="full")[1] for _ in range(30)]
    step_until(engine, lambda: heard.done.is_set() and all(one.done.is_set() for one in others))
    assert {one.end.finish_reason for one in (heard, *others)} == {"length"}
    assert heard.end.report.repaired_tokens > 0 and pages_left(engine) == 0


def damage(folder, variant_id):
    """Zero bytes in the last layer of a stored variant."""
    (path,) = folder.rglob(f"{variant_id}.kv")
    with path.open("r+b") as file:
        file.seek(-4096, 2)
        file.write(bytes(64))


@pytest.mark.parametrize("mode", ["guided", "cachecraft", "blend"])
def test_a_request_that_starts_again_gives_all_pages_back_and_is_right(make_engine, tmp_path, mode):
    warm = make_engine(f"disk:{tmp_path}:100MB")
    warmed(warm, [3, 0, 2], [5, 1])
    keys = [key_of(warm, CHUNKS[number]) for number in (0, 1, 2)]
    variants = [warm.store.variants(key)[0].variant_id for key in keys]
    warm.stop(0)
    damage(tmp_path, variants[0])
    engine = make_engine(f"disk:{tmp_path}:100MB", background=False)
    prompt = prompt_of(engine, 0, 1, 2)
    done = engine.complete(prompt, mode=mode, recompute=0.3, params=SHORT, keep=False)
    assert done.report.chunks[0].decision == "computed" and len(done.report.notes) == 1
    assert done.report.repaired_tokens > 0
    assert pages_left(engine) == 0
    again = engine.complete(prompt, mode=mode, recompute=0.3, params=SHORT, keep=False)
    assert again.token_ids == done.token_ids and again.report.notes == ()


@pytest.mark.parametrize("state", [State.PREFILL, State.DECODE])
def test_a_request_that_ends_later_gives_all_pages_back(make_engine, state):
    engine = make_engine(step_tokens=24, background=False)
    warmed(engine, [3, 0, 2], [5, 1])
    request_id, heard = submitted(engine, prompt_of(engine, 0, 1, 2, 6), LONG, mode="guided", recompute=0.3)
    step_until(engine, lambda: is_in(engine, request_id, state))
    engine.cancel(request_id)
    engine._scheduler.step()
    assert heard.end.finish_reason == "cancelled"
    assert pages_left(engine) == 0


def test_computing_waits_for_the_variant_that_is_loaded_least(make_engine, tmp_path):
    warm = make_engine(f"disk:{tmp_path}:100MB")
    warmed(warm, [3, 0, 2], [5, 1])
    warm.stop(0)
    engine = make_engine(ChunkStore([ThrottledTier(DiskTier(tmp_path), 2e5, latency_s=0.01)]), background=False)
    request_id, heard = submitted(engine, prompt_of(engine, 0, 1, 2), mode="reuse")
    step_until(engine, lambda: is_in(engine, request_id, State.LOADING))
    scheduler, running = engine._scheduler, running_of(engine, request_id)
    layers = engine.model.config.num_layers
    step_until(engine, lambda: heard.done.is_set() or all(not one.is_loading for one in running.residents.values()))
    now_s = time.monotonic()
    for least, can in ((0, False), (layers, True)):
        for number, one in enumerate(running.residents.values()):
            one.is_loading, one.ready_layers, one.began_s = True, least if number == 1 else layers, now_s - 100
        assert scheduler._can_start(running, running.plan) == can
    for one in running.residents.values():
        one.is_loading, one.ready_layers = False, layers
    step_until(engine, heard.done.is_set)


def test_a_probe_begins_by_its_own_time_and_not_by_its_few_rows(make_engine, tmp_path):
    warm = make_engine(f"disk:{tmp_path}:100MB")
    warmed(warm, [3, 0, 2], [5, 1])
    warm.stop(0)
    engine = make_engine(ChunkStore([ThrottledTier(DiskTier(tmp_path), 2e5, latency_s=0.01)]), background=False)
    request_id, _ = submitted(engine, prompt_of(engine, 0, 1, 2), mode="guided", recompute=0.3)
    engine._scheduler._probe_s = engine._scheduler._row_s = 0.0
    step_until(engine, lambda: is_in(engine, request_id, State.LOADING))
    scheduler, running = engine._scheduler, running_of(engine, request_id)
    assert running.plan.probe == "question" and running.residents
    for one in running.residents.values():
        scheduler.residency.wait(one, engine.model.config.num_layers)
    while any(one.is_loading for one in running.residents.values()):
        time.sleep(1e-3)
    for one in running.residents.values():
        one.is_loading, one.ready_layers, one.began_s = True, 1, time.monotonic() - 1
    for probe_s, row_s, can in ((0.0, 1e6, False), (1e6, 0.0, True)):
        scheduler._probe_s, scheduler._row_s = probe_s, row_s
        assert scheduler._can_start(running, running.plan) == can
    engine.cancel(request_id)
    scheduler.step()


def test_no_pages_for_a_request_that_starts_again_ends_it_and_no_other(make_engine, monkeypatch):
    engine = make_engine(background=False)
    warmed(engine, [3, 0, 2])
    request_id, heard = submitted(engine, prompt_of(engine, 0, 1), params=LONG, mode="reuse")
    other_id, other = submitted(engine, prompt_of(engine, 2, 4), mode="full")
    step_until(engine, lambda: is_in(engine, request_id, State.DECODE) and running_of(engine, other_id) is not None)
    scheduler, running = engine._scheduler, running_of(engine, request_id)
    next(iter(running.residents.values())).failure = "made to fail"

    def no_pages(_):
        raise PoolExhausted("none are left")

    with monkeypatch.context() as patch:
        patch.setattr(scheduler, "_prepare", no_pages)
        scheduler._recover([(running, None)])
    assert heard.end.finish_reason == "error" and "none are left" in heard.end.error
    step_until(engine, other.done.is_set)
    assert other.end.finish_reason == "length" and pages_left(engine) == 0


def test_focus_is_left_out_where_a_prompt_is_cut(make_engine, monkeypatch):
    drops = []
    after_layer = FocusSelector.after_layer

    def counted(self, *shown):
        keep = after_layer(self, *shown)
        drops.append(0 if keep is None else int((~keep).sum()))
        return keep

    monkeypatch.setattr(FocusSelector, "after_layer", counted)
    logits = {}
    for name, options in {
        "whole": {"focus": True},
        "cut": {"focus": True, "step_tokens": 20},
        "without": {"focus": False},
    }.items():
        engine = make_engine(background=False, **options)
        warmed(engine, [3, 0, 2], [5, 1, 4])
        drops.clear()
        prompt = prompt_of(engine, 0, 1, 2, 4)
        logits[name], report = engine.score(prompt, [5, 6, 7, 8], mode="cachecraft", recompute=0.4)
        assert report.repaired_tokens > 20
        assert bool(drops) == (name == "whole"), name
    assert (torch.from_numpy(logits["cut"]) - torch.from_numpy(logits["without"])).abs().max() < 1e-4


def test_the_store_is_told_the_share_that_was_repaired(make_engine, monkeypatch):
    engine = make_engine(background=False)
    warmed(engine, [3, 0, 2], [5, 1])
    told = {}
    monkeypatch.setattr(engine.store, "used", told.__setitem__)
    for mode in ("cachecraft", "guided", "blend", "reuse"):
        told.clear()
        report = engine.complete(prompt_of(engine, 0, 1, 2), mode=mode, recompute=0.3, params=SHORT).report
        shares = {one.variant_id: one.num_computed / one.num_tokens for one in report.chunks}
        system = told.keys() - shares.keys()
        assert len(system) == 1 and told == {**shares, **dict.fromkeys(system, 0.0)}
        assert (sum(shares.values()) > 0) == (mode != "reuse")


def test_what_needs_much_repair_is_evicted_before_what_needs_little(make_engine):
    engine = make_engine(background=False)
    warmed(engine, [0], [1], [2])
    cheap, dear, filler = (engine.store.variants(key_of(engine, CHUNKS[number]))[0] for number in range(3))
    system = engine.store.variants(engine.prompt("Be brief.", [], "x").system.key)[0]
    capacity = sum(one.num_bytes for one in (cheap, dear, filler, system))
    small = make_engine(f"ram:{capacity}", background=False)
    warmed(small, [0], [1], [2])
    for number, share, times in ((0, 0.0, 1), (1, 0.9, 4), (2, 0.0, 3)):
        # Behind a chunk that is computed, so that nothing is an exact prefix; and that is not stored either.
        for turn in range(times):
            prompt = small.prompt("Be brief.", [text_of(100 + turn), CHUNKS[number]], "what?")
            small.complete(prompt, mode="cachecraft", recompute=share, params=SHORT, keep=False)
    small.generate("Be brief.", [CHUNKS[3]], "why?", "prefix", params=SHORT)
    small.finish_background()
    assert small.store.stats().counts["evicted"] >= 1
    left = [bool(small.store.variants(key_of(small, CHUNKS[number]))) for number in range(3)]
    assert left == [True, False, True]


def test_nothing_is_stored_behind_a_chunk_that_comes_twice(make_engine):
    engine = make_engine(background=False)
    prompt = prompt_of(engine, 0, 1, 0, 2, 1, 3)
    assert exact_segments(engine.planner.plan(prompt, "full")) == [0, 1, 2]
    engine.complete(prompt, mode="full", params=SHORT)
    engine.finish_background()
    stored = [one for number in range(4) for one in engine.store.variants(key_of(engine, CHUNKS[number]))]
    assert [len(one.prefix_keys) for one in stored] == [0, 1]
    assert exact_segments(engine.planner.plan(prompt, "prefix")) == []


def test_admission_goes_by_arrival_and_never_beyond_the_limit(make_engine):
    engine = make_engine(max_running=2, background=False)
    heard = [submitted(engine, prompt_of(engine, number), mode="full")[1] for number in range(5)]
    ends = []
    for number, one in enumerate(heard):
        original = one.done.set
        one.done.set = lambda number=number, original=original: (ends.append(number), original())
    while not all(one.done.is_set() for one in heard):
        engine._scheduler.step()
        assert engine.num_running <= 2
    assert all(first <= second + 1 for first, second in pairwise(ends)) and sorted(ends) == list(range(5))


def led_chunks(make_engine, **options):
    engine = make_engine(background=False, **options)
    warmed(engine, [3, 0, 2], [5, 1])
    return engine


@pytest.mark.parametrize("step_tokens", [26, 40, 4096])
def test_where_steps_end_does_not_change_what_follows_what(make_engine, step_tokens):
    engine, whole, still = (
        led_chunks(make_engine, step_tokens=tokens, carry=carry)
        for tokens, carry in ((step_tokens, True), (4096, True), (step_tokens, False))
    )
    prompt = prompt_of(engine, 0, 1, 2, 6)
    logits, report = engine.score(prompt, [5, 6, 7], mode="guided", recompute=0.3)
    assert report.repaired_tokens > 3 and "follow their mean change" in report.chunks[0].reason
    expected, _ = whole.score(prompt, [5, 6, 7], mode="guided", recompute=0.3)
    assert np.abs(logits - expected).max() < 1e-3
    unmoved, report = still.score(prompt, [5, 6, 7], mode="guided", recompute=0.3)
    assert np.abs(unmoved - expected).max() > 0.01 and "follow" not in report.chunks[0].reason


def test_a_step_stays_small_though_a_chunk_has_many_rows_that_lead(make_engine, monkeypatch):
    engine = led_chunks(make_engine, step_tokens=6)
    sizes = []
    work = engine._scheduler._work

    def watched():
        found = work()
        sizes.append(sum(len(piece.rows) for _, piece in found))
        return found

    monkeypatch.setattr(engine._scheduler, "_work", watched)
    prompt = prompt_of(engine, 0, 1, 2, 6)
    alone, report = engine.score(prompt, [5, 6, 7], mode="guided", recompute=0.8)
    assert max(chunk.num_computed for chunk in report.chunks[:3]) > 12
    assert "follow their mean change" in report.chunks[0].reason
    asked = len(prompt.question.ids) if hasattr(prompt.question, "ids") else prompt.question.num_tokens
    assert max(size for size in sizes if size != asked) < 12
    beside = [submitted(engine, prompt, mode="guided", recompute=0.8)[1] for _ in range(3)]
    while not all(one.done.is_set() for one in beside):
        engine._scheduler.step()
    again, _ = engine.score(prompt, [5, 6, 7], mode="guided", recompute=0.8)
    assert np.abs(again - alone).max() < 1e-3


@pytest.mark.parametrize(("recompute", "follows"), [(0.01, False), (0.3, True), (1.0, False)])
def test_a_report_says_that_rows_follow_only_where_some_do(make_engine, recompute, follows):
    engine = led_chunks(make_engine)
    _, report = engine.score(prompt_of(engine, 0, 1, 2), [5], mode="guided", recompute=recompute)
    told = ["follow" in chunk.reason for chunk in report.chunks if chunk.decision == "repaired"]
    assert told and set(told) == {follows}


@pytest.mark.parametrize("mode", ["reuse", "random", "h2o", "blend", "epic", "qsel", "cachecraft", "guided"])
def test_only_our_own_mode_carries_changes(make_engine, mode):
    answers = []
    for carry in (True, False):
        engine = make_engine(background=False, carry=carry)
        warmed(engine, [3, 0, 2], [5, 1])
        answers.append(engine.score(prompt_of(engine, 0, 1, 2), [5, 6, 7], mode=mode, recompute=0.3)[0])
    assert np.array_equal(*answers) == (mode != "guided")


def test_rows_that_are_followed_are_taken_together(make_engine):
    engine = make_engine(background=False)
    warmed(engine, [3, 0, 2], [5, 1])
    prompt = prompt_of(engine, 0, 6, 1)
    plan = engine.planner.plan(prompt, "epic", 0.3)
    pending = rows_tensor(plan.active_rows)
    taken = [part.segment for part in plan.segments if part.is_taken_over]
    places = [np.searchsorted(plan.active_rows, (one.start, one.stop)).tolist() for one in taken]
    assert len(places) == 2 and all(last - first > 2 for first, last in places)
    for most in (2, 3, 1000):
        leading = [(first, min(last, first + most)) for first, last in places]
        for left in range(1, len(pending) + 5):
            num = num_together(plan, pending, left, most)
            assert 1 <= num <= len(pending)
            assert not any(first < num < last for first, last in leading)
            inside = [(first, last) for first, last in leading if first < left < last]
            assert num == (min(left, len(pending)) if not inside else inside[0][0] or inside[0][1])
    first, last = places[0]
    after_leading = pending[first + 2 :]
    for left in range(1, last - first - 2):
        assert num_together(plan, after_leading, left, 2) == left, "rows that do not lead may be parted"


def test_the_first_rows_that_are_repaired_lead_those_that_are_not(make_engine):
    engine = make_engine(background=False)
    warmed(engine, [3, 0, 2], [5, 1])
    plan = engine.planner.plan(prompt_of(engine, 0, 6, 1), "epic", 0.3)
    taken = [part for part in plan.segments if part.is_taken_over]
    assert len(taken) == 2 and all(len(part.rows) > 2 for part in taken)
    for most in (2, 1000):
        pairs = led(plan, most)
        assert [leaders.tolist() for leaders, _ in pairs] == [part.rows[:most].tolist() for part in taken]
        others = [sorted({*part.all_rows.tolist()} - {*part.rows.tolist()}) for part in taken]
        assert [followers.tolist() for _, followers in pairs] == others
