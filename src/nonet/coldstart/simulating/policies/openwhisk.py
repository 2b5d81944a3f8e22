"""OpenWhisk: idle containers go after ten minutes, stem cells wait for functions of their kind and memory.

A call takes a warm container of its function, else a stem cell that matches its kind (runtime) and memory exactly,
else it starts cold. A taken stem cell is replaced at once, in the time that a container takes. With reactive settings
the number of stem cells follows the cold starts of the last minute: `cold // threshold * increment`, between the
minimum and the maximum; it falls when the last rise is older than the time to live.

Source: apache/openwhisk, ContainerPool (Apache-2.0), restated; #5143 (ten minutes), #4871 (reactive); specification
A6.10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nonet.coldstart.simulating.calls import ColdTimes, Functions
from nonet.coldstart.simulating.platform import Pools
from nonet.coldstart.simulating.policies import register
from nonet.coldstart.simulating.policies.base import RulePolicy, Setup, TickView
from nonet.common.errors import InputError

MINUTE_US = 60_000_000
IDLE_US = 10 * MINUTE_US


@dataclass(frozen=True, slots=True)
class StemCell:
    """Stem cells of one kind and memory, as in OpenWhisk's `runtimes.json`; the numbers are its example's.

    Attributes:
        kind, memory_mb: what they match, exactly.
        initial_count: how many at the start.
        min_count, max_count, ttl_us, threshold, increment: the `reactive` settings; `max_count` 0 = not reactive.
    """

    kind: str
    memory_mb: int
    initial_count: int = 2
    min_count: int = 1
    max_count: int = 4
    ttl_us: int = 2 * MINUTE_US
    threshold: int = 1
    increment: int = 1

    def __post_init__(self) -> None:
        if self.initial_count < 0 or self.min_count < 0 or self.threshold < 1 or self.increment < 1 or self.ttl_us < 0:
            raise InputError(
                f"stem cell {self.kind}, {self.memory_mb} MB: expected counts, ttl >= 0; threshold, increment >= 1"
            )
        if self.max_count and self.max_count < self.min_count:
            raise InputError(f"stem cell {self.kind}, {self.memory_mb} MB: max_count is below min_count")


class OpenWhisk(RulePolicy):
    """Idle deletion and stem cells.

    Args:
        stem_cells: settings; None = OpenWhisk's example for every pair of kind and memory among the functions, () =
            none.
        idle_us: idle time after which a container is deleted.
        stem_us: time to take a stem cell; code still has to be loaded, as for a cold start.
    """

    def __init__(self, stem_cells: Sequence[StemCell] | None = None, idle_us: int = IDLE_US, stem_us: int = 0) -> None:
        self.name = "openwhisk"
        self.idle_us, self.stem_us, self._given = idle_us, stem_us, stem_cells
        self.tick_us = None if stem_cells is not None and not len(stem_cells) else MINUTE_US
        self.cells: list[StemCell] = []

    def prepare(self, setup: Setup) -> None:
        """See `RulePolicy.prepare`."""
        rules = setup.rules
        rules.keep_alive_us[:] = self.idle_us
        self.cells = _every_pair(setup.functions) if self._given is None else list(self._given)
        number = {(cell.kind, cell.memory_mb): k for k, cell in enumerate(self.cells)}
        pairs = zip(setup.functions.runtime, setup.functions.memory_mb.tolist(), strict=True)
        pool_class = np.array([number.get(pair, -1) for pair in pairs], np.int32)
        setup.functions = replace(setup.functions, pool_class=pool_class)
        rules.pools = _pools(self.cells, self.stem_us, pool_class, setup.cold_times) if self.cells else None
        self._target = np.array([[cell.initial_count] for cell in self.cells], np.int64).reshape(-1, 1)
        self._missed = np.zeros(len(self.cells), np.int64)
        self._raised_us = np.full(len(self.cells), setup.start_us, np.int64)
        self._start_us = setup.start_us

    def on_tick(self, now_us: int, view: TickView) -> None:
        """Set the number of reactive stem cells from the cold starts of the last minute."""
        if now_us == self._start_us or not self.cells:
            return
        missed = view.pool_taken()[:, -1]
        for k, cell in enumerate(self.cells):
            if cell.max_count:
                self._react(k, cell, int(missed[k] - self._missed[k]), now_us)
        self._missed = missed.copy()
        view.set_pool_targets(self._target)

    def _react(self, k: int, cell: StemCell, cold: int, now_us: int) -> None:
        desired = min(max(cell.min_count, cold // cell.threshold * cell.increment), cell.max_count)
        if desired >= self._target[k, 0]:
            self._target[k, 0], self._raised_us[k] = desired, now_us
        elif now_us - self._raised_us[k] >= cell.ttl_us:
            self._target[k, 0] = desired


def _every_pair(functions: Functions) -> list[StemCell]:
    pairs = zip(functions.runtime, functions.memory_mb.tolist(), strict=True)
    return [StemCell(kind, memory_mb) for kind, memory_mb in sorted(set(pairs))]


def _pools(cells: Sequence[StemCell], stem_us: int, pool_class: np.ndarray, cold_times: ColdTimes) -> Pools:
    """One stage a cell; from scratch a container takes the mean allocation of the functions that the cell matches."""
    mean_us = np.add.reduceat(cold_times.allocation_us, cold_times.at[:-1]) / np.diff(cold_times.at)
    scratch_us = [int(mean_us[pool_class == k].mean()) if np.any(pool_class == k) else 0 for k in range(len(cells))]
    return Pools(
        target=[[cell.initial_count] for cell in cells],
        latency_us=[[stem_us]] * len(cells),
        scratch_us=scratch_us,
        replenish_us=scratch_us,
        names=[f"{cell.kind}/{cell.memory_mb}" for cell in cells],
        memory_mb=[cell.memory_mb for cell in cells],
    )


@register("openwhisk", "idle containers for ten minutes, stem cells by kind and memory; value: none", "openwhisk")
def _make(text: str) -> RulePolicy:
    if text not in ("", "none"):
        raise InputError(f"openwhisk: {text!r}: expected nothing, or none for no stem cells")
    return OpenWhisk(() if text == "none" else None)
