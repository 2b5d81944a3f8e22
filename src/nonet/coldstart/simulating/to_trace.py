"""A simulation as a trace: functions, cold starts and pods."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from nonet.coldstart.simulating import layout as at
from nonet.coldstart.trace.store import TraceWriter

if TYPE_CHECKING:
    from nonet.coldstart.simulating.results import Result

_ROWS = 1 << 17


def write_simulation(result: Result, path: Path, region: str, overwrite: bool) -> None:
    """Write the recorded pods of a result; see `Result.to_trace`."""
    assert result.pods is not None  # checked by the caller
    functions = result.functions
    names = pa.array(list(functions.names), pa.string())
    with TraceWriter(path, f"simulation of {result.policy}", overwrite=overwrite) as writer:
        table = {
            "function": names,
            "runtime": pa.array(list(functions.runtime), pa.string()),
            "trigger": pa.array(list(functions.trigger), pa.string()),
            "cpu_millicores": pa.array(functions.cpu_millicores),
            "memory_mb": pa.array(functions.memory_mb),
            "concurrency": pa.array(functions.concurrency),
        }
        writer.append("function", region, pa.table(table))
        for begin in range(0, len(result.pods), _ROWS):
            rows = result.pods[begin : begin + _ROWS]
            pods = pa.array([f"pod-{k}" for k in range(begin, begin + len(rows))], pa.string())
            function = names.take(pa.array(rows[:, at.L_FUNCTION]))
            writer.append("pod", region, _pod_table(result, rows, pods, function))
            started = rows[:, at.L_ORIGIN] != at.PREWARMED
            writer.append("coldstart", region, _cold_table(rows, pods, function).filter(pa.array(started)))


def _pod_table(result: Result, rows: np.ndarray, pods: pa.Array, function: pa.Array) -> pa.Table:
    index = rows[:, at.L_FUNCTION]
    end = rows[:, at.L_END]
    return pa.table(
        {
            "pod": pods,
            "function": function,
            "create_us": rows[:, at.L_CREATE],
            "ready_us": rows[:, at.L_READY],
            "end_us": pa.array(end, mask=end == at.NONE),
            "cpu_millicores": result.functions.cpu_millicores[index],
            "memory_mb": result.functions.memory_mb[index],
        }
    )


def _cold_table(rows: np.ndarray, pods: pa.Array, function: pa.Array) -> pa.Table:
    return pa.table(
        {
            "at_us": rows[:, at.L_CREATE],
            "function": function,
            "pod": pods,
            "total_us": rows[:, at.L_READY] - rows[:, at.L_CREATE],
            "allocation_us": rows[:, at.L_ALLOCATION],
        }
    )
