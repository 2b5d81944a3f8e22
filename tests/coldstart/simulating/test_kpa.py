"""The Knative autoscaler: recorded scenarios, oracles for its windows, and arrays that decide for many revisions."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.coldstart.simulating._kpa_kernels import NOT_PANICKING, KpaArrays, kpa_decide
from nonet.coldstart.simulating.kpa import KpaDecider, KpaSpec, WindowAverage, _DelayWindow
from nonet.coldstart.simulating.kpa_scenarios import run_scenario, run_scenarios
from nonet.common.errors import InputError

BASE = {
    "panic_threshold": 2,
    "max_up": 10,
    "max_down": 10,
    "stable_window_s": 60,
    "utilization": 0.75,
    "reachable": True,
    "activation_scale": 0,
    "scale_down_delay_s": 0,
    "target": 10,
    "tbc": 100,
}


def step(t: float, stable: float, panic: float, ready: int, want: int, want_ebc: int | None, **more: object) -> dict:
    return {"t": t, "stable": stable, "panic": panic, "ready": ready, "want": want, "want_ebc": want_ebc, **more}


# Further cases of Knative's own tests (autoscaler_test.go), restated.
MORE = [
    ("small up rate", {"target": 1, "tbc": 1982, "max_up": 1.1}, [step(0, 3, 3.1, 2, 3, -1983)]),
    ("activation scale at zero", {"activation_scale": 2, "tbc": 75},
     [step(0, 0, 0, 1, 0, -62), step(0, 1, 0, 1, 2, -62)]),
    ("unlimited burst capacity", {"target": 181, "tbc": -1}, [step(0, 21, 26, 1, 1, -1)]),
    ("panic doubles pods", {"tbc": 84}, [step(0, 50, 100, 1, 10, -171)]),
    ("stable larger than panic", {"target": 1, "initial_panic_age_s": 5, "initial_max_panic_pods": 5},
     [step(0, 50, 30, 5, 50, -124)]),
    ("rate limit down", {"tbc": 61}, [step(0, 1, 1, 100, 10, 1271), step(0, 1, 1, 10, 1, 71)]),
    ("update of the target", {"tbc": 77},
     [step(0, 100, 101, 1, 10, -165), step(0, 100, 101, 10, 100, -159, spec={"target": 1, "tbc": 71})]),
    ("extended panic", {"target": 1, "tbc": 98},
     [step(0, 11, 25, 10, 25, -110), step(30, 30, 80, 40, 80, -125), step(89, 1, 1, 40, 80, -46),
      step(91, 1, 1, 40, 4, -46)]),
    ("start in panic", {"initial_ready": 2, "panic_threshold": 220}, [step(0, 10, 10, 2, 2, -84)]),
    ("delay of an unreachable revision", {"scale_down_delay_s": 300, "panic_threshold": 100},
     [step(2, 40, 40, 0, 4, None), step(60, 0, 0, 0, 4, None), step(62, 0, 0, 0, 0, None, spec={"reachable": False})]),
]  # fmt: skip


def test_every_recorded_scenario_is_exact(mirror: Path) -> None:
    steps = run_scenarios(mirror / "coldstart/knative/kpa_vectors.json")
    assert len(steps) == 36
    assert [step for step in steps if not step.exact] == []


@pytest.mark.parametrize(("name", "changes", "steps"), MORE, ids=[more[0] for more in MORE])
def test_further_cases_of_knatives_tests(name: str, changes: dict, steps: list[dict]) -> None:
    results = run_scenario({"name": name, "spec": BASE | changes, "steps": steps})
    assert [result for result in results if not result.exact] == []


def test_a_wrong_decision_is_seen_as_wrong() -> None:
    (result,) = run_scenario({"name": "x", "spec": BASE, "steps": [step(0, 50, 50, 1, 4, -137)]})
    assert not result.exact


def test_files_that_are_no_scenarios_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for text in ("[]", "{", json.dumps({"scenarios": [{"name": "x", "steps": []}]})):
        path.write_text(text)
        with pytest.raises(InputError, match="not a file of KPA scenarios"):
            run_scenarios(path)
    path.write_text(json.dumps({"scenarios": [{"name": "x", "spec": {"tb": 1}, "steps": [step(0, 0, 0, 0, 0, 0)]}]}))
    with pytest.raises(InputError, match="unknown field 'tb'"):
        run_scenarios(path)


@pytest.mark.parametrize(
    "wrong", [{"utilization": 0}, {"max_down": 1}, {"target_value": 0}, {"max_scale": 1, "min_scale": 2}]
)
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        KpaSpec(**wrong)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 20)), min_size=1, max_size=30),
    st.integers(1, 15),
    st.integers(0, 40),
)
def test_window_average_equals_the_mean_over_seconds(records: list[tuple[int, int]], length: int, ahead: int) -> None:
    window = WindowAverage(length)
    sums: dict[int, int] = {}
    now, first = 0, None
    last = None
    for gap, value in records:
        now += gap
        if last is None or now - last >= length:
            sums, first = {}, now
        sums[now] = sums.get(now, 0) + value
        last = now
        window.record(now, value)
    asked = now + ahead
    got = window.average(asked)
    if asked - now >= length:
        assert got == 0
        return
    inside = [s for s in range(asked - length + 1, asked + 1) if first <= s <= now]
    # The part present: from the first record, at most a window before the last one asked about, to the last record.
    num = min(now - first + 1, length - (asked - now))
    exact = Fraction(sum(sums.get(s, 0) for s in inside), num)
    assert abs(got - math.floor(exact * 10**6) / 10**6) < 2e-6


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 20)), min_size=1, max_size=40), st.integers(1, 25))
def test_delay_window_is_the_maximum_of_its_ticks(records: list[tuple[int, int]], delay_s: int) -> None:
    window = _DelayWindow(delay_s)
    now, seen = 0, []
    for gap, value in records:
        now += gap
        seen.append((now // 2, value))
        expected = max(v for bucket, v in seen if now // 2 - bucket < math.ceil(delay_s / 2))
        assert window.largest(now, value) == expected


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 300).map(lambda k: k / 4), st.integers(0, 30)), min_size=10, max_size=160),
    st.sampled_from([-1.0, 0.0, 211.0]),
    st.sampled_from([1, 3]),
    st.sampled_from([0.7, 7.0, 70.0]),
    st.sampled_from([1, 2]),
)
def test_arrays_decide_as_the_plain_decider(
    seconds: list[tuple[float, int]], burst: float, activation: int, target: float, bucket_s: int
) -> None:
    spec = KpaSpec(target_value=target, target_burst_capacity=burst, activation_scale=activation)
    decider, stable, panic = KpaDecider(spec), WindowAverage(60), WindowAverage(6)
    one = np.ones(1, np.int64)
    state = KpaArrays(np.zeros((1, 60 // bucket_s)), NOT_PANICKING * one, *(0 * one for _ in range(5)))
    numbers = (bucket_s, 6, 2.0, 1000.0, 2.0, burst, activation)
    for second, (concurrency, ready) in enumerate(seconds):
        stable.record(second, concurrency)
        panic.record(second, concurrency)
        at = second // bucket_s % (60 // bucket_s)
        begins = bucket_s == 1 or second % 2 == 1 or second == 0
        state.buckets[0, -(-second // bucket_s) % (60 // bucket_s)] = concurrency + (
            0 if begins else state.buckets[0, at]
        )
        if second % 2 == 0:
            want = decider.decide(second, stable.average(second), panic.average(second), ready)
            kpa_decide(state, second, ready * one, target * np.ones(1), spec.capacity * np.ones(1), numbers, one > 0)
            assert (state.desired[0], state.excess[0]) == (want.pods, want.excess_burst_capacity)
            assert (state.panic_since[0] != NOT_PANICKING) == want.panicking
