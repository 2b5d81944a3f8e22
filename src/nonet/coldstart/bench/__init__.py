"""The headline experiments of the room: simulator, generator and analytics beside rivals and published curves.

Files: `simulator` (speed, closed forms, rivals), `generator` (against the published curves), `analytics` (against
Dask), `scale` (a billion requests), `tour_charts`; `plain_simulator` and `random_traces` are the slow,
plain twin of the simulator.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nonet.common.console import note
from nonet.common.datasets import DataFile, find_file
from nonet.common.experiments import Experiment, Scale, run_experiments
from nonet.common.findings import Better, Finding, Rival

if TYPE_CHECKING:
    import altair

ROOM = "coldstart"
_MIRROR = "coldstart"


def bench(scale: Scale = "quick", only: Sequence[str] = ()) -> list[Finding]:
    """Run the experiments; "quick" takes about two minutes on two cores, "full" many times as long.

    What an experiment lacks (published data, a rival that is not installed) is said on stderr and leaves its findings
    out; nothing else is skipped.

    Args:
        scale: which sizes.
        only: names from `experiments()`; none means all.

    Raises:
        InputError: a name that is not one.
    """
    return run_experiments(experiments(), scale, only)


def experiments() -> dict[str, Experiment]:
    """The experiments by name, in the order in which they run."""
    return {
        "speed": _speed,
        "caches": _caches,
        "sweep": _sweep,
        "laws": _laws,
        "exactness": _exactness,
        "cold-events": _cold_events,
        "region-2": _region_2,
        "analytics": _analytics,
        "billion": _billion,
    }


def plots() -> list[tuple[str, altair.TopLevelMixin]]:
    """Charts for the tour: generated Region 2 beside the published curves, and what policies trade on it."""
    from nonet.coldstart.bench.tour_charts import charts

    return charts()


def _finding(
    name: str,
    value: float,
    unit: str,
    better: Better,
    given: str,
    promise: float | None = None,
    rivals: tuple[Rival, ...] = (),
    text: str = "",
) -> Finding:
    return Finding(ROOM, name, float(value), unit, better, given, rivals, promise, text)


def _speed(scale: Scale) -> list[Finding]:
    from nonet.coldstart.bench.simulator import speed_vs_simfaas

    num = 4_000_000 if scale == "quick" else 20_000_000
    cores = os.cpu_count() or 1
    found, alone = speed_vs_simfaas(num, 2000, shards=cores), speed_vs_simfaas(num, 2000)
    given = f"synthetic: {num:,} requests of 2,000 functions, fixed keep-alive"
    rival = Rival("SimFaaS 0.2.2 (requests/s)", found["simfaas_per_s"], "measured")
    text = f"ours on {cores} cores, SimFaaS on the one it can use"
    return [
        _finding("speed_vs_simfaas", found["ratio"], "x", "higher", given, 200.0, (), text),
        _finding("speed_vs_simfaas_one_thread", alone["ratio"], "x", "higher", given, None, (), "one thread each"),
        _finding("simulated_requests_per_s", found["ours_per_s"], "requests/s", "higher", given, None, (rival,)),
    ]


def _caches(scale: Scale) -> list[Finding]:
    from nonet.coldstart.bench.simulator import greedy_dual_requests_per_s, versus_libcachesim

    num = 20_000 if scale == "quick" else 2_000_000
    found = versus_libcachesim(num)
    given = f"synthetic: {num:,} calls without duration, three memory caps"
    rival = Rival("libCacheSim 0.3.5, LRU (requests/s)", found["libcachesim_per_s"], "measured")
    dual = greedy_dual_requests_per_s(1_000_000 if scale == "quick" else 5_000_000)
    text = f"{dual['cold_rate']:.2%} cold, {dual['dropped_rate']:.2%} dropped"
    return [
        _finding("lru_equal", found["lru_equal"], "", "match", given, 1.0, (), "cold starts = misses"),
        _finding("greedy_dual_vs_gdsf_error", found["gd_error_max"], "", "lower", given, 0.02),
        _finding("speed_vs_libcachesim_lru", found["speed_ratio"], "x", "higher", given, None, (),
                 "theirs is a cache: no time, no pods, no concurrency"),
        _finding("lru_requests_per_s", found["ours_per_s"], "requests/s", "higher", given, None, (rival,)),
        _finding("greedy_dual_requests_per_s", dual["requests_per_s"], "requests/s", "higher",
                 "synthetic: skewed calls of 2,000 functions, 600 GB", 1e6, (), text),
    ]  # fmt: skip


def _sweep(scale: Scale) -> list[Finding]:
    from nonet.coldstart.bench.simulator import sweep_ratio

    num = 1_000_000 if scale == "quick" else 4_000_000
    found = sweep_ratio(num)
    given = f"synthetic: {num:,} calls of 2,000 functions, 100 keep-alives"
    return [
        _finding("sweep_100_over_single", found["exact"], "x", "lower", given, 5.0, (), "exact, calls apart"),
        _finding("sweep_100_over_single_gaps", found["gaps"], "x", "lower", given, None, (), "overlapping calls"),
    ]


def _laws(scale: Scale) -> list[Finding]:
    from nonet.coldstart.bench.simulator import poisson_sigma, simfaas_example

    num = 1_000_000 if scale == "quick" else 10_000_000
    example = simfaas_example()
    given = "synthetic: SimFaaS's documented example"
    return [
        _finding("poisson_sigma", poisson_sigma(num), "", "lower", f"synthetic: {num:,} Poisson requests", 4.0, (),
                 "distance to P(cold) = exp(-lambda T) in standard errors"),
        _finding("simfaas_example_cold_error", abs(example["cold"] - 0.0014), "", "lower", given, 0.0003),
        _finding("simfaas_example_servers_error", abs(example["servers"] / 7.67 - 1), "", "lower", given, 0.02),
        _finding("simfaas_example_running_error", abs(example["running"] / 1.79 - 1), "", "lower", given, 0.01),
    ]  # fmt: skip


def _exactness(scale: Scale) -> list[Finding]:
    from nonet.coldstart.bench.simulator import AZURE_FILES, azure_100_apps, bruteforce_equal
    from nonet.coldstart.simulating.kpa_scenarios import run_scenarios

    num, workers = (20, 1) if scale == "quick" else (1000, os.cpu_count() or 1)
    given = f"synthetic: {num:,} random traces, every policy, beside the plain simulator"
    found = [_finding("bruteforce_equal", bruteforce_equal(num, workers=workers), "", "match", given, 1.0)]
    vectors = find_file(DataFile("kpa", f"{_MIRROR}/knative/kpa_vectors.json"))
    if vectors is None:
        note("bench: the Knative scenarios are not at hand; set NONET_MIRROR to a folder that has coldstart/knative")
    else:
        steps = run_scenarios(vectors)
        found.append(_finding("kpa_scenarios_exact", sum(s.exact for s in steps) / len(steps), "", "match",
                              f"real: {len(steps)} steps of Knative's own tests", 1.0))  # fmt: skip
    apps = find_file(DataFile("apps", f"{_MIRROR}/azure2019_femux/{AZURE_FILES[0]}"))
    if apps is None:
        note("bench: the Azure apps are not at hand; set NONET_MIRROR to a folder that has coldstart/azure2019_femux")
    else:
        azure = azure_100_apps(apps.parent)
        given = "real: 100 apps of Azure Functions 2019, keep-alive of a minute"
        found += [
            _finding("azure_100_apps_total", azure["total"], "cold starts", "match", given, 10_639),
            _finding("azure_100_apps_same", azure["same_apps"], "apps", "higher", given, 93),
        ]
    return found


def _cold_events(scale: Scale) -> list[Finding]:
    from nonet.coldstart.bench.generator import measure_cold_events

    found = measure_cold_events()
    given = "synthetic: huawei2025, all 11.9 M cold starts, against the published curves"
    promises = {
        "ks_total_per_region_max": 0.02,
        "ks_runtime_max": 0.03,
        "ks_pooled": 0.01,
        "ks_iat_max": 0.03,
        "component_sum_error_us": 1.0,
        "spearman_mae": 0.15,
    }
    if "ks_pooled" not in found:
        note(
            "bench: the digitised figures are not at hand; set NONET_MIRROR to a folder that has "
            "coldstart/huawei2025_paper_digitised"
        )
    return [
        _finding(name, found[name], "us" if name.endswith("_us") else "", "lower", given, promise)
        for name, promise in promises.items()
        if name in found
    ]


def _region_2(scale: Scale) -> list[Finding]:
    from nonet.coldstart.bench.generator import measure_region_2

    left_out, share = (0, 1.0) if scale == "full" else (10, 0.2)  # ten functions have 98 % of the requests
    found = measure_region_2(scale=share, without_largest=left_out, shards=2)
    without = f"without the {left_out} functions with the most requests" if left_out else "every function"
    given = (
        f"synthetic: Region 2, 31 days, scale {share:g}, {without}, {found['r2_requests']:,.0f} requests, "
        "keep-alive 60 s"
    )
    return [
        _finding("r2_cold_starts_error", found["r2_cold_starts_error"], "", "lower", given, 0.05),
        _finding("r2_trigger_error_max", found["r2_trigger_error_max"], "", "lower", given, 0.10),
        _finding("r2_function_loglog_pearson", found["r2_function_loglog_pearson"], "", "higher", given, 0.95),
    ]


def _analytics(scale: Scale) -> list[Finding]:
    from nonet.coldstart.bench.analytics import analytics_memory, analytics_vs_dask

    if scale == "quick":
        return analytics_vs_dask(500_000)
    return [*analytics_vs_dask(), *analytics_memory()]


def _billion(scale: Scale) -> list[Finding]:
    from nonet.coldstart.bench.scale import measure_billion

    most_seconds: float | None
    most_gib: float | None
    if scale == "quick":
        runs = [measure_billion(days=1, without_largest=1, shards=n) for n in (1, 4)]
        name, most_seconds, most_gib = "hundred_million", None, None
    else:
        runs = [measure_billion(days=3, without_largest=0, shards=n) for n in (1, 4)]
        name, most_seconds, most_gib = "billion", 900.0, 2.0
    given = f"synthetic: Region 2, {runs[0]['requests']:,} requests generated and simulated as a stream"
    return [
        _finding(f"{name}_seconds", runs[1]["seconds"], "s", "lower", given, most_seconds, (), "4 shards"),
        _finding(f"{name}_rss_gib", max(run["peak_gib"] for run in runs), "GiB", "lower", given, most_gib),
        _finding(f"{name}_same_hash", float(len({run["digest"] for run in runs}) == 1), "", "match", given, 1.0, (),
                 "results by function with 1 and 4 shards"),
    ]  # fmt: skip
