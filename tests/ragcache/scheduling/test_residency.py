"""Variants that are brought into pages: what is held while that fails, or while they are dropped from the store."""

import time

import pytest
import torch

from nonet.ragcache.engine.paging import BlockPool
from nonet.ragcache.models.toy import toy_config
from nonet.ragcache.scheduling.residency import Residency
from nonet.ragcache.store.chunk_store import ChunkStore
from nonet.ragcache.store.variant import ChunkKV, VariantUnavailable
from tests.ragcache.reuse.parts import make_meta

CONFIG, TOKENS = toy_config(), 10


@pytest.fixture
def held(tmp_path):
    """A pool, and a store on disk with one variant."""
    store = ChunkStore.from_spec(f"disk:{tmp_path}:10MB")
    shape = CONFIG.num_layers, TOKENS, CONFIG.num_kv_heads, CONFIG.head_dim
    kv = ChunkKV(torch.randn(shape), torch.randn(shape))
    layout = f"float32/{CONFIG.num_layers}x{CONFIG.num_kv_heads}x{CONFIG.head_dim}"
    meta = make_meta("C", ("X",), tokens=TOKENS, layout=layout, num_bytes=2 * 4 * kv.keys.numel())
    store.submit(meta, kv)
    assert store.flush()
    pool = BlockPool(CONFIG, 16)
    residency = Residency(pool, store, CONFIG.num_layers)
    yield residency, store, pool, meta, kv
    residency.close()
    store.close()


def pinned(store):
    """Variants that may not be evicted, since somebody reads them."""
    deadline_s = time.monotonic() + 10
    while store._index._pinned and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return store._index._pinned


def test_pages_hold_what_is_stored_and_it_may_be_evicted_again(held):
    residency, store, pool, meta, kv = held
    resident = residency.acquire(meta)
    residency.wait(resident, CONFIG.num_layers)
    keys, values = pool.read(resident.blocks.slots)
    assert torch.equal(keys, kv.keys) and torch.equal(values, kv.values)
    assert pinned(store) == set() and residency.acquire(meta) is resident


def test_nothing_is_held_for_what_is_gone(held):
    residency, store, pool, _, _ = held
    before = pool.free_tokens
    with pytest.raises(VariantUnavailable):
        residency.acquire(make_meta("C", ("Z",), tokens=TOKENS))
    assert pool.free_tokens == before and pinned(store) == set() and not residency._known


def test_nothing_is_held_for_what_is_damaged(held, tmp_path):
    residency, store, pool, meta, _ = held
    before = pool.free_tokens
    path = next(one for one in tmp_path.rglob("*") if one.is_file() and meta.variant_id in one.name)
    data = path.read_bytes()
    half = len(data) // 2  # some bytes are padding, so all of the second half are changed
    path.write_bytes(data[:half] + bytes(255 - one for one in data[half:]))
    resident = residency.acquire(meta)
    with pytest.raises(VariantUnavailable, match="checksum"):
        residency.wait(resident, CONFIG.num_layers)
    residency.release(resident)
    assert pinned(store) == set() and pool.free_tokens == before


def test_what_is_dropped_while_it_is_opened_is_found_by_nobody(held, monkeypatch):
    residency, store, pool, meta, _ = held
    before, opened = pool.free_tokens, store.open

    def dropped_meanwhile(variant_id):
        reader = opened(variant_id)
        store.invalidate(chunk_key="C")
        residency.forget({variant_id})
        return reader

    monkeypatch.setattr(store, "open", dropped_meanwhile)
    resident = residency.acquire(meta)
    assert resident.is_dropped and not residency._known
    while resident.is_loading:
        time.sleep(0.001)
    residency.release(resident)
    assert pool.free_tokens == before


@pytest.mark.parametrize("again", [None, 0, 1])
def test_pages_go_back_that_have_been_unused_longest(held, again):
    _, store, _, meta, kv = held
    metas = [
        make_meta(f"C{number}", tokens=TOKENS, layout=meta.layout, num_bytes=meta.num_bytes) for number in range(3)
    ]
    for meta in metas:
        store.submit(meta, kv)
    assert store.flush()
    pool = BlockPool(CONFIG, 3)
    residency = Residency(pool, store, CONFIG.num_layers)
    for meta in metas if again is None else [*metas, metas[again]]:
        resident = residency.acquire(meta)
        residency.wait(resident, CONFIG.num_layers)
        while residency.is_loading:
            time.sleep(0.001)
        residency.release(resident)
    residency.make_room(pool.block_tokens)
    oldest = 1 if again == 0 else 0
    assert set(residency._known) == {meta.variant_id for meta in metas} - {metas[oldest].variant_id}
    residency.close()
