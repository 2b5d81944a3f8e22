"""Results that are known from elsewhere: closed forms, peers, published tables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nonet.coldstart.bench import simulator as bench

AZURE = Path(os.environ.get("NONET_MIRROR", "../shared/data")) / "coldstart/azure2019_femux"


def test_poisson() -> None:
    assert bench.poisson_sigma(10_000_000) <= 4


def test_simfaas_example() -> None:
    found = bench.simfaas_example(2_000_000)
    assert abs(found["cold"] - 0.0014) <= 0.0003
    assert abs(found["servers"] / 7.67 - 1) <= 0.02
    assert abs(found["running"] / 1.79 - 1) <= 0.01


def test_libcachesim_lru_and_gdsf() -> None:
    pytest.importorskip("libcachesim")
    workload = bench.cache_workload(20_000)
    for cap_mb in (10_000, 30_000, 100_000):
        for eviction, name, within in ((bench.Eviction.LRU, "LRU", 0.0), (bench.Eviction.GREEDY_DUAL, "GDSF", 0.02)):
            ours = bench.simulate(workload, bench.CachePolicy(eviction, cap_mb, cost_us=1.0), record="none")
            theirs, _ = bench.libcachesim_misses(name, workload, cap_mb)
            assert ours.num_dropped == 0
            assert abs(ours.num_cold / theirs - 1) <= within


def test_azure_apps() -> None:
    if not AZURE.is_dir():
        message = f"{AZURE} is not there; set NONET_MIRROR"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    found = bench.azure_100_apps(AZURE)
    assert found["total"] == 10_639
    assert found["same_apps"] >= 93
