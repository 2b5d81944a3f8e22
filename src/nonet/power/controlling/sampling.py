"""From a source's readings to the policy's samples: when was this measured, in control time?

A source stamps its readings with its own wall clock, which may be off and may jump, as ours may. What is certain is
when a reading was first seen: a sample is never younger than that, so a source that stops is seen to age whatever its
stamps say. Beyond that the stamp is believed: a reading that was already old when it was first seen is old. When our
wall clock jumps, the old and the new reckoning both get a hearing, and the one that makes the next new reading
fresher is kept.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from nonet.common.errors import NonetError
from nonet.power.controlling.clock import Clock
from nonet.power.controlling.telemetry.protocol import Reading, Telemetry
from nonet.power.policies.protocol import Sample

JUMP_S = 1.0
_IN_THE_FUTURE_S = 2.0
_OLD_S = 5.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A new reading.

    Args:
        sample: what the policy may see of it.
        server_power_w: by server index, when the source tells it.
        note: what was odd about its time stamp, or empty.
    """

    sample: Sample
    server_power_w: Mapping[int, float] | None
    note: str = ""


class Stamps:
    """Turns time stamps into control time.

    >>> from nonet.power.controlling.clock import ReplayClock
    >>> stamps = Stamps(ReplayClock(1000.0))
    >>> stamps.arrive(Reading(5.0, 998.0)).sample
    Sample(power_w=5.0, measured_at_s=998.0)
    >>> stamps.arrive(Reading(5.0, 998.0)) is None
    True
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_s = clock.wall_s() - clock.now_s()  # wall clock minus control time
        self._other_s: float | None = None  # the reckoning before a jump
        self._last: Reading | None = None
        self._last_stamp_s: float | None = None
        self.jumps = 0

    def watch(self) -> float:
        """Look for a jump of our wall clock; call it often. Returns how far it jumped, seconds, 0 when it did not."""
        ahead_s = self._clock.wall_s() - self._clock.now_s()
        jump_s = ahead_s - self._ahead_s
        if abs(jump_s) <= JUMP_S:
            self._ahead_s = ahead_s  # follow the slow steering of NTP
            return 0.0
        self._other_s, self._ahead_s = self._ahead_s, ahead_s
        self.jumps += 1
        return jump_s

    def arrive(self, reading: Reading | None) -> Arrival | None:
        """The sample of a reading that was not seen before; None for one that was."""
        if reading is None or self._seen(reading):
            return None
        now_s = self._clock.now_s()
        self._last, stamp_s, note = reading, reading.measured_unix_s, ""
        if stamp_s is None:
            return Arrival(Sample(reading.power_w, now_s), reading.server_power_w)
        before_s, self._last_stamp_s = self._last_stamp_s, stamp_s
        if before_s is not None and stamp_s < before_s:
            note = f"time stamp goes back by {before_s - stamp_s:.1f} s"
        age_s = now_s - (stamp_s - self._ahead_s)
        if self._other_s is not None:
            other_age_s = now_s - (stamp_s - self._other_s)
            if abs(other_age_s) < abs(age_s):
                self._ahead_s, age_s = self._other_s, other_age_s
            self._other_s = None
        if age_s < -_IN_THE_FUTURE_S:
            note = f"time stamp is {-age_s:.1f} s in the future"
        elif age_s > _OLD_S and before_s is not None and not note:
            note = f"a new sample is {age_s:.1f} s old by its time stamp: is the source slow, or its clock behind?"
        return Arrival(Sample(reading.power_w, now_s - max(0.0, age_s)), reading.server_power_w, note)

    def _seen(self, reading: Reading) -> bool:
        if self._last is None or reading.measured_unix_s is None:
            return reading is self._last
        return reading.measured_unix_s == self._last.measured_unix_s


class Poller:
    """Asks a source for its reading, in a thread of its own so that one that hangs holds up nobody.

    Args:
        telemetry: the source; used by the thread alone until `stop`.
        period_s: pause between two questions, seconds.
    """

    def __init__(self, telemetry: Telemetry, period_s: float) -> None:
        self._telemetry = telemetry
        self._period_s = period_s
        self._stop = threading.Event()
        self._slot: tuple[Reading | None, str] = (None, "no answer yet")
        self.errors = 0
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    def latest(self) -> tuple[Reading | None, str]:
        """The latest reading, and why the last question was not answered ("" when it was)."""
        return self._slot

    def stop(self) -> None:
        """End the thread; one that hangs is left to end with the process."""
        self._stop.set()
        self._thread.join(timeout=1.0)
        if not self._thread.is_alive():
            self._telemetry.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._slot = ask(self._telemetry, self._slot[0])
            self.errors += bool(self._slot[1])
            self._stop.wait(self._period_s)


def ask(telemetry: Telemetry, before: Reading | None) -> tuple[Reading | None, str]:
    """One question to a source: its reading, or the one before and why there is no new one."""
    try:
        return telemetry.read(), ""
    except NonetError as error:
        return before, str(error)
    except Exception as error:  # a defect in a plug-in must not end control; its silence is seen as lost telemetry
        return before, f"{telemetry.name}: {type(error).__name__}: {error}"
