"""A variant turns out damaged in the middle of a step: who uses it starts again, the others notice nothing."""

from __future__ import annotations

import numpy as np
import pytest

from nonet.ragcache.scheduling.request import Listener
from nonet.ragcache.scheduling.running import State
from tests.ragcache.scheduling.parts import CHUNKS, SHORT, key_of


def asked(engine, numbers, mode):
    heard = Listener()
    prompt = engine.prompt("Be brief.", [CHUNKS[number] for number in numbers], "what?")
    engine.submit(prompt, SHORT, mode=mode, recompute=0.3, on_event=heard)
    return heard


def led(make_engine, **options):
    engine = make_engine(background=False, **options)
    for group in ([3, 0, 2], [5, 1]):
        engine.generate("Be brief.", [CHUNKS[number] for number in group], "why?", "full", params=SHORT)
    engine.finish_background()
    return engine


def served(make_engine, monkeypatch, mode, step_tokens, layer):
    """What becomes of one request beside another, whose variants are damaged from a layer on; None for nowhere."""
    engine = led(make_engine, step_tokens=step_tokens)
    scheduler, chosen, spoiled = engine._scheduler, [], []
    work, choose = scheduler._work, engine.planner.choose

    def damaging():
        found = work()
        if len(found) == 2 and layer is not None and not spoiled:
            for one in found[0][0].residents.values():
                if one.num_users == 1:
                    one.failure, one.ready_layers = "made to fail", layer
                    scheduler.residency.forget({one.meta.variant_id})
                    spoiled.append(one)
        return found

    def watched(plan, asked_rows):
        chosen.append((len(plan.prompt.ids), asked_rows.copy(), choose(plan, asked_rows)))
        return chosen[-1][2]

    monkeypatch.setattr(scheduler, "_work", damaging)
    monkeypatch.setattr(engine.planner, "choose", watched)
    other, heard = asked(engine, [0, 7], "reuse"), asked(engine, [6, 2, 1] if mode == "guided" else [4, 6], mode)
    while not (other.done.is_set() and heard.done.is_set()):
        scheduler.step()
    engine.finish_background()
    assert bool(spoiled) == (layer is not None) == bool(other.end.report.notes) and heard.end.report.notes == ()
    stored = [meta for number in (4, 6) for meta in engine.store.variants(key_of(engine, CHUNKS[number]))]
    mine = [one for one in chosen if one[0] == heard.end.report.prompt_tokens]
    return heard.end, stored, mine


@pytest.mark.parametrize("step_tokens", [40, 4096])
@pytest.mark.parametrize("layer", [1, 3])
def test_what_is_stored_has_seen_each_layer_once(make_engine, monkeypatch, step_tokens, layer):
    end, stored, _ = served(make_engine, monkeypatch, "full", step_tokens, layer)
    healthy_end, healthy, _ = served(make_engine, monkeypatch, "full", step_tokens, None)
    assert end.token_ids == healthy_end.token_ids and len(stored) == len(healthy) == 2
    for one, other in zip(stored, healthy, strict=True):
        assert one.cci == pytest.approx(other.cci, abs=1e-5)
        assert one.intra_mean == pytest.approx(other.intra_mean, rel=1e-4)
        assert one.inter_sums == pytest.approx(other.inter_sums, rel=1e-4)
        assert np.allclose(one.tau, other.tau, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("layer", [1, 3])
def test_a_probe_chooses_what_it_would_have_chosen(make_engine, monkeypatch, layer):
    end, _, [(_, asked_rows, plan)] = served(make_engine, monkeypatch, "guided", 4096, layer)
    healthy_end, _, [(_, healthy, expected)] = served(make_engine, monkeypatch, "guided", 4096, None)
    assert np.allclose(asked_rows, healthy, atol=1e-5) and healthy.any()
    assert plan.active_rows.tolist() == expected.active_rows.tolist() and expected.repaired_tokens
    assert end.token_ids == healthy_end.token_ids


def test_rows_that_lead_need_no_pages_but_those_held_for_them(make_engine, monkeypatch):
    engine = led(make_engine)
    start, taken = engine._scheduler._start_prefill, []

    def with_full_pages(*given):
        taken.append(engine._pool.allocate(engine._pool.free_tokens))
        start(*given)

    monkeypatch.setattr(engine._scheduler, "_start_prefill", with_full_pages)
    heard = asked(engine, [0, 1, 2, 6], "guided")
    while not heard.done.is_set():
        engine._scheduler.step()
    assert taken and "follow their mean change" in heard.end.report.chunks[0].reason


def test_nor_do_they_when_a_request_starts_again_and_has_to_wait(make_engine, monkeypatch):
    engine = led(make_engine)
    scheduler, waits, failed = engine._scheduler, [], []
    work, can_start = scheduler._work, scheduler._can_start

    def damaging():
        found = work()
        if found and found[0][0].state is State.PREFILL and not failed:
            resident = next(iter(found[0][0].residents.values()))
            resident.failure, resident.ready_layers = "made to fail", 1
            failed.append(resident)
            waits.append(True)
        return found

    monkeypatch.setattr(scheduler, "_work", damaging)
    monkeypatch.setattr(scheduler, "_can_start", lambda *given: not waits and can_start(*given))
    heard = asked(engine, [0, 1, 2, 6], "guided")
    while not failed:
        scheduler.step()
    assert [one.state for one in scheduler._running] == [State.LOADING]
    taken = engine._pool.allocate(engine._pool.free_tokens)
    waits.clear()
    while not heard.done.is_set():
        scheduler.step()
    assert heard.end.finish_reason == "length" and heard.end.report.notes == ("made to fail",)
    assert any("follow their mean change" in chunk.reason for chunk in heard.end.report.chunks)
    engine._pool.release(taken)
