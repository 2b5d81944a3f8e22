"""Concurrency is raised as far as the bound allows, and no further than is of use."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.coldstart.simulating.policies.concurrency_adjustment import ConcurrencyAdjustment, peak_overlap
from nonet.coldstart.simulating.policies.training import fit, split
from nonet.common.errors import InputError
from tests.coldstart.simulating.crafted import DAY_S, SECOND, workload


def learnt(policy: ConcurrencyAdjustment, **more: object) -> list[int]:
    bursts = (np.arange(50, 2 * DAY_S, 3600.0)[:, None] + np.arange(12) * 0.01).ravel()
    whole = workload([bursts, np.arange(0, 2 * DAY_S, 600.0)], run_s=2.0, **more)  # type: ignore[arg-type]
    fit(policy, split(whole, DAY_S * SECOND)[0])
    return policy.concurrency.tolist()


def test_the_bound_the_need_and_the_limit_hold() -> None:
    assert learnt(ConcurrencyAdjustment(0.1, 1.5)) == [6, 1]  # 1 + 0.1 * 5 = 1.5
    assert learnt(ConcurrencyAdjustment(0.01, 1.5)) == [12, 1]  # no more than twelve at once
    assert learnt(ConcurrencyAdjustment(0.0, 1.5, max_concurrency=8)) == [8, 1]
    assert learnt(ConcurrencyAdjustment(0.1, bound_us=2_400_000)) == [3, 1]
    assert learnt(ConcurrencyAdjustment(0.1, bound_us=1_000_000)) == [1, 1]  # already slower than that
    assert learnt(ConcurrencyAdjustment(0.1, 1.5), concurrency=8) == [12, 8]  # never lowered


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 15)), max_size=30).map(sorted))
def test_peak_overlap_counts_intervals(calls: list[tuple[int, int]]) -> None:
    begin, run = np.array([a for a, _ in calls], np.int64), np.array([r for _, r in calls], np.int64)
    expected = max((sum(a <= at < a + r for a, r in calls) for at, _ in calls), default=0)
    assert peak_overlap(begin, run) == expected


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match="slowdown=-1"):
        ConcurrencyAdjustment(-1)
    with pytest.raises(InputError, match=r"bound=0\.5"):
        ConcurrencyAdjustment(bound=0.5)
