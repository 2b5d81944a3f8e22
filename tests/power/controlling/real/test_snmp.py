"""PDUs over SNMP: pysnmp against the responder of snmpsim, which plays a recorded rack PDU."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nonet.common.errors import InputError
from nonet.power.controlling.actuators.protocol import Server
from nonet.power.controlling.telemetry import TELEMETRY, Telemetry, TelemetryError
from nonet.power.policies.protocol import Priority
from tests.conftest import needs
from tests.power.controlling.conftest import eventually
from tests.power.controlling.real.conftest import free_port

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pysnmp")
POWER = "1.3.6.1.4.1.318.1.1.26.4.3.1.5.1"  # rPDU2DeviceStatusPower: hundredths of a kilowatt
# A walk of a rack PDU as snmpsim records it: oid|type|value, sorted by oid.
RECORDING = """\
1.3.6.1.2.1.1.1.0|4|APC Web/SNMP Management Card (MB:v4.1.0 PF:v6.8.2 PN:apc_hw05_aos_682.bin)
1.3.6.1.2.1.1.5.0|4|pdu-row-1
1.3.6.1.4.1.318.1.1.26.4.3.1.3.1|4|RackPDU
1.3.6.1.4.1.318.1.1.26.4.3.1.5.1|2|1234
1.3.6.1.4.1.318.1.1.26.4.3.1.5.2|2|866
1.3.6.1.4.1.318.1.1.26.4.3.1.5.3|2|-1
1.3.6.1.4.1.318.1.1.26.4.3.1.5.4|2|123400
1.3.6.1.4.1.318.1.1.26.4.3.1.6.1|4|12.34
1.3.6.1.4.1.13742.6.5.2.3.1.4.1.1.5|66|61250
"""


class Pdu:
    """snmpsim-command-responder as a process."""

    def __init__(self, responder: str, folder: Path) -> None:
        self.port = free_port(socket.SOCK_DGRAM)
        self.address = f"127.0.0.1:{self.port}"
        (folder / "data").mkdir()
        (folder / "data" / "pdu.snmprec").write_text(RECORDING)
        command = [responder, f"--data-dir={folder / 'data'}", f"--agent-udpv4-endpoint={self.address}"]
        command += [f"--cache-dir={folder / 'cache'}", "--v3-user=controller", "--v3-auth-key=correct-horse"]
        command += ["--v3-auth-proto=SHA256", "--v3-priv-key=battery-staple", "--v3-priv-proto=AES"]
        self._log = folder / "log"
        log = self._log.open("w")
        environment = os.environ | {"SNMPSIM_ALLOW_ROOT": "true"}
        self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)

    def says(self) -> str:
        return self._log.read_text()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def pdu(tmp_path_factory):
    beside = Path(sys.executable).parent
    responder = shutil.which("snmpsim-command-responder", path=str(beside)) or shutil.which("snmpsim-command-responder")
    needs(responder is not None, "snmpsim-command-responder plays the PDU")
    found = Pdu(str(responder), tmp_path_factory.mktemp("pdu"))
    os.environ["SNMP_COMMUNITY"] = "pdu"
    telemetry = telemetry_of({"address": found.address, "oid": POWER}, timeout_s=0.5)

    def answers() -> bool:
        assert found.process.poll() is None, found.says()
        try:
            return telemetry.read() is not None
        except TelemetryError:
            return False

    try:
        assert eventually(answers, 20.0), found.says()
        yield found
    finally:
        telemetry.close()
        found.stop()


@pytest.fixture(autouse=True)
def _community(monkeypatch):
    monkeypatch.setenv("SNMP_COMMUNITY", "pdu")


def telemetry_of(*meters: dict, servers=(), **config) -> Telemetry:
    kind = TELEMETRY["snmp"]
    return kind.build(kind.config(meters=meters, **({"timeout_s": 5.0} | config)), servers)


def test_the_row_is_the_sum_of_its_meters_in_watts(pdu, request):
    node = Server(2, "node03", Priority.HIGH)
    telemetry = telemetry_of(
        {"address": pdu.address, "oid": POWER, "unit_w": 10},
        {"address": pdu.address, "oid": f"{POWER[:-1]}2", "unit_w": 10, "server": "node03"},
        {"address": pdu.address, "oid": ".1.3.6.1.4.1.13742.6.5.2.3.1.4.1.1.5"},
        servers=[node],
    )
    request.addfinalizer(telemetry.close)
    reading = telemetry.read()
    assert reading.power_w == pytest.approx(12_340 + 8_660 + 61_250)
    assert reading.server_power_w == {2: pytest.approx(8_660)} and reading.measured_unix_s is None
    assert isinstance(telemetry, Telemetry) and telemetry.read() is not reading


@pytest.mark.parametrize(("last", "power_w"), [("5.3", -10.0), ("5.4", 1_234_000.0)])
def test_odd_numbers_are_passed_on_to_the_guards(pdu, last, power_w):
    telemetry = telemetry_of({"address": pdu.address, "oid": POWER[:-3] + last, "unit_w": 10})
    assert telemetry.read().power_w == power_w
    telemetry.close()


def test_decimals_as_text_are_numbers_and_other_text_is_not(pdu):
    telemetry = telemetry_of({"address": pdu.address, "oid": f"{POWER[:-3]}6.1", "unit_w": 1000})
    assert telemetry.read().power_w == pytest.approx(12_340)
    telemetry.close()
    telemetry = telemetry_of({"address": pdu.address, "oid": "1.3.6.1.2.1.1.5.0"})
    with pytest.raises(TelemetryError, match="no number"):
        telemetry.read()
    telemetry.close()


def test_version_3_authenticates_and_encrypts(pdu, monkeypatch):
    meter = {"address": pdu.address, "oid": POWER, "unit_w": 10}
    monkeypatch.setenv("SNMP_AUTH", "correct-horse")
    monkeypatch.setenv("SNMP_PRIVACY", "battery-staple")
    telemetry = telemetry_of(meter, version="3", user="controller", context="pdu")
    assert telemetry.read().power_w == 12_340
    telemetry.close()
    monkeypatch.setenv("SNMP_AUTH", "wrong-wrong")
    telemetry = telemetry_of(meter, version="3", user="controller", context="pdu")
    with pytest.raises(TelemetryError, match="check address"):
        telemetry.read()
    telemetry.close()


def test_no_such_object_no_such_community_nobody_there(pdu, monkeypatch):
    telemetry = telemetry_of({"address": pdu.address, "oid": POWER}, {"address": pdu.address, "oid": "1.3.6.1.99.1"})
    with pytest.raises(TelemetryError, match="snmpwalk"):
        telemetry.read()
    telemetry.close()
    nobody = telemetry_of({"address": f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}", "oid": POWER}, timeout_s=0.4)
    with pytest.raises(TelemetryError) as caught:
        nobody.read()
    assert "\n" not in str(caught.value)
    nobody.close()
    monkeypatch.setenv("SNMP_COMMUNITY", "wrong")
    telemetry = telemetry_of({"address": pdu.address, "oid": POWER}, timeout_s=0.4)
    with pytest.raises(TelemetryError):
        telemetry.read()
    telemetry.close()


def test_a_pdu_that_hangs_ends_in_time_and_comes_back(pdu):
    telemetry = telemetry_of({"address": pdu.address, "oid": POWER, "unit_w": 10}, timeout_s=0.5)
    assert telemetry.read().power_w == 12_340
    pdu.process.send_signal(signal.SIGSTOP)
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(TelemetryError):
            telemetry.read()
        assert time.monotonic() - began < 3.0
    pdu.process.send_signal(signal.SIGCONT)
    assert eventually(lambda: _works(telemetry), 5.0)
    telemetry.close()


def test_noise_is_an_error_in_time(babbler):
    telemetry = telemetry_of({"address": babbler.address, "oid": POWER}, timeout_s=0.1)
    for _ in range(5):
        began = time.monotonic()
        with pytest.raises(TelemetryError):
            telemetry.read()
        assert time.monotonic() - began < 3.0
    telemetry.close()


def _works(telemetry: Telemetry) -> bool:
    try:
        return telemetry.read().power_w == 12_340
    except TelemetryError:
        return False


def test_wrong_settings_are_seen_at_the_start():
    meter = {"address": "pdu1", "oid": POWER}
    with pytest.raises(InputError, match="no server"):
        telemetry_of(meter | {"server": "node99"})
    kind = TELEMETRY["snmp"]
    for wrong in ({"meters": []}, {"meters": [meter | {"oid": "sysDescr"}]}, {"meters": [meter], "version": "3"}):
        with pytest.raises(ValueError, match="validation error"):
            kind.config(**wrong)
    with pytest.raises(ValueError, match="host:port"):
        kind.config(meters=[{"address": "snmp://pdu1", "oid": POWER}])
    with pytest.raises(InputError, match="SNMP_AUTH"):
        telemetry_of(meter, version="3", user="controller")
