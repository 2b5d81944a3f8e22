"""Carries the ledger's writes to the servers and brings back what became of them.

Two carriers of one shape. `DryCarrier` touches nothing: every write lands after the row's latency, which is what
shadow mode assumes too. `LiveCarrier` calls back ends from a bounded number of threads:

* one cap at a time for a server, and the newest of those that wait; a brake has threads and lanes of its own, so that
  it waits neither for the queue of caps nor for a cap that hangs;
* caps leave at a bounded rate (no command storm on a row of thousands), brakes as fast as they can;
* a write counts as landed when the read-back shows it; a back end that answers before the effect shows has
  `settle_s`.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from nonet.power.controlling.actuators.protocol import (
    Actuator,
    ActuatorError,
    NoPermissionError,
    RefusedError,
    Server,
    ServerLostError,
)
from nonet.power.controlling.clock import Clock
from nonet.power.policies.ledger import Write
from nonet.power.policies.protocol import Action

_VERIFY_PAUSE_S = 1.0


class Result(StrEnum):
    """What became of a write, or of a read-back."""

    LANDED = "landed"
    REFUSED = "refused"
    FORBIDDEN = "forbidden"  # no permission: trying again does not help
    LOST = "lost"  # the server does not answer
    UNANSWERED = "unanswered"  # nobody knows; the ledger sends it again in time
    READ = "read"  # a read-back outside any write


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back.

    Args:
        server: index in the row.
        write: None for a read-back.
        result: see `Result`.
        level: in force, None when unknown.
        detail: an error's one line, or empty.
        backend: its name.
        took_s: from the first call to the answer.
    """

    server: int
    write: Write | None
    result: Result
    level: float | None
    detail: str
    backend: str
    took_s: float


class Carrier(Protocol):
    """What the daemon sends writes with."""

    def send(self, writes: Sequence[Write]) -> None:
        """Take writes; returns at once."""

    def read_back(self, server: int, expected: float) -> bool:
        """Ask for the level in force; the answer comes as an outcome. False when the server is busy: ask later."""

    def poll(self) -> list[Outcome]:
        """What came back since the last call."""

    def next_event_s(self) -> float:
        """When `poll` will have something without anybody else's doing, control time; inf when not."""

    def stop(self) -> None:
        """Take nothing more; what hangs is left to end with the process."""


class DryCarrier:
    """Sends nothing; writes land after the row's latency.

    Args:
        clock: control time.
        cap_latency_s: of CAP.
        brake_latency_s: of BRAKE and RELEASE.
    """

    def __init__(self, clock: Clock, cap_latency_s: float, brake_latency_s: float) -> None:
        self._clock = clock
        self._latency_s = {
            Action.CAP: cap_latency_s,
            Action.BRAKE: brake_latency_s,
            Action.RELEASE: brake_latency_s,
        }
        self._landing: list[tuple[float, int, Write]] = []
        self._order = itertools.count()

    def send(self, writes: Sequence[Write]) -> None:
        """See `Carrier`."""
        for write in writes:
            at_s = self._clock.now_s() + self._latency_s[write.action]
            heapq.heappush(self._landing, (at_s, next(self._order), write))

    def read_back(self, server: int, expected: float) -> bool:
        """Nothing can be read, so nothing comes back."""
        return False

    def poll(self) -> list[Outcome]:
        """See `Carrier`."""
        landed = []
        while self._landing and self._landing[0][0] <= self._clock.now_s():
            _, _, write = heapq.heappop(self._landing)
            took_s = self._latency_s[write.action]
            landed.append(Outcome(write.server, write, Result.LANDED, None, "", "dry", took_s))
        return landed

    def next_event_s(self) -> float:
        """See `Carrier`."""
        return self._landing[0][0] if self._landing else float("inf")

    def stop(self) -> None:
        """See `Carrier`."""


@dataclass(slots=True)
class _Job:
    server: int
    write: Write | None
    expected: float = 1.0
    started_s: float | None = None
    settle_until_s: float = 0.0
    level: float | None = None  # answered by the back end, not yet read back


class LiveCarrier:
    """Calls back ends from threads.

    Args:
        servers: of the row.
        actuators: by server index; a server that is not in it is carried by `dry`.
        dry: for servers that may not be written to.
        clock: control time.
        wake: set whenever an outcome is there.
        max_threads: all threads together; half of them for brakes and releases only.
        caps_per_s: most CAP writes started a second.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        actuators: Mapping[int, Actuator],
        dry: DryCarrier,
        clock: Clock,
        wake: threading.Event,
        *,
        max_threads: int = 32,
        caps_per_s: float = 100.0,
    ) -> None:
        self._servers = servers
        self._actuators = actuators
        self._dry = dry
        self._clock = clock
        self._wake = wake
        self._caps_per_s = caps_per_s
        self._condition = threading.Condition()
        self._outcomes: deque[Outcome] = deque()
        self._slow = _Lanes()
        self._fast = _Lanes()
        self._stopped = False
        self._budget, self._filled_s = 1.0, clock.now_s()  # token bucket of caps
        num_threads = min(max_threads, 2 * max(1, len(actuators)))
        lanes = [self._fast, self._slow] * ((num_threads + 1) // 2)
        self.num_threads = len(lanes)
        for number, lane in enumerate(lanes):
            name = f"{'brake' if lane is self._fast else 'cap'}-{number}"
            threading.Thread(target=self._work, args=(lane,), name=name, daemon=True).start()

    def send(self, writes: Sequence[Write]) -> None:
        """See `Carrier`."""
        self._dry.send([write for write in writes if write.server not in self._actuators])
        with self._condition:
            for write in writes:
                if write.server in self._actuators:
                    lanes = self._slow if write.action is Action.CAP else self._fast
                    lanes.add(_Job(write.server, write))
                    if lanes is self._fast:
                        self._slow.forget(write.server)  # a cap that waits is older than this brake or release
            self._condition.notify_all()

    def read_back(self, server: int, expected: float) -> bool:
        """See `Carrier`."""
        if server not in self._actuators:
            return False
        with self._condition:
            if self._slow.has(server) or self._fast.has(server):
                return False
            self._slow.add(_Job(server, None, expected))
            self._condition.notify_all()
        return True

    def poll(self) -> list[Outcome]:
        """See `Carrier`."""
        found = self._dry.poll()
        with self._condition:
            found.extend(self._outcomes)
            self._outcomes.clear()
        return found

    def next_event_s(self) -> float:
        """See `Carrier`."""
        return self._dry.next_event_s()

    def waiting(self) -> int:
        """Writes and read-backs that no thread has taken up yet."""
        with self._condition:
            return len(self._slow.waiting) + len(self._fast.waiting)

    def stop(self) -> None:
        """See `Carrier`."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    # -- in the threads

    def _work(self, lanes: _Lanes) -> None:
        while (job := self._next(lanes)) is not None:
            outcome = self._do(job)
            with self._condition:
                lanes.busy.discard(job.server)
                if outcome is not None:
                    self._outcomes.append(outcome)
                elif job.server not in lanes.waiting:  # else a newer write has taken its place
                    lanes.settling[job.server] = (self._clock.now_s() + self._pause_s(job), job)
                self._condition.notify_all()
            if outcome is not None:
                self._wake.set()

    def _pause_s(self, job: _Job) -> float:
        """Until the next read-back of a write whose effect does not show yet: ten in the time that it may take."""
        return max(_VERIFY_PAUSE_S, self._actuators[job.server].settle_s / 10)

    def _next(self, lanes: _Lanes) -> _Job | None:
        with self._condition:
            while not self._stopped:
                now_s = self._clock.now_s()
                job, wait_s = lanes.take(now_s)
                if job is not None and lanes is self._slow and job.write is not None and job.level is None:
                    pause_s = self._take_token(now_s)
                    if pause_s > 0:
                        lanes.put_back(job)
                        job, wait_s = None, pause_s
                if job is not None:
                    return job
                self._condition.wait(wait_s)
        return None

    def _take_token(self, now_s: float) -> float:
        """0 when a cap may leave now, else how long to wait, seconds."""
        most = max(1.0, self._caps_per_s / 10)
        self._budget = min(most, self._budget + (now_s - self._filled_s) * self._caps_per_s)
        self._filled_s = now_s
        if self._budget >= 1.0:
            self._budget -= 1.0
            return 0.0
        return (1.0 - self._budget) / self._caps_per_s

    def _do(self, job: _Job) -> Outcome | None:
        """Do a job; None when its effect does not show yet."""
        actuator = self._actuators[job.server]
        began_s = self._clock.now_s()
        started_s = job.started_s = began_s if job.started_s is None else job.started_s

        def outcome(result: Result, level: float | None, detail: str = "") -> Outcome:
            took_s = self._clock.now_s() - started_s
            return Outcome(job.server, job.write, result, level, detail, actuator.name, took_s)

        try:
            return self._carry(job, actuator, outcome)
        except NoPermissionError as error:
            return outcome(Result.FORBIDDEN, None, str(error))
        except RefusedError as error:
            return outcome(Result.REFUSED, None, str(error))
        except ServerLostError as error:
            return outcome(Result.LOST, None, str(error))
        except ActuatorError as error:
            return outcome(Result.UNANSWERED, None, str(error))
        except Exception as error:  # a defect in a plug-in ends neither the thread nor control
            return outcome(Result.UNANSWERED, None, f"{actuator.name}: {type(error).__name__}: {error}")

    def _carry(
        self, job: _Job, actuator: Actuator, outcome: Callable[[Result, float | None, str], Outcome]
    ) -> Outcome | None:
        server, write = self._servers[job.server], job.write
        if write is None:
            return outcome(Result.READ, actuator.read_level(server, job.expected), "")
        if job.level is None:
            job.level = actuator.set_level(server, write.level, write.key, write.action)
            job.settle_until_s = self._clock.now_s() + actuator.settle_s
        read = actuator.read_level(server, job.level)
        if abs(read - job.level) <= actuator.resolution:
            return outcome(Result.LANDED, read, "")
        if self._clock.now_s() < job.settle_until_s:
            return None
        detail = f"{server.name}: level {job.level:.3f} was accepted, but {read:.3f} is in force"
        return outcome(Result.REFUSED, read, detail)


class _Lanes:
    """One job at a time for a server, and the newest of those that wait."""

    def __init__(self) -> None:
        self.waiting: dict[int, _Job] = {}  # by server, in order of arrival
        self.busy: set[int] = set()
        self.settling: dict[int, tuple[float, _Job]] = {}  # answered, to be read back again at that time

    def add(self, job: _Job) -> None:
        self.settling.pop(job.server, None)
        self.waiting[job.server] = job

    def has(self, server: int) -> bool:
        return server in self.waiting or server in self.busy or server in self.settling

    def forget(self, server: int) -> None:
        self.waiting.pop(server, None)
        self.settling.pop(server, None)

    def put_back(self, job: _Job) -> None:
        self.busy.discard(job.server)
        self.waiting = {job.server: job, **self.waiting}

    def take(self, now_s: float) -> tuple[_Job | None, float | None]:
        """A job that can start, or how long until one settles (None: until something arrives)."""
        for server, (at_s, job) in self.settling.items():
            if at_s <= now_s:
                del self.settling[server]
                self.busy.add(server)
                return job, None
        for server, job in self.waiting.items():
            if server not in self.busy:
                del self.waiting[server]
                self.busy.add(server)
                return job, None
        return None, min((at_s - now_s for at_s, _ in self.settling.values()), default=None)
