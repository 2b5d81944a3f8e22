"""What a table promises: misses, duplicates, admission, times, touched keys, bags, bad input; the long comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from nonet.common.errors import InputError
from nonet.recsys.table import SGD, Adagrad, Admission, Constant, EmbeddingTable, Normal, Segment, Uniform, Zeros
from nonet.recsys.table.oracle import compare_with_model

BAD = [np.nan, np.inf, -np.inf, 3e19]


def plain(dim: int = 2, **options: Any) -> EmbeddingTable:
    return EmbeddingTable(dim, optimizer=SGD(lr=1.0), initializer=Zeros(), **options)


class Nth:
    """Admits a key at its n-th occurrence; remembers what it was asked."""

    def __init__(self, n: int) -> None:
        self.n, self.seen, self.asked = n, {}, []

    def admit(self, keys: np.ndarray, counts: np.ndarray, now_s: int) -> np.ndarray:
        self.asked.append((keys.tolist(), counts.tolist(), now_s))
        for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
            self.seen[key] = self.seen.get(key, 0) + count
        return np.array([self.seen[key] >= self.n for key in keys.tolist()])

    def state(self) -> Mapping[str, Any]:
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        pass


def test_mixed_operations_equal_the_model() -> None:
    compared = compare_with_model(200_000, num_keys=40_000)
    assert compared.differences == 0
    assert compared.operations >= 200_000
    assert compared.growths > 5
    assert compared.lowest_load_at_growth >= 0.90


@pytest.mark.slow
def test_two_million_mixed_operations_equal_the_model() -> None:
    compared = compare_with_model(2_000_000, num_keys=200_000, seed=1)
    assert (compared.differences, compared.lowest_load_at_growth >= 0.90) == (0, True)


def test_a_lookup_of_unknown_keys_gives_zeros_and_creates_nothing() -> None:
    table = plain()
    assert not table.lookup([0, -1, 5]).any()
    assert not table.contains([0, -1, 5]).any()
    assert len(table) == 0


def test_gradients_of_equal_ids_are_summed_before_the_one_step() -> None:
    table = EmbeddingTable(1, optimizer=Adagrad(lr=1.0, initial_accumulator=0.0), initializer=Zeros())
    table.apply_gradients([3, 3, 3], [[1.0], [1.0], [2.0]])
    assert table.lookup([3])[0, 0] == -1.0  # one step of -4 / sqrt(16), not three
    assert table.export().state[0, 0] == 16.0


def test_a_new_key_is_initialised_and_then_updated() -> None:
    table = EmbeddingTable(2, optimizer=SGD(lr=0.5), initializer=Constant(3.0))
    table.apply_gradients([1], [[1.0, -1.0]])
    assert table.lookup([1]).tolist() == [[2.5, 3.5]]


def test_admission_is_asked_for_absent_keys_with_occurrences_and_only_in_training() -> None:
    admission = Nth(3)
    assert isinstance(admission, Admission)
    table = plain(admission=admission)
    one = np.ones((3, 2), np.float32)
    table.lookup([1, 1, 1, 1])
    done = table.apply_gradients([1, 1, 2], one, now_s=7)
    assert (done.created, done.filtered, len(table)) == (0, 2, 0)
    assert sorted(zip(*admission.asked[0][:2], strict=True)) == [(1, 2), (2, 1)]
    assert admission.asked[0][2] == 7
    done = table.apply_gradients([1, 2], one[:2])
    assert (done.created, done.filtered) == (1, 1)
    assert table.take_touched().upserted.tolist() == [1]
    table.apply_gradients([1, 2], one[:2], counts=[1, 1])
    assert admission.asked[2][0] == [2]  # key 1 is present, nobody is asked
    assert sorted(table.keys().tolist()) == [1, 2]
    assert table.lookup([1]).tolist() == [[-2.0, -2.0]]  # the gradients before the admission are gone


def test_counts_stand_for_occurrences() -> None:
    admission = Nth(5)
    table = plain(admission=admission)
    table.apply_gradients([1, 2, 1], np.ones((3, 2)), counts=[3, 4, 2])
    assert table.keys().tolist() == [1]


@pytest.mark.parametrize("bad", BAD)
def test_gradients_that_are_not_finite_are_left_out_and_counted(bad: float) -> None:
    table = plain()
    done = table.apply_gradients([1, 2, 1, 4], [[1, 1], [bad, 1], [1, bad], [2, 2]])
    assert (done.created, done.left_out) == (2, 2)
    assert table.lookup([1, 2, 4]).tolist() == [[-1, -1], [0, 0], [-2, -2]]


def test_a_sum_that_overflows_is_left_out() -> None:
    table = plain()
    done = table.apply_gradients([1] * 4 + [2], [[1.5e19, 0]] * 4 + [[1, 1]])
    assert (done.created, done.left_out) == (1, 1)
    assert table.keys().tolist() == [2]


def test_empty_input_is_fine_everywhere() -> None:
    table = plain()
    nothing = np.empty(0, np.int64)
    rows = np.empty((0, 2), np.float32)
    assert table.lookup(nothing).shape == (0, 2)
    assert table.lookup([]).shape == (0, 2)
    assert table.contains([]).shape == (0,)
    assert table.apply_gradients(nothing, rows).created == 0
    assert table.apply_gradients([], []).created == 0
    assert table.upsert([], []) == 0
    assert table.erase([]) == 0
    assert table.expire().tolist() == []
    assert table.lookup_bags([], [0]).shape == (0, 2)
    assert table.lookup_bags([], [0, 0, 0]).tolist() == [[0, 0], [0, 0]]
    assert table.keys().tolist() == []
    assert len(table.export().keys) == 0
    table.check_integrity()


def test_upsert_writes_weights_and_keeps_state() -> None:
    table = EmbeddingTable(1, optimizer=Adagrad(lr=1.0, initial_accumulator=0.5), initializer=Zeros())
    table.apply_gradients([1], [[2.0]])
    assert table.upsert([1, 2, 2], [[7.0], [8.0], [9.0]]) == 1
    exported = table.export()
    assert exported.rows.ravel().tolist() == [7.0, 9.0]
    assert exported.state.ravel().tolist() == [4.5, 0.5]


def test_times_never_go_back_and_a_late_key_keeps_its_own() -> None:
    table = plain()
    table.apply_gradients([1], [[1, 1]], now_s=100)
    table.apply_gradients([1, 2], np.ones((2, 2)), now_s=50)
    table.upsert([3], [[0, 0]])
    assert table.export().ts.tolist() == [100, 50, 100]
    assert table.clock_s == 100
    table.check_integrity()


def test_touched_keys_and_tombstones() -> None:
    table = plain()
    table.apply_gradients([5, 1, 5], np.ones((3, 2)))
    table.upsert([9, 9], np.ones((2, 2)))
    table.erase([1, 77])
    assert [keys.tolist() for keys in table.take_touched()] == [[5, 9], [1]]
    assert [keys.tolist() for keys in table.take_touched()] == [[], []]
    table.erase([5])
    table.upsert([5], [[1, 1]])
    assert [keys.tolist() for keys in table.take_touched()] == [[5], []]
    silent = plain(track_touched=False)
    silent.upsert([1], [[1, 1]])
    assert [keys.tolist() for keys in silent.take_touched()] == [[], []]


def test_touched_keys_are_all_kept_however_many() -> None:
    table = plain(1)
    rng = np.random.default_rng(0)
    seen: set[int] = set()
    for _ in range(60):
        keys = rng.integers(0, 200_000, 10_000)
        table.upsert(keys, np.zeros((10_000, 1), np.float32))
        seen.update(keys.tolist())
    assert table.take_touched().upserted.tolist() == sorted(seen)


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_bags_equal_torch(mode: str) -> None:
    rng = np.random.default_rng(1)
    table = EmbeddingTable(5)
    weights = rng.standard_normal((100, 5), np.float32)
    table.upsert(np.arange(100), weights)
    lengths = rng.integers(0, 7, 50)
    lengths[7] = 100_000
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = rng.integers(0, 120, offsets[-1])
    padded = torch.from_numpy(np.concatenate([weights, np.zeros((20, 5), np.float32)]).astype(np.float64))
    expected = torch.nn.functional.embedding_bag(
        torch.from_numpy(values), padded, torch.from_numpy(offsets), mode=mode, include_last_offset=True
    )
    np.testing.assert_allclose(table.lookup_bags(values, offsets, mode), expected.numpy(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("initializer", [Uniform(-0.5, 0.5), Normal(1.0, 0.2)], ids=str)
def test_first_weights_depend_on_seed_key_and_column_alone(initializer: Uniform | Normal) -> None:
    keys = np.random.default_rng(2).integers(-(1 << 62), 1 << 62, 20_000)

    def first(order: np.ndarray, **options: Any) -> np.ndarray:
        table = EmbeddingTable(4, optimizer=SGD(lr=0.0), initializer=initializer, **options)
        for part in np.array_split(order, 3):
            table.apply_gradients(part, np.zeros((len(part), 4), np.float32))
        return table.lookup(keys)

    weights = first(keys)
    assert np.array_equal(weights, first(keys[::-1]))
    assert not np.array_equal(weights, first(keys, seed=1))
    mean, std = (0.0, 1 / np.sqrt(12)) if isinstance(initializer, Uniform) else (1.0, 0.2)
    assert np.abs(weights.mean(axis=0) - mean).max() < 0.01
    assert np.abs(weights.std(axis=0) - std).max() < 0.01
    assert np.abs(np.corrcoef(weights.T) - np.eye(4)).max() < 0.05
    assert len(np.unique(weights)) > 0.9 * weights.size


def test_export_is_sorted_and_the_same_whatever_the_history() -> None:
    rng = np.random.default_rng(3)
    keys = rng.permutation(5_000) - 2_500
    rows = rng.random((5_000, 2), np.float32)
    one, other = plain(), plain(capacity=50_000)
    one.upsert(keys, rows)
    other.upsert(np.arange(10_000, 30_000), np.zeros((20_000, 2), np.float32))
    other.upsert(keys[::-1], rows[::-1])
    other.erase(np.arange(10_000, 30_000))
    for a, b in zip(one.export(), other.export(), strict=True):
        assert a.tobytes() == b.tobytes()
    assert (np.diff(one.keys()) > 0).all()


def test_unsigned_ids_are_the_same_64_bits() -> None:
    table = plain()
    table.upsert(np.array([1 << 63, (1 << 64) - 1], np.uint64), [[1, 1], [2, 2]])
    assert table.keys().tolist() == [-(1 << 63), -1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.lookup([[1]]), "flat array of integers"),
        (lambda t: t.lookup([1.5]), "flat array of integers"),
        (lambda t: t.lookup([1, 2], out=np.empty((1, 2), np.float32)), "out is no"),
        (lambda t: t.apply_gradients([1], [[1.0]]), r"rows have shape \(1, 1\)"),
        (lambda t: t.apply_gradients([1], np.ones((2, 2))), r"rows have shape \(2, 2\)"),
        (lambda t: t.apply_gradients([1], [[1, 1]], now_s=-1), "now_s is -1"),
        (lambda t: t.apply_gradients([1], [[1, 1]], now_s=1 << 32), "now_s is"),
        (lambda t: t.apply_gradients([1], [[1, 1]], counts=[0]), "counts must be"),
        (lambda t: t.upsert([1], [[1, 1, 1]]), "rows have shape"),
        (lambda t: t.lookup_bags([1, 2], [0, 1]), "offsets must ascend"),
        (lambda t: t.lookup_bags([1, 2], [0, 2, 1, 2]), "offsets must ascend"),
        (lambda t: t.lookup_bags([1], [0, 1], "max"), "mode 'max'"),
        (lambda t: EmbeddingTable(3).load(t.export()._replace(keys=np.array([1]))), "shape"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(call: Any, message: str) -> None:
    table = plain()
    table.upsert([1], [[5, 5]])
    with pytest.raises(InputError, match=message):
        call(table)
    assert table.lookup([1]).tolist() == [[5, 5]]
    table.check_integrity()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dim": 2, "segments": [Segment(2)]},
        {"segments": []},
        {"dim": 0},
        {"segments": [Segment(1)], "optimizer": SGD()},
        {"dim": 2, "seed": 1 << 63},
        {"dim": 2, "capacity": -1},
    ],
)
def test_tables_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        EmbeddingTable(**options)
