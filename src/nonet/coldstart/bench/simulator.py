"""What the simulator reaches: speed beside SimFaaS and libCacheSim, equality with an oracle, closed forms, published
tables.

Every function runs its own inputs (synthetic unless it says otherwise) and returns plain numbers; rivals run in the
same call.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nonet.coldstart.bench.random_traces import (
    compare_with_plain,
    random_platform,
    random_pools,
    random_regions,
    random_workload,
)
from nonet.coldstart.simulating.calls import Calls, ColdTimes, Functions, Workload
from nonet.coldstart.simulating.engine import simulate
from nonet.coldstart.simulating.platform import Platform
from nonet.coldstart.simulating.policies import parse_policy, policies
from nonet.coldstart.simulating.policies.base import Eviction
from nonet.coldstart.simulating.policies.cache import CachePolicy
from nonet.coldstart.simulating.policies.training import Learner, fit, split
from nonet.coldstart.simulating.sweep import sweep
from nonet.common.errors import MissingExtraError
from nonet.common.parallel import Engine, parallel_map

SECOND_US, MINUTE_US = 1_000_000, 60_000_000
AZURE_FILES = ("workload_100_apps_1440min.csv.gz", "sim_default_knative_100_apps.csv.gz")


def skewed_workload(
    num_requests: int, num_functions: int, *, seed: int = 0, mean_run_us: int = 100_000, cold_us: int = SECOND_US
) -> Workload:
    """Uniform arrivals at 500 requests/s of functions with Pareto shares; exponential runs, constant cold starts."""
    rng = np.random.default_rng(seed)
    share = rng.pareto(1.2, num_functions) + 0.1
    function = rng.choice(num_functions, num_requests, p=share / share.sum()).astype(np.int32)
    arrive = np.sort(rng.integers(0, num_requests * 2000, num_requests))
    run = rng.exponential(mean_run_us, num_requests).astype(np.int64)
    memory = rng.choice([128, 256, 512, 1024], num_functions)
    table = Functions.make(num_functions, memory_mb=memory)
    return Workload.from_arrays(Calls(arrive, run, function), table, ColdTimes.constant(num_functions, cold_us))


def _seconds(run: Callable[[], object], repeats: int = 3) -> float:
    run()  # compiles, or loads what was compiled
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def speed_vs_simfaas(
    num_requests: int = 20_000_000, num_functions: int = 2000, simfaas_requests: int = 100_000, shards: int = 1
) -> dict[str, float]:
    """Requests/s with a fixed keep-alive of 60 s on `shards` threads, of SimFaaS on the same functions, and the ratio.

    SimFaaS simulates one function at a time and draws its own arrivals. Its rate is that of eight functions at the
    rates that stand at the 1/16, 3/16, ... quantiles of all requests, the same number of requests each: a sample of
    the same work.

    Raises:
        MissingExtraError: SimFaaS is not installed.
    """
    workload = skewed_workload(num_requests, num_functions)
    seconds = _seconds(lambda: simulate(workload, "ka:60", record="none", shards=shards))
    counts = np.sort(np.bincount(workload.calls.function, minlength=num_functions))  # type: ignore[attr-defined]
    at = np.searchsorted(np.cumsum(counts), (np.arange(8) + 0.5) / 8 * num_requests)
    rates_per_s = counts[at] / ((workload.end_us - workload.start_us) / SECOND_US)
    theirs = simfaas_requests_per_s(rates_per_s.tolist(), simfaas_requests)
    ours = num_requests / seconds
    return {"ours_per_s": ours, "simfaas_per_s": theirs, "ratio": ours / theirs}


def simfaas_requests_per_s(rates_per_s: Sequence[float], num_requests: int) -> float:
    """SimFaaS as its documentation uses it: exponential arrivals and services (0.1 s), instances expire after 60 s."""
    done, seconds = 0, 0.0
    for rate_per_s in rates_per_s:
        simulator = _simfaas(rate_per_s, 0.1, 1.1, 60, num_requests / len(rates_per_s) / rate_per_s)
        started = time.perf_counter()
        simulator.generate_trace(debug_print=False, progress=False)
        seconds += time.perf_counter() - started
        done += simulator.total_req_count
    return done / seconds


def _simfaas(rate_per_s: float, warm_s: float, cold_s: float, expire_s: float, until_s: float) -> Any:
    try:
        from simfaas.ServerlessSimulator import ServerlessSimulator
    except ImportError as error:
        raise MissingExtraError("the rival SimFaaS is not installed: pip install simfaas") from error
    return ServerlessSimulator(
        arrival_rate=rate_per_s,
        warm_service_rate=1 / warm_s,
        cold_service_rate=1 / cold_s,
        expiration_threshold=expire_s,
        max_time=until_s,
    )


def simfaas_example(num_requests: int = 2_000_000, seed: int = 0) -> dict[str, float]:
    """Our values of SimFaaS's documented example: arrivals 0.9/s, service 1.991 s warm and 2.244 s cold, expiry 600 s.

    SimFaaS serves by the newest instance. Published: cold 0.0014, servers 7.67, running 1.79.
    """
    rng = np.random.default_rng(seed)
    arrive = np.cumsum(rng.exponential(1 / 0.9, num_requests) * 1e6).astype(np.int64)
    run = (rng.exponential(1.991, num_requests) * 1e6).astype(np.int64)
    extra = (rng.exponential(2.244 - 1.991, 1000) * 1e6).astype(np.int64)
    cold = ColdTimes(np.array([0, len(extra)]), np.zeros_like(extra), extra)
    calls = Calls(arrive, run, np.zeros(num_requests, np.int32))
    result = simulate(Workload.from_arrays(calls, cold_times=cold), "ka:600", Platform(pick="newest"), seed=seed)
    return {"cold": result.cold_rate, "servers": result.mean_pods, "running": result.mean_busy_pods}


def poisson_sigma(num_requests: int = 10_000_000, seed: int = 0) -> float:
    """|share of cold - exp(-lambda T)| in standard errors: Poisson arrivals, no service time, lambda T = 2."""
    rng = np.random.default_rng(seed)
    keep_us = 60 * SECOND_US
    arrive = np.cumsum(rng.exponential(keep_us / 2, num_requests)).astype(np.int64)
    calls = Calls(arrive, np.zeros(num_requests, np.int64), np.zeros(num_requests, np.int32))
    # One sample a minute would be one a request here.
    platform = Platform(keep_alive_us=keep_us, sample_us=int(arrive[-1]))
    result = simulate(Workload.from_arrays(calls, cold_times=ColdTimes.constant(1, 0)), "ka", platform, record="none")
    expected = float(np.exp(-2.0))
    error = (expected * (1 - expected) / num_requests) ** 0.5
    return abs((result.num_cold - 1) / (num_requests - 1) - expected) / error


def cache_workload(num_requests: int = 20_000, num_functions: int = 500, seed: int = 0) -> Workload:
    """Calls and cold starts without duration, so that a pod is a cached object; sizes of 64 .. 1,024 MB."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, num_functions + 1) ** 0.8
    function = rng.choice(num_functions, num_requests, p=share / share.sum()).astype(np.int32)
    table = Functions.make(num_functions, memory_mb=rng.integers(64, 1025, num_functions))
    arrive = np.arange(num_requests, dtype=np.int64) * 1000
    calls = Calls(arrive, np.zeros(num_requests, np.int64), function)
    return Workload.from_arrays(calls, table, ColdTimes.constant(num_functions, 0))


def versus_libcachesim(
    num_requests: int = 20_000, caps_mb: Iterable[int] = (10_000, 30_000, 100_000), seed: int = 0
) -> dict[str, float]:
    """Our LRU and greedy-dual with equal costs beside libCacheSim's LRU and GDSF on the same calls.

    Returns `lru_equal` (share of caps with equal cold starts), `gd_error_max` (relative), `ours_per_s`,
    `libcachesim_per_s` (LRU, its reader over a binary trace file) and `speed_ratio`.

    Raises:
        MissingExtraError: libCacheSim is not installed.
    """
    workload, caps = cache_workload(num_requests, seed=seed), list(caps_mb)
    equal, error = 0, 0.0
    for cap_mb in caps:
        ours = simulate(workload, CachePolicy(Eviction.LRU, cap_mb), record="none").num_cold
        dual = simulate(workload, CachePolicy(Eviction.GREEDY_DUAL, cap_mb, cost_us=1.0), record="none").num_cold
        theirs, _ = libcachesim_misses("LRU", workload, cap_mb)
        gdsf, _ = libcachesim_misses("GDSF", workload, cap_mb)
        equal += ours == theirs
        error = max(error, abs(dual / gdsf - 1))
    large = cache_workload(max(num_requests, 1_000_000), seed=seed)
    _, seconds = libcachesim_misses("LRU", large, caps[0])
    own = _seconds(lambda: simulate(large, CachePolicy(Eviction.LRU, caps[0]), record="none"))
    num = max(num_requests, 1_000_000)
    return {
        "lru_equal": equal / len(caps),
        "gd_error_max": error,
        "ours_per_s": num / own,
        "libcachesim_per_s": num / seconds,
        "speed_ratio": seconds / own,
    }


def libcachesim_misses(name: str, workload: Workload, cap_mb: int) -> tuple[int, float]:
    """Misses of a libCacheSim cache (1 MB as a byte) over the calls, and its seconds."""
    try:
        import libcachesim
    except ImportError as error:
        raise MissingExtraError("the rival libCacheSim is not installed: pip install libcachesim") from error
    calls = [block for block in workload.blocks() if len(block)]
    function = np.concatenate([block.function for block in calls])
    arrive = np.concatenate([block.arrive_us for block in calls])
    kind = np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")])
    rows = np.zeros(len(function), kind)
    rows["time"], rows["id"], rows["next"] = arrive // SECOND_US, function + 1, -1
    rows["size"] = workload.functions.memory_mb[function]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.oracleGeneral"
        path.write_bytes(rows.tobytes())
        reader = libcachesim.TraceReader(str(path), libcachesim.TraceType.ORACLE_GENERAL_TRACE)
        cache = getattr(libcachesim, name)(cap_mb)
        started = time.perf_counter()
        miss_ratio, _ = cache.process_trace(reader)
        seconds = time.perf_counter() - started
    return round(miss_ratio * len(function)), seconds


def greedy_dual_requests_per_s(num_requests: int = 5_000_000, num_functions: int = 2000) -> dict[str, float]:
    """Requests/s of greedy-dual under a cap that evicts, one thread, with its share of cold and of dropped requests."""
    workload = skewed_workload(num_requests, num_functions)
    policy = parse_policy("gd:600GB")
    result = simulate(workload, policy, record="none")
    seconds = _seconds(lambda: simulate(workload, policy, record="none"))
    return {
        "requests_per_s": num_requests / seconds,
        "cold_rate": result.cold_rate,
        "dropped_rate": result.num_dropped / num_requests,
    }


def sweep_ratio(num_requests: int = 4_000_000, num_functions: int = 2000, num_points: int = 100) -> dict[str, float]:
    """Time of a sweep over that of one simulation.

    `exact`: calls that do not overlap, cold starts of a second, the exact sweep. `gaps`: overlapping calls, cold
    starts without duration, for which gaps are exact.
    """
    keeps = np.unique(np.geomspace(SECOND_US, 3600 * SECOND_US, num_points).astype(np.int64)).tolist()
    apart, overlapping = (
        sparse_workload(num_requests, num_functions),
        skewed_workload(num_requests, num_functions, cold_us=0),
    )
    ratios = {}
    for name, workload in (("exact", apart), ("gaps", overlapping)):
        single = _seconds(lambda w=workload: simulate(w, "ka:60", record="none"))  # type: ignore[misc]
        many = _seconds(lambda w=workload: sweep(w, keeps))  # type: ignore[misc]
        ratios[name] = many / single
    return ratios


def sparse_workload(num_requests: int, num_functions: int, seed: int = 0) -> Workload:
    """Calls of 1 ms, at least 3 s (on average a minute more) after the last of their function; cold starts of 1 s."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(60e6, (num_functions, num_requests // num_functions)).astype(np.int64) + 3 * SECOND_US
    arrive = np.cumsum(gaps, axis=1).ravel()
    function = np.repeat(np.arange(num_functions, dtype=np.int32), num_requests // num_functions)
    order = np.argsort(arrive, kind="stable")
    calls = Calls(arrive[order], np.full(len(arrive), 1000), function[order])
    return Workload.from_arrays(calls, Functions.make(num_functions))


def azure_100_apps(folder: str | Path) -> dict[str, int]:
    """A keep-alive of one minute on 100 real apps (Azure 2019) against the simulation of FeMux's authors.

    The file tells how many containers an app needs in each minute: so many requests at its beginning, shorter than
    it. A container of the minute before is then idle for less than a minute, and one of the minute before that for
    more.

    Args:
        folder: `azure2019_femux` of the data.

    Returns:
        `total` cold starts and `same_apps`, apps with equal cold starts in every minute.
    """
    import polars as pl

    needed, published = (pl.read_csv(Path(folder) / name) for name in AZURE_FILES)
    counts = np.array([row.split() for row in needed["ContainersPerMin"]], np.float64).astype(np.int64)
    apps, minutes = counts.shape
    minute, app = np.nonzero(counts.T)
    times = counts[app, minute]
    arrive, function = np.repeat(minute * MINUTE_US, times), np.repeat(app, times).astype(np.int32)
    calls = Calls(arrive, np.full(len(arrive), SECOND_US), function)
    workload = Workload.from_arrays(
        calls, Functions.make(apps), ColdTimes.constant(apps, 0), start_us=0, end_us=minutes * MINUTE_US
    )
    result = simulate(workload, "ka:60")
    ours = np.zeros((apps, minutes), np.int64)
    np.add.at(ours, (result.cold_function, result.cold_at_us // MINUTE_US), 1)
    theirs = dict(zip(published["HashApp"], published["NumColdStarts_per_min"], strict=True))
    same = sum(
        bool((np.array(theirs[name].split(), np.float64) == row).all())
        for name, row in zip(needed["HashApp"], ours, strict=True)
    )
    return {"total": result.num_cold, "same_apps": same}


def bruteforce_equal(
    num_traces: int = 1000, names: Iterable[str] | None = None, first_seed: int = 0, workers: int = 1
) -> float:
    """Share of (trace, policy) pairs in which the compiled simulation equals the plain one in every request and pod.

    Policies that learn are fitted on the first half of a trace and simulated on the second, on traces with longer gaps.
    """
    chosen = tuple(names) if names is not None else tuple(policies()[name].example for name in policies())
    seeds = range(first_seed, first_seed + num_traces)
    parts = [seeds[start : start + _TRACES_A_TASK] for start in range(0, num_traces, _TRACES_A_TASK)]
    engine: Engine = "threads" if workers == 1 else "local"
    counted = [found for _, found in parallel_map(partial(_count_equal, chosen), parts, workers=workers, engine=engine)]
    equal, tried = (sum(numbers) for numbers in zip(*counted, strict=True))
    return equal / tried if tried else float("nan")


_TRACES_A_TASK = 25


def _count_equal(names: Sequence[str], seeds: Sequence[int]) -> tuple[int, int]:
    """How many pairs of these policies and traces are equal, and how many could be tried."""
    found = [bruteforce_differences(name, seed) for seed in seeds for name in names]
    tried = [wrong for wrong in found if wrong is not None]
    return sum(not wrong for wrong in tried), len(tried)


_MOST_TICKS = 20_000


def bruteforce_differences(name: str, seed: int) -> tuple[str, ...] | None:
    """What differs between the two simulations of one policy on one random trace; None when it has no such trace.

    Memory caps in the name are replaced by one that matters in a small trace.
    """
    caps_mb = (128, 512, 1000, 2000, 5000, 10_000)
    policy = parse_policy(name.replace("8GB", f"{caps_mb[seed % len(caps_mb)]}MB"))
    ticked = policy.tick_us is not None or isinstance(policy, Learner)
    platform = random_platform(seed)
    if name in NEED_REGIONS:
        workload: Workload = random_regions(seed)
        platform = replace(platform, regions=workload.regions, pools=None)  # type: ignore[attr-defined]
    else:
        workload = random_workload(seed, shortest_us=20 * MINUTE_US // 60 if ticked else 1)
    if policy.tick_us is not None and workload.end_us // policy.tick_us > _MOST_TICKS:
        return None  # the plain simulator would tick for minutes
    if isinstance(policy, Learner):
        training, workload = split(workload, workload.end_us // 2)
        fit(policy, training)
    if name in NEED_POOLS:
        platform = replace(platform, pools=random_pools(seed))
    return compare_with_plain(workload, policy, platform, seed=seed).wrong


NEED_POOLS = ("drops", "openwhisk", "paper:pool", "paper:pool:0.99", "paper:runtime")
NEED_REGIONS = ("paper:region",)
