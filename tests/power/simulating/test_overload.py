"""The law of the brake: above 100 % never longer than age of the telemetry + latency of the brake + two ticks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nonet.power.policies import POLICIES, build_policy
from nonet.power.simulating.budget import FeedFailure
from nonet.power.simulating.engine import simulate
from nonet.power.simulating.faults import ActuationFaults, Latency, random_telemetry_faults
from tests.power.simulating.test_plant import a_load, a_row

PERIOD_S, BRAKE_S, LATE_S = 2.0, 5.0, 2.0


def overloads(result):
    """(start, end) of the runs of periods above the budget, seconds."""
    edges = np.diff(np.concatenate(([0], (result.utilization > 1.0).astype(int), [0])))
    return np.column_stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)]) * PERIOD_S


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"null"}))
@pytest.mark.parametrize("seed", [3, 14])
def test_overload_ends_in_time_whatever_else_goes_wrong(name, seed):
    """Caps lost, doubled, refused and late; the sensor silent or lying for a while; a feed that fails."""
    lies = random_telemetry_faults(
        3600, per_day=300, mean_length_s=15, seed=seed, kinds=("gap", "nan", "negative", "tenfold")
    )
    row = replace(
        a_row(0.85, telemetry_lag_s=LATE_S),
        telemetry_faults=lies,
        failures=(FeedFailure(1000.0, 1400.0, 0.9),),
        actuation_faults=ActuationFaults(loss=0.1, duplicate=0.1, refuse=0.1, on_brake=False),
        cap_latency=Latency(5.0, 40.0),
        brake_latency=Latency(1.0, BRAKE_S),
    )
    result = simulate(row, a_load(seed, hours=1), policy=build_policy(name), seed=seed)
    found = overloads(result)
    assert len(found) and result.brakes
    for start_s, end_s in found:
        # The age of the telemetry grows while the sensor lies or is silent.
        older_s = sum(lie.end_s - max(start_s, lie.start_s) for lie in lies if start_s - 2 < lie.end_s < end_s + 30)
        age_s = PERIOD_S + LATE_S + max(0.0, older_s)
        assert end_s - start_s <= age_s + BRAKE_S + 2 * PERIOD_S, (start_s, end_s)
