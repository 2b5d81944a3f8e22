"""Loads of requests: what is refused, what is mended, and that nothing is lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.power.load.readers import read_requests
from nonet.power.load.requests import RequestLoad, merge
from nonet.power.policies.protocol import Priority


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        (([0.0, np.nan], [1, 1], [1, 1]), "no finite number"),
        (([-1.0], [1], [1]), "negative"),
        (([0.0], [-1], [1]), "prompt_tokens"),
        (([0.0], [1], [1.5]), "output_tokens"),
        (([0.0], [2**40], [1]), "prompt_tokens"),
        (([0.0, 1.0], [1], [1, 1]), "arrivals"),
        (([0.0], ["a"], [1]), "must be numbers"),
    ],
)
def test_refused(columns, what):
    with pytest.raises(InputError, match=what):
        RequestLoad.of(*columns)


def test_bad_priority_and_service():
    with pytest.raises(InputError, match="priority"):
        RequestLoad.of([0.0], [1], [1], priority=[2])
    with pytest.raises(InputError, match="service"):
        RequestLoad.of([0.0], [1], [1], service=[1])
    with pytest.raises(InputError, match="another length"):
        RequestLoad.of([0.0, 1.0], [1, 1], [1, 1], priority=[0, 1, 1])


def test_unsorted_is_refused_raw_and_mended_by_of():
    arrays = (np.array([2.0, 1.0]), np.array([5, 6], np.int32), np.array([7, 8], np.int32))
    with pytest.raises(InputError, match="falls"):
        RequestLoad(*arrays, np.zeros(2, np.int8), np.zeros(2, np.int16))
    load = RequestLoad.of(*arrays)
    assert load.prompt_tokens.tolist() == [6, 5]
    assert load.repairs == {"out of order, sorted": 1}


@given(
    st.lists(
        st.tuples(st.floats(0, 1e6), st.integers(0, 9), st.integers(0, 9), st.integers(0, 1)), min_size=1, max_size=60
    )
)
def test_mending_loses_only_zero_tokens(rows):
    times, prompts, outputs, priority = (list(column) for column in zip(*rows, strict=True))
    load = RequestLoad.of(times, prompts, outputs, priority=priority)
    kept = sorted((row for row in rows if row[1] and row[2]), key=lambda row: row[0])
    assert list(zip(load.arrival_s, load.prompt_tokens, load.output_tokens, load.priority, strict=True)) == kept
    assert load.repairs.get("zero tokens, left out", 0) == len(rows) - len(kept)


def test_between_merge_and_parquet(tmp_path):
    rng = np.random.default_rng(3)
    first = RequestLoad.of(
        np.sort(rng.random(50)) * 100, rng.integers(1, 99, 50), rng.integers(1, 99, 50), service_names=["a"]
    ).with_priorities(0.5, seed=2)
    second = RequestLoad.of([5.0, 50.0], [1, 2], [3, 4], service_names=["b"])
    both = merge([first, second])
    assert len(both) == 52
    assert both.service_names == ("a", "b")
    parts = merge([both.between(0, 40)]), both.between(40, 1e9)
    assert len(parts[0]) + len(parts[1]) == 52
    both.to_parquet(tmp_path / "load.parquet")
    again = read_requests(tmp_path / "load.parquet")
    shift = both.arrival_s[0]
    assert np.allclose(again.arrival_s, both.arrival_s - shift, atol=1e-9)
    for name in ("prompt_tokens", "output_tokens", "priority", "service"):
        assert np.array_equal(getattr(again, name), getattr(both, name))


def test_priorities_by_service_are_seeded_and_near_their_share():
    num = 20_000
    load = RequestLoad.of(np.arange(num), [1] * num, [1] * num, service=np.arange(num) % 2, service_names=["a", "b"])
    drawn = load.with_priorities({"a": 0.2, "b": 1.0}, seed=5)
    low = drawn.priority == Priority.LOW
    assert low[1::2].all()
    assert abs(low[::2].mean() - 0.2) < 4 * np.sqrt(0.16 / (num / 2))
    assert np.array_equal(drawn.priority, load.with_priorities({"a": 0.2, "b": 1.0}, seed=5).priority)
    with pytest.raises(InputError, match="low_share"):
        load.with_priorities({"a": 0.2})
