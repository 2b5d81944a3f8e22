"""The command ledger: what stands between a policy's commands and the writes that reach servers.

It holds for every server what is wanted (cap level, brake) against what is known to be in effect, and sends one write
after the other until both agree. It has no clock and does no input or output: the caller sends the writes it returns,
tells it what became of them, and calls `advance` when `next_event_s` has come. The simulator and the daemon share it.

What it keeps:

* never two writes in flight for one server; a newer target waits and replaces the one that waited before;
* a BRAKE does not wait: a cap in flight is retired (it may still land, then `confirm` tells), the brake goes out now;
* a write without an answer is sent again with the same key, so that whoever receives it can tell a repetition from an
  order; refused writes are sent again after a growing pause; both end after a number of attempts, and a BRAKE is then
  ordered again after a pause, for as long as it is wanted;
* what may or may not have happened (a write given up or retired) is *unknown* and ordered again rather than assumed;
* no write that raises a level, and no RELEASE, leaves while the latest usable sample is older than `stale_after_s`.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from nonet.common.errors import InputError
from nonet.power.policies.ledger_lines import Flight, Line, finite, line_of, line_values, number
from nonet.power.policies.protocol import Action, Command, Priority

STATE_VERSION = 2
KEPT_RETIRED = 8


class LedgerConfig(BaseModel):
    """How long the ledger waits and how often it tries."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    brake_level: float = Field(default=288 / 1410, gt=0, le=1, description="Level under the brake.")
    cap_timeout_s: float = Field(default=44.0, gt=0, description="A cap unanswered for so long is sent again.")
    brake_timeout_s: float = Field(default=7.0, gt=0, description="The same for BRAKE and RELEASE.")
    retry_s: float = Field(
        default=2.0, gt=0, description="Pause after the first refusal; doubles with each, for caps only."
    )
    retry_max_s: float = Field(default=60.0, gt=0, description="Longest pause after a refusal.")
    cap_attempts: int = Field(default=5, ge=1, description="A cap is given up after so many attempts.")
    brake_attempts: int = Field(default=20, ge=1, description="The same for BRAKE and RELEASE.")
    again_s: float = Field(default=60.0, gt=0, description="A BRAKE given up is ordered again after so long.")
    stale_after_s: float = Field(default=6.0, gt=0, description="No level is raised on a sample older than this.")
    resolution: float = Field(
        default=0.02, ge=0, lt=1, description="Read-back this far off still counts as the level wanted."
    )
    one_lever: bool = Field(
        default=False,
        description="Brake and cap are the same register (locked clocks): a cap that lands late ends a brake.",
    )


@dataclass(frozen=True, slots=True)
class Write:
    """One write to one server, to be sent now.

    Args:
        server: index in the row.
        action: CAP, BRAKE or RELEASE.
        level: the level to set: the cap level for CAP and RELEASE, the brake level for BRAKE.
        key: idempotency key; equal for all attempts of one order. Keys of one ledger end in a growing number.
        attempt: 1 for the first.
    """

    server: int
    action: Action
    level: float
    key: str
    attempt: int


class CommandLedger:
    """Wanted and known state of every server of a row, and the writes between them.

    Args:
        priorities: `Priority` of each server, by index; what a command to a class means.
        config: times and attempts.
        name: first part of every key; give each controller of a row its own.

    >>> ledger = CommandLedger([Priority.LOW, Priority.HIGH])
    >>> ledger.note_sample(0.0)
    >>> [write] = ledger.submit(Command(Action.CAP, Priority.LOW, 0.9), 0.0)
    >>> write
    Write(server=0, action=<Action.CAP: 'cap'>, level=0.9, key='nonet-1', attempt=1)
    >>> ledger.submit(Command(Action.CAP, Priority.LOW, 0.8), 2.0), ledger.in_flight
    ([], True)
    >>> ledger.confirm(write.key, 40.0)
    [Write(server=0, action=<Action.CAP: 'cap'>, level=0.8, key='nonet-2', attempt=1)]
    >>> ledger.cap_levels, ledger.last_landed_s, ledger.next_event_s()
    ([0.9, 1.0], 40.0, 84.0)
    """

    def __init__(self, priorities: Sequence[int], config: LedgerConfig | None = None, name: str = "nonet") -> None:
        self.config = config or LedgerConfig()
        self.name = name
        self.priorities = tuple(int(priority) for priority in priorities)
        self.last_landed_s = -math.inf
        self.cap_levels: list[float] = [1.0] * len(self.priorities)
        """Cap level in effect on each server, as confirmed; an unknown one shows the last known."""
        self.counts = dict.fromkeys(("sent", "resent", "landed", "late", "refused", "given_up", "ignored"), 0)
        self._lines = [Line() for _ in self.priorities]
        self._sequence = 0
        self._sample_s = -math.inf
        self._open: dict[str, int] = {}  # keys in flight or retired -> server
        self._dues: list[tuple[float, int]] = []  # a heap of (due, server); those that no longer hold are skipped
        self._num_open = 0

    # -- what the caller asks

    @property
    def in_flight(self) -> bool:
        """Whether any order has been given and is neither confirmed nor given up."""
        return self._num_open > 0

    @property
    def braked(self) -> list[bool]:
        """Servers that are, or may be, under the brake."""
        return [line.braked is not False for line in self._lines]

    @property
    def targets(self) -> list[float]:
        """Cap level wanted on each server."""
        return [line.target for line in self._lines]

    @property
    def given_up(self) -> list[int]:
        """Servers on which the latest order was given up; a newer order or a read-back takes them up again."""
        return [server for server, line in enumerate(self._lines) if line.given_up]

    def next_event_s(self) -> float:
        """When `advance` has something to do, seconds; inf when nothing is waiting for time to pass."""
        while self._dues:
            due_s, server = self._dues[0]
            if self._lines[server].due_s == due_s:
                return due_s
            heapq.heappop(self._dues)
        return math.inf

    # -- what the caller tells

    def note_sample(self, measured_at_s: float) -> None:
        """A usable sample of row power was measured then. Call it before `submit`, `confirm` or `advance`."""
        if not measured_at_s > self._sample_s:
            return
        self._sample_s = measured_at_s
        for server, line in enumerate(self._lines) if self._num_open else ():
            if line.flight is not None and not line.flight.sent and line.flight.due_s == math.inf:
                self._due(server, line.flight, measured_at_s)

    def submit(self, command: Command, now_s: float) -> list[Write]:
        """Take an order of a policy; the writes to send now.

        Raises:
            InputError: a level outside (0, 1] or a server that the row does not have.
        """
        if not 0.0 < command.level <= 1.0:
            raise InputError(f"command {command}: level {command.level!r} is not in (0, 1]")
        writes: list[Write] = []
        for server in self._servers(command.servers):
            line = self._lines[server]
            line.given_up = False
            if command.action is Action.CAP:
                line.target = command.level
            else:
                line.brake = command.action is Action.BRAKE
            flight = line.flight
            if flight is not None and not self._still_wanted(line, flight):
                urgent = self._wanted(line) is Action.BRAKE and flight.action is not Action.BRAKE
                if urgent or not flight.sent:
                    self._retire(line, unknown=flight.sent or flight.attempt > 0)
            writes += self._start(server, now_s)
        return writes

    def confirm(self, key: str, now_s: float, level: float | None = None) -> list[Write]:
        """The write with this key took effect; the writes that follow from it.

        Args:
            key: of the write; one that is not (or no longer) known is counted and ignored, so duplicates do no harm.
            now_s: when, seconds.
            level: cap level read back, None when it was not read. One above what was ordered counts as a refusal.
        """
        server = self._open.get(key)
        if server is None:
            self.counts["ignored"] += 1
            return []
        line = self._lines[server]
        if line.flight is None or line.flight.key != key:
            return self._late(server, key, now_s, level)
        flight = line.flight
        if level is not None and level > flight.level + self.config.resolution:
            return self.refuse(key, now_s)
        self.counts["landed"] += 1
        self.last_landed_s = max(self.last_landed_s, now_s)
        self._take_effect(server, flight, level)
        line.flight = None
        self._num_open -= 1
        self._keep(line, flight)
        return self._start(server, now_s)

    def refuse(self, key: str, now_s: float, retry: bool = True) -> list[Write]:
        """The device answered no: the write had no effect. With `retry` it goes out again after a pause."""
        server = self._open.get(key)
        line = self._lines[server] if server is not None else None
        if server is None or line is None or line.flight is None or line.flight.key != key or not line.flight.sent:
            self.counts["ignored"] += 1
            return []
        self.counts["refused"] += 1
        flight = line.flight
        flight.sent = False
        if not self._still_wanted(line, flight):
            self._retire(line, unknown=flight.attempt > 1)
            return self._start(server, now_s)
        if not retry or flight.attempt >= self._attempts(flight):
            self._give_up(server, now_s, unknown=flight.attempt > 1)
        else:
            pause_s = self.config.retry_s * (2.0 ** (flight.attempt - 1) if flight.action is Action.CAP else 1.0)
            self._due(server, flight, now_s + min(pause_s, self.config.retry_max_s))
        return []

    def observe(self, server: int, level: float, now_s: float) -> list[Write]:
        """A read-back outside any write found `level` in force: repair what vanished (a reboot) or outlived us."""
        line = self._lines[self._checked(server)]
        if line.flight is not None:
            return []
        line.given_up = False
        near = self.config.resolution
        if line.braked is not False:
            line.braked = level <= self.config.brake_level + near
        if not line.braked and (line.cap is None or abs(level - line.read) > near):
            line.cap, line.read, line.lowest = level, level, level
            if abs(level - line.target) <= near and level <= line.target:
                line.cap = line.target
            self.cap_levels[server] = level
        return self._start(server, now_s)

    def advance(self, now_s: float) -> list[Write]:
        """Time has passed: send again what got no answer, what paused, what waited for a fresh sample."""
        due: set[int] = set()
        while self.next_event_s() <= now_s:
            due.add(heapq.heappop(self._dues)[1])
        writes: list[Write] = []
        for server in sorted(due):
            line = self._lines[server]
            flight = line.flight
            if flight is None:  # a brake that was given up
                line.given_up, line.again_s = False, math.inf
                writes += self._start(server, now_s)
            elif not self._still_wanted(line, flight):
                self._retire(line, unknown=flight.attempt > 0)
                writes += self._start(server, now_s)
            elif flight.sent and flight.attempt >= self._attempts(flight):
                self._give_up(server, now_s, unknown=True)
            else:
                writes += self._send(server, flight, now_s)
        return writes

    def resume(self, now_s: float) -> list[Write]:
        """After a restart: every write in flight again, with its old key (nobody knows whether it arrived).

        One that a newer target has overtaken is replaced by what is wanted now; who would have waited for it is gone.
        """
        for server, line in enumerate(self._lines):
            if line.flight is not None:
                line.flight.sent = False
                self._due(server, line.flight, now_s)
        return self.advance(now_s)

    def state(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "version": STATE_VERSION,
            "sequence": self._sequence,
            "sample_s": finite(self._sample_s),
            "last_landed_s": finite(self.last_landed_s),
            "counts": dict(self.counts),
            "lines": [line_values(line) for line in self._lines],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            InputError: a state of another version or of a row with another number of servers.
        """
        lines = state.get("lines")
        if state.get("version") != STATE_VERSION or not isinstance(lines, list):
            raise InputError(f"ledger state of version {state.get('version')!r}, this program reads {STATE_VERSION}")
        if len(lines) != len(self._lines):
            raise InputError(f"ledger state of {len(lines)} servers, the row has {len(self._lines)}; start afresh")
        self._sequence = state["sequence"]
        self._sample_s = number(state["sample_s"], -math.inf)
        self.last_landed_s = number(state["last_landed_s"], -math.inf)
        self.counts = dict(state["counts"])
        self._lines = [line_of(saved) for saved in lines]
        self._open = {}
        for server, line in enumerate(self._lines):
            for flight in [*line.retired, *([line.flight] if line.flight else [])]:
                self._open[flight.key] = server
        self._num_open = sum(line.flight is not None for line in self._lines)
        self._dues = [(line.due_s, server) for server, line in enumerate(self._lines)]
        heapq.heapify(self._dues)
        self.cap_levels = [line.read for line in self._lines]

    def check_integrity(self) -> None:
        """Raises ValueError when the ledger contradicts itself."""
        flights = [line.flight for line in self._lines if line.flight is not None]
        keys = [flight.key for flight in flights] + [flight.key for line in self._lines for flight in line.retired]
        wrong = {
            "a key is used twice": len(set(keys)) != len(keys),
            "open keys do not match the flights": set(keys) != set(self._open),
            "the number of flights is off": self._num_open != len(flights),
            "the next event is off": self.next_event_s() != min((line.due_s for line in self._lines), default=math.inf),
            "a level outside (0, 1]": not all(0.0 < level <= 1.0 for level in [*self.cap_levels, *self.targets]),
            "cap levels differ from the lines": self.cap_levels != [line.read for line in self._lines],
            "a server is idle but not as wanted": any(
                line.flight is None and not line.given_up and self._wanted(line) is not None for line in self._lines
            ),
        }
        for what, holds in wrong.items():
            if holds:
                raise ValueError(f"command ledger: {what}")

    # -- inside

    def _servers(self, servers: Priority | tuple[int, ...]) -> Iterable[int]:
        if isinstance(servers, Priority):
            return [server for server, priority in enumerate(self.priorities) if priority == servers]
        return [self._checked(server) for server in servers]

    def _checked(self, server: int) -> int:
        if not 0 <= server < len(self._lines):
            raise InputError(f"server {server} is not in the row of {len(self._lines)} servers")
        return server

    def _wanted(self, line: Line) -> Action | None:
        if line.brake:
            if line.braked is not True:
                return Action.BRAKE
        elif line.braked is not False:
            return Action.RELEASE
        if line.cap != line.target and not (line.brake and self.config.one_lever):
            return Action.CAP
        return None

    def _still_wanted(self, line: Line, flight: Flight) -> bool:
        if flight.action is not self._wanted(line):
            return False
        return flight.action is Action.BRAKE or flight.level == line.target

    def _attempts(self, flight: Flight) -> int:
        return self.config.cap_attempts if flight.action is Action.CAP else self.config.brake_attempts

    def _start(self, server: int, now_s: float) -> list[Write]:
        line = self._lines[server]
        action = None if line.flight is not None or line.given_up else self._wanted(line)
        if action is None:
            return []
        self._sequence += 1
        level = self.config.brake_level if action is Action.BRAKE else line.target
        line.flight, line.again_s = Flight(action, level, f"{self.name}-{self._sequence}"), math.inf
        self._open[line.flight.key] = server
        self._num_open += 1
        return self._send(server, line.flight, now_s)

    def _send(self, server: int, flight: Flight, now_s: float) -> list[Write]:
        line = self._lines[server]
        raises = flight.action is Action.RELEASE or (flight.action is Action.CAP and flight.level > line.lowest)
        if raises and now_s - self._sample_s > self.config.stale_after_s:
            flight.sent, flight.due_s = False, math.inf  # until `note_sample`
            return []
        flight.sent = True
        flight.attempt += 1
        fast = flight.action is not Action.CAP
        self._due(server, flight, now_s + (self.config.brake_timeout_s if fast else self.config.cap_timeout_s))
        if not fast or (self.config.one_lever and flight.action is Action.RELEASE):
            line.lowest = min(line.lowest, flight.level)
        self.counts["sent" if flight.attempt == 1 else "resent"] += 1
        return [Write(server, flight.action, flight.level, flight.key, flight.attempt)]

    def _retire(self, line: Line, unknown: bool) -> None:
        """End a flight without an answer; one that was sent may still land, so its key is kept."""
        flight = line.flight
        if flight is None:
            return
        line.flight = None
        self._num_open -= 1
        if flight.attempt == 0:
            del self._open[flight.key]
            return
        if unknown:
            self._unknown(line, flight)
        self._keep(line, flight)

    def _keep(self, line: Line, flight: Flight) -> None:
        """Know its key a while longer: another attempt, or a copy, may land after what comes next."""
        line.retired.append(flight)
        for old in line.retired[:-KEPT_RETIRED]:
            del self._open[old.key]
        del line.retired[:-KEPT_RETIRED]

    def _give_up(self, server: int, now_s: float, unknown: bool) -> None:
        line = self._lines[server]
        self.counts["given_up"] += 1
        self._retire(line, unknown)
        line.given_up, line.again_s = True, math.inf
        if self._wanted(line) is Action.BRAKE:
            line.again_s = now_s + self.config.again_s
            heapq.heappush(self._dues, (line.again_s, server))

    def _unknown(self, line: Line, flight: Flight) -> None:
        if flight.action is Action.CAP or self.config.one_lever:
            line.cap = None
        if flight.action is not Action.CAP or (self.config.one_lever and line.braked):
            line.braked = None

    def _late(self, server: int, key: str, now_s: float, level: float | None) -> list[Write]:
        """A retired or finished write landed now; its effect is in force unless a newer write is on its way."""
        line = self._lines[server]
        flight = next(old for old in line.retired if old.key == key)
        self.counts["late"] += 1
        self.last_landed_s = max(self.last_landed_s, now_s)
        if line.flight is not None and line.flight.sent:
            self._unknown(line, flight)
            return []
        self._take_effect(server, flight, level)
        if line.flight is not None and not self._still_wanted(line, line.flight):
            self._retire(line, unknown=line.flight.attempt > 0)
        line.given_up = line.given_up and self._wanted(line) is not None
        return self._start(server, now_s)

    def _take_effect(self, server: int, flight: Flight, level: float | None) -> None:
        line = self._lines[server]
        if flight.action is not Action.CAP:
            line.braked = flight.action is Action.BRAKE
        elif self.config.one_lever and line.braked:
            line.braked = False
        if flight.action is Action.CAP or (self.config.one_lever and flight.action is Action.RELEASE):
            line.cap = flight.level
            line.read = line.lowest = flight.level if level is None else min(max(level, 1e-6), 1.0)
            self.cap_levels[server] = line.read

    def _due(self, server: int, flight: Flight, due_s: float) -> None:
        flight.due_s = due_s
        heapq.heappush(self._dues, (due_s, server))
