"""Serving compressors against their stated errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nonet.common.errors import InputError
from nonet.recsys.table.compressors import COMPRESSORS, Compressor, Fixed8, Fp16, Fp32, OneBit, RowCodec

ROWS = hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(1, 20)), elements=st.floats(width=32))
FINITE = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 5), st.integers(1, 20)),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


def again(codec: Compressor, rows: np.ndarray) -> np.ndarray:
    encoded = codec.encode(rows)
    assert encoded.dtype == np.uint8
    assert encoded.shape == (len(rows), codec.row_bytes(rows.shape[1]))
    decoded = codec.decode(encoded, rows.shape[1])
    assert (decoded.dtype, decoded.shape) == (np.float32, rows.shape)
    return decoded


@given(ROWS)
def test_fp32_is_bit_for_bit(rows: np.ndarray) -> None:
    assert again(Fp32(), rows).tobytes() == rows.tobytes()


@given(FINITE)
def test_fp16_keeps_eleven_bits_and_saturates(rows: np.ndarray) -> None:
    got = again(Fp16(), rows)
    want = np.clip(rows.astype(np.float64), -65504, 65504)
    assert (np.abs(got - want) <= np.maximum(np.abs(want) * 2.0**-11, 2.0**-25)).all()


@given(FINITE, st.sampled_from([0.25, 1.0, 10.0]))
def test_fixed8_is_off_by_half_a_step_at_most(rows: np.ndarray, r: float) -> None:
    got = again(Fixed8(r), rows)
    want = np.clip(rows.astype(np.float64), -r, r)
    assert (np.abs(got - want) <= r / 254 * (1 + 1e-5)).all()
    assert np.array_equal(again(Fixed8(r), got), got)


@given(FINITE, st.sampled_from([1.0, 0.5]))
def test_one_bit_is_the_sign(rows: np.ndarray, amplitude: float) -> None:
    assert np.array_equal(again(OneBit(amplitude), rows), np.where(rows < 0, -amplitude, amplitude))


@given(
    st.integers(0, 4),
    st.lists(st.tuples(st.integers(1, 12), st.sampled_from(list(COMPRESSORS))), min_size=1, max_size=4),
)
def test_a_row_of_segments_is_its_parts(n: int, parts: list[tuple[int, str]]) -> None:
    codec = RowCodec(tuple((dim, COMPRESSORS[name]()) for dim, name in parts))
    rows = np.random.default_rng(n).normal(size=(n, codec.dim)).astype(np.float32)
    encoded = codec.encode(rows)
    assert encoded.shape == (n, codec.row_bytes)
    at, want = 0, []
    for dim, compressor in codec.parts:
        want.append(again(compressor, rows[:, at : at + dim]))
        at += dim
    assert np.array_equal(codec.decode(encoded), np.concatenate(want, axis=1))


def test_sizes() -> None:
    assert {name: COMPRESSORS[name]().row_bytes(16) for name in COMPRESSORS} == {
        "fp32": 64,
        "fp16": 32,
        "fixed8": 16,
        "1bit": 2,
    }


@pytest.mark.parametrize("codec", [Fixed8(), OneBit()])
def test_a_nan_is_refused_where_it_cannot_be_expressed(codec: Compressor) -> None:
    with pytest.raises(InputError, match="row 1 holds a NaN"):
        codec.encode(np.array([[0], [np.nan]], np.float32))


def test_rows_of_another_shape_are_refused() -> None:
    codec = RowCodec(((2, Fp16()),))
    with pytest.raises(InputError, match="dim 2"):
        codec.encode(np.zeros((1, 3), np.float32))
    with pytest.raises(InputError, match="4 bytes a row"):
        codec.decode(np.zeros((1, 5), np.uint8))
    for make in (lambda: Fixed8(0.0), lambda: Fixed8(float("nan")), lambda: OneBit(-1.0)):
        with pytest.raises(InputError, match="above 0"):
            make()
