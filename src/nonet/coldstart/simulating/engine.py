"""`simulate`: calls, a policy and a platform in, a `Result` out (section A6.1).

Two compiled engines with the same results. *Lanes* go through each function by itself, fast, and in any number of
shards; they serve policies under which functions are independent. The *coupled* engine has one order of events for
all functions: memory cap, pools, ticks, orders, waiting, Python policies. Both take the calls block by block and
carry their state
along: memory grows with functions, live pods and recorded pods (64 bytes each), not with calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nonet.coldstart.simulating import layout as at
from nonet.coldstart.simulating import state as building
from nonet.coldstart.simulating._engine_kernels import add_order, answer_idle, finish_window, run_engine
from nonet.coldstart.simulating.assembling import assemble
from nonet.coldstart.simulating.calls import Calls, Workload
from nonet.coldstart.simulating.lanes import can_use_lanes, run_lanes
from nonet.coldstart.simulating.platform import Platform
from nonet.coldstart.simulating.policies.base import (
    NEVER_US,
    IdleRule,
    Orders,
    Policy,
    Prewarm,
    RulePolicy,
    Rules,
    Setup,
)
from nonet.coldstart.simulating.results import Result
from nonet.coldstart.simulating.view import EngineView
from nonet.common.errors import InputError

if TYPE_CHECKING:
    from nonet.coldstart.trace.store import Trace

RECORDS = ("none", "pods", "requests")
_AFTER_ALL_US = 1 << 59
Progress = Callable[[int], None]


def simulate(
    workload: Workload | Trace,
    policy: str | RulePolicy | Policy,
    platform: Platform | None = None,
    *,
    seed: int = 0,
    shards: int = 1,
    record: str = "pods",
    progress: Progress | None = None,
    region: str | None = None,
    engine: str = "auto",
) -> Result:
    """Simulate a policy on calls.

    Args:
        workload: calls, or a trace (then of `region`, which may be left out when there is only one).
        policy: a name as on the command line ("ka:60", "hist", "gd:8GB", ...), a `RulePolicy`, or a user's `Policy`.
        platform: memory, pools, rules; by default unlimited memory, a pod for every arrival without a free slot.
        seed: chooses the cold time samples (`ColdTimes`).
        shards: threads over disjoint functions, where functions are independent; the result is the same for any number.
        record: "none", "pods" (all pods; cold starts are read from them) or "requests" (their outcomes too: 16 bytes
            each).
        progress: called with the number of calls of each block that is done.
        engine: "auto", "lanes" or "coupled"; the result is the same.

    Raises:
        InputError: an unknown policy or option, rules that do not fit, or a region that must be named.

    >>> calls = Calls(np.array([0, 50, 200]) * 1_000_000, np.zeros(3, np.int64), np.zeros(3, np.int32))
    >>> result = simulate(Workload.from_arrays(calls), "ka:60")
    >>> result.num_cold, result.num_warm, int(result.idle_us[0]) / 1e6
    (2, 1, 109.0)
    """
    source = as_workload(workload, region)
    if record not in RECORDS:
        raise InputError(f"unknown record {record!r}; known: {', '.join(RECORDS)}")
    if shards < 1:
        raise InputError(f"shards must be at least 1, got {shards}")
    rule_policy, user = policy_of(policy)
    setup = prepare(source, rule_policy, platform or Platform(), seed)
    independent = user is None and rule_policy.tick_us is None and can_use_lanes(setup)
    if engine not in ("auto", "lanes", "coupled") or (engine == "lanes" and not independent):
        raise InputError(f"engine {engine!r} cannot run {rule_policy.name!r} on this platform; use 'auto'")
    if independent and engine != "coupled":
        states = run_lanes(source, setup, shards, record, progress)
    else:
        states = [_Coupled(setup, rule_policy, user, record).run(source.blocks(), progress)]
    return assemble(states, setup, rule_policy.name, record)


def as_workload(workload: Workload | Trace, region: str | None = None, default_cold_us: int | None = None) -> Workload:
    """The workload itself, or that of a region of a trace (see `Workload.from_trace`).

    Raises:
        InputError: a trace of several regions, none named.
    """
    if isinstance(workload, Workload):
        return workload
    if region is None:
        if len(workload.regions) != 1:
            raise InputError(f"{workload.path}: name one of its regions: {', '.join(workload.regions) or 'none'}")
        region = workload.regions[0]
    return Workload.from_trace(workload, region, default_cold_us)


def prepare(workload: Workload, policy: RulePolicy, platform: Platform, seed: int) -> Setup:
    """The rules of a policy for a workload and a platform."""
    functions, num = workload.functions, len(workload.functions)
    rules = Rules(
        keep_alive_us=np.full(num, platform.keep_alive_us, np.int64),
        concurrency=functions.concurrency.astype(np.int64),
        eviction_cost_us=workload.cold_times.mean_total_us.copy(),
        deadline_us=np.full(num, NEVER_US, np.int64),
        delay_us=np.zeros(num, np.int64),
        slowdown=np.zeros(num),
        route=np.arange(num),
        route_extra_us=np.zeros(num, np.int64),
        pick=platform.pick,
        scale_rule=platform.scale_rule,
        memory_cap_mb=platform.memory_cap_mb,
        pools=platform.pools,
    )
    setup = Setup(functions, workload.cold_times, platform, workload.start_us, workload.end_us, seed, rules)
    policy.prepare(setup)
    return setup


class _Asked(RulePolicy):
    """The rules of a user's Python policy: ask."""

    def __init__(self, user: Policy) -> None:
        self.name = str(getattr(user, "name", type(user).__name__))
        self.tick_us = getattr(user, "tick_us", None)
        self._user = user

    def prepare(self, setup: Setup) -> None:
        setup.rules.idle_rule = IdleRule.ASK

    def on_tick(self, now_us: int, view: Any) -> Orders | Sequence[Prewarm] | None:
        return self._user.on_tick(now_us, view)


def policy_of(policy: str | RulePolicy | Policy) -> tuple[RulePolicy, Policy | None]:
    """The policy as rules, and the user's Python policy that they ask, if it is one."""
    if isinstance(policy, str):
        from nonet.coldstart.simulating.policies import parse_policy

        return parse_policy(policy), None
    if isinstance(policy, RulePolicy):
        return policy, None
    if isinstance(policy, Policy):
        return _Asked(policy), policy
    raise InputError(f"{type(policy).__name__} is no policy: it needs on_arrival, on_idle and on_tick (see `Policy`)")


class _Coupled:
    """Drives the coupled engine: ticks, orders, questions to a Python policy, room in the tables."""

    def __init__(self, setup: Setup, policy: RulePolicy, user: Policy | None, record: str) -> None:
        state = building.build_state(setup, record_pods=record != "none", record_requests=record == "requests")
        self._view = EngineView(state)
        self._setup, self._policy, self._user = setup, policy, user
        self._next_tick_us = setup.start_us if policy.tick_us is not None else None
        if policy.tick_us is not None and policy.tick_us < 1:
            raise InputError(f"policy {policy.name!r}: tick_us must be at least 1, got {policy.tick_us}")
        self._base = 0

    def run(self, blocks: Iterator[Calls], progress: Progress | None) -> building.State:
        """All blocks, then what is left; the final state."""
        for block in blocks:
            if len(block):
                self._block(block)
                self._base += len(block)
            if progress is not None:
                progress(len(block))
        self._ticks_before(self._setup.end_us + 1, None, 0)
        self._advance(None, 0, self._setup.start_us + _AFTER_ALL_US, at.ARRIVAL)
        finish_window(self._view.state)
        return self._view.state

    def _block(self, block: Calls) -> None:
        check_block(block, self._setup)
        self._view.state = building.room_for_outcomes(self._view.state, self._base + len(block))
        self._view.state.nums[at.N_CURSOR] = 0
        last_us = int(block.arrive_us[-1])
        begin = self._ticks_before(last_us + 1, block, 0)
        self._calls(block, begin, len(block))

    def _ticks_before(self, until_us: int, block: Calls | None, begin: int) -> int:
        """Tick as long as ticks lie before `until_us`, with the calls before each; returns the first call left."""
        while self._next_tick_us is not None and self._next_tick_us < until_us:
            now = self._next_tick_us
            if block is not None:
                end = begin + int(np.searchsorted(block.arrive_us[begin:], now))
                self._calls(block, begin, end)
                begin = end
            self._advance(None, begin, now, at.TICK)
            self._tick(now)
            self._next_tick_us = now + int(self._policy.tick_us or 0)
        return begin

    def _calls(self, block: Calls, begin: int, end: int) -> None:
        if self._policy.tick_us is not None:
            self._view.saw(block.arrive_us[begin:end], block.function[begin:end], block.run_us[begin:end])
        if self._user is None:
            if end > begin:
                self._advance(block, end, int(block.arrive_us[end - 1]), at.READY)
            return
        for k in range(begin, end):
            now, f = int(block.arrive_us[k]), int(block.function[k])
            self._advance(None, k, now, at.PREWARM)
            self._view.now_us = now
            self._give(self._user.on_arrival(f, now, self._view))
            self._advance(block, k + 1, now, at.READY)

    def _kept_us(self, answer: Any) -> int:
        try:
            keep_us = int(answer)
        except (TypeError, ValueError, OverflowError):
            keep_us = -1
        if not 0 <= keep_us <= NEVER_US:
            raise InputError(f"policy {self._policy.name!r}: on_idle gave {answer!r}; give microseconds, 0 .. NEVER_US")
        return keep_us

    def _tick(self, now_us: int) -> None:
        view = self._view
        view.begin_tick(now_us)
        self._give(self._policy.on_tick(now_us, view))
        view.end_tick()

    def _give(self, orders: Orders | Sequence[Prewarm] | None) -> None:
        if orders is None or len(orders) == 0:
            return
        rows = orders if isinstance(orders, Orders) else Orders.of(orders)
        now, view = self._view.now_us, self._view
        if int(rows.function.min()) < 0 or int(rows.function.max()) >= len(self._setup.functions):
            raise InputError(f"policy {self._policy.name!r} ordered a pod of a function that is not there")
        view.state = building.room_for_orders(view.state, len(rows))
        for k in range(len(rows)):
            due = max(int(rows.at_us[k]), now)
            add_order(view.state, rows.function[k], due, int(rows.until_us[k]), int(rows.pods[k]), int(rows.hold[k]))

    def _advance(self, block: Calls | None, end: int, stop_us: int, stop_kind: int) -> None:
        """Run calls up to `end` of the block (none when None) and events before the stop, answering the kernel."""
        view, none = self._view, np.zeros(0, np.int64)
        if block is None:
            view.state.nums[at.N_CURSOR] = end
            arrive, run, function = none, none, none.astype(np.int32)
        else:
            arrive, run, function = block.arrive_us, block.run_us, block.function
        while True:
            answer = run_engine(view.state, arrive, run, function, end, self._base, stop_us, stop_kind)
            if answer == at.DONE:
                return
            if answer == at.GROW:
                view.state = building.enlarge(view.state)
                continue
            nums = view.state.nums
            view.now_us = int(nums[at.N_NOW])
            f = int(view.state.pods[nums[at.N_ASK_POD], at.P_FUNCTION])
            assert self._user is not None  # only its rule asks
            answer_idle(view.state, self._kept_us(self._user.on_idle(f, view.now_us, view)))


def check_block(block: Calls, setup: Setup) -> None:
    """Refuse calls outside of the window or of unknown functions; both would damage the state.

    Raises:
        InputError: where the block is wrong.
    """
    first, last = int(block.arrive_us[0]), int(block.arrive_us[-1])
    if first < setup.start_us or last > setup.end_us:
        raise InputError(
            f"calls at {first} .. {last} us lie outside of the window {setup.start_us} .. {setup.end_us} us"
        )
    if int(block.function.min()) < 0 or int(block.function.max()) >= len(setup.functions):
        raise InputError(f"a block names a function outside of 0 .. {len(setup.functions) - 1}")
