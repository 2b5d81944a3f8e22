"""What a publisher and a replica say to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.syncing.frames import (
    NUM_BUCKETS,
    Bools,
    CorruptFrameError,
    Ints,
    mask_bytes,
    mask_of,
    pack,
    unpack,
)

Form = tuple[tuple[int, str], ...]
"""Of each segment its dim and its compressor, such as ((1, "Fp32()"), (16, "Fp16()"))."""

Status = Literal["applied", "gap", "corrupt", "refused"]


class _DeltaHeader(msgspec.Struct, frozen=True, array_like=True, tag="delta"):
    table: str
    shard: int
    incarnation: int
    prev_epoch: int
    epoch: int
    buckets: bytes
    whole: bytes
    form: Form
    num_keys: int
    row_bytes: int
    num_tombstones: int
    event_ts_ms: int


class _BlobHeader(msgspec.Struct, frozen=True, array_like=True, tag="blob"):
    name: str
    incarnation: int
    version: int
    event_ts_ms: int
    arrays: list[tuple[str, str, list[int]]]


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """A publisher asks whether a replica can take its tables.

    Args:
        forms: of each table.
    """

    forms: dict[str, Form]


class Ack(msgspec.Struct, frozen=True, array_like=True, tag="ack"):
    """A replica's answer.

    Args:
        replica: its name.
        status: "applied" (also when it was known before), "gap" (see `epochs`), "corrupt" or "refused" (see `reason`).
        table: of the delta, or the blob's name.
        incarnation: likewise.
        epoch: at which its buckets now stand, or the blob's version.
        reason: of a refusal.
        epochs: in a gap, int64 [1024] as bytes: where its buckets stand; 0 where they have another incarnation.
    """

    replica: str
    status: Status
    table: str = ""
    incarnation: int = 0
    epoch: int = 0
    reason: str = ""
    epochs: bytes = b""

    def encode(self) -> bytes:
        """As a frame."""
        return pack(self)


@dataclass(frozen=True, slots=True)
class Delta:
    """What changed in some buckets of a table from one epoch to another; values are those at the time of sending.

    Args:
        table: its name.
        shard: of the publisher.
        incarnation: of the publisher's run; a later run has a larger one.
        prev_epoch: for a replica that stands here or later (up to `epoch`).
        epoch: where it stands when it has applied this.
        buckets: bool [1024], of which this tells all changes.
        whole: bool [1024], of `buckets` those that are told in full: keys that are not named are gone.
        form: of a row.
        keys: int64 [n], of the rows.
        rows: uint8 [n, row_bytes], compressed.
        tombstones: int64 [m], keys that are gone.
        event_ts_ms: newest event time that the rows have learned from.
    """

    table: str
    shard: int
    incarnation: int
    prev_epoch: int
    epoch: int
    buckets: Bools
    whole: Bools
    form: Form
    keys: Ints
    rows: NDArray[np.uint8]
    tombstones: Ints
    event_ts_ms: int = 0

    def encode(self) -> bytes:
        """As a frame: about 80 bytes, 128 for each set of buckets that is not all or none, and the arrays."""
        header = _DeltaHeader(
            self.table,
            self.shard,
            self.incarnation,
            self.prev_epoch,
            self.epoch,
            mask_bytes(self.buckets),
            mask_bytes(~self.whole),
            self.form,
            len(self.keys),
            self.rows.shape[1],
            len(self.tombstones),
            self.event_ts_ms,
        )
        return pack(header, self.keys.astype("<i8"), self.rows, self.tombstones.astype("<i8"))


@dataclass(frozen=True, slots=True)
class Blob:
    """Dense parameters as one version.

    Args:
        name: of the model.
        incarnation: of the publisher's run.
        version: rises by one.
        arrays: by name.
        event_ts_ms: newest event time that they have learned from.
    """

    name: str
    incarnation: int
    version: int
    arrays: Mapping[str, NDArray[Any]]
    event_ts_ms: int = 0

    def encode(self) -> bytes:
        """As a frame.

        Raises:
            InputError: an array that is no number.
        """
        listed = {key: np.asarray(array) for key, array in self.arrays.items()}
        for key, array in listed.items():
            if array.dtype.kind not in "biuf":
                raise InputError(f"dense parameter {key!r} is {array.dtype}; give numbers")
        little = {key: array.astype(array.dtype.newbyteorder("<")) for key, array in listed.items()}
        described = [(key, array.dtype.str, list(array.shape)) for key, array in little.items()]
        header = _BlobHeader(self.name, self.incarnation, self.version, self.event_ts_ms, described)
        return pack(header, *little.values())


def decode(frame: bytes) -> Delta | Blob | Hello | Ack:
    """A message from its bytes.

    Raises:
        CorruptFrameError: it was cut or changed on its way, or its parts do not fit.
    """
    header, body = unpack(frame, _DeltaHeader | _BlobHeader | Hello | Ack)
    if isinstance(header, _DeltaHeader):
        return _delta(header, body)
    if isinstance(header, _BlobHeader):
        return _blob(header, body)
    return header


def _delta(header: _DeltaHeader, body: memoryview) -> Delta:
    keys_end = 8 * header.num_keys
    rows_end = keys_end + header.num_keys * header.row_bytes
    if len(body) != rows_end + 8 * header.num_tombstones:
        raise CorruptFrameError(f"delta of table {header.table!r}: {len(body)} bytes do not hold what it announces")
    return Delta(
        header.table,
        header.shard,
        header.incarnation,
        header.prev_epoch,
        header.epoch,
        mask_of(header.buckets),
        ~mask_of(header.whole),
        header.form,
        np.frombuffer(body[:keys_end], "<i8"),
        np.frombuffer(body[keys_end:rows_end], np.uint8).reshape(header.num_keys, header.row_bytes),
        np.frombuffer(body[rows_end:], "<i8"),
        header.event_ts_ms,
    )


def _blob(header: _BlobHeader, body: memoryview) -> Blob:
    arrays: dict[str, NDArray[Any]] = {}
    at = 0
    for name, kind, shape in header.arrays:
        dtype = np.dtype(kind)
        if dtype.kind not in "biuf":
            raise CorruptFrameError(f"dense parameter {name!r} is announced as {kind}, no number")
        size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        if at + size > len(body):
            raise CorruptFrameError(f"blob {header.name!r}: {len(body)} bytes do not hold {name!r}")
        arrays[name] = np.frombuffer(body[at : at + size], dtype).reshape(shape).copy()
        at += size
    return Blob(header.name, header.incarnation, header.version, arrays, header.event_ts_ms)


def epochs_of(ack: Ack) -> Ints:
    """The epochs that a gap reports, int64 [1024].

    Raises:
        CorruptFrameError: not 1,024 of them.
    """
    if len(ack.epochs) != 8 * NUM_BUCKETS:
        raise CorruptFrameError(f"a gap of replica {ack.replica!r} names {len(ack.epochs) // 8} epochs, not 1024")
    return np.frombuffer(ack.epochs, "<i8").astype(np.int64)
