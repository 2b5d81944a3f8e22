"""Dynamo, Thunderbolt and water-filling in charge of a simulated row that would peak well above its budget."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from nonet.power.policies import Priority, build_policy
from nonet.power.simulating.engine import simulate
from nonet.power.simulating.faults import Latency
from tests.power.simulating.test_plant import a_load, a_row

NAMES = ("dynamo", "thunderbolt", "water-filling")
ROW = a_row(1.05)
LOW = {i for i, server in enumerate(ROW.servers) if server.priority is Priority.LOW}
IDLE_S = 3600.0


@cache
def under(name, cap_latency_s=40.0, **values):
    """Three hours of traffic, then an hour of nothing."""
    load = a_load()
    row = replace(ROW, cap_latency=Latency.constant(cap_latency_s))
    return simulate(row, load, policy=build_policy(name, **values), duration_s=load.duration_s + IDLE_S)


def caps(result):
    """(time, servers, level) of each CAP ordered."""
    return [(c["time_s"], c["servers"], c["level"]) for c in result.commands.to_pylist() if c["action"] == "cap"]


def test_the_row_would_peak_above_its_budget():
    free = under("null")
    assert free.peak > 1.15 and free.overload_s > 400.0 and free.longest_overload_s > 20.0


@pytest.mark.parametrize("name", NAMES)
def test_overload_is_short_and_the_work_gets_done(name):
    result = under(name)
    assert result.longest_overload_s <= 2.0 + 5.0 + 2 * 2.0  # age of a sample, latency of the brake, two ticks
    assert 0 < result.overload_s < 0.25 * under("null").overload_s
    assert result.unfinished() == 0


@pytest.mark.parametrize("name", NAMES)
def test_floors_hold_and_thunderbolt_leaves_high_priority_alone(name):
    config, low, high = build_policy(name).config, [], []
    for _, servers, level in caps(under(name)):
        low += [level] * bool(LOW & set(servers))
        high += [level] * bool(set(servers) - LOW)
    assert min(low) == pytest.approx(config.low_floor, abs=1e-9)
    if name == "thunderbolt":
        assert high == []
    else:
        assert all(level >= config.high_floor for level in high)


@pytest.mark.parametrize("name", NAMES)
def test_every_cap_and_brake_ends_with_the_traffic(name):
    result = under(name)
    last = {}
    for landing in result.landings.to_pylist():
        last |= dict.fromkeys(landing["servers"], landing["level"])
    assert len(last) == ROW.num_servers and set(last.values()) == {1.0}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("dynamo", {"cap_at": 0.89, "target": 0.85, "uncap_at": 0.80}),
        ("thunderbolt", {}),
        ("water-filling", {}),
    ],
)
def test_prompt_caps_spare_most_brakes(name, values):
    """What they were made for: caps that land in a second. Forty seconds are too long for all of them."""
    prompt, late = under(name, 1.0, **values), under(name, 40.0, **values)
    assert prompt.brakes <= 0.5 * late.brakes
    assert prompt.brakes <= 0.5 * under("no-cap").brakes


def test_dynamos_upper_band_lies_too_near_the_budget():
    """One per cent is less than this row rises in a period: Dynamo as published brakes as often as no caps at all."""
    assert under("dynamo").brakes == pytest.approx(under("no-cap").brakes, rel=0.25)
    assert under("dynamo", 1.0).brakes == pytest.approx(under("no-cap").brakes, rel=0.25)
