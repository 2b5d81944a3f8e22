"""Prices, the gate, and intervals, against sums by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from nonet.coldstart.advising.check import Violation, check
from nonet.coldstart.advising.check_view import print_violations
from nonet.coldstart.advising.costs import costs_of_result, costs_of_trace, describe_prices, load_prices
from nonet.coldstart.advising.costs_view import print_costs
from nonet.coldstart.advising.intervals import block_edges, ratio_interval
from nonet.coldstart.simulating.calls import Calls, ColdTimes, Functions, Workload
from nonet.coldstart.simulating.engine import simulate
from nonet.coldstart.trace.store import Trace, TraceWriter
from nonet.common.errors import InputError

SECOND = 1_000_000


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    """200 calls of a second, a second apart; every 50th of "slow" is cold and takes 4 s more; 2 unknown."""
    arrive = np.arange(200) * SECOND
    cold = [None if k < 2 else k % 50 == 0 for k in range(200)]
    wait = np.array([4 * SECOND if c else 0 for c in cold])
    names = ["slow" if k % 2 == 0 else "fast" for k in range(200)]
    with TraceWriter(tmp_path / "t", "crafted", window=(0, 200 * SECOND)) as writer:
        rows = {
            "arrive_us": arrive,
            "start_us": arrive + wait,
            "end_us": arrive + wait + SECOND,
            "function": names,
            "cold": cold,
        }
        writer.append("request", "default", pa.table(rows))
        starts = [k for k, c in enumerate(cold) if c]
        writer.append(
            "coldstart",
            "default",
            pa.table(
                {"at_us": arrive[starts], "function": ["slow"] * len(starts), "total_us": [4 * SECOND] * len(starts)}
            ),
        )
        writer.append("function", "default", pa.table({"function": ["slow", "fast"], "memory_mb": [2048, 512]}))
    return Trace.open(tmp_path / "t")


def test_check(trace: Trace, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(trace, max_cold_rate=3 / 198, max_p99_s=5.0) == []
    assert check(trace, max_cold_rate=0.01, max_p99_s=4.9) == [
        Violation("cold rate", "all", None, pytest.approx(3 / 198), 0.01, 198),
        Violation("p99", "all", None, 5.0, 4.9, 200),
    ]
    by_function = check(trace, max_cold_rate=0.02, by_function=True)
    assert [(v.function, v.value) for v in by_function] == [("slow", pytest.approx(3 / 99))]
    assert check(trace, max_cold_rate=0.02, by_function=True, min_requests=101) == []
    print_violations(by_function)
    print_violations([])
    printed = capsys.readouterr().out
    assert "slow" in printed
    assert "3.030%" in printed
    assert "all bounds hold" in printed


def test_check_refuses_what_it_cannot_answer(trace: Trace, tmp_path: Path) -> None:
    for options in ({}, {"max_cold_rate": 1.5}, {"max_p99_s": -1.0}, {"max_p99_s": float("nan")}):
        with pytest.raises(InputError):
            check(trace, **options)
    with TraceWriter(tmp_path / "u", "unknown") as writer:
        writer.append("request", "default", pa.table({"arrive_us": [1], "function": ["f"]}))
    for options in ({"max_cold_rate": 0.5}, {"max_p99_s": 1.0}):
        with pytest.raises(InputError, match=r"know|end"):
            check(Trace.open(tmp_path / "u"), **options)


def test_costs_of_a_trace(trace: Trace, capsys: pytest.CaptureFixture[str]) -> None:
    costs = costs_of_trace(trace, load_prices("lambda-x86"))
    months = 200 / (30 * 86_400)
    assert costs.init_gb_s == pytest.approx(3 * 4 * 2 / months)
    assert costs.compute_gb_s == pytest.approx((100 * 2 + 100 * 0.5) / months)
    assert costs.init_usd == pytest.approx(24 * 0.0000166667 / months)
    assert costs.request_usd == pytest.approx(200 * 0.2e-6 / months)
    assert costs.wait_usd == pytest.approx(12 * 0.001 / months)
    assert costs.idle_usd is None
    unbilled = costs_of_trace(trace, replace(load_prices("lambda-x86"), init_billed=False))
    assert (unbilled.init_usd, unbilled.init_gb_s) == (0.0, costs.init_gb_s)
    print_costs([("today", costs)])
    assert "2025-08-01" in capsys.readouterr().out


def test_costs_of_a_simulation() -> None:
    calls = Calls(np.array([0, 100]) * SECOND, np.array([2, 2]) * SECOND, np.zeros(2, np.int32))
    workload = Workload.from_arrays(
        calls, Functions.make(1, memory_mb=1024), ColdTimes.constant(1, 3 * SECOND), end_us=1000 * SECOND
    )
    costs = costs_of_result(simulate(workload, "ka:10"), load_prices("cluster"))
    months = 1000 / (30 * 86_400)
    assert costs.init_gb_s * months == pytest.approx(6)
    assert costs.compute_gb_s * months == pytest.approx(4)
    assert costs.idle_gb_s == pytest.approx(20 / months)
    assert costs.idle_usd == pytest.approx(20 * 0.004445 / 3600 / months, rel=1e-4)


def test_price_override(tmp_path: Path) -> None:
    own = tmp_path / "prices.toml"
    own.write_text('[cluster]\nidle_usd_per_gb_s = 1.0\nsource = "mine"\n')
    prices = load_prices("cluster", own)
    assert (prices.idle_usd_per_gb_s, prices.source) == (1.0, "mine")
    assert prices.compute_usd_per_gb_s == load_prices("cluster").compute_usd_per_gb_s
    assert all(table["source"] and table["date"] for table in describe_prices())
    for text in (
        "x = 1",
        "[cluster]\nunknown = 1",
        "[cluster]\nidle_usd_per_gb_s = -1",
        "[cluster",
        "[cluster]\ninit_billed = 3",
    ):
        own.write_text(text)
        with pytest.raises(InputError):
            load_prices("cluster", own)
    own.write_text('[mine]\nsource = "s"\n')
    with pytest.raises(InputError, match="missing"):
        load_prices("mine", own)
    with pytest.raises(InputError, match="lambda-arm"):
        load_prices("nobody")


def test_intervals_cover_the_truth_nineteen_times_of_twenty() -> None:
    """Counts of independent blocks: 95 % intervals hold the true ratio in 90 % of 300 repetitions at least."""
    source = np.random.default_rng(1)
    hits = 0
    for k in range(300):
        cold = source.poisson(20, 40)
        saved = source.binomial(cold, 0.3)
        low, high = ratio_interval(saved, cold, seed=k)
        hits += low <= 0.3 <= high
    assert 270 <= hits < 300


def test_blocks() -> None:
    edges = block_edges(0, 3600 * SECOND, 600 * SECOND)
    assert len(edges) == 11
    assert (edges[0], edges[-1]) == (0, 3600 * SECOND)
    assert np.isnan(ratio_interval(np.zeros(5), np.zeros(5))).all()
