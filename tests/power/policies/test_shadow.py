"""Shadow mode against logs worked out by hand, and against itself with promises ignored."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from nonet.common.errors import InputError
from nonet.power.cli import app
from nonet.power.policies import POLICIES, Polca, RowView, build_policy, load_policy
from nonet.power.policies.shadow import shadow

BUDGET_W = 200e3


def run(u, policy=None, **options):
    times = 2.0 * np.arange(len(u))
    row = RowView.uniform(40, 0.5, BUDGET_W)
    return shadow(times, np.asarray(u) * BUDGET_W, policy or Polca(), row, **options)


def lines(log):
    return [json.loads(line) for line in log.json_lines(lambda level: round(level * 1410))]


def test_modes_follow_the_published_table():
    """T1 at 20 s, T2 at 100 s; mode 3 only once mode 2 has landed (40 s), settled (one period) and u is still high."""
    u = [0.7] * 10 + [0.82] * 40 + [0.92] * 40
    found = [(one["time_s"], one["class"], one["clock_mhz"], one["mode"]) for one in lines(run(u))]
    assert found == [(20.0, "low", 1275, 1), (100.0, "low", 1110, 2), (144.0, "high", 1305, 3)]


def test_modes_are_left_below_the_hysteresis_one_by_one():
    u = [0.7] * 5 + [0.92] * 60 + [0.845] * 60 + [0.83] * 60 + [0.74] * 60
    found = [(one["time_s"], one["class"], one["clock_mhz"], one["mode"]) for one in lines(run(u))]
    assert found == [
        (10.0, "low", 1110, 2),
        (54.0, "high", 1305, 3),
        (250.0, "high", 1410, 2),  # 0.845 is inside the hysteresis, 0.83 is not
        (294.0, "low", 1275, 1),
        (370.0, "low", 1410, 0),
    ]


def test_exactly_at_a_threshold_nothing_happens():
    assert not run([0.8] * 20).commands
    log = run([0.8] * 5 + [1.0] * 5)
    assert log.brakes == 0
    assert [one.mode for one in log.commands] == [2]
    assert [one.mode for one in run([0.7] * 5 + [0.89] * 60).commands] == [1]
    assert [one.mode for one in run([0.7] * 5 + [0.82] * 40 + [0.75] * 60).commands] == [1]
    assert [one.mode for one in run([0.7] * 5 + [0.891] + [0.84] * 60).commands] == [2]


def test_the_brake_falls_once_on_all_and_lands_after_5_s():
    log = run([0.7] * 5 + [1.02] * 10)
    [first, *_] = lines(log)
    assert log.brakes == 1
    assert (first["time_s"], first["action"], first["class"], first["clock_mhz"]) == (10.0, "brake", "all", 288)
    assert first["lands_s"] == 15.0
    assert len(first["servers"]) == 40


def test_a_gap_is_lost_telemetry_and_makes_no_row_faster():
    times = np.concatenate([2.0 * np.arange(60), 600.0 + 2.0 * np.arange(60)])
    power_w = np.full(120, 0.7 * BUDGET_W)
    log = shadow(times, power_w, Polca(), RowView.uniform(40, 0.5, BUDGET_W))
    caps = [one for one in log.commands if one.command.level < 1.0]
    assert caps and 118.0 < caps[0].time_s <= 128.0
    assert all(one.time_s >= 600.0 for one in log.commands if one.command.level == 1.0)


@pytest.mark.parametrize("name", sorted(POLICIES))
@pytest.mark.parametrize("seed", range(5))
def test_promises_change_nothing(name, seed):
    random = np.random.default_rng(seed)
    u = np.clip(0.8 + np.cumsum(random.normal(0, 0.008, 4000)) * 0.3, 0.4, 1.1)
    u[random.random(4000) < 0.003] = math.nan
    times = 2.0 * np.cumsum(np.where(random.random(4000) < 0.002, 7, 1))
    row = RowView.uniform(10, 0.5, BUDGET_W)
    logs = [shadow(times, u * BUDGET_W, build_policy(name), row, quiet=quiet) for quiet in (True, False)]
    assert list(logs[0].json_lines()) == list(logs[1].json_lines())
    assert logs[0].final_levels == logs[1].final_levels


@pytest.mark.parametrize("times", [[0, 2, 2], [0, 4, 2], [math.nan, 1, 2], []])
def test_times_that_do_not_grow_are_refused(times):
    with pytest.raises(InputError, match="power series"):
        shadow(times, [1.0] * len(times), Polca(), RowView.uniform(4, 0.5, BUDGET_W))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("own.toml", 'policy = "polca"\nt1 = 0.7\n'),
        ("own.toml", 'name = "polca"\nt1 = 0.7\n'),
        ("polca.toml", "t1 = 0.7\n"),
        ("row.toml", '[row]\nbudget_w = 1e5\n[policy]\nname = "polca"\nt1 = 0.7\n'),
    ],
)
def test_ways_to_write_a_policy_file(tmp_path, file, text):
    path = tmp_path / file
    path.write_text(text)
    assert load_policy(path).config.t1 == 0.7


@pytest.mark.parametrize("text", ["t1 = 0.7\n", "policy = 3\n", "[policy]\nt1 = 0.7\n", '[row]\nname = "a"\n'])
def test_a_policy_file_that_names_none_is_refused(tmp_path, text):
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(InputError, match="no policy; add a line"):
        load_policy(path)


def test_watts_without_a_budget_are_refused_on_the_command_line(tmp_path):
    path = tmp_path / "row_power.csv"
    path.write_text("time,power_w\n" + "".join(f"{2 * n},{150_000 + n}\n" for n in range(9)))
    found = CliRunner().invoke(app, ["shadow", "--telemetry", str(path)])
    assert isinstance(found.exception, InputError)
    assert "150004 is no power over budget; give --budget-kw" in str(found.exception)
    path.write_text("time,utilization\n" + "".join(f"{2 * n},0.{80 + n}\n" for n in range(9)))
    found = CliRunner().invoke(app, ["shadow", "--telemetry", str(path), "--json"])
    assert [json.loads(line)["mode"] for line in found.stdout.splitlines()] == [1]
