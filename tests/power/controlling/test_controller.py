"""The control loop under a clock that the test owns: bad sensors, clock jumps, full disks, random faults."""

from __future__ import annotations

import math
import random
import sys
from datetime import UTC, datetime

import pytest

from nonet.common.errors import InputError
from nonet.power.controlling.config import load_row_file
from nonet.power.controlling.controller import Controller
from nonet.power.controlling.journal import Journal, JournalError
from nonet.power.controlling.metrics import RowMetrics
from nonet.power.controlling.starting import start_controller
from nonet.power.controlling.telemetry.protocol import Reading
from nonet.power.controlling.writing import Outcome, Result
from nonet.power.policies.ledger import CommandLedger
from nonet.power.policies.protocol import Action, Command
from tests.power.controlling.small_policy import SmallPolicy

EPOCH_S = 1_700_000_000.0


class Clock:
    def __init__(self):
        self.control_s, self.wall_ahead_s = 0.0, EPOCH_S

    def now_s(self):
        return self.control_s

    def wall_s(self):
        return self.control_s + self.wall_ahead_s

    def state(self):
        return {"control_s": self.control_s, "boottime_s": 0.0, "boot_id": "x", "wall_s": self.wall_s()}


class FlakyCarrier:
    """Servers that take a while, refuse, forget to answer, answer twice; the plant and the row's power in one."""

    def __init__(self, clock, draw, faults):
        self.clock, self.draw, self.faults = clock, draw, faults
        self.level = [1.0] * 4
        self.landing = []
        self.sent = []
        self.answered = []
        self.raised_blindly = []
        self.asked, self.read = [], []
        self.sample_age_s = lambda: math.inf

    def send(self, writes):
        for write in writes:
            self.sent.append((self.clock.now_s(), write))
            if write.level > self.level[write.server] + 1e-9 and self.sample_age_s() > 6.0:
                self.raised_blindly.append((self.clock.now_s(), write))
            roll = self.draw.random()
            delay_s = self.draw.uniform(0.1, 40.0) if write.action is Action.CAP else self.draw.uniform(0.1, 5.0)
            if self.faults and roll < 0.1:
                continue  # lost
            result = Result.REFUSED if self.faults and roll < 0.2 else Result.LANDED
            for _ in range(2 if self.faults and roll > 0.9 else 1):  # sometimes answered twice
                self.landing.append((self.clock.now_s() + delay_s, write, result))

    def read_back(self, server, expected):
        if server in self.asked:
            return False
        self.asked.append(server)
        return True

    def poll(self):
        due = sorted((e for e in self.landing if e[0] <= self.clock.now_s()), key=lambda e: e[0])
        self.landing = [e for e in self.landing if e[0] > self.clock.now_s()]
        for _, write, result in due:
            self.answered.append((self.clock.now_s(), write))
            if result is Result.LANDED:
                self.level[write.server] = write.level
        read, self.read = self.read, []
        self.asked = [server for server in self.asked if server not in {outcome.server for outcome in read}]
        return [Outcome(w.server, w, r, None, "", "flaky", 1.0) for _, w, r in due] + read

    def next_event_s(self):
        return min((e[0] for e in self.landing), default=math.inf)

    def stop(self):
        return None


class Rig:
    def __init__(self, tmp_path, write_row, faults=False, seed=0):
        path = write_row()
        text = path.read_text().replace("= 0.1\n", "= 2.0\n", 1)
        text = text.replace("cap_latency_s = 0.4", "cap_latency_s = 40").replace(
            "brake_latency_s = 0.2", "brake_latency_s = 5"
        )
        path.write_text(text.replace("retry_s = 0.1", ""))
        self.row = load_row_file(path)
        self.clock = Clock()
        self.carrier = FlakyCarrier(self.clock, random.Random(seed), faults)
        self.journal = Journal(tmp_path / "row.sqlite", ["a", "b", "c", "d"])
        self.metrics = RowMetrics("test", 1.41e9)
        self.policy = SmallPolicy()
        config = self.row.ledger_config(one_lever=True)
        self.ledger = CommandLedger([0, 0, 1, 1], config, "test")
        self.controller = Controller(
            self.row,
            self.policy,
            self.ledger,
            self.carrier,
            self.journal,
            self.clock,
            self.metrics,
            frozenset(range(4)),
        )
        self.carrier.sample_age_s = lambda: self.clock.now_s() - self.controller.sample.measured_at_s
        self.source_ahead_s = EPOCH_S

    def tick(self, power_w, stamped=True):
        self.clock.control_s += 2.0
        reading = None if power_w is None else Reading(power_w, self.clock.control_s + self.source_ahead_s)
        return self.controller.tick(reading if stamped else Reading(power_w))

    def value(self, name, **labels):
        return self.metrics.registry.get_sample_value(f"nonet_power_{name}", {"row": "test", **labels})

    def events(self, kind):
        return [e["text"] for e in self.journal.rows("events") if e["kind"] == kind]


def restarted(rig, write_row, tmp_path, priorities=(0, 0, 1, 1), name="small"):
    """The next process on the journal and the servers of a rig."""
    rig.journal.close()
    after = Rig(tmp_path, write_row)
    after.clock.control_s, after.carrier.level = rig.clock.control_s, rig.carrier.level
    after.ledger = after.controller.ledger = CommandLedger(priorities, rig.ledger.config, "next")
    after.policy.name = name
    saved = after.journal.saved(dry=False)
    start_controller(after.controller, saved, {}, after.row.server_list(), after.clock.now_s())
    return after


@pytest.fixture
def rig(tmp_path, write_row):
    made = Rig(tmp_path, write_row)
    yield made
    made.journal.close()


@pytest.mark.parametrize(("power_w", "reason"), [(math.nan, "no number"), (-5.0, "negative"), (9500.0, "too high")])
def test_absurd_samples_never_reach_the_policy_and_end_in_caps(rig, power_w, reason):
    for _ in range(5):
        assert rig.tick(700.0) == []
    commands = [command for _ in range(6) for command in rig.tick(power_w)]
    assert [(c.action, c.reason) for c in commands] == [(Action.CAP, "telemetry lost")]
    assert rig.value("samples_rejected_total", reason=reason) == 6
    assert rig.value("telemetry_age_seconds") == 12.0
    assert f"lost: the latest sample is {8.0:.1f} s old" in rig.events("telemetry")


def test_without_telemetry_the_daemon_caps_even_if_the_policy_does_not(rig):
    rig.policy.decide = lambda now_s, sample, view: []
    rig.tick(700.0)
    commands = [command for _ in range(10) for command in rig.tick(None)]
    assert [(c.action, c.servers, round(c.level, 3)) for c in commands] == [(Action.CAP, (0, 1), 0.787)]
    assert rig.clock.control_s == 22.0
    for _ in range(30):
        assert rig.tick(None) == []
    assert rig.carrier.level == pytest.approx([1110 / 1410] * 2 + [1.0] * 2)
    [back] = rig.tick(700.0)
    assert (back.servers, back.level, back.reason) == ((0, 1), 1.0, "end of fail safe")


def test_the_end_of_fail_safe_leaves_alone_what_the_policy_has_ordered_meanwhile(rig):
    orders = [Command(Action.CAP, (0,), 0.5)]
    rig.policy.decide = lambda now_s, sample, view: [orders.pop()] if now_s > 20.0 and orders else []
    rig.tick(700.0)
    for _ in range(40):
        rig.tick(None)
    assert rig.ledger.targets == pytest.approx([0.5, 1110 / 1410, 1.0, 1.0])
    [back] = rig.tick(700.0)
    assert (back.servers, back.level) == ((1,), 1.0)


def test_a_device_whose_lowest_level_is_above_the_order_has_landed(rig):
    rig.tick(700.0)
    rig.tick(950.0)
    [write] = [write for _, write in rig.carrier.sent if write.server == 0]
    rig.carrier.landing = []
    rig.carrier.read = [Outcome(0, write, Result.LANDED, 0.9, "", "flaky", 1.0)]
    rig.tick(951.0)
    assert rig.ledger.counts["landed"] == 1 and rig.ledger.counts["refused"] == 0
    rig.carrier.read = [Outcome(0, None, Result.READ, 0.9, "", "flaky", 0.1)]
    rig.tick(952.0)
    assert rig.value("drifts_total") == 0


def test_a_policy_that_fails_is_taken_for_blind(rig):
    def fail(*_):
        raise ZeroDivisionError("division by zero")

    good = rig.policy.decide
    rig.tick(700.0)
    rig.policy.decide = fail
    [command] = rig.tick(700.0)
    assert (command.servers, command.reason) == ((0, 1), "fail safe")
    assert rig.tick(700.0) == []
    rig.policy.decide = good
    [back] = rig.tick(700.0)
    assert (back.servers, back.level) == ((0, 1), 1.0)
    rig.tick(700.0)
    assert rig.events("policy") == ["small failed: ZeroDivisionError: division by zero"]


@pytest.mark.parametrize(
    ("defect", "said"),
    [
        ({"decide": lambda *_: [Command(Action.CAP, (99,), 0.5)]}, "server 99 is not in the row"),
        ({"decide": lambda *_: [Command(Action.CAP, (0,), 0.0)]}, "level 0.0 is not in"),
        ({"decide": lambda *_: None}, "TypeError"),
        ({"state": lambda: 1 / 0}, "ZeroDivisionError"),
        ({"state": lambda: {"mode": object()}}, "not JSON serializable"),
        ({"state": lambda: {"mode": math.nan}}, "not JSON compliant"),
    ],
)
def test_a_policy_with_a_defect_does_not_end_control(rig, defect, said):
    rig.tick(700.0)
    for name, function in defect.items():
        setattr(rig.policy, name, function)
    [command] = rig.tick(700.0)
    assert (command.servers, command.reason) == ((0, 1), "fail safe")
    rig.tick(700.0)
    assert len(rig.events("policy")) == 1 and said in rig.events("policy")[0]
    assert rig.journal.saved(dry=False)["policy"]["state"] == {"mode": 0, "brake": False}


def test_a_log_that_cannot_be_written_does_not_end_control(rig, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys.stderr, "write", full)
    assert [command.action for command in rig.tick(950.0)] == [Action.CAP]
    assert len(rig.carrier.sent) == 2


def test_a_sensor_that_fails_for_hours_is_said_once(rig):
    for n in range(200):
        rig.tick(-5.0 - n)
    assert len(rig.events("guard")) == 1
    rig.tick(700.0)
    rig.tick(-5.0)
    rig.tick(700.0)
    assert len(rig.events("guard")) == 2


def test_what_the_daemon_does_not_believe_the_policy_does_not_see(rig):
    rig.policy.decide = lambda now_s, sample, view: seen.append(sample.power_w) or []
    seen = []
    for power_w in (700.0, math.nan, -5.0, 5.0, 7000.0, 7000.0, 701.0):
        rig.tick(power_w)
    assert seen == [700.0] * 6 + [701.0]


def test_a_row_is_still_believed_after_its_budget_has_shrunk_to_a_quarter(tmp_path, write_row):
    since = datetime.fromtimestamp(EPOCH_S + 5.0, UTC).isoformat()
    rig = Rig(tmp_path, lambda: write_row(steps=f"budget_steps = [{{ since = {since}, budget_w = 250.0 }}]"))
    for power_w in (800.0, 801.0, 802.0, 803.0):
        rig.tick(power_w)
    assert rig.controller.sample.power_w == 803.0
    assert rig.value("row_utilization_ratio") == pytest.approx(3.212)
    rig.journal.close()


def test_a_sensor_that_stands_still_ends_in_caps(rig):
    commands = [command for _ in range(320) for command in rig.tick(700.0)]
    assert [(c.action, c.reason) for c in commands] == [(Action.CAP, "telemetry lost")]
    assert "stuck: the same value for more than 600 s" in rig.events("guard")[0]


def test_a_training_job_in_the_row_is_said_and_capped_until_it_has_gone(rig):
    rig.policy.decide = lambda *_: []
    for n in range(8):
        rig.tick(600.0 + 270.0 * (n % 2))
    assert "a training job is in the row" in rig.events("training")[0]
    assert rig.value("training_suspected") == 1.0
    for n in range(40):
        rig.tick(600.0 + n % 3)
    assert rig.carrier.level == pytest.approx([1110 / 1410] * 2 + [1.0] * 2)
    rig.clock.control_s += 3500.0
    assert [command for n in range(5) for command in rig.tick(600.0 + n % 3)] == []
    rig.clock.control_s += 20.0
    commands = [command for n in range(20) for command in rig.tick(600.0 + n % 3)]
    assert [(c.servers, c.level, c.reason) for c in commands] == [((0, 1), 1.0, "end of fail safe")]
    assert rig.value("training_suspected") == 0.0
    assert len(rig.events("training")) == 1


def test_rises_under_our_own_brake_are_no_training(rig):
    orders = [Command(Action.BRAKE, (0, 1, 2, 3))]
    rig.policy.decide = lambda *_: [orders.pop()] if orders else []
    for n in range(60):
        rig.tick(600.0 + 270.0 * (n % 2) * (n > 20))
    assert all(rig.ledger.braked)
    assert rig.value("training_suspected") == 0.0


def test_one_tenfold_outlier_does_nothing(rig):
    for power_w in (700.0, 700.0, 7000.0, 700.0, 700.0):
        assert rig.tick(power_w) == []
    assert rig.value("brakes_total") == 0


@pytest.mark.parametrize("jump_s", [-7200.0, 7200.0])
@pytest.mark.parametrize("source_too", [True, False])
def test_a_clock_jump_neither_caps_nor_uncaps(rig, jump_s, source_too):
    for _ in range(5):
        rig.tick(700.0)
    rig.clock.wall_ahead_s += jump_s
    rig.source_ahead_s += jump_s if source_too else 0.0
    for _ in range(10):
        assert rig.tick(700.0) == []
        assert rig.value("telemetry_age_seconds") == 0.0
    assert rig.value("clock_jumps_total") >= 1
    assert "jumped by" in rig.events("clock")[0]
    assert [command.action for command in rig.tick(950.0)] == [Action.CAP]


def test_a_full_disk_does_not_stop_control(rig, monkeypatch):
    rig.tick(700.0)

    def full(*_, **__):
        raise JournalError("disk full")

    monkeypatch.setattr(rig.journal, "commit", full)
    rig.tick(950.0)
    assert len(rig.carrier.sent) == 2
    assert rig.value("journal_errors_total") >= 1


def test_a_read_back_that_a_write_overtook_is_no_drift(rig):
    rig.tick(700.0)
    for _ in range(6):
        rig.tick(700.0)
    assert 0 in rig.carrier.asked
    for _ in range(30):
        rig.tick(950.0)  # caps are sent, and land, while the question is out
    uncapped = Outcome(0, None, Result.READ, 1.0, "", "flaky", 0.1)
    rig.carrier.read = [uncapped]
    rig.tick(950.0)
    assert rig.value("drifts_total") == 0
    while 0 not in rig.carrier.asked:
        rig.tick(950.0)
    rig.carrier.read = [uncapped]  # asked after the caps landed: somebody took the cap away
    rig.tick(950.0)
    assert rig.value("drifts_total") == 1
    assert rig.carrier.sent[-1][1].level == pytest.approx(1110 / 1410)


def test_metrics_say_what_is_in_force(rig):
    for _ in range(30):
        rig.tick(950.0)
    assert rig.value("cap_level_ratio", priority="low") == pytest.approx(1110 / 1410)
    assert rig.value("cap_clock_hertz", priority="low") == pytest.approx(1110e6)
    assert rig.value("cap_level_ratio", priority="high") == 1.0
    assert rig.value("capped_servers", priority="low") == 2
    assert 0 < rig.value("capped_seconds_total", priority="low") <= 2 * 60
    assert rig.value("policy_mode") == 2
    assert rig.value("row_utilization_ratio") == pytest.approx(0.95)
    assert rig.value("commands_total", backend="flaky", result="landed") == 2


@pytest.mark.parametrize("changed", [{"name": "another"}, {"priorities": (1, 1, 0, 0)}])
def test_caps_that_a_changed_policy_does_not_know_of_end_when_the_row_is_low(rig, write_row, tmp_path, changed):
    for _ in range(30):
        rig.tick(950.0)
    assert rig.carrier.level == pytest.approx([1110 / 1410] * 2 + [1.0] * 2)
    after = restarted(rig, write_row, tmp_path, **changed)
    for n in range(30):
        after.tick(780.0 + n % 2)
    assert after.carrier.level == pytest.approx([1110 / 1410] * 2 + [1.0] * 2)
    for n in range(30):
        after.tick(700.0 + n % 2)
    assert after.carrier.level == [1.0] * 4
    assert "it starts afresh; caps left on 2 servers stay until the row is low" in after.events("start")[0]
    after.journal.close()


def test_a_changed_policy_orders_what_it_wants_at_once(rig, write_row, tmp_path):
    for _ in range(30):
        rig.tick(950.0)
    after = restarted(rig, write_row, tmp_path, priorities=(1, 1, 0, 0))
    for n in range(30):
        after.tick(950.0 + n % 2)
    assert after.carrier.level == pytest.approx([1110 / 1410] * 4)
    after.journal.close()


def test_a_policy_is_not_changed_under_the_brake(rig, write_row, tmp_path):
    for _ in range(10):
        rig.tick(1050.0)
    with pytest.raises(InputError, match=r"the policy was small and is another now while .* under the brake"):
        restarted(rig, write_row, tmp_path, name="another")


@pytest.mark.parametrize("seed", range(5))
def test_random_faults(tmp_path, write_row, seed):
    """Lost, late, refused and doubled answers, silent telemetry: watched from the servers' side."""
    rig = Rig(tmp_path, write_row, faults=True, seed=seed)
    draw = random.Random(100 + seed)
    power_w, silent = 700.0, 0
    for _ in range(600):
        power_w = min(1090.0, max(500.0, power_w + draw.gauss(0.0, 25.0)))
        silent = silent - 1 if silent else draw.choice([0] * 60 + [5, 20])
        rig.tick(None if silent else power_w)
        end_s = rig.clock.control_s + 1.9
        while rig.controller.next_event_s() < end_s:
            rig.clock.control_s = max(rig.controller.next_event_s(), rig.clock.control_s)
            rig.controller.wake()
        rig.ledger.check_integrity()
    check_one_order_at_a_time(rig)
    assert rig.carrier.raised_blindly == []
    orders: dict[str, tuple] = {}
    for _, write in rig.carrier.sent:
        order = (write.server, write.action, write.level)
        assert orders.setdefault(write.key, order) == order
    assert len(orders) > 20
    rig.journal.close()


def check_one_order_at_a_time(rig) -> None:
    """A cap follows another only when that one was answered or its time was up; a brake follows at once."""
    open_caps: dict[int, tuple[str, float]] = {}
    moments = [(at_s, 1, write) for at_s, write in rig.carrier.sent]
    moments += [(at_s, 0, write) for at_s, write in rig.carrier.answered]
    for at_s, is_sent, write in sorted(moments, key=lambda moment: moment[:2]):
        key, sent_s = open_caps.get(write.server, ("", -math.inf))
        if not is_sent:
            if key == write.key:
                del open_caps[write.server]
        elif write.action is not Action.CAP:
            open_caps.pop(write.server, None)
        else:
            assert key in ("", write.key) or at_s - sent_s >= rig.ledger.config.cap_timeout_s - 1e-6, (key, write)
            open_caps[write.server] = (write.key, at_s)
