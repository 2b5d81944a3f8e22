"""The plant: a policy sees the row through it, and its commands reach the row through it.

Compiled code moves the row from one moment at which something is decided to the next: a sample outside the bounds that
the policy called quiet, a command that lands, a write that is sent again, a budget that changes, a sensor that lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nonet.power.policies.protocol import Policy, Priority, Quiet, Sample
from nonet.power.simulating.assembling import Record
from nonet.power.simulating.channel import Channel, Landing

if TYPE_CHECKING:
    from nonet.power.simulating.faults import TelemetryFault
    from nonet.power.simulating.row import Row
    from nonet.power.simulating.state import RowState

_PLAUSIBLE = 2.0  # times the budget; beyond, a sample does not let the ledger raise anything
_FAR = 1 << 60


class Plant:
    """A row under a policy; also the policy's `View`.

    Args:
        state: the row at its start.
        policy: decides; it is reset.
        seed: of latencies and faults.
        quiet: believe the policy's promises.
    """

    def __init__(self, state: RowState, policy: Policy, seed: int, quiet: bool) -> None:
        self.state, self.row, self.policy = state, state.row, policy
        self.believes = quiet
        self.record = Record(policy.name, seed)
        self._units = _units(self.row)
        self.priorities: Sequence[int] = tuple(priority for _, priority in self._units)
        self.channel = Channel(self.row, [Priority(p) for p in self.priorities], seed)
        num = self.row.num_servers
        self._told = [1.0] * len(self._units)
        self._level, self._high_told, self._since_s = [1.0] * num, [1.0] * num, [0.0] * num
        self._fitted = [server.profile.clock.min_level for server in self.row.servers]
        self._mixed = len(set(state.profile_of)) > 1
        self._snaps: dict[tuple[int, float], float] = {}
        self._faults = sorted(self.row.telemetry_faults, key=lambda fault: fault.start_s)
        self._sample: Sample | None = None
        self._promise: Quiet | None = None
        self._lag_ticks, self._seen_w = state.lag_ticks, state.arrays.seen_w
        self._row_budget, self._node_budgets = self.row.row_budget, self.row.node_budgets
        self._varies = any(len(budget.watts) > 1 for budget in (self._row_budget, *self._node_budgets))
        self.telemetry_period_s = self.row.telemetry_period_s
        self.cap_latency_s, self.brake_latency_s = self.row.cap_latency.most_s, self.row.brake_latency.most_s
        self.now_s = 0.0
        self.budget_w = self._row_budget.at(0.0)
        policy.reset()

    # -- the view

    @property
    def cap_levels(self) -> Sequence[float]:
        """See `View`."""
        return self.channel.cap_levels

    @property
    def server_power_w(self) -> Sequence[float]:
        """See `View`; pods of a shared server have a part of its power each."""
        watts = self.state.server_power_w()
        share = self.row.num_servers / len(self._units)
        return [float(watts[server]) * share for server, _ in self._units]

    @property
    def in_flight(self) -> bool:
        """See `View`."""
        return self.channel.ledger.in_flight

    @property
    def last_landed_s(self) -> float:
        """See `View`."""
        return self.channel.ledger.last_landed_s

    # -- moving on

    def run(self, next_stop: Callable[[], int | None], report: Callable[[float], None]) -> Record:
        """Go on until `next_stop` names no tick any more; `report` hears of each stop."""
        while (stop := next_stop()) is not None:
            while self.state.ticks < stop:
                self._step(stop)
            report(stop * self.telemetry_period_s)
        self._book_rest()
        self.record.counts = {**self.channel.counts, "given_up": self.channel.ledger.counts["given_up"]}
        return self.record

    def _step(self, stop: int) -> None:
        """Up to the next moment at which anything has to be decided, at most tick `stop`."""
        period_s, tick = self.telemetry_period_s, self.state.ticks
        low_w, high_w, limit = -math.inf, math.inf, tick + 1
        lies = self._next_lie()
        if lies == tick + 1:
            self._promise = None
        if self._promise is not None:
            low_w, high_w = self._promise.low_w, self._promise.high_w
            wanted = _first_tick(self._promise.until_s, period_s, stop)
            limit = max(tick + 1, min(stop, wanted, lies - 1))
        limit_s = limit * period_s
        landing_s = self.channel.next_landing_s()
        if landing_s <= limit_s:
            before = _first_tick(landing_s, period_s, limit) - 1
            limit_s = (before if before > tick else tick + 1) * period_s
        limit_s = min(limit_s, self._next_change_s(), max(self.channel.ledger.next_event_s(), self.now_s))
        landings = None
        if landing_s <= limit_s:
            landings = self._land(limit_s)
        stopped = self.state.run_until(limit_s, low_w, high_w, landings)
        self.now_s = self.state.ticks * period_s if stopped else limit_s
        self._after(stopped)

    def _land(self, limit_s: float) -> list[tuple[float, Sequence[int], float]]:
        """Land what is due up to `limit_s`, before the row goes there: (time, servers, level) of the changed clocks."""
        self._see()
        self._promise = None
        changes: list[tuple[float, Sequence[int], float]] = []
        for landing in self.channel.land_until(limit_s):
            self.record.landings.append((landing.time_s, landing.action, landing.units, landing.level))
            changes += self._change(landing)
        return changes

    def _after(self, stopped: bool) -> None:
        """Let the ledger send again, and ask the policy if this is a tick that it must see."""
        now_s = self.now_s
        at_tick = now_s == self.state.ticks * self.telemetry_period_s
        if self.channel.ledger.next_event_s() <= now_s:
            self._see()
            self._promise = None
            self.channel.advance(now_s)
        if self._varies and self._take_budgets():
            self._promise = None
        if at_tick and (stopped or self._promise is None or now_s >= self._promise.until_s):
            self._decide(now_s)

    def _decide(self, now_s: float) -> None:
        self._see()
        commands = self.policy.decide(now_s, self._sample, self)
        for command in commands:
            self.record.commands.append((now_s, command))
            self.channel.submit(command, now_s)
        asks = self.believes
        if asks and self._faults:
            honest = self._fault_at(now_s - self._lag_ticks * self.telemetry_period_s) is None
            asks = honest and self._next_lie() > self.state.ticks + 1
        self._promise = self.policy.quiet(now_s, self) if asks else None

    # -- telemetry

    def _see(self) -> None:
        """Take the newest sample that has arrived; a usable one is noted in the ledger."""
        visible = self.state.ticks - 1 - self._lag_ticks
        fault = self._fault_at((visible + 1) * self.telemetry_period_s) if self._faults else None
        if fault is not None and fault.kind == "gap":
            visible, fault = self._last_before(fault), None
        measured_at_s = (visible + 1) * self.telemetry_period_s
        if visible < 0 or (self._sample is not None and self._sample.measured_at_s >= measured_at_s):
            return
        watts = float(self._seen_w[visible])
        if fault is not None:
            last = self._last_before(fault)
            watts = fault.value(watts, float(self._seen_w[last]) if last >= 0 else math.nan)
        self._sample = Sample(watts, measured_at_s)
        if 0.0 < watts < _PLAUSIBLE * self.budget_w:
            self.channel.ledger.note_sample(measured_at_s)

    def _last_before(self, fault: TelemetryFault) -> int:
        """Index of the last sample before a fault; -1 when it began at the start."""
        return max(-1, math.ceil(fault.start_s / self.telemetry_period_s) - 2)

    def _fault_at(self, time_s: float) -> TelemetryFault | None:
        while self._faults and self._faults[0].end_s <= time_s:
            self._faults.pop(0)
        if self._faults and self._faults[0].start_s <= time_s:
            return self._faults[0]
        return None

    def _next_lie(self) -> int:
        """First tick from now on whose visible sample is a lie or missing; far away without."""
        if not self._faults:
            return _FAR
        period_s, lag = self.telemetry_period_s, self._lag_ticks
        next_measured_s = (self.state.ticks + 1 - lag) * period_s
        for fault in self._faults:
            if fault.end_s > next_measured_s:
                return max(math.ceil(fault.start_s / period_s) + lag, self.state.ticks + 1)
        return _FAR

    # -- budgets

    def _next_change_s(self) -> float:
        if not self._varies:
            return math.inf
        return min(budget.next_change_s(self.now_s) for budget in (self._row_budget, *self._node_budgets))

    def _take_budgets(self) -> bool:
        """Take over the budgets of now; True when one differs from before."""
        self.budget_w = self._row_budget.at(self.now_s)
        now_w = [*(budget.at(self.now_s) for budget in self._node_budgets), self.budget_w]
        budgets = self.state.arrays.node_budget_w
        if np.array_equal(budgets, now_w):
            return False
        budgets[:] = now_w
        return True

    # -- levels

    def _change(self, landing: Landing) -> list[tuple[float, Sequence[int], float]]:
        """Clocks that a landing changes; the strictest pod of a shared server decides."""
        if not self.row.shared:
            groups: list[Sequence[int]] = [landing.units]
            if self._mixed:
                by_profile: dict[int, list[int]] = {}
                for unit in landing.units:
                    by_profile.setdefault(self.state.profile_of[unit], []).append(unit)
                groups = list(by_profile.values())
            for group in groups:
                self._book_told(group, landing.old_level, landing.time_s - landing.old_since_s)
            return [(landing.time_s, group, self._snapped(group[0], landing.level)) for group in groups]
        for unit in landing.units:
            self._told[unit] = landing.level
        touched = sorted({self._units[unit][0] for unit in landing.units})
        pairs = [(server, self._snapped(server, min(self._told[u] for u in self._pods(server)))) for server in touched]
        self._book(landing.time_s, pairs)
        return [(landing.time_s, (server,), at) for server, at in pairs]

    def _pods(self, server: int) -> tuple[int, int]:
        return server, server + self.row.num_servers

    def _snapped(self, server: int, level: float) -> float:
        key = (self.state.profile_of[server], level)
        if key not in self._snaps:
            self._snaps[key] = self.row.servers[server].profile.snap(level)
        return self._snaps[key]

    def _book_told(self, servers: Sequence[int], level: float, passed_s: float) -> None:
        """Book the time that servers of one class and profile were at a level."""
        level = self._snapped(servers[0], level)
        if level < 1.0 and passed_s > 0.0:
            key = (self.row.servers[servers[0]].priority, level)
            self.record.capped_s[key] = self.record.capped_s.get(key, 0.0) + passed_s * len(servers)
            self.record.below_fit_s += passed_s * len(servers) * (level < self._fitted[servers[0]])

    def _book(self, now_s: float, changes: Sequence[tuple[int, float]]) -> None:
        """The same for shared servers, which then take new levels."""
        for server, level in changes:
            passed_s, old = now_s - self._since_s[server], self._level[server]
            if passed_s > 0.0 and old < 1.0:
                for priority in Priority:
                    key = (priority, old)
                    self.record.capped_s[key] = self.record.capped_s.get(key, 0.0) + passed_s
                self.record.below_fit_s += passed_s * (old < self._fitted[server])
                self.record.strictest_s += passed_s * (self._high_told[server] > old)
            self._since_s[server], self._level[server] = now_s, level
            self._high_told[server] = self._snapped(server, self._told[self._pods(server)[1]])

    def _book_rest(self) -> None:
        """At the end: the time since the last changes."""
        if self.row.shared:
            self._book(self.now_s, list(enumerate(self._level)))
            return
        for cohort in self.channel.cohorts:
            for server in cohort.units if self._mixed else cohort.units[:1]:
                group = (server,) if self._mixed else cohort.units
                self._book_told(group, cohort.level, self.now_s - cohort.since_s)


def _units(row: Row) -> list[tuple[int, Priority]]:
    """What can be commanded: servers, or of shared servers the pods, those of low priority first."""
    if not row.shared:
        return [(i, server.priority) for i, server in enumerate(row.servers)]
    return [(i, priority) for priority in Priority for i in range(row.num_servers)]


def _first_tick(time_s: float, period_s: float, most: int) -> int:
    """First tick at or after a time, at most `most`."""
    if time_s >= most * period_s:
        return most
    tick = math.ceil(time_s / period_s)
    # The division rounds; ticks are at multiples.
    while (tick - 1) * period_s >= time_s:
        tick -= 1
    while tick * period_s < time_s:
        tick += 1
    return tick
