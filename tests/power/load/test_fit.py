"""The fitter on small rows, and the committed base row against the published statistics."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from nonet.cli import app
from nonet.common.errors import InputError
from nonet.power.load.base_row import BaseRow, Statistics, load_base_row, settled_power, statistics_of
from nonet.power.load.fit import FitSpace, fit, measure
from nonet.power.load.replay import fit_to_series, replay_error
from nonet.power.simulating.engine import simulate

SPACE = FitSpace(requests_per_s=(0.5, 0.8), flatness=(0.2, 0.5))


def test_finds_the_row_that_made_the_statistics():
    hidden = fit(Statistics(0.79, 1.0, 1.0), FitSpace(requests_per_s=(0.8,), flatness=(0.5,)), **_SMALL).base
    target = Statistics(0.79, hidden.rise_2s, hidden.rise_40s)
    found = fit(target, SPACE, **_SMALL)
    assert found.base == hidden
    assert found.error == 0.0
    assert found.is_close
    assert fit(target, SPACE, **_SMALL).base == found.base


_SMALL = {"num_servers": 10, "days": 1.0, "short_days": 0.5, "num_draws": 3, "seed": 4}


def test_smoother_counts_double():
    one = fit(Statistics(0.79, 0.2, 0.3), FitSpace(requests_per_s=(0.8,), flatness=(0.5,)), **_SMALL)
    off = [getattr(one.base, name) / aim - 1 for name, aim in (("rise_2s", 0.2), ("rise_40s", 0.3))]
    assert one.error == pytest.approx(sum(d if d >= 0 else -2 * d for d in off))


def test_a_wide_space_is_searched_beside_the_best():
    space = FitSpace.of_row("a100-llama2-70b-tp8", 6)
    assert {point["instances_per_server"] for point in space.points()} == {1}
    point = next(space.points())
    assert all(sum(point[name] != other[name] for name in point) == 1 for other in space.beside(point))
    target = Statistics(0.79, 0.3, 0.4)
    effort = {"num_servers": 6, "days": 0.3, "short_days": 0.3, "num_draws": 1, "num_confirmed": 1, "seed": 2}
    few, more = (fit(target, space, num_trials=num, **effort) for num in (3, 12))
    assert (len(few.trials), len(more.trials)) == (3, 12)
    assert more.error <= few.error
    assert fit(target, space, num_trials=12, **effort).base == more.base


def test_a_much_smoother_row_is_not_close():
    space = FitSpace(requests_per_s=(0.8,), flatness=(0.5,))
    base = fit(Statistics(0.79, 1.0, 1.0), space, **_SMALL).base
    for factor, kind in ((1.3, "smoother"), (0.7, "rougher")):
        found = fit(Statistics(0.79, base.rise_2s * factor, base.rise_40s), space, **_SMALL)
        assert not found.is_close
        assert len(found.shortfalls) == 1 and kind in found.shortfalls[0] and "2 s" in found.shortfalls[0]
    assert fit(Statistics(0.79, base.rise_2s * 1.05, base.rise_40s * 0.9), space, **_SMALL).is_close
    with pytest.raises(InputError, match="no larger"):
        fit(Statistics(0.79, 0.1, 0.05), space, **_SMALL)


def test_the_command_fits_its_default_profile_and_says_when_the_target_is_not_met(tmp_path):
    out = tmp_path / "base.json"
    small = ["--servers", "5", "--days", "0.2", "--trials", "1", "--draws", "1", "-o", str(out)]
    done = CliRunner().invoke(app, ["power", "fit", "--rise-2s", "0.01", "--rise-40s", "0.02", *small, "-q"])
    assert done.exit_code == 1
    assert "NOT MET: rise within 2 s" in done.stdout and "nearest" in done.stdout
    assert BaseRow.from_json(out).instances_per_server == 2
    tp8 = ["power", "fit", "--profile", "a100-llama2-70b-tp8", *small, "--json", "-q"]
    assert json.loads(CliRunner().invoke(app, tp8).stdout)["base"]["instances_per_server"] == 1


def test_preset_has_the_published_statistics_without_being_smoother_than_allowed():
    base = load_base_row("polca-base")
    assert base.num_servers == 40 and base.days == 42
    assert base.peak == pytest.approx(0.79, abs=0.005)
    assert 0.085 <= base.rise_2s <= 0.11
    assert 0.112 <= base.rise_40s <= 0.138


@pytest.mark.slow
def test_preset_is_what_its_draw_gives():
    base = load_base_row("polca-base")
    whole = measure(base)
    assert whole.peak == pytest.approx(base.peak, abs=1e-6)
    assert 0.85 * base.rise_2s < whole.rise_2s <= 0.11
    assert 0.85 * base.rise_40s < whole.rise_40s <= 0.138


def test_first_week_of_the_preset_is_alike():
    base = load_base_row("polca-base")
    week = measure(base, days=7.0)
    assert 0.74 < week.peak <= base.peak + 1e-6
    assert 0.7 * base.rise_2s < week.rise_2s < 0.11
    assert 0.6 * base.rise_40s < week.rise_40s < 0.138


def test_statistics_are_medians_over_the_draws():
    base = fit(Statistics(0.79, 1.0, 1.0), FitSpace(requests_per_s=(0.8,), flatness=(0.5,)), **_SMALL).base
    draws = [measure(base, seed=seed) for seed in (4, 5, 6)]
    for name in ("peak", "rise_2s", "rise_40s"):
        assert getattr(base, name) == pytest.approx(np.median([getattr(draw, name) for draw in draws]), rel=1e-9)
    assert measure(base).peak == pytest.approx(base.peak, rel=1e-9)


def test_record_round_trip_and_bad_records(tmp_path):
    base = load_base_row("polca-base")
    base.to_json(tmp_path / "row.json")
    assert BaseRow.from_json(tmp_path / "row.json") == base
    (tmp_path / "bad.json").write_text('{"profile": "x"}')
    with pytest.raises(InputError, match="budget_w"):
        BaseRow.from_json(tmp_path / "bad.json")
    with pytest.raises(InputError, match="No such file"):
        load_base_row("no-such-row")
    with pytest.raises(InputError, match="fit"):
        fit(days=1.0, short_days=2.0)


def test_added_servers_bring_their_traffic_and_no_budget():
    base = load_base_row("polca-base")
    row = base.row(0.3)
    assert row.num_servers == 52
    assert row.budget.at(0.0) == base.budget_w
    ratio = len(base.load(days=1, added=0.3)) / len(base.load(days=1))
    assert ratio == pytest.approx(1.3, abs=0.02)


def _foreign_series(num: int, seed: int) -> np.ndarray:
    # A day of watts that no simulator of ours made: sine, slow wander, steps, fast noise.
    rng = np.random.default_rng(seed)
    t = np.arange(num) * 2.0
    fast = np.zeros(num)
    shocks = rng.normal(size=num)
    for i in range(1, num):
        fast[i] = 0.8 * fast[i - 1] + shocks[i]
    steps = np.repeat(rng.normal(size=num // 5400 + 1), 5400)[:num]
    return 112e3 + 8e3 * np.sin(t / 86_400 * 2 * np.pi) + 1.5e3 * steps + 1.2e3 * fast / fast.std()


@pytest.mark.parametrize("seed", [1, 2])
def test_replay_follows_a_series_of_another_generator(seed):
    row = load_base_row("polca-base").row()
    series = _foreign_series(43_200, seed)
    found = fit_to_series(series, row)
    assert found.mape <= 0.03
    assert found.out_of_reach == 0.0
    # The error again, from the requests alone.
    first = round(found.warm_up_s / 2)
    watts = simulate(row, found.load, duration_s=(first + len(series)) * 2.0, drain_s=0.0).row_w
    drawn = watts[first : first + len(series)].astype(float)
    assert np.mean(np.abs(drawn - series) / series) == pytest.approx(found.mape, rel=1e-9)
    assert replay_error(found, series, row) == pytest.approx(found.mape, rel=1e-9)


def test_replay_says_what_is_out_of_reach():
    row = load_base_row("polca-base").row()
    series = np.full(3600, 40_000.0)
    series[1800:] = 110_000.0
    found = fit_to_series(series, row)
    assert found.out_of_reach > 0.3
    with pytest.raises(InputError, match="above 0 W"):
        fit_to_series(np.full(100, -1.0), row)


def test_statistics_of_a_plain_series():
    watts = np.array([50.0, 60.0, 79.0, 70.0])
    found = statistics_of(settled_power(np.concatenate([np.zeros(300), watts]), 2.0, 42.0), 100.0)
    assert found == Statistics(0.79, pytest.approx(0.19), pytest.approx(0.29))
