"""Arrow arrays without `pyarrow.array`, which imports pandas wherever pandas is installed.

That import costs a quarter of a second, and nothing here uses pandas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def arrow_array(
    values: NDArray[Any], kind: pa.DataType | None = None, missing: NDArray[np.bool_] | None = None
) -> pa.Array:
    """The values of a one-dimensional array of numbers or booleans, shared rather than copied where they can be.

    Args:
        values: shape (n,), contiguous; must not be changed afterwards.
        kind: a type of the same width, e.g. `timestamp("us")` over int64; by default that of `values`.
        missing: shape (n,); null where true.

    >>> arrow_array(np.array([3, 4]), missing=np.array([False, True])).to_pylist()
    [3, None]
    >>> arrow_array(np.array([True, False])).to_pylist()
    [True, False]
    """
    kind = pa.from_numpy_dtype(values.dtype) if kind is None else kind
    data = np.packbits(values, bitorder="little") if values.dtype == np.bool_ else np.ascontiguousarray(values)
    present = None if missing is None else pa.py_buffer(np.packbits(~missing, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [present, pa.py_buffer(data)])


def arrow_strings(values: Sequence[str]) -> pa.Array:
    """The texts as an Arrow string array.

    Raises:
        UnicodeEncodeError: a text has lone surrogates.

    >>> arrow_strings(["a", "", "é"]).to_pylist()
    ['a', '', 'é']
    """
    encoded = [value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    return pa.Array.from_buffers(
        pa.string(), len(encoded), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    )
