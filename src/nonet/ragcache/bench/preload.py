"""Preloading by layers: how long computing waits for a slow store, and whether L_p is the least that does not wait.

The store is the real one over a disk that is read at a given speed; computing a layer is a sleep of a given time, so
that the machine's load changes nothing.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nonet.common.findings import Finding, Rival
from nonet.ragcache.store.chunk_store import ChunkStore
from nonet.ragcache.store.disk import DiskTier
from nonet.ragcache.store.preload import can_start, preload_layers
from nonet.ragcache.store.throttle import ThrottledTier
from nonet.ragcache.store.variant import ChunkKV, KVLayout, VariantMeta, variant_id_of

SPEEDS_MB_PER_S = (2, 5, 20, 100)
_LAYOUT = KVLayout("bfloat16", 30, 3, 64)
_NUM_CHUNKS = 4
_TOKENS = 60
_LAYER_S = 0.01


@dataclass(frozen=True, slots=True)
class PreloadRun:
    """One request over a slow store.

    Args:
        num_waited_layers: layers that it waited for before it began.
        load_s: until the last layer was there.
        stall_s: waited for layers after it had begun.
        total_s: from opening to the end of computing.
        compute_s: of all layers.
    """

    num_waited_layers: int
    load_s: float
    stall_s: float
    total_s: float
    compute_s: float


def measure_preload(mb_per_s: float, *, num_runs: int = 3, wait_for_all: bool = False) -> list[PreloadRun]:
    """Requests over a store of a given speed, after one that taught the store how fast it is.

    Args:
        mb_per_s: the speed, in 10^6 bytes a second.
        num_runs: requests.
        wait_for_all: begin only when every layer is there, instead of when L_p are.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = ChunkStore([ThrottledTier(DiskTier(folder), mb_per_s * 1e6)], layer_s=_LAYER_S)
        metas = [_meta(chunk) for chunk in range(_NUM_CHUNKS)]
        for meta in metas:
            numbers = torch.zeros(30, _TOKENS, 3, 64, dtype=torch.bfloat16)
            store.submit(meta, ChunkKV(numbers, numbers))
        store.flush(30.0)
        ids = [meta.variant_id for meta in metas]
        _request(store, ids, wait_for_all=True)
        runs = [_request(store, ids, wait_for_all=wait_for_all) for _ in range(num_runs)]
        store.close()
        return runs


def brute_force_layers(num_layers: int, layer_compute: int, layer_load: int) -> int:
    """The fewest layers to wait for, by trying each number on a time line of whole ticks.

    Args:
        num_layers: of the model.
        layer_compute: ticks to compute one.
        layer_load: ticks to load one.

    >>> brute_force_layers(28, 7, 50)
    25
    """
    order = np.arange(num_layers)
    there = (order + 1) * layer_load
    for waited in range(1, num_layers):
        if np.all(there <= waited * layer_load + order * layer_compute):
            return waited
    return num_layers


def share_equal(num_cases: int, seed: int = 0) -> float:
    """Share of random cases in which L_p is what brute force finds.

    Args:
        num_cases: how many.
        seed: of the cases.
    """
    rng = random.Random(seed)
    equal = 0
    for _ in range(num_cases):
        layers, compute, load = rng.randint(1, 100), rng.randint(0, 1000), rng.randint(1, 1000)
        if rng.random() < 0.25:  # whole multiples: the boundaries where rounding matters
            load = max(1, compute) * rng.randint(1, 12)
        equal += preload_layers(layers, layers * compute, layers * load) == brute_force_layers(layers, compute, load)
    return equal / num_cases


def preload_findings(num_runs: int = 3) -> list[Finding]:
    """`preload_stall`, `lp_equals_bruteforce` and `layerwise_vs_load_all`.

    Args:
        num_runs: requests at each speed; medians of them are given.
    """
    what = f"synthetic: {_NUM_CHUNKS} chunks of {_TOKENS} tokens, 30 layers of {_LAYER_S * 1000:.0f} ms"
    by_speed = {speed: measure_preload(speed, num_runs=num_runs) for speed in SPEEDS_MB_PER_S}
    stalls = {speed: statistics.median(run.stall_s / run.compute_s for run in runs) for speed, runs in by_speed.items()}
    layers = ", ".join(
        f"{speed} MB/s: L_p {runs[-1].num_waited_layers}, {stalls[speed]:.1%}" for speed, runs in by_speed.items()
    )
    alike = measure_preload(20, num_runs=num_runs, wait_for_all=True)
    slow_s = statistics.median(run.total_s for run in alike)
    fast_s = statistics.median(run.total_s for run in by_speed[20])
    return [
        Finding(
            "ragcache", "preload_stall", max(stalls.values()), "of compute", "lower", what, promise=0.1, note=layers
        ),
        Finding(
            "ragcache",
            "lp_equals_bruteforce",
            share_equal(20_000),
            "",
            "match",
            "synthetic: 20,000 random cases",
            promise=1.0,
        ),
        Finding(
            "ragcache",
            "layerwise_vs_load_all",
            slow_s / fast_s,
            "x",
            "higher",
            f"{what}, 20 MB/s",
            rivals=(Rival("load all, then compute", 1.0, "measured"),),
            promise=1.3,
            note=f"{fast_s:.3f} s against {slow_s:.3f} s",
        ),
    ]


def _request(store: ChunkStore, ids: Sequence[str], *, wait_for_all: bool) -> PreloadRun:
    prefill_s, expected_s = _LAYER_S * _LAYOUT.num_layers, store.load_time_s(ids)
    opened_s = time.perf_counter()
    readers = [store.open(variant_id) for variant_id in ids]
    num_waited_layers, may_start = 0, False
    while not may_start:
        for reader in readers:
            reader.layer(num_waited_layers)
        num_waited_layers += 1
        elapsed_s = time.perf_counter() - opened_s
        if wait_for_all:
            may_start = num_waited_layers == _LAYOUT.num_layers
        else:
            may_start = can_start(_LAYOUT.num_layers, num_waited_layers, elapsed_s, prefill_s, expected_s)
    stall_s = compute_s = load_s = 0.0
    for layer in range(_LAYOUT.num_layers):
        asked_s = time.perf_counter()
        for reader in readers:
            reader.layer(layer)
        there_s = time.perf_counter()
        time.sleep(_LAYER_S)
        stall_s += there_s - asked_s
        compute_s += time.perf_counter() - there_s
        load_s = there_s - opened_s
    total_s = time.perf_counter() - opened_s
    for reader in readers:
        reader.close()
    return PreloadRun(num_waited_layers, load_s, stall_s, total_s, compute_s)


def _meta(chunk: int) -> VariantMeta:
    return VariantMeta(
        variant_id=variant_id_of(str(chunk), "", ()),
        chunk_key=str(chunk),
        system_key="",
        prefix_keys=(),
        num_tokens=_TOKENS,
        inter_sums=(),
        inter_mean=0.0,
        intra_mean=0.0,
        cci=0.5,
        tau=np.zeros(_TOKENS, np.float16),
        exact=True,
        documents=(),
        tenant="",
        created_s=0.0,
        model="",
        layout=str(_LAYOUT),
        num_bytes=_LAYOUT.num_bytes(_TOKENS),
    )
