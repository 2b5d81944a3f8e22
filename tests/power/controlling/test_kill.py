"""kill -9 at random moments, again and again: the next process goes on, nothing is doubled, nothing lost."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from itertools import pairwise

import pytest

from nonet.power.controlling.journal import Journal
from tests.power.controlling.conftest import eventually
from tests.power.controlling.test_daemon import CAPPED, NAMES, nvml_row

# What the row draws, watts of 1000, in turn; each lasts a little.
SCRIPT = (700.0, 850.0, 950.0, 1050.0, 780.0, 700.0, 920.0)
LEVEL_OF_CLOCK = {0: 1.0} | {clock: clock / 1410 for clock in range(210, 1411, 15)}


@pytest.mark.parametrize(("seed", "arguments"), [(1, ()), (2, ()), (3, ("--own-policy",))])
def test_killed_at_random_moments(make_gpus, make_feeder, write_row, start_daemon, seed, arguments):
    draw = random.Random(seed)
    gpus, row = make_gpus(4), nvml_row(write_row, policy='polca"\nbrake_min_hold_s = 0.5 # "')
    for index in range(4):
        gpus[index].delay_ms = 15  # so that many kills fall into a write
    feeder = make_feeder(700.0, 0.03)
    for kill in range(10):
        feeder.power_w = SCRIPT[kill % len(SCRIPT)]
        daemon = start_daemon(row, "--apply", "--allow", "*", *arguments)
        assert daemon.says("start: ")
        # From the very start of the process to some periods later; the power changes in between.
        time.sleep(draw.uniform(0.0, 0.25))
        feeder.power_w = SCRIPT[(kill + 1) % len(SCRIPT)]
        time.sleep(draw.uniform(0.0, 0.25))
        assert daemon.end(signal.SIGKILL) == -signal.SIGKILL
        for index in range(4):
            gpus[index].in_write = 0  # the writer died in the driver; a real driver ends the call with its process
        check_journal(row, gpus)
    feeder.power_w = 950.0
    daemon = start_daemon(row, "--apply", "--allow", "*", *arguments)
    assert eventually(lambda: set(gpus.clocks()[:2]) <= {1110, 285})  # capped, or still under a brake
    feeder.power_w = 790.0  # a brake is released, group by group
    assert eventually(lambda: 285 not in gpus.clocks())
    feeder.power_w = 950.0
    assert eventually(lambda: gpus.clocks()[:2] == [1110, 1110])
    # POLCA goes on to mode 3, since capping low priority did not bring the power down.
    mode, high_mhz = (3, 1305) if arguments else (2, 0)
    assert eventually(lambda: gpus.clocks() == [1110, 1110, high_mhz, high_mhz])
    time.sleep(0.7)
    assert daemon.end(signal.SIGTERM) == 0
    check_journal(row, gpus)
    assert gpus.clocks() == [1110, 1110, high_mhz, high_mhz]
    with Journal(row.with_name("row.sqlite"), NAMES) as journal:
        assert journal.saved(dry=False)["policy"]["state"]["mode"] == mode
        latest = {write["server"]: write for write in journal.rows("writes")}
        assert {write["result"] for write in latest.values()} == {"landed"}  # nothing was lost


def check_journal(row, gpus) -> None:
    """What must hold whenever the daemon is dead."""
    with Journal(row.with_name("row.sqlite"), NAMES) as journal:
        journal.check_integrity()
        commands, writes = journal.rows("commands"), journal.rows("writes")
    # Never doubled: a class is never ordered what it has been ordered already.
    for priority in ('"low"', '"high"'):
        own = [(c["action"], round(c["level"], 4)) for c in commands if c["servers"] == priority]
        caps = [order for order in own if order[0] == "cap"]
        assert all(a != b for a, b in pairwise(caps)), caps
    brakes = [c["action"] for c in commands if c["action"] != "cap" and "high" not in c["servers"]]
    assert not any(a == b == "brake" for a, b in pairwise(brakes)), brakes
    # Never sent without having been written down first: writes to a GPU are covered by attempts in the journal.
    sent = Counter((w.gpu, w.value) for w in gpus.writes())
    known = Counter((w["server"], clock_of(w["level"])) for w in writes)
    for what, times in sent.items():
        assert times <= known[what], f"GPU and clock {what}: {times} writes, {known[what]} in the journal"
    # Keys are never used for two different orders.
    orders: dict[str, tuple] = {}
    for write in writes:
        order = (write["server"], write["action"], write["level"])
        assert orders.setdefault(write["key"], order) == order
    assert gpus.most_writers() <= 1


def clock_of(level: float) -> int:
    return 0 if level >= 1.0 else max(210, int(level * 1410 + 1e-6) // 15 * 15)


def test_a_restart_after_the_caps_vanished_sets_them_again(make_gpus, make_feeder, write_row, start_daemon):
    gpus, row = make_gpus(4), nvml_row(write_row)
    make_feeder(950.0)
    daemon = start_daemon(row, "--apply", "--allow", "*")
    assert eventually(lambda: gpus.clocks() == CAPPED)
    time.sleep(0.3)
    daemon.end(signal.SIGKILL)
    for index in range(4):
        gpus[index].locked_max_mhz = gpus[index].busy = 0  # the node went down with the daemon; nobody can see it
    daemon = start_daemon(row, "--apply", "--allow", "*")
    assert daemon.says("in mode 2")
    assert eventually(lambda: gpus.clocks() == CAPPED)
    assert daemon.end(signal.SIGTERM) == 0


def test_a_restart_without_telemetry_keeps_the_caps(make_gpus, make_feeder, write_row, start_daemon):
    gpus, row = make_gpus(4), nvml_row(write_row)
    feeder = make_feeder(950.0)
    daemon = start_daemon(row, "--apply", "--allow", "*")
    assert eventually(lambda: gpus.clocks() == CAPPED)
    time.sleep(0.3)
    daemon.end(signal.SIGKILL)
    feeder.silent.set()
    feeder.path.unlink()
    daemon = start_daemon(row, "--apply", "--allow", "*")
    assert daemon.says("in mode 2")
    time.sleep(0.6)
    assert gpus.clocks() == CAPPED
    feeder.path.write_text("time,power_w\n")
    feeder.power_w = 500.0
    feeder.silent.clear()
    assert eventually(lambda: gpus.clocks() == [0, 0, 0, 0])
    assert daemon.end(signal.SIGTERM) == 0
