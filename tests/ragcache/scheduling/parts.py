"""Texts, and engines on a toy."""

from __future__ import annotations

import random
import time

from nonet.ragcache.models.toy import toy_model
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.request import SamplingParams
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.store.chunk_store import ChunkStore

WORDS = "row rack breaker budget power clock brake cap server chunk cache token layer head page".split()  # noqa: SIM905
SHORT = SamplingParams(max_tokens=6, ignore_eos=True)


def text_of(seed, num_words=12):
    return " ".join(random.Random(seed).choices(WORDS, k=num_words))


CHUNKS = [text_of(seed) for seed in range(8)]


def toy_engine(store="ram:200MB", **config):
    opened = ChunkStore.from_spec(store) if isinstance(store, str) else store
    return Engine(toy_model(), opened, EngineConfig(max_model_len=1024, **config))


def pages_left(engine, limit_s=20.0):
    """Share of the pages that is still taken when nobody uses any; what is being loaded is waited for."""
    deadline_s = time.monotonic() + limit_s
    engine.drop_pages()
    while engine.pages_used and time.monotonic() < deadline_s:
        time.sleep(0.01)
        engine.drop_pages()
    return engine.pages_used


def key_of(engine, text, system="Be brief."):
    return engine.prompt(system, [text], "x").chunks[0].key
