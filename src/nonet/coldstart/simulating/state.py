"""Building the arrays of an engine, enlarging them, and checking that they agree with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nonet.coldstart.simulating import layout as at
from nonet.coldstart.simulating.layout import State
from nonet.coldstart.simulating.platform import PICKS, SCALE_RULES, Pools
from nonet.coldstart.simulating.policies.base import NEVER_US, IdleRule, Rules, Setup
from nonet.common.errors import InputError

if TYPE_CHECKING:
    from nonet.coldstart.simulating.calls import ColdTimes

_FIRST_PODS, _FIRST_LOG = 256, 1024
_MAX_SAMPLES = 3_000_000
_LEAST = {
    "keep_alive_us": 0, "concurrency": 1, "deadline_us": 0, "delay_us": 0, "eviction_cost_us": 0, "slowdown": 0,
    "route": 0, "route_extra_us": 0,
}  # fmt: skip


def build_state(
    setup: Setup, *, record_pods: bool, record_requests: bool, thresholds: np.ndarray | None = None
) -> State:
    """The state before the first event.

    Raises:
        InputError: a rule of the policy has the wrong shape or an impossible value.
    """
    rules, functions, num = setup.rules, setup.functions, len(setup.functions)
    check_rules(rules, num)
    histogram = num if rules.idle_rule == IdleRule.HISTOGRAM else 0
    fn = _functions_table(setup)
    links = _links_table(rules, fn)
    pools, classes, ready = pool_tables(rules.pools, setup.start_us)
    if rules.pools is not None and num and int(functions.pool_class.max()) >= len(classes):
        raise InputError(
            f"a function is of pool class {int(functions.pool_class.max())}, there are {len(classes)} classes"
        )
    window_us = max(setup.end_us - setup.start_us, 0)
    nums = np.zeros(at.NUM_NUMS, np.int64)
    nums[at.N_SAMPLE] = sample_us(setup)
    state = State(
        nums=nums,
        clock=np.zeros(1),
        fn=fn,
        cost=np.ascontiguousarray(rules.eviction_cost_us, np.float64),
        slowdown=np.ascontiguousarray(rules.slowdown, np.float64),
        routes=_routes_table(rules, num),
        pods=np.zeros((0, at.NUM_POD), np.int64),
        priority=np.zeros(0),
        noted=np.zeros(0),
        events=np.zeros((0, at.NUM_EVENT), np.int64),
        flights=np.zeros((0, at.NUM_FLIGHT), np.int64),
        victims=np.zeros((0, at.NUM_VICTIM), np.int64),
        victim_priority=np.zeros(0),
        queue=np.zeros((0, at.NUM_QUEUE), np.int64),
        orders=np.zeros((0, at.NUM_ORDER), np.int64),
        log=np.zeros((0, at.NUM_LOG), np.int64),
        counts=np.zeros((at.NUM_COUNTS, at.NUM_BINS), np.int64),
        samples=np.zeros(window_us // int(nums[at.N_SAMPLE]) + 2, np.int64),
        course=np.zeros((2, window_us // at.MINUTE_US + 2), np.int64),
        bins=np.zeros((histogram, at.HISTOGRAM_BINS), np.int32),
        recent=np.zeros((histogram, at.RECENT_IDLE_TIMES), np.int64),
        cold=_cold_table(setup.cold_times),
        links=links,
        pools=pools,
        pool_classes=classes,
        pool_ready=ready,
        outcomes=np.zeros((0, 2), np.int64),
        thresholds=np.zeros(0, np.int64) if thresholds is None else thresholds,
        gaps=np.zeros((num, len(thresholds) + 1, 2) if thresholds is not None else (0, 0, 2), np.int64),
        last_gaps=np.zeros((num, len(thresholds)) if thresholds is not None else (0, 0), np.int64),
    )
    _settings(state, setup, record_pods, record_requests)
    return enlarge(state)


def sample_us(setup: Setup) -> int:
    """Distance of the moments at which pods are counted: 1 s, or minutes in windows of more than 34 days."""
    given = setup.platform.sample_us
    if given is not None:
        return given
    return 1_000_000 if (setup.end_us - setup.start_us) // 1_000_000 <= _MAX_SAMPLES else at.MINUTE_US


def check_rules(rules: Rules, num: int) -> None:
    """Refuse rules that the engine cannot follow.

    Raises:
        InputError: what is wrong with which rule.
    """
    for name, least in _LEAST.items():
        column = np.asarray(getattr(rules, name))
        if column.shape != (num,):
            raise InputError(f"policy: {name} has shape {column.shape}, there are {num} functions")
        if num and not (column.min() >= least and column.max() <= NEVER_US):
            raise InputError(f"policy: {name} must lie in {least} .. NEVER_US, got {column.min()} .. {column.max()}")
    if num and int(rules.route.max()) >= num:
        raise InputError(f"policy: a route leads to function {int(rules.route.max())}, there are {num}")
    if rules.memory_cap_mb is not None and rules.memory_cap_mb < 0:
        raise InputError(f"policy: memory_cap_mb must be at least 0, got {rules.memory_cap_mb}")


def _settings(state: State, setup: Setup, record_pods: bool, record_requests: bool) -> None:
    rules, nums = setup.rules, state.nums
    nums[at.N_START], nums[at.N_END] = setup.start_us, setup.end_us
    nums[at.N_SCALE] = SCALE_RULES.index(rules.scale_rule)
    nums[at.N_PICK] = PICKS.index(rules.pick)
    nums[at.N_IDLE_RULE], nums[at.N_EVICTION] = int(rules.idle_rule), int(rules.eviction)
    nums[at.N_CAP_MB] = -1 if rules.memory_cap_mb is None else rules.memory_cap_mb
    nums[at.N_OVERHEAD] = setup.platform.warm_overhead_us
    nums[at.N_SEED] = setup.seed
    nums[at.N_DELAY_AT] = rules.delay_threshold
    nums[at.N_RECORD_PODS], nums[at.N_RECORD_REQUESTS] = record_pods, record_requests
    nums[at.N_POOL_STAGES] = 0 if rules.pools is None else rules.pools.target.shape[1]
    set_margin(state)
    nums[at.N_MINUTE] = -1
    for head in (at.N_FREE_POD, at.N_FREE_QUEUE, at.N_FREE_ORDER, at.N_FREE_FLIGHT):
        nums[head] = at.NONE


def set_margin(state: State) -> None:
    """Room that one event or arrival may need in the tables of events and orders."""
    limits = int(state.fn[:, at.F_LIMIT].max(initial=1))
    links = int((state.fn[:, at.F_LINK_END] - state.fn[:, at.F_LINK_AT]).max(initial=0))
    state.nums[at.N_MARGIN] = limits + links + 8


def _functions_table(setup: Setup) -> np.ndarray:
    functions, rules, cold = setup.functions, setup.rules, setup.cold_times
    fn = np.zeros((len(functions), at.NUM_FN), np.int64)
    fn[:, at.F_MEMORY] = functions.memory_mb
    fn[:, at.F_LIMIT] = rules.concurrency
    fn[:, at.F_KEEP_ALIVE] = rules.keep_alive_us
    fn[:, at.F_DEADLINE] = rules.deadline_us
    fn[:, at.F_DELAY] = rules.delay_us
    fn[:, at.F_POOL] = functions.pool_class
    fn[:, at.F_COLD_AT], fn[:, at.F_COLD_END] = cold.at[:-1], cold.at[1:]
    fn[:, at.F_ACTIVE_SINCE] = setup.start_us
    for column in (
        at.F_QUEUE_HEAD, at.F_QUEUE_TAIL, at.F_FIRST, at.F_LAST, at.F_FREE_FIRST, at.F_FREE_LAST, at.F_LAST_ARRIVE,
        at.F_LAST_END, at.F_PREWARM_AT, at.F_FLIGHT,
    ):  # fmt: skip
        fn[:, column] = at.NONE
    return fn


def _routes_table(rules: Rules, num: int) -> np.ndarray:
    if (rules.route == np.arange(num)).all() and not rules.route_extra_us.any():
        return np.zeros((0, 2), np.int64)
    return np.ascontiguousarray(np.column_stack([rules.route, rules.route_extra_us]), np.int64)


def _links_table(rules: Rules, fn: np.ndarray) -> np.ndarray:
    if rules.chains is None:
        return np.zeros((0, 3), np.int64)
    chains = rules.chains
    fn[:, at.F_LINK_AT], fn[:, at.F_LINK_END] = chains.at[:-1], chains.at[1:]
    return np.column_stack([chains.next, chains.delay_us, chains.hold_us]).astype(np.int64)


def _cold_table(cold: ColdTimes) -> np.ndarray:
    return np.ascontiguousarray(np.column_stack([cold.allocation_us, cold.rest_us]), np.int64)


def pool_tables(pools: Pools | None, start_us: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tables of full pools: stages (classes * stages, NUM_STAGE), classes (classes, 3), ready times of all pods."""
    if pools is None:
        return np.zeros((0, at.NUM_STAGE), np.int64), np.zeros((0, 3), np.int64), np.zeros(0, np.int64)
    size = pools.target.ravel()
    stages = np.zeros((len(size), at.NUM_STAGE), np.int64)
    stages[:, at.S_AT] = np.cumsum(size) - size
    stages[:, at.S_SIZE] = size
    stages[:, at.S_LATENCY] = pools.latency_us.ravel()
    classes = np.column_stack([pools.scratch_us, pools.replenish_us, np.zeros_like(pools.scratch_us)])
    return stages, np.ascontiguousarray(classes), np.full(int(size.sum()), start_us, np.int64)


def resize_pools(state: State, target: np.ndarray, now_us: int) -> State:
    """The state with other pool sizes, int64 (classes, stages); see `TickView.set_pool_targets`."""
    stages = state.pools.copy()
    target = np.asarray(target, np.int64).ravel()
    if target.shape != (len(stages),) or (len(target) and int(target.min()) < 0):
        raise InputError(f"pool targets must be {len(stages)} sizes of at least 0, got shape {target.shape}")
    num_stages = int(state.nums[at.N_POOL_STAGES])
    rings = []
    for row, size in enumerate(target):
        first, old, head = (int(stages[row, c]) for c in (at.S_AT, at.S_SIZE, at.S_HEAD))
        ring = np.roll(state.pool_ready[first : first + old], -head)
        stages[row, at.S_IDLE_US] += int(np.maximum(now_us - ring[int(size) :], 0).sum())
        added = now_us + int(state.pool_classes[row // num_stages, at.C_REPLENISH])
        rings.append(np.append(ring, np.full(max(int(size) - old, 0), added, np.int64))[: int(size)])
    stages[:, at.S_SIZE], stages[:, at.S_HEAD] = target, 0
    stages[:, at.S_AT] = np.cumsum(target) - target
    return state._replace(pools=stages, pool_ready=np.concatenate([*rings, np.zeros(0, np.int64)]))


def enlarge(state: State) -> State:
    """The state with more room wherever an event or arrival could lack it."""
    nums = state.nums
    margin, need = int(nums[at.N_MARGIN]), int(nums[at.N_NEED_PODS])
    changes: dict[str, np.ndarray] = {}
    if nums[at.N_FREE_PODS] < 1 + need:
        changes["pods"] = _free_rows(state.pods, nums, at.N_FREE_POD, at.N_FREE_PODS, at.P_NEXT, need + _FIRST_PODS)
        num = len(changes["pods"])
        changes["pods"][len(state.pods) :, [at.P_EXPIRE_AT, at.P_VICTIM_ORDER]] = at.NEVER, at.NONE
        for name in ("priority", "noted"):
            changes[name] = _longer(getattr(state, name), num)
        changes["victims"] = _longer(state.victims, 2 * num)
        changes["victim_priority"] = _longer(state.victim_priority, 2 * num)
    if len(state.events) - nums[at.N_EVENTS] < margin + need:
        changes["events"] = _longer(state.events, 2 * len(state.events) + margin + need + _FIRST_PODS)
    if nums[at.N_FREE_QUEUES] < 1:
        changes["queue"] = _free_rows(state.queue, nums, at.N_FREE_QUEUE, at.N_FREE_QUEUES, at.Q_NEXT, _FIRST_PODS)
    if nums[at.N_FREE_ORDERS] < margin:
        changes["orders"] = _free_rows(state.orders, nums, at.N_FREE_ORDER, at.N_FREE_ORDERS, at.O_NEXT, 2 * margin)
    if nums[at.N_FREE_FLIGHTS] < 1:
        changes["flights"] = _free_rows(
            state.flights, nums, at.N_FREE_FLIGHT, at.N_FREE_FLIGHTS, at.X_SIBLING, _FIRST_PODS
        )
    if nums[at.N_RECORD_PODS] and len(state.log) - nums[at.N_LOG] < 1 + need:
        changes["log"] = _longer(state.log, 2 * len(state.log) + need + _FIRST_LOG)
    return state._replace(**changes)


def room_for_orders(state: State, num: int) -> State:
    """The state with room for `num` more orders and their events."""
    nums = state.nums
    changes: dict[str, np.ndarray] = {}
    if nums[at.N_FREE_ORDERS] < num:
        changes["orders"] = _free_rows(state.orders, nums, at.N_FREE_ORDER, at.N_FREE_ORDERS, at.O_NEXT, num)
    if len(state.events) - nums[at.N_EVENTS] < num:
        changes["events"] = _longer(state.events, 2 * len(state.events) + num)
    return state._replace(**changes) if changes else state


def room_for_outcomes(state: State, num: int) -> State:
    """The state with room for the outcomes of `num` requests."""
    if not state.nums[at.N_RECORD_REQUESTS] or num <= len(state.outcomes):
        return state
    return state._replace(outcomes=_longer(state.outcomes, max(num, 2 * len(state.outcomes))))


def _longer(old: np.ndarray, num: int) -> np.ndarray:
    new = np.zeros((num, *old.shape[1:]), old.dtype)
    new[: len(old)] = old
    return new


def _free_rows(table: np.ndarray, nums: np.ndarray, head: int, count: int, link: int, least: int) -> np.ndarray:
    """A table of twice the size (and `least` more), its new rows at the head of the list of free rows."""
    old = len(table)
    new = _longer(table, 2 * old + least)
    new[old:, link] = np.arange(old + 1, len(new) + 1)
    new[-1, link] = nums[head]
    nums[head] = old
    nums[count] += len(new) - old
    return new


def check_integrity(state: State) -> None:
    """Compare counters and lists with the pods that are there; for tests.

    Raises:
        RuntimeError: they disagree; the message says where.
    """
    nums, fn, pods = state.nums, state.fn, state.pods
    live = pods[pods[:, at.P_STATE] != at.FREE]
    used = int(fn[live[:, at.P_FUNCTION], at.F_MEMORY].sum())
    idle = live[live[:, at.P_STATE] == at.IDLE]
    _agree("used memory", used, nums[at.N_USED_MB])
    _agree("idle memory", int(fn[idle[:, at.P_FUNCTION], at.F_MEMORY].sum()), nums[at.N_IDLE_MB])
    _agree("free pods", len(pods) - len(live), nums[at.N_FREE_PODS])
    keys = state.events[: nums[at.N_EVENTS], at.E_KEY]
    above = (np.arange(1, len(keys)) - 1) // 2
    _agree("events out of order", int((keys[above] > keys[1:]).sum()) if len(keys) else 0, 0)
    for f in range(len(fn)):
        own = live[live[:, at.P_FUNCTION] == f]
        ready = own[own[:, at.P_STATE] != at.STARTING]
        _agree(f"live pods of {f}", len(own), fn[f, at.F_LIVE])
        _agree(f"uses of {f}", int(own[:, at.P_USES].sum()), fn[f, at.F_USES])
        _agree(f"list of pods of {f}", _length(pods, fn[f, at.F_FIRST], at.P_NEXT), len(own))
        free = int((ready[:, at.P_INFLIGHT] < fn[f, at.F_LIMIT]).sum())
        _agree(f"list of free pods of {f}", _length(pods, fn[f, at.F_FREE_FIRST], at.P_FREE_NEXT), free)
        bound = int(((own[:, at.P_STATE] == at.STARTING) & (own[:, at.P_INDEX] != at.NONE)).sum())
        _agree(f"in flight of {f}", int(ready[:, at.P_INFLIGHT].sum()) + bound, fn[f, at.F_IN_FLIGHT])


def _length(pods: np.ndarray, first: Any, column: int) -> int:
    length, pod = 0, int(first)
    while pod != at.NONE and length <= len(pods):
        length, pod = length + 1, int(pods[pod, column])
    return length


def _agree(what: str, found: int, counted: Any) -> None:
    if found != int(counted):
        raise RuntimeError(f"engine state: {what}: {found} there, {int(counted)} counted")
