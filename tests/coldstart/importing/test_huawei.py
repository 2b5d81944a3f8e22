"""Small files in the formats of the two Huawei releases."""

from __future__ import annotations

import csv
import itertools
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nonet.coldstart.importing.tabular import UNUSABLE
from nonet.common.errors import InputError

DAY_S = 86_400
COLD = ["day", "time", "clusterName", "funcName", "userID", "requestID", "totalCost_cold_start", "podAllocationCost"]
COLD += ["deployCodeCost", "deployDependencyCost", "schedulingCost", "podID"]
REQUEST = [
    "time_worker",
    "time_frontend",
    "requestID",
    "clusterName",
    "funcName",
    "podID",
    "userID",
    "totalCost_worker",
]
REQUEST += [
    "workerCost",
    "runtimeCost",
    "totalCost_frontend",
    "frontendCost",
    "busCost",
    "readBodyCost",
    "writeRspCost",
]
REQUEST += ["cpu_usage", "memory_usage", "requestBodySize"]


def write_csv(path: Path, names: list[str], rows: list[dict[str, Any]], end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator=end, restval="0")
        writer.writeheader()
        writer.writerows(rows)


def cold_row(at_s: float, number: int, **values: Any) -> dict[str, Any]:
    parts = [0.027161815, 0.045, 0.454, 1.713152185]
    names = ("podAllocationCost", "deployCodeCost", "deployDependencyCost", "schedulingCost")
    row = {"day": int(at_s // DAY_S), "time": at_s, "clusterName": 1, "funcName": 10, "userID": 134}
    row |= {"requestID": f"{number:032x}", "totalCost_cold_start": round(sum(parts), 9)}
    return row | dict(zip(names, parts, strict=True)) | {"podID": f"pool24-600-512-{number:010d}"} | values


def request_row(end: float, number: int, **values: Any) -> dict[str, Any]:
    row = {
        "time_worker": end,
        "time_frontend": end + 0.001,
        "requestID": f"{number:032x}",
        "funcName": 10,
        "userID": 134,
    }
    row |= {"podID": "pool24-600-512-0000000001", "totalCost_worker": 0.023749, "totalCost_frontend": 0.026421}
    return row | {"cpu_usage": 0.291506, "memory_usage": 32.308594} | values


def test_cold_starts_with_their_pods_and_functions(take: Callable[..., Any], tmp_path: Path) -> None:
    rows = [cold_row(51937.425, 1), cold_row(DAY_S * 30 + 5.5, 2, funcName=11, podID="pool22-300-128-0000000009")]
    write_csv(tmp_path / "d" / "cold_start" / "R2" / "day_00.csv", COLD[::-1], rows, "\r\n")
    taken = take("huawei2025", tmp_path / "d")
    assert taken.trace.regions == ("R2",)
    assert taken.trace.epoch is None
    assert taken.rows("coldstart", "at_us", "function", "total_us", "day", "region")[0] == (
        51_937_425_000,
        "10---134---pool24-600-512",
        2_239_314,
        0,
        "R2",
    )
    parts = taken.rows("coldstart", "at_us", "allocation_us", "code_us", "dependency_us", "scheduling_us")
    assert parts[0][1:] == (27_162, 45_000, 454_000, 1_713_152)
    pods = taken.rows("pod", "pod", "create_us", "ready_us", "end_us", "cpu_millicores", "memory_mb")
    assert pods[1] == ("pool24-600-512-0000000001", 51_937_425_000, 51_937_425_000 + 2_239_314, None, 600, 512)
    assert taken.rows("function", "function", "user", "memory_mb")[1] == ("11---134---pool22-300-128", "134", 128)


def test_bad_cold_starts_are_quarantined(take: Callable[..., Any], tmp_path: Path) -> None:
    rows = [
        cold_row(1.0, 1),
        cold_row(1.0, 1),
        cold_row(2.0, 2, totalCost_cold_start=-1),
        cold_row(3.0, 3, totalCost_cold_start="nan"),
        cold_row(4.0, 4, podAllocationCost="fast"),
        cold_row(5.0, 5, time=""),
        cold_row(6.0, 6, deployDependencyCost=0, totalCost_cold_start=1.785314),
        cold_row(7.0, 7, deployDependencyCost="", totalCost_cold_start=9),
        cold_row(8.0, 8, totalCost_cold_start=99.0),
        cold_row(9.0, 9, day=7),
        cold_row(10.0, 10, userID=""),
        cold_row(11.0, 11, podID="", podAllocationCost=0, totalCost_cold_start=43_200),
    ]
    write_csv(tmp_path / "R1.csv", COLD, rows)
    taken = take("huawei2025", tmp_path / "R1.csv")
    assert taken.quarantine() == [
        ("3", "the same row a second time"),
        ("4", "negative duration"),
        ("5", "no total"),
        ("6", "a component is no number"),
        ("7", "no time"),
        ("12", "no function"),
    ]
    assert taken.rows("coldstart", "at_us", "dependency_us")[1] == (6_000_000, 0)
    # A time below one day on day 7 is within that day.
    assert taken.rows("coldstart", "at_us")[-1] == (7 * DAY_S * 10**6 + 9_000_000,)
    assert taken.report.warnings == {"components that do not add up to the total (by more than 1 ms)": 2}
    assert taken.rows("coldstart", "at_us", "function", "total_us")[4] == (11_000_000, "10---134", 43_200_000_000)


def test_requests_are_cold_where_a_cold_start_names_them(take: Callable[..., Any], tmp_path: Path) -> None:
    t = DAY_S * 30 + 100.0
    write_csv(
        tmp_path / "d" / "cold_start" / "R2" / "day_30.csv",
        COLD,
        [cold_row(t, 1), cold_row(t, 1, podID="pool1-300-128-7")],
    )
    rows = [
        request_row(t + 3, 1),
        request_row(t + 4, 2, time_frontend="nan", totalCost_frontend="nan"),
        request_row(t + 5, 3, time_frontend=t + 5.5),
        request_row(t + 6, 1, totalCost_worker=43_136, totalCost_frontend=43_137),
        request_row(t + 7, 5, totalCost_worker=-0.5),
        request_row(t + 8, 6, totalCost_worker=0, totalCost_frontend=0),
    ]
    write_csv(tmp_path / "d" / "per_request" / "R2" / "R2_00000.csv", REQUEST, [*rows, rows[0]])
    write_csv(tmp_path / "d" / "per_request" / "R5" / "R5_00000.csv", REQUEST, rows[:1])
    taken = take("huawei2025", tmp_path / "d")

    def us(seconds: float) -> int:
        return round(seconds * 1e6)

    id1, id2, id3, id6 = (f"{n:032x}" for n in (1, 2, 3, 6))
    by_region = taken.rows("request", "region", "end_us", "arrive_us", "start_us", "cold", "request")
    assert by_region == [
        ("R2", us(t + 3.001), us(t + 3.001 - 0.026421), us(t + 3 - 0.023749), True, id1),
        ("R2", us(t + 4), us(t + 4 - 0.023749), us(t + 4 - 0.023749), False, id2),
        ("R2", us(t + 5.5), us(t + 5.5 - 0.026421), us(t + 5.5 - 0.026421), False, id3),
        ("R2", us(t + 6.001), us(t + 6.001 - 43_137), us(t + 6 - 43_136), True, id1),
        ("R2", us(t + 8.001), us(t + 8.001), us(t + 8.001), False, id6),
        ("R5", us(t + 3.001), us(t + 3.001 - 0.026421), us(t + 3 - 0.023749), None, id1),
    ]
    assert sorted(taken.quarantine()) == [("6", "negative duration"), ("8", "the same row a second time")]
    assert taken.report.warnings["request without a frontend"] == 1
    assert taken.report.warnings["worker begins before the frontend (clock skew), moved"] == 2
    starts = take("huawei2025", tmp_path / "d", log_time="start").rows("request", "region", "arrive_us")
    assert starts[-1] == ("R5", us(t + 3.001))


def test_runtimes_triggers_and_series_out_of_a_zip(take: Callable[..., Any], tmp_path: Path) -> None:
    functions = [
        {
            "funcID": "400---418---pool22-300-128",
            "cpu_request": 100,
            "runtime": "Python3",
            "triggerType-invocationType": "workflow-S",
        },
        {
            "funcID": "7---1---pool1-1000-1024",
            "cpu_request": 500,
            "runtime": "Java",
            "triggerType-invocationType": "['APIG-S', 'TIMER-A']",
        },
    ]
    write_csv(tmp_path / "a.csv", list(functions[0]), functions)
    wide = [
        {"day": 1, "time": DAY_S + 60 * i, "400---418---pool22-300-128": i or "", "7---1---pool1-1000-1024": "NaN"}
        for i in range(50)
    ]
    write_csv(tmp_path / "b.csv", list(wide[0]), wide)
    with zipfile.ZipFile(tmp_path / "release.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.csv", "runtime_triggerType/df_funcID_runtime_triggerType.csv")
        archive.write(tmp_path / "b.csv", "quantiles/R2/totalCost_quantile_050/day_01.csv")
        archive.write(tmp_path / "b.csv", "quantiles/R2/num_pods/day_01.csv")
        archive.writestr("__MACOSX/._x.csv", "junk")
    taken = take("huawei2025", tmp_path / "release.zip")
    assert taken.rows("function", "function", "runtime", "trigger", "memory_mb") == [
        ("400---418---pool22-300-128", "Python3", "workflow-S", 128),
        ("7---1---pool1-1000-1024", "Java", "APIG-S, TIMER-A", 1024),
    ]
    rows = taken.rows("series", "metric", "statistic", "at_us", "function", "value", "step_us", "region")
    assert len(rows) == 98
    assert rows[0] == ("num_pods", "", (DAY_S + 60) * 10**6, "400---418---pool22-300-128", 1.0, 60_000_000, "R2")
    assert rows[-1][:2] == ("totalCost", "quantile_050")


def test_an_empty_region_is_a_region(take: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path / "cold_start" / "R1" / "day_00.csv", COLD, [cold_row(1.0, 1)])
    write_csv(tmp_path / "cold_start" / "R4" / "day_00.csv", COLD, [])
    (tmp_path / "cold_start" / "R1" / "day_01.csv").write_text("")
    taken = take("huawei2025", tmp_path / "cold_start")
    assert taken.trace.regions == ("R1", "R4")
    assert taken.trace.scan("coldstart", ["R4"]).collect().height == 0
    assert taken.quarantine() == [("", UNUSABLE)]


def test_another_table_is_refused_by_name(take: Callable[..., Any], tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", ["a", "b"], [{"a": 1, "b": 2}])
    with pytest.raises(InputError, match="none of the tables of Huawei 2025"):
        take("huawei2025", tmp_path / "x.csv")


def test_series_of_2023_also_become_requests(take: Callable[..., Any], tmp_path: Path) -> None:
    rng = random.Random(5)
    counts = {(minute, f): rng.choice([0, 0, 1, 3, 200]) for minute in range(60) for f in ("0", "17")}
    wide = [{"day": 0, "time": 60 * m, "0": counts[m, "0"], "17": counts[m, "17"] or ""} for m in range(60)]
    write_csv(tmp_path / "datasets" / "private_dataset" / "requests_minute" / "day_000.csv", list(wide[0]), wide)
    delays = [{"day": 0, "time": 0, "0": 0.25, "17": "NaN"}]
    write_csv(
        tmp_path / "datasets" / "private_dataset" / "function_delay_minute" / "day_000.csv", list(wide[0]), delays
    )
    taken = take("huawei2023", tmp_path / "datasets", requests="yes")
    assert taken.trace.regions == ("private",)
    assert ("function_delay", 0, "0", 0.25) in taken.rows("series", "metric", "at_us", "function", "value")
    found: dict[tuple[int, str], list[int]] = {}
    for arrive, function in taken.rows("request", "arrive_us", "function"):
        found.setdefault((arrive // 60_000_000, function), []).append(arrive)
    assert {key: len(times) for key, times in found.items()} == {key: n for key, n in counts.items() if n}
    for times in found.values():
        gaps = {b - a for a, b in itertools.pairwise(times)}
        assert all(abs(gap - 60_000_000 / len(times)) <= 1 for gap in gaps)
    assert take("huawei2023", tmp_path / "datasets").report.num_requests == 0
