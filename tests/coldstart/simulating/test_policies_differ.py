"""Every policy does something of its own: results differ in pairs on one crafted trace, and repeat themselves."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from nonet.coldstart.simulating.calls import Workload
from nonet.coldstart.simulating.engine import simulate
from nonet.coldstart.simulating.platform import Platform, Pools
from nonet.coldstart.simulating.policies import parse_policy
from nonet.coldstart.simulating.policies.training import fit, split
from nonet.coldstart.simulating.results import Result
from nonet.common.errors import InputError
from tests.coldstart.simulating.crafted import DAY_S, HOUR_S, SECOND, poisson, workload

NAMES = (
    "ka:60", "kpa", "openwhisk", "openwhisk:none", "icebreaker", "spes", "drops", "drops:production", "drops:reactive",
    "drops:poisson", "drops:hourly", "paper:timer", "paper:keepalive", "paper:peak", "paper:pool", "paper:workflow",
    "paper:concurrency", "paper:runtime", "paper:runtime:equal", "paper:timer+pool",
)  # fmt: skip


END_S = 2.1 * DAY_S


def crafted() -> Workload:
    rng = np.random.default_rng(6)
    leader = poisson(1 / 500, 1, END_S - 100)
    storms = np.concatenate([hour * HOUR_S + 200 + rng.uniform(0, 20, 40) for hour in range(60) if hour % 24 < 12])
    return workload(
        [
            np.arange(13.0, END_S, 300),
            leader,
            leader + 20,
            storms,
            poisson(1 / 100, 2, END_S),
            poisson(1 / 4000, 3, END_S),
        ],
        run_s=[0.5, 1, 1, 8, 3, 1],
        runtime=["python", "python", "node", "node", "java", "python"],
        trigger=["TIMER-A", "APIG-S", "workflow-S", "OBS-A", "APIG-S", "APIG-S"],
        pool_class=[0, 0, 0, 0, 1, 1],
        end_s=END_S,
    )


POOLS = Pools([[8], [4]], [[20_000], [30_000]], [5 * SECOND, 6 * SECOND], [40 * SECOND] * 2)


def fingerprint(result: Result) -> tuple:
    taken = None if result.pool_taken is None else tuple(result.pool_taken.ravel())
    return (tuple(result.cold_by_function), tuple(result.idle_us), result.num_prewarms, result.num_put_off, taken,
            int(result.cold_total_us.sum()))  # fmt: skip


@pytest.fixture(scope="module")
def results() -> dict[str, list[tuple]]:
    training, rest = split(crafted(), DAY_S * SECOND)
    found: dict[str, list[tuple]] = {}
    for name in NAMES:
        policy = parse_policy(name)
        fit(policy, training)
        found[name] = [fingerprint(simulate(rest, policy, Platform(pools=POOLS))) for _ in range(2)]
    return found


def test_results_differ_in_pairs(results: dict[str, list[tuple]]) -> None:
    same = [(a, b) for a, b in combinations(NAMES, 2) if results[a][0] == results[b][0]]
    assert same == []


def test_a_policy_begins_anew_with_each_simulation(results: dict[str, list[tuple]]) -> None:
    assert [name for name, (first, second) in results.items() if first != second] == []


@pytest.mark.parametrize(
    "text", ["spes:2", "icebreaker:1", "kpa:x", "openwhisk:5", "paper:runtime:x", "drops:x", "paper:timr"]
)
def test_values_that_a_policy_does_not_take_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_policy(text)
