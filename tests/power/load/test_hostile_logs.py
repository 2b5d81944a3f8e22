"""Power and request logs made to mislead: what is read must be what an operator would read off them."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nonet.common.errors import InputError
from nonet.power.load.power_log import read_power_log
from nonet.power.load.readers import read_requests

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
