"""What the simulator reaches: speed beside vLLM-SR's fleet simulator, six weeks of a row, equality with plain models.

All input is synthetic. A rival runs in the same process on the same arrivals, lengths and number of instances.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from nonet.common.console import note
from nonet.common.errors import MissingExtraError
from nonet.common.findings import Better, Finding, Rival
from nonet.common.machine import peak_rss_mib
from nonet.power.bench.plain_row import PlainRow
from nonet.power.load.base_row import load_base_row
from nonet.power.load.requests import RequestLoad
from nonet.power.policies import Polca, Priority
from nonet.power.profiles import PROFILES, PowerProfile
from nonet.power.simulating.engine import simulate
from nonet.power.simulating.row import Row
from nonet.power.simulating.state import RowState

Scale = Literal["quick", "full"]
PROFILE = "a100-bloom-176b-tp8"
DAY_S = 86_400.0
PEAK = 0.79


def simulator_findings(scale: Scale = "quick") -> list[Finding]:
    """Every finding of the simulator; a rival that is not installed leaves its own out."""
    findings = [*_six_weeks(scale), *_fitted_row(scale), *_linear(), *_exact()]
    return [*findings, *_unless_missing(_simpy), *_unless_missing(_speed)]


def _unless_missing(measure: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return measure()
    except MissingExtraError as error:
        note(f"bench: {error}")
        return []


def poisson_load(num: int, rate_per_s: float, seed: int = 0) -> RequestLoad:
    """Poisson arrivals with prompts of 512 to 4096 and outputs of 128 to 512 tokens, half of them low priority."""
    rng = np.random.Generator(np.random.Philox(seed))
    arrival_s = np.cumsum(rng.exponential(1.0 / rate_per_s, num))
    return _with_lengths(arrival_s, rng)


def daily_load(num: int, days: float, seed: int = 0) -> RequestLoad:
    """The same with a rate that swings between 0.3 and 1.7 of its mean within a day; about `num` requests."""
    rng = np.random.Generator(np.random.Philox(seed))
    times = np.sort(rng.uniform(0.0, days * DAY_S, int(num * 1.7)))
    keep = rng.random(len(times)) * 1.7 < 1.0 + 0.7 * np.sin(2 * np.pi * times / DAY_S)
    return _with_lengths(times[keep], rng)


def _with_lengths(arrival_s: np.ndarray, rng: np.random.Generator) -> RequestLoad:
    num = len(arrival_s)
    prompts, outputs = rng.integers(512, 4097, num), rng.integers(128, 513, num)
    return RequestLoad.of(arrival_s, prompts, outputs, priority=rng.integers(0, 2, num))


def _seconds(run: Callable[[], object], repeats: int = 3) -> float:
    # The best of some: whatever else runs on the machine only adds.
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def speed_vs_vllm_sr_sim(num_requests: int = 100_000, num_instances: int = 40) -> dict[str, float]:
    """Requests/s of ours, of `Fleet.run`, and the ratio; all instances have 16 slots.

    The rival has one pool, its A100 profile and its fastest way to choose an instance (the faster of round robin and
    least queue), and builds its request objects before the clock starts. Ours makes its arrays within it.

    Raises:
        MissingExtraError: vllm-sr-sim is not installed.
    """
    load = poisson_load(num_requests, 0.05 * num_instances)
    row = Row.uniform(num_instances, PROFILES[PROFILE], budget_w=1e6)
    simulate(row, load.select(slice(0, 100)))
    ours_s = _seconds(lambda: simulate(row, load))
    theirs_s = min(_fleet_seconds(load, num_instances, way) for way in ("round_robin", "least_queue"))
    return {"ours_per_s": num_requests / ours_s, "theirs_per_s": num_requests / theirs_s, "ratio": theirs_s / ours_s}


def _fleet_seconds(load: RequestLoad, num_instances: int, way: str) -> float:
    try:
        from fleet_sim.core.fleet import Fleet, FleetConfig, PoolConfig
        from fleet_sim.core.request import Request
        from fleet_sim.gpu_profiles.profiles import A100_80GB
    except ImportError as error:
        raise MissingExtraError("the rival is not installed: pip install --pre vllm-sr-sim") from error
    columns: Any = (load.arrival_s, load.prompt_tokens, load.output_tokens)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    arrivals = [(at_s, Request(i, at_s, prompt, output)) for i, (at_s, prompt, output) in enumerate(rows)]
    gpu = replace(A100_80GB, max_slots=16)
    fleet = Fleet(FleetConfig([PoolConfig("all", gpu, num_instances, 8192, lb_strategy=way)]))
    started = time.perf_counter()
    fleet.run(arrivals)
    return time.perf_counter() - started


def _speed() -> list[Finding]:
    found = speed_vs_vllm_sr_sim()
    given = "synthetic: 100,000 requests, 40 instances of 16 slots"
    rival = Rival("vllm-sr-sim Fleet.run (requests/s)", found["theirs_per_s"], "measured")
    return [
        _finding(
            "speed_vs_vllm_sr_sim", found["ratio"], "x", "higher", given, 50.0, note="goal 200; theirs has no power"
        ),
        _finding("simulated_requests_per_s", found["ours_per_s"], "requests/s", "higher", given, rivals=(rival,)),
    ]


def six_weeks(num_requests: int = 2_000_000, days: float = 42.0, servers: int = 52) -> dict[str, float]:
    """Seconds and peak memory, in a process of its own, of a POLCA run under the budget of a row of 40 servers."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_six_weeks_alone, (num_requests, days, servers))


def _six_weeks_alone(num_requests: int, days: float, servers: int) -> dict[str, float]:
    profile = PROFILES[PROFILE]
    base = Row.uniform(40, profile, budget_w=1e6)
    few = daily_load(round(num_requests * 40 / servers * 2 / days), 2.0)
    peak_w = float(simulate(base, few).row_w.max())
    row = base.with_budget(peak_w / PEAK).with_added(servers / 40 - 1.0)
    load = daily_load(num_requests, days)
    started, used_s = time.perf_counter(), time.process_time()
    result = simulate(row, load, policy=Polca())
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - used_s
    low = result.capped_share(Priority.LOW)
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "rss_gib": peak_rss_mib() / 1024,
        "brakes": result.brakes,
        "low_capped_share": low,
    }


def fitted_row(days: float = 42.0) -> dict[str, float]:
    """The same of the fitted row with 30 % more servers, whose traffic is denser; in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_fitted_row_alone, (days,))


def _fitted_row_alone(days: float) -> dict[str, float]:
    base = load_base_row("polca-base")
    row, load = base.row(0.3), base.load(days=days, added=0.3)
    simulate(row, load.select(slice(0, 1000)), policy=Polca())
    started = time.perf_counter()
    result = simulate(row, load, policy=Polca())
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "rss_gib": peak_rss_mib() / 1024, "requests": len(load), "brakes": result.brakes}


def _fitted_row(scale: Scale) -> list[Finding]:
    days = 7.0 if scale == "quick" else 42.0
    found = fitted_row(days)
    given = f"synthetic: fitted row, {found['requests']:,} requests, 52 servers, {days:g} days, POLCA"
    return [
        _finding("fitted_row_seconds", found["seconds"], "s", "lower", given, note=f"{found['brakes']} brakes"),
        _finding("fitted_row_rss_gib", found["rss_gib"], "GiB", "lower", given, note="whole process"),
    ]


def _six_weeks(scale: Scale) -> list[Finding]:
    num = 2_000_000 if scale == "quick" else 8_000_000
    found = six_weeks(num)
    given = f"synthetic: {num:,} requests, 52 servers, 42 days, POLCA, budget of 40 servers"
    capped = f"low priority capped {found['low_capped_share']:.0%} of the time"
    text = f"{found['cpu_s']:.1f} s of one core; {found['brakes']} brakes, {capped}"
    return [
        _finding("six_weeks_seconds", found["seconds"], "s", "lower", given, 10.0, note=text),
        _finding("six_weeks_rss_gib", found["rss_gib"], "GiB", "lower", given, 2.0, note="whole process"),
    ]


def linear_time(num_requests: int = 100_000) -> float:
    """Time for twice as many requests over the time for `num_requests`, at the same rate."""
    row = Row.uniform(40, PROFILES[PROFILE], budget_w=1e6)
    once, twice = (poisson_load(num_requests * k, 2.0) for k in (1, 2))
    simulate(row, once)
    return _seconds(lambda: simulate(row, twice), 5) / _seconds(lambda: simulate(row, once), 5)


def _linear() -> list[Finding]:
    given = "synthetic: 200,000 over 100,000 requests"
    return [_finding("linear_time", linear_time(), "x", "lower", given, 2.3, note="best of five each")]


def erlang_c_error(num_requests: int = 1_000_000, runs: int = 5, servers: int = 8, use: float = 0.7) -> float:
    """|mean wait / Erlang C's - 1| over `runs` runs: exponential work, one request at a time on each of `servers`.

    Waits follow each other closely, so that the mean of one run of a million requests is uncertain by more than 1 %.
    """
    step_s, mean_tokens = 1e-4, 20_000.0
    profile = _instant_prompts(PROFILES[PROFILE], step_s)
    row = Row.uniform(servers, profile, budget_w=1e6, low_priority_share=0.0, max_batch=1)
    service_s = mean_tokens * step_s
    waits_s = []
    for seed in range(runs):
        rng = np.random.Generator(np.random.Philox(seed))
        arrival_s = np.cumsum(rng.exponential(service_s / (servers * use), num_requests))
        outputs = 1 + np.ceil(rng.exponential(mean_tokens, num_requests)).astype(np.int64)
        load = RequestLoad.of(arrival_s, np.full(num_requests, 128), outputs)
        waits_s.append(float(simulate(row, load).ttft_s.mean()))
    offered, blocking = servers * use, 1.0
    for k in range(1, servers + 1):
        blocking = offered * blocking / (k + offered * blocking)
    waits = blocking / (1.0 - use * (1.0 - blocking))
    return abs(statistics.fmean(waits_s) / (waits * service_s / (servers - offered)) - 1.0)


def _instant_prompts(profile: PowerProfile, step_s: float) -> PowerProfile:
    prefill, decode = profile.prefill, profile.decode
    prompts = prefill.model_copy(update={"seconds": tuple(1e-9 for _ in prefill.seconds)})
    steps = decode.model_copy(update={"seconds_per_token": tuple(step_s for _ in decode.seconds_per_token)})
    return profile.model_copy(update={"prefill": prompts, "decode": steps})


def simpy_error(num_requests: int = 5000) -> float:
    """Largest difference to `PlainRow` in the time of any first or last token, seconds, under changing clocks."""
    row = Row.uniform(6, PROFILES[PROFILE], budget_w=1e6, max_batch=4)
    load = poisson_load(num_requests, 0.5, 3)
    rng = np.random.Generator(np.random.Philox(4))
    times = np.sort(rng.uniform(0.0, load.duration_s, 200))
    levels = [(float(t), int(rng.integers(6)), float(rng.choice([1.0, 0.9, 0.75, 0.2]))) for t in times]
    end_s = load.duration_s + 40_000.0
    state = RowState(row, load, int(end_s))
    state.run_until(end_s, landings=[(t, (server,), level) for t, server, level in levels])
    servers = [(int(s.priority), s.profile, s.instances, s.max_batch) for s in row.servers]
    first, done = PlainRow(load, servers, levels=levels).run(end_s)
    pairs = ((state.arrays.first_token_s, first), (state.arrays.finish_s, done))
    return max(float(np.abs(ours - [theirs[r] for r in range(num_requests)]).max()) for ours, theirs in pairs)


def balances(num_requests: int = 200_000) -> tuple[float, float]:
    """(energy, work): relative differences between servers and row, and between tokens asked for and tokens made."""
    row = Row.uniform(40, PROFILES[PROFILE], budget_w=220_000.0)
    load = poisson_load(num_requests, 2.0, 6)
    result = simulate(row, load, policy=Polca(), drain_s=7 * DAY_S)
    servers_j = sum(float(energy.sum()) for energy in result.energy_j.values())
    row_j = float(result.row_w.sum(dtype=np.float64)) * result.period_s
    asked = float((load.output_tokens - 1).sum(dtype=np.int64))
    return abs(servers_j / row_j - 1.0), abs(float(result.tokens_done.sum()) / asked - 1.0)


def _simpy() -> list[Finding]:
    given = "synthetic: 5,000 requests with changing clocks"
    error_s = simpy_error(5000)
    return [_finding("simpy_equal", error_s, "s", "lower", given, 1e-9, note="largest difference")]


def _exact() -> list[Finding]:
    given = "synthetic: 5 x 1,000,000 requests, 8 instances"
    findings = [_finding("erlang_c_error", erlang_c_error(), "", "lower", given, 0.02)]
    energy, work = balances()
    given = "synthetic: 200,000 requests under POLCA"
    findings.append(_finding("energy_balance", energy, "", "lower", given, 1e-6, note="float32 row series"))
    findings.append(_finding("work_balance", work, "", "lower", given, 1e-9))
    return findings


def _finding(
    name: str,
    value: float,
    unit: str,
    better: Better,
    given: str,
    promise: float | None = None,
    rivals: tuple[Rival, ...] = (),
    note: str = "",
) -> Finding:
    return Finding("power", name, float(value), unit, better, given, rivals, promise, note)
