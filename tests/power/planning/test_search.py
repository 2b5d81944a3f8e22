"""The search against a scan of the same truth, and the interval against simulation."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nonet.common.errors import InputError
from nonet.power.bench.planner import _synthetic
from nonet.power.planning.answers import conclude
from nonet.power.planning.interval import mean_interval
from nonet.power.planning.rounds import search_steps
from nonet.power.planning.search import PrefixSearch
from nonet.power.planning.slo import Slo


def run(truth, close=(), **options):
    search = PrefixSearch(len(truth), **options)
    for _ in range(100):
        wanted = search.wanted()
        if not wanted:
            return search
        assert wanted == sorted(set(wanted)) and not set(wanted) & set(search.known)
        for step in wanted:
            search.tell(step, truth[step], step in close)
    raise AssertionError("the search does not end")


def scan(truth):
    return next((step - 1 for step, holds in enumerate(truth) if not holds), len(truth) - 1)


@given(st.integers(1, 60), st.data())
def test_monotone_truth_is_found_with_any_sections(num, data):
    limit = data.draw(st.integers(-1, num - 1))
    sections, neighbours = data.draw(st.integers(2, 9)), data.draw(st.integers(0, 3))
    truth = [step <= limit for step in range(num)]
    search = run(truth, sections=sections, neighbours=neighbours)
    assert search.answer == limit
    if sections == 2:
        assert len(search.known) <= math.ceil(math.log2(num + 1)) + 3 + neighbours


@given(st.integers(4, 40), st.data())
def test_a_ragged_edge_is_found_when_what_holds_beside_it_is_close(num, data):
    """Noise: steps around the limit hold or fail at random, and those that hold there are known to be close."""
    limit = data.draw(st.integers(0, num - 1))
    width = data.draw(st.integers(0, 6))
    ragged = range(limit, min(num, limit + width))
    truth = [step < limit for step in range(num)]
    for step in ragged:
        truth[step] = data.draw(st.booleans())
    search = run(truth, close=set(ragged), sections=data.draw(st.integers(2, 6)))
    assert search.answer == scan(truth)


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(2, 6))
def test_whatever_the_truth_the_answer_agrees_with_all_that_was_run(truth, sections):
    search = run(truth, sections=sections)
    answer = search.answer
    assert all(holds == truth[step] for step, (holds, _) in search.known.items())
    assert all(holds for step, (holds, _) in search.known.items() if step <= answer)
    assert answer == len(truth) - 1 or not truth[answer + 1]
    assert answer < 0 or all(step in search.known for step in range(max(0, answer - 2), answer + 1))
    everything = run(truth, sections=len(truth) + 1, neighbours=len(truth))
    assert everything.answer == scan(truth)


def outcomes_by_law(limit_of, brakes_from):
    """Runs whose low-priority impact breaks above the seed's limit, and that brake once from a step on."""

    def evaluate(tasks):
        for task in tasks:
            impact = {"lp_p50": 0.0 if task.added <= limit_of[task.seed] else 0.06}
            brakes = int(task.added >= brakes_from)
            yield [replace(_synthetic(task, 0.0), impact=impact, brakes=brakes, peak=0.8)]

    return evaluate


@pytest.mark.parametrize("limits", [(12, 3, 9), (3, 12, 9), (5, 5, 6)])
def test_the_answer_is_the_worst_seeds_and_both_sides_of_it_are_run_on_all(limits):
    seeds, steps, slo = (4, 7, 8), tuple(range(21)), Slo(brakes=9)
    limit_of = dict(zip(seeds, limits, strict=True))
    found = search_steps(outcomes_by_law(limit_of, brakes_from=17), steps, seeds, ("polca",), slo)
    answer = conclude("polca", 40, steps, seeds, found, slo)
    assert answer.added == min(limits) and dict(answer.by_seed) == limit_of and answer.reason == ("lp_p50",)
    assert answer.first_brake == 17 / 40
    run_at = {step.added: step.seeds for step in answer.steps}
    assert run_at[min(limits)] == run_at[min(limits) + 1] == seeds


def test_interval_is_students_around_the_middles_and_half_a_step_wider():
    held = np.array([0.2, 0.25, 0.3, 0.2])
    found = mean_interval(held, held + 0.05, confidence=0.9)
    low, high = stats.t.interval(0.9, 3, loc=(held + 0.025).mean(), scale=stats.sem(held))
    assert found.low == pytest.approx(low - 0.025) and found.high == pytest.approx(high + 0.025)


def test_interval_is_open_when_a_seed_never_failed():
    found = mean_interval([0.2, 0.5], [0.225, math.inf])
    assert found.high == math.inf and found.low < 0.35
    with pytest.raises(InputError, match="two seeds"):
        mean_interval([0.2], [0.3])


@pytest.mark.parametrize("spread", [0.002, 0.012, 0.03])
def test_interval_covers_the_mean_of_the_law(spread):
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(400):
        mean = rng.uniform(0.2, 0.3)
        limits = rng.normal(mean, spread, 4)
        held = np.floor(limits / 0.025) * 0.025
        found = mean_interval(held, held + 0.025)
        covered += found.low <= mean <= found.high
    assert covered >= 0.93 * 400
