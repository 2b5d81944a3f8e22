"""The daemon as a process: what it writes, what it refuses, and what is left when it ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from nonet.common.errors import InputError
from nonet.power.controlling.actuators import nvml
from nonet.power.controlling.config import load_row_file
from nonet.power.controlling.controller import Controller
from nonet.power.controlling.daemon import RunOptions, run_row
from nonet.power.controlling.journal import Journal
from tests.power.controlling.conftest import eventually
from tests.power.controlling.small_policy import SmallPolicy

NAMES = ["low0", "low1", "high0", "high1"]
CAPPED = [1110, 1110, 0, 0]


def nvml_row(write_row, **parts):
    """Four servers of one GPU each: the row file has ranges of two, so the groups are written out."""
    row = write_row(backend="nvml", **parts)
    text = row.read_text()
    for kind, first in (("low", 0), ("high", 2)):
        block = f'[[servers]]\nnames = "{kind}[0-1]"\npriority = "{kind}"\n'
        each = "".join(
            f'[[servers]]\nnames = "{kind}{i}"\npriority = "{kind}"\noptions = {{gpus = [{first + i}]}}\n'
            for i in (0, 1)
        )
        assert block in text
        text = text.replace(block, each)
    row.write_text(text)
    return row


def journal(row):
    return Journal(row.with_name("row.sqlite"), NAMES)


def test_a_dry_run_is_the_default_and_writes_nothing(make_gpus, make_feeder, write_row, start_daemon):
    gpus, row = make_gpus(4), nvml_row(write_row)
    make_feeder(950.0)
    daemon = start_daemon(row)
    assert daemon.says("cap")
    time.sleep(0.6)
    assert daemon.end(signal.SIGTERM) == 0
    assert gpus.writes() == []
    with journal(row) as found:
        assert [(c["action"], c["servers"], round(c["level"], 3)) for c in found.rows("commands")] == [
            ("cap", '"low"', 0.787)
        ]
        assert {(w["server"], w["dry"], w["result"]) for w in found.rows("writes")} == {
            (0, 1, "landed"),
            (1, 1, "landed"),
        }


def test_apply_caps_the_allowed_servers_only(make_gpus, make_feeder, write_row, start_daemon):
    gpus, row = make_gpus(4), nvml_row(write_row)
    make_feeder(950.0)
    daemon = start_daemon(row, "--apply", "--allow", "low1", "--allow", "high*")
    assert eventually(lambda: gpus.clocks() == [0, 1110, 0, 0])
    assert daemon.says("mind: locked clocks cannot be read back (nvml): landed means that the driver took them")
    time.sleep(0.7)
    assert daemon.end(signal.SIGTERM) == 0
    assert gpus.clocks() == [0, 1110, 0, 0]  # on_exit = keep
    with journal(row) as found:
        assert {(w["server"], w["dry"]) for w in found.rows("writes")} == {(0, 0), (1, 0)}
        assert "1 caps stay in force" in found.rows("events")[-1]["text"]


def test_apply_without_an_allow_list_or_privileges_is_refused(make_gpus, make_feeder, write_row, start_daemon):
    gpus, row = make_gpus(4), nvml_row(write_row)
    make_feeder(950.0)
    daemon = start_daemon(row, "--apply")
    assert daemon.process.wait(20) == 2
    assert "--apply needs an allow-list" in daemon.log.read_text()
    daemon = start_daemon(row, "--apply", "--allow", "node*")
    assert daemon.process.wait(20) == 2
    assert "'node*' names no server" in daemon.log.read_text()
    assert gpus.writes() == []


def test_apply_without_privileges_is_refused_before_anything_is_written(make_gpus, make_feeder, write_row, monkeypatch):
    gpus, row = make_gpus(4), nvml_row(write_row)
    make_feeder(950.0)
    monkeypatch.setattr(nvml, "may_write", lambda: False)
    with pytest.raises(InputError, match=r"root or CAP_SYS_ADMIN.*or leave --apply out"):
        run_row(load_row_file(row), SmallPolicy(), RunOptions(apply=True, allow=("*",), once=True))
    run_row(load_row_file(row), SmallPolicy(), RunOptions(once=True))  # a dry run says it and goes on
    assert gpus.writes() == []


def test_a_dry_run_needs_no_driver_and_says_what_would_fail(make_gpus, make_feeder, write_row, capsys):
    gpus, row = make_gpus(4), nvml_row(write_row)
    gpus.state.driver_missing = 1
    make_feeder(950.0)
    report = run_row(load_row_file(row), SmallPolicy(), RunOptions(once=True))
    assert (report.periods, len(report.commands)) == (1, 1)
    assert "--apply would not work now: nvmlInit: nvmlInit: Driver Not Loaded" in capsys.readouterr().err


def test_a_stop_event_ends_a_run_in_a_thread(make_feeder, write_row):
    make_feeder(500.0)
    stop, reports = threading.Event(), []
    row = load_row_file(write_row())
    thread = threading.Thread(target=lambda: reports.append(run_row(row, SmallPolicy(), stop=stop)))
    thread.start()
    time.sleep(0.8)
    stop.set()
    thread.join(10)
    assert reports[0].ended == "asked to stop"
    assert 3 <= reports[0].periods <= 10


def test_sigterm_gives_back_what_was_found_when_the_row_is_low(make_gpus, make_feeder, write_row, start_daemon):
    gpus = make_gpus(4)
    row = nvml_row(write_row, control='on_exit = "restore"\nrestore_below = 0.88\n')
    feeder = make_feeder(950.0)
    daemon = start_daemon(row, "--apply", "--allow", "low[0-1]")
    assert eventually(lambda: gpus.clocks() == CAPPED)
    assert daemon.end(signal.SIGTERM) == 0
    assert gpus.clocks() == CAPPED  # the row is high: lifting caps now would not be safe
    assert "the row is not low" in daemon.log.read_text()
    feeder.power_w = 870.0  # low enough to give back at exit, too high for the policy to lift anything
    daemon = start_daemon(row, "--apply", "--allow", "low[0-1]")
    assert daemon.says("in mode 2")
    time.sleep(0.5)
    assert gpus.clocks() == CAPPED
    assert daemon.end(signal.SIGTERM) == 0
    assert gpus.clocks() == [0, 0, 0, 0]
    with journal(row) as found:
        assert found.saved(dry=False) is None  # the next start is a first start


def test_runs_on_one_journal_never_share_a_key(write_row, make_feeder):
    path = write_row(control='allow = ["*"]\non_exit = "restore"\nrestore_below = 0.99\n')
    make_feeder(950.0)
    row = load_row_file(path)
    for apply in (True, True, False):  # each is a first start: caps are given back, and a dry run has its own state
        run_row(row, SmallPolicy(), RunOptions(apply=apply, once=True))
    with journal(path) as found:
        writes = found.rows("writes")
    assert [(w["dry"], w["server"], round(w["level"], 2)) for w in writes] == [
        *2 * [(0, 0, 0.79), (0, 1, 0.79), (0, 0, 1.0), (0, 1, 1.0)],
        *[(1, 0, 0.79), (1, 1, 0.79)],
    ]
    assert len({w["key"] for w in writes}) == len(writes)


def test_two_daemons_on_one_journal_are_refused(make_feeder, write_row, start_daemon):
    make_feeder(500.0)
    row = write_row()
    first = start_daemon(row)
    assert first.says("first start")
    second = start_daemon(row)
    assert second.process.wait(20) == 2
    assert f"process {first.process.pid} has it" in second.log.read_text()
    first.process.kill()
    first.process.wait()
    assert start_daemon(row, "--once").process.wait(20) == 0


def test_once_decides_once_and_waits_for_what_it_sent(make_gpus, make_feeder, write_row, start_daemon):
    gpus, row = make_gpus(4), nvml_row(write_row)
    make_feeder(950.0)
    daemon = start_daemon(row, "--apply", "--allow", "low*", "--once")
    assert daemon.process.wait(20) == 0
    assert (daemon.report()["periods"], daemon.report()["commands"]) == (1, 1)
    assert gpus.clocks() == CAPPED


def test_lost_telemetry_caps_and_fresh_telemetry_lifts(make_gpus, make_feeder, write_row, start_daemon):
    gpus, row = make_gpus(4), nvml_row(write_row)
    feeder = make_feeder(500.0)
    daemon = start_daemon(row, "--apply", "--allow", "*")
    assert daemon.says("first start")
    time.sleep(0.5)
    assert gpus.writes() == []
    feeder.silent.set()
    assert eventually(lambda: gpus.clocks() == CAPPED)
    assert daemon.says("lost: the latest sample is")
    time.sleep(0.5)
    assert gpus.clocks() == CAPPED  # nothing is lifted without a fresh sample
    feeder.silent.clear()
    assert eventually(lambda: gpus.clocks() == [0, 0, 0, 0])
    assert daemon.end(signal.SIGTERM) == 0


def test_a_brake_reaches_all_servers_and_is_released_to_their_caps(make_gpus, make_feeder, write_row, start_daemon):
    gpus, row = make_gpus(4), nvml_row(write_row)
    feeder = make_feeder(950.0)
    daemon = start_daemon(row, "--apply", "--allow", "*")
    assert eventually(lambda: gpus.clocks() == CAPPED)
    feeder.power_w = 1050.0
    began = time.monotonic()
    assert eventually(lambda: gpus.clocks() == [285] * 4, 2.0)
    assert time.monotonic() - began < 1.0
    feeder.power_w = 790.0
    assert eventually(lambda: set(gpus.clocks()) == {0, 1110, 1275} or gpus.clocks() in (CAPPED, [1275, 1275, 0, 0]))
    assert daemon.end(signal.SIGTERM) == 0
    assert gpus.most_writers() == 1


def test_refusals_are_tried_again_and_a_lost_gpu_stops_nobody(make_gpus, make_feeder, write_row, start_daemon):
    gpus, row = make_gpus(4), nvml_row(write_row)
    gpus[0].refuse = 2
    gpus[1].lost = 1
    feeder = make_feeder(500.0)
    gpus[1].lost = 0
    daemon = start_daemon(row, "--apply", "--allow", "*")
    assert daemon.says("first start")
    gpus[1].lost = 1
    feeder.power_w = 950.0
    assert eventually(lambda: gpus.clocks()[0] == 1110)
    assert daemon.says("GPU is lost")
    gpus[1].lost = 0  # it comes back after a reset, without its lock
    assert eventually(lambda: gpus.clocks() == CAPPED, 15.0)
    assert daemon.end(signal.SIGTERM) == 0


def test_no_permission_in_mid_run_is_given_up_and_said(make_gpus, make_feeder, write_row, start_daemon):
    gpus, row = make_gpus(4), nvml_row(write_row)
    feeder = make_feeder(500.0)
    daemon = start_daemon(row, "--apply", "--allow", "*")
    assert daemon.says("first start")
    gpus[0].no_permission = 1
    feeder.power_w = 950.0
    assert daemon.says("forbidden: low0")
    assert eventually(lambda: gpus.clocks() == [0, 1110, 0, 0])
    gpus[0].no_permission = 0
    assert eventually(lambda: gpus.clocks() == CAPPED)  # a read-back takes it up again
    assert daemon.end(signal.SIGTERM) == 0


def test_a_lock_that_vanishes_is_set_again(make_gpus, make_feeder, write_row, start_daemon):
    gpus, row = make_gpus(4), nvml_row(write_row)
    make_feeder(950.0)
    daemon = start_daemon(row, "--apply", "--allow", "*")
    assert eventually(lambda: gpus.clocks() == CAPPED)
    gpus[0].locked_max_mhz = 0  # somebody reset it
    assert daemon.says("drift: server 0")
    assert eventually(lambda: gpus.clocks() == CAPPED)
    assert daemon.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("at_start", ["adopt", "restore"])
def test_power_limits_found_at_the_first_start(make_gpus, make_feeder, write_row, start_daemon, at_start):
    gpus = make_gpus(4)
    gpus[2].limit_mw = 300_000
    row = nvml_row(write_row, control=f'at_start = "{at_start}"\n', more='[actuators.nvml]\nlever = "power_limit"\n')
    feeder = make_feeder(780.0)
    daemon = start_daemon(row, "--apply", "--allow", "*")
    assert daemon.says("orphans: caps found on 1 servers")
    time.sleep(0.4)
    assert gpus[2].limit_mw in (299_999, 300_000)  # the row is not low enough to lift anything
    feeder.power_w = 500.0
    if at_start == "restore":
        assert eventually(lambda: gpus[2].limit_mw == 400_000)
    else:
        time.sleep(0.4)
        assert gpus[2].limit_mw in (299_999, 300_000)
    assert daemon.end(signal.SIGTERM) == 0


def test_a_budget_in_the_wrong_unit_is_refused(make_gpus, make_feeder, write_row, start_daemon):
    gpus, row = make_gpus(4), nvml_row(write_row)
    make_feeder(950_000.0)
    daemon = start_daemon(row, "--apply", "--allow", "*")
    assert daemon.process.wait(20) == 2
    assert "another unit" in daemon.log.read_text()
    assert gpus.writes() == []


def test_a_telemetry_file_without_a_known_column_is_refused(write_row, tmp_path):
    (tmp_path / "power.csv").write_text("when,kw\n1700000000,900\n")
    row = load_row_file(write_row())
    with pytest.raises(InputError, match=r"which column\? set telemetry.time_column"):
        run_row(row, SmallPolicy(), RunOptions(apply=True, allow=("*",), once=True))


def test_a_row_of_high_priority_only_is_said(write_row, make_feeder, capsys):
    make_feeder(700.0)
    path = write_row()
    path.write_text(path.read_text().replace('"low"', '"high"'))
    run_row(load_row_file(path), None, RunOptions(once=True))
    assert "mind: all servers are of high priority: POLCA degenerates" in capsys.readouterr().err


@pytest.mark.parametrize("on_crash", ["cap", "restore"])
def test_the_guardian_sets_the_declared_state(make_gpus, make_feeder, write_row, start_daemon, on_crash):
    gpus = make_gpus(4)
    row = nvml_row(write_row, control=f'on_crash = "{on_crash}"\ncrash_grace_s = 0.3\n')
    make_feeder(850.0)
    daemon = start_daemon(row, "--apply", "--allow", "*")
    assert eventually(lambda: gpus.clocks() == [1275, 1275, 0, 0])
    time.sleep(0.5)
    daemon.end(signal.SIGKILL)
    wanted = CAPPED if on_crash == "cap" else [0, 0, 0, 0]
    assert eventually(lambda: gpus.clocks() == wanted)
    assert eventually(lambda: guardian_has_acted(daemon))


def guardian_has_acted(daemon) -> bool:
    """Read from what it says: to open the journal would take it from the guardian."""
    return "guardian: the daemon died" in daemon.log.read_text()


@pytest.mark.parametrize(("power_w", "clocks"), [(950.0, CAPPED), (1050.0, [285] * 4)])
def test_the_guardian_raises_nobody(make_gpus, make_feeder, write_row, start_daemon, power_w, clocks):
    gpus = make_gpus(4)
    row = nvml_row(write_row, control='on_crash = "cap"\ncrash_level = 0.95\ncrash_grace_s = 0.1\n')
    make_feeder(power_w)
    daemon = start_daemon(row, "--apply", "--allow", "*")
    assert eventually(lambda: gpus.clocks() == clocks)
    time.sleep(0.5)
    daemon.end(signal.SIGKILL)
    assert eventually(lambda: guardian_has_acted(daemon))
    assert gpus.clocks() == clocks


def test_the_guardian_sets_it_after_an_error_too(make_gpus, make_feeder, write_row, monkeypatch):
    gpus = make_gpus(4)
    row = load_row_file(nvml_row(write_row, control='on_crash = "cap"\ncrash_grace_s = 0.1\n'))
    make_feeder(850.0)
    monkeypatch.setattr(SmallPolicy, "decide", lambda *_: [])

    def fail(*_):
        raise ZeroDivisionError("a defect of ours")

    monkeypatch.setattr(Controller, "_audit", fail)
    with pytest.raises(ZeroDivisionError):
        run_row(row, SmallPolicy(), RunOptions(apply=True, allow=("*",)))
    assert eventually(lambda: gpus.clocks() == CAPPED)


def test_a_guardian_that_dies_is_replaced(make_gpus, make_feeder, write_row, start_daemon):
    gpus = make_gpus(4)
    row = nvml_row(write_row, control='on_crash = "cap"\ncrash_grace_s = 0.1\n')
    make_feeder(850.0)
    daemon = start_daemon(row, "--apply", "--allow", "*")
    assert eventually(lambda: gpus.clocks() == [1275, 1275, 0, 0])
    children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children")
    [guardian] = map(int, children.read_text().split())
    os.kill(guardian, signal.SIGKILL)
    assert daemon.says("guardian: it had died; another one watches now")
    time.sleep(0.2)
    daemon.end(signal.SIGKILL)
    assert eventually(lambda: gpus.clocks() == CAPPED)


def test_the_guardian_leaves_a_row_alone_that_another_daemon_took(make_gpus, make_feeder, write_row, start_daemon):
    gpus = make_gpus(4)
    row = nvml_row(write_row, control='on_crash = "restore"\ncrash_grace_s = 1.0\n')
    make_feeder(850.0)
    first = start_daemon(row, "--apply", "--allow", "*")
    assert eventually(lambda: gpus.clocks() == [1275, 1275, 0, 0])
    time.sleep(0.5)
    first.end(signal.SIGKILL)
    second = start_daemon(row, "--apply", "--allow", "*")
    assert second.says("in mode 1")
    time.sleep(1.5)
    assert gpus.clocks() == [1275, 1275, 0, 0]
    assert second.end(signal.SIGTERM) == 0
    time.sleep(0.5)
    assert gpus.clocks() == [1275, 1275, 0, 0]


def test_a_row_over_its_budget_is_back_within_the_promised_time(make_gpus, make_feeder, write_row, start_daemon):
    """Closed loop, the power follows the clocks: telemetry age + brake latency + two ticks + the test machine's lag."""
    gpus, row = make_gpus(4), nvml_row(write_row)
    feeder = make_feeder(850.0, 0.02)
    daemon = start_daemon(row, "--apply", "--allow", "*", "--own-policy")
    assert eventually(lambda: gpus.clocks() == [1275, 1275, 0, 0])
    time.sleep(0.5)
    over_since = None
    longest_s, began = 0.0, time.monotonic()
    while time.monotonic() - began < 2.0:
        now = time.monotonic()
        feeder.power_w = 1300.0 * sum((clock or 1410) / 1410 for clock in gpus.clocks()) / 4
        over_since = (over_since or now) if feeder.power_w > 1000.0 else None
        longest_s = max(longest_s, now - over_since) if over_since else longest_s
        time.sleep(0.005)
    assert 0.0 < longest_s <= (0.02 + 0.05) + 0.2 + 2 * 0.1 + 0.4
    assert gpus.clocks() == [285] * 4
    assert daemon.end(signal.SIGTERM) == 0
