"""The queries: bounded memory, the same text on Spark, traces that lack things, damaged files."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
import sqlglot
from polars.testing import assert_frame_equal

from nonet.coldstart.analytics import cold_queries, pod_queries, request_queries
from nonet.coldstart.analytics.engine import Engine, duckdb_sql, filled_columns, run_sql, spark_sql, tables
from nonet.coldstart.analytics.figures import FIGURES, Figures, figure
from nonet.coldstart.analytics.peaks import peak_to_trough
from nonet.coldstart.trace.schema import conform
from nonet.coldstart.trace.store import Trace, TraceWriter
from nonet.common.errors import InputError
from tests.coldstart.analytics.small_trace import DAY_US, Rows, WrittenTrace, write_trace


def queries() -> dict[str, Any]:
    t = tables()
    lives, derived = pod_queries.pod_lives(t, 3 * DAY_US), pod_queries.pod_lives_from_requests(t)
    return {
        "requests_per_region": request_queries.requests_per_region(t),
        "3a": request_queries.median_day_histogram(t),
        "3b": request_queries.execution_histogram(t),
        "3c": request_queries.cpu_histogram(t),
        "4a": request_queries.functions_per_user(t),
        "4b": request_queries.requests_per_user(t),
        "5": request_queries.requests_per_minute(t),
        "6 functions": request_queries.busy_functions(t),
        "6 profile": request_queries.daily_profile(t, 600_000_000),
        "7 cpu": request_queries.daily_cpu(t),
        "7 pods": pod_queries.running_changes(t, lives, None, DAY_US),
        "8": pod_queries.running_changes(t, lives, "size_class", 3_600_000_000),
        "8 from requests": pod_queries.running_changes(t, derived, "trigger", 3_600_000_000),
        "8 functions": pod_queries.functions_by(t, "runtime"),
        "8 cold starts": cold_queries.cold_by(t, "trigger"),
        "9": pod_queries.functions_by_runtime_and_trigger(t),
        "10a": cold_queries.cold_histogram(t, "total"),
        "10c": cold_queries.gap_histogram(t),
        "11": cold_queries.hourly_parts(t),
        "12": cold_queries.minute_parts(t),
        "13": cold_queries.cold_histogram_by(t, "dependency", "pool"),
        "14": pod_queries.function_points(t),
        "15": cold_queries.cold_histogram_by(t, "total", "runtime"),
        "16": cold_queries.cold_histogram_by(t, "allocation", "trigger"),
        "17": pod_queries.utility_histogram(t, "runtime", from_requests=True),
        "17 from pods": pod_queries.utility_histogram(t, "trigger", from_requests=False),
        "1 functions": pod_queries.functions_per_region(t),
        "1 pods": pod_queries.pods_per_region(t),
        "cold per function": cold_queries.cold_per_function(t),
    }


@pytest.mark.parametrize("name", queries())
def test_the_text_for_spark_gives_what_duckdb_gives(name: str, trace: WrittenTrace) -> None:
    """The Spark SQL is translated to DuckDB by another program and run on the same tables."""
    query = queries()[name]
    text = spark_sql(query)
    assert text != duckdb_sql(query) or "GROUP BY" in text
    with Engine(trace) as engine:
        ours = engine.run(query)
        theirs = run_sql(engine._connection, sqlglot.transpile(text, read="spark", write="duckdb")[0])
    assert ours.columns == theirs.columns and len(ours) == len(theirs) > 0
    keys = [column for column, kind in ours.schema.items() if not kind.is_float()]
    pairs = [frame.sort(keys) for frame in (ours, theirs)]
    for column in ours.columns:
        first, second = (pair[column].to_list() for pair in pairs)
        assert first == pytest.approx(second) if ours[column].dtype.is_numeric() else first == second


def test_ibis_is_not_loaded_until_a_query_is_made() -> None:
    heavy = {"ibis", "duckdb", "polars", "scipy", "altair"}
    code = f"import sys, nonet.coldstart.analytics.figures; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def busy_rows() -> Rows:
    """Two functions with more than 100 requests a day: one with a peak at noon, one even; and a quiet one."""
    rng = random.Random(5)
    rows = Rows()
    for day in range(3):
        for _ in range(300):
            rows.request.append({"region": "R1", "function": "even", "arrive_us": day * DAY_US + rng.randrange(DAY_US)})
        for _ in range(400):
            noon = rng.random() < 0.5
            at = int((0.5 + 0.04 * rng.random()) * DAY_US) if noon else rng.randrange(DAY_US)
            rows.request.append({"region": "R1", "function": "noon", "arrive_us": day * DAY_US + at})
        rows.request.append({"region": "R1", "function": "quiet", "arrive_us": day * DAY_US})
    rows.coldstart += [{"region": "R1", "function": "noon", "at_us": at, "total_us": 1000} for at in range(7)]
    return rows


def test_6_peaks_by_load_and_by_cold_starts(tmp_path: Path) -> None:
    rows = busy_rows()
    profile = pl.DataFrame(rows.request).filter(function="noon")["arrive_us"].to_numpy() % DAY_US // 600_000_000
    counts = [float((profile == slot).sum()) for slot in range(144)]
    with Figures(write_trace(tmp_path, rows, 3)) as figures:
        assert figures.figure("6a").rows.sort("x").rows() == [
            ("", "R1", 300.0, 1.0),
            ("", "R1", 400.0, peak_to_trough(pl.Series(counts).to_numpy())),
        ]
        assert figures.figure("6b").rows.rows() == [("", "R1", 7.0, figures.figure("6a").rows["y"].max())]
    assert figures.figure("6a").rows["y"].max() > 5  # type: ignore[operator]


def test_a_trace_of_cold_starts_alone_says_what_it_lacks(tmp_path: Path) -> None:
    rows = Rows(
        coldstart=[{"region": "eu", "function": "f", "at_us": at * 10**6, "total_us": 100 + at} for at in range(50)]
    )
    with Figures(write_trace(tmp_path, rows, 1)) as figures:
        made = [name for name in FIGURES if figures.missing(name) is None]
        assert made == ["10a", "10b", "10c", "10d", "11"]
        assert figures.missing("3b") == (
            "request.start_us (the trace has no rows of request) and request.end_us (the trace has no rows of request)"
        )
        assert figures.figure("10a").curves[("", "eu")].num == 50
        with pytest.raises(InputError, match=r"figure 15a: the trace lacks function\.runtime"):
            figures.figure("15a")
        with pytest.raises(InputError, match="unknown figure '10e'; did you mean"):
            figures.figure("10e")


def test_pods_are_derived_from_requests_where_there_is_no_pod_table(tmp_path: Path, rows: Rows) -> None:
    without = Rows(rows.request, rows.coldstart, [], rows.function)
    result = figure(write_trace(tmp_path, without, 3), "8a")
    lives: dict[tuple[str, str], list[int]] = {}
    for r in rows.request:
        if r["region"] == "R1" and r["function"] == "web":
            life = lives.setdefault(r["pod"], [r["arrive_us"], r["end_us"]])
            life[0], life[1] = min(life[0], r["arrive_us"]), max(life[1], r["end_us"])
    hour = 3_600_000_000
    expected = [
        sum(max(0, min(end + 60_000_000, (h + 1) * hour) - max(begin, h * hour)) for begin, end in lives.values())
        / hour
        for h in range(72)
    ]
    assert result.xy("APIG-S", "R1")[1] == pytest.approx(expected, abs=1e-9)


def test_a_pod_without_an_end_runs_to_the_end_of_the_trace(tmp_path: Path) -> None:
    pod = {"region": "eu", "function": "f", "pod": "p", "create_us": 6 * 3_600_000_000}
    function = {"region": "eu", "function": "f", "trigger": "http"}
    written = write_trace(tmp_path / "t", Rows(pod=[pod], function=[function]), 1)
    with Figures(written) as figures:
        _, pods = figures.figure("8a").xy("http")
    assert pods.tolist() == [0.0] * 6 + [1.0] * 18


def test_any_names_of_triggers_and_many_runtimes(tmp_path: Path) -> None:
    rows = Rows()
    for index in range(30):
        name = f"f{index}"
        rows.function.append({"region": "local", "function": name, "runtime": f"runtime{index:02}", "trigger": "sqs"})
        rows.coldstart += [
            {"region": "local", "function": name, "at_us": at, "total_us": 1000 * (index + 1), "allocation_us": 0}
            for at in range(30 - index)
        ]
    with Figures(write_trace(tmp_path, rows, 1)) as figures:
        groups = {group: curve.num for (_, group), curve in figures.figure("15a").curves.items()}
        assert groups == {f"runtime{i:02}": 30 - i for i in range(9)} | {"other": sum(range(1, 22)), "all": 465}
        assert {group for _, group in figures.figure("16a").curves} == {"sqs", "all"}
        with pytest.raises(InputError, match="no positive value"):
            figures.figure("15b")


def test_columns_that_hold_nothing_are_known_from_the_footers(trace: WrittenTrace, tmp_path: Path) -> None:
    filled = filled_columns(trace)
    assert "cpu_cores" in filled["request"] and "memory_mb" not in filled["request"]
    assert "detail" not in filled["coldstart"] and "node" not in filled["pod"]
    assert filled_columns(write_trace(tmp_path, Rows(), 1))["request"] == frozenset()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    written = write_trace(tmp_path, busy_rows(), 3)
    file = next((tmp_path / "request").rglob("*.parquet"))
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InputError, match=r"part-00000\.parquet: damaged"):
        Figures(written)


def test_too_little_memory_is_an_error_in_one_line(trace: WrittenTrace) -> None:
    with pytest.raises(InputError, match="DuckDB does not start with memory 'a lot'"):
        Engine(trace, memory="a lot")


def test_a_query_that_does_not_fit_spills_and_cleans_up(tmp_path: Path) -> None:
    with Engine(write_trace(tmp_path, busy_rows(), 3), memory="60MB", threads=1, scratch=tmp_path) as engine:
        sql = "SELECT count(*) AS num FROM (SELECT range AS x, md5(range::VARCHAR) AS y FROM range(3000000) ORDER BY y)"
        assert run_sql(engine._connection, sql)["num"][0] == 3_000_000
    assert not list(tmp_path.glob("nonet-coldstart-*"))


@pytest.mark.parametrize("has_requests", [True, False])
def test_17_a_pod_name_used_again_counts_once_and_ends_come_from_pods_without_requests(
    tmp_path: Path, has_requests: bool
) -> None:
    named = {"region": "R1", "function": "f", "pod": "p"}
    rows = Rows(function=[{"region": "R1", "function": "f", "runtime": "Go1.x"}])
    rows.coldstart = [
        named | {"at_us": at, "total_us": total} for at, total in ((1_000_000, 500_000), (9_000_000, 800_000))
    ]
    rows.pod = [named | {"create_us": 1_000_000, "ready_us": 2_000_000, "end_us": 77_000_000}]
    if has_requests:
        rows.request = [named | {"arrive_us": 1_000_000, "end_us": end} for end in (3_000_000, 12_000_000)]
    result = figure(write_trace(tmp_path, rows, 1), "17a")
    useful_s = (12.0 if has_requests else 77.0 - 60.0) - 2.0  # ready, by the pod table, at 2 s
    assert result.curve("Go1.x").num == 1
    assert result.curve("Go1.x").median == pytest.approx(useful_s / 0.5)


def test_folding_of_triggers_and_unknown_sizes(tmp_path: Path) -> None:
    names = {"a": "TIMER-A", "b": "CTS-A", "c": "LTS-S", "d": "unknown-unknown", "e": "", "f": None, "g": "my queue"}
    rows = Rows(function=[{"region": "R1", "function": f, "trigger": t, "runtime": "x"} for f, t in names.items()])
    rows.function[0] |= {"cpu_millicores": 300, "memory_mb": 128}
    written = write_trace(tmp_path, rows, 1)
    bars = figure(written, "9").rows.select("series", "y").rows()
    assert dict(bars) == pytest.approx(
        {"TIMER-A": 1 / 7, "other A": 1 / 7, "other S": 1 / 7, "unknown": 3 / 7, "my queue": 1 / 7}
    )
    assert dict(figure(written, "8f").rows.select("group", "y").rows()) == pytest.approx(
        {"300-128": 1 / 7, "unknown": 6 / 7}
    )


def test_a_trace_of_the_store_gives_the_same_figures(tmp_path: Path, rows: Rows, figures: Figures) -> None:
    with TraceWriter(tmp_path / "t", "a test", window=(0, 3 * DAY_US)) as writer:
        for table, found in rows.__dict__.items():
            for region in ("R1", "R2"):
                columns = {
                    key: [r.get(key) for r in found if r["region"] == region] for key in found[0] if key != "region"
                }
                writer.append(table, region, conform(table, pa.table(columns)))
    with Figures(Trace.open(tmp_path / "t")) as stored:
        for name in ("1", "3a", "8c", "10c", "12", "14", "17a"):
            order = [column for column in figures.figure(name).rows.columns if column != "p"]
            assert_frame_equal(stored.figure(name).rows.sort(order), figures.figure(name).rows.sort(order))
