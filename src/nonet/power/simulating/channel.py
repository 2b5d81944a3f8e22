"""The way from commands to clocks: the command ledger, what happens to its writes on the way, and what servers do.

Servers that have always been told the same share one line of the ledger (a cohort) as long as nothing can go wrong and
latencies are constant: then all of them do the same at the same moment. A command that concerns a part of a cohort
splits it. With faults or random latencies every server has a line of its own.
"""

from __future__ import annotations

import copy
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nonet.power.policies.ledger import CommandLedger, LedgerConfig, Write
from nonet.power.policies.protocol import Action, Command, Priority

if TYPE_CHECKING:
    from nonet.power.simulating.row import Row


@dataclass(slots=True)
class Cohort:
    """Units (servers, or pods of shared servers) on one line of the ledger, and what is in force on them."""

    units: tuple[int, ...]
    priority: Priority
    cap: float = 1.0
    braked: bool = False
    level: float = 1.0
    since_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Landing:
    """A write that has landed: who is told which level from now on, and was told another one for how long."""

    time_s: float
    action: Action
    units: tuple[int, ...]
    level: float
    old_level: float
    old_since_s: float


@dataclass(order=True, slots=True)
class _Event:
    time_s: float
    sequence: int
    key: str
    write: Write
    refused: bool


class Channel:
    """Takes commands, lets them land late or never, and says what is in force.

    Args:
        row: its latencies and faults.
        priorities: of each unit.
        seed: of latencies and faults.
    """

    def __init__(self, row: Row, priorities: Sequence[Priority], seed: int) -> None:
        self.row = row
        self.faults = row.actuation_faults
        self.rng = np.random.Generator(np.random.Philox(seed))
        self.counts = dict.fromkeys(("sent", "resent", "landed", "lost", "duplicated", "refused"), 0)
        latencies = (row.cap_latency, row.brake_latency)
        same = self.faults.none and all(latency.least_s == latency.most_s for latency in latencies)
        self.cohorts = self._first_cohorts(priorities, same)
        self._line_of = self._lines(len(priorities))
        self._config = LedgerConfig(
            brake_level=row.brake_level,
            cap_timeout_s=row.cap_latency.most_s + 2 * row.telemetry_period_s,
            brake_timeout_s=row.brake_latency.most_s + row.telemetry_period_s,
            stale_after_s=3 * row.telemetry_period_s + row.telemetry_lag_s,
        )
        self.ledger = CommandLedger([cohort.priority for cohort in self.cohorts], self._config)
        self._events: list[_Event] = []
        self._sequence = 0

    @staticmethod
    def _first_cohorts(priorities: Sequence[Priority], same: bool) -> list[Cohort]:
        if not same:
            return [Cohort((unit,), priority) for unit, priority in enumerate(priorities)]
        members = {p: tuple(unit for unit, own in enumerate(priorities) if own == p) for p in Priority}
        return [Cohort(units, priority) for priority, units in members.items() if units]

    # -- asking

    @property
    def cap_levels(self) -> list[float]:
        """Cap level in effect on each unit, as confirmed."""
        levels = self.ledger.cap_levels
        return [levels[line] for line in self._line_of]

    def next_landing_s(self) -> float:
        """When the next write lands or is refused."""
        return self._events[0].time_s if self._events else math.inf

    # -- moving on

    def submit(self, command: Command, now_s: float) -> None:
        """Take a policy's command."""
        servers = command.servers
        if not isinstance(servers, Priority):
            servers = self._split(servers)
        self._send(self.ledger.submit(Command(command.action, servers, command.level, command.reason), now_s), now_s)

    def land_until(self, time_s: float) -> list[Landing]:
        """Land what is due; answers go back to the ledger, and what it sends then may land, too."""
        landed = []
        while self._events and self._events[0].time_s <= time_s:
            event = heapq.heappop(self._events)
            if event.refused:
                self._send(self.ledger.refuse(event.key, event.time_s), event.time_s)
                continue
            cohort, write = self.cohorts[event.write.server], event.write
            self.counts["landed"] += len(cohort.units)
            if write.action is Action.CAP:
                cohort.cap = write.level
            else:
                cohort.braked = write.action is Action.BRAKE
            level = self.row.brake_level if cohort.braked else cohort.cap
            landed.append(Landing(event.time_s, write.action, cohort.units, level, cohort.level, cohort.since_s))
            cohort.level, cohort.since_s = level, event.time_s
            self._send(self.ledger.confirm(event.key, event.time_s), event.time_s)
        return landed

    def advance(self, now_s: float) -> None:
        """Let the ledger send again what got no answer."""
        self._send(self.ledger.advance(now_s), now_s)

    # -- inside

    def _send(self, writes: list[Write], now_s: float) -> None:
        for write in writes:
            size = len(self.cohorts[write.server].units)
            self.counts["sent" if write.attempt == 1 else "resent"] += size
            slow = write.action is Action.CAP
            latency = self.row.cap_latency if slow else self.row.brake_latency
            fate = self._fate(write, slow)
            if fate == "lost":
                self.counts["lost"] += 1
                continue
            self.counts["refused"] += fate == "refused"
            self._push(now_s + latency.sample(self.rng), write.key, write, fate == "refused")
            if fate == "duplicated":
                self.counts["duplicated"] += 1
                self._push(now_s + latency.sample(self.rng) + latency.sample(self.rng), write.key, write, False)

    def _fate(self, write: Write, slow: bool) -> str:
        faults = self.faults
        if write.server % self.row.num_servers in faults.dead_servers:  # of a shared server both pods are dead
            return "lost"
        if faults.none or not (slow or faults.on_brake):
            return "landed"
        draw = float(self.rng.random())
        for fate, share in (("lost", faults.loss), ("duplicated", faults.duplicate), ("refused", faults.refuse)):
            if draw < share:
                return fate
            draw -= share
        return "landed"

    def _push(self, time_s: float, key: str, write: Write, refused: bool) -> None:
        self._sequence += 1
        heapq.heappush(self._events, _Event(time_s, self._sequence, key, write, refused))

    def _lines(self, num_units: int) -> NDArray[np.int64]:
        line_of = np.empty(num_units, np.int64)
        for line, cohort in enumerate(self.cohorts):
            line_of[list(cohort.units)] = line
        return line_of

    def _split(self, units: tuple[int, ...]) -> tuple[int, ...]:
        """Lines that hold exactly these units; cohorts that hold others as well are split first."""
        if len(units) == len(self._line_of) and len(set(units)) == len(units):
            return tuple(range(len(self.cohorts)))
        chosen = set(units)
        unknown = [unit for unit in units if not 0 <= unit < len(self._line_of)]
        if unknown:
            return units  # the ledger refuses it in its own words
        for line in sorted({int(self._line_of[unit]) for unit in units}):
            inside = tuple(unit for unit in self.cohorts[line].units if unit in chosen)
            if len(inside) < len(self.cohorts[line].units):
                self._divide(line, inside)
        return tuple(sorted({int(self._line_of[unit]) for unit in units}))

    def _divide(self, line: int, inside: tuple[int, ...]) -> None:
        """Give `inside` a line of its own that stands where `line` stands, writes on their way included."""
        old = self.cohorts[line]
        self.cohorts.append(replace(old, units=inside))
        old.units = tuple(unit for unit in old.units if unit not in set(inside))
        self._line_of = self._lines(len(self._line_of))
        new = len(self.cohorts) - 1
        state = self.ledger.state()
        saved: dict[str, Any] = copy.deepcopy(state["lines"][line])
        for flight in [*saved["retired"], *([saved["flight"]] if saved["flight"] else [])]:
            flight["key"] = _twin(flight["key"], new)
        state["lines"].append(saved)
        self.ledger = CommandLedger([cohort.priority for cohort in self.cohorts], self._config)
        self.ledger.restore(state)
        for event in [event for event in self._events if event.write.server == line]:
            write = Write(new, event.write.action, event.write.level, _twin(event.key, new), event.write.attempt)
            self._push(event.time_s, write.key, write, event.refused)


def _twin(key: str, line: int) -> str:
    return f"{key}/{line}"
