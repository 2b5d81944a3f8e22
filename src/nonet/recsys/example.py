"""Rows that travel through the loop: what was shown, what was done, and the example that both make.

All three are MessagePack maps on a log, so a producer may add fields without breaking those who do not know them.
Times are event time in milliseconds. An id is 64 bits: slot and signature in one number (`features.fid`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class FeatureEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An item was shown: the features that the ranking saw.

    Attributes:
        request_id: of the request; with `item_id` the key that the action carries, too.
        item_id: what was shown.
        ts_ms: when, event time.
        ids: per feature the ids of the bag; an absent feature is an empty bag.
        dense: numbers.

    >>> FeatureEvent(request_id=b"r1", item_id=b"i1", ts_ms=5_000, ids={"user": [17], "item": [881]}).dense
    []
    """

    request_id: bytes
    item_id: bytes
    ts_ms: int
    ids: dict[str, list[int]] = {}
    dense: list[float] = []


class ActionEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody did something with an item that was shown.

    Attributes:
        request_id: as in the feature event.
        item_id: likewise.
        ts_ms: when, event time.
        action: its kind, such as "click".
        value: such as a price or seconds watched.

    >>> ActionEvent(request_id=b"r1", item_id=b"i1", ts_ms=9_000).action
    'click'
    """

    request_id: bytes
    item_id: bytes
    ts_ms: int
    action: str = "click"
    value: float = 1.0


class Example(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A joined row to train on.

    Attributes:
        request_id: as in the feature event.
        item_id: likewise.
        ts_ms: of the feature event.
        ids: likewise.
        dense: likewise.
        label: 1 for a positive.
        weight: of its loss.
        sample_rate: share of the negatives with its features that were kept. A positive carries it, too, though it is
            always kept: the odds of both are shifted by it.
        is_correction: a late positive whose negative went out before.

    >>> row = Example(request_id=b"r1", item_id=b"i1", ts_ms=5_000, ids={"user": [17], "item": [881]}, label=1.0)
    >>> row.weight, row.sample_rate
    (1.0, 1.0)
    """

    request_id: bytes
    item_id: bytes
    ts_ms: int
    ids: dict[str, list[int]] = {}
    dense: list[float] = []
    label: float = 0.0
    weight: float = 1.0
    sample_rate: float = 1.0
    is_correction: bool = False


Row = TypeVar("Row", FeatureEvent, ActionEvent, Example)

_encoder = msgspec.msgpack.Encoder()
_decoders = {kind: msgspec.msgpack.Decoder(kind) for kind in (FeatureEvent, ActionEvent, Example)}


def encode(row: FeatureEvent | ActionEvent | Example) -> bytes:
    """The bytes of a row on a log.

    >>> decode(encode(ActionEvent(request_id=b"r1", item_id=b"i1", ts_ms=5)), ActionEvent).action
    'click'
    """
    return _encoder.encode(row)


def decode(payload: bytes, kind: type[Row]) -> Row:
    """A row from its bytes; fields that are not known are passed over.

    Raises:
        InputError: not a row of this kind.
    """
    try:
        return cast(Row, _decoders[kind].decode(payload))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"not a {kind.__name__} in MessagePack: {error}") from error


@dataclass(frozen=True, slots=True)
class Bags:
    """Ids of one feature for a batch: jagged, as values and offsets.

    Args:
        values: int64 [total].
        offsets: int64 [n + 1], rising, from 0 to `total`; row i owns `values[offsets[i]:offsets[i + 1]]`.
    """

    values: Ints
    offsets: Ints

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]]) -> Bags:
        """From lists.

        >>> Bags.of([[3], [], [1, 2]]).offsets.tolist()
        [0, 1, 1, 3]
        """
        listed = [np.asarray(row, np.int64) for row in rows]
        offsets = np.zeros(len(listed) + 1, np.int64)
        np.cumsum([len(row) for row in listed], out=offsets[1:])
        return cls(np.concatenate([np.empty(0, np.int64), *listed]), offsets)

    @classmethod
    def single(cls, ids: Ints) -> Bags:
        """One id a row."""
        return cls(np.ascontiguousarray(ids, np.int64), np.arange(len(ids) + 1, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: Ints) -> Bags:
        """Some rows, in the order given."""
        sizes = (self.offsets[1:] - self.offsets[:-1])[rows]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(sizes, out=offsets[1:])
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes)
        return Bags(self.values[np.repeat(self.offsets[:-1][rows], sizes) + within], offsets)


@dataclass(frozen=True, slots=True)
class ExampleBatch:
    """Rows to train on or to score, by column.

    Args:
        ids: per feature a bag of ids for each row.
        dense: float32 [n, m]; m may be 0.
        label: float32 [n].
        weight: float32 [n].
        sample_rate: float32 [n].
        ts_ms: int64 [n], event time.

    Raises:
        InputError: columns of different lengths.

    >>> row = Example(request_id=b"r1", item_id=b"i1", ts_ms=5_000, ids={"user": [17], "item": [881]}, label=1.0)
    >>> batch = ExampleBatch.of([row, row], ("user", "item"))
    >>> len(batch), batch.ids["item"].values.tolist(), batch.label.tolist()
    (2, [881, 881], [1.0, 1.0])
    """

    ids: Mapping[str, Bags]
    dense: Floats
    label: Floats
    weight: Floats
    sample_rate: Floats
    ts_ms: Ints

    def __post_init__(self) -> None:
        sizes = {name: len(bags) for name, bags in self.ids.items()}
        sizes |= {name: len(getattr(self, name)) for name in ("dense", "label", "weight", "sample_rate", "ts_ms")}
        if len(set(sizes.values())) != 1:
            raise InputError(f"the columns of a batch differ in length: {sizes}")

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def of(cls, rows: Sequence[Example], features: Sequence[str], num_dense: int = 0) -> ExampleBatch:
        """From examples.

        Args:
            rows: examples.
            features: which, in this order; a row without one has an empty bag.
            num_dense: numbers a row; missing ones are 0.

        Raises:
            InputError: a row with more numbers than that.
        """
        dense = np.zeros((len(rows), num_dense), np.float32)
        for n, row in enumerate(rows):
            if len(row.dense) > num_dense:
                raise InputError(f"example {n} has {len(row.dense)} dense numbers, {num_dense} are expected")
            dense[n, : len(row.dense)] = row.dense
        return cls(
            {name: Bags.of([row.ids.get(name, ()) for row in rows]) for name in features},
            dense,
            np.array([row.label for row in rows], np.float32),
            np.array([row.weight for row in rows], np.float32),
            np.array([row.sample_rate for row in rows], np.float32),
            np.array([row.ts_ms for row in rows], np.int64),
        )

    def take(self, rows: Ints | slice) -> ExampleBatch:
        """Some rows, in the order given."""
        chosen = np.arange(len(self))[rows]
        return ExampleBatch(
            {name: bags.take(chosen) for name, bags in self.ids.items()},
            self.dense[chosen],
            self.label[chosen],
            self.weight[chosen],
            self.sample_rate[chosen],
            self.ts_ms[chosen],
        )
