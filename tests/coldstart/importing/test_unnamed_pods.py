"""Logs that name no pods: which request started each pod is found from the time that requests took."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.coldstart.importing.unnamed_logs import T0, Gateway, waves

HOURS_S = 3 * 3600.0


def runs_of(kind: str, num: int, mean_s: float) -> list[float]:
    source = random.Random(kind)
    if kind == "fixed":
        return [mean_s] * num
    if kind == "wide":
        return [source.expovariate(1 / mean_s) for _ in range(num)]
    return [mean_s * source.lognormvariate(0, 0.15) for _ in range(num)]


def found(gateway: Gateway, taken: Any) -> tuple[float, float, float]:
    """Of the requests that were first on their pod and waited for it, the share that is cold; cold ones per planted;
    median run of the cold ones per planted run."""
    rows = [row for row in taken.rows("request", "arrive_us", "start_us", "end_us", "cold") if row[3]]
    cold = {round(row[0] / 1e4 - T0 * 100) for row in rows}
    planted = [call for call in gateway.calls if call[4]]
    run_s = median((end_us - start_us) / 1e6 for _, start_us, end_us, _ in rows)
    hits = sum(round(arrive * 100) in cold for _, arrive, *_ in planted)
    return hits / len(planted), len(cold) / len(planted), run_s / median(end - begin for _, _, begin, end, _ in planted)


@pytest.mark.parametrize(
    ("kind", "run_s", "start_s", "least"),
    [
        ("fixed", 2.0, 2.2, 0.99),
        ("narrow", 2.0, 2.2, 0.98),
        ("narrow", 8.0, 3.0, 0.9),
        ("narrow", 0.3, 4.0, 0.99),
        ("wide", 2.0, 2.2, 0.7),
    ],
)
def test_of_a_busy_function_the_requests_that_waited_are_cold(
    take: Callable[..., Any], tmp_path: Path, kind: str, run_s: float, start_s: float, least: float
) -> None:
    """Nine thousand requests, most under way while pods are made for others. Runs that are `wide` (exponential) look
    alike whether they waited or not; all that tells is when they arrived."""
    gateway = Gateway(5)
    arrivals = waves(7, 1.2, HOURS_S)
    gateway.bound("api", arrivals, runs_of(kind, len(arrivals), run_s), start_s)
    hits, per_planted, run = found(gateway, take(gateway.write(tmp_path)))
    assert hits >= least
    assert 0.95 <= per_planted <= 1.0
    assert run * run_s == pytest.approx(run_s, abs=0.75)  # ready is cut to the second: half of one on average


def test_pods_that_came_too_late_have_no_request(take: Callable[..., Any], tmp_path: Path) -> None:
    """Requests wait in one queue and mostly get a pod that falls idle before the one that was asked for is ready."""
    gateway = Gateway(5)
    arrivals = waves(7, 1.2, HOURS_S)
    gateway.shared("api", arrivals, runs_of("narrow", len(arrivals), 0.3), 4.0)
    hits, per_planted, _ = found(gateway, take(gateway.write(tmp_path)))
    assert len(gateway.pods) > 3 * sum(bool(call[4]) for call in gateway.calls)
    assert hits >= 0.65
    assert per_planted <= 1.0


def test_several_functions_with_a_few_calls_each(take: Callable[..., Any], tmp_path: Path) -> None:
    """Too few calls to learn from: each pod has the one request that it can have."""
    gateway = Gateway(2)
    for k in range(5):
        gateway.bound(f"rare-{k}", [100.0 + 7 * k + 300 * i for i in range(4)], [0.5] * 4, 3.0)
    assert found(gateway, take(gateway.write(tmp_path)))[:2] == (1.0, 1.0)


def test_a_request_long_before_a_pod_did_not_ask_for_it(take: Callable[..., Any], tmp_path: Path) -> None:
    """A long run asks for one pod; 30 s later, while it goes on, another pod is made ahead of any request."""
    gateway = Gateway(1)
    gateway.bound("slow", [100.0], [200.0], 3.0)
    gateway.pod("slow", 130.0, 3.0)
    taken = take(gateway.write(tmp_path))
    assert taken.rows("request", "pod", "cold") == [("slow-00000", True)]
    (tmp_path / "pods.json").write_text((tmp_path / "pods.json").read_text().replace("slow-00000", "other"))
    gateway.pods.pop(0)
    late = take(gateway.write(tmp_path))
    assert late.rows("request", "pod", "cold") == [(None, None)]
