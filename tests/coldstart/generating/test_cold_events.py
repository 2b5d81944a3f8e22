"""Cold starts against the published figures (E2, E3), through an interpolation of the tests' own."""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from published_curves import FOLDER, Published
from scipy import stats

from nonet.coldstart.generating.cold_events import R2_COLD_STARTS, TOTAL_COLD_STARTS, ColdEvents, hourly_counts
from nonet.coldstart.generating.components import RUNTIMES, joint
from nonet.coldstart.generating.curves import REGIONS, curve
from nonet.coldstart.generating.functions import other_region, region_2
from nonet.coldstart.generating.gaps import fit_gaps
from nonet.coldstart.generating.presets import HuaweiWorkload, generate
from nonet.common.errors import InputError

PARTS = ("allocation_us", "code_us", "dependency_us", "scheduling_us")


@pytest.fixture(scope="module")
def published(mirror: Path) -> Published:
    return Published(mirror)


@lru_cache(maxsize=8)
def events(region: str, hours: int = 96, seed: int = 3) -> dict[str, np.ndarray]:
    frame = region_2() if region == "R2" else other_region(region)
    source = ColdEvents(region, frame, seed=seed, num_hours=hours, scale=1.0)
    parts = [source.arrays(hour) for hour in range(hours)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def thin(values: np.ndarray, num: int = 60_000) -> list[float]:
    return (values[:: max(len(values) // num, 1)] / 1e6).tolist()


@pytest.mark.parametrize("region", REGIONS)
def test_totals_follow_figure_10(region: str, published: Published) -> None:
    assert published.ks("10a", region, thin(events(region)["total_us"])) <= 0.02


@pytest.mark.parametrize("region", ["R2", "R3", "R5"])
def test_gaps_follow_figure_10(region: str, published: Published) -> None:
    at = events(region, 744)["at_us"]
    assert (np.diff(at) >= 0).all()
    assert published.ks("10c", region, thin(np.diff(at), 10**9)) <= 0.03


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if name != "unknown"])
def test_totals_and_stages_by_runtime(runtime: str, published: Published) -> None:
    rows = events("R2", 744)
    names = np.array(region_2()["runtime"].to_list())[rows["function"]]
    own = names == runtime
    assert published.ks("15a", runtime, thin(rows["total_us"][own])) <= 0.03
    allocation_s = rows["allocation_us"][own] / 1e6
    for bound in (0.001, 0.05, 8.0):
        assert (allocation_s <= bound).mean() == pytest.approx(published.cdf("15b", runtime, bound), abs=0.02)


def test_allocation_stages_by_trigger(published: Published) -> None:
    rows = events("R2", 744)
    names = np.array(region_2()["trigger"].to_list())[rows["function"]]
    for trigger in ("TIMER-A", "OBS-A", "APIG-S", "other A", "other S", "workflow-S"):
        allocation_s = rows["allocation_us"][names == trigger] / 1e6
        assert published.ks("16a", trigger, thin(rows["total_us"][names == trigger])) <= 0.05
        for bound in (0.001, 0.05, 8.0):
            assert (allocation_s <= bound).mean() == pytest.approx(published.cdf("16b", trigger, bound), abs=0.02)


def test_pooled_totals_of_all_regions_are_a_held_out_figure(published: Published) -> None:
    parts = {region: events(region)["total_us"][::20] for region in REGIONS}
    pooled = np.concatenate(list(parts.values()))
    weight = np.concatenate([np.full(len(part), hourly_counts(r).sum() / len(part)) for r, part in parts.items()])
    # As many of each region as in 31 days: a systematic sample by weight.
    sums = np.cumsum(weight)
    chosen = np.searchsorted(sums, (np.arange(60_000) + 0.5) / 60_000 * sums[-1])
    assert published.ks("10b", "all", (pooled[chosen] / 1e6).tolist()) <= 0.01


@pytest.mark.parametrize("region", REGIONS)
def test_components_add_up_and_none_is_negative(region: str) -> None:
    rows = events(region)
    assert np.array_equal(sum(rows[name] for name in PARTS), rows["total_us"])
    assert min(int(rows[name].min()) for name in PARTS) >= 0
    assert not (rows["code_us"] % 1000).any() and not (rows["dependency_us"] % 1000).any()


@pytest.mark.parametrize("region", REGIONS)
def test_counts_follow_figure_11(region: str, mirror: Path) -> None:
    with (mirror / FOLDER / "fig11_hourly_cold_starts.csv").open(newline="") as file:
        drawn = np.array([float(row["cold_starts"]) for row in csv.DictReader(file) if row["region"] == region])
    hour = events(region)["at_us"] // 3_600_000_000
    counts = np.bincount(hour, minlength=96)
    assert counts.sum() == pytest.approx(drawn[:96].sum(), rel=0.01)
    assert np.corrcoef(counts, drawn[:96])[0, 1] >= 0.95


def test_exact_totals() -> None:
    assert hourly_counts("R2").sum() == R2_COLD_STARTS
    assert abs(sum(int(hourly_counts(region).sum()) for region in REGIONS) - TOTAL_COLD_STARTS) <= 4
    assert hourly_counts("R2", scale=0.1).sum() == pytest.approx(R2_COLD_STARTS / 10, abs=1)


@pytest.mark.parametrize("region", REGIONS)
def test_minutes_are_correlated_as_in_figure_12(region: str, mirror: Path) -> None:
    order = ("cold_start_time", "deploy_code", "deploy_dep", "scheduling", "pod_alloc", "num_cold_starts")
    wanted = np.eye(6)
    with (mirror / FOLDER / "fig12_spearman.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["region"] == region:
                wanted[order.index(row["a"]), order.index(row["b"])] = float(row["spearman"])
    rows = events(region, 744 if region != "R1" else 240)
    minute = rows["at_us"] // 60_000_000
    counts = np.bincount(minute)
    names = ("total_us", "code_us", "dependency_us", "scheduling_us", "allocation_us")
    busy = counts > 0
    means = [np.bincount(minute, rows[name])[busy] / counts[busy] for name in names]
    ours = stats.spearmanr(np.column_stack([*means, counts[busy]])).statistic
    assert np.abs(ours - wanted)[np.triu_indices(6, 1)].mean() <= 0.15


def test_independent_components_would_miss_http(published: Published) -> None:
    # What the joint sampling is for: the same components in random order give totals far from the curve.
    samples = joint("R2")
    own = samples.runtime == RUNTIMES.index("http")
    mixed = np.random.default_rng(0)
    parts = [mixed.permutation(getattr(samples, name.replace("_us", "_s"))[own]) for name in PARTS]
    assert published.ks("15a", "http", sum(parts).tolist()) > 0.05
    assert published.ks("15a", "http", samples.total_s[own].tolist()) <= 0.01


def test_mixture_of_hours_is_the_published_law() -> None:
    law = curve("10c", "R4")
    counts = hourly_counts("R4")
    gaps = fit_gaps(law, counts)
    rank = (np.arange(4096) + 0.5) / 4096
    x = np.logspace(-5, 1.5, 60)
    ours = np.zeros(60)
    for level in range(len(gaps.log_quantiles)):
        values = np.exp(np.interp(rank, np.linspace(0, 1, gaps.log_quantiles.shape[1]), gaps.log_quantiles[level]))
        ours += np.searchsorted(values, x) / 4096 * counts[gaps.level == level].sum()
    assert np.abs(ours / counts.sum() - law.probability(x)).max() < 0.01


def test_tables_have_the_schema_and_are_the_same_again() -> None:
    from nonet.coldstart.trace.schema import conform

    def first(seed: int) -> list[dict[str, list[object]]]:
        workload = generate("huawei2025:R3", days=1, seed=seed, events="cold")
        assert isinstance(workload, HuaweiWorkload)
        return [conform("coldstart", rows).to_pydict() for rows in workload.cold_events("R3")]

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_unknown_region() -> None:
    workload = generate("huawei2025:R3", days=1, events="cold")
    assert isinstance(workload, HuaweiWorkload)
    with pytest.raises(InputError, match="R2"):
        workload.cold_events("R2")
