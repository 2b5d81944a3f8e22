"""What the bench of the simulator measures, in small."""

import sys
from importlib.util import find_spec

from nonet.power.bench import simulator
from tests.conftest import needs


def test_exactness_and_balances():
    needs(find_spec("simpy") is not None, "SimPy")
    assert simulator.simpy_error(400) < 1e-9
    energy, work = simulator.balances(5000)
    assert energy < 1e-6 and work < 1e-9
    assert simulator.erlang_c_error(400_000, runs=3) < 0.03


def test_faster_than_the_fleet_simulator():
    needs(find_spec("fleet_sim") is not None, "vllm-sr-sim")
    found = simulator.speed_vs_vllm_sr_sim(3000, 8)
    assert found["ratio"] > 10
    assert found["ours_per_s"] > 100_000


def test_a_rival_that_is_not_installed_is_said_on_stderr(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "simpy", None)
    assert simulator._unless_missing(simulator._simpy) == []
    assert "SimPy is not installed" in capsys.readouterr().err


def test_six_weeks_in_small():
    found = simulator.six_weeks(20_000, days=1.0)
    assert found["seconds"] < 10 and found["rss_gib"] < 2


def test_the_fitted_rows_own_weeks_are_timed_too(monkeypatch):
    monkeypatch.setattr(simulator, "fitted_row", lambda days: simulator._fitted_row_alone(days / 700))
    seconds, rss = simulator._fitted_row("quick")
    # The peak is the whole test process's here, whatever ran in it before.
    assert seconds.promise is None and 0 < seconds.value < 5 and rss.value > 0
    assert " requests, 52 servers, 7 days" in seconds.input and seconds.name == "fitted_row_seconds"
