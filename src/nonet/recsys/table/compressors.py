"""How rows travel to those who serve: fewer bytes a weight than training needs.

Training keeps float32. A compressor turns slices of rows into bytes and back; what is lost is stated. One of them
belongs to each segment of a table (`Segment.compressor`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.common.registry import Registry

Rows = NDArray[np.float32]
Bytes = NDArray[np.uint8]

COMPRESSORS: Registry[type[Compressor]] = Registry("compressor")

_MAX_FP16 = np.float32(65504)


class Compressor(ABC):
    """Rows to bytes and back. Subclasses are frozen dataclasses."""

    @abstractmethod
    def row_bytes(self, dim: int) -> int:
        """Bytes of a row of `dim` weights."""

    @abstractmethod
    def encode(self, rows: Rows) -> Bytes:
        """Bytes of rows.

        Args:
            rows: float32 [n, dim].

        Returns:
            uint8 [n, row_bytes(dim)].

        Raises:
            InputError: a NaN, where the form has none.
        """

    @abstractmethod
    def decode(self, encoded: Bytes, dim: int) -> Rows:
        """Rows from bytes.

        Args:
            encoded: uint8 [n, row_bytes(dim)].
            dim: weights a row.

        Returns:
            float32 [n, dim].
        """


@COMPRESSORS.register("fp32")
@dataclass(frozen=True)
class Fp32(Compressor):
    """As they are, bit for bit; 4 bytes a weight."""

    def row_bytes(self, dim: int) -> int:
        """See `Compressor`."""
        return 4 * dim

    def encode(self, rows: Rows) -> Bytes:
        """See `Compressor`."""
        return _bytes_of(np.ascontiguousarray(rows, "<f4"))

    def decode(self, encoded: Bytes, dim: int) -> Rows:
        """See `Compressor`."""
        return _array_of(encoded, "<f4", dim).astype(np.float32)


@COMPRESSORS.register("fp16")
@dataclass(frozen=True)
class Fp16(Compressor):
    """Half precision: a relative error of at most 2^-11 from 2^-14 on; beyond 65,504 saturates. 2 bytes a weight."""

    def row_bytes(self, dim: int) -> int:
        """See `Compressor`."""
        return 2 * dim

    def encode(self, rows: Rows) -> Bytes:
        """See `Compressor`."""
        return _bytes_of(np.clip(rows, -_MAX_FP16, _MAX_FP16).astype("<f2"))

    def decode(self, encoded: Bytes, dim: int) -> Rows:
        """See `Compressor`."""
        return _array_of(encoded, "<f2", dim).astype(np.float32)


@COMPRESSORS.register("fixed8")
@dataclass(frozen=True)
class Fixed8(Compressor):
    """255 even steps over [-r, r]: an error of at most r / 254 in it; beyond saturates. 1 byte a weight.

    Args:
        r: range, > 0.

    Raises:
        InputError: another range.

    >>> codec = Fixed8(r=1.0)
    >>> codec.decode(codec.encode(np.array([[1.0, 0.0, -3.0]], np.float32)), 3).tolist()
    [[1.0, 0.0, -1.0]]
    """

    r: float = 1.0

    def __post_init__(self) -> None:
        _check_positive("fixed8", "r", self.r)

    def row_bytes(self, dim: int) -> int:
        """See `Compressor`."""
        return dim

    def encode(self, rows: Rows) -> Bytes:
        """See `Compressor`."""
        _refuse_nan("fixed8", rows)
        return _bytes_of(np.rint(np.clip(rows, -self.r, self.r) * np.float32(127 / self.r)).astype(np.int8))

    def decode(self, encoded: Bytes, dim: int) -> Rows:
        """See `Compressor`."""
        return _array_of(encoded, np.int8, dim) * np.float32(self.r / 127)


@COMPRESSORS.register("1bit")
@dataclass(frozen=True)
class OneBit(Compressor):
    """The sign alone: `amplitude` where a weight is 0 or above, -`amplitude` below. An eighth of a byte a weight.

    For weights that were trained to be near +-amplitude (Cao et al., "HashNet", 2017).

    Args:
        amplitude: > 0.

    Raises:
        InputError: another amplitude.

    >>> codec = OneBit()
    >>> codec.decode(codec.encode(np.array([[0.3, -0.2]], np.float32)), 2).tolist(), codec.row_bytes(9)
    ([[1.0, -1.0]], 2)
    """

    amplitude: float = 1.0

    def __post_init__(self) -> None:
        _check_positive("1bit", "amplitude", self.amplitude)

    def row_bytes(self, dim: int) -> int:
        """See `Compressor`."""
        return (dim + 7) // 8

    def encode(self, rows: Rows) -> Bytes:
        """See `Compressor`."""
        _refuse_nan("1bit", rows)
        return np.packbits(rows >= 0, axis=1, bitorder="little")

    def decode(self, encoded: Bytes, dim: int) -> Rows:
        """See `Compressor`."""
        _check_shape(encoded, self.row_bytes(dim))
        signs = np.unpackbits(encoded, axis=1, count=dim, bitorder="little")
        return np.where(signs, np.float32(self.amplitude), np.float32(-self.amplitude))


@dataclass(frozen=True, slots=True)
class RowCodec:
    """Whole rows of a table: each slice through its own compressor, one behind the other.

    Args:
        parts: of each segment its dim and its compressor.

    >>> codec = RowCodec(((1, Fp32()), (4, Fp16())))
    >>> codec.dim, codec.row_bytes
    (5, 12)
    """

    parts: tuple[tuple[int, Compressor], ...]

    @property
    def dim(self) -> int:
        """Weights a row."""
        return sum(dim for dim, _ in self.parts)

    @property
    def row_bytes(self) -> int:
        """Bytes a row."""
        return sum(compressor.row_bytes(dim) for dim, compressor in self.parts)

    def encode(self, rows: Rows) -> Bytes:
        """Bytes of rows.

        Args:
            rows: float32 [n, dim].

        Raises:
            InputError: another dim, or a NaN where the form has none.
        """
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise InputError(f"rows of shape {rows.shape} do not fit a codec of dim {self.dim}")
        ends = np.cumsum([dim for dim, _ in self.parts])[:-1]
        slices: Sequence[Rows] = np.split(rows, ends, axis=1)
        return np.concatenate([part[1].encode(cut) for part, cut in zip(self.parts, slices, strict=True)], axis=1)

    def decode(self, encoded: Bytes) -> Rows:
        """Rows from bytes.

        Args:
            encoded: uint8 [n, row_bytes].

        Returns:
            float32 [n, dim].

        Raises:
            InputError: another number of bytes a row.
        """
        _check_shape(encoded, self.row_bytes)
        out = np.empty((len(encoded), self.dim), np.float32)
        at = column = 0
        for dim, compressor in self.parts:
            size = compressor.row_bytes(dim)
            out[:, column : column + dim] = compressor.decode(encoded[:, at : at + size], dim)
            at, column = at + size, column + dim
        return out


def _bytes_of(array: NDArray) -> Bytes:
    return np.ascontiguousarray(array).view(np.uint8)


def _array_of(encoded: Bytes, kind: str | type, dim: int) -> NDArray:
    _check_shape(encoded, np.dtype(kind).itemsize * dim)
    return np.ascontiguousarray(encoded).view(kind)


def _check_shape(encoded: Bytes, row_bytes: int) -> None:
    if encoded.ndim != 2 or encoded.shape[1] != row_bytes:
        raise InputError(f"encoded rows of shape {encoded.shape}: {row_bytes} bytes a row are expected")


def _check_positive(name: str, option: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"compressor {name}: {option} must be a finite number above 0, got {value}")


def _refuse_nan(name: str, rows: Rows) -> None:
    if np.isnan(rows).any():
        row = int(np.isnan(rows).any(axis=1).argmax())
        raise InputError(f"compressor {name}: row {row} holds a NaN, which it cannot express; use fp32 or fp16")
