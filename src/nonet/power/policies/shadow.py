"""Shadow mode: what a policy would have done on a recorded power series.

Open loop: commands land after their latency, so that the policy sees them in flight, settled and confirmed as it would
on a live row, but the recorded power stays as it was. What the caps would have saved is therefore not in the series,
and a policy in shadow mode escalates further than one in control.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nonet.common.errors import InputError
from nonet.power.policies.base import IMPLAUSIBLE_U
from nonet.power.policies.ledger import CommandLedger, LedgerConfig, Write
from nonet.power.policies.protocol import Action, Command, Policy, Priority, Quiet, Sample
from nonet.power.policies.view import RowView

CHUNK = 4096
LATE_PERIODS = 1.5
"""A sample later than this many periods after the one before leaves a gap; the policy is asked in it all the same."""


@dataclass(frozen=True, slots=True)
class ShadowCommand:
    """One command that the policy would have given.

    Args:
        time_s: when, on the clock of the series.
        command: the order.
        level: what it sets: the cap level of a CAP, the brake level of a BRAKE, 1.0 for a RELEASE.
        lands_s: when its writes take effect if none waits for another write to the same server, seconds.
        u: row power over budget in the sample it was given on; NaN without one.
        mode: the policy's mode after it, None for policies without.
    """

    time_s: float
    command: Command
    level: float
    lands_s: float
    u: float
    mode: int | None


@dataclass(frozen=True)
class ShadowLog:
    """Commands in the order of time, and how the row looked at the end.

    Args:
        commands: what the policy would have done.
        priorities: `Priority` of each server.
        final_levels: cap level in effect on each server at the end.
        num_samples: samples of the series.
    """

    commands: tuple[ShadowCommand, ...]
    priorities: tuple[int, ...]
    final_levels: tuple[float, ...]
    num_samples: int

    @property
    def brakes(self) -> int:
        """BRAKE commands."""
        return sum(one.command.action is Action.BRAKE for one in self.commands)

    def json_lines(self, clock_mhz: Callable[[float], float] | None = None) -> Iterator[str]:
        """One JSON object for each command.

        Args:
            clock_mhz: from a level to the clock that a profile sets for it, MHz.
        """
        for one in self.commands:
            yield json.dumps(self._object(one, clock_mhz))

    def _object(self, one: ShadowCommand, clock_mhz: Callable[[float], float] | None) -> dict[str, Any]:
        servers = one.command.servers
        if isinstance(servers, Priority):
            name: str | None = servers.name.lower()
            indices = [server for server, priority in enumerate(self.priorities) if priority == servers]
        else:
            indices = list(servers)
            name = "all" if len(indices) == len(self.priorities) else None
        found: dict[str, Any] = {"time_s": one.time_s, "action": str(one.command.action), "class": name}
        found |= {"servers": indices, "level": one.level}
        if clock_mhz is not None and one.command.action is not Action.RELEASE:
            found["clock_mhz"] = clock_mhz(one.level)
        return found | {
            "mode": one.mode,
            "u": one.u if math.isfinite(one.u) else None,
            "lands_s": one.lands_s,
            "reason": one.command.reason,
        }


def shadow(
    time_s: ArrayLike,
    power_w: ArrayLike,
    policy: Policy,
    row: RowView,
    *,
    ledger: LedgerConfig | None = None,
    quiet: bool = True,
) -> ShadowLog:
    """The commands of a policy on a recorded series of row power.

    Args:
        time_s: when each sample was measured, growing, seconds; the policy is asked at that moment, and once a period
            in gaps.
        power_w: mean row power of each period, watts; NaN and other lies are handed on, the policy judges them.
        policy: decides; it is reset.
        row: servers, budget, period and latencies; not changed.
        ledger: time-outs of commands; None takes those that fit the row's latencies.
        quiet: leave out calls that the policy promised to answer with nothing.

    Raises:
        InputError: an empty series, arrays of unequal length, or times that do not grow.

    >>> from nonet.power.policies import Polca
    >>> log = shadow([0, 2, 4], [150e3, 165e3, 185e3], Polca(), RowView.uniform(40, 0.5, budget_w=200e3))
    >>> [(one.time_s, one.mode, round(one.level, 3), one.lands_s) for one in log.commands]
    [(2.0, 1, 0.904, 42.0), (4.0, 2, 0.787, 44.0)]
    """
    times = np.asarray(time_s, dtype=np.float64)
    watts = np.asarray(power_w, dtype=np.float64)
    _check(times, watts)
    policy.reset()
    view = replace(row, cap_levels=list(row.cap_levels), in_flight=False, last_landed_s=-math.inf)
    return _Shadow(times, watts, policy, view, ledger or _fitting(row)).run(quiet)


class _Shadow:
    """One run: the series, the policy, and an open-loop plant between its commands and the servers."""

    def __init__(
        self,
        times: NDArray[np.float64],
        watts: NDArray[np.float64],
        policy: Policy,
        view: RowView,
        config: LedgerConfig,
    ) -> None:
        self.times, self.watts, self.policy, self.view = times, watts, policy, view
        self.ledger = CommandLedger(view.priorities, config, "shadow")
        self.log: list[ShadowCommand] = []
        self._landings: list[tuple[float, int, str]] = []  # (time, number, key)
        self._number = 0
        self._gap_s = LATE_PERIODS * view.telemetry_period_s

    def run(self, quiet: bool) -> ShadowLog:
        at = 0
        while at < len(self.times):
            if at:
                self._cross_gap(at)
            self._note(at)
            self._ask(float(self.times[at]), Sample(float(self.watts[at]), float(self.times[at])))
            at += 1
            # Not while the sensor lies: the policy takes a promise for a good sample.
            if quiet and self._is_usable(at - 1) and not self.ledger.in_flight and at < len(self.times):
                promise = self.policy.quiet(float(self.times[at - 1]), self.view)
                if promise is not None:
                    at = self._skip(at, promise)
        return ShadowLog(tuple(self.log), tuple(self.ledger.priorities), tuple(self.ledger.cap_levels), len(self.times))

    def _cross_gap(self, at: int) -> None:
        """Between samples far apart the policy is asked once a period with the old one."""
        last_s, next_s = float(self.times[at - 1]), float(self.times[at])
        period_s, step = self.view.telemetry_period_s, 1
        sample = Sample(float(self.watts[at - 1]), last_s)
        while next_s - (last_s + step * period_s) > self._gap_s - period_s:
            self._ask(last_s + step * period_s, sample)
            step += 1

    def _skip(self, at: int, promise: Quiet) -> int:
        """First index from `at` on that the promise does not cover."""
        start = at
        while at < len(self.times):
            end = min(at + CHUNK, len(self.times))
            watts, times = self.watts[at:end], self.times[at:end]
            near = times - self.times[at - 1 : end - 1] <= self._gap_s
            covered = (watts > promise.low_w) & (watts < promise.high_w) & (times < promise.until_s) & near
            if not covered.all():
                at += int(np.argmin(covered))
                break
            at = end
        if at > start:
            self._note(at - 1)
        return at

    def _is_usable(self, at: int) -> bool:
        return bool(0.0 < self.watts[at] < IMPLAUSIBLE_U * self.view.budget_w)

    def _note(self, at: int) -> None:
        if self._is_usable(at):
            self.ledger.note_sample(float(self.times[at]))

    def _ask(self, now_s: float, sample: Sample) -> None:
        self._land_until(now_s)
        self._send(self.ledger.advance(now_s), now_s)
        self._see()
        commands = self.policy.decide(now_s, sample, self.view)
        if not commands:
            return
        mode = self.policy.state().get("mode")
        u = sample.power_w / self.view.budget_w
        for command in commands:
            self._send(self.ledger.submit(command, now_s), now_s)
            level = self.ledger.config.brake_level if command.action is Action.BRAKE else command.level
            lands_s = now_s + self._latency_s(command.action)
            self.log.append(ShadowCommand(now_s, command, level, lands_s, u, mode if isinstance(mode, int) else None))
        self._see()

    def _land_until(self, now_s: float) -> None:
        while self._landings and self._landings[0][0] <= now_s:
            landed_s, _, key = heapq.heappop(self._landings)
            self._send(self.ledger.confirm(key, landed_s), landed_s)

    def _send(self, writes: list[Write], now_s: float) -> None:
        for write in writes:
            self._number += 1
            heapq.heappush(self._landings, (now_s + self._latency_s(write.action), self._number, write.key))

    def _latency_s(self, action: Action) -> float:
        return self.view.cap_latency_s if action is Action.CAP else self.view.brake_latency_s

    def _see(self) -> None:
        self.view.in_flight = self.ledger.in_flight
        self.view.cap_levels, self.view.last_landed_s = self.ledger.cap_levels, self.ledger.last_landed_s


def _fitting(row: RowView) -> LedgerConfig:
    """Time-outs two periods, or a brake's one, above the latencies of the row."""
    return LedgerConfig(
        cap_timeout_s=row.cap_latency_s + 2 * row.telemetry_period_s,
        brake_timeout_s=row.brake_latency_s + row.telemetry_period_s,
        stale_after_s=3 * row.telemetry_period_s,
    )


def _check(times: NDArray[np.float64], watts: NDArray[np.float64]) -> None:
    if times.ndim != 1 or times.shape != watts.shape or not len(times):
        raise InputError(f"power series: {times.shape} times, {watts.shape} powers; give two equally long columns")
    falls = np.flatnonzero(~(np.diff(times) > 0))
    if not np.isfinite(times[0]) or len(falls):
        at = int(falls[0]) + 1 if len(falls) else 0
        raise InputError(f"power series: time {times[at]!r} at sample {at} does not grow; sort it and drop repetitions")
