"""The contract of actuators, held by every back end that can be built here, and zeusd over a real socket."""

from __future__ import annotations

import threading
import time

import pytest
import uvicorn
from fastapi import FastAPI, HTTPException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.power.controlling.actuators import ACTUATORS, zeusd
from nonet.power.controlling.actuators.dry import DryActuator, DryConfig
from nonet.power.controlling.actuators.protocol import (
    Actuator,
    NoPermissionError,
    RefusedError,
    Scale,
    Server,
    ServerLostError,
)
from nonet.power.controlling.starting import check_actuators
from nonet.power.policies.protocol import Action, Priority
from tests.power.controlling.conftest import eventually

SCALE = Scale(1410.0, lambda level: 400.0 * level)


class FakeZeusd:
    """The documented routes of zeusd, over a Unix socket, with two GPUs."""

    def __init__(self, path: str) -> None:
        self.locked_mhz = {0: 0, 1: 0}
        self.limits_mw = {0: 400_000, 1: 400_000}
        self.posts: list[str] = []
        self.groups = ["gpu-control", "gpu-read"]
        self.status = 200
        app = FastAPI()

        @app.get("/discover")
        def discover() -> dict:
            gpus = [{"id": i, "name": "fake", "pci_address": f"0000:0{i}:00.0"} for i in self.locked_mhz]
            return {"gpus": gpus, "cpus": [], "enabled_api_groups": self.groups, "auth_required": False}

        @app.post("/gpu/set_gpu_locked_clocks")
        def lock(gpu_ids: str, block: bool, min_clock_mhz: int, max_clock_mhz: int) -> None:
            self._post("lock")
            assert block and min_clock_mhz <= max_clock_mhz
            self.locked_mhz |= {int(i): max_clock_mhz for i in gpu_ids.split(",")}

        @app.post("/gpu/reset_gpu_locked_clocks")
        def reset(gpu_ids: str, block: bool) -> None:
            self._post("reset")
            self.locked_mhz |= {int(i): 0 for i in gpu_ids.split(",")}

        @app.post("/gpu/set_power_limit")
        def limit(gpu_ids: str, block: bool, power_limit_mw: int) -> None:
            self._post("limit")
            self.limits_mw |= {int(i): power_limit_mw for i in gpu_ids.split(",")}

        @app.get("/gpu/get_power_limit")
        def limits(gpu_ids: str) -> dict:
            return {i: {"power_limit_mw": self.limits_mw[int(i)]} for i in gpu_ids.split(",")}

        self._server = uvicorn.Server(uvicorn.Config(app, uds=path, log_level="error"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        assert eventually(lambda: self._server.started)

    def _post(self, what: str) -> None:
        if self.status != 200:
            raise HTTPException(self.status, {"errors": {"0": "Insufficient Permissions"}})
        self.posts.append(what)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(5)


@pytest.fixture
def fake_zeusd(tmp_path):
    fake = FakeZeusd(str(tmp_path / "zeusd.sock"))
    yield fake
    fake.stop()


@pytest.fixture(params=["dry", "nvml-clocks", "nvml-power_limit", "zeusd-clocks", "zeusd-power_limit"])
def case(request, tmp_path, make_gpus) -> tuple[Actuator, Server]:
    name, _, lever = request.param.partition("-")
    if name == "zeusd":
        request.getfixturevalue("fake_zeusd")
    elif name == "nvml":
        make_gpus(2)
    address = str(tmp_path / "zeusd.sock") if name == "zeusd" else ""
    node = Server(0, "node0", Priority.LOW, address, {"gpus": [0, 1]} if name != "dry" else {})
    kind = ACTUATORS[name]
    actuator = kind.build(kind.config(**({"lever": lever} if lever else {})), [node], SCALE)
    request.addfinalizer(actuator.close)
    return actuator, node


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(levels=st.lists(st.floats(0.3, 1.0), min_size=1, max_size=4))
def test_what_was_set_is_read_and_never_above_what_was_ordered(case, levels):
    actuator, node = case
    for level in levels:
        got = actuator.set_level(node, level, "key")
        assert got <= level + 1e-9
        assert got >= level - max(actuator.resolution, 15 / 1410) - 1e-9
        assert actuator.set_level(node, level, "key") == got  # again: nothing more
        assert abs(actuator.read_level(node, got) - got) <= actuator.resolution
    assert actuator.set_level(node, 1.0, "key") == 1.0
    assert actuator.read_level(node) == 1.0


def test_it_keeps_the_protocol(case):
    actuator, node = case
    assert isinstance(actuator, Actuator)
    assert actuator.check([node]) == [] or all(isinstance(p, NoPermissionError) for p in actuator.check([node]))
    assert actuator.set_level(node, 288 / 1410, "brake", Action.BRAKE) <= 0.26
    for wrong in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(InputError, match="level"):
            actuator.set_level(node, wrong, "key")


def test_every_registered_back_end_explains_itself():
    for name in ACTUATORS:
        kind = ACTUATORS[name]
        assert kind.summary
        assert all(field.description for field in kind.config.model_fields.values()), name
        with pytest.raises(ValueError, match="extra"):
            kind.config(no_such_key=1)


def zeusd_actuator(address, gpus=(0, 1), **config):
    node = Server(0, "node0", Priority.LOW, address, {"gpus": list(gpus)})
    return zeusd.ZeusdActuator(zeusd.ZeusdConfig(**config), [node], SCALE), node


def test_zeusd_gets_one_request_for_all_gpus(fake_zeusd, tmp_path):
    own, node = zeusd_actuator(str(tmp_path / "zeusd.sock"), gpus=())
    assert own.set_level(node, 1275 / 1410, "k") == pytest.approx(1275 / 1410)
    assert (fake_zeusd.locked_mhz, fake_zeusd.posts) == ({0: 1275, 1: 1275}, ["lock"])


def test_zeusd_says_what_is_missing(fake_zeusd, tmp_path):
    own, node = zeusd_actuator(str(tmp_path / "zeusd.sock"), gpus=(0, 5))
    fake_zeusd.groups = ["gpu-read"]
    problems = own.check([node])
    assert [type(p) for p in problems] == [NoPermissionError, ServerLostError]
    assert "gpu-control" in str(problems[0])
    assert "lacks GPU [5]" in str(problems[1])
    fake_zeusd.status = 403
    with pytest.raises(NoPermissionError, match="ZEUSD_TOKEN"):
        own.set_level(node, 0.9, "k")
    fake_zeusd.status = 500
    with pytest.raises(RefusedError, match="500"):
        own.set_level(node, 0.9, "k")


def test_no_zeusd_there(tmp_path):
    own, node = zeusd_actuator(str(tmp_path / "nobody.sock"))
    with pytest.raises(ServerLostError, match="is zeusd running"):
        own.set_level(node, 0.9, "k")
    with pytest.raises(InputError, match="socket path"):
        zeusd_actuator("node0:4938")


def test_scale_inverts_itself():
    scale = Scale(1410.0, lambda level: 100 + 300 * level**0.93, 8, 450.0, 1.64)
    for level in (0.1, 0.5, 0.787, 1.0):
        assert scale.level_of_limit(scale.limit_w(level)) == pytest.approx(level, abs=1e-8)
        assert scale.level_of_server_limit(scale.server_limit_w(level)) == pytest.approx(level, abs=1e-8)


def test_all_servers_are_checked_at_once_and_complaints_said_once():
    class Silent(DryActuator):
        def check(self, servers):
            time.sleep(0.2)
            return [ServerLostError(f"{servers[0].name}: no answer"), NoPermissionError("not root")]

    servers = [Server(index, f"s{index}", Priority.LOW) for index in range(20)]
    actuator = Silent(DryConfig(), servers, Scale(1410.0, lambda level: 400.0 * level))
    began = time.monotonic()
    problems = check_actuators(dict.fromkeys(range(20), actuator), servers)
    assert time.monotonic() - began < 2.0
    assert sorted(map(str, problems)) == sorted([*(f"s{index}: no answer" for index in range(20)), "not root"])
