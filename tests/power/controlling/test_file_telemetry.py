"""The CSV source: growing, rotated, half-written, damaged."""

from __future__ import annotations

import math

import pytest

from nonet.common.errors import InputError
from nonet.power.controlling.actuators.protocol import Server
from nonet.power.controlling.telemetry.file import FileConfig, FileTelemetry, recorded
from nonet.power.controlling.telemetry.protocol import TELEMETRY, Reading, Telemetry, TelemetryError
from nonet.power.policies.protocol import Priority

SERVERS = [Server(0, "a", Priority.LOW), Server(1, "b", Priority.HIGH)]


def source(path, **config):
    return FileTelemetry(FileConfig(path=path, **config), SERVERS)


def test_a_line_counts_once_its_newline_is_there(tmp_path):
    path = tmp_path / "p.csv"
    own = source(path)
    with pytest.raises(TelemetryError, match="No such file"):
        own.read()
    path.write_text("time,pow")
    assert own.read() is None
    path.write_text("time,power_w\n")
    assert own.read() is None
    with path.open("a") as file:
        file.write("1700000000,5\n1700000002,6")
        file.flush()
        assert own.read() == Reading(5.0, 1700000000.0)
        file.write("0\n")
        file.flush()
        assert own.read() == Reading(60.0, 1700000002.0)
    assert own.read() == Reading(60.0, 1700000002.0)
    assert isinstance(own, Telemetry)


def test_rotation_and_truncation(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("time,power_w\n1,5\n2,6\n")
    own = source(path)
    assert own.read().power_w == 6
    path.rename(tmp_path / "p.csv.1")
    path.write_text("time,power_w\n3,7\n")
    assert own.read() == Reading(7.0, 3.0)
    path.write_text("time,power_w\n4,8\n")  # same inode, no longer
    assert own.read() in (Reading(8.0, 4.0), Reading(7.0, 3.0))
    path.write_text("t_s,power_w\n")
    path.write_text("t_s,power_w\n5,9\n")
    own.close()
    assert own.read() == Reading(9.0, 5.0)


def test_a_long_file_is_read_from_its_end(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("time,power_w\n" + "".join(f"{i},{i}\n" for i in range(50_000)))
    own = source(path)
    assert own.read() == Reading(49999.0, 49999.0)
    assert own.skipped == 0


def test_units_and_columns_are_found_or_asked_for(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("Timestamp,row_power_kW,a_w,b_w\n2026-01-01T00:00:00Z,203.5,1,x\n")
    reading = source(path, server_columns={"a": "a_w", "b": "b_w"}).read()
    assert (reading.power_w, reading.measured_unix_s) == (203_500.0, 1767225600.0)
    assert reading.server_power_w[0] == 1000.0  # the unit is that of the power column
    assert math.isnan(reading.server_power_w[1])
    path.write_text("when,power\n1,2\n")
    with pytest.raises(InputError, match=r"set telemetry\.time_column to one of when, power"):
        source(path).read()
    with pytest.raises(InputError, match=r"telemetry\.unit"):
        source(path, time_column="when").read()
    with pytest.raises(InputError, match="no column 'watt'"):
        source(path, time_column="when", power_column="watt").read()
    assert source(path, time_column="when", unit="kW").read() == Reading(2000.0, 1.0)


def test_damaged_lines_are_skipped_and_counted_and_powers_that_are_no_numbers_are_nan(tmp_path):
    path = tmp_path / "p.csv"
    path.write_bytes(b"time,power_w\n1,5\n\xff\xfe,4\nnot a time,4\n\n2,oops\n")
    own = source(path)
    reading = own.read()
    assert reading.measured_unix_s == 2.0
    assert math.isnan(reading.power_w)
    assert own.skipped == 2


def test_a_recording_is_read_whole(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("time,power_w\n1700000000000,5\n-,4\n1700000002000,6\n")
    assert list(recorded(FileConfig(path=path))) == [Reading(5.0, 1.7e9), Reading(6.0, 1.7e9 + 2)]
    (tmp_path / "empty.csv").touch()
    with pytest.raises(InputError, match="empty"):
        list(recorded(FileConfig(path=tmp_path / "empty.csv")))
    with pytest.raises(InputError, match="no such file"):
        list(recorded(FileConfig(path=tmp_path / "none.csv")))


def test_every_registered_source_explains_itself():
    for name in TELEMETRY:
        kind = TELEMETRY[name]
        assert kind.summary
        assert all(field.description for field in kind.config.model_fields.values()), name
