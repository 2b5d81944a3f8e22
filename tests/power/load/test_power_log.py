"""Measured power logs: formats, units, flaws."""

import json

import numpy as np
import polars as pl
import pytest

from nonet.common.errors import InputError
from nonet.power.load.power_log import read_power_log


def _write(path, text):
    path.write_text(text)
    return path


def test_mixed_times_out_of_order_duplicates_and_gaps(tmp_path):
    log = _write(
        tmp_path / "row.csv",
        "timestamp,power_w\n"
        "2026-01-01T00:00:00Z,100\n"
        "2026-01-01 00:00:04,300\n"
        "1767225602000,200\n"  # 00:00:02 in epoch milliseconds
        "2026-01-01 00:00:04,310\n"
        "1767225620,400\n"  # 00:00:20 in epoch seconds
        "2026-01-01T00:00:22Z,-5\n"
        "2026-01-01T00:00:22Z,nan\n"
        "never,7\n",
    )
    read = read_power_log(log)
    assert read.start_s == 1767225600
    assert read.power_w[:5].tolist() == [100, 200, 310, 310, 310]
    assert np.isnan(read.power_w[5:10]).all()
    assert read.power_w[10] == 400
    assert read.notes["gaps"] == 5
    assert read.notes["out of order, sorted"] == 1
    assert read.notes["duplicates, last kept"] == 1
    assert read.notes["negative powers, left out"] == 1
    assert read.notes["cells without a time"] == 1
    assert read.notes["time formats"] >= 3


def test_units_by_name_and_by_budget(tmp_path):
    rows = "".join(f"{2 * i},{150 + i}\n" for i in range(5))
    named = read_power_log(_write(tmp_path / "a.csv", "t_s,power_kw\n" + rows), budget_w=203_000)
    assert named.power_w.tolist() == [150_000, 151_000, 152_000, 153_000, 154_000]
    bare = _write(tmp_path / "b.csv", "t_s,power\n" + rows)
    with pytest.raises(InputError, match="the log in kW"):
        read_power_log(bare, budget_w=203_000)
    assert read_power_log(bare, budget_w=203_000, unit="kW").power_w[0] == 150_000
    watts = _write(tmp_path / "c.csv", "t_s,power\n0,150000\n2,151000\n")
    with pytest.raises(InputError, match="the budget in kW"):
        read_power_log(watts, budget_w=203)
    with pytest.raises(InputError, match="above 0"):
        read_power_log(watts, budget_w=0)


def test_sensors_are_summed_and_never_partly(tmp_path):
    log = _write(
        tmp_path / "servers.csv",
        "timestamp,server,watts\n0,a,10\n0,b,20\n2,a,11\n2,b,21\n4,a,12\n6,a,13\n8,a,14\n8,b,24\n",
    )
    read = read_power_log(log, hold_periods=1)
    assert read.power_w[:3].tolist() == [30, 32, 33]
    assert np.isnan(read.power_w[3])
    assert read.power_w[4] == 38
    wide = _write(tmp_path / "wide.csv", "time,pdu1_power_kw,pdu2_power_kw,limit_kw\n0,1,2,9\n2,3,4,9\n")
    assert read_power_log(wide).power_w.tolist() == [3000, 7000]


def test_nvidia_smi(tmp_path):
    log = _write(
        tmp_path / "smi.csv",
        "timestamp, index, power.draw [W], power.limit [W]\n"
        "2026/01/01 00:00:00.500, 0, 82.30 W, 400.00 W\n"
        "2026/01/01 00:00:00.501, 1, 100.70 W, 400.00 W\n"
        "2026/01/01 00:00:01.500, 0, 84.30 W, 400.00 W\n"
        "2026/01/01 00:00:01.501, 1, [N/A], 400.00 W\n",
    )
    read = read_power_log(log)
    assert read.power_w.tolist() == pytest.approx([83.3 + 100.7])
    assert read.notes["powers that are no numbers, left out"] == 1


def test_prometheus_range(tmp_path):
    def series(host, values):
        return {"metric": {"__name__": "DCGM_FI_DEV_POWER_USAGE", "Hostname": host}, "values": values}

    values = [series("a", [[0, "5"], [2, "6"]]), series("b", [[0, "50"], [2, "60"]])]
    answer = {"status": "success", "data": {"resultType": "matrix", "result": values}}
    log = _write(tmp_path / "range.json", json.dumps(answer))
    assert read_power_log(log).power_w.tolist() == [55, 66]
    with pytest.raises(InputError, match="query_range"):
        read_power_log(_write(tmp_path / "instant.json", json.dumps({"data": {"result": [{"value": [0, "1"]}]}})))
    with pytest.raises(InputError, match="no series"):
        read_power_log(_write(tmp_path / "none.json", "[]"))


def test_parquet_with_datetimes(tmp_path):
    times = pl.Series([0, 2_000, 4_000]).cast(pl.Datetime("ms"))
    pl.DataFrame({"time": times, "row_power_watts": [1.0, 2.0, 3.0]}).write_parquet(tmp_path / "p.parquet")
    read = read_power_log(tmp_path / "p.parquet")
    assert read.power_w.tolist() == [1.0, 2.0, 3.0]


def test_unusable(tmp_path):
    with pytest.raises(InputError, match="no time column"):
        read_power_log(_write(tmp_path / "a.csv", "x,power\n1,2\n"))
    with pytest.raises(InputError, match="looks like power"):
        read_power_log(_write(tmp_path / "b.csv", "time,x\n1,2\n"))
    with pytest.raises(InputError, match="is a time"):
        read_power_log(_write(tmp_path / "c.csv", "time,power\nx,2\n"))
    with pytest.raises(InputError, match="another unit"):
        read_power_log(_write(tmp_path / "d.csv", "time,power\n1,2\n99999999,2\n"))
    with pytest.raises(InputError, match="No such file"):
        read_power_log(tmp_path / "none.csv")
