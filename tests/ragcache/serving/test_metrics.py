"""What the metrics count, without a server."""

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from nonet.ragcache.models.toy import toy_model
from nonet.ragcache.scheduling import running
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.request import RequestReport, SamplingParams
from nonet.ragcache.serving.app import ServerConfig
from nonet.ragcache.serving.merging import merged_metrics
from nonet.ragcache.serving.metrics import Metrics
from nonet.ragcache.serving.routing import RoutingStats
from nonet.ragcache.serving.server import ServedEngine
from nonet.ragcache.store.chunk_store import ChunkStore
from nonet.ragcache.store.stats import StoreStats, TierStats


def report(prefix, reused, repaired, computed):
    total = prefix + reused + repaired + computed
    return RequestReport("r", "reuse", total, prefix, reused, repaired, computed, 0, 3, 0.0, 0.1, 0.2, ())


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, {"model_name": "m", **labels})


def test_hit_rate_is_of_the_last_hundred_requests():
    metrics = Metrics("m", lmcache=True)
    assert value(metrics, "lmcache:retrieve_hit_rate") == 0.0
    for _ in range(5):
        metrics.finished(report(10, 50, 20, 20), "stop")
    assert value(metrics, "lmcache:retrieve_hit_rate") == 0.8
    for _ in range(100):
        metrics.finished(report(0, 0, 0, 7), "stop")
    assert value(metrics, "lmcache:retrieve_hit_rate") == 0.0
    assert value(metrics, "lmcache:num_hit_tokens_total") == 400.0
    assert value(metrics, "lmcache:num_requested_tokens_total") == 1200.0


def test_requests_whose_reuse_was_refused_are_counted():
    metrics = Metrics("m")
    for abstained in (False, True, True):
        metrics.finished(replace(report(0, 0, 0, 9), abstained=abstained), "stop")
    assert value(metrics, "nonet_ragcache_abstained_requests_total") == 2


def test_each_tier_counts_as_one_place_of_lmcaches():
    used = {"ram": 10, "disk": 200, "redis": 3000, "s3": 40000}
    metrics = Metrics("m", lmcache=True)
    metrics.watch_store(lambda: used)
    assert value(metrics, "nonet_ragcache_stored_bytes", tier="redis") == 3000
    assert value(metrics, "lmcache:local_cache_usage") == 10
    assert value(metrics, "lmcache:local_storage_usage") == 200
    assert value(metrics, "lmcache:remote_cache_usage") == 43000
    used["ram"] = 11
    assert value(metrics, "lmcache:local_cache_usage") == 11


@pytest.mark.parametrize("others", [{}, {"vllm": True}, {"lmcache": True}])
def test_names_of_others_are_shown_when_asked_for(others):
    metrics = Metrics("m", **others)
    metrics.watch_store(lambda: {"ram": 1})
    shown = {name.partition(":")[0] for name in (family.name for family in metrics.registry.collect()) if ":" in name}
    assert shown == set(others)


def test_tiers_show_what_they_may_hold_and_what_failed():
    def stats():
        tiers = tuple(TierStats(name, 0, 0, size, 0, 0, 0.0, True) for name, size in capacity.items())
        return StoreStats(0, 0, tiers, {}, faults, 0)

    capacity, faults = {"ram": None, "disk": 100}, {}
    metrics = Metrics("m")
    metrics.watch_tiers(stats)
    assert value(metrics, "nonet_ragcache_store_capacity_bytes", tier="ram") == float("inf")
    assert value(metrics, "nonet_ragcache_store_capacity_bytes", tier="disk") == 100
    assert value(metrics, "nonet_ragcache_store_faults", tier="disk", kind="full") == 0
    capacity["disk"], faults["disk: full"] = 60, 3
    assert value(metrics, "nonet_ragcache_store_capacity_bytes", tier="disk") == 60
    assert value(metrics, "nonet_ragcache_store_faults", tier="disk", kind="full") == 3
    assert value(metrics, "nonet_ragcache_store_faults", tier="ram", kind="full") == 0


def test_merged_metrics_do_not_say_when_a_counter_began():
    registry = CollectorRegistry()
    Counter("served", "Requests.", registry=registry).inc(3)
    text = generate_latest(registry).decode()
    assert "served_created" in text
    page = merged_metrics({"one": text, "two": text}, RoutingStats(2, 0, 0, 0), "")[0].decode()
    assert 'served_total{replica="one"} 3.0' in page and 'served_total{replica="two"} 3.0' in page
    assert "served_created" not in page


def test_a_stall_between_two_tokens_is_one_long_gap_among_short_ones(monkeypatch):
    engine = Engine(toy_model(), ChunkStore.from_spec("ram:10MB"))
    metrics = ServedEngine(engine, ServerConfig("m"), metrics_compat=("vllm",)).metrics
    now, step, steps = [100.0], engine._scheduler.step, iter(range(10**6))
    monkeypatch.setattr(running.time, "monotonic", lambda: now[0])

    def slow():
        now[0] += 3.0 if next(steps) == 5 else 0.001
        return step()

    monkeypatch.setattr(engine._scheduler, "step", slow)
    engine.generate("", ["a chunk"], "q?", params=SamplingParams(max_tokens=10, ignore_eos=True))
    for name in ("nonet_ragcache_inter_token_latency_seconds", "vllm:inter_token_latency_seconds"):
        assert value(metrics, f"{name}_count") == 9
        assert value(metrics, f"{name}_bucket", le="0.005") == value(metrics, f"{name}_bucket", le="2.5") == 8
        assert value(metrics, f"{name}_sum") == pytest.approx(3.008)
    monkeypatch.undo()
    engine.stop(0)
