"""Signatures against the xxhash library."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.recsys.features.signature import hashes, signatures


def reference(name: str, value: bytes) -> int:
    return xxhash.xxh3_64_intdigest(name.encode() + b"\x1f" + value)


@pytest.mark.parametrize("name", ["", "u", "user", "a_feature_with_a_long_name", "é" * 70])
def test_every_length_is_the_librarys(name: str) -> None:
    rng = np.random.default_rng(7)
    values = [rng.bytes(size) for size in range(300)]
    assert hashes(name, values).tolist() == [reference(name, value) for value in values]


@given(st.text(max_size=20), st.lists(st.text(max_size=40), max_size=20))
def test_text_counts_as_its_utf8(name: str, values: list[str]) -> None:
    want = [reference(name, value.encode()) % 2**48 for value in values]
    assert signatures(name, values).tolist() == want
    assert signatures(name, pa.array(values, pa.string())).tolist() == want
    assert signatures(name, np.array(values, object)).tolist() == want
    assert signatures(name, pa.array(values, pa.string()).dictionary_encode()).tolist() == want
    assert signatures(name, pa.chunked_array([pa.array(values, pa.large_string())] * 2)).tolist() == want * 2


def test_integers_count_as_their_decimal_text() -> None:
    numbers = [0, -1, 2**63 - 1, -(2**63)]
    want = [reference("n", str(number).encode()) % 2**48 for number in numbers]
    assert signatures("n", numbers).tolist() == want
    assert signatures("n", np.array(numbers)).tolist() == want


def test_a_slice_of_a_column_is_hashed_as_the_slice() -> None:
    column = pa.array(["aa", "b", "cccc", ""])
    assert signatures("f", column[1:3]).tolist() == signatures("f", ["b", "cccc"]).tolist()
    assert signatures("f", column.dictionary_encode()[1:3]).tolist() == signatures("f", ["b", "cccc"]).tolist()


def test_values_that_are_not_utf8_are_legal() -> None:
    values = [b"\xff\xfe", b"\x00", b"", b"a\x00"]
    assert hashes("f", values).tolist() == [reference("f", value) for value in values]


def test_the_separator_keeps_name_and_value_apart() -> None:
    assert signatures("ab", ["c"])[0] != signatures("a", ["bc"])[0]


@pytest.mark.parametrize("values", [["a", None], pa.array(["a", None]), pa.array(["a", None]).dictionary_encode()])
def test_a_null_is_refused_with_its_row(values: object) -> None:
    with pytest.raises(InputError, match="'f': value 1 is null"):
        signatures("f", values)  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [[1.5], [["a"]], ["a", 1], [True]])
def test_values_without_one_text_are_refused(values: list[object]) -> None:
    with pytest.raises(InputError, match="'f'"):
        signatures("f", values)


def test_no_values_have_no_signatures() -> None:
    assert signatures("f", []).shape == (0,)
    assert signatures("f", pa.array([], pa.string())).shape == (0,)
