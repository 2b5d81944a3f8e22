"""Power and request logs made to mislead: what is read must be what an operator would read off them."""

from __future__ import annotations

import gzip
import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from nonet.cli import app
from nonet.common.errors import InputError
from nonet.power.load.power_log import read_power_log
from nonet.power.load.readers import read_requests
from nonet.power.load.rises import rise
from nonet.power.load.times import undo_put_back

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
START_S = 1767225600


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _series(values: list[float], period_s: float = 2) -> str:
    rows = "".join(f"{START_S + period_s * i},{value}\n" for i, value in enumerate(values))
    return "timestamp,power_w\n" + rows


def test_gpus_of_the_same_number_on_two_hosts_are_two_sensors(tmp_path: Path) -> None:
    rows = [(at, host, gpu, 100 + 50 * (host == "b") + gpu) for at in (0, 2) for host in "ab" for gpu in range(8)]
    text = "timestamp,Hostname,gpu,DCGM_FI_DEV_POWER_USAGE,DCGM_FI_DEV_POWER_MGMT_LIMIT\n"
    log = _write(tmp_path / "dcgm.csv", text + "".join(f"{a},{h},{g},{w},400\n" for a, h, g, w in rows))
    expected = [sum(w for at, _, _, w in rows if at == t) for t in (0, 2)]
    assert read_power_log(log).power_w.tolist() == expected


@pytest.mark.parametrize(
    ("header", "cells", "watts"),
    [
        ("power.draw.average [W],power.draw.instant [W]", "82.3 W,85.0 W", 82.3),
        ("power.draw.instant [W],power.draw [W],power.management", "85 W,82.3 W,Enabled", 82.3),
        ("power_avg_w,power_max_w,power_min_w", "150,170,140", 150),
        ("power_max_w,power_avg_w", "170,150", 150),
        ("row_power_w,gpu0_power_w,gpu1_power_w", "150,20,30", 150),
        ("pdu1_power_w,pdu2_power_w", "70,80", 150),
        ("Power (kW)", "0.15", 150),
        ("total_kw_avg", "0.15", 150),
        ("power", "0.15 kW", 150),
        ("energy_kwh,power_w", "9,150", 150),
        ("utilization.gpu [%],utilization.memory [%],power.draw [W]", "97,30,150", 150),
    ],
)
def test_one_column_of_each_quantity_in_its_unit(tmp_path: Path, header: str, cells: str, watts: float) -> None:
    log = _write(tmp_path / "row.csv", f"time,{header}\n0,{cells}\n2,{cells}\n")
    assert read_power_log(log).power_w.tolist() == pytest.approx([watts, watts])


def test_units_in_cells_may_differ(tmp_path: Path) -> None:
    log = _write(tmp_path / "row.csv", "time,power\n0,150 kW\n2,151000 W\n4,152\n")
    assert read_power_log(log).power_w.tolist() == [150_000, 151_000, 152]


def test_tenfold_readings_are_left_out_and_real_rises_are_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    values = (150_000 + 1_000 * rng.integers(-5, 6, 500)).astype(float)
    flawed = values.copy()
    flawed[[50, 300, 301]] *= 10
    read = read_power_log(_write(tmp_path / "a.csv", _series(flawed.tolist())))
    assert read.notes["tenfold readings, left out"] == 3
    kept = np.setdiff1d(np.arange(500), [50, 300, 301])
    assert (read.power_w[kept] == values[kept]).all()
    assert read.power_w.max() < 156_000
    waking = [60.0] * 20 + [700.0] * 40 + [60.0] * 20 + [700.0] * 2 + [60.0] * 16
    assert read_power_log(_write(tmp_path / "b.csv", _series(waking))).power_w.tolist() == waking


def test_stuck_readings_are_counted(tmp_path: Path) -> None:
    values = [150_000.0 + i for i in range(20)] + [151_000.0] * 45 + [152_000.0 + i for i in range(20)]
    read = read_power_log(_write(tmp_path / "a.csv", _series(values)))
    assert read.notes["stuck readings, kept"] == 45
    assert read.power_w.tolist() == values


def test_a_log_slower_than_the_period_keeps_its_own(tmp_path: Path) -> None:
    read = read_power_log(_write(tmp_path / "a.csv", _series([1.0, 2.0, 4.0, 3.0], period_s=60)))
    assert (read.period_s, read.power_w.tolist()) == (60.0, [1.0, 2.0, 4.0, 3.0])
    assert read.notes["period raised to that of the log, s"] == 60


def test_semicolons_and_decimal_commas(tmp_path: Path) -> None:
    text = "time;power_kw\n2026-01-01 00:00:00;150,5\n2026-01-01 00:00:02;151,5\n"
    assert read_power_log(_write(tmp_path / "a.csv", text)).power_w.tolist() == [150_500, 151_500]


def test_times_named_with_their_unit(tmp_path: Path) -> None:
    text = "time_ms,power_w\n0,100\n2000,110\n4000,120\n"
    assert read_power_log(_write(tmp_path / "a.csv", text)).power_w.tolist() == [100, 110, 120]


def test_times_out_of_this_world_are_no_times(tmp_path: Path) -> None:
    for number, wild in enumerate(("1e300", "inf", "-inf", "nan")):
        read = read_power_log(_write(tmp_path / f"{number}.csv", f"timestamp,power_w\n{wild},7\n0,100\n2,101\n"))
        assert read.power_w.tolist() == [100, 101]
        assert read.notes["cells without a time"] == 1


def test_nested_files_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_power_log(_write(tmp_path / "deep.json", "[" * 100_000))
    pl.DataFrame({"time": [0, 2], "power_w": [[1.0], [2.0]]}).write_parquet(tmp_path / "lists.parquet")
    with pytest.raises(InputError, match="no plain table"):
        read_power_log(tmp_path / "lists.parquet")
    with pytest.raises(InputError, match="line 1: no JSON object"):
        read_requests(_write(tmp_path / "deep.jsonl", "[" * 100_000 + "\n"))


def test_dates_and_seconds_of_the_log_do_not_mix(tmp_path: Path) -> None:
    text = AZURE + "2024-05-10 00:00:00,1,5\n5,20,5\n2024-05-10 00:00:10,1,5\n"
    with pytest.raises(InputError, match=r"a\.csv, line 3: some times are dates"):
        read_requests(_write(tmp_path / "a.csv", text))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,10.7,5", r"line 3: prompt tokens .* 10\.7"),
        ("1,1e12,5", r"line 3: prompt tokens .* 1e\+12"),
        ("1,10,2.5", r"line 3: output tokens"),
    ],
)
def test_tokens_that_are_none_are_refused_by_line(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"a\.csv, {message}"):
        read_requests(_write(tmp_path / "a.csv", f"{AZURE}0,10,5\n{row}\n2,10,5\n"))


def test_nothing_but_zero_tokens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="every request has zero tokens"):
        read_requests(_write(tmp_path / "a.csv", AZURE + "0,0,5\n1,7,0\n"))


def test_priorities_may_not_be_missing(tmp_path: Path) -> None:
    header = "arrival_s,prompt_tokens,output_tokens,priority\n"
    with pytest.raises(InputError, match="priority '' is not"):
        read_requests(_write(tmp_path / "a.csv", header + "0,1,5,1\n1,2,3,\n"))
    assert read_requests(_write(tmp_path / "b.csv", header + "0,1,5,1.0\n1,2,3,0.0\n")).priority.tolist() == [1, 0]


def test_a_service_for_every_request_is_refused(tmp_path: Path) -> None:
    log = _write(tmp_path / "a.csv", "a,b,c,d\n" + "".join(f"{i},1,1,s{i}\n" for i in range(40_000)))
    with pytest.raises(InputError, match="40000 services in column 'd'"):
        read_requests(log, columns={"time": "a", "prompt": "b", "output": "c", "service": "d"})


def test_json_lines_of_own_names_also_compressed(tmp_path: Path) -> None:
    rows = [{"t": 1.5, "in": 10, "out": 5, "app": "x"}, {"t": 0, "in": math.nan, "out": 5}, {"t": 2, "in": 7, "out": 6}]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (tmp_path / "own.jsonl.gz").write_bytes(gzip.compress(lines))
    load = read_requests(tmp_path / "own.jsonl.gz", columns={"time": "t", "prompt": "in", "output": "out"})
    assert load.arrival_s.tolist() == [0.0, 0.5]
    assert load.prompt_tokens.tolist() == [10, 7]
    assert load.repairs["unusable, left out"] == 1
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(lines * 100)[:60])
    with pytest.raises(InputError, match="cut short or damaged"):
        read_requests(tmp_path / "cut.jsonl.gz")
    wrong = _write(tmp_path / "wrong.jsonl", '{"timestamp": 0, "input_length": 1.5, "output_length": 2}\n')
    with pytest.raises(InputError, match="line 1: prompt tokens"):
        read_requests(wrong)


def test_blanks_in_the_header(tmp_path: Path) -> None:
    log = _write(tmp_path / "a.csv", "TIMESTAMP, ContextTokens, GeneratedTokens\n0,1,5\n1,20,5\n")
    assert read_requests(log).prompt_tokens.tolist() == [1, 20]


def _dated(pattern: str, num: int, step_s: float = 30.0) -> str:
    start = datetime(2025, 10, 3, 1, 0, 0)
    rows = [f"{(start + timedelta(seconds=step_s * i)).strftime(pattern)},{140000 + i % 7}" for i in range(num)]
    return "Time,Power [W]\n" + "\n".join(rows) + "\n"


@pytest.mark.parametrize(
    "pattern",
    [
        "%m/%d/%Y %H:%M:%S",
        "%d/%m/%Y %H:%M:%S",
        "%m/%d/%Y %I:%M:%S %p",
        "%d.%m.%Y %H:%M:%S",
        "%d %b %Y %H:%M:%S",
        "%Y/%m/%d %H:%M:%S.%f",
    ],
)
@pytest.mark.parametrize("days", [1.5, 14])
def test_dates_of_every_country(tmp_path: Path, pattern: str, days: float) -> None:
    num = int(days * 48)
    log = read_power_log(_write(tmp_path / "row.csv", _dated(pattern, num, 1800.0)), period_s=1800.0)
    assert len(log.power_w) == num and log.notes == {}
    if pattern != "%d/%m/%Y %H:%M:%S" or days > 2:
        assert log.start_s == datetime(2025, 10, 3, 1, tzinfo=UTC).timestamp()


def test_an_hour_that_comes_twice_is_two_hours(tmp_path: Path) -> None:
    local = [*range(0, 10_800, 10), *range(7_205, 14_400, 10)]  # at 3:00 the clock goes back to 2:00
    text = "t_s,rack,power_w\n" + "".join(f"{t},{rack},{50 + k % 3}\n" for k, t in enumerate(local) for rack in "ab")
    log = read_power_log(_write(tmp_path / "row.csv", text), period_s=10.0)
    assert len(log.power_w) == 5 * 360 and not np.isnan(log.power_w).any()
    assert log.notes["clock put back by an hour, later times moved"] == 2
    requests = AZURE + "".join(f"2024-10-27 {t // 3600:02d}:{t // 60 % 60:02d}:{t % 60:02d},5,10\n" for t in local)
    load = read_requests(_write(tmp_path / "r.csv", requests))
    assert load.repairs == {"clock put back by an hour, later times moved": 1}
    assert np.histogram(load.arrival_s, 5, (0, 5 * 3600))[0].tolist() == [360] * 5


def test_a_sensor_that_did_not_answer_is_no_rise(tmp_path: Path) -> None:
    values = [100.0 + i % 3 for i in range(200)]
    values[50], values[120:125] = 0.0, [0.0] * 5
    log = read_power_log(_write(tmp_path / "row.csv", _series(values)))
    assert log.notes["zeros between readings, left out"] == 6
    assert np.nanmin(log.power_w) == 100
    values[120:170] = [0.0] * 50  # longer than a minute: it was off
    assert np.nanmin(read_power_log(_write(tmp_path / "row.csv", _series(values))).power_w) == 0


def test_powers_far_above_the_budget_are_left_out(tmp_path: Path) -> None:
    values = [100.0] * 200
    values[50:70] = [1000.0] * 20  # too long for a spike, too high for the row
    log = read_power_log(_write(tmp_path / "row.csv", _series(values)), budget_w=130)
    assert log.notes["above three times the budget, left out"] == 20
    assert np.nanmax(log.power_w) == 100 and all(np.nanmax(grid) <= 390 for grid in log.shifted)


def test_a_tenfold_reading_among_others_of_its_period(tmp_path: Path) -> None:
    values = [100.0] * 60
    values[31] = 1000.0
    log = read_power_log(_write(tmp_path / "row.csv", _series(values, 1.0)))
    assert log.notes["tenfold readings, left out"] == 1
    assert np.nanmax(log.power_w) == 100 and all(np.nanmax(grid) == 100 for grid in log.shifted)


@pytest.mark.parametrize(("period_s", "jitter_s", "share"), [(1.0, 0.0, 1.0), (2.0, 0.7, 1.0), (0.1, 0.0, 7 / 8)])
@pytest.mark.parametrize("moment_s", [100.0, 100.4, 100.9, 101.0, 101.5, 101.8])
def test_a_step_is_not_hidden_by_the_edges_of_periods(
    tmp_path: Path, period_s: float, jitter_s: float, share: float, moment_s: float
) -> None:
    draws = np.random.default_rng(5)
    times = np.arange(0, 200, period_s)
    times = times + draws.uniform(-jitter_s, jitter_s, len(times))
    text = "t_s,power_w\n" + "".join(f"{t:.4f},{100 + 16 * (t >= moment_s)}\n" for t in times)
    log = read_power_log(_write(tmp_path / "row.csv", text))
    found = max(rise(grid, 2.0) for grid in (log.power_w, *log.shifted))
    assert share * 16 - 1e-9 <= found <= 16 + 1e-9


def test_a_log_in_another_order_is_no_clock_put_back() -> None:
    hour_and_more = np.array([0.0, 1800.0, 3598.0, 0.0, 3600.0, 1000.0])
    assert undo_put_back(hour_and_more)[1] == 0
    assert undo_put_back(np.array([0.0, 3598.0, np.nan, 5000.0]))[1] == 0


@pytest.mark.parametrize(
    ("header", "cell", "watts"),
    [("Power (MW)", "0.15", 150e3), ("row-A", "150 kW", 150e3), ("Power W", '"150,123.5"', 150123.5)],
)
def test_exports_of_tools(tmp_path: Path, header: str, cell: str, watts: float) -> None:
    log = _write(tmp_path / "row.csv", f"time,{header}\n0,{cell}\n2,{cell}\n")
    assert read_power_log(log, budget_w=203e3).power_w.tolist() == pytest.approx([watts, watts])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("time,power_w\n", "a header and no rows"),
        ("time,power_w\n2025-10-26 02:00:00 CET,5\n", "no cell of column 'time' is a time .2025-10-26 02:00:00 CET"),
        ("Zeit,power_w\n1,5\n", "--time-column"),
        ("time,server01\n1,5\n", "--column"),
    ],
)
def test_refusals_say_what_to_do(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_power_log(_write(tmp_path / "row.csv", text))
    (tmp_path / "wide.csv").write_text("time,power_w\n0,1\n", "utf-16")
    with pytest.raises(InputError, match="UTF-16"):
        read_power_log(tmp_path / "wide.csv")


def test_rises_command_names_the_time_and_the_columns(tmp_path: Path) -> None:
    rows = "".join(f"{START_S + 2 * i};{140 + 8 * (i >= 150)}\n" for i in range(300))
    log = _write(tmp_path / "row.csv", "Zeit;Leistung\n" + rows)
    options = ["--time-column", "Zeit", "--column", "Leistung", "--unit", "kW", "--budget-kw", "203"]
    done = CliRunner().invoke(app, ["power", "rises", str(log), *options])
    assert done.exit_code == 0, done.output
    assert "2026-01-01 00:05:00" in done.stdout and "3.9%" in done.stdout and "less than a day" in done.stdout
    done = CliRunner().invoke(app, ["power", "rises", str(log), *options[:-1], "140"])
    assert "exceeds its budget" in done.stdout
