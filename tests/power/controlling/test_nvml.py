"""The back end NVML through the real nvidia-ml-py, against the fake library."""

from __future__ import annotations

import pytest

from nonet.common.errors import InputError
from nonet.power.controlling.actuators import ACTUATORS, nvml
from nonet.power.controlling.actuators.protocol import (
    NoPermissionError,
    RefusedError,
    Scale,
    Server,
    ServerLostError,
)
from nonet.power.policies.protocol import Action, Priority
from tests.power.controlling.fake_nvml import LIMIT, LOCK, RESET

SCALE = Scale(1410.0, lambda level: 400.0 * level)


def server(index: int, *gpus: int | str) -> Server:
    return Server(index, f"node{index}", Priority.LOW, options={"gpus": list(gpus)})


def actuator(servers, **settings):
    return nvml.NvmlActuator(nvml.NvmlConfig(**settings), servers, SCALE)


def test_a_level_locks_every_gpu_of_the_server_and_no_other(make_gpus):
    gpus = make_gpus(4)
    node = server(0, 1, "GPU-fake-0003")
    own = actuator([node])
    assert own.set_level(node, 1110 / 1410, "k1") == pytest.approx(1110 / 1410)
    assert gpus.clocks() == [0, 1110, 0, 1110]
    assert own.read_level(node, 1110 / 1410) == pytest.approx(1110 / 1410)
    assert own.set_level(node, 1.0, "k2") == 1.0
    assert gpus.clocks() == [0, 0, 0, 0]
    assert [(w.gpu, w.op) for w in gpus.writes()] == [(1, LOCK), (3, LOCK), (1, RESET), (3, RESET)]


@pytest.mark.parametrize(("level", "clock_mhz"), [(0.9, 1260), (288 / 1410, 285), (0.01, 210), (1275 / 1410, 1275)])
def test_levels_are_snapped_down_to_a_supported_clock(make_gpus, level, clock_mhz):
    gpus = make_gpus(1)
    node = server(0)
    own = actuator([node])
    assert own.set_level(node, level, "k") == pytest.approx(clock_mhz / 1410)
    assert gpus.clocks() == [clock_mhz]


def test_a_lock_that_vanished_is_seen_on_a_busy_gpu_and_not_on_an_idle_one(make_gpus):
    gpus = make_gpus(1)
    node = server(0)
    own = actuator([node])
    set_to = own.set_level(node, 0.8, "k")
    gpus[0].locked_max_mhz = 0  # the driver was unloaded
    assert own.read_level(node, set_to) == 1.0
    gpus[0].busy = 0
    assert own.read_level(node, set_to) == set_to  # nothing contradicts it
    assert not own.reads_back


def test_power_limits_are_set_within_constraints_and_read_back_exactly(make_gpus):
    gpus = make_gpus(2)
    node = server(0)
    own = actuator([node], lever="power_limit")
    assert own.set_level(node, 0.75, "k") == pytest.approx(0.75)
    assert [gpus[i].limit_mw for i in range(2)] == [300_000, 300_000]
    assert own.set_level(node, 0.05, "k2") == pytest.approx(0.25)  # 100 W is the lowest
    gpus[1].limit_mw = 350_000
    assert own.read_level(node) == pytest.approx(350 / 400)  # the mildest
    assert own.set_level(node, 1.0, "k3") == own.read_level(node) == 1.0
    assert {w.op for w in gpus.writes()} == {LIMIT}


def test_a_lost_gpu_is_said_and_the_others_are_capped_all_the_same(make_gpus):
    gpus = make_gpus(3)
    node = server(0)
    own = actuator([node])
    gpus[1].lost = 1
    with pytest.raises(ServerLostError, match=r"GPU is lost.*Xid"):
        own.set_level(node, 0.8, "k", Action.BRAKE)
    assert gpus.clocks() == [1125, 0, 1125]
    with pytest.raises(ServerLostError):
        own.read_level(node)


def test_no_permission_and_busy_are_told_apart(make_gpus):
    gpus = make_gpus(1)
    node = server(0)
    own = actuator([node])
    gpus[0].no_permission = 1
    with pytest.raises(NoPermissionError, match="run as root"):
        own.set_level(node, 0.8, "k")
    gpus[0].no_permission, gpus[0].refuse = 0, 1
    with pytest.raises(RefusedError, match="In use"):
        own.set_level(node, 0.8, "k")
    assert own.set_level(node, 0.8, "k") == pytest.approx(1125 / 1410)


def test_privileges_are_checked_before_anything_is_written(make_gpus, monkeypatch):
    gpus = make_gpus(1)
    own = actuator([server(0)])
    monkeypatch.setattr(nvml, "may_write", lambda: False)
    [problem] = own.check([server(0)])
    assert isinstance(problem, NoPermissionError)
    assert "CAP_SYS_ADMIN" in str(problem)
    assert gpus.writes() == []


def test_no_driver_no_gpu_and_a_wrong_scale_are_said(make_gpus):
    gpus = make_gpus(2)
    with pytest.raises(RefusedError, match="GPU 7"):
        actuator([server(0, 7)])
    with pytest.raises(InputError, match="also belongs to node0"):
        actuator([server(0, 0), server(1, 0)])
    with pytest.raises(InputError, match=r"scale\.max_clock_mhz = 1410"):
        nvml.NvmlActuator(nvml.NvmlConfig(), [server(0)], Scale(1980.0, lambda level: 700 * level))
    gpus.state.driver_missing = 1
    with pytest.raises(ServerLostError, match="Driver Not Loaded"):
        actuator([server(0)])


def test_it_is_registered():
    kind = ACTUATORS["nvml"]
    assert kind.server_options(gpus=[0, "GPU-x"]).model_dump() == {"gpus": [0, "GPU-x"]}
