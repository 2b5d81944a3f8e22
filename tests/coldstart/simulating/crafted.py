"""Hand-made workloads with planted periods, chains, bursts and waves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nonet.coldstart.simulating.calls import Calls, ColdTimes, Functions, Workload
from nonet.coldstart.simulating.engine import simulate
from nonet.coldstart.simulating.platform import Platform
from nonet.coldstart.simulating.policies.base import RulePolicy
from nonet.coldstart.simulating.policies.training import fit, split
from nonet.coldstart.simulating.results import Result

SECOND = 1_000_000
HOUR_S = 3600
DAY_S = 24 * HOUR_S


def workload(
    times_s: Sequence[np.ndarray],
    *,
    run_s: float | Sequence[float] = 0.1,
    end_s: float = 2 * DAY_S,
    cold_s: float = 1.0,
    allocation_s: float = 0.5,
    cold_times: ColdTimes | None = None,
    **functions: object,
) -> Workload:
    """One function for each array of call times in seconds, each call as long as its function's `run_s`."""
    num = len(times_s)
    runs = np.broadcast_to(np.asarray(run_s, float), (num,))
    at = [np.rint(np.sort(np.asarray(t, float)) * SECOND).astype(np.int64) for t in times_s]
    inside = [t[(t >= 0) & (t < end_s * SECOND)] for t in at]
    arrive = np.concatenate(inside)
    function = np.repeat(np.arange(num, dtype=np.int32), [len(t) for t in inside])
    order = np.argsort(arrive, kind="stable")
    run = np.repeat(np.rint(runs * SECOND).astype(np.int64), [len(t) for t in inside])
    times = cold_times or ColdTimes.constant(num, round(cold_s * SECOND), round(allocation_s * SECOND))
    return Workload.from_arrays(
        Calls(arrive[order], run[order], function[order]),
        Functions.make(num, **functions),  # type: ignore[arg-type]
        times,
        start_us=0,
        end_us=round(end_s * SECOND),
    )


def tried(
    whole: Workload, policy: RulePolicy | str, platform: Platform | None = None, train_s: float = DAY_S
) -> Result:
    """Fit on the first `train_s`, simulate the rest; a policy that does not learn is simulated on the same rest."""
    training, rest = split(whole, round(train_s * SECOND))
    if not isinstance(policy, str):
        fit(policy, training)
    return simulate(rest, policy, platform)


def poisson(rate_per_s: float, seed: int, end_s: float = 2 * DAY_S) -> np.ndarray:
    """Poisson times in seconds."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1 / rate_per_s, int(rate_per_s * end_s * 1.5) + 20))
    return times[times < end_s]
