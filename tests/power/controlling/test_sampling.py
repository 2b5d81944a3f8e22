"""Readings become samples: ages, clock jumps on either side, sources that stop, hang or lie."""

from __future__ import annotations

import threading
import time

import pytest

from nonet.power.controlling.clock import LiveClock
from nonet.power.controlling.sampling import Poller, Stamps
from nonet.power.controlling.telemetry.protocol import Reading, TelemetryError


class TwoClocks:
    """A monotonic clock and a wall clock that can jump."""

    def __init__(self) -> None:
        self.control_s, self.ahead_s = 50.0, 1_700_000_000.0

    def now_s(self) -> float:
        return self.control_s

    def wall_s(self) -> float:
        return self.control_s + self.ahead_s


@pytest.fixture
def clocks():
    return TwoClocks()


def ages(clocks, stamps, periods, source_ahead_s, step_s=2.0):
    """Age of each new sample when it arrives; the source stamps at once, by its own clock."""
    found = []
    for _ in range(periods):
        clocks.control_s += step_s
        stamps.watch()
        arrival = stamps.arrive(Reading(1.0, clocks.control_s + source_ahead_s(clocks)))
        found.append(round(clocks.control_s - arrival.sample.measured_at_s, 6))
    return found


def test_a_fresh_reading_has_age_zero_and_an_old_one_its_age(clocks):
    stamps = Stamps(clocks)
    assert stamps.arrive(Reading(1.0, clocks.wall_s())).sample.measured_at_s == 50.0
    assert stamps.arrive(Reading(1.0, clocks.wall_s() - 30.0)).sample.measured_at_s == 20.0


def test_a_repeated_reading_is_no_sample(clocks):
    stamps = Stamps(clocks)
    reading = Reading(1.0, clocks.wall_s())
    assert stamps.arrive(reading) is not None
    clocks.control_s += 10
    assert stamps.arrive(reading) is None
    assert stamps.arrive(Reading(1.0, reading.measured_unix_s)) is None


@pytest.mark.parametrize("jump_s", [-3600.0, -5.0, 5.0, 3600.0])
def test_our_wall_clock_jumps_and_the_source_does_not(clocks, jump_s):
    stamps, source_s = Stamps(clocks), clocks.ahead_s
    assert ages(clocks, stamps, 3, lambda _: source_s) == [0, 0, 0]
    clocks.ahead_s += jump_s
    assert ages(clocks, stamps, 5, lambda _: source_s) == [0] * 5
    assert stamps.jumps >= 1


@pytest.mark.parametrize("jump_s", [-3600.0, -5.0, 5.0, 3600.0])
def test_our_wall_clock_jumps_and_the_source_is_on_it(clocks, jump_s):
    stamps = Stamps(clocks)
    assert ages(clocks, stamps, 3, lambda c: c.ahead_s) == [0, 0, 0]
    clocks.ahead_s += jump_s
    assert ages(clocks, stamps, 5, lambda c: c.ahead_s) == [0] * 5


def test_a_source_whose_clock_runs_ahead_never_makes_a_sample_younger_than_its_arrival(clocks):
    stamps = Stamps(clocks)
    arrival = stamps.arrive(Reading(1.0, clocks.wall_s() + 500.0))
    assert arrival.sample.measured_at_s == 50.0
    assert "in the future" in arrival.note


def test_a_stamp_that_goes_back_is_said(clocks):
    stamps = Stamps(clocks)
    stamps.arrive(Reading(1.0, clocks.wall_s()))
    assert "goes back by 4.0 s" in stamps.arrive(Reading(1.0, clocks.wall_s() - 4.0)).note


def test_a_source_whose_clock_is_behind_is_said(clocks):
    stamps = Stamps(clocks)
    assert stamps.arrive(Reading(1.0, clocks.wall_s() - 20.0)).note == ""  # the last line of an old file may be old
    assert "19.0 s old by its time stamp" in stamps.arrive(Reading(1.0, clocks.wall_s() - 19.0)).note


def test_without_a_stamp_the_arrival_counts(clocks):
    assert Stamps(clocks).arrive(Reading(1.0)).sample.measured_at_s == 50.0


def test_a_source_that_hangs_or_fails_holds_up_nobody():
    hang = threading.Event()

    class Source:
        name = "bad"
        calls = 0

        def read(self):
            self.calls += 1
            if self.calls == 1:
                return Reading(5.0, 1.0)
            if self.calls == 2:
                raise TelemetryError("no answer")
            if self.calls == 3:
                raise ZeroDivisionError
            hang.wait(10)
            return None

        def close(self):
            raise AssertionError("still in use by the thread that hangs")

    poller = Poller(Source(), 0.01)
    time.sleep(0.2)
    began = time.monotonic()
    reading, error = poller.latest()
    assert reading == Reading(5.0, 1.0)
    assert error == "bad: ZeroDivisionError: "
    assert poller.errors == 2
    poller.stop()
    assert time.monotonic() - began < 2.0
    hang.set()


def test_control_time_goes_on_after_restart_and_reboot(monkeypatch):
    clock = LiveClock()
    saved = clock.state() | {"control_s": 1000.0}
    saved["boottime_s"] = clock.state()["boottime_s"]
    assert LiveClock(saved).now_s() == pytest.approx(1000.0, abs=0.5)
    rebooted = saved | {"boot_id": "another", "wall_s": time.time() - 300.0}
    assert LiveClock(rebooted).now_s() == pytest.approx(1300.0, abs=0.5)
    wall_went_back = saved | {"boot_id": "another", "wall_s": time.time() + 300.0}
    assert LiveClock(wall_went_back).now_s() == pytest.approx(1000.0, abs=0.5)  # never falls
