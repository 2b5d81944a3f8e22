"""`simulate`: a row, a load and a policy in, a `Result` out.

The row is moved from event to event by compiled code; Python comes in where a policy decides or a command lands. Rules:

* Each class has a queue (first come, first served) and servers of its own. A request goes to the instance that holds
  the fewest requests; of several, to the one that has held so few for the longest time.
* An instance holds up to `max_batch` requests. It works on one prompt at a time, in order of arrival; meanwhile the
  decoding of the others stands still, or goes on with `1 - prefill_share` of the instance.
* The prompt phase gives the first token; the others come from decode steps of the whole batch.
* When batch or clock change, the work that is left stays the same and goes on at the new rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from nonet.common.errors import InputError
from nonet.power.policies.protocol import Policy, Priority
from nonet.power.simulating.assembling import Record, assemble
from nonet.power.simulating.plant import Plant
from nonet.power.simulating.result import Result
from nonet.power.simulating.row import Row
from nonet.power.simulating.state import RowState

if TYPE_CHECKING:
    from nonet.power.load.requests import RequestLoad
    from nonet.power.profiles.profile import PowerProfile

Progress = Callable[[float], None]
_STEP_TICKS = 30
_REPORT_S = 86_400.0


def simulate(
    row: Row,
    load: RequestLoad,
    profile: PowerProfile | None = None,
    policy: Policy | None = None,
    *,
    seed: int = 0,
    levels: Mapping[Priority, float] | None = None,
    quiet: bool = True,
    duration_s: float | None = None,
    drain_s: float = 3600.0,
    progress: Progress | None = None,
) -> Result:
    """Simulate a row that serves a load.

    Args:
        row: the row.
        load: the requests.
        profile: replaces the profile of every server.
        policy: decides at every telemetry sample; None leaves the row uncapped, whatever its budget.
        seed: of latencies and faults; without any, it changes nothing.
        levels: fixed level by class from the start on, for a run without a policy.
        quiet: believe the policy's `quiet`; False asks it at every sample, which gives the same result, more slowly.
        duration_s: the run goes on at least so long; by default until the last arrival.
        drain_s: and then until everything is done, at most this much longer.
        progress: called with the simulated seconds, about once a day.

    Raises:
        InputError: a class with requests and without servers, levels beside a policy, a negative seed or time, or
            samples that are too old for the policy by the time it sees them.

    >>> from nonet.power.load.requests import RequestLoad
    >>> from nonet.power.profiles import PROFILES
    >>> row = Row.uniform(2, PROFILES["a100-bloom-176b-tp8"], budget_w=10_000)
    >>> result = simulate(row, RequestLoad.of([0.5, 1.0], [1024, 1024], [64, 64], priority=[0, 1]))
    >>> result.unfinished(), round(result.latency_s(0.5, Priority.LOW), 2), result.brakes
    (0, 3.39, 0)
    """
    if profile is not None:
        row = row.with_profile(profile)
    _check(row, load, policy, levels)
    _check_times(row, policy, seed, duration_s or 0.0, drain_s)
    end_s = max(load.duration_s, duration_s or 0.0)
    num_ticks = math.ceil((end_s + drain_s) / row.telemetry_period_s) + _STEP_TICKS
    state = RowState(row, load, num_ticks)
    run = _Run(state, load, end_s, drain_s, progress)
    if policy is not None:
        return assemble(state, load, Plant(state, policy, seed, quiet).run(run.next_stop, run.report))
    for server, level in _fixed_levels(row, levels):
        state.set_level(server, level, 0.0)
    while (stop := run.next_stop()) is not None:
        state.run_until(stop * row.telemetry_period_s)
        run.report(stop * row.telemetry_period_s)
    return assemble(state, load, _fixed_record(row, seed, levels, state.ticks * row.telemetry_period_s))


class _Run:
    """Goes on in steps until the load is served or the time is over."""

    def __init__(
        self, state: RowState, load: RequestLoad, end_s: float, drain_s: float, progress: Progress | None
    ) -> None:
        self.state, self.progress = state, progress
        self.num_requests = len(load)
        period_s = state.row.telemetry_period_s
        self.end_tick = math.ceil(end_s / period_s)
        self.last_tick = self.end_tick + math.ceil(drain_s / period_s)
        self.report_ticks = max(1, int(_REPORT_S / period_s))

    def next_stop(self) -> int | None:
        """Tick up to which to go on before asking again; None when the run is over."""
        tick = self.state.ticks
        if tick >= self.last_tick or (tick >= self.end_tick and self.state.num_done >= self.num_requests):
            return None
        if tick < self.end_tick:
            return min(self.end_tick, (tick // self.report_ticks + 1) * self.report_ticks)
        return min(self.last_tick, tick + _STEP_TICKS)

    def report(self, time_s: float) -> None:
        """Tell how far it is."""
        if self.progress is not None:
            self.progress(time_s)


def _check(row: Row, load: RequestLoad, policy: Policy | None, levels: Mapping[Priority, float] | None) -> None:
    if policy is not None and levels:
        raise InputError("simulate: give a policy or fixed levels, not both")
    for level in (levels or {}).values():
        if not 0.0 < level <= 1.0:
            raise InputError(f"simulate: level {level!r} is not in (0, 1]")
    served = {server.priority for server in row.servers}
    if not row.shared:
        for priority in Priority:
            num = int((load.priority == int(priority)).sum())
            if num and priority not in served:
                raise InputError(
                    f"simulate: {num} requests of {priority.name} priority, but no server of the row serves them;"
                    " change low_priority_share, or share the servers"
                )


def _check_times(row: Row, policy: Policy | None, seed: int, duration_s: float, drain_s: float) -> None:
    if seed < 0:
        raise InputError(f"simulate: seed {seed} is negative; give 0 or more")
    for name, value_s in (("duration_s", duration_s), ("drain_s", drain_s)):
        if not 0.0 <= value_s < math.inf:
            raise InputError(f"simulate: {name} must be finite and not negative, got {value_s!r}")
    most = getattr(getattr(policy, "config", None), "stale_after_periods", math.inf)
    age = math.ceil(row.telemetry_lag_s / row.telemetry_period_s - 1e-9)
    if policy is not None and age > most:
        raise InputError(
            f"simulate: {policy.name} sees samples that are {age} periods old and is blind after {most:g}: it would"
            " never brake; raise its stale_after_periods or lower telemetry_lag_s"
        )


def _fixed_record(row: Row, seed: int, levels: Mapping[Priority, float] | None, duration_s: float) -> Record:
    record = Record("none" if not levels else "fixed", seed)
    for server, level in _fixed_levels(row, levels):
        if level < 1.0:
            for priority in Priority if row.shared else (row.servers[server].priority,):
                key = (priority, level)
                record.capped_s[key] = record.capped_s.get(key, 0.0) + duration_s
            record.below_fit_s += duration_s * (level < row.servers[server].profile.clock.min_level)
    return record


def _fixed_levels(row: Row, levels: Mapping[Priority, float] | None) -> list[tuple[int, float]]:
    if not levels:
        return []
    found = []
    for i, server in enumerate(row.servers):
        told = min(levels.values()) if row.shared else levels.get(server.priority, 1.0)
        found.append((i, server.profile.snap(told)))
    return found
