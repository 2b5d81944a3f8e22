"""Dynamo, Thunderbolt and water-filling: what each does on rows worked out by hand; the presets of all policies."""

from __future__ import annotations

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.power.policies import POLICIES, RowView, Sample, build_policy, load_policy
from nonet.power.policies.shadow import shadow
from nonet.power.policies.water_filling import water_level


def first_commands(name, powers_w, u, **values):
    """On four servers, the first two of low priority, with the given powers; 1000 W a server."""
    view = RowView.uniform(4, 0.5, budget_w=sum(powers_w) / u)
    view.server_power_w = powers_w
    policy = build_policy(name, **values)
    return {
        server: command.level
        for command in policy.decide(0.0, Sample(sum(powers_w), 0.0), view)
        for server in command.servers
    }


def test_dynamo_takes_from_the_biggest_consumer_of_low_priority_first():
    # 4400 W at u 0.995: down to 0.95 are 199 W; server 1 can give 0.9 x 1400 x 0.5 = 630 W, so it gives them alone.
    found = first_commands("dynamo", [900.0, 1400.0, 1050.0, 1050.0], 0.995, low_floor=0.5)
    assert found == {1: round(1 - 199 / (0.9 * 1400), 2)}


def test_dynamo_goes_on_to_high_priority_when_the_floors_of_low_are_reached():
    found = first_commands("dynamo", [1000.0] * 4, 0.995, low_floor=0.95, high_floor=0.9)
    # 181 W missing, low gives 2 x 45 W, high the rest: 91 W of 1800 W a unit of level.
    assert found == {0: 0.95, 1: 0.95, 2: 0.94, 3: 0.94}


def test_thunderbolt_multiplies_and_leaves_high_priority_alone():
    assert first_commands("thunderbolt", [1000.0] * 4, 0.90) == {0: 0.75, 1: 0.75}
    assert first_commands("thunderbolt", [1000.0] * 4, 0.97) == {0: 0.5, 1: 0.5}


def test_thunderbolt_unthrottles_some_at_a_time_by_seed():
    def log(seed):
        u = np.array([0.9] * 5 + [0.7] * 200)
        policy = build_policy("thunderbolt", seed=seed)
        return shadow(2.0 * np.arange(205), u * 2e5, policy, RowView.uniform(40, 0.5, 2e5)).commands

    released = [one.command.servers for one in log(1) if one.command.level == 1.0]
    assert [len(servers) for servers in released] == [5, 5, 5, 5]
    assert sorted(sum(released, ())) == list(range(20))
    assert log(1) == log(1)
    assert log(1) != log(2)


def test_water_filling_cuts_the_big_consumers_to_one_limit():
    # Budget 4000/0.9; given out 3777.8 W; high takes 2000, 1777.8 are left for 600 and 1400: the limit is 1177.8.
    found = first_commands("water-filling", [600.0, 1400.0, 1000.0, 1000.0], 0.9)
    assert found == {1: round(1 - (1 - 1177.8 / 1400) / 0.9, 2)}


def test_water_filling_gives_out_what_low_priority_leaves_at_its_floor():
    # Budget 4020 W; given out 3417 W; low draws 808.5 W each at its floor, so high gets 900 W each of its 1000.
    found = first_commands("water-filling", [1000.0] * 4, 0.995, high_floor=0.8)
    low = pytest.approx(1110 / 1410)
    assert found == {0: low, 1: low, 2: 0.88, 3: 0.88}


def test_water_filling_raises_levels_again_but_not_in_a_row_that_is_too_high():
    view, policy = RowView.uniform(4, 0.5, budget_w=4000.0), build_policy("water-filling")
    view.server_power_w = [600.0, 2200.0, 500.0, 500.0]

    def ask(now_s, u):
        commands = policy.decide(now_s, Sample(u * 4000.0, now_s), view)
        levels = {server: command.level for command in commands for server in command.servers}
        view.cap_levels = [levels.get(server, level) for server, level in enumerate(view.cap_levels)]
        return levels

    assert ask(0.0, 0.95).keys() == {1}
    capped = view.cap_levels[1]
    view.server_power_w = [2400.0, 400.0, 500.0, 500.0]  # now server 0 is the big one; 1 would be given more
    assert ask(100.0, 0.95).keys() == {0} and view.cap_levels[1] == capped
    assert ask(200.0, 0.81) == {}  # within the hysteresis
    view.server_power_w = [500.0, 300.0, 700.0, 700.0]
    assert ask(300.0, 0.55) == {0: 1.0, 1: 1.0}


@pytest.mark.parametrize("seed", range(20))
def test_the_water_level_uses_up_the_total(seed):
    random = np.random.default_rng(seed)
    demands = random.exponential(1.0, 30)
    total = random.uniform(0.1, 0.99) * demands.sum()
    assert np.minimum(demands, water_level(list(demands), total)).sum() == pytest.approx(total)
    assert water_level(list(demands), demands.sum() * 1.01) == np.inf


@pytest.mark.parametrize("name", list(POLICIES))
def test_every_policy_has_a_preset_with_its_defaults(name):
    assert load_policy(f"{name}.toml").config == build_policy(name).config


@pytest.mark.parametrize(
    ("name", "values"),
    [("dynamo", {"target": 0.995}), ("thunderbolt", {"soft_at": 0.98}), ("water-filling", {"fill_to": 0.9})],
)
def test_thresholds_out_of_order_are_refused(name, values):
    with pytest.raises(InputError, match="must be"):
        build_policy(name, **values)


@pytest.mark.parametrize("name", ["dynamo", "thunderbolt", "water-filling"])
def test_a_brake_is_released_only_where_caps_would_be_lifted(name):
    view, policy = RowView.uniform(40, 0.5, budget_w=1.0), build_policy(name)

    def actions(start_s, u):
        calls = (policy.decide(t, Sample(u, t), view) for t in np.arange(start_s, start_s + 300.0, 2.0))
        return {str(command.action) for commands in calls for command in commands}

    assert "brake" in actions(0.0, 1.05)
    assert "release" not in actions(300.0, 0.92)
    assert "release" in actions(600.0, 0.4)


def test_thunderbolt_does_not_wait_in_an_emergency():
    view, policy = RowView.uniform(4, 0.5, budget_w=1.0), build_policy("thunderbolt")
    [gentle] = policy.decide(0.0, Sample(0.90, 0.0), view)
    view.in_flight = True
    assert policy.decide(2.0, Sample(0.95, 2.0), view) == []
    [hard] = policy.decide(4.0, Sample(0.97, 4.0), view)
    assert (gentle.level, hard.level) == (0.75, 0.5)
