"""Tables: Azure 2019 and 2021, IBM 2026, Alibaba, and any CSV or Parquet by a map of its columns."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.coldstart.importing.column_map import parse_map
from nonet.common.errors import InputError

MINUTE_US = 60_000_000
DAY_US = 1440 * MINUTE_US
LEVELS = (0, 1, 25, 50, 75, 99, 100)


def write_csv(path: Path, names: list[str], rows: list[list[Any]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return path


def azure_day(folder: Path, day: int, counts: dict[tuple[str, str], list[int]]) -> None:
    names = ["HashOwner", "HashApp", "HashFunction", "Trigger", *map(str, range(1, 1441))]
    rows = [["o", app, function, "timer", *per_minute] for (app, function), per_minute in counts.items()]
    write_csv(folder / f"invocations_per_function_md.anon.d{day + 1:02d}.csv", names, rows)


def test_azure_2019_spreads_counts_and_draws_durations(take: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "azure"
    folder.mkdir()
    rng = random.Random(1)
    counts = {("a", f"f{i}"): [rng.choice([0] * 20 + [1, 2, 500]) for _ in range(1440)] for i in range(4)}
    counts["b", "timer"] = [1 if minute % 5 == 0 else 0 for minute in range(1440)]
    azure_day(folder, 0, counts)
    azure_day(folder, 1, {("b", "timer"): counts["b", "timer"]})
    quantiles = [0, 1, 25, 50, 75, 99, 100]
    names = ["HashOwner", "HashApp", "HashFunction", "Average", "Count", "Minimum", "Maximum"]
    names += [f"percentile_Average_{level}" for level in LEVELS]
    rows = [["o", "a", "f0", 50, 1, 0, 100, *quantiles], ["o", "b", "timer", 5, 1, 5, 5, *[5] * 7]]
    rows.append(["o", "a", "f1", 5, 1, 5, 5, *[-5] * 7])
    write_csv(folder / "function_durations_percentiles.anon.d01.csv", names, rows)
    memory = ["HashOwner", "HashApp", "SampleCount", "AverageAllocatedMb"]
    write_csv(folder / "app_memory_percentiles.anon.d01.csv", memory, [["o", "a", 10, 100.0], ["o", "b", 1, 200]])
    write_csv(folder / "app_memory_percentiles.anon.d02.csv", memory, [["o", "a", 30, 200.0]])
    taken = take("azure2019", folder)
    frame = taken.trace.scan("request").collect()
    minute = (pl.col("arrive_us") % DAY_US) // MINUTE_US
    found = frame.filter(pl.col("day") == 0).group_by("function", minute.alias("minute")).len().rows()
    wanted = {(f"{a}/{f}", m, n) for (a, f), per in counts.items() for m, n in enumerate(per) if n}
    assert set(found) == wanted
    timer = frame.filter(pl.col("function") == "b/timer").sort("arrive_us")
    assert set(timer["arrive_us"].diff().drop_nulls().to_list()) == {5 * MINUTE_US}
    # Day 2 has no durations: the ends are unknown there.
    ends = timer.with_columns(took=pl.col("end_us") - pl.col("arrive_us"))
    assert ends.filter(pl.col("day") == 0)["took"].unique().to_list() == [5_000]
    assert ends.filter(pl.col("day") == 1)["took"].unique().to_list() == [None]
    took_ms = (
        frame.filter(pl.col("function") == "a/f0").select(pl.col("end_us") - pl.col("arrive_us"))["end_us"] / 1000
    ).sort()
    for share in (0.1, 0.25, 0.5, 0.9):
        assert took_ms[int(share * took_ms.len())] == pytest.approx(100 * share, abs=1.5)
    assert frame.filter(pl.col("function") == "a/f1")["end_us"].null_count() == sum(counts["a", "f1"])
    assert taken.rows("function", "function", "user", "trigger", "memory_mb")[-1] == ("b/timer", "o", "timer", 200)
    assert taken.rows("function", "function", "memory_mb")[0] == ("a/f0", 175)
    assert taken.quarantine() == [("4", "a percentile is missing or negative")]
    assert taken.report.num_left_censored == 0
    assert frame["cold"].null_count() == frame.height


def test_azure_2019_refuses_bad_counts_and_keeps_a_share(take: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "azure"
    folder.mkdir()
    rows = {(f"app{i}", "f"): [1, *[0] * 1439] for i in range(200)}
    azure_day(folder, 0, {**rows, ("x", "neg"): [-1, *[0] * 1439], ("y", "half"): [0.5, *[0] * 1439]})  # type: ignore[list-item]
    whole = take("azure2019", folder)
    assert [reason for _, reason in whole.quarantine()] == ["a count is negative or no whole number"] * 2
    assert whole.report.num_requests == 200
    part = take("azure2019", folder, share="0.3")
    kept = {row[0] for row in part.rows("request", "function")}
    assert 35 <= len(kept) <= 85
    assert kept == {row[0] for row in take("azure2019", folder, share="0.3").rows("request", "function")}
    with pytest.raises(InputError, match="share"):
        take("azure2019", folder, share="2")
    with pytest.raises(InputError, match="not named like"):
        take("azure2019", write_csv(tmp_path / "x.csv", ["a"], []))


def test_azure_2021(take: Callable[..., Any], tmp_path: Path) -> None:
    rows = [
        ["a", "f", 5160.142570018768, 0.134],
        ["a", "g", 10, 0],
        ["b", "f", 7, -1],
        ["b", "f", "", 1],
        ["a", "f", 5, "x"],
    ]
    path = write_csv(tmp_path / "AzureFunctionsInvocationTrace.txt", ["app", "func", "end_timestamp", "duration"], rows)
    taken = take("azure2021", path)
    assert taken.rows("request", "function", "arrive_us", "end_us") == [
        ("a/f", 5_160_142_570 - 134_000, 5_160_142_570),
        ("a/g", 10_000_000, 10_000_000),
    ]
    assert taken.quarantine() == [("4", "negative duration"), ("5", "no end"), ("6", "no duration")]


@pytest.mark.parametrize("as_lists", [True, False])
def test_ibm_2026_as_parquet_with_lists_or_as_csv(take: Callable[..., Any], tmp_path: Path, as_lists: bool) -> None:
    times = [float(10 * i) for i in range(40)]
    pods = ["p1"] * 20 + ["p2"] * 20
    frame = pl.DataFrame(
        {
            "NamespaceHash": ["n"],
            "AppHash": ["a"],
            "NumEvents": [40],
            "InvocationTimes": [times],
            "AppExecTimes": [[100.0] * 40],
            "TotalExecTimes": [[150.0] * 39 + [50.0]],
            "PodHash": [pods],
        }
    )
    if as_lists:
        path = tmp_path / "week_1.parquet"
        frame.write_parquet(path)
    else:
        path = tmp_path / "week_1.csv"
        frame.explode("InvocationTimes", "AppExecTimes", "TotalExecTimes", "PodHash").write_csv(path)
    names = ["NamespaceHash", "AppHash", "cpu_vcpu_last", "memory_gb_last", "concurrency_last", "min_scale_last"]
    config = write_csv(
        tmp_path / "app_configs_last.csv", names, [["n", "a", 0.5, 4.0, 100.0, 1.0], ["n", "b", "", 1, 1, 0]]
    )
    taken = take("ibm2026", path, config)
    rows = taken.rows("request", "arrive_us", "start_us", "end_us", "pod", "cold")
    assert rows[0] == (0, 50_000, 150_000, "p1", None)
    assert rows[20] == (200_000_000, 200_050_000, 200_150_000, "p2", True)
    assert rows[39] == (390_000_000, 390_000_000, 390_050_000, "p2", False)
    assert [row[4] for row in rows].count(True) == 1
    assert taken.report.num_left_censored == 1
    columns = ("function", "cpu_millicores", "memory_mb", "concurrency", "min_scale")
    assert taken.rows("function", *columns) == [("n/a", 500, 4096, 100, 1), ("n/b", None, 1024, 1, 0)]


def test_real_ibm_settings(take: Callable[..., Any], mirror: Path) -> None:
    taken = take("ibm2026", mirror / "coldstart" / "ibm2026" / "app_configs_last.csv.gz")
    rows = taken.rows("function", "function", "concurrency", "min_scale")
    assert len(rows) == 1780
    assert sum(row[1] == 100 for row in rows) / 1780 == pytest.approx(0.93, abs=0.005)
    assert sum((row[2] or 0) >= 1 for row in rows) / 1780 == pytest.approx(0.59, abs=0.01)


def test_alibaba(take: Callable[..., Any], tmp_path: Path) -> None:
    names = ["__time__", "functionName", "latency", "runtime", "memoryMB"]
    path = write_csv(
        tmp_path / "t.csv", names, [[1_600_000_000, "f", 0.25, "python3", 512], [1_600_000_001, "", 1, "", ""]]
    )
    taken = take("alibaba", path)
    assert taken.rows("request", "function", "arrive_us", "end_us") == [
        ("f", 1_600_000_000_000_000, 1_600_000_000_250_000)
    ]
    assert taken.rows("function", "function", "runtime", "memory_mb") == [("f", "python3", 512)]
    assert taken.quarantine() == [("3", "no function")]


ROWS = [
    ["1767000000000", "f", "120.5", "true", "900", "eu"],
    ["1767000060000", "f", "0", "false", "", "eu"],
    ["", "f", "1", "false", "", "eu"],
    ["1767000060000", "", "1", "false", "", "eu"],
    ["1767000060000", "g", "-1", "false", "", "eu"],
    ["1767000060000", "g", "43200000", "maybe", "", "us"],
    ["nan", "g", "1", "", "", "us"],
]
NAMES = ["ts", "name", "took_ms", "is cold", "init", "where"]
MAP = "arrive=ts:ms,function=name,duration=took_ms:ms,cold=is cold,cold_total=init:ms,region=where"


def test_a_map_of_columns_reads_csv_and_parquet(take: Callable[..., Any], tmp_path: Path) -> None:
    path = write_csv(tmp_path / "log.csv", NAMES, ROWS)
    typed = pl.read_csv(path, infer_schema_length=0).with_columns(
        pl.col("ts", "took_ms", "init").cast(pl.Float64, strict=False)
    )
    typed.write_parquet(tmp_path / "log.parquet")
    t = 1_767_000_000_000_000
    for file, first_line in ((path, 2), (tmp_path / "log.parquet", 1)):
        taken = take("csv", file, map=MAP)
        assert taken.rows("request", "region", "arrive_us", "end_us", "function", "cold") == [
            ("eu", t, t + 120_500, "f", True),
            ("eu", t + MINUTE_US, t + MINUTE_US, "f", False),
            ("us", t + MINUTE_US, t + MINUTE_US + 43_200_000_000, "g", None),
        ]
        assert taken.rows("coldstart", "region", "at_us", "total_us") == [("eu", t, 900_000)]
        assert [(int(line) - first_line, reason) for line, reason in taken.quarantine()] == [
            (2, "no time of arrival"),
            (3, "no function"),
            (4, "negative duration"),
            (6, "no time of arrival"),
        ]


def test_times_as_texts_and_ends_with_durations(take: Callable[..., Any], tmp_path: Path) -> None:
    rows = [
        ["2026-05-04T08:00:01.5Z", "f"],
        ["2026-05-04 10:00:02.25+02:00", "f"],
        ["2026-05-04 08:00:03", "f"],
        ["x", "f"],
    ]
    taken = take("csv", write_csv(tmp_path / "a.csv", ["when", "fn"], rows), map="arrive=when,function=fn")
    t = 1_777_881_600_000_000
    assert [row[0] - t for row in taken.rows("request", "arrive_us")] == [1_500_000, 2_250_000, 3_000_000]
    rows = [["10", "2", "1", "f"], ["3", "0.5", "", "f"]]
    path = write_csv(tmp_path / "b.csv", ["done", "run", "queued", "fn"], rows)
    spec = "end=done:s,duration=run:s,wait=queued:s,function=fn"
    taken = take("csv", path, map=spec, times="relative")
    assert taken.trace.epoch is None
    assert taken.rows("request", "arrive_us", "start_us", "end_us") == [
        (2_500_000, 2_500_000, 3_000_000),
        (7_000_000, 8_000_000, 10_000_000),
    ]


def test_first_requests_of_pods_are_judged_when_nothing_says_cold(take: Callable[..., Any], tmp_path: Path) -> None:
    rows = [[t, "f", pod] for t, pod in ((0, "a"), (10, "a"), (300, "b"), (300, "b"), (400, "a"), (500, "c"))]
    rows.append([600, "new", "d"])
    path = write_csv(tmp_path / "a.csv", ["t", "fn", "pod"], rows)
    taken = take("csv", path, map="arrive=t:s,function=fn,pod=pod", times="relative")
    cold = [(t // 10**6, c) for t, c in taken.rows("request", "arrive_us", "cold")]
    assert cold == [(0, None), (10, False), (300, False), (300, True), (400, False), (500, True), (600, None)]
    assert taken.report.num_left_censored == 2


def test_cells_that_cannot_be_read_are_counted(take: Callable[..., Any], tmp_path: Path) -> None:
    rows = ["at,done,fn,cold", "1,2,a,true", "2,soon,a,maybe", "3,1e40,a,false", "4,,a,", "5,nan,a,NaN"]
    (tmp_path / "calls.csv").write_text("\n".join(rows) + "\n")
    taken = take("csv", tmp_path / "calls.csv", map="arrive=at:s,end=done:s,function=fn,cold=cold", times="relative")
    assert taken.report.num_requests == 5
    assert sorted(taken.report.warnings.items()) == [
        ("cold that cannot be read in column 'cold', left empty", 1),
        ("end that cannot be read in column 'done', left empty", 2),
    ]


def test_duplicates_are_found_when_requests_have_ids(take: Callable[..., Any], tmp_path: Path) -> None:
    rows = [[1, "f", "r1"], [1, "f", "r1"], [2, "f", "r1"], [3, "f", ""], [3, "f", ""]]
    taken = take("csv", write_csv(tmp_path / "a.csv", ["t", "fn", "id"], rows), map="arrive=t:s,function=fn,request=id")
    assert taken.quarantine() == [("3", "the same row a second time")]
    assert taken.report.num_requests == 4


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("arrive=ts", "say their unit"),
        ("arrive=ts:weeks,function=name", "unknown unit 'weeks'"),
        ("colour=ts,function=name", "fields are arrive"),
        ("function=name", "name the arrival"),
        ("arrive=ts:ms", "name the column of the function"),
        ("arrive=when:ms,function=name", "no column 'when'"),
    ],
)
def test_bad_maps_are_refused(take: Callable[..., Any], tmp_path: Path, spec: str, message: str) -> None:
    path = write_csv(tmp_path / "log.csv", NAMES, ROWS)
    spec = f"{spec},function=name" if message == "say their unit" else spec
    with pytest.raises(InputError, match=message):
        take("csv", path, map=spec)


@given(st.text(max_size=30))
def test_a_map_never_fails_in_another_way(spec: str) -> None:
    try:
        parse_map(spec)
    except InputError as error:
        assert "\n" not in str(error) or "\n" in spec


def test_hundred_thousand_functions_with_one_call_each(take: Callable[..., Any], tmp_path: Path) -> None:
    frame = pl.DataFrame({"t": range(100_000), "fn": [f"function-{i}" for i in range(100_000)]})
    frame.write_csv(tmp_path / "a.csv")
    taken = take("csv", tmp_path / "a.csv", map="arrive=t:s,function=fn", times="relative")
    assert (taken.report.num_requests, taken.report.num_functions) == (100_000, 100_000)
    assert taken.trace.end_us == 99_999 * 10**6


def test_lists_that_do_not_fit_together_are_refused_alone(take: Callable[..., Any], tmp_path: Path) -> None:
    names = ("InvocationTimes", "AppExecTimes", "TotalExecTimes")
    rows = {"NamespaceHash": ["n"] * 3, "AppHash": ["a", "b", "c"], **{name: [[1.0, 2.0]] * 3 for name in names}}
    rows["AppExecTimes"] = [[1.0, 2.0], [1.0, 2.0, 3.0], [1.0, 2.0]]
    pl.DataFrame({**rows, "PodHash": [["p", "p"]] * 3}).write_parquet(tmp_path / "week.parquet")
    taken = take("ibm2026", tmp_path / "week.parquet")
    assert taken.rows("function", "function") == [("n/a",), ("n/c",)]
    assert taken.quarantine() == [("2", "lists of different lengths")]


def test_two_functions_may_use_the_same_names_of_pods(take: Callable[..., Any], tmp_path: Path) -> None:
    """Both have been called before; then each has a new pod, of the same name."""
    lines = [f"n,{app},{t + k},10,{10 + wait},{pod}" for k, app in enumerate("ab") for t, wait, pod in
             ((0, 0, "p1"), (100, 0, "p1"), (500, 900, "p2"))]  # fmt: skip
    header = "NamespaceHash,AppHash,InvocationTimes,AppExecTimes,TotalExecTimes,PodHash"
    (tmp_path / "week.csv").write_text("\n".join([header, *lines]) + "\n")
    taken = take("ibm2026", tmp_path / "week.csv")
    cold = taken.rows("request", "function", "arrive_us", "cold")
    assert [(name, at // 1_000_000) for name, at, is_cold in cold if is_cold] == [("n/a", 500), ("n/b", 501)]
    assert taken.report.num_left_censored == 2
