"""What a policy costs in latency: quantiles of a run over those of the same run without a budget, less one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nonet.common.errors import InputError
from nonet.power.policies.protocol import Priority
from nonet.power.simulating.result import Result


@dataclass(frozen=True)
class Impact:
    """Latency impact of one class, as fractions (0.05 is 5 % more), and what was served.

    Args:
        p50, p90, p99: of end-to-end latency; infinite when that quantile never finished.
        ttft_p50, ttft_p99: of the time to the first token.
        throughput: output tokens of finished requests over those of the uncapped run, less one.
    """

    p50: float
    p90: float
    p99: float
    ttft_p50: float
    ttft_p99: float
    throughput: float


def impact(result: Result, uncapped: Result) -> dict[Priority, Impact]:
    """Impact by class; a class without requests is left out.

    Args:
        result: under a policy.
        uncapped: the same servers, load and seed without a policy, so with an infinite budget.

    Raises:
        InputError: the two runs differ in more than the policy.

    >>> from nonet.power.load.requests import RequestLoad
    >>> from nonet.power.profiles import PROFILES
    >>> from nonet.power.simulating.engine import simulate
    >>> from nonet.power.simulating.row import Row
    >>> row = Row.uniform(2, PROFILES["a100-bloom-176b-tp8"], budget_w=10_000)
    >>> load = RequestLoad.of([0.5, 1.0], [1024, 1024], [64, 64], priority=[0, 1])
    >>> found = impact(simulate(row, load, levels={Priority.LOW: 0.9}), simulate(row, load))
    >>> found[Priority.LOW].p50 > 0.01, found[Priority.HIGH].p50
    (True, 0.0)
    """
    _check(result, uncapped)
    found = {}
    for priority in Priority:
        if not (result.load.priority == int(priority)).any():
            continue
        tokens = uncapped.tokens(priority)
        found[priority] = Impact(
            p50=_ratio(result, uncapped, 0.5, priority, "e2e"),
            p90=_ratio(result, uncapped, 0.9, priority, "e2e"),
            p99=_ratio(result, uncapped, 0.99, priority, "e2e"),
            ttft_p50=_ratio(result, uncapped, 0.5, priority, "ttft"),
            ttft_p99=_ratio(result, uncapped, 0.99, priority, "ttft"),
            throughput=result.tokens(priority) / tokens - 1.0 if tokens else math.nan,
        )
    return found


def _ratio(result: Result, uncapped: Result, q: float, priority: Priority, what: str) -> float:
    base_s = uncapped.latency_s(q, priority, what)
    if math.isinf(base_s):
        return math.nan  # overloaded even without a budget
    return result.latency_s(q, priority, what) / base_s - 1.0


def _check(result: Result, uncapped: Result) -> None:
    if uncapped.policy != "none":
        raise InputError(f"impact: compare with a run without a policy, not with {uncapped.policy!r}")
    if result.seed != uncapped.seed:
        raise InputError(f"impact: seeds {result.seed} and {uncapped.seed} differ; compare runs of one seed")
    if result.row.servers != uncapped.row.servers:
        raise InputError("impact: the servers differ; compare runs of the same servers")
    if result.load is not uncapped.load:
        for name in ("arrival_s", "prompt_tokens", "output_tokens", "priority"):
            if not np.array_equal(getattr(result.load, name), getattr(uncapped.load, name)):
                raise InputError(f"impact: {name} of the two loads differ; compare runs of the same load")
