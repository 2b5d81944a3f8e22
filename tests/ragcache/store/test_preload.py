"""Preloading: L_p against a time line, the order of reads, speeds as measured."""

from __future__ import annotations

import threading
import time
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.ragcache.bench.preload import measure_preload, share_equal
from nonet.ragcache.store.chunk_store import ChunkStore
from nonet.ragcache.store.layout import pack
from nonet.ragcache.store.preload import BandwidthMeter, can_start, preload_layers
from nonet.ragcache.store.ram import RamTier
from nonet.ragcache.store.reading import Loader
from nonet.ragcache.store.throttle import ThrottledTier
from nonet.ragcache.store.variant import VariantUnavailable
from tests.ragcache.store.parts import assert_reads, make_kv, make_meta

torch.set_num_threads(1)


def stalls(num_layers, prefill_s, load_s, waited):
    """Whether computing waits for a layer when it begins after `waited` layers: one event after the other."""
    compute, load = Fraction(prefill_s) / num_layers, Fraction(load_s) / num_layers
    now = waited * load
    for layer in range(num_layers):
        if (layer + 1) * load > now:
            return True
        now += compute
    return False


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 60), st.floats(0, 10), st.floats(0, 10))
def test_lp_is_the_least_that_does_not_stall(num_layers, prefill_s, load_s):
    waited = preload_layers(num_layers, prefill_s, load_s)
    assert 1 <= waited <= num_layers
    assert not stalls(num_layers, prefill_s, load_s, waited)
    assert waited == 1 or stalls(num_layers, prefill_s, load_s, waited - 1)


def test_lp_equals_brute_force_on_many_cases():
    assert share_equal(3000, seed=5) == 1.0


@pytest.mark.parametrize("case", [(0, 1.0, 1.0), (3, -1.0, 1.0), (3, 1.0, float("nan")), (3, float("inf"), 1.0)])
def test_times_that_make_no_sense(case):
    with pytest.raises(InputError):
        preload_layers(*case)


def test_seconds_that_reads_share_count_once():
    meter = BandwidthMeter(123.0)
    assert meter.bytes_per_s == 123.0
    threads = [threading.Thread(target=lambda: read(meter)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.total_bytes == 4000
    assert 4000 / 0.35 < meter.bytes_per_s <= 4000 / 0.1  # 0.4 s if they were added up


def read(meter):
    with meter.reading(1000):
        time.sleep(0.1)


def test_a_meter_follows_a_change():
    meter = BandwidthMeter(half_life_bytes=1e6)
    for _ in range(10):
        meter.add(1_000_000, 0.1)
    for _ in range(10):
        meter.add(1_000_000, 1.0)
    assert meter.bytes_per_s == pytest.approx(1e6, rel=0.01)


def test_a_throttled_tier_keeps_its_speed_with_many_readers():
    tier = ThrottledTier(RamTier(), 1e6)
    meta = make_meta(tokens=100)  # 38,400 bytes
    tier.put(pack(meta, make_kv(meta)))
    start = time.perf_counter()

    def read_all():
        source = tier.open(meta.variant_id)
        for layer in range(3):
            source.read(layer)

    threads = [threading.Thread(target=read_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.150 < time.perf_counter() - start < 2.0
    with pytest.raises(InputError):
        ThrottledTier(RamTier(), 0.0)


class Noting(RamTier):
    """Notes what is read, in order; the first read waits until the others are queued."""

    is_memory = False

    def __init__(self):
        super().__init__()
        self.reads = []
        self.go = threading.Event()

    def open(self, variant_id):
        source = super().open(variant_id)
        read = source.read

        def noted(layer):
            self.go.wait(5.0)
            self.reads.append((variant_id, layer))
            return read(layer)

        source.read = noted
        return source


def test_layers_of_one_request_arrive_together():
    tier = Noting()
    metas = [make_meta(f"c{i}") for i in range(3)]
    for meta in metas:
        tier.put(pack(meta, make_kv(meta)))
    store = ChunkStore([tier], layer_s=1.0)
    readers = [store.open(meta.variant_id) for meta in metas]
    assert [reader.ready_layers() for reader in readers] == [0, 0, 0]
    tier.go.set()
    for reader, meta in zip(readers, metas, strict=True):
        assert_reads(reader, make_kv(meta))
    assert [layer for _, layer in tier.reads] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    store.close()


def test_a_closed_reader_reads_no_further_and_wakes_who_waits():
    tier = Noting()
    meta = make_meta()
    tier.put(pack(meta, make_kv(meta)))
    store = ChunkStore([tier])
    reader = store.open(meta.variant_id)
    failures = []

    def wait():
        try:
            reader.layer(2)
        except VariantUnavailable as error:
            failures.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    reader.close()
    thread.join(5.0)
    assert len(failures) == 1
    assert "closed" in failures[0]
    tier.go.set()
    assert_reads(store.open(meta.variant_id), make_kv(meta))
    assert len(tier.reads) <= 4
    assert store.stats().faults == {}
    store.close()


def test_load_time_goes_by_what_was_measured():
    tier = ThrottledTier(RamTier(), 1e6)
    meta = make_meta(tokens=200)
    store = ChunkStore([tier])
    store.submit(meta, make_kv(meta))
    store.flush(5.0)
    before_s = store.load_time_s([meta.variant_id, "gone"])
    assert_reads(store.open(meta.variant_id), make_kv(meta))
    after_s = store.load_time_s([meta.variant_id, "gone"])
    assert before_s < 0.001
    assert meta.num_bytes / 1e6 <= after_s < 4 * meta.num_bytes / 1e6
    stats = store.stats().tiers[0]
    assert (stats.num_opened, stats.read_bytes) == (1, meta.num_bytes)
    store.close()


def test_what_is_in_memory_loads_in_no_time():
    store = ChunkStore([RamTier()])
    meta = make_meta()
    store.submit(meta, make_kv(meta))
    store.flush(5.0)
    reader = store.open(meta.variant_id)
    assert reader.ready_layers() == 3
    assert store.load_time_s([meta.variant_id]) == 0.0
    assert reader.layer(0)[0].data_ptr() == store.open(meta.variant_id).layer(0)[0].data_ptr()  # no copy
    store.close()


def test_a_loader_closes_while_jobs_wait():
    loader = Loader("test", 1)
    started, go = threading.Event(), threading.Event()
    done = []

    def first():
        started.set()
        go.wait(5.0)

    loader.add(0.0, first)
    loader.add(1.0, lambda: done.append(1))
    started.wait(5.0)
    closer = threading.Thread(target=loader.close)
    closer.start()
    time.sleep(0.02)
    go.set()
    closer.join(5.0)
    assert not closer.is_alive()
    assert done == []


def test_computing_hardly_waits_for_a_slow_store():
    (run,) = measure_preload(20, num_runs=1)
    assert 1 <= run.num_waited_layers <= 30
    assert run.compute_s >= 0.3
    assert (
        run.stall_s + run.compute_s <= run.total_s
    )  # how little it waits, the bench says: here the machine may be busy


def test_starting_is_judged_by_what_came_so_far():
    assert can_start(10, 10, 99.0, 0.0, 99.0)
    assert not can_start(10, 0, 0.0, 1.0, 0.0)
    # Expected to load in no time, but it takes 1 s a layer, as long as computing one: L_p is 1 only if that holds.
    assert can_start(10, 1, 1.0, 10.0, 0.0)
    assert not can_start(10, 1, 2.0, 10.0, 0.0)
    for ready in range(1, 11):  # twice as slow as computing: half of the way must be done
        assert can_start(10, ready, 2.0 * ready, 10.0, 0.0) == (ready >= preload_layers(10, 10.0, 20.0))
