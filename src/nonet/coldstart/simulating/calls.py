"""What a simulation eats: functions, their cold times, and their calls in blocks ordered by time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nonet.common.errors import InputError

if TYPE_CHECKING:
    from nonet.coldstart.trace.store import Trace

DEFAULT_MEMORY_MB = 128
_BLOCK = 1 << 17


@dataclass(frozen=True)
class Functions:
    """The functions of one region; index f of every array is the function `names[f]`.

    Args:
        names: unique names, F of them.
        memory_mb: int32 (F,), what one pod takes.
        cpu_millicores: int32 (F,), what one pod takes.
        concurrency: int32 (F,), requests that one pod runs at once, at least 1.
        pool_class: int32 (F,), row of the pools of the platform; -1 = no pool, every pod is made from scratch.
        trigger: F texts, "unknown" where nobody knows.
        runtime: F texts, "unknown" where nobody knows.

    Raises:
        InputError: arrays of different lengths, a name twice, a concurrency below 1, a memory below 0.
    """

    names: Sequence[str]
    memory_mb: np.ndarray
    cpu_millicores: np.ndarray
    concurrency: np.ndarray
    pool_class: np.ndarray
    trigger: Sequence[str]
    runtime: Sequence[str]

    def __post_init__(self) -> None:
        num = len(self.names)
        for name in ("memory_mb", "cpu_millicores", "concurrency", "pool_class"):
            column = np.ascontiguousarray(getattr(self, name), dtype=np.int32)
            if column.shape != (num,):
                raise InputError(
                    f"functions: {name} has shape {column.shape}, names has {num}; give one value a function"
                )
            object.__setattr__(self, name, column)
        if len(self.trigger) != num or len(self.runtime) != num:
            raise InputError(f"functions: {num} names, {len(self.trigger)} triggers, {len(self.runtime)} runtimes")
        if len(set(self.names)) != num:
            raise InputError("functions: a name occurs twice; names are unique in a region")
        if num and int(self.concurrency.min()) < 1:
            raise InputError(f"functions: concurrency of {self.names[int(self.concurrency.argmin())]!r} is below 1")
        if num and int(self.memory_mb.min()) < 0:
            raise InputError(f"functions: memory of {self.names[int(self.memory_mb.argmin())]!r} is negative")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def make(
        cls,
        num: int,
        *,
        memory_mb: Any = DEFAULT_MEMORY_MB,
        cpu_millicores: Any = 300,
        concurrency: Any = 1,
        pool_class: Any = -1,
        trigger: Sequence[str] | None = None,
        runtime: Sequence[str] | None = None,
    ) -> Functions:
        """`num` functions "f0", "f1", ...; a single value stands for all of them.

        >>> Functions.make(2, memory_mb=[128, 256]).memory_mb.tolist()
        [128, 256]
        """

        def column(value: Any) -> np.ndarray:
            return np.broadcast_to(np.asarray(value, np.int32), (num,)).copy()

        return cls(
            [f"f{k}" for k in range(num)],
            column(memory_mb),
            column(cpu_millicores),
            column(concurrency),
            column(pool_class),
            trigger or ["unknown"] * num,
            runtime or ["unknown"] * num,
        )


@dataclass(frozen=True)
class ColdTimes:
    """Jagged samples of cold start times, a function's one after the other.

    The k-th pod (k = 0, 1, ...) that a simulation with a seed starts for function f takes the sample
    `at[f] + mix64(seed, f, k) % (at[f + 1] - at[f])`, in both arrays: the parts of a cold start stay together.

    Args:
        at: int64 (F + 1,), samples of f are `at[f] : at[f + 1]`, at least one.
        allocation_us: int64 (samples,), finding or making the pod.
        rest_us: int64 (samples,), code, dependencies and scheduling together.

    Raises:
        InputError: shapes that do not fit, a function without a sample, a negative time.
    """

    at: np.ndarray
    allocation_us: np.ndarray
    rest_us: np.ndarray

    def __post_init__(self) -> None:
        for name in ("at", "allocation_us", "rest_us"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.int64))
        num = len(self.allocation_us)
        if len(self.rest_us) != num or len(self.at) < 1 or self.at[0] != 0 or self.at[-1] != num:
            raise InputError(f"cold times: at must go from 0 to {num}, the number of samples of both arrays")
        if len(self.at) > 1 and int(np.diff(self.at).min()) < 1:
            raise InputError(
                f"cold times: function {int(np.diff(self.at).argmin())} has no sample; give it at least one"
            )
        if num and min(int(self.allocation_us.min()), int(self.rest_us.min())) < 0:
            raise InputError("cold times: a sample is negative")

    @classmethod
    def constant(cls, num_functions: int, total_us: int, allocation_us: int = 0) -> ColdTimes:
        """Every cold start of every function takes `total_us`, of which `allocation_us` is allocation."""
        ones = np.ones(num_functions, np.int64)
        return cls(np.arange(num_functions + 1), ones * allocation_us, ones * (total_us - allocation_us))

    @cached_property
    def mean_total_us(self) -> np.ndarray:
        """Mean of allocation + rest of each function, float64 (F,)."""
        total = self.allocation_us + self.rest_us
        return np.add.reduceat(total, self.at[:-1]) / np.diff(self.at) if len(self.at) > 1 else np.zeros(0)


@dataclass(frozen=True)
class Calls:
    """One block of calls.

    Args:
        arrive_us: int64 (n,), non-decreasing.
        run_us: int64 (n,), pure execution, without any wait, at least 0.
        function: int32 (n,).
    """

    arrive_us: np.ndarray
    run_us: np.ndarray
    function: np.ndarray

    def __len__(self) -> int:
        return len(self.arrive_us)

    def take(self, chosen: np.ndarray) -> Calls:
        """The calls of an index or mask."""
        return Calls(self.arrive_us[chosen], self.run_us[chosen], self.function[chosen])


class Workload(ABC):
    """Functions and their calls over a window of time. Can be read again and again, in bounded memory.

    Attributes:
        functions, cold_times: see there.
        start_us, end_us: the window; pods cost time in it only. Every arrival lies in `start_us .. end_us`.
    """

    functions: Functions
    cold_times: ColdTimes
    start_us: int
    end_us: int

    @abstractmethod
    def blocks(self) -> Iterator[Calls]:
        """All calls, ordered by time within and between blocks."""

    def by_function(self, shard: int, num_shards: int) -> Iterator[Calls]:
        """The calls of functions f with `f % num_shards == shard`, same calls, same order."""
        for block in self.blocks():
            yield block if num_shards == 1 else block.take(block.function % num_shards == shard)

    @staticmethod
    def from_arrays(
        calls: Calls,
        functions: Functions | None = None,
        cold_times: ColdTimes | None = None,
        *,
        start_us: int | None = None,
        end_us: int | None = None,
        block: int = _BLOCK,
    ) -> Workload:
        """A workload of calls in memory. Without `functions`: 128 MB, concurrency 1. Without `cold_times`: 1 s each.

        Raises:
            InputError: arrays of different lengths, arrivals that fall, a negative run, an unknown function index.
        """
        return ArrayWorkload(calls, functions, cold_times, start_us, end_us, block)  # type: ignore[arg-type]

    @staticmethod
    def from_trace(trace: Trace, region: str, default_cold_us: int | None = None) -> Workload:
        """The requests of one region of a trace (see `TraceWorkload`).

        Raises:
            InputError: an unknown region, no requests, or no cold start to learn cold times from and no
                `default_cold_us` to take instead.
        """
        return TraceWorkload(trace, region, default_cold_us)


@dataclass
class ArrayWorkload(Workload):
    """Calls in memory; `start_us` and `end_us` default to the first and the last moment of the calls."""

    calls: Calls
    functions: Functions = field(default=None)  # type: ignore[assignment]
    cold_times: ColdTimes = field(default=None)  # type: ignore[assignment]
    start_us: int = field(default=None)  # type: ignore[assignment]
    end_us: int = field(default=None)  # type: ignore[assignment]
    block: int = _BLOCK

    def __post_init__(self) -> None:
        given = self.calls
        arrive, run = np.ascontiguousarray(given.arrive_us, np.int64), np.ascontiguousarray(given.run_us, np.int64)
        function = np.ascontiguousarray(given.function, np.int32)
        self.calls = Calls(arrive, run, function)
        _check_calls(self.calls)
        largest = int(function.max()) + 1 if len(function) else 0
        self.functions = self.functions or Functions.make(largest)
        if largest > len(self.functions):
            raise InputError(f"calls name function {largest - 1}, there are {len(self.functions)}")
        self.cold_times = self.cold_times or ColdTimes.constant(len(self.functions), 1_000_000)
        if len(self.cold_times.at) != len(self.functions) + 1:
            raise InputError(f"cold times of {len(self.cold_times.at) - 1} functions, there are {len(self.functions)}")
        if self.start_us is None:
            self.start_us = int(arrive[0]) if len(arrive) else 0
        if self.end_us is None:
            self.end_us = int((arrive + run).max()) if len(arrive) else self.start_us
        if len(arrive) and not (self.start_us <= int(arrive[0]) and int(arrive[-1]) <= self.end_us):
            raise InputError(f"calls lie outside of the window {self.start_us} .. {self.end_us} us")

    def blocks(self) -> Iterator[Calls]:
        """See `Workload.blocks`."""
        for begin in range(0, len(self.calls), self.block):
            yield self.calls.take(slice(begin, begin + self.block))  # type: ignore[arg-type]


def _check_calls(calls: Calls) -> None:
    num = len(calls.arrive_us)
    if len(calls.run_us) != num or len(calls.function) != num:
        raise InputError(f"calls: {num} arrivals, {len(calls.run_us)} runs, {len(calls.function)} functions")
    if num and int(calls.run_us.min()) < 0:
        raise InputError(f"calls: run of call {int(calls.run_us.argmin())} is negative")
    if num and int(calls.function.min()) < 0:
        raise InputError(f"calls: function of call {int(calls.function.argmin())} is negative")
    if num > 1 and int(np.diff(calls.arrive_us).min()) < 0:
        where = int(np.diff(calls.arrive_us).argmin()) + 1
        raise InputError(f"calls: time runs backwards at call {where}; sort them by arrival")


class TraceWorkload(Workload):
    """The requests of one region of a trace, run = end - start (start = arrival where the trace has none).

    Cold times are those of the cold start table, function by function; functions without any take the region's.
    Requests without an end, or with an end before their start, have no duration: they are left out and counted in
    `num_skipped` after a pass. Memory or concurrency that the trace does not tell are 128 MB and 1. The pool class of a
    function is its pair of CPU and memory, -1 for runtime "Custom" and where the pair is unknown.
    """

    def __init__(self, trace: Trace, region: str, default_cold_us: int | None = None) -> None:
        from nonet.coldstart.simulating.from_trace import read_cold_times, read_functions

        self._trace, self._region = trace, region
        if trace.start_us is None or trace.end_us is None or not trace.counts.get("request"):
            raise InputError(f"{trace.path}: no requests to simulate; ingest a source that has them, or generate some")
        self.functions = read_functions(trace, region)
        if not len(self.functions):
            raise InputError(f"{trace.path}: region {region} has no requests; its regions: {', '.join(trace.regions)}")
        self.cold_times = read_cold_times(trace, region, self.functions.names, default_cold_us)
        self.start_us, self.end_us = trace.start_us, trace.end_us
        self.num_skipped = 0

    def blocks(self) -> Iterator[Calls]:
        """See `Workload.blocks`."""
        from nonet.coldstart.simulating.from_trace import read_calls

        self.num_skipped = 0
        for calls, skipped in read_calls(self._trace, self._region, self.functions.names):
            self.num_skipped += skipped
            yield calls
