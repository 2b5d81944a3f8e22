"""Several regions as one workload: every function exists in every region, and a route says where its calls are served.

Function g of the combined list served in region r is the virtual function `r * G + g`, with G functions in all. Calls
arrive under their home, `home * G + g`. Served elsewhere, a function's cold starts are its own, scaled by how the
mean cold start of that region compares with the home's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nonet.coldstart.simulating.calls import Calls, ColdTimes, Functions, Workload
from nonet.common.errors import InputError


@dataclass(frozen=True)
class Regions:
    """Distances and sizes of R regions.

    Args:
        names: R names, as in the trace.
        rtt_us: int64 (R, R), round trip from row to column, diagonal 0.
        capacity: float64 (R,), pods that a region holds at most, on average; infinity = no limit.

    Raises:
        InputError: shapes that do not fit, a negative round trip or capacity.

    >>> Regions(["R1", "R3"], [[0, 40_000], [40_000, 0]]).capacity.tolist()
    [inf, inf]
    """

    names: Sequence[str]
    rtt_us: Any
    capacity: Any = None

    def __post_init__(self) -> None:
        num = len(self.names)
        object.__setattr__(self, "rtt_us", np.asarray(self.rtt_us, np.int64))
        capacity = np.full(num, np.inf) if self.capacity is None else np.asarray(self.capacity, np.float64)
        object.__setattr__(self, "capacity", capacity)
        if self.rtt_us.shape != (num, num) or capacity.shape != (num,):
            raise InputError(f"regions: {num} names need rtt_us ({num}, {num}) and capacity ({num},)")
        if np.any(self.rtt_us < 0) or np.any(np.diag(self.rtt_us)) or np.any(capacity < 0):
            raise InputError("regions: rtt_us and capacity must not be negative, and the diagonal of rtt_us must be 0")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def equidistant(cls, names: Sequence[str], rtt_us: int, capacity: Any = None) -> Regions:
        """Regions with the same round trip between any two of them.

        >>> Regions.equidistant(["R1", "R2", "R3"], 100_000).rtt_us[0].tolist()
        [0, 100000, 100000]
        """
        return cls(names, rtt_us * (1 - np.eye(len(names), dtype=np.int64)), capacity)


class CombinedWorkload(Workload):
    """The workloads of several regions under virtual functions; the windows must agree.

    Attributes:
        regions: see there.
        home: int64 (G,), the home region of each function.
        num_functions: G.
        num_classes: C, pool classes of a region.

    Every region has pools of its own: pool class c in region r is row `r * C + c`. Classes of different homes are the
    same one when their functions have the same CPU and memory.

    Memory: one block of every region.

    Raises:
        InputError: windows or numbers that do not agree.
    """

    def __init__(self, workloads: Sequence[Workload], regions: Regions) -> None:
        if len(workloads) != len(regions) or not workloads:
            raise InputError(
                f"combined workload: {len(workloads)} workloads for {len(regions)} regions; give one a region"
            )
        windows = {(workload.start_us, workload.end_us) for workload in workloads}
        if len(windows) != 1:
            raise InputError(f"combined workload: the windows of the regions differ: {sorted(windows)}; cut them alike")
        self.regions, self._workloads = regions, list(workloads)
        self.start_us, self.end_us = windows.pop()
        sizes = [len(workload.functions) for workload in workloads]
        self.num_functions = sum(sizes)
        self.home = np.repeat(np.arange(len(workloads)), sizes)
        self._offset = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        self._pool_class, self.num_classes = _common_classes([workload.functions for workload in workloads])
        self.functions = self._virtual_functions()
        self.cold_times = self._virtual_cold_times()

    def blocks(self) -> Iterator[Calls]:
        """See `Workload.blocks`."""
        streams = [iter(self._renamed(region)) for region in range(len(self.regions))]
        held: list[Calls | None] = [next(stream, None) for stream in streams]
        while any(block is not None for block in held):
            until_us = min(int(block.arrive_us[-1]) for block in held if block is not None)
            parts = []
            for region, block in enumerate(held):
                if block is None:
                    continue
                cut = int(np.searchsorted(block.arrive_us, until_us, side="right"))
                begin: Any = slice(0, cut)
                rest: Any = slice(cut, len(block))
                parts.append(block.take(begin))
                held[region] = block.take(rest) if cut < len(block) else next(streams[region], None)
            yield _merged(parts)

    def _renamed(self, region: int) -> Iterator[Calls]:
        shift = region * self.num_functions + self._offset[region]
        for block in self._workloads[region].blocks():
            if len(block):
                yield Calls(block.arrive_us, block.run_us, (block.function + shift).astype(np.int32))

    def _virtual_functions(self) -> Functions:
        num = len(self.regions)
        parts = [workload.functions for workload in self._workloads]

        def column(name: str) -> np.ndarray:
            return np.tile(np.concatenate([getattr(part, name) for part in parts]), num)

        own = self._pool_class

        def words(name: str) -> list[str]:
            return [word for part in parts for word in getattr(part, name)] * num

        home_names = [
            f"{name}/{function}"
            for name, part in zip(self.regions.names, parts, strict=True)
            for function in part.names
        ]
        return Functions(
            [f"{function}@{name}" for name in self.regions.names for function in home_names],
            column("memory_mb"),
            column("cpu_millicores"),
            column("concurrency"),
            np.concatenate([np.where(own >= 0, region * self.num_classes + own, -1) for region in range(num)]),
            words("trigger"),
            words("runtime"),
        )

    def _virtual_cold_times(self) -> ColdTimes:
        parts = [workload.cold_times for workload in self._workloads]
        allocation = np.concatenate([part.allocation_us for part in parts])
        rest = np.concatenate([part.rest_us for part in parts])
        num_samples = np.concatenate([np.diff(part.at) for part in parts])
        mean_us = self.mean_cold_us()
        of_sample = np.repeat(np.repeat(mean_us, [len(w.functions) for w in self._workloads]), num_samples)
        factors = [mean_us[region] / np.maximum(of_sample, 1) for region in range(len(parts))]
        return ColdTimes(
            np.concatenate([[0], np.cumsum(np.tile(num_samples, len(parts)))]),
            np.concatenate([np.rint(allocation * factor) for factor in factors]),
            np.concatenate([np.rint(rest * factor) for factor in factors]),
        )

    def mean_cold_us(self) -> np.ndarray:
        """Mean cold start of each region over its samples, float64 (R,)."""
        means = []
        for workload in self._workloads:
            total = workload.cold_times.allocation_us + workload.cold_times.rest_us
            means.append(float(total.mean()) if len(total) else 0.0)
        return np.array(means)


def _common_classes(parts: Sequence[Functions]) -> tuple[np.ndarray, int]:
    """The pool class of every function (G,), numbered over all regions by the sizes in it, and how many there are."""
    number: dict[Any, int] = {}
    renamed = []
    for part in parts:
        sizes = list(zip(part.cpu_millicores.tolist(), part.memory_mb.tolist(), strict=True))
        new = np.full(len(part), -1, np.int64)
        met: list[Any] = []
        for old in np.unique(part.pool_class[part.pool_class >= 0]):
            own = np.flatnonzero(part.pool_class == old)
            key = frozenset(sizes[f] for f in own)
            new[own] = number.setdefault((key, met.count(key)), len(number))
            met.append(key)
        renamed.append(new)
    return np.concatenate(renamed), len(number)


def _merged(parts: list[Calls]) -> Calls:
    arrive_us = np.concatenate([part.arrive_us for part in parts])
    order = np.argsort(arrive_us, kind="stable")
    return Calls(
        arrive_us[order],
        np.concatenate([part.run_us for part in parts])[order],
        np.concatenate([part.function for part in parts])[order],
    )


def arrival_functions(functions: Functions, regions: Regions) -> tuple[np.ndarray, np.ndarray]:
    """The virtual functions under which calls arrive, and their homes, int64 (G,) each, from the functions' names.

    Raises:
        InputError: functions that are not those of a `CombinedWorkload` of these regions.
    """
    num, rest = divmod(len(functions), len(regions))
    number = {name: region for region, name in enumerate(regions.names)}
    homes = [number.get(name.partition("/")[0], -1) for name in functions.names[:num]]
    if rest or -1 in homes or any(not name.endswith(f"@{regions.names[0]}") for name in functions.names[:num]):
        raise InputError(f"the functions are not those of a combined workload of {', '.join(regions.names)}")
    home = np.array(homes, np.int64)
    return home * num + np.arange(num), home
