"""Redfish: the real library against a service that the DMTF's own validator passes, and the faults of BMCs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.power.controlling.actuators import ACTUATORS
from nonet.power.controlling.actuators.protocol import (
    Actuator,
    ActuatorError,
    NoPermissionError,
    RefusedError,
    Scale,
    Server,
    ServerLostError,
    UnansweredError,
)
from nonet.power.controlling.telemetry import TELEMETRY, Telemetry, TelemetryError
from nonet.power.policies.protocol import Action, Priority
from tests.conftest import needs
from tests.power.controlling.real.conftest import free_port
from tests.power.controlling.real.redfish_mock import CONTROL, GPUS, PASSWORD, PDU, SENSOR, USER, RedfishMock
from tests.power.controlling.real.redfish_schemas import write_schemas

SCALE = Scale(1980.0, lambda level: 700.0 * level**0.93, gpus_per_server=8, base_w=1500.0, gpu_factor=1.1)
PATHS = [f"{GPUS}/GPU_SXM_[1-2]/EnvironmentMetrics"]


def actuator_of(mock: RedfishMock, *, paths=PATHS, scope="gpu", address=None, **config) -> tuple[Actuator, Server]:
    kind = ACTUATORS["redfish"]
    options = kind.server_options(paths=paths, scope=scope).model_dump()
    server = Server(0, "node01", Priority.LOW, address or mock.address, options)
    return kind.build(kind.config(**({"timeout_s": 5.0, "settle_s": 0.0} | config)), [server], SCALE), server


def validate(mock: RedfishMock, folder: Path) -> subprocess.CompletedProcess:
    validator = shutil.which("rf_service_validator", path=str(Path(sys.executable).parent)) or shutil.which(
        "rf_service_validator"
    )
    needs(validator is not None, "redfish-service-validator checks the mock")
    schemas = folder / "schemas"
    schemas.mkdir(exist_ok=True)
    write_schemas(schemas)
    command = [str(validator), "-u", USER, "-p", PASSWORD, "-r", mock.address, "--authtype", "Session"]
    command += ["--schema_directory", str(schemas), "--skipschema", "--logdir", str(folder / "logs")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=folder)


def test_the_dmtf_validator_passes_the_mock_before_and_after_our_writes(make_redfish, tmp_path):
    mock = make_redfish(num_gpus=1)
    actuator, server = actuator_of(mock, paths=[f"{GPUS}/GPU_SXM_1/EnvironmentMetrics"])
    actuator.set_level(server, 0.7, "key")
    actuator.close()
    actuator, server = actuator_of(mock, paths=[CONTROL], scope="server")
    actuator.set_level(server, 0.7, "key")
    done = validate(mock, tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Fail: 0") == done.stdout.count("Pass:") >= 19
    assert "Warn: 0" in done.stdout and "Validating /redfish/v1/PowerEquipment/RackPDUs/PDU_1/Metrics" in done.stdout
    actuator.close()


def test_the_validator_would_see_a_wrong_mock(make_redfish, tmp_path):
    mock = make_redfish(num_gpus=1)
    mock.limit()["SetPoint"] = "700 W"
    mock.resources[SENSOR]["ReadingType"] = "Watts"
    done = validate(mock, tmp_path)
    assert done.returncode == 1
    assert done.stdout.count("Fail: 1") == 2


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(level=st.floats(0.2, 1.0))
def test_what_is_set_is_what_the_bmc_has_and_what_is_read(redfish_pair, level):
    mock, actuator, server = redfish_pair
    got = actuator.set_level(server, level, "key")
    limits_w = [mock.limit(gpu)["SetPoint"] for gpu in (1, 2)]
    wanted_w = 700.0 * level**0.93
    assert limits_w[0] == limits_w[1] and (limits_w[0] <= wanted_w + 1e-6 or limits_w[0] == 200)
    assert limits_w[0] >= min(699, wanted_w - 1.0001)
    assert abs(actuator.read_level(server, got) - got) <= actuator.resolution
    assert got <= level + 1e-9 or limits_w[0] == 200
    assert actuator.set_level(server, 1.0, "key") == actuator.read_level(server) == 1.0
    assert mock.limit()["SetPoint"] == 700


@pytest.fixture
def redfish_pair(make_redfish, request):
    mock = make_redfish()
    actuator, server = actuator_of(mock)
    request.addfinalizer(actuator.close)
    return mock, actuator, server


def test_it_keeps_the_protocol(redfish_pair):
    mock, actuator, server = redfish_pair
    assert isinstance(actuator, Actuator) and actuator.reads_back
    assert actuator.check([server]) == [] and mock.writes == []
    for wrong in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(InputError, match="level"):
            actuator.set_level(server, wrong, "key")
    actuator.set_level(server, 288 / 1980, "brake", Action.BRAKE)
    assert mock.limit()["SetPoint"] == 200  # the lowest that the BMC allows


def test_a_control_is_switched_on_and_limits_the_whole_server(make_redfish):
    mock = make_redfish()
    actuator, server = actuator_of(mock, paths=[CONTROL], scope="server")
    assert actuator.read_level(server) == 1.0  # disabled
    got = actuator.set_level(server, 0.8, "key")
    control = mock.resources[CONTROL]
    assert control["ControlMode"] == "Automatic"
    assert control["SetPoint"] == int(1500 + 1.1 * 8 * 700 * 0.8**0.93)
    assert got == pytest.approx(0.8, abs=0.001) and actuator.read_level(server) == got
    actuator.close()


def test_sessions_are_kept_reopened_and_given_back(redfish_pair):
    mock, actuator, server = redfish_pair
    for level in (0.9, 0.8):
        actuator.set_level(server, level, "key")
    assert mock.logins == 1
    mock.expire()
    actuator.set_level(server, 0.7, "key")
    assert mock.logins == 2 and mock.limit()["SetPoint"] == int(700 * 0.7**0.93)
    actuator.close()
    assert mock.sessions == {}


def test_basic_authentication_needs_no_session(make_redfish):
    mock = make_redfish()
    actuator, server = actuator_of(mock, authentication="basic")
    actuator.set_level(server, 0.7, "key")
    assert mock.logins == 0 and len(mock.writes) == 2


@pytest.mark.parametrize(("races", "ends"), [(1, "written"), (2, "written"), (3, "refused")])
def test_a_stale_etag_is_read_again_but_not_for_ever(make_redfish, races, ends):
    mock = make_redfish()
    actuator, server = actuator_of(mock, paths=[f"{GPUS}/GPU_SXM_1/EnvironmentMetrics"])
    mock.faults.etag_races = races
    if ends == "written":
        actuator.set_level(server, 0.7, "key")
        assert len(mock.writes) == 1
    else:
        with pytest.raises(RefusedError, match="somebody else 3 times"):
            actuator.set_level(server, 0.7, "key")
        assert mock.writes == [] and mock.limit()["SetPoint"] == 700


def test_a_bmc_without_etags_is_written_all_the_same(redfish_pair):
    mock, actuator, server = redfish_pair
    mock.faults.no_etags = True
    actuator.set_level(server, 0.7, "key")
    assert len(mock.writes) == 2


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (400, RefusedError, "400 Injected"),
        (403, NoPermissionError, "ConfigureComponents"),
        (404, RefusedError, "404"),
        (500, UnansweredError, "may have had an effect"),
        (503, RefusedError, "503"),
    ],
)
def test_refusals_have_the_right_name_and_one_line(redfish_pair, status, error, says):
    mock, actuator, server = redfish_pair
    mock.faults.status["PATCH"] = status
    with pytest.raises(error, match=says) as caught:
        actuator.set_level(server, 0.7, "key")
    assert type(caught.value) is error
    assert "node01" in str(caught.value) and "\n" not in str(caught.value)
    assert mock.limit()["SetPoint"] == 700


def test_one_gpu_that_refuses_does_not_leave_the_others_uncapped(redfish_pair):
    mock, actuator, server = redfish_pair
    mock.limit(1).update(AllowableMin=900)  # nonsense: above its maximum
    with pytest.raises(RefusedError, match="cannot be"):
        actuator.set_level(server, 0.7, "key")
    assert mock.limit(2)["SetPoint"] == int(700 * 0.7**0.93)


def test_one_gpu_that_fails_does_not_leave_the_others_uncapped(redfish_pair):
    mock, actuator, server = redfish_pair
    mock.faults.broken = f"{GPUS}/GPU_SXM_1/"
    with pytest.raises(UnansweredError, match="500"):
        actuator.set_level(server, 0.7, "key")
    assert [mock.limit(gpu)["SetPoint"] for gpu in (1, 2)] == [700, int(700 * 0.7**0.93)]


@pytest.mark.parametrize("value", [float("nan"), -700, 7_000_000, "700", True, [700]])
def test_nonsense_from_a_bmc_is_not_believed(redfish_pair, value):
    mock, actuator, server = redfish_pair
    mock.limit(1)["SetPoint"] = value
    with pytest.raises(RefusedError, match="cannot be"):
        actuator.read_level(server)
    mock.limit(1).update(SetPoint=700, DefaultSetPoint=7_000, AllowableMax=7_000)  # tenfold: never written
    with pytest.raises(RefusedError, match="cannot be"):
        actuator.set_level(server, 1.0, "key")
    assert mock.limit(1)["SetPoint"] == 700


@pytest.mark.parametrize("text", ["", "<html>busy</html>", "[1, 2]", "{}", '{"PowerLimitWatts": 3}', "{" * 100_000])
def test_answers_that_are_no_redfish_are_refusals(redfish_pair, text):
    mock, actuator, server = redfish_pair
    mock.faults.text = text
    with pytest.raises(RefusedError) as caught:
        actuator.set_level(server, 0.7, "key")
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


def test_a_bmc_that_rounds_is_seen_in_the_read_back_unless_told(make_redfish):
    mock = make_redfish()
    mock.faults.rounding_w = 25
    actuator, server = actuator_of(mock)
    assert abs(actuator.read_level(server) - actuator.set_level(server, 0.71, "key")) > actuator.resolution
    actuator, server = actuator_of(mock, step_w=25)
    got = actuator.set_level(server, 0.71, "key")
    assert abs(actuator.read_level(server) - got) <= actuator.resolution


@pytest.mark.parametrize("fault", [{"silent": True}, {"drip_s": 0.1}, {"hang_up": True}])
def test_half_open_connections_end_in_time(make_redfish, fault):
    mock = make_redfish()
    actuator, server = actuator_of(mock, timeout_s=0.5)
    actuator.set_level(server, 0.9, "key")
    for name, value in fault.items():
        setattr(mock.faults, name, value)
    began = time.monotonic()
    with pytest.raises(UnansweredError):
        actuator.set_level(server, 0.5, "key")
    assert time.monotonic() - began < 3.0
    for name in fault:
        setattr(mock.faults, name, 0)
    assert actuator.set_level(server, 0.5, "key") < 0.5  # the next one is well again


def test_a_brake_overtakes_a_cap_that_hangs(make_redfish):
    mock = make_redfish()
    actuator, server = actuator_of(mock, timeout_s=1.5)
    mock.faults.silent = True

    def hang() -> None:
        with pytest.raises(ActuatorError):
            actuator.set_level(server, 0.8, "cap")

    cap = threading.Thread(target=hang)
    cap.start()
    time.sleep(0.2)
    mock.faults.silent = False
    began = time.monotonic()
    actuator.set_level(server, 0.3, "brake", Action.BRAKE)
    assert cap.is_alive() and time.monotonic() - began < 1.0
    cap.join()


def test_nobody_there_and_nobody_let_in(make_redfish, monkeypatch):
    mock = make_redfish()
    actuator, server = actuator_of(mock, address=f"http://127.0.0.1:{free_port()}", timeout_s=1.0)
    with pytest.raises(ServerLostError, match="no connection"):
        actuator.set_level(server, 0.7, "key")
    monkeypatch.setenv("REDFISH_PASSWORD", "wrong")
    actuator, server = actuator_of(mock)
    with pytest.raises(NoPermissionError, match="password"):
        actuator.set_level(server, 0.7, "key")
    problems = actuator.check([server])
    assert [type(problem) for problem in problems] == [NoPermissionError]
    assert "horse" not in str(problems[0])


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_certificates_are_checked(make_redfish, certificate):
    mock = make_redfish(certificate=certificate)
    actuator, server = actuator_of(mock)
    with pytest.raises(ServerLostError, match=r"certificate.*ca_file"):
        actuator.read_level(server)
    for trusting in ({"ca_file": certificate}, {"verify_tls": False}):
        actuator, server = actuator_of(mock, **trusting)
        assert actuator.read_level(server) == 1.0
        actuator.close()


def test_wrong_settings_are_seen_at_the_start(make_redfish, monkeypatch):
    mock = make_redfish()
    kind = ACTUATORS["redfish"]
    assert len(kind.server_options().paths) == 8
    with pytest.raises(ValueError, match="must begin with"):
        kind.server_options(paths=["/Systems/1"])
    with pytest.raises(ValueError, match="exactly one"):
        kind.server_options(paths=PATHS, scope="server")
    with pytest.raises(InputError, match="https://host"):
        actuator_of(mock, address="bmc07")
    monkeypatch.delenv("REDFISH_PASSWORD")
    with pytest.raises(InputError, match="REDFISH_PASSWORD"):
        actuator_of(mock)


# -- telemetry


def telemetry_of(mock: RedfishMock, *meters: dict, servers=(), **config) -> Telemetry:
    kind = TELEMETRY["redfish"]
    meters = tuple({"address": mock.address} | meter for meter in meters)
    return kind.build(kind.config(meters=meters, **({"timeout_s": 5.0} | config)), servers)


def test_the_row_is_the_sum_of_its_meters(make_redfish):
    mock = make_redfish()
    node = Server(3, "node07", Priority.LOW)
    metrics = {"path": f"{GPUS}/GPU_SXM_1/EnvironmentMetrics", "server": "node07", "scale": 2.0}
    telemetry = telemetry_of(mock, {"path": f"{PDU}/Metrics"}, metrics, servers=[node])
    reading = telemetry.read()
    assert reading.power_w == 61_250.0 + 825.0 and reading.server_power_w == {3: 825.0}
    assert reading.measured_unix_s is None
    assert isinstance(telemetry, Telemetry)
    telemetry.close()
    assert mock.sessions == {}


def test_a_sensor_tells_when_it_measured_and_in_which_unit(make_redfish):
    mock = make_redfish()
    telemetry = telemetry_of(mock, {"path": SENSOR})
    assert telemetry.read().measured_unix_s == 1767225600.0
    mock.resources[SENSOR].update(ReadingUnits="kW", Reading=4.2)
    assert telemetry.read().power_w == pytest.approx(4200)
    mock.resources[SENSOR]["ReadingUnits"] = "Cel"
    with pytest.raises(TelemetryError, match="power"):
        telemetry.read()
    old = {"PowerControl": [{"PowerConsumedWatts": 344}]}
    mock.resources[f"{PDU}/Metrics"] = old | {"@odata.type": "#Sensor.v1.Sensor"}
    assert telemetry_of(mock, {"path": f"{PDU}/Metrics"}).read().power_w == 344


@pytest.mark.parametrize(
    ("value", "kept"), [(None, "nan"), (float("nan"), "nan"), (-5.0, "-5.0"), (612_500.0, "612500.0")]
)
def test_odd_numbers_are_passed_on_to_the_guards(make_redfish, value, kept):
    mock = make_redfish()
    mock.resources[f"{PDU}/Metrics"]["PowerWatts"]["Reading"] = value
    assert str(telemetry_of(mock, {"path": f"{PDU}/Metrics"}).read().power_w) == kept


@pytest.mark.parametrize("value", ["612", True, {"x": 1}])
def test_what_is_no_number_is_an_error(make_redfish, value):
    mock = make_redfish()
    mock.resources[f"{PDU}/Metrics"]["PowerWatts"]["Reading"] = value
    with pytest.raises(TelemetryError, match="no number"):
        telemetry_of(mock, {"path": f"{PDU}/Metrics"}).read()


def test_one_meter_that_fails_leaves_no_part_of_a_sum(make_redfish):
    mock = make_redfish()
    telemetry = telemetry_of(mock, {"path": f"{PDU}/Metrics"}, {"path": SENSOR}, timeout_s=0.5)
    assert telemetry.read().power_w == 65_460
    gone = mock.resources.pop(SENSOR)
    with pytest.raises(TelemetryError, match="404"):
        telemetry.read()
    mock.resources[SENSOR] = gone
    mock.faults.silent = True
    began = time.monotonic()
    with pytest.raises(TelemetryError, match="no answer"):
        telemetry.read()
    assert time.monotonic() - began < 3.0
    mock.faults.silent = False
    assert telemetry.read().power_w == 65_460
    with pytest.raises(InputError, match="no server 'node99'"):
        telemetry_of(mock, {"path": SENSOR, "server": "node99"})
