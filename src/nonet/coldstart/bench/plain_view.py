"""What policies see of the plain simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class PlainView:
    """A `TickView` that counts everything anew whenever it is asked."""

    def __init__(self, simulator: Any) -> None:
        self._s = simulator
        self.now_us = self.last_us = simulator.start_us
        self.arrive_us, self.function, self.run_us = np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64)

    def begin_tick(self, now_us: int) -> None:
        """The calls since the last tick."""
        since = [r for r in self._s.calls if self.last_us <= r.arrive_us < now_us]
        self.now_us = now_us
        self.arrive_us = np.array([r.arrive_us for r in since], np.int64)
        self.function = np.array([r.called for r in since], np.int32)
        self.run_us = np.array([r.run_us for r in since], np.int64)

    def _each(self, value: Callable[[int], int]) -> np.ndarray:
        return np.array([value(f) for f in range(len(self._s.memory))], np.int64)

    def _pods(self, chosen: Callable[[Any], bool]) -> np.ndarray:
        return self._each(lambda f: sum(map(chosen, self._s.live(f))))

    @property
    def keep_alive_us(self) -> np.ndarray:
        """See `TickView`."""
        return self._s.keep

    @property
    def num_requests(self) -> np.ndarray:
        """See `TickView`."""
        return self._each(lambda f: self._s.arrived[f])

    @property
    def num_started(self) -> np.ndarray:
        """See `TickView`."""
        return self._each(lambda f: self._s.cold_at[f])

    @property
    def in_flight(self) -> np.ndarray:
        """See `TickView`."""
        return self._each(lambda f: self._s.active(f) - len(self._s.queue[f]) - self._s.put_off[f])

    @property
    def queued(self) -> np.ndarray:
        """See `TickView`."""
        return self._each(lambda f: len(self._s.queue[f]))

    @property
    def live_pods(self) -> np.ndarray:
        """See `TickView`."""
        return self._pods(lambda p: True)

    @property
    def starting_pods(self) -> np.ndarray:
        """See `TickView`."""
        return self._pods(lambda p: not p.up)

    @property
    def idle_pods(self) -> np.ndarray:
        """See `TickView`."""
        return self._pods(lambda p: p.idle)

    @property
    def concurrency_us(self) -> np.ndarray:
        """See `TickView`."""
        return np.array(self._s.active_us, np.int64)

    @property
    def last_arrive_us(self) -> np.ndarray:
        """See `TickView`."""
        return np.array(self._s.last_arrive, np.int64)

    @property
    def last_end_us(self) -> np.ndarray:
        """See `TickView`."""
        return np.array(self._s.last_end, np.int64)

    @property
    def used_memory_mb(self) -> int:
        """See `TickView`."""
        return self._s.used()

    def pool_stock(self) -> np.ndarray:
        """See `TickView`."""
        return np.array([[sum(t <= self.now_us for t in stage) for stage in row] for row in self._s.stock], np.int64)

    def pool_taken(self) -> np.ndarray:
        """See `TickView`."""
        return np.array(self._s.taken, np.int64)

    def set_pool_targets(self, target: np.ndarray) -> None:
        """See `TickView`."""
        s = self._s
        assert s.rules.pools is not None
        for c, sizes in enumerate(np.asarray(target).reshape(len(s.stock), -1).tolist()):
            for stage, size in enumerate(sizes):
                times = sorted(s.stock[c][stage])
                new = [self.now_us + int(s.rules.pools.replenish_us[c])] * max(size - len(times), 0)
                s.pool_idle_us[c][stage] += sum(max(self.now_us - t, 0) for t in times[size:])
                s.stock[c][stage] = (times + new)[:size]

    def set_concurrency(self, concurrency: np.ndarray) -> None:
        """See `TickView`."""
        s = self._s
        for f, limit in enumerate(concurrency):
            for pod in s.live(f) if limit != s.limit[f] else ():
                if pod.up and s.limit[f] <= pod.inflight < limit:
                    pod.seen = next(s.numbers)
            s.limit[f] = limit
