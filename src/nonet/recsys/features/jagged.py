"""Bags of ids in the forms that others use: Arrow lists, and TorchRec's KeyedJaggedTensor.

Here a bag column is values and offsets (`example.Bags`); a KeyedJaggedTensor holds the values and the lengths of all
features, one feature after another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from nonet.common.errors import InputError, MissingExtraError
from nonet.recsys.example import Bags

Ints = NDArray[np.int64]


def lengths_to_offsets(lengths: ArrayLike) -> Ints:
    """Where each bag begins and the last one ends.

    Args:
        lengths: integers [n], none negative.

    Returns:
        int64 [n + 1].

    Raises:
        InputError: a negative length.

    >>> lengths_to_offsets([1, 0, 2]).tolist()
    [0, 1, 1, 3]
    """
    sizes = np.asarray(lengths, np.int64)
    if len(sizes) and sizes.min() < 0:
        raise InputError(f"the length of bag {int(sizes.argmin())} is negative: {sizes.min()}")
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return offsets


def bags_of(values: ArrayLike, *, lengths: ArrayLike | None = None, offsets: ArrayLike | None = None) -> Bags:
    """Checked bags from values with lengths or offsets.

    Args:
        values: int64 [total].
        lengths: integers [n], or
        offsets: integers [n + 1].

    Raises:
        InputError: both or neither, or they do not fit the values.

    >>> len(bags_of([7, 8], lengths=[2, 0]))
    2
    """
    if (lengths is None) == (offsets is None):
        raise InputError("bags need lengths or offsets, one of the two")
    ends = lengths_to_offsets(lengths) if lengths is not None else np.asarray(offsets, np.int64)
    ids = np.ascontiguousarray(values, np.int64)
    if len(ends) == 0 or ends[0] != 0 or ends[-1] != len(ids) or (np.diff(ends) < 0).any():
        raise InputError(f"offsets must rise from 0 to the number of values, {len(ids)}; got {ends[:1]}..{ends[-1:]}")
    return Bags(ids, np.ascontiguousarray(ends))


def bags_from_arrow(column: pa.Array | pa.ChunkedArray) -> Bags:
    """Bags from an Arrow column: lists of integers, or one integer a row.

    Args:
        column: list, large_list or fixed_size_list of integers, or integers; a null row is an empty bag.

    Raises:
        InputError: another type, or a null in a list.

    >>> bags_from_arrow(pa.array([[1, 2], None, []])).offsets.tolist()
    [0, 2, 2, 2]
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values, lengths = list_parts(array)
    if not pa.types.is_integer(values.type):
        raise InputError(f"a bag holds integers, got {array.type}; hash text with features.signature first")
    if pa.types.is_uint64(values.type):
        return bags_of(values.to_numpy(zero_copy_only=False).view(np.int64), lengths=lengths)
    return bags_of(values.cast(pa.int64()).to_numpy(zero_copy_only=False), lengths=lengths)


def list_parts(array: pa.Array) -> tuple[pa.Array, Ints]:
    """The values of the lists of an Arrow array one after another, and the length of each list.

    Args:
        array: lists, or plain values, which count as lists of one; a null row is an empty list.

    Raises:
        InputError: a null in a list.

    >>> list_parts(pa.array([["a", "b"], None]))[1].tolist()
    [2, 0]
    """
    kind = array.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        if pa.types.is_fixed_size_list(kind):
            lengths = np.where(array.is_valid().to_numpy(zero_copy_only=False), kind.list_size, 0).astype(np.int64)
        values = array.flatten()
        if values.null_count:
            raise InputError("a list holds a null; an absent value is left out of its list")
        return values, lengths
    lengths = array.is_valid().to_numpy(zero_copy_only=False).astype(np.int64)
    return array.drop_null(), lengths


def bags_to_arrow(bags: Bags) -> pa.Array:
    """Bags as large_list<int64>, without copying.

    >>> bags_to_arrow(Bags.of([[3], []])).to_pylist()
    [[3], []]
    """
    return pa.LargeListArray.from_arrays(pa.array(bags.offsets), pa.array(bags.values))


class KeyedJagged(Protocol):
    """What is used of a KeyedJaggedTensor."""

    def keys(self) -> list[str]:
        """Features."""

    def values(self) -> Any:
        """Tensor [total], feature after feature."""

    def lengths(self) -> Any:
        """Tensor [features * batch], feature after feature."""


def bags_from_keyed_jagged(jagged: KeyedJagged) -> dict[str, Bags]:
    """Bags per feature from a KeyedJaggedTensor or what looks like one.

    Args:
        jagged: has `keys()`, `values()` and `lengths()`.

    Raises:
        InputError: it has weights (a bag has none), a key twice, or lengths that do not fit.
    """
    weights = getattr(jagged, "weights_or_none", lambda: None)()
    if weights is not None:
        raise InputError("the KeyedJaggedTensor has weights, which bags do not carry; drop them or scale the rows")
    names = list(jagged.keys())
    if len(set(names)) != len(names):
        raise InputError(f"a key stands twice in the KeyedJaggedTensor: {names}")
    values, lengths = np.asarray(jagged.values(), np.int64), np.asarray(jagged.lengths(), np.int64)
    if not names:
        return {}
    if len(lengths) % len(names):
        raise InputError(f"{len(lengths)} lengths do not divide by {len(names)} features of one batch size")
    rows = len(lengths) // len(names)
    offsets = bags_of(values, lengths=lengths).offsets
    bags = {}
    for n, name in enumerate(names):
        own = offsets[n * rows : (n + 1) * rows + 1]
        bags[name] = Bags(values[own[0] : own[-1]], own - own[0])
    return bags


def keyed_jagged_parts(bags: Mapping[str, Bags]) -> tuple[list[str], Ints, Ints]:
    """Keys, values and lengths in the order that a KeyedJaggedTensor has them.

    Args:
        bags: per feature, all of one batch size.

    Raises:
        InputError: batch sizes differ.

    >>> names, values, lengths = keyed_jagged_parts({"a": Bags.of([[1], []]), "b": Bags.of([[2, 3], [4]])})
    >>> values.tolist(), lengths.tolist()
    ([1, 2, 3, 4], [1, 0, 2, 1])
    """
    sizes = {name: len(column) for name, column in bags.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(f"the features differ in batch size: {sizes}")
    columns = list(bags.values())
    return (
        list(bags),
        _joined([column.values for column in columns]),
        _joined([np.diff(column.offsets) for column in columns]),
    )


def to_keyed_jagged(bags: Mapping[str, Bags]) -> Any:
    """A real KeyedJaggedTensor.

    Args:
        bags: per feature, all of one batch size.

    Raises:
        MissingExtraError: torchrec is not installed.
        InputError: batch sizes differ.
    """
    try:
        import torch
        from torchrec import KeyedJaggedTensor
    except ImportError as error:
        raise MissingExtraError("a KeyedJaggedTensor needs torchrec: pip install torchrec fbgemm-gpu-cpu") from error
    names, values, lengths = keyed_jagged_parts(bags)
    return KeyedJaggedTensor(keys=names, values=torch.from_numpy(values), lengths=torch.from_numpy(lengths))


def _joined(parts: Sequence[Ints]) -> Ints:
    return np.concatenate([np.empty(0, np.int64), *parts])
