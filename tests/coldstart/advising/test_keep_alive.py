"""The keep-alive out of gaps of crafted logs, where the truth is known."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest

from nonet.coldstart.advising.explain import explain
from nonet.coldstart.advising.history import read_history
from nonet.coldstart.advising.keep_alive import infer_keep_alive
from nonet.coldstart.trace.store import Trace, TraceWriter
from tests.coldstart.advising.planted import Cluster, Service, ticking
from tests.coldstart.advising.scenarios import HOUR_S, knative_trace, lambda_trace, planted_cluster


def crafted(folder: Path, gaps_s: list[float], keep_alive_s: float) -> Trace:
    """One function; requests without length, cold when the gap is longer than the keep-alive."""
    t, rows = 0.0, []
    for gap in gaps_s:
        t += gap
        rows.append((round(t * 1e6), gap > keep_alive_s))
    times = [row[0] for row in rows]
    with TraceWriter(folder, "crafted") as writer:
        table = {"arrive_us": times, "start_us": times, "end_us": times, "function": ["f"] * len(rows)}
        writer.append("request", "default", pa.table({**table, "cold": [row[1] for row in rows]}))
    return Trace.open(folder)


@pytest.mark.parametrize("keep_alive_s", [37.0, 60.0, 300.0, 611.0])
def test_split_of_gaps(keep_alive_s: float, tmp_path: Path) -> None:
    source = random.Random(keep_alive_s)
    gaps = [source.expovariate(1 / keep_alive_s) for _ in range(2000)]
    found = infer_keep_alive(read_history(crafted(tmp_path / "t", gaps, keep_alive_s), "default"))
    assert found.source == "gaps"
    assert found.keep_alive_us / 1e6 == pytest.approx(keep_alive_s, rel=0.03)


def test_one_kind_of_gaps_alone(tmp_path: Path) -> None:
    """Cold after 90 s each time: not the default of Lambda; warm after 200 s each time: not 60 s."""
    cluster = Cluster(1)
    cluster.serve(Service("ticker", "timer", ticking(1, 90, 2 * HOUR_S, 130), 0.5))
    trace = lambda_trace(cluster, tmp_path, {})
    found = infer_keep_alive(read_history(trace, "default"))
    assert (found.source, found.keep_alive_us) == ("gaps", 60_000_000)
    (cause,) = explain(trace).causes
    assert cause.name == "timer"
    warm = infer_keep_alive(read_history(crafted(tmp_path / "w", [200.0] * 50, 600.0), "default"))
    assert warm.keep_alive_us >= 196_000_000


def test_pods_that_take_their_time_to_go(tmp_path: Path) -> None:
    """Pods end 40 s after their keep-alive: the gaps know better."""
    cluster = planted_cluster(1, 6 * HOUR_S)
    for pod in cluster.pods:
        pod.end = None if pod.end is None else pod.end + 40
    found = infer_keep_alive(read_history(knative_trace(cluster, tmp_path), "default"))
    assert (found.source, found.keep_alive_us) == ("gaps", 60_000_000)


def test_given_and_default(tmp_path: Path) -> None:
    history = read_history(crafted(tmp_path / "t", [1.0, 100.0], 60.0), "default")
    assert infer_keep_alive(history).source == "default"
    given = infer_keep_alive(history, 5_000_000)
    assert (given.source, given.keep_alive_us) == ("given", 5_000_000)
