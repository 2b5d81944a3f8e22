"""Requests: order, purity, shards, Poisson statistics, memory."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from nonet.coldstart.generating import _arrival_kernels as kernels
from nonet.coldstart.generating.presets import generate
from nonet.coldstart.simulating.calls import Calls
from nonet.common.errors import InputError


def whole(blocks: object) -> Calls:
    parts = list(blocks)  # type: ignore[call-overload]
    return Calls(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("arrive_us", "run_us", "function"))
    )


def of_function(calls: Calls, f: int) -> tuple[list[int], list[int]]:
    own = calls.function == f
    return calls.arrive_us[own].tolist(), calls.run_us[own].tolist()


@pytest.mark.parametrize(
    "preset, scale", [("huawei2025:R2", 0.01), ("huawei2025:R5", 0.1), ("poisson:functions=7,rate=0.5", 1)]
)
def test_shards_give_the_same_calls(preset: str, scale: float) -> None:
    workload = generate(preset, days=1, scale=scale, seed=5)
    calls = whole(workload.blocks())
    assert (np.diff(calls.arrive_us) >= 0).all()
    assert calls.arrive_us.min() >= workload.start_us and calls.arrive_us.max() < workload.end_us
    assert calls.run_us.min() >= 1
    shards = [whole(workload.by_function(shard, 3)) for shard in range(3)]
    assert sum(len(part) for part in shards) == len(calls)
    for f in range(len(workload.functions)):
        assert of_function(shards[f % 3], f) == of_function(calls, f)
    assert np.array_equal(workload.function_hashes(1), workload.function_hashes(4))


def test_same_seed_same_bytes_other_seed_other_bytes() -> None:
    def digest(seed: int) -> str:
        total = hashlib.sha256()
        for calls in generate("huawei2025:R2", days=1, scale=0.01, seed=seed).blocks():
            for column in (calls.arrive_us, calls.run_us, calls.function):
                total.update(column.tobytes())
        return total.hexdigest()

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)


def test_a_day_is_a_prefix_of_two() -> None:
    one = whole(generate("huawei2025:R2", days=1, scale=0.01, seed=1).blocks())
    two = whole(generate("huawei2025:R2", days=2, scale=0.01, seed=1).blocks())
    for name in ("arrive_us", "run_us", "function"):
        assert np.array_equal(getattr(two, name)[: len(one)], getattr(one, name))


@pytest.mark.parametrize("kind", [kernels.BURSTS, kernels.STEADY, kernels.POISSON])
def test_windows_do_not_change_the_calls(kind: int) -> None:
    workload = generate("huawei2025:R2", seed=3)
    process = workload.table.process.copy()
    if kind == kernels.POISSON:
        process["kind"], process["size"] = kind, 0.3
    rate = np.where((process["kind"] == kind) & (process["requests"] < 5_000_000), process["requests"], 0)
    f = np.argsort(rate)[-5:].astype(np.int64)
    space = [np.empty(400_000, np.int64), np.empty(400_000, np.int64), np.empty(400_000, np.int32)]

    def calls(start_us: int, end_us: int) -> list[tuple[int, int]]:
        num = kernels.window(process, f, workload._curves, 600_000_000, workload._runs, start_us, end_us, *space)
        assert num <= len(space[0])
        return sorted(zip(space[0][:num].tolist(), space[1][:num].tolist(), strict=True))

    hour = 3_600_000_000
    at_once = calls(30 * hour, 32 * hour)
    assert len(at_once) > 10
    pieces = [calls(30 * hour + i * hour // 30, 30 * hour + (i + 1) * hour // 30) for i in range(60)]
    assert sorted(row for piece in pieces for row in piece) == at_once


def test_poisson_is_poisson() -> None:
    workload = generate("poisson:functions=40,rate=0.05,run_ms=10", days=2, seed=8)
    calls = whole(workload.blocks())
    gaps = np.concatenate([np.diff(calls.arrive_us[calls.function == f]) for f in range(40)]) / 1e6
    assert len(calls) == pytest.approx(40 * 0.05 * 2 * 86_400, abs=4 * np.sqrt(40 * 0.05 * 2 * 86_400))
    assert stats.kstest(gaps[::10], "expon", args=(0, 20.0)).pvalue > 1e-3
    counts = np.bincount(calls.arrive_us // 600_000_000)
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.35)
    assert calls.run_us.mean() == pytest.approx(10_000, rel=0.01)


def test_requests_follow_the_table() -> None:
    workload = generate("huawei2025:R2", scale=0.05, seed=2)
    light = workload.table.process["requests"] < 100_000
    counts = np.zeros(len(light), dtype=np.int64)
    chosen = np.flatnonzero(light).astype(np.int64)
    for calls in workload._stream(chosen):
        counts += np.bincount(calls.function, minlength=len(light))
    wanted = workload.table.process["requests"]
    # All but what falls beyond the end of the month.
    assert (counts[light] <= wanted[light]).all()
    assert counts[light].sum() >= 0.97 * wanted[light].sum()


def test_scale_samples_functions_evenly() -> None:
    whole_table = generate("huawei2025:R2").table.frame
    tenth = generate("huawei2025:R2", scale=0.1).table.frame
    assert tenth.height == round(whole_table.height / 10)
    assert set(tenth["function"]) <= set(whole_table["function"])
    share = whole_table.group_by("trigger").len().sort("trigger")["len"] / whole_table.height
    ours = tenth.group_by("trigger").len().sort("trigger")["len"] / tenth.height
    assert np.abs(share.to_numpy() - ours.to_numpy()).max() < 0.01


@pytest.mark.parametrize("preset, options, message", [
    ("azure", {}, "unknown preset"),
    ("huawei2025:R9", {}, "unknown preset"),
    ("poisson:rate=-1", {}, "positive"),
    ("poisson:speed=1", {}, "speed"),
    ("huawei2025:R2", {"days": 0}, "days"),
    ("huawei2025:R2", {"scale": 0.0}, "scale"),
    ("huawei2025:R2", {"events": "warm"}, "events"),
])  # fmt: skip
def test_bad_input(preset: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        generate(preset, **options)  # type: ignore[arg-type]


def test_cold_only_has_no_requests() -> None:
    with pytest.raises(InputError, match="without requests"):
        next(generate("huawei2025:R2", events="cold").blocks())


def test_memory_does_not_grow_with_requests() -> None:
    program = """
from nonet.common.machine import peak_rss_mib
from nonet.coldstart.generating.presets import generate
blocks = generate("poisson:functions=50,rate=40", days=1, seed=1).blocks()
seen = peak = 0
for block in blocks:
    seen += len(block)
    if not peak and seen > 3_000_000:
        peak = peak_rss_mib()
    if seen > 12_000_000:
        break
print(seen, int(peak_rss_mib() - peak))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    seen, grown_mb = map(int, done.stdout.split())
    assert seen > 12_000_000
    assert grown_mb < 40
