"""SPES: hand-made series of every class, and the minute rules against a plain restatement."""

from __future__ import annotations

import numpy as np
import pytest

from nonet.coldstart.simulating import spes_classes as classes
from nonet.coldstart.simulating._spes_kernels import spes_minute, spes_replay
from nonet.coldstart.simulating.policies.spes import announcing, best_rule, classify_all
from nonet.coldstart.simulating.spes_classes import CLASS_NAMES, SpesClass, classify, merge_fragments, runs_of
from nonet.coldstart.simulating.spes_state import make_state

DAY = 1440
RNG = np.random.default_rng(11)


def at(minutes: object, days: int = 4, calls: int = 1) -> np.ndarray:
    series = np.zeros(days * DAY, np.int32)
    series[np.asarray(minutes, int)] = calls
    return series


def with_waits(waits: np.ndarray, days: int = 4) -> np.ndarray:
    minutes = np.cumsum(waits + 1)
    return at(minutes[minutes < days * DAY], days)


SERIES = {
    "warm": np.ones(4 * DAY, np.int32),
    "regular": at(np.arange(7, 4 * DAY, 30)),
    "appro-regular": with_waits(RNG.choice([10, 25, 70], 400)),
    "dense": with_waits(RNG.choice([1, 2, 3, 4], 3000)),
    "successive": at(
        np.concatenate([np.arange(s, s + 12) for s in RNG.choice(np.arange(0, 5700, 50), 30, replace=False)])
    ),
    "unknown": with_waits(RNG.choice(np.arange(5, 2000), 300, replace=False)),
}


@pytest.mark.parametrize("name", SERIES)
def test_a_series_made_for_a_class_gets_it(name: str) -> None:
    assert classify(SERIES[name]).name == name


def test_busy_minutes_are_successive_too() -> None:
    waits = RNG.choice(np.arange(5, 2000), 60, replace=False)
    series = with_waits(waits) * 11
    assert classify(series).name == "successive"
    series[np.flatnonzero(series)[3]] = 10
    assert classify(series).name == "unknown"


def test_what_came_before_is_forgotten() -> None:
    series = at(np.arange(7, 6 * DAY, 30), days=6)
    noise = RNG.random(2 * DAY) < 0.02
    series[: 2 * DAY] = noise
    found = classify(series)
    assert (found.name, found.forgotten_days, found.predicted) == ("regular", 2, (29.0,))


def test_stray_calls_do_not_hide_a_timer() -> None:
    series = at(np.arange(7, 4 * DAY, 60))
    series[[100, 777, 2021]] = 1
    found = classify(series)
    assert (found.name, found.predicted) == ("regular", (59.0,))
    assert merge_fragments(np.array([5, 5, 5]), np.array([1, 1])).tolist() == [5, 5, 5]


def test_runs_at_the_edges_are_left_out() -> None:
    runs = runs_of(np.array([0, 0, 1, 0, 2, 2, 0], np.int32))
    assert (runs.waits.tolist(), runs.active.tolist(), runs.calls.tolist()) == ([1], [1, 2], [1, 4])
    assert not len(runs_of(np.zeros(5, np.int32)).waits)


def plain_rules(kind: str, predicted: list[float], discrete: bool, deviation: float, series: list[int]) -> list[int]:
    """Loaded at the start of each minute, for a class without adaptation, written from the rules; starts unloaded."""
    give_up = {"regular": 1, "appro-regular": 1, "dense": 5, "pulsed": 3, "possible": 1, "successive": 1, "unknown": 1}[
        kind
    ]
    loaded, wait, windows, seen = False, 10**6, [], []
    for minute, calls in enumerate(series):
        seen.append(int(loaded))
        if calls:
            loaded, wait = True, 0
            if kind == "regular":
                slack = min(deviation, 2)
                windows = [[minute + 1 + predicted[0] - slack, minute + 1 + predicted[0] + slack]]
            elif discrete:
                windows = [[minute + 1 + p, minute + 1 + p] for p in predicted]
            elif predicted:
                windows = [[minute + 1 + predicted[0], minute + 1 + predicted[1]]]
            continue
        wait += 1
        if kind == "regular" and windows and windows[0][1] <= minute:
            windows = [[edge + predicted[0] + 1 for edge in windows[0]]]
        soon = any(left <= minute + 2 and right >= minute - 2 for left, right in windows)
        if soon:
            loaded = True
        elif loaded and wait >= give_up:
            loaded = False
    return seen


@pytest.mark.parametrize(
    ("kind", "predicted", "discrete", "deviation"),
    [
        ("regular", (29.0,), False, 1.5),
        ("appro-regular", (10.0, 25.0), True, 0.0),
        ("dense", (1.0, 4.0), False, 0.0),
        ("pulsed", (), False, 0.0),
        ("successive", (), False, 0.0),
        ("possible", (12.0, 20.0), False, 0.0),
    ],
)
def test_minute_rules_equal_the_plain_ones(kind: str, predicted: tuple, discrete: bool, deviation: float) -> None:
    # Four runs at most: adaptation begins with the fifth wait.
    for seed in range(20):
        rng = np.random.default_rng(seed)
        series = np.zeros(200, np.int32)
        for start in np.sort(rng.choice(np.arange(5, 190, 12), 4, replace=False)):
            series[start : start + rng.integers(1, 4)] = rng.integers(1, 5)
        own = SpesClass(CLASS_NAMES.index(kind), 0, predicted, discrete, deviation)
        state = make_state([own], np.array([-(10**6)]))
        if kind == "regular":  # a regular function has been called; here its windows begin with its first call
            state.left[0, 0] = state.right[0, 0] = 1e9
            state.loaded[0] = 0
        loaded = plain_rules(kind, list(predicted), discrete, deviation, series.tolist())
        cold, wasted = np.zeros(1, np.int64), np.zeros(1, np.int64)
        spes_replay(state, series[None], cold, wasted)
        busy = series > 0
        assert cold[0] == np.sum(busy & (np.array(loaded) == 0)), seed
        assert wasted[0] == np.sum(~busy & (np.array(loaded) == 1)), seed


def replayed(found: SpesClass, series: np.ndarray, last: int = -1) -> tuple[int, int]:
    cold, wasted = np.zeros(1, np.int64), np.zeros(1, np.int64)
    spes_replay(make_state([found], np.array([last])), series[None].astype(np.int32), cold, wasted)
    return int(cold[0]), int(wasted[0])


def test_a_regular_function_is_never_cold_and_costs_its_windows() -> None:
    series = at(np.arange(29, 4 * DAY, 30))
    cold, wasted = replayed(classify(series), series)
    assert cold == 0
    assert wasted <= 6 * np.sum(series)


def test_predictions_follow_a_timer_that_changes() -> None:
    found = classify(at(np.arange(29, 4 * DAY, 30)))
    changed = at(np.arange(44, 4 * DAY, 45))
    cold, _ = replayed(found, changed)
    assert cold < 0.2 * np.sum(changed)
    never, _ = replayed(SpesClass(classes.SUCCESSIVE), changed)
    assert never == np.sum(changed)


def test_an_unknown_function_becomes_possible_when_waits_repeat() -> None:
    series = at(np.arange(100, 4 * DAY, 200))
    cold, _ = replayed(SpesClass(classes.UNKNOWN), series, last=-5000)
    assert cold < 0.4 * np.sum(series)


def test_the_rest_takes_what_would_have_cost_least() -> None:
    rng = np.random.default_rng(5)
    # Short bursts of calls two minutes apart at random times: three idle minutes of patience serve them.
    starts = np.sort(rng.choice(np.arange(0, 8 * DAY - 20), 60, replace=False))
    bursty = at(np.concatenate([starts + 3 * k for k in range(5)]), days=8)
    assert best_rule(bursty, {}, 0.5).name == "pulsed"
    # A function called a minute or two after its mate at random times is announced by it.
    gaps = rng.permutation(np.arange(60, 700, 7))[:25]
    leader = at(np.cumsum(gaps)[np.cumsum(gaps) < 11500], days=8)
    follower = np.roll(leader, 2)
    chosen = classify_all({0: leader, 1: follower}, 3, groups=[4, 4, 4])
    assert chosen[1].name == "correlated"
    assert chosen[1].links == ((0, 2),)
    assert chosen[2].name == "unknown"
    assert classify_all({0: leader, 1: follower}, 3, groups=[4, 5, 4])[1].name != "correlated"


def test_a_correlated_function_is_loaded_by_its_mate() -> None:
    mate = np.zeros(100, np.int32)
    mate[[20, 60]] = 1
    own = np.zeros(100, np.int32)
    own[[22, 62]] = 1
    pair = [SpesClass(classes.UNKNOWN), SpesClass(classes.CORRELATED, links=((0, 2),))]
    cold, wasted = np.zeros(2, np.int64), np.zeros(2, np.int64)
    spes_replay(make_state(pair, np.array([-9999, -9999])), np.stack([mate, own]), cold, wasted)
    assert cold.tolist() == [2, 0]
    assert 2 <= wasted[1] <= 12


@pytest.mark.parametrize(("longest", "kind"), [(4, "dense"), (5, "unknown")])
def test_dense_waits_are_below_five_minutes_at_the_90th_percentile(longest: int, kind: str) -> None:
    series = with_waits(np.tile(np.arange(1, longest + 1), 60), days=1)
    waits = runs_of(series).waits
    assert np.percentile(waits, 90) == longest
    # The three commonest waits are fewer than nine tenths of them, so the functions are not appro-regular.
    assert classify(series).name == kind


@pytest.mark.parametrize(("lag", "links"), [(1, ((7, 1),)), (10, ((7, 10),)), (11, ()), (0, ())])
def test_calls_up_to_ten_minutes_before_announce(lag: int, links: tuple) -> None:
    starts = np.arange(100, 1400, 200)
    assert announcing(at(starts), {7: at(starts - lag)}) == links


def test_half_of_the_starts_must_be_announced() -> None:
    starts = np.arange(100, 1300, 200)
    assert announcing(at(starts), {7: at(starts[:3] - 2)}) == ((7, 2),)
    assert announcing(at(starts), {7: at(starts[:2] - 2)}) == ()


def test_a_regular_function_is_adapted_after_five_new_waits() -> None:
    state = make_state([SpesClass(classes.REGULAR, predicted=(9.0,))], np.array([-1]))
    calls = np.zeros(200, np.int32)
    calls[19::20] = 1  # waits of 19 minutes where 9 were learnt
    predicted = []
    for minute, count in enumerate(calls):
        spes_minute(state, np.array([count], np.int32), minute)
        if count:
            predicted.append(float(state.predicted[0, 0]))
    assert predicted[:6] == [9, 9, 9, 9, 14, 16.5]
