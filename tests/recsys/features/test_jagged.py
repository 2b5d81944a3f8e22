"""Bags to Arrow lists and to KeyedJaggedTensors, and back."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.recsys.example import Bags
from nonet.recsys.features.dictionary import Dictionary
from nonet.recsys.features.encoder import FeatureEncoder
from nonet.recsys.features.jagged import (
    bags_from_arrow,
    bags_from_keyed_jagged,
    bags_of,
    bags_to_arrow,
    keyed_jagged_parts,
    to_keyed_jagged,
)
from nonet.recsys.features.signature import signatures

INT64 = st.integers(-(2**63), 2**63 - 1)
ROWS = st.lists(st.lists(INT64, max_size=5), max_size=10)


def rows_of(bags: Bags) -> list[list[int]]:
    return [bags.values[a:b].tolist() for a, b in zip(bags.offsets, bags.offsets[1:], strict=False)]


@given(ROWS)
def test_arrow_lists_and_back(rows: list[list[int]]) -> None:
    for kind in (pa.list_(pa.int64()), pa.large_list(pa.int64())):
        bags = bags_from_arrow(pa.array(rows, kind))
        assert rows_of(bags) == rows
        assert bags_to_arrow(bags).to_pylist() == rows


def test_slices_chunks_nulls_and_plain_columns() -> None:
    column = pa.array([[1], None, [2, 3], [], [4]], pa.list_(pa.int32()))
    assert rows_of(bags_from_arrow(column[1:4])) == [[], [2, 3], []]
    assert rows_of(bags_from_arrow(pa.chunked_array([column[:1], column[3:]]))) == [[1], [], [4]]
    assert rows_of(bags_from_arrow(pa.array([5, None, 6]))) == [[5], [], [6]]
    assert rows_of(bags_from_arrow(pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2)))) == [[1, 2], [], [3, 4]]
    assert rows_of(bags_from_arrow(pa.array([[2**64 - 1]], pa.list_(pa.uint64())))) == [[-1]]


@pytest.mark.parametrize("column", [pa.array([["a"]]), pa.array([[1, None]]), pa.array([[1.5]])])
def test_lists_of_anything_but_integers_are_refused(column: pa.Array) -> None:
    with pytest.raises(InputError):
        bags_from_arrow(column)


def test_values_that_do_not_fit_their_offsets_are_refused() -> None:
    for arguments in ({"lengths": [1, -1]}, {"lengths": [1]}, {"offsets": [0, 3, 2]}, {"offsets": [1, 2]}, {}):
        with pytest.raises(InputError):
            bags_of([1, 2], **arguments)  # type: ignore[arg-type]


@given(st.lists(st.tuples(ROWS), min_size=1, max_size=3), st.integers(0, 6))
def test_keyed_jagged_and_back(columns: list[tuple[list[list[int]]]], size: int) -> None:
    bags = {f"f{n}": Bags.of((rows + [[]] * size)[:size]) for n, (rows,) in enumerate(columns)}
    names, values, lengths = keyed_jagged_parts(bags)
    like = SimpleNamespace(keys=lambda: names, values=lambda: values, lengths=lambda: lengths)
    back = bags_from_keyed_jagged(like)
    assert {name: rows_of(column) for name, column in back.items()} == {n: rows_of(c) for n, c in bags.items()}


def test_the_real_keyed_jagged_tensor() -> None:
    pytest.importorskip("torchrec", reason="torchrec is not installed", exc_type=ImportError)
    bags = {"user": Bags.of([[1], [2]]), "history": Bags.of([[-(2**63), 5, 5], []])}
    jagged = to_keyed_jagged(bags)
    assert jagged["history"].to_dense()[0].tolist() == [-(2**63), 5, 5]
    assert jagged.stride() == 2
    back = bags_from_keyed_jagged(jagged)
    assert {name: rows_of(column) for name, column in back.items()} == {n: rows_of(c) for n, c in bags.items()}
    permuted = bags_from_keyed_jagged(jagged.permute([1, 0]))
    assert list(permuted) == ["history", "user"]
    assert rows_of(permuted["user"]) == [[1], [2]]


def test_jagged_input_that_bags_cannot_hold_is_refused() -> None:
    like = SimpleNamespace(keys=lambda: ["a"], values=lambda: [1], lengths=lambda: [1], weights_or_none=lambda: [0.5])
    with pytest.raises(InputError, match="weights"):
        bags_from_keyed_jagged(like)
    like = SimpleNamespace(keys=lambda: ["a", "b"], values=lambda: [1], lengths=lambda: [1, 0, 0])
    with pytest.raises(InputError, match="3 lengths do not divide by 2"):
        bags_from_keyed_jagged(like)
    with pytest.raises(InputError, match="batch size"):
        keyed_jagged_parts({"a": Bags.of([[1]]), "b": Bags.of([])})


def test_a_column_of_text_lists_becomes_bags_of_ids() -> None:
    column = pa.array([["x", "y"], None, ["x"]])
    hashed = FeatureEncoder("tags", 9).bags(column)
    assert hashed.values.tolist() == [(9 << 48) | s for s in signatures("tags", ["x", "y", "x"]).tolist()]
    exact = FeatureEncoder("tags", 9, Dictionary()).bags(column)
    assert (exact.values - (9 << 48)).tolist() == [0, 1, 0]
    assert hashed.offsets.tolist() == exact.offsets.tolist() == [0, 2, 2, 3]
    with pytest.raises(InputError, match="slot 32768"):
        FeatureEncoder("tags", 32_768)


def test_an_example_with_a_hundred_thousand_ids() -> None:
    values = np.arange(100_000)
    bags = bags_from_arrow(pa.array([values, []], pa.list_(pa.int64())))
    assert np.array_equal(bags.values, values)
