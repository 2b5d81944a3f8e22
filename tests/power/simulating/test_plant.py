"""Policies, latencies, faults and budgets around the event loop."""

import json
import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from nonet.common.errors import InputError
from nonet.power.load.requests import RequestLoad
from nonet.power.policies import POLICIES, build_policy
from nonet.power.policies.protocol import Action, Command, Priority, Quiet
from nonet.power.simulating.budget import BudgetSchedule, FeedFailure, PowerNode
from nonet.power.simulating.engine import simulate
from nonet.power.simulating.faults import ActuationFaults, Latency, TelemetryFault, random_telemetry_faults
from nonet.power.simulating.impact import impact
from nonet.power.simulating.row import Row, Server
from tests.power.simulating.parts import profile


class Script:
    """Commands at given times; asked at every sample."""

    name = "script"

    def __init__(self, *steps):
        self.steps = steps
        self.seen = []

    def reset(self):
        self.left = list(self.steps)
        self.seen = []

    def decide(self, now_s, sample, view):
        self.seen.append((now_s, sample, view.budget_w, view.in_flight, list(view.cap_levels)))
        due = [command for at_s, command in self.left if at_s <= now_s]
        self.left = [step for step in self.left if step[0] > now_s]
        return due

    def quiet(self, now_s, view):
        return None

    def state(self):
        return {}

    def restore(self, state):
        pass


def a_row(budget_share=0.95, **options):
    return Row.uniform(10, profile(2), budget_w=budget_share * 37_000, instances_per_server=4, max_batch=4, **options)


def a_load(seed=3, hours=3.0):
    """Traffic that rises and falls within hours."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, hours * 3600, int(hours * 3600 * 2.6)))
    times = times[rng.random(len(times)) < 0.55 + 0.45 * np.sin(times / 1500)]
    num = len(times)
    return RequestLoad.of(
        times, rng.integers(128, 4096, num), rng.integers(30, 400, num), priority=rng.integers(0, 2, num)
    )


def same(a, b):
    assert a.commands.equals(b.commands)
    assert np.array_equal(a.e2e_s, b.e2e_s, equal_nan=True)
    assert np.array_equal(a.row_w, b.row_w)
    assert a.capped_s == pytest.approx(b.capped_s)


@pytest.mark.parametrize("name", list(POLICIES))
@pytest.mark.parametrize("lag_s", [0.0, 3.0])
def test_quiet_believed_or_not_is_the_same(name, lag_s):
    row, load = a_row(telemetry_lag_s=lag_s), a_load()
    believed = simulate(row, load, policy=build_policy(name))
    asked = simulate(row, load, policy=build_policy(name), quiet=False)
    same(believed, asked)
    if name != "null":
        assert len(asked.commands) > 2


@pytest.mark.parametrize("release", ["staged", "immediate"])
def test_cohorts_are_as_good_as_single_servers(release):
    """A latency that varies by less than anything can see takes away the cohorts."""
    load, row = a_load(), a_row(0.85)
    row = replace(row, cap_latency=Latency.constant(39.7), brake_latency=Latency.constant(4.61))
    apart = replace(row, cap_latency=Latency(39.7, 39.7 + 1e-9), brake_latency=Latency(4.61, 4.61 + 1e-9))
    together = simulate(row, load, policy=build_policy("polca", release=release))
    alone = simulate(apart, load, policy=build_policy("polca", release=release))
    assert together.brakes > 0
    assert together.commands.equals(alone.commands)
    assert together.ledger_counts == alone.ledger_counts
    assert alone.e2e_s == pytest.approx(together.e2e_s, abs=1e-6)
    assert sum(together.capped_s.values()) == pytest.approx(sum(alone.capped_s.values()), abs=1e-4)


def test_commands_take_effect_when_they_land_and_not_before():
    row = replace(a_row(), cap_latency=Latency.constant(41.0))
    policy = Script((10.0, Command(Action.CAP, Priority.LOW, 0.8)), (20.0, Command(Action.BRAKE, (1, 3))))
    result = simulate(row, a_load(hours=0.1), policy=policy)
    told = {}
    for landing in result.landings.to_pylist():
        told.setdefault((landing["time_s"], landing["action"]), set()).update(landing["servers"])
    low = {i for i, s in enumerate(row.servers) if s.priority is Priority.LOW}
    assert told[25.0, "brake"] == {1, 3}
    assert told[51.0, "cap"] == low
    levels = {time_s: caps for time_s, _, _, _, caps in policy.seen}
    assert all(levels[50.0][i] == 1.0 for i in low)
    assert all(levels[52.0][i] == 0.8 for i in low - {1, 3})  # theirs is ordered again after the brake
    assert result.brakes == 1


def test_capped_seconds_count_each_server_and_level():
    policy = Script((10.0, Command(Action.CAP, Priority.LOW, 0.8)), (100.0, Command(Action.CAP, Priority.LOW, 1.0)))
    result = simulate(a_row(), a_load(hours=0.1), policy=policy)
    at = profile().snap(0.8)
    assert result.capped_s == {(Priority.LOW, at): pytest.approx(5 * 90.0)}
    assert result.capped_share(Priority.LOW, at) == pytest.approx(90.0 / result.duration_s)


def test_lateness_costs_brakes():
    load = a_load()
    late = simulate(a_row(0.9), load, policy=build_policy("polca"))
    prompt = replace(a_row(0.9), cap_latency=Latency.constant(0.01), brake_latency=Latency.constant(0.01))
    assert simulate(prompt, load, policy=build_policy("polca")).brakes != late.brakes


@pytest.mark.parametrize("seed", range(4))
def test_faulty_commands_end_in_order_and_overload_is_short(seed):
    faults = ActuationFaults(loss=0.1, duplicate=0.1, refuse=0.1, on_brake=False)
    row = replace(a_row(0.8), actuation_faults=faults, cap_latency=Latency(5.0, 40.0), brake_latency=Latency(1.0, 5.0))
    result = simulate(row, a_load(), policy=build_policy("polca"), seed=seed)
    assert result.ledger_counts["lost"] > 0 and result.ledger_counts["resent"] > 0
    assert result.brakes > 0
    bound_s = row.telemetry_period_s + row.brake_latency.most_s + 2 * row.telemetry_period_s
    assert result.longest_overload_s <= bound_s
    again = simulate(row, a_load(), policy=build_policy("polca"), seed=seed)
    same(result, again)
    asked = simulate(row, a_load(), policy=build_policy("polca"), seed=seed, quiet=False)
    same(result, asked)


def test_lost_brakes_are_sent_again():
    row = replace(a_row(0.8), actuation_faults=ActuationFaults(loss=0.3))
    result = simulate(row, a_load(), policy=build_policy("no-cap"))
    retry_s = row.brake_latency.most_s + row.telemetry_period_s
    assert result.ledger_counts["resent"] > 0
    assert result.longest_overload_s <= 4 * row.telemetry_period_s + row.brake_latency.most_s + 4 * retry_s


def test_dead_servers_stay_as_they_are():
    row = replace(a_row(0.8), actuation_faults=ActuationFaults(dead_servers=(0, 1)))
    result = simulate(row, a_load(), policy=build_policy("polca"))
    touched = set(np.concatenate([landing["servers"] for landing in result.landings.to_pylist()]).astype(int))
    assert touched.isdisjoint({0, 1}) and touched


def test_refused_writes_change_nothing_and_doubled_ones_land_twice():
    policy = Script((10.0, Command(Action.CAP, Priority.LOW, 0.8)))
    refused = simulate(a_row(actuation_faults=ActuationFaults(refuse=1.0)), a_load(hours=0.1), policy=policy)
    assert len(refused.landings) == 0 and not refused.capped_s and refused.ledger_counts["refused"] > 5
    doubled = simulate(a_row(actuation_faults=ActuationFaults(duplicate=1.0)), a_load(hours=0.1), policy=policy)
    assert sorted(doubled.landings.column("time_s").to_pylist()) == [50.0] * 5 + [90.0] * 5


def test_both_pods_of_a_dead_shared_server_are_dead():
    row = a_row(0.5, shared=True, actuation_faults=ActuationFaults(dead_servers=(0,)))
    result = simulate(row, a_load(hours=0.2), policy=build_policy("polca"))
    touched = set(np.concatenate([landing["servers"] for landing in result.landings.to_pylist()]).astype(int))
    assert touched == set(range(20)) - {0, 10}


def test_samples_that_come_too_late_for_the_policy_are_refused():
    """It would stay blind, never brake, and "no brakes" would look like a row with room."""
    row = a_row(0.8, telemetry_lag_s=8.0)
    with pytest.raises(InputError, match="would never brake"):
        simulate(row, a_load(hours=0.1), policy=build_policy("polca"))
    patient = simulate(row, a_load(hours=1), policy=build_policy("polca", stale_after_periods=4))
    assert patient.brakes > 0
    assert patient.longest_overload_s <= row.telemetry_period_s + 8.0 + 5.0 + 2 * row.telemetry_period_s


@pytest.mark.parametrize("kind", ["gap", "stuck", "nan", "tenfold", "negative"])
def test_a_lying_sensor(kind):
    row = replace(a_row(1.5), telemetry_faults=(TelemetryFault(kind, 100.0, 160.0),))
    policy = Script()
    result = simulate(row, a_load(hours=0.1), policy=policy)
    seen = {now_s: sample for now_s, sample, *_ in policy.seen}
    true_w = dict(zip(np.arange(1, len(result.row_w) + 1) * 2.0, result.row_w.astype(float), strict=True))
    assert seen[98.0].power_w == true_w[98.0] and seen[160.0].power_w == true_w[160.0]
    said = seen[130.0]
    if kind == "gap":
        assert said.measured_at_s == 98.0
        safe = simulate(row, a_load(hours=0.1), policy=build_policy("polca"))
        assert safe.commands.column("action").to_pylist()[0] == "cap"
    else:
        assert said.measured_at_s == 130.0
        wanted = {"stuck": true_w[98.0], "tenfold": 10 * true_w[130.0], "negative": -true_w[130.0]}
        assert math.isnan(said.power_w) if kind == "nan" else said.power_w == pytest.approx(wanted[kind])


@pytest.mark.parametrize("kind", ["gap", "nan", "tenfold", "negative"])
def test_nothing_is_raised_while_the_sensor_lies(kind):
    row = replace(a_row(1.5), telemetry_faults=(TelemetryFault(kind, 100.0, 160.0),))
    down, up = Command(Action.CAP, Priority.LOW, 0.8), Command(Action.CAP, Priority.LOW, 1.0)
    result = simulate(row, a_load(hours=0.1), policy=Script((10.0, down), (130.0, up)))
    assert [(landing["time_s"], landing["level"]) for landing in result.landings.to_pylist()] == [
        (50.0, 0.8),
        (200.0, 1.0),  # sent with the first honest sample
    ]


def test_random_faults_and_quiet():
    faults = random_telemetry_faults(3 * 3600, per_day=200, mean_length_s=20, seed=5)
    row = replace(a_row(0.9), telemetry_faults=faults, telemetry_lag_s=2.0)
    ours = simulate(row, a_load(), policy=build_policy("polca"))
    same(ours, simulate(row, a_load(), policy=build_policy("polca"), quiet=False))


def test_demand_response_caps_while_the_budget_is_low():
    row = a_row()
    budget = BudgetSchedule.constant(60_000.0).between(601.0, 1800.0, 24_000.0)
    result = simulate(replace(row, budget=budget), a_load(hours=1), policy=build_policy("polca"))
    times = result.commands.column("time_s").to_numpy()
    assert len(times) and times.min() == 602.0 and times.max() > 1800.0
    assert result.utilization[310] == pytest.approx(result.row_w[310] / 24_000.0)
    free = simulate(replace(row, budget=budget), a_load(hours=1), policy=build_policy("polca"), quiet=False)
    same(result, free)


def test_a_rack_and_a_failing_ups_brake_the_row():
    rack = PowerNode("rack0", BudgetSchedule.constant(7_000.0), (0, 1))
    ups = PowerNode("ups", BudgetSchedule.constant(80_000.0), tuple(range(10)))
    row = replace(a_row(3.0), nodes=(rack, ups), failures=(FeedFailure(1000.0, 1200.0, 0.2, "ups"),))
    load = a_load(hours=0.5)
    result = simulate(row, load, policy=build_policy("no-cap"))
    assert result.node_w[1] == pytest.approx(result.row_w, rel=1e-5)
    alone = simulate(replace(row, nodes=(), failures=()), load)
    unbraked = simulate(row, load)
    assert np.array_equal(alone.row_w, unbraked.row_w)
    first = result.commands.to_pylist()[0]
    assert first["action"] == "brake" and first["time_s"] in (1002.0, *np.arange(2.0, 1002.0, 2.0))
    assert result.overload_s == 0.0 and result.node_overloads()["ups"][1] > 0
    tightest = np.maximum(result.node_w[0] / 7_000.0 * row.budget.at(0), result.row_w)
    before = np.arange(len(result.row_w)) < 499
    assert result.seen_w[before] == pytest.approx(tightest[before], rel=1e-5)


def test_shared_servers_obey_the_strictest_and_say_so():
    row = a_row(shared=True)
    policy = Script((10.0, Command(Action.CAP, Priority.LOW, 0.7)))
    result = simulate(row, a_load(hours=0.2), policy=policy)
    free = simulate(row, a_load(hours=0.2))
    found = impact(result, free)
    assert found[Priority.HIGH].p50 > 0.05
    assert result.strictest_s == pytest.approx(10 * (result.duration_s - 50.0))
    assert impact(simulate(a_row(), a_load(hours=0.2), policy=policy), simulate(a_row(), a_load(hours=0.2)))[
        Priority.HIGH
    ].p50 == pytest.approx(0.0, abs=0.0)


def test_servers_of_two_profiles_are_told_their_own_clock():
    other = profile(8, name="coarse").model_copy(update={"clock_step_mhz": 100.0})
    row = a_row()
    servers = tuple(replace(s, profile=other, instances=1) if i < 4 else s for i, s in enumerate(row.servers))
    policy = Script((10.0, Command(Action.CAP, Priority.LOW, 0.8)))
    result = simulate(replace(row, servers=servers), a_load(hours=0.05), policy=policy)
    levels = {level for _, level in result.capped_s}
    assert levels == {other.snap(0.8), profile().snap(0.8)}


def test_a_run_directory_tells_the_run(tmp_path):
    result = simulate(a_row(0.85), a_load(hours=0.5), policy=build_policy("polca"))
    out = result.write(tmp_path / "run")
    summary = json.loads((out / "summary.json").read_text())
    assert summary["brakes"] == result.brakes and summary["policy"] == "polca"
    power = pl.read_parquet(out / "power.parquet")
    assert power.height == len(result.row_w) and power["time_s"][0] == 2.0
    assert pl.read_parquet(out / "requests.parquet")["e2e_s"].to_numpy() == pytest.approx(result.e2e_s)
    assert pl.read_parquet(out / "commands.parquet").height == len(result.commands)
    with pytest.raises(InputError, match="does not exist"):
        result.write(tmp_path / "no" / "run")


def test_impact_refuses_runs_that_differ_in_more_than_the_policy():
    load = a_load(hours=0.1)
    free = simulate(a_row(), load)
    with pytest.raises(InputError, match="servers differ"):
        impact(simulate(a_row().with_added(0.3), load), free)
    with pytest.raises(InputError, match="loads differ"):
        impact(simulate(a_row(), a_load(4, hours=0.1)), free)
    with pytest.raises(InputError, match="without a policy"):
        impact(free, simulate(a_row(), load, levels={Priority.LOW: 0.9}))
    assert impact(free, free)[Priority.LOW].p99 == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: a_row(0.0), "above zero"),
        (lambda: Row.uniform(2, profile(), budget_w=0.203), "kW or MW"),
        (lambda: Row((), BudgetSchedule.constant(1e5)), "no servers"),
        (lambda: Row((Server("a", Priority.LOW, profile()),) * 2, BudgetSchedule.constant(1e5)), "there twice"),
        (lambda: Row.uniform(2, profile(), budget_w=1e5, instances_per_server=2), "do not fit"),
        (lambda: replace(a_row(), nodes=(PowerNode("r", BudgetSchedule.constant(1e4), (99,)),)), "feeds servers"),
        (lambda: replace(a_row(), failures=(FeedFailure(0, 1, 0.5, "nowhere"),)), "'nowhere' fails"),
        (lambda: Latency(5.0, 1.0), "least_s <= most_s"),
        (lambda: ActuationFaults(loss=0.7, refuse=0.6), "at most 1"),
        (lambda: BudgetSchedule((0.0, 5.0, 5.0), (1e5, 1e5, 1e5)), "ascend"),
        (lambda: simulate(a_row(), a_load(hours=0.01), levels={Priority.LOW: 1.2}), "not in"),
        (lambda: simulate(a_row(), a_load(hours=0.01), seed=-1), "seed -1"),
        (lambda: simulate(a_row(), a_load(hours=0.01), drain_s=math.inf), "drain_s must be finite"),
        (lambda: simulate(a_row(), a_load(hours=0.01), duration_s=math.nan), "duration_s must be finite"),
        (lambda: Row.uniform(40, profile(), budget_w=203.0), "is it in kW"),
        (lambda: a_row(telemetry_lag_s=math.inf), "both finite"),
        (lambda: a_row(telemetry_period_s=math.inf), "both finite"),
        (lambda: a_row(actuation_faults=ActuationFaults(dead_servers=(10,))), "dead server 10"),
        (lambda: a_row().with_added(math.inf), "must be finite"),
        (lambda: FeedFailure(9.0, 5.0, 0.5), "no length"),
        (lambda: random_telemetry_faults(100.0, per_day=0, mean_length_s=5, seed=1), "above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        change()


def test_added_servers_keep_the_mix_and_the_budget():
    row = a_row().with_added(0.3)
    assert (row.num_servers, row.num_low) == (13, 6) or (row.num_servers, row.num_low) == (13, 7)
    assert row.budget == a_row().budget
    assert row.with_added(0.1).num_servers == 14


def test_a_promise_ends_when_its_time_is_over():
    class Timer(Script):
        def quiet(self, now_s, view):
            return Quiet(until_s=now_s + 7.0)

    policy = Timer()
    simulate(a_row(), a_load(hours=0.05), policy=policy)
    asked = [now_s for now_s, *_ in policy.seen]
    assert asked[:4] == [2.0, 10.0, 18.0, 26.0]
