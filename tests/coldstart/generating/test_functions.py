"""Region 2's functions: a simulation written here gives the published cold starts (E4)."""

from __future__ import annotations

import csv
import heapq
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from published_curves import FOLDER

from nonet.coldstart._random_kernels import mix64
from nonet.coldstart.generating._count_kernels import count_cold
from nonet.coldstart.generating.curves import table
from nonet.coldstart.generating.functions import other_region, region_2
from nonet.coldstart.generating.presets import generate
from nonet.coldstart.generating.stream import GeneratedWorkload
from nonet.coldstart.simulating.engine import simulate


def plain_cold(
    arrive: list[int], run: list[int], concurrency: int, cold_us: np.ndarray, seed: int, f: int
) -> list[int]:
    """Keep-alive 60 s from the end of the last request, most recently used pod first; one object a pod."""
    pods: list[dict[str, int]] = []
    ends: list[tuple[int, int, int]] = []
    cold = []
    for i, (now, duration) in enumerate(zip(arrive, run, strict=True)):
        while ends and ends[0][0] <= now:
            end, _, k = heapq.heappop(ends)
            pods[k]["busy"] -= 1
            pods[k]["used"] = max(pods[k]["used"], end)
        ready = [k for k, pod in enumerate(pods) if pod["ready"] <= now and pod["busy"] < concurrency
                 and (pod["busy"] > 0 or pod["used"] + 60_000_000 >= now)]  # fmt: skip
        if ready:
            k, begin = max(ready, key=lambda k: pods[k]["used"]), now
        else:
            begin = now + int(cold_us[mix64(seed, f, len(cold)) % len(cold_us)])
            cold.append(now)
            k = len(pods)
            pods.append({"busy": 0, "ready": begin, "used": now})
        pods[k]["busy"] += 1
        pods[k]["used"] = now
        heapq.heappush(ends, (begin + duration, i, k))
    return cold


def calls_of(workload: GeneratedWorkload, f: int) -> tuple[np.ndarray, np.ndarray]:
    parts = list(workload._stream(np.array([f], dtype=np.int64)))
    return np.concatenate([c.arrive_us for c in parts]), np.concatenate([c.run_us for c in parts])


@pytest.mark.parametrize("concurrency", [1, 3])
def test_the_count_used_for_fitting_is_an_honest_simulation(concurrency: int) -> None:
    random = np.random.default_rng(1)
    for _ in range(30):
        arrive = np.sort(random.integers(0, 4_000, 200)) * 500_000
        run = random.integers(0, 20_000_000, 200)
        cold_us = random.integers(1_000, 9_000_000, 7)
        ours = count_cold(arrive, run, 60_000_000, concurrency, cold_us, 0, 5)
        assert ours.tolist() == plain_cold(arrive.tolist(), run.tolist(), concurrency, cold_us, 0, 5)


def test_published_columns_are_those_of_figure_14(mirror: Path) -> None:
    with (mirror / FOLDER / "fig14_r2_functions.csv").open(newline="") as file:
        drawn = [(row["trigger"], round(float(row["requests_31d"])), round(float(row["cold_starts_31d"])))
                 for row in csv.DictReader(file)]  # fmt: skip
    frame = region_2()
    ours = list(frame.select("trigger", "requests", "cold_starts").iter_rows())
    assert len(ours) == 2418
    left = list(ours)
    for row in drawn:
        left.remove(row)
    assert len(left) == 74
    assert max(requests for _, requests, _ in left) <= 62


def test_a_sample_of_functions_gives_its_published_cold_starts() -> None:
    workload = generate("huawei2025:R2", scale=0.1, seed=11)
    frame = workload.table.frame
    chosen = [f for f in range(frame.height) if frame["requests"][f] < 300_000]
    times = workload.cold_times
    ours = np.zeros(len(chosen))
    for place, f in enumerate(chosen):
        arrive, run = calls_of(workload, f)
        cold_us = (times.allocation_us + times.rest_us)[times.at[f] : times.at[f + 1]]
        ours[place] = len(count_cold(arrive, run, 60_000_000, frame["concurrency"][f], cold_us, 11, f))
    wanted = frame["cold_starts"].to_numpy()[chosen].astype(float)
    trigger = frame["trigger"].to_numpy()[chosen]
    assert ours.sum() == pytest.approx(wanted.sum(), rel=0.05)
    for name in set(trigger):
        assert ours[trigger == name].sum() == pytest.approx(wanted[trigger == name].sum(), rel=0.10), name
    assert np.corrcoef(np.log(np.maximum(ours, 0.5)), np.log(wanted))[0, 1] >= 0.95
    timers = trigger == "TIMER-A"
    near = np.abs(ours - wanted) <= np.maximum(2, 0.01 * wanted)
    assert near[timers].mean() >= 0.9


def test_timers_are_periodic() -> None:
    workload = generate("huawei2025:R2", seed=2)
    frame = workload.table.frame
    timers = [f for f in range(frame.height) if frame["trigger"][f] == "TIMER-A" and 700 < frame["requests"][f] < 800]
    assert timers
    spreads = []
    for f in timers[:20]:
        gaps = np.diff(calls_of(workload, f)[0]) / 1e6
        spreads.append(gaps.std() / gaps.mean())
    assert np.median(spreads) < 0.001


@pytest.mark.parametrize("region", ["R1", "R3", "R4", "R5"])
def test_the_functions_of_a_region_have_its_published_cold_starts(region: str) -> None:
    published = table("hours").filter(pl.col("region") == region)["cold_starts"].sum()
    assert other_region(region)["cold_starts"].sum() == pytest.approx(published, rel=0.01)


def test_simulated_arrivals_of_region_3_are_as_cold_as_its_functions_say() -> None:
    # All but the twelve functions that have nearly all of 28 billion requests.
    workload = generate("huawei2025:R3", seed=2)
    requests = workload.table.process["requests"]
    few = workload.only(np.sort(np.argsort(requests, kind="stable")[: len(requests) - 12]))
    expected = few.table.frame["cold_starts"].sum()
    assert simulate(few, "ka:60", record="none", shards=2).num_cold == pytest.approx(expected, rel=0.02)


def test_cold_times_of_custom_images_are_made_from_scratch() -> None:
    workload = generate("huawei2025:R2")
    times, functions = workload.cold_times, workload.functions
    custom = [f for f, name in enumerate(functions.runtime) if name == "Custom"]
    assert (functions.pool_class[custom] == -1).all()
    samples = np.concatenate([times.allocation_us[times.at[f] : times.at[f + 1]] for f in custom])
    assert (samples > 8_000_000).mean() > 0.9
    assert workload.cold_parts is not None
    assert np.array_equal(workload.cold_parts.sum(axis=1), times.rest_us)
