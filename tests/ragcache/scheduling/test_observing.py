"""An engine that observes nothing is a prefix cache: faster, exact, and its variants deceive nobody."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nonet.common.errors import InputError
from nonet.ragcache.engine.observing import Observer
from nonet.ragcache.models.toy import toy_model
from nonet.ragcache.reuse.modes import MODES
from nonet.ragcache.reuse.planner import Planner
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.prompting import ChunkText
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.store.chunk_store import ChunkStore
from tests.ragcache.scheduling.parts import CHUNKS, SHORT, key_of


def stored(engine, numbers=range(8)):
    return [one for number in numbers for one in engine.store.variants(key_of(engine, CHUNKS[number]))]


def test_a_prefix_cache_observes_nothing_and_is_exact(make_engine, monkeypatch):
    rows = []
    observe = Observer.observe
    monkeypatch.setattr(Observer, "observe", lambda self, *shown: (rows.append(1), observe(self, *shown)))
    blind, watched = make_engine(mode="prefix", observe=False), make_engine(mode="prefix")
    answers = {}
    for engine in (blind, watched):
        rows.clear()
        for group in (CHUNKS[:3], CHUNKS[:2], [CHUNKS[0], CHUNKS[4]]):
            done = engine.generate("Be brief.", group, "why?", params=SHORT)
            engine.finish_background()
            answers.setdefault(engine, []).append((done.token_ids, [one.decision for one in done.report.chunks]))
        assert bool(rows) == (engine is watched)
    assert answers[blind] == answers[watched]
    assert [one for _, one in answers[blind]] == [["computed"] * 3, ["prefix"] * 2, ["prefix", "computed"]]
    assert len(stored(blind)) == len(stored(watched)) == 4
    assert not any(one.observed for one in stored(blind)) and all(one.observed for one in stored(watched))
    for ours, theirs in zip(stored(blind), stored(watched), strict=True):
        assert (ours.variant_id, ours.num_bytes) == (theirs.variant_id, theirs.num_bytes)
        assert not ours.tau.any() and not any(ours.inter_sums) and np.isfinite(ours.cci)


@pytest.mark.parametrize("mode", [name for name in MODES if MODES[name].lookup == "any"])
def test_modes_that_need_statistics_are_refused(make_engine, mode):
    with pytest.raises(InputError, match="needs statistics of attention"):
        EngineConfig(mode=mode, observe=False)
    engine = make_engine(mode="prefix", observe=False)
    with pytest.raises(InputError, match="let the engine observe"):
        engine.generate("", [CHUNKS[0]], "why?", mode)


def test_what_was_not_observed_is_not_taken_over_and_is_computed_again(make_engine, tmp_path):
    spec = f"disk:{tmp_path}:100MB"
    blind = make_engine(spec, mode="prefix", observe=False)
    blind.generate("Be brief.", CHUNKS[:3], "why?", params=SHORT)
    blind.finish_background()
    blind.stop(0)
    engine = make_engine(spec)
    assert len(stored(engine)) == 3 and not any(one.observed for one in stored(engine))
    for mode in ("reuse", "guided", "prefix"):
        planned = engine.planner.plan(engine.prompt("Be brief.", CHUNKS[:3][::-1], "why?"), mode)
        assert {part.decision for part in planned.segments} == {"computed"}
    late = [ChunkText(text, f"c{number}", f"d{number}") for number, text in enumerate(CHUNKS[:3])]
    engine.store.named([(key_of(engine, CHUNKS[2]), "late")])
    report = engine.generate("Be brief.", late, "why?", "guided", params=SHORT).report
    assert {chunk.decision for chunk in report.chunks} == {"computed"}
    engine.finish_background()
    assert len(stored(engine)) == 3 and all(one.observed and one.tau.any() for one in stored(engine, [1, 2]))
    assert all(one.observed for one in stored(engine))
    engine.store.check_integrity()
    report = engine.generate("Be brief.", CHUNKS[:3], "why?", "guided", params=SHORT).report
    assert {chunk.decision for chunk in report.chunks} == {"prefix"}
    assert engine.invalidate("late") == 1
    engine.stop(0)
    again = make_engine(spec, mode="prefix", observe=False)
    assert len(stored(again)) == 2 and all(one.observed for one in stored(again))
    report = again.generate("Be brief.", CHUNKS[:2], "why?", params=SHORT).report
    assert {chunk.decision for chunk in report.chunks} == {"prefix"}


def test_statistics_are_never_replaced_by_none(make_engine):
    store = ChunkStore.from_spec("ram:100MB")
    engine = make_engine(store)
    engine.generate("Be brief.", CHUNKS[:2], "why?", "full", params=SHORT)
    engine.finish_background()
    before = stored(engine)
    blind = Engine(toy_model(), store, EngineConfig(max_model_len=1024, mode="full", observe=False))
    blind.generate("Be brief.", CHUNKS[:2], "why?", params=SHORT)
    blind.finish_background()
    assert [one.observed for one in stored(engine)] == [True, True]
    assert [one is other for one, other in zip(stored(engine), before, strict=True)] == [True, True]


def test_a_planner_for_a_prefix_cache_uses_both_kinds(make_engine):
    engine = make_engine()
    engine.generate("Be brief.", CHUNKS[:2], "why?", "full", params=SHORT)
    engine.finish_background()

    class Half:
        def variants(self, chunk_key):
            found = engine.store.variants(chunk_key)
            return [replace(one, observed=not one.prefix_keys) for one in found]

    prompt = engine.prompt("Be brief.", CHUNKS[:2], "why?")
    for observed_only, mode, decisions in [
        (False, "prefix", ["prefix", "prefix"]),
        (False, "set", ["prefix", "prefix"]),
        (False, "reuse", ["prefix", "computed"]),
        (True, "prefix", ["prefix", "computed"]),
    ]:
        plan = Planner(Half(), observed_only=observed_only).plan(prompt, mode)
        assert [part.decision for part in plan.segments[1:-1]] == decisions, (observed_only, mode)


def test_what_was_observed_since_it_was_saved_is_forgotten():
    observer = Observer(torch.tensor([0, 0, 1, 1]), num_segments=2, num_layers=3, question=1)

    def sums():
        return [one.clone() for one in (observer.sums, observer.onto, observer.received, observer.asked)]

    def show():
        observer.observe(1, torch.tensor([2, 3]), torch.arange(4), torch.full((2, 4), 0.25))

    show()
    before, saved = sums(), observer.saved()
    show()
    assert not any(torch.equal(one, other) for one, other in zip(sums(), before, strict=True))
    observer.restore(saved)
    assert all(torch.equal(one, other) for one, other in zip(sums(), before, strict=True))
