"""Functions, cold times and calls of one region of a trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nonet.coldstart.simulating.calls import DEFAULT_MEMORY_MB, Calls, ColdTimes, Functions
from nonet.common.errors import InputError

if TYPE_CHECKING:
    from nonet.coldstart.trace.store import Trace

_POOLLESS_RUNTIMES = ("custom",)


def read_functions(trace: Trace, region: str) -> Functions:
    """The functions of a region that are called, sorted by name, also those that its table of functions lacks."""
    called: set[str] = set()
    for batch in trace.batches("request", [region], ["function"]):
        called.update(pc.unique(batch.column(0)).to_pylist())
    names = sorted(called)
    rows = trace.functions(region)
    known = pa.table({"function": names}).join(rows, "function").sort_by("function")

    def whole(column: str, default: int) -> np.ndarray:
        return pc.fill_null(known.column(column), default).to_numpy().astype(np.int32)

    def text(column: str) -> list[str]:
        return pc.fill_null(known.column(column), "unknown").to_pylist()

    cpu, memory = whole("cpu_millicores", 0), whole("memory_mb", 0)
    runtime = text("runtime")
    pooled = (cpu > 0) & (memory > 0) & np.array([r.lower() not in _POOLLESS_RUNTIMES for r in runtime], bool)
    classes = np.full(len(names), -1, np.int32)
    if pooled.any():
        pairs = np.column_stack([cpu, memory])
        classes[pooled] = np.unique(pairs[pooled], axis=0, return_inverse=True)[1].ravel()
    return Functions(
        names,
        np.where(memory > 0, memory, DEFAULT_MEMORY_MB),
        cpu,
        np.maximum(whole("concurrency", 1), 1),
        classes,
        text("trigger"),
        runtime,
    )


def read_cold_times(trace: Trace, region: str, names: Sequence[str], default_us: int | None = None) -> ColdTimes:
    """All cold starts of each function in order of time; functions without any take a sample of the region's.

    A start whose allocation is not known counts as rest altogether. In a region without cold starts, each is said to
    take `default_us`.

    Raises:
        InputError: the region has no cold starts, and there is no `default_us`.
    """
    functions, totals, allocations = [], [], []
    columns = ["function", "total_us", "allocation_us"]
    wanted = pa.array(names, pa.string())
    for batch in trace.batches("coldstart", [region], columns, ordered=True):
        at = pc.fill_null(pc.index_in(batch.column(0), wanted), -1)
        total = np.maximum(batch.column(1).to_numpy(zero_copy_only=False), 0)
        functions.append(at.to_numpy(zero_copy_only=False))
        totals.append(total)
        allocation = pc.fill_null(batch.column(2), 0).to_numpy(zero_copy_only=False)
        allocations.append(np.clip(allocation, 0, total))
    if not functions and default_us is not None:
        return ColdTimes.constant(len(names), default_us)
    if not functions:
        raise InputError(
            f"{trace.path}: region {region} has no cold starts to learn their durations from; say how long one takes "
            "(--cold-seconds)"
        )
    function, total, allocation = (np.concatenate(c).astype(np.int64) for c in (functions, totals, allocations))
    spread = np.unique(np.linspace(0, len(total) - 1, min(len(total), 1000)).astype(np.int64))
    own = np.bincount(function[function >= 0], minlength=len(names))
    order = np.argsort(function, kind="stable")[int((function < 0).sum()) :]
    sizes = np.where(own > 0, own, len(spread))
    chosen = np.empty(int(sizes.sum()), np.int64)
    at = np.concatenate([[0], np.cumsum(sizes)])
    has = np.repeat(own > 0, sizes)
    chosen[has] = order
    chosen[~has] = np.tile(spread, int((own == 0).sum()))
    return ColdTimes(at, allocation[chosen], total[chosen] - allocation[chosen])


def read_calls(trace: Trace, region: str, names: Sequence[str]) -> Iterator[tuple[Calls, int]]:
    """Blocks of calls in order of time, each with the number of requests left out for want of a duration."""
    wanted = pa.array(names, pa.string())
    columns = ["arrive_us", "start_us", "end_us", "function"]
    for batch in trace.batches("request", [region], columns, ordered=True):
        arrive = batch.column(0).to_numpy(zero_copy_only=False)
        start = pc.coalesce(batch.column(1), batch.column(0))
        run = pc.fill_null(pc.subtract(batch.column(2), start), -1).to_numpy(zero_copy_only=False)
        function = pc.index_in(batch.column(3), wanted).to_numpy(zero_copy_only=False).astype(np.int32)
        good = run >= 0
        yield Calls(arrive, run, function).take(good), int((~good).sum())
