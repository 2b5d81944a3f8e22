"""From the raw values of a feature to its ids: slot and signature, or slot and number in an exact dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.example import Bags
from nonet.recsys.features.dictionary import Dictionary
from nonet.recsys.features.fid import NUM_SLOTS_V2, fid_v2
from nonet.recsys.features.jagged import lengths_to_offsets, list_parts
from nonet.recsys.features.signature import Values, signatures


@dataclass(frozen=True, slots=True)
class FeatureEncoder:
    """Ids of one feature.

    Args:
        name: part of what is hashed.
        slot: 0..32,767.
        dictionary: exact mode; None hashes.

    Raises:
        InputError: a slot out of range.

    >>> FeatureEncoder("user", 7).ids(["u1"])[0] >> 48
    np.int64(7)
    >>> FeatureEncoder("user", 7, Dictionary()).bags(pa.array([["a", "b"], ["a"], None])).offsets.tolist()
    [0, 2, 3, 3]
    """

    name: str
    slot: int
    dictionary: Dictionary | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.slot < NUM_SLOTS_V2:
            raise InputError(f"feature {self.name!r}: slot {self.slot} is out of range 0..{NUM_SLOTS_V2 - 1}")

    def ids(self, values: Values) -> NDArray[np.int64]:
        """The id of each value.

        Args:
            values: as for `signature.signatures`.

        Raises:
            InputError: as for it.
        """
        if self.dictionary is None:
            return fid_v2(self.slot, signatures(self.name, values))
        return fid_v2(self.slot, self.dictionary.encode(values))

    def bags(self, column: pa.Array | pa.ChunkedArray) -> Bags:
        """Bags of ids from an Arrow column of lists or of single values.

        Args:
            column: a null row is an empty bag.

        Raises:
            InputError: a null in a list, or a type that has no one text.
        """
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        values, lengths = list_parts(array)
        return Bags(self.ids(values), lengths_to_offsets(lengths))


def ids_of_values(encoders: Mapping[str, FeatureEncoder], values: Mapping[str, Any]) -> dict[str, list[int]]:
    """Ids of raw values by feature, as JSON has them: one value, or a list.

    Raises:
        InputError: an unknown feature, or a value that has no one text.

    >>> ids = ids_of_values({"user": FeatureEncoder("user", 7)}, {"user": 12})
    >>> ids == ids_of_values({"user": FeatureEncoder("user", 7)}, {"user": ["12"]})
    True
    """
    ids: dict[str, list[int]] = {}
    for name, value in values.items():
        if name not in encoders:
            raise InputError(f"unknown feature {name!r} (known: {', '.join(encoders)})")
        listed = list(value) if isinstance(value, list | tuple) else [value]
        if any(isinstance(one, str) for one in listed):  # a number and its text have one id
            listed = [str(one) for one in listed]
        ids[name] = encoders[name].ids(listed).tolist() if listed else []
    return ids
