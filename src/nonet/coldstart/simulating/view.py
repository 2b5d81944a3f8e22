"""The state of an engine as policies see it; `TickView` in policies/base.py documents it."""

from __future__ import annotations

import numpy as np

from nonet.coldstart.simulating import layout as at
from nonet.coldstart.simulating._engine_kernels import bring_active_to, change_limits
from nonet.coldstart.simulating.layout import State
from nonet.coldstart.simulating.state import resize_pools, set_margin
from nonet.common.errors import InputError

_NO_TIMES = np.zeros(0, np.int64)
_NO_FUNCTIONS = np.zeros(0, np.int32)


class EngineView:
    """A `TickView` of one engine. It holds the engine's state and gives it back changed (`state`)."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.now_us = self.last_us = int(state.nums[at.N_START])
        self.arrive_us, self.function, self.run_us = _NO_TIMES, _NO_FUNCTIONS, _NO_TIMES
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def saw(self, arrive_us: np.ndarray, function: np.ndarray, run_us: np.ndarray) -> None:
        """Calls that a coming tick will be told of."""
        if len(arrive_us):
            self._parts.append((arrive_us, function, run_us))

    def begin_tick(self, now_us: int) -> None:
        """Move to a tick: gather the calls, bring integrals up to now."""
        self.now_us = now_us
        if self._parts:
            columns = [
                np.concatenate(column) if len(column) > 1 else column[0] for column in zip(*self._parts, strict=True)
            ]
            self.arrive_us, self.function, self.run_us = columns
        else:
            self.arrive_us, self.function, self.run_us = _NO_TIMES, _NO_FUNCTIONS, _NO_TIMES
        self._parts.clear()
        bring_active_to(self.state, now_us)

    def end_tick(self) -> None:
        """The tick is over."""
        self.last_us = self.now_us

    @property
    def keep_alive_us(self) -> np.ndarray:
        """See `TickView`."""
        return self.state.fn[:, at.F_KEEP_ALIVE]

    @property
    def num_requests(self) -> np.ndarray:
        """See `TickView`."""
        return self.state.fn[:, at.F_REQUESTS]

    @property
    def num_started(self) -> np.ndarray:
        """See `TickView`."""
        return self.state.fn[:, at.F_PODS]

    @property
    def in_flight(self) -> np.ndarray:
        """See `TickView`."""
        return self.state.fn[:, at.F_IN_FLIGHT]

    @property
    def queued(self) -> np.ndarray:
        """See `TickView`."""
        return self.state.fn[:, at.F_QUEUED]

    @property
    def live_pods(self) -> np.ndarray:
        """See `TickView`."""
        return self.state.fn[:, at.F_LIVE]

    @property
    def starting_pods(self) -> np.ndarray:
        """See `TickView`."""
        return self.state.fn[:, at.F_STARTING]

    @property
    def idle_pods(self) -> np.ndarray:
        """See `TickView`."""
        return self.state.fn[:, at.F_IDLE]

    @property
    def concurrency_us(self) -> np.ndarray:
        """See `TickView`."""
        return self.state.fn[:, at.F_ACTIVE_US]

    @property
    def last_arrive_us(self) -> np.ndarray:
        """See `TickView`."""
        return self.state.fn[:, at.F_LAST_ARRIVE]

    @property
    def last_end_us(self) -> np.ndarray:
        """See `TickView`."""
        return self.state.fn[:, at.F_LAST_END]

    @property
    def used_memory_mb(self) -> int:
        """See `TickView`."""
        return int(self.state.nums[at.N_USED_MB])

    def pool_stock(self) -> np.ndarray:
        """See `TickView`."""
        counts = [int((_ready_us(self.state, row) <= self.now_us).sum()) for row in self.state.pools]
        return np.array(counts, np.int64).reshape(len(self.state.pool_classes), int(self.state.nums[at.N_POOL_STAGES]))

    def pool_taken(self) -> np.ndarray:
        """See `TickView`."""
        return pool_taken(self.state)

    def set_pool_targets(self, target: np.ndarray) -> None:
        """See `TickView`."""
        self.state = resize_pools(self.state, target, self.now_us)

    def set_concurrency(self, concurrency: np.ndarray) -> None:
        """See `TickView`."""
        limits = np.ascontiguousarray(concurrency, np.int64)
        if limits.shape != (len(self.state.fn),) or (len(limits) and int(limits.min()) < 1):
            raise InputError(f"policy: concurrency must be {len(self.state.fn)} values of at least 1")
        change_limits(self.state, limits)
        set_margin(self.state)


def pool_idle_us(state: State) -> np.ndarray:
    """Time within the window that pods of each stage of each class were ready and waited, int64 (classes, stages)."""
    stages, end_us = state.pools, int(state.nums[at.N_END])
    waiting = [np.maximum(end_us - _ready_us(state, row), 0).sum() for row in stages]
    idle = stages[:, at.S_IDLE_US] + np.array(waiting, np.int64)
    return idle.reshape(len(state.pool_classes), int(state.nums[at.N_POOL_STAGES]))


def _ready_us(state: State, row: np.ndarray) -> np.ndarray:
    """When each pod of a stage is ready."""
    return state.pool_ready[row[at.S_AT] : row[at.S_AT] + row[at.S_SIZE]]


def pool_taken(state: State) -> np.ndarray:
    """Pods taken from each stage of each class, and made from scratch, int64 (classes, stages + 1)."""
    classes = len(state.pool_classes)
    taken = state.pools[:, at.S_TAKEN].reshape(classes, int(state.nums[at.N_POOL_STAGES]))
    return np.column_stack([taken, state.pool_classes[:, at.C_SCRATCH_TAKEN]])
