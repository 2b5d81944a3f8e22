"""Carrying writes: bounded threads, one at a time for a server, brakes past queues, no storm on large rows."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from nonet.power.controlling import writing
from nonet.power.controlling.actuators.protocol import (
    Capability,
    RefusedError,
    Server,
    UnansweredError,
)
from nonet.power.controlling.clock import LiveClock, ReplayClock
from nonet.power.controlling.writing import DryCarrier, LiveCarrier, Result
from nonet.power.policies.ledger import CommandLedger, LedgerConfig, Write
from nonet.power.policies.protocol import Action, Command, Priority
from tests.power.controlling.conftest import eventually


class SlowActuator:
    """Takes a while, counts who is in it, and does not show a level at once."""

    name = "slow"
    capabilities = frozenset({Capability.CLOCKS})
    resolution = 1e-9
    reads_back = True

    def __init__(self, took_s=0.0, settle_s=0.0, shows_after_s=0.0):
        self.took_s, self.settle_s, self.shows_after_s = took_s, settle_s, shows_after_s
        self.calls: list[tuple[float, int, float, Action]] = []
        self.levels: dict[int, list[tuple[float, float]]] = {}
        self.inside: Counter = Counter()
        self.most = self.most_for_one = 0
        self.hang = threading.Event()
        self.hanging: set[int] = set()
        self.errors: dict[int, Exception] = {}
        self._lock = threading.Lock()

    def check(self, servers):
        return []

    def set_level(self, server, level, key, action=Action.CAP):
        with self._lock:
            self.calls.append((time.monotonic(), server.index, level, action))
            self.inside[server.index, action is Action.CAP] += 1
            self.most = max(self.most, sum(self.inside.values()))
            self.most_for_one = max(self.most_for_one, *self.inside.values())
        if server.index in self.hanging and action is Action.CAP:
            self.hang.wait(10)
        time.sleep(self.took_s)
        with self._lock:
            self.inside[server.index, action is Action.CAP] -= 1
            self.levels.setdefault(server.index, []).append((time.monotonic(), level))
        if server.index in self.errors:
            raise self.errors[server.index]
        return level

    def read_level(self, server, expected=1.0):
        shown = [
            level for at, level in self.levels.get(server.index, []) if time.monotonic() - at >= self.shows_after_s
        ]
        return shown[-1] if shown else 1.0

    def close(self):
        return None


@pytest.fixture
def make_carrier():
    carriers = []

    def make(actuator, num_servers, **options):
        servers = [Server(i, f"s{i}", Priority.LOW) for i in range(num_servers)]
        clock = LiveClock()
        dry = DryCarrier(clock, 0.1, 0.05)
        live = dict.fromkeys(range(num_servers), actuator)
        carriers.append(LiveCarrier(servers, live, dry, clock, threading.Event(), **options))
        return carriers[-1]

    yield make
    for carrier in carriers:
        carrier.stop()


def cap(server, level=0.8, key=None, attempt=1):
    return Write(server, Action.CAP, level, key or f"k{server}", attempt)


def collect(carrier, count, timeout_s=5.0):
    found = []
    assert eventually(lambda: len(found.__iadd__(carrier.poll()) or found) >= count, timeout_s), found
    return found


def test_dry_writes_land_after_the_latency_of_their_path():
    clock = ReplayClock(0.0)
    carrier = DryCarrier(clock, 40.0, 5.0)
    carrier.send([cap(0), Write(1, Action.BRAKE, 0.2, "b", 1)])
    assert (carrier.poll(), carrier.next_event_s()) == ([], 5.0)
    clock.wait_until(5.0, threading.Event())
    assert [o.write.key for o in carrier.poll()] == ["b"]
    clock.wait_until(40.0, threading.Event())
    assert [(o.write.key, o.result) for o in carrier.poll()] == [("k0", Result.LANDED)]


def test_a_row_of_thousands_makes_no_storm(make_carrier):
    actuator = SlowActuator(took_s=0.002)
    carrier = make_carrier(actuator, 3000, max_threads=16, caps_per_s=2000.0)
    assert carrier.num_threads == 16
    before = threading.active_count()
    carrier.send([cap(server) for server in range(3000)])
    carrier.send([cap(server) for server in range(3000)])  # sent again while they wait: not doubled
    time.sleep(0.3)
    assert threading.active_count() == before
    began = time.monotonic()
    carrier.send([Write(server, Action.BRAKE, 0.2, f"b{server}", 1) for server in range(100)])
    assert eventually(lambda: sum(a is Action.BRAKE for *_, a in list(actuator.calls)) == 100)
    assert time.monotonic() - began < 1.0  # past two thousand caps that wait
    collect(carrier, 3000 - 100, 15.0)
    caps = [at for at, _, _, action in actuator.calls if action is Action.CAP]
    assert len(caps) <= 3000 + 16
    busiest = max(sum(at <= other < at + 0.25 for other in caps) for at in caps[:: len(caps) // 50])
    assert busiest <= 0.25 * 2000 + 200 + 1  # the rate and one full bucket
    assert actuator.most <= 16
    assert actuator.most_for_one == 1


def test_the_newest_write_replaces_the_one_that_waits(make_carrier):
    actuator = SlowActuator()
    carrier = make_carrier(actuator, 1, max_threads=4)
    actuator.hanging.add(0)
    carrier.send([cap(0, 0.9, "k1")])
    assert eventually(lambda: len(actuator.calls) == 1)
    carrier.send([cap(0, 0.8, "k2")])
    carrier.send([cap(0, 0.7, "k3")])
    actuator.hanging.clear()
    actuator.hang.set()
    assert [o.write.key for o in collect(carrier, 2)] == ["k1", "k3"]


def test_a_brake_does_not_wait_for_a_cap_that_hangs(make_carrier):
    actuator = SlowActuator()
    carrier = make_carrier(actuator, 1, max_threads=2)
    actuator.hanging.add(0)
    carrier.send([cap(0, 0.9, "k1")])
    assert eventually(lambda: len(actuator.calls) == 1)
    carrier.send([cap(0, 0.8, "k2"), Write(0, Action.BRAKE, 0.2, "b", 1)])
    assert [o.write.key for o in collect(carrier, 1)] == ["b"]
    actuator.hang.set()
    assert [o.write.key for o in collect(carrier, 1)] == ["k1"]  # k2 was older than the brake and never left
    time.sleep(0.1)
    assert len(actuator.calls) == 2


@pytest.fixture
def quick_looks(monkeypatch):
    monkeypatch.setattr(writing, "_VERIFY_PAUSE_S", 0.05)


@pytest.mark.usefixtures("quick_looks")
def test_landed_means_that_the_read_back_shows_it(make_carrier):
    actuator = SlowActuator(settle_s=0.8, shows_after_s=0.3)
    carrier = make_carrier(actuator, 1)
    began = time.monotonic()
    carrier.send([cap(0)])
    [outcome] = collect(carrier, 1)
    assert (outcome.result, outcome.level) == (Result.LANDED, 0.8)
    assert time.monotonic() - began >= 0.3
    assert outcome.took_s >= 0.3


@pytest.mark.usefixtures("quick_looks")
def test_accepted_but_never_in_force_is_a_refusal(make_carrier):
    actuator = SlowActuator(settle_s=0.2, shows_after_s=60.0)
    carrier = make_carrier(actuator, 1)
    carrier.send([cap(0)])
    [outcome] = collect(carrier, 1)
    assert outcome.result is Result.REFUSED
    assert "s0: level 0.800 was accepted, but 1.000 is in force" in outcome.detail


def test_errors_become_outcomes_and_threads_live_on(make_carrier):
    actuator = SlowActuator()
    actuator.errors = {0: RefusedError("busy"), 1: UnansweredError("gone"), 2: ZeroDivisionError("defect")}
    carrier = make_carrier(actuator, 4, max_threads=2)
    carrier.send([cap(server) for server in range(4)])
    results = {o.server: o.result for o in collect(carrier, 4)}
    assert results == {0: Result.REFUSED, 1: Result.UNANSWERED, 2: Result.UNANSWERED, 3: Result.LANDED}


def test_servers_that_may_not_be_written_to_are_only_recorded():
    clock, actuator = LiveClock(), SlowActuator()
    servers = [Server(i, f"s{i}", Priority.LOW) for i in range(2)]
    carrier = LiveCarrier(servers, {0: actuator}, DryCarrier(clock, 0.01, 0.01), clock, threading.Event())
    carrier.send([cap(0), cap(1)])
    assert {o.server: o.backend for o in collect(carrier, 2)} == {0: "slow", 1: "dry"}
    carrier.read_back(1, 1.0)
    carrier.read_back(0, 0.8)
    [outcome] = collect(carrier, 1)
    assert (outcome.server, outcome.result, outcome.level) == (0, Result.READ, 0.8)
    assert {server for _, server, _, _ in actuator.calls} == {0}
    carrier.stop()


def test_a_cap_that_hung_and_lands_after_the_brake_does_not_end_the_brake(make_carrier):
    """Locked clocks are one lever: the late cap undoes the brake on the device, and the ledger brakes again."""
    actuator = SlowActuator()
    carrier = make_carrier(actuator, 1, max_threads=2)
    ledger = CommandLedger([Priority.LOW], LedgerConfig(one_lever=True))
    clock = LiveClock()
    ledger.note_sample(clock.now_s())
    actuator.hanging.add(0)
    carrier.send(ledger.submit(Command(Action.CAP, (0,), 0.8), clock.now_s()))
    assert eventually(lambda: len(actuator.calls) == 1)
    carrier.send(ledger.submit(Command(Action.BRAKE, (0,)), clock.now_s()))
    assert eventually(lambda: len(actuator.levels.get(0, [])) == 1)
    actuator.hang.set()

    def braked_again() -> bool:
        for outcome in carrier.poll():
            if outcome.result is Result.LANDED:
                carrier.send(ledger.confirm(outcome.write.key, clock.now_s(), outcome.level))
            else:
                carrier.send(ledger.refuse(outcome.write.key, clock.now_s()))
        carrier.send(ledger.advance(clock.now_s()))
        return [round(level, 3) for _, level in actuator.levels[0]][-2:] == [0.8, 0.204] and not ledger.in_flight

    assert eventually(braked_again, 15.0)
    assert ledger.braked == [True]
