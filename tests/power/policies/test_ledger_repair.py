"""The ledger against servers that reboot, fall silent and come back, and against restarts of its own."""

from __future__ import annotations

import json
import random

import pytest

from nonet.power.policies import Action, Command, CommandLedger, LedgerConfig, Priority

ROW = [Priority.LOW, Priority.LOW, Priority.HIGH]


class Servers:
    """What is in force on each server; writes reach it after a while unless it is silent."""

    def __init__(self, random_, config):
        self.random, self.config = random_, config
        self.cap, self.braked, self.under_way, self.silent = [1.0] * 3, [False] * 3, [], False

    def send(self, writes, now):
        for write in writes if not self.silent else ():
            self.under_way.append((now + self.random.uniform(0.1, 6.0), self.random.random(), write))

    def landed(self, now):
        due = sorted(entry for entry in self.under_way if entry[0] <= now)
        self.under_way = [entry for entry in self.under_way if entry[0] > now]
        for _, _, write in due:
            if write.action is not Action.CAP:
                self.braked[write.server] = write.action is Action.BRAKE
            if write.action is Action.CAP or (self.config.one_lever and write.action is Action.RELEASE):
                self.cap[write.server] = write.level
                self.braked[write.server] &= not self.config.one_lever
            yield write

    def level(self, server):
        return self.config.brake_level if self.braked[server] else self.cap[server]

    def reboot(self, server):
        self.cap[server], self.braked[server] = 1.0, False


def drive(seed, one_lever):
    random_ = random.Random(seed)
    config = LedgerConfig(one_lever=one_lever, cap_attempts=2, brake_attempts=2, cap_timeout_s=8.0)
    ledger, servers = CommandLedger(ROW, config), Servers(random_, config)
    for step in range(1000):
        now = float(step)
        calm = step >= 800
        servers.silent = not calm and step // 90 % 2 == 1
        ledger.note_sample(now)
        for write in servers.landed(now):
            if servers.silent and random_.random() < 0.5:
                continue  # it took effect, but its answer is lost
            servers.send(ledger.confirm(write.key, now), now)
        servers.send(ledger.advance(now), now)
        if not calm and random_.random() < 0.06:
            action = random_.choice([Action.CAP] * 3 + [Action.BRAKE, Action.RELEASE])
            level = random_.choice([1.0, 0.9, 0.8]) if action is Action.CAP else 1.0
            servers.send(ledger.submit(Command(action, random_.choice(list(Priority)), level), now), now)
        if not calm and random_.random() < 0.02:
            servers.reboot(random_.randrange(3))
        if step % 15 == 0 and not servers.silent:
            for server in range(3):
                servers.send(ledger.observe(server, servers.level(server), now), now)
        if not calm and random_.random() < 0.01:
            saved = json.loads(json.dumps(ledger.state()))
            ledger = CommandLedger(ROW, config)
            ledger.restore(saved)
            servers.send(ledger.resume(now), now)
        ledger.check_integrity()
    return ledger, servers


@pytest.mark.parametrize("one_lever", [False, True])
@pytest.mark.parametrize("seed", range(25))
def test_read_backs_repair_what_was_lost_given_up_or_rebooted(seed, one_lever):
    ledger, servers = drive(seed, one_lever)
    assert ledger.counts["given_up"] > 0 and ledger.counts["resent"] > 0
    assert not ledger.in_flight and not ledger.given_up
    for server, line in enumerate(ledger._lines):
        assert servers.braked[server] == line.brake
        if not servers.braked[server]:
            assert servers.cap[server] == pytest.approx(ledger.targets[server])


def test_an_order_that_was_given_up_is_taken_up_by_the_next_and_by_a_read_back():
    ledger = CommandLedger([Priority.LOW], LedgerConfig(cap_attempts=2, cap_timeout_s=10.0))
    ledger.note_sample(0.0)
    [first] = ledger.submit(Command(Action.CAP, Priority.LOW, 0.8), 0.0)
    assert [write.key for write in ledger.advance(10.0)] == [first.key]
    assert ledger.advance(20.0) == [] and ledger.given_up == [0] and not ledger.in_flight
    assert ledger.next_event_s() == float("inf")
    [repaired] = ledger.observe(0, 1.0, 30.0)
    assert (repaired.level, repaired.key != first.key, ledger.given_up) == (0.8, True, [])
    assert ledger.confirm(repaired.key, 31.0) == [] and ledger.cap_levels == [0.8]


def test_a_restart_sends_what_was_in_flight_under_its_old_key():
    ledger = CommandLedger(ROW)
    sent = ledger.submit(Command(Action.BRAKE, (0, 2)), 0.0)
    restarted = CommandLedger(ROW)
    restarted.restore(json.loads(json.dumps(ledger.state())))
    again = restarted.resume(3.0)
    assert [(w.server, w.key, w.attempt) for w in again] == [(w.server, w.key, 2) for w in sent]
    assert restarted.resume(3.0) != [] and restarted.next_event_s() == 10.0


def test_a_resumed_raise_waits_for_a_fresh_sample():
    ledger = CommandLedger(ROW)
    ledger.note_sample(0.0)
    writes = ledger.submit(Command(Action.BRAKE, (0,)), 0.0)
    ledger.confirm(writes[0].key, 1.0)
    ledger.submit(Command(Action.RELEASE, (0,)), 2.0)
    restarted = CommandLedger(ROW)
    restarted.restore(json.loads(json.dumps(ledger.state())))
    assert restarted.resume(500.0) == [] and restarted.in_flight
    restarted.note_sample(501.0)
    assert [write.action for write in restarted.advance(501.0)] == [Action.RELEASE]


def test_a_brake_is_never_given_up_for_good():
    """Servers that answer nothing for an hour: the brake is still being sent when they come back."""
    ledger = CommandLedger(ROW, LedgerConfig(brake_attempts=3))
    ledger.note_sample(0.0)
    sent = [write.key for write in ledger.submit(Command(Action.BRAKE, (0, 1)), 0.0)]
    for now in range(1, 3600):
        sent += [write.key for write in ledger.advance(float(now))]
        ledger.check_integrity()
        if now == 1800:  # and after a restart
            saved, ledger = json.loads(json.dumps(ledger.state())), CommandLedger(ROW, LedgerConfig(brake_attempts=3))
            ledger.restore(saved)
    assert len(sent) == pytest.approx(2 * 3 * 3600 / (3 * 7 + 60), rel=0.05)
    while not (writes := ledger.advance(ledger.next_event_s())):
        pass
    for write in writes:
        ledger.confirm(write.key, now + 5.0)
    assert ledger.braked == [True, True, False] and not ledger.in_flight
    assert ledger.next_event_s() == float("inf")


def test_other_orders_that_were_given_up_wait_for_somebody():
    ledger = CommandLedger(ROW, LedgerConfig(brake_attempts=1, cap_attempts=1))
    ledger.note_sample(0.0)
    ledger.submit(Command(Action.BRAKE, (0,)), 0.0)
    assert ledger.advance(7.0) == [] and ledger.given_up == [0]
    ledger.note_sample(8.0)
    assert len(ledger.submit(Command(Action.RELEASE, (0,)), 8.0)) == 1
    ledger.submit(Command(Action.CAP, (1,), 0.8), 8.0)
    assert ledger.advance(15.0) == ledger.advance(60.0) == ledger.advance(500.0) == []
    assert ledger.given_up == [0, 1] and not ledger.in_flight
    ledger.check_integrity()


def test_a_restart_sends_even_the_last_attempt_again():
    config = LedgerConfig(brake_attempts=1)
    ledger, restarted = CommandLedger(ROW, config), CommandLedger(ROW, config)
    [sent] = ledger.submit(Command(Action.BRAKE, (1,)), 0.0)
    restarted.restore(json.loads(json.dumps(ledger.state())))
    assert [write.key for write in restarted.resume(1.0)] == [sent.key]


def test_pauses_after_refusals_double_up_to_the_longest_and_not_for_a_brake():
    config = LedgerConfig(retry_s=2.0, retry_max_s=5.0, cap_attempts=9)
    for action, pauses in ((Action.CAP, [2.0, 4.0, 5.0, 5.0]), (Action.BRAKE, [2.0] * 4)):
        ledger = CommandLedger(ROW, config)
        [write] = ledger.submit(Command(action, (0,), 0.8), 0.0)
        now, found = 0.0, []
        for _ in pauses:
            ledger.refuse(write.key, now)
            found.append(ledger.next_event_s() - now)
            now = ledger.next_event_s()
            [write] = ledger.advance(now)
        assert found == pauses


def test_a_cap_that_may_have_landed_is_not_raised_on_an_old_sample():
    ledger = CommandLedger(ROW)
    ledger.note_sample(0.0)
    assert len(ledger.submit(Command(Action.CAP, (0,), 0.8), 0.0)) == 1  # nobody answers
    assert ledger.submit(Command(Action.CAP, (0,), 0.9), 2.0) == []
    assert ledger.advance(44.0) == [] and ledger.in_flight  # 0.9 is below 1.0, but above what may be in force
    ledger.note_sample(46.0)
    assert [write.level for write in ledger.advance(46.0)] == [0.9]


def test_a_level_read_back_above_the_order_counts_as_a_refusal():
    ledger = CommandLedger(ROW)
    [write] = ledger.submit(Command(Action.CAP, (0,), 0.8), 0.0)
    assert ledger.confirm(write.key, 1.0, level=0.95) == [] and ledger.in_flight
    assert (ledger.counts["refused"], ledger.cap_levels[0], ledger.next_event_s()) == (1, 1.0, 3.0)
    [again] = ledger.advance(3.0)
    assert ledger.confirm(again.key, 4.0, level=0.79) == [] and ledger.cap_levels[0] == 0.79
