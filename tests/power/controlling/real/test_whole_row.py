"""The daemon with real parts at both ends: a PDU in over Redfish, BMCs out over Redfish and IPMI."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from nonet.power.controlling.config import load_row_file
from nonet.power.controlling.journal import Journal
from tests.power.controlling.conftest import eventually
from tests.power.controlling.real.redfish_mock import PDU, RedfishMock
from tests.power.controlling.real.test_ipmi import Bmc, module  # noqa: F401  (a fixture)

ROW = """
[row]
name = "real"
budget_w = 100000.0
telemetry_period_s = 0.3
cap_latency_s = 3.0
brake_latency_s = 2.0

[scale]
max_clock_mhz = 1410
tdp_w = 700.0
base_w = 1500.0
gpu_factor = 1.1

[[servers]]
names = "low0"
priority = "low"
backend = "redfish"
address = "{redfish}"
[servers.options]
paths = ["/redfish/v1/Systems/HGX_Baseboard_0/Processors/GPU_SXM_[1-2]/EnvironmentMetrics"]

[[servers]]
names = "low1"
priority = "low"
backend = "ipmi"
address = "127.0.0.1:{ipmi}"

[[servers]]
names = "high0"
priority = "high"

[telemetry]
source = "redfish"
[[telemetry.meters]]
address = "{redfish}"
path = "/redfish/v1/PowerEquipment/RackPDUs/PDU_1/Metrics"

[policy]
name = "polca"

[control]
readback_period_s = 1.0

[ledger]
retry_s = 0.2

[actuators.redfish]
timeout_s = 2.0
settle_s = 1.0

[actuators.ipmi]
timeout_s = 2.0
settle_s = 1.0
"""


@pytest.fixture
def parts(module, tmp_path, monkeypatch, make_redfish):  # noqa: F811
    monkeypatch.setenv("IPMI_PASSWORD", "secret")
    (tmp_path / "bmc").mkdir()
    bmc, mock = Bmc(tmp_path / "bmc", module), make_redfish()
    row = tmp_path / "row.toml"
    row.write_text(ROW.format(redfish=mock.address, ipmi=bmc.port))
    yield bmc, mock, row
    bmc.stop()


def draw(mock: RedfishMock, power_w: float) -> None:
    mock.resources[f"{PDU}/Metrics"]["PowerWatts"]["Reading"] = power_w


def test_caps_go_out_over_both_protocols_and_come_back(parts, start_daemon):
    bmc, mock, row = parts
    draw(mock, 95_000.0)
    daemon = start_daemon(row, "--apply", "--allow", "low*")
    level = 1110 / 1410
    gpu_w, server_w = 700 * level**0.93, 1500 + 1.1 * 8 * 700 * level**0.93
    assert eventually(lambda: mock.limit(1)["SetPoint"] == mock.limit(2)["SetPoint"] == int(gpu_w), 30.0)
    assert eventually(lambda: bmc.limit[:2] == (int(server_w), 1), 10.0)
    mock.limit(2)["SetPoint"] = 700  # somebody lifts a cap behind our back
    assert eventually(lambda: mock.limit(2)["SetPoint"] == int(gpu_w), 15.0)
    draw(mock, 50_000.0)
    assert eventually(lambda: mock.limit(1)["SetPoint"] == 700 and bmc.limit[1] == 0, 20.0)
    assert daemon.end(signal.SIGTERM) == 0
    with Journal(row.with_name("nonet-power.sqlite"), ["low0", "low1", "high0"]) as found:
        landed = {w["server"] for w in found.rows("writes") if w["result"] == "landed" and not w["dry"]}
    assert landed == {0, 1}


def test_a_bmc_that_refuses_or_hangs_is_tried_again_and_written_down(parts, start_daemon):
    bmc, mock, row = parts
    bmc.say("cc 4 192")
    draw(mock, 95_000.0)
    daemon = start_daemon(row, "--apply", "--allow", "low*")
    assert eventually(lambda: mock.limit(1)["SetPoint"] < 700, 30.0)  # the other server does not wait for it
    time.sleep(1.0)
    bmc.process.send_signal(signal.SIGSTOP)
    time.sleep(3.0)
    bmc.say()
    bmc.process.send_signal(signal.SIGCONT)
    assert eventually(lambda: bmc.limit[1] == 1, 20.0)
    assert daemon.end(signal.SIGTERM) == 0
    assert bmc.limit[1] == 1 and mock.limit(1)["SetPoint"] < 700  # caps are kept at the end
    assert "refused" in results(row)


def results(row: Path) -> set[str]:
    with Journal(row.with_name("nonet-power.sqlite"), ["low0", "low1", "high0"]) as found:
        return {w["result"] for w in found.rows("writes") if w["server"] == 1}


def test_row_files_of_every_source_are_checked(tmp_path):
    head = "[row]\nbudget_w = 1e5\n[[servers]]\nnames = 'a[1-2]'\npriority = 'low'\n"
    sources = {
        "prometheus": "url = 'http://127.0.0.1:9090'\nquery = 'pdu_power_watts'\n",
        "snmp": "[[telemetry.meters]]\naddress = 'pdu1'\noid = '1.3.6.1.4.1.318.1.1.26.4.3.1.5.1'\nunit_w = 10\n",
        "redfish": "[[telemetry.meters]]\naddress = 'https://pdu1'\npath = '/redfish/v1/PowerEquipment'\n",
    }
    for source, text in sources.items():
        path = tmp_path / f"{source}.toml"
        path.write_text(f"{head}[telemetry]\nsource = '{source}'\n{text}")
        row = load_row_file(path)
        assert row.telemetry["source"] == source and row.telemetry_config().timeout_s == 1.0
