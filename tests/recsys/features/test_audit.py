"""The published table of collisions, and the counter against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.recsys.features.audit import CollisionCounter, audit_ids, expected_pairs, md5_hash_trick
from nonet.recsys.features.signature import signatures


def test_table_1_of_the_paper_exactly() -> None:
    buckets = md5_hash_trick(range(162_541))
    users, movies = (audit_ids(np.arange(n), buckets[:n]) for n in (162_541, 59_047))
    assert (users.num_values, users.num_ids) == (162_541, 149_970)
    assert (movies.num_values, movies.num_ids) == (59_047, 57_361)
    assert round(100 * users.rate, 2) == 7.73
    assert round(100 * movies.rate, 2) == 2.86


def brute_force(values: list[str], bits: int) -> tuple[int, int, int]:
    groups: dict[int, set[str]] = {}
    for value, signature in zip(values, signatures("f", values).tolist(), strict=True):
        groups.setdefault(signature % 2**bits, set()).add(value)
    pairs = sum(len(group) * (len(group) - 1) // 2 for group in groups.values())
    return sum(len(group) for group in groups.values()), len(groups), pairs


def test_the_counter_equals_brute_force_on_a_stream_with_repeats() -> None:
    rng = np.random.default_rng(3)
    values = [f"v{n}" for n in rng.integers(0, 20_000, 60_000)]
    counter = CollisionCounter("f", bits=24)
    for start in range(0, len(values), 7_000):
        counter.add(values[start : start + 7_000])
    report = counter.report()
    assert (report.num_values, report.num_ids, report.num_pairs) == brute_force(values, 24)
    assert report.num_pairs > 0


def test_a_sample_scales_up_to_the_whole() -> None:
    values = [f"v{n}" for n in range(200_000)]
    whole, sample = CollisionCounter("f", bits=24), CollisionCounter("f", bits=24, sample_every=8)
    whole.add(values)
    sample.add(values)
    true, seen = whole.report().num_pairs, sample.report().num_pairs
    assert abs(sample.report().estimated_pairs - true) < 8 * 4 * (true / 8) ** 0.5
    assert 0 < seen < true
    assert abs(sample.report().num_values * 8 / len(values) - 1) < 0.05


def test_pairs_come_as_often_as_the_formula_says() -> None:
    counter = CollisionCounter("f", bits=28)
    counter.add(np.arange(100_000))
    report = counter.report()
    want = expected_pairs(100_000, 28)
    assert report.expected_pairs == pytest.approx(want)
    assert abs(report.num_pairs - want) < 4 * want**0.5


def test_expected_pairs_is_n_squared_over_2_to_49() -> None:
    assert expected_pairs(3e7) == pytest.approx(3e7**2 / 2**49, rel=1e-6)


def test_nothing_seen_is_no_collision() -> None:
    report = CollisionCounter("f").report()
    assert (report.num_values, report.num_pairs, report.rate) == (0, 0, 0.0)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(InputError, match="sample_every"):
        CollisionCounter("f", sample_every=0)
    with pytest.raises(InputError, match="48"):
        CollisionCounter("f", bits=49)
    with pytest.raises(InputError, match="2 values but 1 ids"):
        audit_ids(["a", "b"], np.array([1]))
