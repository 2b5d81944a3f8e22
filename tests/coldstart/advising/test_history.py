"""The pass over requests against counting by hand."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.coldstart.advising.history import read_history
from nonet.coldstart.trace.store import Trace, TraceWriter

CALLS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 30), st.sampled_from("ab"), st.booleans()), min_size=1, max_size=60
)


def trace_of(calls: list[tuple[int, int, str, bool]], folder: Path) -> Trace:
    calls = sorted(calls)
    arrive = [1_000_000 * call[0] for call in calls]
    with TraceWriter(folder, "crafted") as writer:
        rows = {
            "arrive_us": arrive,
            "end_us": [a + 1_000_000 * call[1] for a, call in zip(arrive, calls, strict=True)],
            "function": [call[2] for call in calls],
            "cold": [call[3] for call in calls],
            "start_us": arrive,
        }
        writer.append("request", "default", pa.table(rows))
    return Trace.open(folder)


@settings(deadline=None, max_examples=60)
@given(CALLS)
def test_in_flight_and_gap(calls: list[tuple[int, int, str, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = read_history(trace_of(calls, Path(folder) / "t"), "default")
    assert history.starts.height == sum(call[3] for call in calls)
    for row in history.starts.iter_rows(named=True):
        t = row["at_us"] // 1_000_000
        earlier = [(a, a + run) for a, run, name, _ in calls if name == row["function"] and a < t]
        assert row["in_flight"] == sum(end > t for _, end in earlier)
        gap = max(t - max(end for _, end in earlier), 0) if earlier else None
        assert row["gap_us"] == (-1 if gap is None else gap * 1_000_000)


def test_ticks_join_calls_within_a_second() -> None:
    calls = [(t, 0, "a", True) for t in (0, 5, 9)]
    with tempfile.TemporaryDirectory() as folder:
        history = read_history(trace_of([*calls, (5, 1, "a", False)], Path(folder) / "t"), "default")
    assert np.array(history.ticks[0]).tolist() == [0, 5_000_000, 9_000_000]


def test_starts_at_one_moment_match_one_request_each(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "t", "crafted") as writer:
        calls = {"arrive_us": [5, 5, 5], "start_us": [8, 9, 5], "end_us": [9, 9, 9], "cold": [True, True, False]}
        writer.append("request", "default", pa.table({**calls, "function": ["f"] * 3}))
        starts = {"at_us": [5, 5], "function": ["f", "f"], "total_us": [3, 4]}
        writer.append("coldstart", "default", pa.table(starts))
    history = read_history(Trace.open(tmp_path / "t"), "default")
    assert history.starts.select("total_us", "wait_us").rows() == [(3, 3), (4, 4)]
