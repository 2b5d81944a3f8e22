"""Runs the lanes: which policies they serve, blocks through them, shards in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from nonet.coldstart.simulating import layout as at
from nonet.coldstart.simulating import state as building
from nonet.coldstart.simulating._lane_kernels import finish_lanes, run_lanes_kernel
from nonet.coldstart.simulating.calls import Calls, Workload
from nonet.coldstart.simulating.layout import State
from nonet.coldstart.simulating.policies.base import IdleRule, Setup
from nonet.common.parallel import parallel_map


def can_use_lanes(setup: Setup) -> bool:
    """Whether functions do not touch each other under these rules, and the rules are those that lanes know."""
    rules = setup.rules
    return (
        rules.idle_rule == IdleRule.FIXED
        and rules.scale_rule == "start"
        and rules.memory_cap_mb is None
        and rules.pools is None
        and rules.chains is None
        and not (rules.delay_us > 0).any()
        and not (rules.slowdown > 0).any()
        and not rules.route_extra_us.any()
        and bool((rules.route == np.arange(len(rules.route))).all())
    )


def run_lanes(
    workload: Workload, setup: Setup, shards: int, record: str, progress: Callable[[int], None] | None
) -> list[State]:
    """Final states, one a shard. Outcomes are recorded in one shard, since only there requests are numbered."""
    from nonet.coldstart.simulating.engine import check_block

    num = 1 if record == "requests" else max(min(shards, len(setup.functions)), 1)

    def one(shard: int) -> State:
        state = building.build_state(setup, record_pods=record != "none", record_requests=record == "requests")
        # Where nothing is saved by making fewer calls, the kernel passes over those of other shards.
        divided = num > 1 and type(workload).by_function is not Workload.by_function
        blocks: Iterator[Calls] = workload.by_function(shard, num) if divided else workload.blocks()
        base = 0
        for block in blocks:
            if len(block):
                check_block(block, setup)
                state = _run_block(building.room_for_outcomes(state, base + len(block)), block, base, shard, num)
                base += len(block)
            if progress is not None:
                progress(len(block))
        finish_lanes(state)
        return state

    if num == 1:
        return [one(0)]
    done = dict(parallel_map(one, range(num), workers=num, engine="threads"))
    return [done[shard] for shard in range(num)]


def _run_block(state: State, block: Calls, base: int, shard: int, num_shards: int) -> State:
    state.nums[at.N_CURSOR] = 0
    columns = (block.arrive_us, block.run_us, block.function)
    while run_lanes_kernel(state, *columns, base, shard, num_shards) == at.GROW:
        state = building.enlarge(state)
    return state
