"""A recorded row in the daemon, a thousand times as fast or faster: the commands of a plain loop of the policy."""

from __future__ import annotations

import json
import math
import random
import time

import pytest
from typer.testing import CliRunner

from nonet.common.errors import InputError
from nonet.power.cli import app
from nonet.power.controlling.config import load_row_file
from nonet.power.controlling.daemon import RunOptions, run_row
from nonet.power.controlling.journal import Journal
from nonet.power.policies.ledger import CommandLedger
from nonet.power.policies.protocol import Action, Sample
from nonet.power.policies.registry import POLICIES, build_policy
from tests.power.controlling.small_policy import SmallPolicy

EPOCH_S = 1_700_000_000


@pytest.fixture
def row(write_row):
    path = write_row()
    text = path.read_text().replace("retry_s = 0.1", "")
    for old, new in (("period_s = 0.1", "period_s = 2"), ("p_latency_s = 0.4", "p_latency_s = 40"), ("0.2", "5")):
        text = text.replace(old, new)
    path.write_text(text)
    return load_row_file(path)


def recording(tmp_path, seed, periods=1500, gaps=False):
    draw, lines, power_w, at_s = random.Random(seed), [], 700.0, EPOCH_S
    for _ in range(periods):
        power_w = min(1080.0, max(500.0, power_w + draw.gauss(0, 20)))
        at_s += draw.choice([30, 2]) if gaps and draw.random() < 0.02 else 2
        lines.append((at_s, round(power_w, 1)))
    path = tmp_path / "recorded.csv"
    path.write_text("time,power_w\n" + "".join(f"{at},{power}\n" for at, power in lines))
    return path, lines


def plain_loop(row, lines, policy=None):
    """Shadow mode in its plainest form: landing after the latency, nothing changes the recorded power."""

    class View:
        budget_w, telemetry_period_s, cap_latency_s, brake_latency_s = 1000.0, 2.0, 40.0, 5.0
        priorities, server_power_w = [0, 0, 1, 1], None
        in_flight = property(lambda self: ledger.in_flight)
        cap_levels = property(lambda self: ledger.cap_levels)
        last_landed_s = property(lambda self: ledger.last_landed_s)

    ledger = CommandLedger([0, 0, 1, 1], row.ledger_config(one_lever=False), "plain")
    policy, view, landing, log = policy or SmallPolicy(), View(), [], []

    def land(until_s):
        while landing and min(landing)[0] <= until_s:
            at_s, key = min(landing)
            landing.remove((at_s, key))
            send(ledger.confirm(key, at_s), at_s)

    def send(writes, now_s):
        landing.extend((now_s + (40.0 if write.action is Action.CAP else 5.0), write.key) for write in writes)

    for at_s, power_w in lines:
        now_s = float(at_s)
        land(now_s - 1e-9)
        ledger.note_sample(now_s)
        land(now_s)
        send(ledger.advance(now_s), now_s)
        for command in policy.decide(now_s, Sample(power_w, now_s), view):
            log.append((now_s, command))
            send(ledger.submit(command, now_s), now_s)
    return log


@pytest.mark.parametrize("seed", range(4))
def test_the_same_commands_as_a_plain_loop(tmp_path, row, seed):
    path, lines = recording(tmp_path, seed)
    report = run_row(row, SmallPolicy(), RunOptions(replay=path))
    assert report.periods == len(lines)
    assert report.ended == "end of the recording"
    expected = plain_loop(row, lines)
    assert report.commands == expected
    assert len(expected) > 10
    with Journal(row.control.journal, ["low0", "low1", "high0", "high1"]) as journal:
        rows = journal.rows("commands")
        assert [(c["control_s"], c["action"], c["level"]) for c in rows] == [
            (at_s, str(c.action), c.level) for at_s, c in expected
        ]
        assert {write["dry"] for write in journal.rows("writes")} == {1}


@pytest.mark.parametrize("name", list(POLICIES))
def test_every_registered_policy_does_in_the_daemon_what_it_does_in_a_plain_loop(tmp_path, row, name):
    path, lines = recording(tmp_path, 7, periods=1000)
    report = run_row(row, build_policy(name), RunOptions(replay=path))
    expected = plain_loop(row, lines, build_policy(name))
    assert report.commands == expected
    assert name == "null" or len(expected) >= 2


def test_a_thousand_times_as_fast(tmp_path, row):
    path, lines = recording(tmp_path, 1, periods=200)
    began = time.monotonic()
    report = run_row(row, SmallPolicy(), RunOptions(replay=path, speed=1000.0))
    took_s = time.monotonic() - began
    assert took_s >= (lines[-1][0] - lines[0][0]) / 1000.0
    assert report.commands == plain_loop(row, lines)


def test_a_gap_in_the_recording_is_lost_telemetry(tmp_path, row):
    path = tmp_path / "gap.csv"
    path.write_text("time,power_w\n0,700\n2,700\n60,700\n62,700\n64,700\n")
    report = run_row(row, SmallPolicy(), RunOptions(replay=path))
    assert next((at_s, c.reason) for at_s, c in report.commands) == (10.0, "telemetry lost")
    assert report.periods == 3 + 28 + 2


def test_a_replay_that_was_cut_goes_on_in_its_mode(tmp_path, row):
    path = tmp_path / "a.csv"
    path.write_text("time,power_w\n" + "".join(f"{t},950\n" for t in range(0, 100, 2)))
    assert len(run_row(row, SmallPolicy(), RunOptions(replay=path)).commands) == 1
    path.write_text("time,power_w\n" + "".join(f"{t},950\n" for t in range(100, 200, 2)))
    report = run_row(row, SmallPolicy(), RunOptions(replay=path))
    assert (report.commands, report.caps) == ([], 2)


def test_a_replay_says_the_same_however_often_and_a_live_run_takes_nothing_from_it(tmp_path, row, make_feeder):
    path, _ = recording(tmp_path, 2, periods=300)
    first, again = (run_row(row, SmallPolicy(), RunOptions(replay=path)) for _ in range(2))
    assert again.commands == first.commands and again.caps > 0
    with Journal(row.control.journal, ["low0", "low1", "high0", "high1"]) as journal:
        assert {write["key"].rsplit("-", 1)[0] for write in journal.rows("writes")} == {"test-dry1", "test-dry2"}
    make_feeder(700.0)
    assert run_row(row, SmallPolicy(), RunOptions(once=True)).caps == 0


def test_what_cannot_be_replayed_is_refused(tmp_path, row):
    path, _ = recording(tmp_path, 1, periods=5)
    with pytest.raises(InputError, match="replay"):
        run_row(row, SmallPolicy(), RunOptions(apply=True, allow=("*",), replay=path))
    path.write_text("time,power_w\n")
    with pytest.raises(InputError, match="no reading"):
        run_row(row, SmallPolicy(), RunOptions(replay=path))
    path.write_text("time,power_w\n5,700\n3,700\n")
    with pytest.raises(InputError, match="time goes back after 5"):
        run_row(row, SmallPolicy(), RunOptions(replay=path))
    assert math.isinf(RunOptions().speed)


def test_a_recording_in_another_unit_is_refused(row, tmp_path):
    path = tmp_path / "recorded.csv"
    path.write_text(f"time,power_w\n{EPOCH_S},0.7\n{EPOCH_S + 2},0.8\n")
    with pytest.raises(InputError, match="one of them is in another unit"):
        run_row(row, None, RunOptions(replay=path))


def test_servers_under_the_brake_are_counted(row, tmp_path):
    path = tmp_path / "recorded.csv"
    path.write_text("time,power_w\n" + "".join(f"{t},{1050 + t}\n" for t in range(0, 20, 2)))
    assert run_row(row, SmallPolicy(), RunOptions(replay=path)).caps == 4


def test_the_command_says_whom_each_order_is_for(tmp_path, row):
    path = tmp_path / "recorded.csv"
    path.write_text("time,power_w\n" + "".join(f"{t},{950 + 5 * t}\n" for t in range(0, 30, 2)))
    done = CliRunner().invoke(app, ["run", str(tmp_path / "row.toml"), "--replay", str(path), "--json"])
    orders = [(c["action"], c["class"], c["servers"]) for c in json.loads(done.stdout)["commands"]]
    assert orders[0] == ("cap", "low", None)
    assert ("brake", None, [0, 1, 2, 3]) in orders
