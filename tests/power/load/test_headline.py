"""The headline experiment on a small row: that it measures what it says, not the promises, which need six weeks."""

import pytest

from nonet.power.bench import tour_charts
from nonet.power.bench.headline import POLICY_NAMES, RELEASE, outcome_table, run_seed, staged_release
from nonet.power.load.fit import FitSpace, fit
from nonet.power.load.rises import rise
from nonet.power.policies.protocol import Priority
from nonet.power.policies.registry import build_policy
from nonet.power.simulating.engine import simulate


@pytest.fixture(scope="module")
def base():
    space = FitSpace(requests_per_s=(0.8,), flatness=(0.6,))
    return fit(space=space, num_servers=10, days=1.0, short_days=1.0, seed=2).base


@pytest.fixture(scope="module")
def outcome(base):
    return run_seed(3, base=base, days=1.0)


def test_brakes_are_commands_of_a_run_with_the_same_traffic(base, outcome):
    row, load = base.row(0.3), base.load(days=1.0, seed=3, added=0.3)
    for name in POLICY_NAMES:
        result = simulate(row, load, policy=build_policy(name, release="immediate"), drain_s=1800.0)
        assert (
            outcome.brakes[name]
            == result.commands.filter(result.commands["action"].to_numpy(False) == "brake").num_rows
        )


def test_impact_is_the_ratio_of_quantiles_over_the_same_requests(base, outcome):
    row, load = base.row(0.3), base.load(days=1.0, seed=3, added=0.3)
    uncapped = simulate(row, load, drain_s=1800.0)
    polca = simulate(row, load, policy=build_policy("polca"), drain_s=1800.0)
    assert outcome.peak == uncapped.peak
    if not outcome.brakes["polca"]:
        ratio = polca.latency_s(0.5, Priority.LOW) / uncapped.latency_s(0.5, Priority.LOW) - 1
        assert outcome.impact["polca_lp_p50"] == pytest.approx(ratio)


def test_base_statistics_by_seed(base, outcome):
    watts = simulate(base.row(), base.load(days=1.0, seed=3), drain_s=0.0).row_w[300:43_200].astype(float)
    assert outcome.base.rise_40s == pytest.approx(rise(watts / base.budget_w, 40.0))
    (record,) = outcome_table([outcome])
    assert record["seed"] == 3 and record["brakes polca"] == outcome.brakes["polca"]


def test_hungrier_work_brakes_no_cap_and_staged_release_brakes_less(base, outcome):
    assert outcome.hungry_brakes["no-cap"] >= outcome.brakes["no-cap"]
    rules = staged_release(base, days=1.0)
    assert 0 < rules["staged"].brakes < rules["immediate"].brakes
    assert all(0 < rule.low_braked < 1 and rule.low_p99 > 0 for rule in rules.values())


def test_the_tour_shows_the_four_policies_of_the_findings(base, monkeypatch):
    for name, value in {"_DAYS": 0.05, "_CURVE_DAYS": 0.02, "_CURVE_ADDED": (0.0, 0.3)}.items():
        monkeypatch.setattr(tour_charts, name, value)
    told = []
    monkeypatch.setattr(
        tour_charts, "build_policy", lambda name, **given: (told.append((name, given)), build_policy(name, **given))[1]
    )
    titles = [title for title, _ in tour_charts.charts()]
    assert len(titles) == 4 and "row power over a week" in titles[1]
    assert {name for name, _ in told} == set(POLICY_NAMES) and all(given == {"release": RELEASE} for _, given in told)
