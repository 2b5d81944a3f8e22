"""IPMI over RMCP+: python-ipmi against Debian's ipmi_sim, with a module for the DCMI power commands."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
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
from nonet.power.policies.protocol import Action, Priority
from tests.conftest import needs
from tests.power.controlling.conftest import eventually
from tests.power.controlling.real.conftest import free_port

SCALE = Scale(1410.0, lambda level: 400.0 * level**0.93, gpus_per_server=8, base_w=450.0, gpu_factor=1.64)
FULL_W = 450 + 1.64 * 8 * 400
LAN = """
name "bmc"
set_working_mc 0x20
loadlib "{module}" "{state}"
startlan 1
 addr 127.0.0.1 {port}
 priv_limit admin
 allowed_auths_callback md5
 allowed_auths_user md5
 allowed_auths_operator md5
 allowed_auths_admin md5
 guid a123456789abcdefa123456789abcdef
endlan
user 1 false "" "none" user 10 none
user 2 true "admin" "secret" admin 10 md5
"""
COMMANDS = """
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02
mc_enable 0x20
"""


class Bmc:
    """ipmi_sim as a process."""

    def __init__(self, folder: Path, module: Path) -> None:
        self.port = free_port(socket.SOCK_DGRAM)
        self.state = folder / "dcmi.state"
        self._folder = folder
        (folder / "saved").mkdir()
        (folder / "commands").write_text(COMMANDS)
        (folder / "lan.conf").write_text(LAN.format(module=module, state=self.state, port=self.port))
        self.say("watts 4321")
        self.start()

    def start(self) -> None:
        """Begin, or begin again, knowing nothing of old sessions."""
        command = ["ipmi_sim", "-c", "lan.conf", "-f", "commands", "-s", "saved", "-n"]
        log = (self._folder / "log").open("w")
        self.process = subprocess.Popen(command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        assert eventually(self._answers, 10.0), (self._folder / "log").read_text()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()

    def say(self, *lines: str) -> None:
        fresh = self.state.with_suffix(".next")
        fresh.write_text("\n".join(lines) + "\n")
        fresh.replace(self.state)

    @property
    def limit(self) -> tuple[int, int, int]:
        """Watts, active, number of writes."""
        path = Path(f"{self.state}.limit")
        return tuple(map(int, path.read_text().split())) if path.exists() else (0, 0, 0)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(0.1)
            probe.connect(("127.0.0.1", self.port))
            try:
                probe.send(bytes.fromhex("0600ff06000011be8000" + "0000"))  # ASF presence ping
                return bool(probe.recv(64))
            except OSError:
                return False


@pytest.fixture(scope="session")
def module(tmp_path_factory) -> Path:
    needs(shutil.which("ipmi_sim") is not None, "ipmi_sim (Debian package openipmi) plays the BMC")
    needs(shutil.which("gcc") is not None, "gcc builds the DCMI module of ipmi_sim")
    header = Path("/usr/include/OpenIPMI/mcserv.h")
    needs(header.exists(), "the headers of OpenIPMI (Debian package libopenipmi-dev) build the DCMI module")
    built = tmp_path_factory.mktemp("ipmi") / "dcmi.so"
    source = Path(__file__).with_name("dcmi.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(built), str(source)], check=True)
    return built


@pytest.fixture
def bmc(module, tmp_path, monkeypatch):
    monkeypatch.setenv("IPMI_PASSWORD", "secret")
    found = Bmc(tmp_path, module)
    yield found
    found.stop()


def actuator_of(bmc: Bmc, address: str = "", **config) -> tuple[Actuator, Server]:
    kind = ACTUATORS["ipmi"]
    server = Server(0, "node01", Priority.LOW, address or f"127.0.0.1:{bmc.port}", kind.server_options().model_dump())
    defaults = {"timeout_s": 3.0, "settle_s": 0.0}
    return kind.build(kind.config(**(defaults | config)), [server], SCALE), server


@pytest.fixture
def pair(bmc, request):
    actuator, server = actuator_of(bmc)
    request.addfinalizer(actuator.close)
    return bmc, actuator, server


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(level=st.floats(0.05, 1.0))
def test_what_is_set_is_what_the_bmc_has_and_what_is_read(pair, level):
    bmc, actuator, server = pair
    got = actuator.set_level(server, level, "key")
    if level < 1.0:
        wanted_w = 450 + 1.64 * 8 * 400 * level**0.93
        assert bmc.limit[:2] == (max(500, int(wanted_w + 1e-6)), 1)
        assert got <= level + 1e-9 or bmc.limit[0] == 500
    assert actuator.read_level(server, got) == got
    assert actuator.set_level(server, 1.0, "key") == actuator.read_level(server) == 1.0
    assert bmc.limit[1] == 0


def test_it_keeps_the_protocol(pair):
    bmc, actuator, server = pair
    assert isinstance(actuator, Actuator) and actuator.reads_back
    assert actuator.check([server]) == [] and bmc.limit == (0, 0, 0)
    actuator.set_level(server, 288 / 1410, "brake", Action.BRAKE)
    assert bmc.limit[:2] == (int(450 + 1.64 * 8 * 400 * (288 / 1410) ** 0.93), 1)
    for wrong in (0.0, 1.5, float("nan")):
        with pytest.raises(InputError, match="level"):
            actuator.set_level(server, wrong, "key")


def test_ipmitool_sees_the_same_limit(pair):
    needs(shutil.which("ipmitool") is not None, "ipmitool reads what python-ipmi wrote")
    bmc, actuator, server = pair
    actuator.set_level(server, 0.8, "key")
    command = ["ipmitool", "-I", "lanplus", "-C", "3", "-H", "127.0.0.1", "-p", str(bmc.port), "-U", "admin"]
    command += ["-P", "secret", "dcmi", "power", "get_limit"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    assert re.search(rf"Power Limit:\s+{bmc.limit[0]}\s+Watts", shown), shown
    assert "Active" in shown


def test_the_best_cipher_suite_that_the_bmc_knows_is_taken(bmc):
    actuator, server = actuator_of(bmc, cipher_suites=[17, 3])
    assert actuator.set_level(server, 0.8, "key") < 0.8  # this ipmi_sim knows 3 only
    actuator, server = actuator_of(bmc, cipher_suites=[17])
    with pytest.raises(NoPermissionError, match="cipher_suites"):
        actuator.set_level(server, 0.8, "key")


@pytest.mark.parametrize(
    ("command", "code", "error", "says"),
    [
        (4, 0x84, RefusedError, "out of the range"),
        (4, 0xC0, RefusedError, "busy"),
        (5, 0xD4, NoPermissionError, "privilege"),
        (4, 0xC3, UnansweredError, "may have had an effect"),
        (4, 0xC1, RefusedError, "does not know DCMI"),
    ],
)
def test_completion_codes_have_the_right_name(pair, command, code, error, says):
    bmc, actuator, server = pair
    bmc.say(f"cc {command} {code}")
    with pytest.raises(error, match=says) as caught:
        actuator.set_level(server, 0.8, "key")
    assert type(caught.value) is error and "node01" in str(caught.value) and "\n" not in str(caught.value)
    assert bmc.limit[1] == 0
    bmc.say()
    actuator.set_level(server, 0.8, "key")
    assert bmc.limit[1] == 1


@pytest.mark.parametrize("shown_w", [0, 65535])
def test_nonsense_from_a_bmc_is_not_believed(pair, shown_w):
    bmc, actuator, server = pair
    actuator.set_level(server, 0.8, "key")
    bmc.say(f"force {shown_w}")
    with pytest.raises(RefusedError, match=f"a limit of {shown_w} W"):
        actuator.read_level(server)


def test_a_limit_that_binds_nothing_is_none(pair):
    bmc, actuator, server = pair
    actuator.set_level(server, 0.8, "key")
    bmc.say(f"force {int(FULL_W) + 1000}")
    assert actuator.read_level(server) == 1.0


def test_a_bmc_that_was_restarted_gets_a_new_session(pair):
    bmc, actuator, server = pair
    actuator.set_level(server, 0.8, "key")
    bmc.stop()
    bmc.start()
    assert actuator.set_level(server, 0.6, "key") < 0.6
    assert bmc.limit[0] == int(450 + 1.64 * 8 * 400 * 0.6**0.93)


def test_a_bmc_that_hangs_ends_in_time(bmc):
    actuator, server = actuator_of(bmc, timeout_s=1.0)
    actuator.set_level(server, 0.8, "key")
    bmc.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises((UnansweredError, ServerLostError)):
        actuator.set_level(server, 0.6, "key")
    assert time.monotonic() - began < 3.0
    bmc.process.send_signal(signal.SIGCONT)
    assert actuator.set_level(server, 0.6, "key") < 0.6


def test_nobody_there_and_nobody_let_in(bmc, monkeypatch):
    actuator, server = actuator_of(bmc, f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}", timeout_s=0.5)
    with pytest.raises(ServerLostError, match="node01"):
        actuator.read_level(server)
    assert [type(problem) for problem in actuator.check([server])] == [ServerLostError]
    actuator, server = actuator_of(bmc, user="nobody")
    with pytest.raises(NoPermissionError):
        actuator.set_level(server, 0.8, "key")
    monkeypatch.setenv("IPMI_PASSWORD", "wrong")
    actuator, server = actuator_of(bmc)
    with pytest.raises(NoPermissionError, match="password"):
        actuator.set_level(server, 0.8, "key")
    assert bmc.limit == (0, 0, 0)


def test_noise_is_an_error_of_the_protocol_in_time(babbler, monkeypatch):
    monkeypatch.setenv("IPMI_PASSWORD", "secret")
    kind = ACTUATORS["ipmi"]
    server = Server(0, "node01", Priority.LOW, babbler.address)
    actuator = kind.build(kind.config(timeout_s=0.2), [server], SCALE)
    for _ in range(5):
        began = time.monotonic()
        with pytest.raises(ActuatorError) as caught:
            actuator.set_level(server, 0.8, "key")
        assert time.monotonic() - began < 3.0 and "\n" not in str(caught.value)


def test_wrong_settings_are_seen_at_the_start(bmc, monkeypatch):
    with pytest.raises(InputError, match="host:port"):
        actuator_of(bmc, "https://bmc")
    monkeypatch.delenv("IPMI_PASSWORD")
    with pytest.raises(InputError, match="IPMI_PASSWORD"):
        actuator_of(bmc)
