"""The state of the event loop as structured arrays: what a server, an instance and a pool are at one moment.

Times are seconds since the start, powers watts at the wall socket, `tokens` the virtual token counter of an instance:
how many decode steps it has made. A request that joins a batch at counter v and has n tokens to decode is done at
v + n, whatever the batch size and the clock do in between; that is what makes the work exact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NONE = -1
REACHED, OUTSIDE = 0, 1
"""Why the kernel came back: it reached its time limit, or a sample was outside the bounds."""

INSTANCE = np.dtype(
    [
        ("anchor_s", "f8"),  # when `tokens` and `prefill_left_s` were right
        ("tokens", "f8"),
        ("token_rate", "f8"),  # decode steps per second
        ("next_target", "f8"),  # smallest target among the decoding slots
        ("prefill_left_s", "f8"),  # of the prompt at work, in seconds at level 1
        ("prefill_rate", "f8"),  # seconds at level 1 per second
        ("prefill_gpu_w", "f8"),  # of the prompt at work, per GPU at level 1
        ("idle_w", "f8"),  # power now, by phase; the three sum up to the instance's power
        ("prefill_w", "f8"),
        ("decode_w", "f8"),
        ("tokens_done", "f8"),  # of all slots together
        ("prefill_done_s", "f8"),  # seconds at level 1
        ("outside_s", "f8"),  # decoding with a batch that was never measured
        ("server", "i4"),
        ("batch", "i4"),  # decoding slots
        ("current", "i4"),  # request whose prompt is at work, or NONE
        ("waiting", "i4"),  # requests with a slot whose prompt has to wait
        ("wait_head", "i4"),
        ("load", "i4"),  # slots taken: decoding + waiting + at work
        ("previous", "i4"),  # neighbours in the ring of instances with the same load
        ("next", "i4"),
        ("prefill_is_next", "i4"),
        ("slots", "i4"),
    ],
    align=True,
)

SERVER = np.dtype(
    [
        ("level", "f8"),
        ("prefill_speed", "f8"),  # at this level, over that at level 1
        ("prefill_power", "f8"),
        ("decode_speed", "f8"),
        ("decode_power", "f8"),
        ("wall_w_per_gpu_w", "f8"),  # of one instance: GPUs of the instance x wall watts per GPU watt
        ("idle_gpu_w", "f8"),
        ("idle_j", "f8"),
        ("prefill_j", "f8"),
        ("decode_j", "f8"),
        ("first_instance", "i4"),
        ("num_instances", "i4"),
        ("profile", "i4"),
        ("pool", "i4"),
        ("group", "i4"),  # servers below the same nodes of the power tree
        ("min_batch", "i4"),  # measured
        ("max_batch", "i4"),
    ],
    align=True,
)

POOL = np.dtype(
    [
        ("head", "i8"),  # into `order`: the next request to get a slot
        ("tail", "i8"),  # and one behind the last that arrived
        ("min_load", "i4"),
        ("max_load", "i4"),
        ("first_ring", "i4"),
    ],
    align=True,
)

CLOCK = np.dtype(
    [
        ("row_w", "f8"),
        ("row_since_s", "f8"),
        ("tick_j", "f8"),  # of the row, since the last tick
        ("total_j", "f8"),  # of the row, up to the last tick
        ("period_s", "f8"),
        ("prefill_share", "f8"),
        ("base_w", "f8"),  # of the row: what no instance draws
        ("cursor", "i8"),  # the next request to arrive
        ("tick", "i8"),  # ticks done
        ("lag_ticks", "i8"),  # age of the newest sample that a policy can see
        ("events", "i8"),
        ("num_done", "i8"),
        ("leaves", "i8"),
    ],
    align=True,
)


class Arrays(NamedTuple):
    """Everything the kernel works on.

    Requests (n): `arrival_s`, `prompt_row` (of the prefill tables), `output_tokens`, `pool_of`; results
    `first_token_s`, `finish_s` (NaN until then); `order`: request indices, those of pool 0 first.
    Instances (k): `slot_target`, `slot_request` (k, slots), the ring `waiting` (k, slots), `tree`: a tournament of the
    next event times, leaves at [leaves:]; `rings`: heads of the rings of instances by pool and load.
    Profiles (p): `prefill_s`, `prefill_gpu_w` (p, rows), `decode_s`, `decode_gpu_w` (p, largest batch + 1).
    Power tree: `group_w`, `group_j`, `group_since_s` (groups), `node_groups` (nodes, groups), `node_budget_w` (nodes
    + 1, the last is the row's). By tick: `row_w`, `seen_w`, `node_w` (nodes, ticks).
    """

    clock: NDArray[np.void]
    servers: NDArray[np.void]
    instances: NDArray[np.void]
    pools: NDArray[np.void]
    rings: NDArray[np.int32]
    tree: NDArray[np.float64]
    arrival_s: NDArray[np.float64]
    prompt_row: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    pool_of: NDArray[np.int8]
    order: NDArray[np.int32]
    first_token_s: NDArray[np.float64]
    finish_s: NDArray[np.float64]
    slot_target: NDArray[np.float64]
    slot_request: NDArray[np.int32]
    waiting: NDArray[np.int32]
    prefill_s: NDArray[np.float64]
    prefill_gpu_w: NDArray[np.float64]
    decode_s: NDArray[np.float64]
    decode_gpu_w: NDArray[np.float64]
    group_w: NDArray[np.float64]
    group_j: NDArray[np.float64]
    group_since_s: NDArray[np.float64]
    node_groups: NDArray[np.bool_]
    node_budget_w: NDArray[np.float64]
    row_w: NDArray[np.float32]
    seen_w: NDArray[np.float32]
    node_w: NDArray[np.float32]
