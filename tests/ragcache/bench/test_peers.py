"""Beside the rivals: what the comparison is made of; the rivals themselves where they are installed."""

import importlib.util
import random
import sys

import numpy as np
import pytest

from nonet.common.errors import InputError, MissingExtraError
from nonet.ragcache.bench import matches, peers
from nonet.ragcache.bench.matches import Splice, our_matches, random_splice
from nonet.ragcache.models.toy import toy_model
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.store.chunk_store import ChunkStore
from tests.conftest import needs

WORDS = "row rack breaker budget power clock brake cap server chunk cache token layer head page"


def texts_of(number, num_words=30):
    return {f"c{n}": " ".join(random.Random(n).choices(WORDS.split(), k=num_words)) for n in range(number)}


@pytest.fixture
def engine():
    made = Engine(toy_model(), ChunkStore.from_spec("ram:20MB"))
    yield made
    made.stop(0)


def test_chunks_and_system_have_exactly_the_tokens_asked_for(engine):
    chunks = peers.fitted_chunks(engine, texts_of(12), 256, 3)
    system = peers.fitted_system(engine, 128)
    prompt = engine.prompt(system, chunks, "why?")
    assert [one.num_tokens for one in prompt.segments[:-1]] == [128, 256, 256, 256]
    assert len({one.key for one in prompt.chunks}) == 3
    with pytest.raises(InputError, match="not 9; give more"):
        peers.fitted_chunks(engine, texts_of(12), 256, 9)


def test_permuted_is_another_order_of_the_same():
    draws = random.Random(0)
    orders = {tuple(peers.permuted("abc", draws)) for _ in range(200)}
    assert len(orders) == 5 and ("a", "b", "c") not in orders and all(sorted(one) == ["a", "b", "c"] for one in orders)


def test_kvboost_is_warm_and_timed_whole():
    needs(importlib.util.find_spec("kvboost") is not None, "kvboost is not installed")
    found = peers.ttft_vs_kvboost(toy_model(), texts_of(30), chunk_tokens=128, num_chunks=3, num_prompts=1, runs=1)
    assert found.name == "ttft_vs_kvboost" and found.promise == 0.5 and found.value > 0
    assert "hits moved" in found.note and found.rivals[0].value > 0


class FakeLlama:
    """Takes over the 20 first tokens of whatever it is asked."""

    def __init__(self, *_):
        self.asked = []

    def timings(self, ids):
        self.asked.append(ids)
        return {"cache_n": 20, "prompt_ms": 50.0}

    def close(self):
        pass


def test_reused_tokens_are_counted_on_both_sides(monkeypatch):
    made = []
    monkeypatch.setattr(peers, "_LlamaCpp", lambda *given: made.append(FakeLlama(*given)) or made[0])
    monkeypatch.setattr(peers, "packaged_model", lambda: None)
    apart, at_once = peers.reused_vs_llamacpp(toy_model(), texts_of(6, 8), num_prompts=3, per_prompt=3)
    assert (apart.name, apart.promise, at_once.promise) == ("reused_vs_llamacpp", 10.0, None)
    first, again = made[0].asked[:3], made[0].asked[3:]
    assert len(again) == 6 and [sorted(one) for one in again[::2]] == [sorted(one) for one in first]
    assert all(one != two for one, two in zip(again[::2], first, strict=True))
    assert (apart.rivals[0].value, apart.rivals[0].unit) == (60.0, "tokens")
    total = sum(map(len, first))
    ours = round(apart.value * 60)
    assert f"{ours} of {total} prompt tokens reused here" in apart.note and 0.5 * total < ours < total
    assert "prefill of llama.cpp 0.05 s cold" in apart.note


@pytest.mark.slow
def test_llamacpp_itself(smollm2):
    needs(importlib.util.find_spec("xllamacpp") is not None, "xllamacpp is not installed")
    apart, at_once = peers.reused_vs_llamacpp(smollm2, texts_of(8, 70), num_prompts=2, per_prompt=3)
    assert apart.value > 1 and at_once.rivals[0].value > 0


@pytest.mark.parametrize("name", ["kvboost", "xllamacpp", "lmcache"])
def test_a_missing_rival_is_said(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(peers, "packaged_model", lambda: None)
    call = {
        "kvboost": lambda: peers.ttft_vs_kvboost(toy_model(), {}),
        "xllamacpp": lambda: peers.reused_vs_llamacpp(toy_model(), texts_of(4)),
        "lmcache": matches.matches_vs_lmcache,
    }[name]
    with pytest.raises(MissingExtraError, match=f"pip install .*{name}==[0-9]"):
        call()


def brute_force(splice, size):
    found, place = set(), 0
    for ids in splice.stored:
        for start in range(0, len(ids) - size + 1, size):
            places = [
                at for at in range(len(splice.prompt)) if splice.prompt[at : at + size] == ids[start : start + size]
            ]
            found |= {(place + start, places[0])} if places else set()
        place += len(ids)
    return found


def test_our_matches_are_those_of_brute_force():
    draws = np.random.default_rng(3)
    splices = [random_splice(draws, 4, 1000) for _ in range(200)]
    assert all(our_matches(one, 4) == brute_force(one, 4) for one in splices)
    assert sum(len(our_matches(one, 4)) for one in splices) > 200
    assert our_matches(Splice(((1, 2, 3, 4, 5),), (9, 3, 4, 1, 2, 3, 4, 3, 4)), 2) == {(0, 3), (2, 1)}


def test_lmcache_finds_the_same():
    pytest.importorskip("lmcache")
    assert matches.matches_vs_lmcache(num_splices=20).value == 1.0
