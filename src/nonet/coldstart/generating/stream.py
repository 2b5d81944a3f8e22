"""Requests of all functions in time order, in blocks, from nothing but the functions' processes.

Functions of bursts are generated a day at a time and sorted (they make a thousandth of the requests); streams and
Poisson functions a block at a time. A block spans as many whole minutes as hold about `BLOCK` requests. Memory: two
blocks and one day of the bursts, about 100 MB for all of Region 2, whatever the number of requests. Blocks depend on
which functions are asked for, the calls in them do not: any number of shards yields the same calls of each function.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nonet.coldstart.generating import envelopes
from nonet.coldstart.generating._arrival_kernels import BURSTS, POISSON, hash_calls, order_by_time, window
from nonet.coldstart.generating.functions import FunctionTable, run_factors
from nonet.coldstart.simulating.calls import Calls, ColdTimes, Workload
from nonet.common.errors import InputError

DAY_US = 86_400_000_000
MINUTE_US = 60_000_000
BLOCK = 300_000
_WINDOWS_MIN = (1, 2, 5, 10, 30, 60, 240, 1440)


class GeneratedWorkload(Workload):
    """Functions and their generated calls; see `generate`.

    Attributes:
        preset, days, scale, seed, events: as given to `generate`.
        regions: names of the regions in it.
        region: index into `regions` of each function, int32 (F,).
        table: the functions with what is published about them.
        cold_parts: code, dependency and scheduling of each sample of `cold_times`, int64 (samples, 3), or None.
    """

    def __init__(
        self,
        preset: str,
        regions: tuple[str, ...],
        region: NDArray[np.int32],
        table: FunctionTable,
        curves: NDArray[np.float64],
        cold_times: ColdTimes,
        cold_parts: NDArray[np.int64] | None,
        *,
        days: int,
        scale: float,
        seed: int,
        events: str,
    ) -> None:
        self.preset, self.regions, self.region, self.table = preset, regions, region, table
        self.days, self.scale, self.seed, self.events = days, scale, seed, events
        self.functions, self.cold_times, self.cold_parts = table.functions(), cold_times, cold_parts
        self.start_us, self.end_us = 0, days * DAY_US
        self._curves = curves
        self._runs = run_factors()

    @property
    def num_requests(self) -> int:
        """About how many requests there will be (exact but for the sizes of spikes and Poisson numbers)."""
        process = self.table.process
        rate = np.where(process["kind"] == POISSON, process["size"] * self.days * 86_400.0, 0.0)
        part = np.array([curve[min(self.days * envelopes.BINS_A_DAY, len(curve) - 1)] for curve in self._curves])
        fixed = (
            process["requests"] * part[process["envelope"]]
            + process["bursts"] * process["size"] * part[process["envelope"]]
        )
        return int(np.where(process["kind"] == POISSON, rate, fixed).sum())

    def only(self, chosen: NDArray[np.int64]) -> GeneratedWorkload:
        """The same workload with some of the functions (ascending indices); their calls do not change."""
        table = FunctionTable(self.table.frame[chosen.tolist()], self.table.process[chosen])
        at = self.cold_times.at
        sizes = np.diff(at)[chosen]
        starts = np.cumsum(sizes) - sizes
        samples = np.repeat(at[chosen] - starts, sizes) + np.arange(sizes.sum())
        times = ColdTimes(
            at=np.append(starts, sizes.sum()),
            allocation_us=self.cold_times.allocation_us[samples],
            rest_us=self.cold_times.rest_us[samples],
        )
        parts = None if self.cold_parts is None else self.cold_parts[samples]
        return type(self)(
            self.preset,
            self.regions,
            self.region[chosen],
            table,
            self._curves,
            times,
            parts,
            days=self.days,
            scale=self.scale,
            seed=self.seed,
            events=self.events,
        )

    def blocks(self) -> Iterator[Calls]:
        """All calls in time order."""
        return self._stream(np.arange(len(self.functions), dtype=np.int64))

    def by_function(self, shard: int, num_shards: int) -> Iterator[Calls]:
        """The calls of functions f with `f % num_shards == shard`, in time order; no others are generated."""
        return self._stream(np.arange(shard, len(self.functions), num_shards, dtype=np.int64))

    def function_hashes(self, num_shards: int = 1) -> NDArray[np.uint64]:
        """A hash of each function's calls in order, uint64[F]: the same for any number of shards."""
        hashes = np.zeros(len(self.functions), dtype=np.uint64)
        for shard in range(num_shards):
            for calls in self.by_function(shard, num_shards):
                hash_calls(hashes, calls.arrive_us, calls.run_us, calls.function)
        return hashes

    def _stream(self, chosen: NDArray[np.int64]) -> Iterator[Calls]:
        if self.events != "all":
            raise InputError(
                f"{self.preset} was generated with events={self.events!r}, without requests; ask for 'all'"
            )
        kind = self.table.process["kind"][chosen]
        light, heavy = chosen[kind == BURSTS], chosen[kind != BURSTS]
        span_us = self._span_minutes(chosen) * MINUTE_US
        by_day, by_block = _Buffers(), _Buffers()
        for day in range(self.days):
            of_day = self._sorted(by_day, light, day * DAY_US, (day + 1) * DAY_US)
            for start in range(day * DAY_US, (day + 1) * DAY_US, span_us):
                low, high = np.searchsorted(of_day.arrive_us, (start, start + span_us))
                slow = of_day.take(slice(low, high))  # type: ignore[arg-type]
                fast = self._unsorted(by_block, heavy, start, start + span_us)
                if len(fast) + len(slow):
                    yield _merged(slow, fast, start, span_us) if len(fast) else slow

    def _span_minutes(self, chosen: NDArray[np.int64]) -> int:
        process = self.table.process[chosen]
        heavy = process["kind"] != BURSTS
        month_min = 31 * 1440.0
        rate = np.where(process["kind"] == POISSON, process["size"] * 60.0, process["requests"] / month_min)[
            heavy
        ].sum()
        return max((minutes for minutes in _WINDOWS_MIN if minutes * rate <= BLOCK), default=1)

    def _unsorted(self, buffers: _Buffers, chosen: NDArray[np.int64], start_us: int, end_us: int) -> Calls:
        if not len(chosen):
            return Calls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32))
        while True:
            need = window(self.table.process, chosen, self._curves, envelopes.BIN_US, self._runs, start_us, end_us,
                          buffers.arrive, buffers.run, buffers.function)  # fmt: skip
            if need <= len(buffers.arrive):
                return Calls(buffers.arrive[:need], buffers.run[:need], buffers.function[:need])
            buffers.resize(need + need // 4)

    def _sorted(self, buffers: _Buffers, chosen: NDArray[np.int64], start_us: int, end_us: int) -> Calls:
        calls = self._unsorted(buffers, chosen, start_us, end_us)
        return calls.take(order_by_time(calls.arrive_us, start_us, end_us - start_us))


class _Buffers:
    """Arrays that the kernels write to, reused from block to block."""

    def __init__(self) -> None:
        self.resize(4096)

    def resize(self, size: int) -> None:
        self.arrive = np.empty(size, dtype=np.int64)
        self.run = np.empty(size, dtype=np.int64)
        self.function = np.empty(size, dtype=np.int32)


def _merged(slow: Calls, fast: Calls, start_us: int, span_us: int) -> Calls:
    """Both in time order; at equal times in the order of functions of bursts, then of the others."""
    calls = Calls(
        np.concatenate((slow.arrive_us, fast.arrive_us)),
        np.concatenate((slow.run_us, fast.run_us)),
        np.concatenate((slow.function, fast.function)),
    )
    return calls.take(order_by_time(calls.arrive_us, start_us, span_us))
