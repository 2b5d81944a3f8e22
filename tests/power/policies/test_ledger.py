"""The ledger against a channel that loses, repeats, reorders and refuses: it ends as wanted, one write at a time."""

from __future__ import annotations

import json
import random
import time

import pytest

from nonet.power.policies import Action, Command, CommandLedger, LedgerConfig, Priority


def drive(seed, one_lever):
    random_ = random.Random(seed)
    priorities = [Priority.LOW, Priority.LOW, Priority.HIGH]
    config = LedgerConfig(one_lever=one_lever, cap_attempts=50, brake_attempts=200)
    ledger = CommandLedger(priorities, config)
    cap, braked, channel, open_keys, now = [1.0] * 3, [False] * 3, [], {}, 0.0
    faults = True

    def send(writes):
        for write in writes:
            before = open_keys.get(write.server)
            if before is not None and before.key != write.key:
                assert write.action is Action.BRAKE and before.action is not Action.BRAKE, "two writes in flight"
            open_keys[write.server] = write
            for _ in range(random_.choice([0, 1, 1, 2]) if faults else 1):
                slow = 40.0 if write.action is Action.CAP else 5.0
                channel.append((now + random_.uniform(0.1, slow), random_.random(), write))

    def tidy():
        for server, line in enumerate(ledger._lines):
            if line.flight is None or not line.flight.sent:
                open_keys.pop(server, None)
        ledger.check_integrity()

    for step in range(1200):
        now += 1.0
        faults = step < 800
        ledger.note_sample(now)
        for entry in sorted(entry for entry in channel if entry[0] <= now):
            channel.remove(entry)
            write = entry[2]
            if faults and random_.random() < 0.1:
                writes = ledger.refuse(write.key, now)
            else:
                if write.action is Action.CAP:
                    cap[write.server] = write.level
                    braked[write.server] &= not one_lever
                else:
                    braked[write.server] = write.action is Action.BRAKE
                    if one_lever and write.action is Action.RELEASE:
                        cap[write.server] = write.level
                writes = ledger.confirm(write.key, now)
            open_keys_before = open_keys.pop(write.server, None)
            if open_keys_before is not None and open_keys_before.key != write.key:
                open_keys[write.server] = open_keys_before
            tidy()
            send(writes)
        due = ledger.advance(now)
        tidy_keys = {write.server for write in due}
        for server in tidy_keys:
            open_keys.pop(server, None)
        send(due)
        tidy()
        if step < 700 and random_.random() < 0.08:
            action = random_.choice([Action.CAP] * 3 + [Action.BRAKE, Action.RELEASE])
            level = random_.choice([1.0, 0.9, 0.8]) if action is Action.CAP else 1.0
            send(ledger.submit(Command(action, random_.choice(list(Priority)), level), now))
        tidy()
        if step == 500:
            saved = json.loads(json.dumps(ledger.state()))
            ledger = CommandLedger(priorities, config)
            ledger.restore(saved)
            assert ledger.state() == saved
    return ledger, cap, braked


@pytest.mark.parametrize("one_lever", [False, True])
@pytest.mark.parametrize("seed", range(60))
def test_ends_as_wanted(seed, one_lever):
    ledger, cap, braked = drive(seed, one_lever)
    assert not ledger.in_flight and not ledger.given_up
    assert ledger.braked == braked
    for server, line in enumerate(ledger._lines):
        assert braked[server] == line.brake
        if not (one_lever and braked[server]):
            assert cap[server] == ledger.targets[server] == ledger.cap_levels[server]


def test_no_level_is_raised_on_an_old_sample():
    ledger = CommandLedger([Priority.LOW])
    [down] = ledger.submit(Command(Action.CAP, Priority.LOW, 0.8), 0.0)
    ledger.confirm(down.key, 40.0)
    assert ledger.submit(Command(Action.CAP, Priority.LOW, 1.0), 50.0) == [] and ledger.in_flight
    assert ledger.advance(1000.0) == []
    ledger.note_sample(1001.0)
    assert ledger.next_event_s() == 1001.0
    assert [write.level for write in ledger.advance(1002.0)] == [1.0]


def test_a_brake_storm_takes_time_in_proportion():
    """Twenty thousand landings one by one, the next event asked for after each: seconds when each asks all servers."""
    ledger = CommandLedger([Priority.LOW] * 20_000)
    writes = ledger.submit(Command(Action.BRAKE, Priority.LOW), 0.0)
    began_s = time.process_time()
    for write in writes[1:]:
        ledger.confirm(write.key, 5.0)
        assert ledger.next_event_s() == 7.0
    assert time.process_time() - began_s < 4.0
    assert [write.server for write in ledger.advance(7.0)] == [0]
    ledger.check_integrity()
