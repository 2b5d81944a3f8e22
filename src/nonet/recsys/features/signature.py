"""Signatures: 48 bits of xxh3_64 over `name`, the separator 0x1F, and the value.

The name is hashed, too, so equal values of two features differ even without a slot. 48 bits collide now and then:
n values are expected to make n(n-1)/2^49 equal pairs (`audit`); `dictionary` never does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.features._xxh3_kernels import LONGEST_BYTES, hash_rows

Ints = NDArray[np.int64]
Values: TypeAlias = "Sequence[Any] | NDArray[Any] | pa.Array | pa.ChunkedArray"

SEPARATOR = b"\x1f"
SIGNATURE_MASK = (1 << 48) - 1


def signatures(name: str, values: Values) -> Ints:
    """Signatures of the values of a feature.

    Args:
        name: of the feature.
        values: text, bytes or integers; an integer counts as its decimal text, text as its UTF-8 bytes. Lists, NumPy
            arrays and Arrow arrays, dictionary-encoded ones too.

    Returns:
        int64 [n], 0..2^48-1.

    Raises:
        InputError: a null, or a type that has no one text (floating point, nested).

    >>> [hex(signature) for signature in signatures("user", [17]).tolist()]
    ['0x7851f46476f9']
    >>> signatures("user", ["17", b"17"]).tolist() == 2 * signatures("user", [17]).tolist()
    True
    """
    return (hashes(name, values) & np.uint64(SIGNATURE_MASK)).astype(np.int64)


def hashes(name: str, values: Values, *, salt: bytes = b"") -> NDArray[np.uint64]:
    """All 64 bits; `salt` is put before the name and makes an independent hash.

    Args:
        name: of the feature.
        values: as for `signatures`.
        salt: any bytes.

    Returns:
        uint64 [n].

    Raises:
        InputError: as for `signatures`.
    """
    array = as_bytes(name, values)
    if isinstance(array, pa.DictionaryArray):
        codes = array.indices.to_numpy(zero_copy_only=False)
        return _hash_binary(salt + name.encode() + SEPARATOR, array.dictionary)[codes]
    return _hash_binary(salt + name.encode() + SEPARATOR, array)


def as_bytes(name: str, values: Values) -> pa.Array:
    """The bytes that stand for each value: an Arrow array of large_binary, or a dictionary of it.

    Args:
        name: of the feature, for messages.
        values: as for `signatures`.

    Raises:
        InputError: as for `signatures`.
    """
    array = _as_arrow(name, values)
    if array.null_count:
        row = pc.index(array.is_null(), True).as_py()
        raise InputError(f"feature {name!r}: value {row} is null; an absent value is an empty bag, not a null in it")
    if isinstance(array, pa.DictionaryArray):
        return pa.DictionaryArray.from_arrays(array.indices, _to_binary(name, array.dictionary))
    return _to_binary(name, array)


def _as_arrow(name: str, values: Values) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, np.ndarray) and values.dtype.kind == "S":
        values = values.astype(object)  # as NumPy reads it: without the zeros at the end
    if not isinstance(values, np.ndarray):
        values = [value.encode() if isinstance(value, str) else value for value in values]
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"feature {name!r}: values must be all text or bytes, or all integers: {reason}") from error


def _to_binary(name: str, array: pa.Array) -> pa.Array:
    kind = array.type
    if pa.types.is_null(kind):
        return pa.array([], pa.large_binary())
    if pa.types.is_integer(kind):
        array = array.cast(pa.large_string())
    elif not (_is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        if not (pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind)):
            raise InputError(f"feature {name!r}: values of type {kind} have no one text; give text, bytes or integers")
        array = array.cast(pa.binary())
    return array.cast(pa.large_binary())


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _hash_binary(prefix: bytes, array: pa.Array) -> NDArray[np.uint64]:
    """xxh3_64 of prefix and value; the few long values go through the library, the others through a kernel."""
    out = np.empty(len(array), np.uint64)
    if not len(array):
        return out
    _, offsets_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(data_buffer, np.uint8) if data_buffer is not None else np.empty(0, np.uint8)
    scratch = np.zeros(LONGEST_BYTES + 8, np.uint8)
    if len(prefix) > LONGEST_BYTES:
        _hash_long(prefix, data, offsets, np.arange(len(array)), out)
        return out
    scratch[: len(prefix)] = np.frombuffer(prefix, np.uint8)
    hash_rows(scratch, len(prefix), data, offsets, out)
    long_rows = np.flatnonzero(np.diff(offsets) + len(prefix) > LONGEST_BYTES)
    _hash_long(prefix, data, offsets, long_rows, out)
    return out


def _hash_long(
    prefix: bytes, data: NDArray[np.uint8], offsets: Ints, rows: NDArray[np.int64], out: NDArray[np.uint64]
) -> None:
    import xxhash

    for row in rows:
        out[row] = xxhash.xxh3_64_intdigest(prefix + data[offsets[row] : offsets[row + 1]].tobytes())
