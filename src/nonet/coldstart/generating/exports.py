"""Writing a generated workload: as a trace, and in the formats of InVitro and of Azure Functions 2021.

Which requests are cold is found by simulating the workload with the platform's keep-alive of 60 s (`simulate`,
"ka:60"); the requests are then generated a second time and written with what happened to them. Memory: the pods of
the simulation (64 bytes each), the writer's buffers, and one block of requests.

InVitro (vhive-serverless/invitro): `invitro/dayNN/{invocations,durations,memory}.csv` with the columns of Azure 2019.
Azure 2021: `azure2021.csv` with app, func, end_timestamp, duration in seconds; the duration leaves the cold start out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from nonet.coldstart._random_kernels import mix64
from nonet.coldstart.generating._export_kernels import BIN_WIDTH, NUM_BINS, add_calls, mark_cold
from nonet.coldstart.generating.functions import CLASS_SIZE
from nonet.coldstart.generating.presets import HuaweiWorkload
from nonet.coldstart.generating.stream import DAY_US, GeneratedWorkload
from nonet.coldstart.simulating.calls import Calls
from nonet.coldstart.trace.writer import TraceWriter
from nonet.common.atomic import atomic_path, atomic_write
from nonet.common.errors import InputError

FORMATS = ("invitro", "azure2021")
KEEP_ALIVE = "ka:60"
_PERCENTILES = (0, 1, 25, 50, 75, 99, 100)
Progress = Callable[[float], None]


def _silent(_: float) -> None:
    """No progress."""


def write(
    workload: GeneratedWorkload,
    path: str | Path,
    also: Sequence[str] = (),
    *,
    overwrite: bool = False,
    progress: Progress = _silent,
) -> Path:
    """Write a workload as a trace, and `also` in other formats in the same folder.

    Args:
        workload: from `generate`; with events="cold" only functions and cold starts are written.
        path: the trace's folder.
        also: of FORMATS; needs requests.
        overwrite: replace a trace that is there.
        progress: called with the share done, 0 to 1.

    Raises:
        InputError: an unknown format, a format without requests, or the folder is taken.
    """
    for name in also:
        if name not in FORMATS:
            raise InputError(f"unknown format {name!r}; choose one of {', '.join(FORMATS)}")
        if workload.events != "all":
            raise InputError(f"the format {name} holds requests; generate with events='all', not {workload.events!r}")
    source = f"generated: {workload.preset}, days {workload.days}, scale {workload.scale}, seed {workload.seed}"
    window = (workload.start_us, workload.end_us)
    with TraceWriter(path, source, overwrite=overwrite, window=window) as writer:
        for i, region in enumerate(workload.regions):
            writer.append("function", region, _function_rows(workload, workload.region == i))
        if workload.events == "cold":
            _write_cold(writer, workload, progress)
        else:
            _write_requests(writer, workload, Path(path), also, progress)
    progress(1.0)
    return Path(path)


def _function_rows(workload: GeneratedWorkload, chosen: NDArray[np.bool_]) -> pa.Table:
    frame = workload.table.frame.filter(pl.Series(chosen))
    size = [CLASS_SIZE[name] for name in frame["class"]]
    return pa.table({
        "function": frame["function"].to_list(),
        "runtime": frame["runtime"].to_list(),
        "trigger": frame["trigger"].to_list(),
        "cpu_millicores": pa.array([cpu for cpu, _ in size], pa.int32()),
        "memory_mb": pa.array([memory for _, memory in size], pa.int32()),
        "concurrency": pa.array(frame["concurrency"].to_list(), pa.int32()),
    })  # fmt: skip


def _write_cold(writer: TraceWriter, workload: GeneratedWorkload, progress: Progress) -> None:
    if not isinstance(workload, HuaweiWorkload):
        raise InputError(f"{workload.preset} has no published cold starts")
    for i, region in enumerate(workload.regions):
        for hour, rows in enumerate(workload.cold_events(region)):
            writer.append("coldstart", region, rows)
            progress((i + min(hour / (24 * workload.days), 1.0)) / len(workload.regions))


def _write_requests(
    writer: TraceWriter, workload: GeneratedWorkload, path: Path, also: Sequence[str], progress: Progress
) -> None:
    from nonet.coldstart.simulating.engine import simulate

    done = [0.0]
    total = max(workload.num_requests, 1)

    def counted(num: int) -> None:
        done[0] += num
        progress(min(done[0] / total / 2, 0.5))

    outcome = simulate(workload, KEEP_ALIVE, record="pods", progress=counted)
    pods = _Pods(workload, outcome.pods)
    for region, rows in pods.tables():
        writer.append("pod", region, rows["pod"])
        writer.append("coldstart", region, rows["coldstart"])
    names = pa.array(list(workload.functions.names), type=pa.string())
    with ExitStack() as stack:
        sinks = [stack.enter_context(_SINKS[name](workload, path)) for name in also]
        for calls in workload.blocks():
            cold, wait_us = pods.match(calls)
            for region, rows in _request_rows(workload, names, calls, cold, wait_us):
                writer.append("request", region, rows)
            for sink in sinks:
                sink.add(calls, wait_us)
            done[0] += len(calls)
            progress(min(done[0] / total / 2, 1.0))


def _request_rows(
    workload: GeneratedWorkload, names: pa.Array, calls: Calls, cold: NDArray[np.bool_], wait_us: NDArray[np.int64]
) -> Iterator[tuple[str, pa.Table]]:
    start = calls.arrive_us + wait_us
    rows = pa.table({
        "arrive_us": calls.arrive_us,
        "start_us": start,
        "end_us": start + calls.run_us,
        "function": names.take(pa.array(calls.function)),
        "cold": cold,
    })  # fmt: skip
    if len(workload.regions) == 1:
        yield workload.regions[0], rows
        return
    region = workload.region[calls.function]
    for i in np.unique(region):
        yield workload.regions[i], rows.filter(pa.array(region == i))


class _Pods:
    """The pods of the simulation: rows for the trace, and the cold start that each request triggered."""

    def __init__(self, workload: GeneratedWorkload, pods: NDArray[np.int64] | None) -> None:
        from nonet.coldstart.simulating import layout

        if pods is None:
            raise InputError("the simulation did not record its pods")
        self._workload = workload
        self._function, self._at = pods[:, layout.L_FUNCTION].copy(), pods[:, layout.L_CREATE].copy()
        self._ready, self._end = pods[:, layout.L_READY].copy(), pods[:, layout.L_END].copy()
        self._allocation = pods[:, layout.L_ALLOCATION].copy()
        self._next = 0

    def match(self, calls: Calls) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Which calls of the next block triggered a cold start, and how long each waited (microseconds)."""
        cold, which, self._next = mark_cold(calls.arrive_us, calls.function, self._at, self._function, self._next)
        wait = np.zeros(len(calls), dtype=np.int64)
        wait[cold] = (self._ready - self._at)[which[cold]]
        return cold, wait

    def tables(self, num: int = 200_000) -> Iterator[tuple[str, dict[str, pa.Table]]]:
        """Rows of pods and cold starts, region by region, at most `num` at a time."""
        parts = self._parts()
        functions = self._workload.functions
        for i, region in enumerate(self._workload.regions):
            of_region = np.flatnonzero(self._workload.region[self._function] == i)
            for begin in range(0, len(of_region), num):
                own = of_region[begin : begin + num]
                f = self._function[own]
                name = pa.array([functions.names[k] for k in f], type=pa.string())
                pod = pa.array([f"{region}-pod{k}" for k in own], type=pa.string())
                end = pa.array(self._end[own], mask=self._end[own] < 0)
                at, ready = self._at[own], self._ready[own]
                pods = {
                    "pod": pod,
                    "function": name,
                    "create_us": at,
                    "ready_us": ready,
                    "end_us": end,
                    "cpu_millicores": functions.cpu_millicores[f],
                    "memory_mb": functions.memory_mb[f],
                }
                starts = {
                    "at_us": at,
                    "function": name,
                    "pod": pod,
                    "total_us": ready - at,
                    "allocation_us": self._allocation[own],
                    **{key: values[own] for key, values in parts.items()},
                }
                yield region, {"pod": pa.table(pods), "coldstart": pa.table(starts)}

    def _parts(self) -> dict[str, NDArray[np.int64]]:
        """Code, dependency and scheduling of each cold start, from the sample that the simulator took (`ColdTimes`)."""
        workload = self._workload
        if workload.cold_parts is None:
            return {}
        order = np.argsort(self._function, kind="stable")
        count = np.bincount(self._function, minlength=len(workload.functions))
        number = np.empty(len(order), dtype=np.int64)
        number[order] = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
        at = workload.cold_times.at
        size = np.diff(at)[self._function].astype(np.uint64)
        word = np.array([mix64(0, f, k) for f, k in zip(self._function, number, strict=True)], dtype=np.uint64)
        sample = at[self._function] + (word % size).astype(np.int64)
        if not np.array_equal(workload.cold_times.allocation_us[sample], self._allocation):
            raise RuntimeError("the simulator took other cold time samples than ColdTimes describes")
        names = ("code_us", "dependency_us", "scheduling_us")
        return {name: workload.cold_parts[sample, i] for i, name in enumerate(names)}


class _InVitro:
    """Day by day: calls of each minute, percentiles of durations, memory."""

    def __init__(self, workload: GeneratedWorkload, path: Path) -> None:
        self._frame, self._folder = workload.table.frame, path / "invitro"
        self._day = 0
        self._clear()

    def __enter__(self) -> _InVitro:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write_day()

    def _clear(self) -> None:
        num = self._frame.height
        self._minutes = np.zeros((num, 1440), dtype=np.int64)
        self._durations = np.zeros((num, NUM_BINS), dtype=np.int32)
        self._sums = np.zeros(num)
        self._extremes = np.stack([np.full(num, np.iinfo(np.int64).max), np.zeros(num, np.int64)], axis=1)

    def add(self, calls: Calls, wait_us: NDArray[np.int64]) -> None:
        """Add a block, which lies within one day."""
        day = int(calls.arrive_us[0] // DAY_US)
        while self._day < day:
            self._write_day()
            self._clear()
            self._day += 1
        add_calls(
            calls.arrive_us, calls.run_us, calls.function, self._minutes, self._durations, self._sums, self._extremes
        )

    def _write_day(self) -> None:
        folder = self._folder / f"day{self._day:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        count = self._minutes.sum(axis=1)
        used = np.flatnonzero(count)
        name = [self._frame["function"][int(i)] for i in used]
        hashes = {"HashOwner": name, "HashApp": name, "HashFunction": name}
        trigger = [self._frame["trigger"][int(i)] for i in used]
        minutes = {str(m + 1): self._minutes[used, m] for m in range(1440)}
        _csv(folder / "invocations.csv", {**hashes, "Trigger": trigger, **minutes})
        _csv(folder / "durations.csv", {**hashes, **self._duration_columns(used, count)})
        memory = np.array([CLASS_SIZE[self._frame["class"][int(i)]][1] for i in used], dtype=np.float64)
        allocated = {f"AverageAllocatedMb_pct{p}": memory for p in (1, 5, 25, 50, 75, 95, 99, 100)}
        _csv(folder / "memory.csv", {**hashes, "SampleCount": count[used], "AverageAllocatedMb": memory, **allocated})

    def _duration_columns(self, used: NDArray[np.int64], count: NDArray[np.int64]) -> dict[str, Any]:
        low, high = self._extremes[used, 0] / 1000.0, self._extremes[used, 1] / 1000.0
        sums = np.cumsum(self._durations[used], axis=1)
        columns = {
            "Average": self._sums[used] / count[used] / 1000.0,
            "Count": count[used],
            "Minimum": low,
            "Maximum": high,
        }
        for percent in _PERCENTILES:
            place = (sums < np.maximum(count[used] * percent / 100.0, 1)[:, None]).sum(axis=1)
            middle = np.exp((place + 0.5) * BIN_WIDTH) / 1000.0
            columns[f"percentile_Average_{percent}"] = np.clip(middle, low, high)
        return columns


def _csv(path: Path, columns: dict[str, Any]) -> None:
    with atomic_path(path) as beside:
        pl.DataFrame(columns).write_csv(beside, float_precision=3)


class _Azure2021:
    """One row a request."""

    def __init__(self, workload: GeneratedWorkload, path: Path) -> None:
        self._names = pl.Series("app", list(workload.functions.names))
        self._context = atomic_write(path / "azure2021.csv", "wb")

    def __enter__(self) -> _Azure2021:
        self._file: IO[bytes] = self._context.__enter__()
        self._file.write(b"app,func,end_timestamp,duration\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.__exit__(kind, error, trace)

    def add(self, calls: Calls, wait_us: NDArray[np.int64]) -> None:
        """Add a block."""
        name = self._names[calls.function.astype(np.int64)]
        end = (calls.arrive_us + wait_us + calls.run_us) / 1e6
        frame = pl.DataFrame({"app": name, "func": name, "end_timestamp": end, "duration": calls.run_us / 1e6})
        frame.write_csv(self._file, include_header=False, float_precision=6)


_SINKS: dict[str, Any] = {"invitro": _InVitro, "azure2021": _Azure2021}
