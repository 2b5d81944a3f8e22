"""Isolation: what the findings say of a sound engine, and that they notice contamination."""

import numpy as np
import pytest
import torch

from nonet.common.errors import InputError
from nonet.ragcache.bench import isolation
from nonet.ragcache.bench.isolation import concurrent_equals_serial, own_kv, store_uncontaminated, variant_differences
from nonet.ragcache.bench.questions import Case
from nonet.ragcache.models.toy import toy_model
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.store.chunk_store import ChunkStore
from nonet.ragcache.store.variant import ChunkKV
from tests.ragcache.engine.dense import dense
from tests.ragcache.reuse.parts import make_meta

TEXTS = {f"c{n}": f"passage {n} says {n * n} and " * 2 for n in range(8)}
CASES = [Case(f"question {n}?", "", tuple(f"c{(n * k + k) % 8}" for k in (1, 2, 3))) for n in range(12)]
CASES = [case for case in CASES if len(set(case.chunks)) == 3]


def test_requests_at_once_answer_as_alone():
    same, pages = concurrent_equals_serial(toy_model(), TEXTS, max_tokens=6, rounds=2)
    assert (same.value, pages.value, same.kept, pages.kept) == (1.0, 1.0, True, True)
    assert "repairs of 6% to 50%" in same.note and " 0 rows repaired" not in same.note


def test_answers_that_differ_are_counted(monkeypatch):
    honest = isolation._at_once
    monkeypatch.setattr(isolation, "_at_once", lambda *given: [(0,), *honest(*given)[1:]])
    same, _ = concurrent_equals_serial(toy_model(), TEXTS, num_requests=4, max_tokens=4, rounds=1)
    assert same.value == 0.75 and same.kept is False


def test_pages_that_were_written_to_are_noticed(monkeypatch):
    honest = isolation._at_once

    def write(engine, *given):
        answers = honest(engine, *given)
        engine._pool.values[1, next(iter(engine._scheduler.residency._known.values())).blocks.slots[0]] += 1e-6
        return answers

    monkeypatch.setattr(isolation, "_at_once", write)
    same, pages = concurrent_equals_serial(toy_model(), TEXTS, num_requests=2, max_tokens=4, rounds=1)
    assert same.value == 1.0 and 0 < pages.value < 1.0


def test_the_store_holds_exact_variants_only():
    pytest.importorskip("transformers")
    found = store_uncontaminated(toy_model(), CASES, TEXTS, num_requests=len(CASES), max_tokens=2, store="ram:50MB")
    assert found.value == 1.0 and "transformers" in found.note
    assert int(found.input.split(" variants")[0].split()[-1]) >= 8


def test_a_model_without_a_twin_is_computed_by_its_own_forward(make_tiny):
    model = toy_model(make_tiny("qwen3"))
    found = store_uncontaminated(model, CASES, TEXTS, num_requests=3, max_tokens=2, store="ram:50MB")
    assert found.value == 1.0 and "our forward" in found.note


def test_repaired_rows_in_the_store_would_be_noticed():
    model = toy_model()
    store = ChunkStore.from_spec("ram:50MB")
    engine = Engine(model, store, EngineConfig(background=False))
    engine.warm("s", [["first words", "second words"]])
    engine.finish_background()
    prompt = engine.prompt("s", ["first words", "second words"], "?")
    ids_of = {one.key: prompt.ids[one.start : one.stop].tolist() for one in prompt.segments[:-1]}
    variants = [meta for key in ids_of for meta in store.variants(key)]
    assert len(variants) == 3
    honest = variant_differences(store, variants, ids_of, lambda ids: own_kv(model, ids))
    assert max(honest.values()) < 1e-5

    copy = ChunkStore.from_spec("ram:50MB")
    for meta in variants:
        reader = store.open(meta.variant_id)
        layers = [reader.layer(layer) for layer in range(4)]
        keys, values = (torch.stack(part).clone() for part in zip(*layers, strict=True))
        if meta.prefix_keys:
            keys[2, 5, 0, 7] += 0.01
        copy.submit(meta, ChunkKV(keys, values))
        reader.close()
    copy.flush()
    found = variant_differences(copy, variants, ids_of, lambda ids: own_kv(model, ids))
    wrong = {name for name, difference in found.items() if difference > 1e-3}
    assert wrong == {meta.variant_id for meta in variants if meta.prefix_keys}
    assert found[wrong.pop()] == pytest.approx(0.01, abs=1e-4)
    engine.stop(0)
    copy.close()


def test_a_variant_behind_unknown_chunks_is_no_silent_success():
    store = ChunkStore.from_spec("ram:1MB")
    with pytest.raises(InputError, match="whose ids are not known"):
        variant_differences(store, [make_meta("c", ("nobody knows",))], {"sys": [1], "c": [2]}, lambda _: None)
    store.close()


def test_own_kv_is_the_dense_model(tiny_model):
    ids = np.random.default_rng(0).integers(0, 256, 40).tolist()
    keys, values = own_kv(toy_model(tiny_model), ids)
    _, dense_keys, dense_values, _ = dense(tiny_model, torch.tensor(ids))
    assert float((keys - dense_keys).abs().max()) < 1e-4 and float((values - dense_values).abs().max()) < 1e-4
