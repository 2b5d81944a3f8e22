"""Every figure of a small trace against plain loops over the rows that it was written from."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from scipy import stats

from nonet.coldstart.analytics.figures import FIGURES, Figures
from nonet.coldstart.analytics.result import COLUMNS, FigureResult
from tests.coldstart.analytics.small_trace import DAY_US, Row, Rows

MINUTE_US, HOUR_US = 60_000_000, 3_600_000_000
TRIGGERS = {
    "timer": "TIMER-A",
    "web": "APIG-S",
    "queue": "other A",
    "flow": "workflow-S",
    "store": "OBS-A",
    "bare": "unknown",
}
PARTS = ("total", "code", "dependency", "scheduling", "allocation")


def runtime_of(function: str, rows: Rows) -> str:
    return next((row["runtime"] for row in rows.function if row["function"] == function), "unknown")


def assert_law(result: FigureResult, facet: str, group: str, values: list[float]) -> None:
    """The curve is the exact share at every value, and quantiles are within a bin."""
    curve = result.curves[(facet, group)]
    positive = sorted(v for v in values if v > 0)
    assert curve.num == len(values)
    assert curve.x[0] == pytest.approx(positive[0]) and curve.x[-1] == pytest.approx(positive[-1])
    assert curve.below == pytest.approx(sum(v <= 0 for v in values) / len(values))
    for share in (0.1, 0.25, 0.5, 0.75, 0.9, 0.99):
        ordered = sorted(values)
        exact = ordered[max(int(np.ceil(share * len(values) - 1e-9)) - 1, 0)]
        below = max((v for v in ordered if v < exact), default=exact)
        found = curve.quantile(share)[0]
        assert below * (1 - 0.012) <= found <= exact * (1 + 0.012), (group, share)


def by_region(rows: list[Row], value: Callable[[Row], float]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        found[row["region"]].append(value(row))
    return found


def test_every_figure_is_made_in_its_form(figures: Figures) -> None:
    for name in FIGURES:
        result = figures.figure(name)
        assert result.name == name and result.kind == FIGURES[name].kind
        assert set(COLUMNS[result.kind]) <= set(result.rows.columns), name
        assert len(result.rows) > 0, name
    assert len(FIGURES) == 37


def test_1_regions(figures: Figures, rows: Rows) -> None:
    for region in ("R1", "R2"):
        row = figures.figure("1").rows.filter(pl.col("group") == region).to_dicts()[0]
        assert row["x"] == 6  # five described, one only seen
        assert row["y"] == sum(r["region"] == region for r in rows.request)
        assert row["size"] == sum(r["region"] == region for r in rows.pod)


def test_3a_median_day(figures: Figures, rows: Rows) -> None:
    days = Counter((r["region"], r["function"], r["arrive_us"] // DAY_US) for r in rows.request)
    for region in ("R1", "R2"):
        names = {f for (reg, f, _) in days if reg == region}
        medians = [
            statistics.median([n for (reg, f, _), n in days.items() if (reg, f) == (region, name)]) for name in names
        ]
        assert_law(figures.figure("3a"), "", region, medians)


@pytest.mark.parametrize("name", ["3b", "3c"])
def test_3bc_means_of_function_minutes(figures: Figures, rows: Rows, name: str) -> None:
    value = (lambda r: (r["end_us"] - r["start_us"]) / 1e6) if name == "3b" else (lambda r: r["cpu_cores"])
    minutes: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for r in rows.request:
        minutes[(r["region"], r["function"], r["arrive_us"] // MINUTE_US)].append(value(r))
    for region in ("R1", "R2"):
        means = [statistics.fmean(found) for key, found in minutes.items() if key[0] == region]
        assert_law(figures.figure(name), "", region, means)


def test_4_users(figures: Figures, rows: Rows) -> None:
    users = {(r["region"], r["function"]): r["user"] for r in rows.function}
    for region in ("R1", "R2"):
        functions = Counter(user for (reg, _), user in users.items() if reg == region)
        requests = Counter(
            users[(region, r["function"])] for r in rows.request if r["region"] == region and r["function"] != "bare"
        )
        assert_law(figures.figure("4a"), "", region, list(functions.values()))
        assert_law(figures.figure("4b"), "", region, list(requests.values()))


def test_5_load(figures: Figures, rows: Rows) -> None:
    result = figures.figure("5")
    for region in ("R1", "R2"):
        counts = Counter(r["arrive_us"] // MINUTE_US for r in rows.request if r["region"] == region)
        x, y = result.xy(region)
        assert [round(v * max(counts.values())) for v in y] == [counts[m] for m in x]
        marked = dict(result.extra["daily_peaks"][region])
        smooth = dict(zip(x.tolist(), result.rows.filter(pl.col("group") == region)["smooth"].to_list(), strict=True))
        for minute, load in marked.items():
            day = minute // 1440
            assert load == pytest.approx(max(v for m, v in smooth.items() if m // 1440 == day))
        middle = 2000
        assert smooth[middle] == pytest.approx(np.mean([y[m] for m in range(middle - 30, middle + 31)]))


def test_7_pods_and_cpu_of_days(figures: Figures, rows: Rows) -> None:
    result = figures.figure("7")
    for region in ("R1", "R2"):
        pods = [r for r in rows.pod if r["region"] == region]
        running = [sum(overlap(r, d * DAY_US, (d + 1) * DAY_US) for r in pods) for d in range(3)]
        cores = [
            [r["cpu_cores"] for r in rows.request if r["region"] == region and r["arrive_us"] // DAY_US == d]
            for d in range(3)
        ]
        means = [statistics.fmean(found) for found in cores]
        for facet, expected in (("pods", running), ("mean_cpu", means)):
            assert result.xy(region, facet)[1] == pytest.approx(np.array(expected) / max(expected), rel=1e-6)


def overlap(pod: Row, low: int, high: int) -> int:
    return max(0, min(pod["end_us"], high) - max(pod["create_us"], low))


@pytest.mark.parametrize(("name", "shares"), [("8a", "8d"), ("8b", "8e")])
def test_8_running_pods_and_shares(figures: Figures, rows: Rows, name: str, shares: str) -> None:
    def group_of(row: Row) -> str:
        return TRIGGERS[row["function"]] if name == "8a" else runtime_of(row["function"], rows)

    result = figures.figure(name)
    total: Counter[str] = Counter()
    for group in {group_of(r) for r in rows.pod}:
        pods = [r for r in rows.pod if r["region"] == "R2" and group_of(r) == group]
        expected = [sum(overlap(r, h * HOUR_US, (h + 1) * HOUR_US) for r in pods) / HOUR_US for h in range(72)]
        assert result.xy(group, "R2")[1] == pytest.approx(expected, abs=1e-9)
        total[group] = sum(expected)  # type: ignore[assignment]
    colds = Counter(group_of(r) for r in rows.coldstart if r["region"] == "R2")
    functions = Counter(group_of({"function": f}) for f in TRIGGERS)
    for series, counts in (("pods", total), ("cold_starts", colds), ("functions", functions)):
        for group, count in counts.items():
            bar = figures.figure(shares).rows.filter(facet="R2", group=group, series=series)
            assert bar["y"][0] == pytest.approx(count / sum(counts.values()))


def test_9_triggers_of_runtimes(figures: Figures) -> None:
    bars = {(r["group"], r["series"]): r["y"] for r in figures.figure("9").rows.filter(facet="R1").to_dicts()}
    assert bars == {
        ("Python3", "TIMER-A"): 0.5,
        ("Python3", "other A"): 0.5,
        ("Java", "APIG-S"): 1.0,
        ("Go1.x", "workflow-S"): 1.0,
        ("Custom", "OBS-A"): 1.0,
    }


def test_10_cold_start_times_and_gaps(figures: Figures, rows: Rows) -> None:
    totals = by_region(rows.coldstart, lambda r: r["total_us"] / 1e6)
    times = by_region(rows.coldstart, lambda r: r["at_us"])
    gaps = {region: (np.diff(np.sort(found)) / 1e6).tolist() for region, found in times.items()}
    for region in ("R1", "R2"):
        assert_law(figures.figure("10a"), "", region, totals[region])
        assert_law(figures.figure("10c"), "", region, gaps[region])
    assert_law(figures.figure("10b"), "", "all", totals["R1"] + totals["R2"])
    assert_law(figures.figure("10d"), "", "all", gaps["R1"] + gaps["R2"])
    logs = np.log(totals["R1"] + totals["R2"])
    extra = figures.figure("10b").extra
    assert (extra["mu"], extra["sigma"]) == pytest.approx((logs.mean(), logs.std()), abs=0.02)
    shape, _, scale = stats.weibull_min.fit(gaps["R1"] + gaps["R2"], floc=0)
    extra = figures.figure("10d").extra
    assert (extra["shape"], extra["scale"]) == pytest.approx((shape, scale), rel=0.02)


def test_11_hours(figures: Figures, rows: Rows) -> None:
    hours: dict[int, list[Row]] = defaultdict(list)
    for r in rows.coldstart:
        if r["region"] == "R2":
            hours[r["at_us"] // HOUR_US].append(r)
    x, y = figures.figure("11").xy("cold_starts", "R2")
    assert dict(zip(x.tolist(), y.tolist(), strict=True)) == {hour: len(found) for hour, found in hours.items()}
    for part in PARTS:
        x, y = figures.figure("11").xy(part, "R2")
        expected = [statistics.fmean(r[f"{part}_us"] for r in hours[hour]) / 1e6 for hour in x]
        assert y == pytest.approx(expected)


def test_12_correlations(figures: Figures, rows: Rows) -> None:
    minutes: dict[int, list[Row]] = defaultdict(list)
    for r in rows.coldstart:
        if r["region"] == "R1":
            minutes[r["at_us"] // MINUTE_US].append(r)
    table = {part: [statistics.fmean(r[f"{part}_us"] for r in found) for found in minutes.values()] for part in PARTS}
    table["count"] = [float(len(found)) for found in minutes.values()]
    cells = {(r["a"], r["b"]): (r["y"], r["p"]) for r in figures.figure("12").rows.filter(facet="R1").to_dicts()}
    for a, b in (("total", "allocation"), ("dependency", "code"), ("count", "total"), ("total", "total")):
        ranks = [stats.rankdata(table[name]) for name in (a, b)]
        assert cells[(a, b)][0] == pytest.approx(np.corrcoef(*ranks)[0, 1])
        assert cells[(a, b)][1] == pytest.approx(stats.spearmanr(table[a], table[b]).pvalue)
    assert cells[("scheduling", "total")] == (None, None)  # constant in this trace


def test_13_pools(figures: Figures, rows: Rows) -> None:
    pools = {"timer": "small", "queue": "small", "store": "small", "web": "large", "flow": "large"}
    table = figures.figure("13").rows
    for part in ("total", "dependency", "allocation"):
        medians = {}
        for pool in ("small", "large"):
            chosen = [r for r in rows.coldstart if r["region"] == "R1" and pools.get(r["function"]) == pool]
            values = [r[f"{part}_us"] / 1e6 for r in chosen if part != "dependency" or r["dependency_us"] > 0]
            row = table.filter(facet="R1", metric=part, pool=pool).to_dicts()[0]
            assert row["num"] == len(values)
            assert_law(FigureResult("13", "spread", table, figures.figure("13").curves), f"R1 {part}", pool, values)
            medians[pool] = row["median"]
        ratio = table.filter(facet="R1", metric=part, pool="large:small")["median"][0]
        assert ratio == pytest.approx(medians["large"] / medians["small"])


def test_14_functions(figures: Figures, rows: Rows) -> None:
    requests = Counter((r["region"], r["function"]) for r in rows.request)
    colds = Counter((r["region"], r["function"]) for r in rows.coldstart)
    expected = sorted((region, TRIGGERS[f], float(n), float(colds[(region, f)])) for (region, f), n in requests.items())
    assert sorted(figures.figure("14").rows.select("facet", "group", "x", "y").rows()) == expected


@pytest.mark.parametrize(("figure", "by"), [("15", "runtime"), ("16", "trigger")])
def test_15_16_components_by_attribute(figures: Figures, rows: Rows, figure: str, by: str) -> None:
    for letter, part in zip("abcde", ("total", "allocation", "code", "dependency", "scheduling"), strict=True):
        result = figures.figure(figure + letter)
        groups: dict[str, list[float]] = defaultdict(list)
        for r in rows.coldstart:
            if r["region"] == "R2" and (part != "dependency" or r["dependency_us"] > 0):
                name = TRIGGERS[r["function"]] if by == "trigger" else runtime_of(r["function"], rows)
                groups[name].append(r[f"{part}_us"] / 1e6)
        groups["all"] = [v for values in groups.values() for v in values]
        assert {group for facet, group in result.curves if facet == "R2"} == set(groups)
        for group, values in groups.items():
            assert_law(result, "R2", group, values)


def test_17_utility(figures: Figures, rows: Rows) -> None:
    last: dict[tuple[str, str], int] = defaultdict(int)
    for r in rows.request:
        last[(r["region"], r["pod"])] = max(last[(r["region"], r["pod"])], r["end_us"])
    ratios: dict[str, list[float]] = defaultdict(list)
    for r in rows.coldstart:
        if r["region"] == "R1":
            useful = last[("R1", r["pod"])] - (r["at_us"] + r["total_us"])
            ratios[TRIGGERS[r["function"]]].append(useful / r["total_us"])
    for group, values in ratios.items():
        assert_law(figures.figure("17b"), "R1", group, values)
    assert_law(figures.figure("17a"), "R1", "all", [v for values in ratios.values() for v in values])
