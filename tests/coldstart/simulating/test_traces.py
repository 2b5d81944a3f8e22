"""From a trace to a workload, and from a simulation to a trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from nonet.coldstart.bench.simulator import skewed_workload
from nonet.coldstart.simulating.calls import Workload
from nonet.coldstart.simulating.engine import simulate
from nonet.coldstart.trace.store import Trace, TraceWriter
from nonet.common.errors import InputError

SECOND = 1_000_000


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    """Two functions, a third that the table of functions lacks; one request without an end, one that ends too soon."""
    with TraceWriter(tmp_path / "t", "test") as writer:
        table = {"function": ["a", "b"], "runtime": ["Python3", "Custom"], "trigger": ["TIMER-A", None],
                 "cpu_millicores": [300, 300], "memory_mb": [128, 256], "concurrency": [None, 4]}  # fmt: skip
        writer.append("function", "R", pa.table(table))
        requests = {
            "function": ["a", "b", "a", "c", "a", "b"],
            "arrive_us": [0, 1, 100, 200, 300, 90 * SECOND],
            "start_us": [50, 1, None, 200, 300, 90 * SECOND],
            "end_us": [70, 11, 140, None, 290, 90 * SECOND + 5],
        }
        writer.append("request", "R", pa.table(requests))
        starts = {
            "function": ["b", "a", "b"],
            "at_us": [0, 5, 9],
            "total_us": [30, 50, 40],
            "allocation_us": [10, None, 40],
        }
        writer.append("coldstart", "R", pa.table(starts))
    return Trace.open(tmp_path / "t")


def test_a_trace_becomes_a_workload(trace: Trace) -> None:
    workload = Workload.from_trace(trace, "R")
    functions, cold = workload.functions, workload.cold_times
    assert list(functions.names) == ["a", "b", "c"]
    assert functions.memory_mb.tolist() == [128, 256, 128]
    assert functions.concurrency.tolist() == [1, 4, 1]
    assert functions.pool_class.tolist() == [0, -1, -1]
    assert list(functions.trigger) == ["TIMER-A", "unknown", "unknown"]
    assert cold.at.tolist() == [0, 1, 3, 6]  # c takes the region's three
    assert (cold.allocation_us + cold.rest_us).tolist() == [50, 30, 40, 30, 50, 40]
    assert cold.allocation_us.tolist()[:3] == [0, 10, 40]
    calls = list(workload.blocks())
    assert np.concatenate([c.arrive_us for c in calls]).tolist() == [0, 1, 100, 90 * SECOND]
    assert np.concatenate([c.run_us for c in calls]).tolist() == [20, 10, 40, 5]
    assert workload.num_skipped == 2  # type: ignore[attr-defined]
    result = simulate(trace, "ka:60")
    assert result.cold_by_function.tolist() == [1, 2, 0]


def test_a_simulation_becomes_a_trace(tmp_path: Path) -> None:
    result = simulate(skewed_workload(2_000, 10), "hist")
    result.to_trace(tmp_path / "s", region="R9")
    written = Trace.open(tmp_path / "s")
    assert written.regions == ("R9",)
    assert written.counts["coldstart"] == result.num_starts
    assert result.pods is not None and written.counts["pod"] == len(result.pods)
    rows = written.sql("select sum(total_us)::bigint as total from coldstart")
    assert rows["total"][0].as_py() == result.cold_total_us.sum()
    ends = written.sql("select count(*) as n from pod where end_us is null")["n"][0].as_py()
    assert ends == (result.pods[:, 4] == -1).sum()


def test_without_recorded_pods_there_is_no_trace(tmp_path: Path) -> None:
    result = simulate(skewed_workload(100, 3), "ka:60", record="none")
    with pytest.raises(InputError, match="record"):
        result.to_trace(tmp_path / "s")
    with pytest.raises(InputError, match="record"):
        _ = result.cold_at_us
