"""The planner on small rows, against runs made by hand with the simulator."""

import json
import re
from dataclasses import replace
from functools import partial
from html import escape
from types import SimpleNamespace

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.common.jsonable import jsonable
from nonet.common.plots import chart_spec
from nonet.power.load.requests import RequestLoad
from nonet.power.planning import Slo, charts, plan, sweep, threshold_grid
from nonet.power.planning.outcome import LATENCY_QS, Runner, Task, quantiles
from nonet.power.planning.page import page_html
from nonet.power.planning.ribbon import ribbon
from nonet.power.planning.traffic import RecordedTraffic
from nonet.power.planning.warnings import warnings_of
from nonet.power.policies.polca import Polca
from nonet.power.policies.protocol import Priority
from nonet.power.policies.registry import build_policy
from nonet.power.simulating import Row, impact, simulate
from tests.power.simulating.parts import poisson_load, profile

NUM = 12
NOTHING = {"prompts": 0, "batch_share": 0.0, "level_share": 0.0}


def traffic(fraction, seed, rate_per_s=0.9, hours=0.5):
    rate_per_s = rate_per_s * (1 + fraction)
    return poisson_load(int(rate_per_s * hours * 3600), rate_per_s, seed, outputs=(100, 600))


@pytest.fixture(scope="module")
def row():
    base = Row.uniform(NUM, profile(), budget_w=1e6, max_batch=8)
    peak_w = max(simulate(base, traffic(0.0, seed)).row_w.max() for seed in (1, 2, 3))
    return base.with_budget(float(peak_w) * 1.25)


@pytest.fixture(scope="module")
def found(row):
    return plan(row, traffic, policies=("polca", "no-cap"), seeds=2, step=1 / NUM, workers=1)


def by_hand(row, policy, added, seed):
    grown, load = row.with_added(added / NUM), traffic(added / NUM, seed)
    result = simulate(grown, load, policy=build_policy(policy), seed=seed, drain_s=1800.0)
    return result, impact(result, simulate(grown, load, seed=seed, drain_s=1800.0))


def keeps(result, costs):
    low, high = costs[Priority.LOW], costs[Priority.HIGH]
    late = high.p50 > 0.01 or high.p99 > 0.05 or low.p50 > 0.05 or low.p99 > 0.5
    return result.brakes == 0 and not late


@pytest.mark.parametrize("policy", ["polca", "no-cap"])
def test_the_answer_is_that_of_a_scan_by_hand(row, found, policy):
    answers, first_brakes = {}, []
    for seed in (1, 2):
        runs = {added: by_hand(row, policy, added, seed) for added in range(NUM // 2 + 1)}
        failed = [added for added, (result, costs) in runs.items() if not keeps(result, costs)]
        answers[seed] = min(failed, default=NUM // 2 + 1) - 1
        first_brakes += [added / NUM for added, (result, _) in runs.items() if result.brakes]
    ours = found.policies[policy]
    assert dict(ours.by_seed) == answers
    assert ours.added == max(0, min(answers.values()))
    assert ours.first_brake == (pytest.approx(min(first_brakes)) if first_brakes else None)
    assert 0 < ours.added < NUM // 2, "the scenario should have its limit inside"


def test_outcomes_are_those_of_the_simulator(row, found):
    for outcome in (o for o in found.outcomes if o.policy == "polca"):
        result, costs = by_hand(row, "polca", outcome.added, outcome.seed)
        low = costs[Priority.LOW]
        assert outcome.impact["lp_p50"] == pytest.approx(low.p50, abs=1e-12)
        assert outcome.impact["hp_p99"] == pytest.approx(costs[Priority.HIGH].p99, abs=1e-12)
        assert outcome.throughput["lp"] == pytest.approx(low.throughput)
        assert outcome.capped["lp"] == pytest.approx(result.capped_share(Priority.LOW))
        assert outcome.brakes == result.brakes and outcome.peak == pytest.approx(result.peak)
        assert outcome.latency_s["lp"][0, LATENCY_QS.index(0.9)] == pytest.approx(result.latency_s(0.9, Priority.LOW))


def test_steps_take_the_worst_seed_and_both_sides_of_the_answer_have_all(found):
    best = found.best
    for step in best.steps:
        own = [o for o in found.outcomes if o.policy == "polca" and o.added == step.added]
        assert step.brakes == max(o.brakes for o in own)
        assert step.impact["lp_p99"] == max(o.impact["lp_p99"] for o in own)
    for added in (best.added, best.added + 1):
        assert next(step.seeds for step in best.steps if step.added == added) == (1, 2)
    assert [step.added for step in best.steps][: best.added + 2] == list(range(best.added + 2))
    broken = next(step for step in best.steps if step.added == best.added + 1)
    assert best.reason == broken.broken and best.reason and best.reason_fraction == pytest.approx(broken.fraction)
    assert all(best.limits[name] <= best.reason_fraction + 1e-9 for name in best.reason)


def test_scan_threads_and_processes_give_the_same(row, found):
    scanned = plan(row, traffic, seeds=2, step=1 / NUM, scan=True, workers=2)
    assert len(scanned.best.steps) == NUM // 2 + 1
    assert scanned.best.added == found.best.added and scanned.best.by_seed == found.best.by_seed
    several = plan(row, partial(traffic, hours=0.2), seeds=1, max_added=0.2, step=0.1, workers=2, engine="local")
    alone = plan(row, partial(traffic, hours=0.2), seeds=1, max_added=0.2, step=0.1, workers=1)
    assert json.dumps(jsonable(several.to_dict())) == json.dumps(jsonable(alone.to_dict()))


def test_ray_gives_the_same_and_is_started_once_for_all_rounds(row, monkeypatch):
    ray = pytest.importorskip("ray", reason="the extra nonet[ray] is not installed")
    starts, init = [], ray.init
    monkeypatch.setattr(ray, "init", lambda **given: (starts.append(given), init(**given)))
    asked = {"seeds": 1, "step": 1 / NUM, "max_added": 0.5}
    rounds = []
    spread = plan(
        row, partial(traffic, hours=0.1), **asked, workers=2, engine="ray", progress=lambda *at: rounds.append(at)
    )
    alone = plan(row, partial(traffic, hours=0.1), **asked, workers=2)
    assert json.dumps(jsonable(spread.to_dict())) == json.dumps(jsonable(alone.to_dict()))
    assert len(starts) == 1 and not ray.is_initialized() and len(rounds) > 3


def test_sentences_and_json(found):
    text = found.sentence()
    assert f"{found.best.added} more servers fit" in text and "interval" in text and "would break" in text
    document = json.loads(json.dumps(jsonable(found.to_dict())))
    assert document["policies"]["polca"]["added"] == found.best.added
    assert len(document["policies"]["no-cap"]["steps"]) == len(found.policies["no-cap"].steps)


def test_a_row_that_does_not_hold_as_it_is(row):
    tight = row.with_budget(row.budget.at(0.0) * 0.7)
    refused = plan(tight, traffic, seeds=(4,), max_added=0.1, step=1 / NUM, workers=1)
    assert not refused.best.base_holds and refused.best.added == 0 and dict(refused.best.by_seed) == {4: -1}
    assert "already breaks" in refused.sentence() and refused.best.interval is None and not refused.best.fits
    assert "the limit on brakes." in refused.sentence() or "brakes" not in refused.best.reason
    asleep = plan(row, traffic, slo=Slo(), seeds=1, max_added=0.0, workers=1)
    assert (
        asleep.best.fits and asleep.sentence() == "The row as it is holds under polca; no more servers were asked for."
    )


def test_a_row_that_never_ends_is_said_to_be_overloaded(row):
    swamped = plan(row, partial(traffic, rate_per_s=40.0, hours=0.2), seeds=1, max_added=0.1, step=0.1, workers=1)
    assert swamped.sentence() == "No server fits under polca: requests pile up without end, even without a budget."


def test_plenty_of_budget_holds_to_the_top_and_warns_of_little_traffic(row):
    rich = plan(row.with_budget(1e6), traffic, seeds=2, max_added=0.2, step=0.1, workers=1)
    assert rich.best.at_top and rich.best.first_brake is None and "every step asked for holds" in rich.sentence()
    assert any("hours of traffic" in warning for warning in rich.warnings)


def test_a_budget_that_falls_is_no_rise_of_power(row):
    before = plan(row, traffic, seeds=1, max_added=0.0, workers=1)
    low_w = row.budget.at(0.0) * 0.6
    fallen = plan(
        replace(row, budget=row.budget.between(1200.0, 9e9, low_w)), traffic, seeds=1, max_added=0.0, workers=1
    )
    (steady,), (outcome,) = before.outcomes, fallen.outcomes
    assert outcome.rise_2s == pytest.approx(steady.rise_2s / 0.6) and outcome.rise_cap == pytest.approx(
        steady.rise_cap / 0.6
    )
    later = plan(replace(row, budget=row.budget.between(9e8, 9e9, low_w)), traffic, seeds=1, max_added=0.0, workers=1)
    assert later.outcomes[0].rise_cap == steady.rise_cap


def test_the_threshold_that_leaves_room_does(row):
    for rise_cap in (0.124, 0.128, 0.11):
        outcome = SimpleNamespace(rise_2s=0.1, rise_cap=rise_cap, days=9.0, extrapolated=NOTHING, added=0)
        (text,) = warnings_of(row, traffic, [outcome], 0, {"t1": 0.8, "t2": 0.9}, (1, 2, 3))
        assert float(re.search(r"T2 ([\d.]+) leaves room", text)[1]) + rise_cap <= 1.0


def test_a_row_that_rises_as_in_training_is_said_when_it_is_large(row):
    outcome = SimpleNamespace(rise_2s=0.3, rise_cap=0.3, days=9.0, extrapolated=NOTHING, added=0)
    large = Row.uniform(20, profile(), budget_w=1e6)
    for asked, said in ((large, True), (row, False)):
        texts = warnings_of(asked, traffic, [outcome], 0, {}, (1, 2, 3))
        assert any("as in rows that train" in text for text in texts) == said


def test_the_worst_day_of_a_ribbon_is_that_of_the_highest_sample():
    u = np.full(3 * 43_200, 0.5)
    u[50_000:50_010], u[100_000] = 0.9, 0.2
    found = ribbon(u, 2.0, 3 * 86_400.0)
    assert found.worst_day == 1 and found.minutes.shape == (1440, 2) and found.minutes.max() == np.float32(0.9)
    assert found.hours[:, 0].min() == np.float32(0.2)


def test_a_recording_is_said_to_be_one(row):
    recorded = RecordedTraffic(traffic(0.0, 1, hours=0.1))
    said = plan(row, recorded, seeds=2, max_added=0.0, workers=1).warnings
    assert any("nothing about other weeks" in text for text in said) and any("Only 0.1 hours" in text for text in said)
    assert not any("other weeks" in text for text in plan(row, recorded, seeds=1, max_added=0.0, workers=1).warnings)


def test_one_class_only_is_said(row):
    high = Row.uniform(NUM, profile(), budget_w=row.budget.at(0.0), low_priority_share=0.0, max_batch=8)
    only = plan(high, partial(_high_only), seeds=1, max_added=0.1, step=1 / NUM, workers=1)
    assert any("degenerates" in warning for warning in only.warnings)
    assert set(only.outcomes[0].impact) == {"hp_p50", "hp_p99"}


def _high_only(fraction, seed):
    load = traffic(fraction, seed, hours=0.1)
    return RequestLoad.of(load.arrival_s, load.prompt_tokens, load.output_tokens, priority=Priority.HIGH)


def test_quantiles_are_numpys_where_everything_ended():
    values = np.random.default_rng(2).exponential(3.0, 1001)
    np.testing.assert_allclose(quantiles(values, LATENCY_QS), np.quantile(values, LATENCY_QS), rtol=1e-12)
    with_missing = np.r_[values, np.full(40, np.nan)]
    top = quantiles(with_missing, (0.5, 0.99))
    assert top[1] == np.inf and top[0] == pytest.approx(np.quantile(np.r_[values, np.full(40, 1e9)], 0.5))


def test_bad_questions(row):
    with pytest.raises(InputError, match="step above 0"):
        plan(row, traffic, step=0.0)
    with pytest.raises(InputError, match="more than max_added"):
        plan(row, traffic, step=0.9)
    for fraction in (float("nan"), -0.1, 1e9):
        with pytest.raises(InputError, match="shares from 0 to 10"):
            sweep(row, traffic, added=(0.1, fraction))
    with pytest.raises(InputError, match="seed"):
        plan(row, traffic, seeds=0)
    with pytest.raises(InputError, match="twice"):
        plan(row, traffic, policies=("polca", Polca(t1=0.7)))
    with pytest.raises(InputError, match="unknown"):
        plan(row, traffic, policies=("poca",))


def test_sweep_cells_are_runs_with_those_thresholds(row):
    swept = sweep(row, traffic, thresholds=((0.75, 0.85), (0.85, 0.95)), added=(1 / NUM, 0.25), workers=1)
    assert swept.pairs == ((0.75, 0.85), (0.85, 0.95)) and swept.added == (1, 3)
    grown, load = row.with_added(0.25), traffic(0.25, 1)
    uncapped = simulate(grown, load, seed=1)
    for pair in swept.pairs:
        result = simulate(grown, load, policy=Polca(t1=pair[0], t2=pair[1]), seed=1, drain_s=1800.0)
        cell = swept.cells[pair, 3]
        assert cell.brakes == result.brakes
        assert cell.impact["lp_p50"] == pytest.approx(impact(result, uncapped)[Priority.LOW].p50, abs=1e-12)
        assert cell.capped["lp"] == pytest.approx(result.capped_share(Priority.LOW))
    assert swept.cells[(0.75, 0.85), 3].capped["lp"] >= swept.cells[(0.85, 0.95), 3].capped["lp"]
    with pytest.raises(InputError, match="no t1"):
        sweep(row, traffic, policy="no-cap")
    with pytest.raises(InputError, match="lower T1"):
        threshold_grid((0.9,), (0.8,))


def test_page_holds_the_answer_and_every_part(row, found):
    swept = sweep(row, traffic, thresholds=((0.75, 0.85),), added=(0.1,), workers=1)
    html = page_html(found, swept)
    for part in (
        found.sentence(), "Added servers against latency impact", "Thresholds of polca", "Power of the row",
        "Latency by class", "Other policies", "Every size that was run", "does not replace a breaker",
    ):  # fmt: skip
        assert part in html
    assert "NaN" not in html.split("<script")[0]
    assert all(f"<p>Mind: {escape(text)}</p>" in html for text in found.warnings) and found.warnings


def test_charts_draw_what_was_found(row, found):
    grid = threshold_grid((0.7, 0.8), (0.75, 0.85))
    swept = sweep(row, traffic, thresholds=grid, added=(0.1, 0.25), workers=1)
    cells = chart_spec(charts.threshold_map(swept))["layer"][0]
    assert cells["mark"]["type"] == "rect"
    for chart in (charts.heat_map(swept), charts.threshold_map(swept), charts.pareto_chart(found.best, found.slo)):
        json.dumps(chart_spec(chart), allow_nan=False)
    ribbon = chart_spec(charts.ribbon_chart(found.shown, found.thresholds["polca"]))
    assert "0.89" in json.dumps(ribbon) and len(ribbon["vconcat"]) == 2
    peak_minute = found.shown.ribbon.minutes[:, 1].max()
    assert peak_minute == pytest.approx(found.shown.peak, abs=1e-6)


def test_runs_that_order_nothing_cost_nothing(row):
    runner = Runner(row.with_budget(1e6), traffic, {"polca": Polca()})
    (outcome,) = runner(Task(0, 1, ("polca",)))
    assert set(outcome.impact.values()) == {0.0} and set(outcome.throughput.values()) == {0.0}


def test_recorded_traffic_grows_with_the_row():
    load = poisson_load(5000, 1.0, seed=3)
    grow = RecordedTraffic(load, spread_s=5.0)
    assert np.array_equal(grow(0.0, 1).arrival_s, load.arrival_s)
    larger, largest = grow(0.3, 1), grow(1.5, 1)
    assert len(larger) == pytest.approx(6500, rel=0.02) and len(largest) == pytest.approx(12_500, rel=0.02)
    pairs = set(zip(larger.arrival_s.tolist(), larger.prompt_tokens.tolist(), strict=True))
    assert set(zip(load.arrival_s.tolist(), load.prompt_tokens.tolist(), strict=True)) <= pairs
    assert not np.array_equal(grow(0.3, 2).arrival_s, larger.arrival_s)
    np.testing.assert_array_equal(grow(0.3, 1).arrival_s, larger.arrival_s)


def test_slo_limits():
    slo = Slo(lp_p99=0.2, brakes=1)
    assert slo.broken({"lp_p99": 0.2, "hp_p50": 0.01}, 1) == ()
    assert slo.broken({"lp_p99": np.inf}, 2) == ("lp_p99", "brakes")
    assert slo.broken({"lp_p99": np.nan}, 0) == ("overloaded",)
    for bad in (["hp:1"], ["xp:1,2"], ["hp:a,b"], ["hp:900,5"], ["brakes:1.5"], ["hp:-1,5"]):
        with pytest.raises(InputError, match="SLO"):
            Slo.parse(bad)
