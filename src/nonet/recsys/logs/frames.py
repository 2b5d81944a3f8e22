"""Bytes of the embedded log: frames of records, each with a checksum of its head and one of its body.

head  magic, CRC of the rest of the head, CRC of the body, bytes of the body, number of records, first offset,
      producer (16 bytes, zeros for none), its first sequence number
body  times int64[n], key lengths uint32[n], payload lengths uint32[n], keys, payloads

A frame without records carries the producers' last sequence numbers; each segment begins with one, so that old segments
can go. The head has its own checksum because a damaged length in the middle must not look like an end that was cut off.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple
from zlib import crc32

import numpy as np

from nonet.recsys.logs.log import Record, records_of

MAGIC = b"NLG1"
HEAD = struct.Struct("<4sIIIIQ16sq")
NOBODY = bytes(16)
_TAIL = struct.Struct("<IIIQ16sq")  # of the head, what its checksum covers
_PRODUCER = struct.Struct("<16sq")


class Head(NamedTuple):
    """Head of a frame.

    Attributes:
        body_crc: checksum.
        body_bytes: length.
        num_records: 0 in a frame of producers.
        first_offset: of its first record.
        producer: digest of the producer's name.
        sequence: its number of the first record.
    """

    body_crc: int
    body_bytes: int
    num_records: int
    first_offset: int
    producer: bytes
    sequence: int

    @property
    def next_offset(self) -> int:
        """Of the record after the frame."""
        return self.first_offset + self.num_records


def producer_digest(name: str) -> bytes:
    """16 bytes that stand for a producer."""
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


def encode_frame(records: Sequence[Record], first_offset: int, producer: bytes = NOBODY, sequence: int = -1) -> bytes:
    """A frame of records.

    >>> frame = encode_frame([Record(b"k", b"v", 7)], first_offset=3)
    >>> head = decode_head(frame)
    >>> decode_records(frame[HEAD.size :], head.num_records)
    [Record(key=b'k', payload=b'v', ts_ms=7)]
    """
    keys, payloads, times = zip(*records, strict=True)
    body = b"".join(
        (
            np.array(times, "<i8").tobytes(),
            np.fromiter(map(len, keys), "<u4", len(keys)).tobytes(),
            np.fromiter(map(len, payloads), "<u4", len(keys)).tobytes(),
            *keys,
            *payloads,
        )
    )
    return _framed(body, len(records), first_offset, producer, sequence)


def encode_producers(last: dict[bytes, int], offset: int) -> bytes:
    """A frame of the producers' last sequence numbers."""
    return _framed(b"".join(_PRODUCER.pack(*item) for item in last.items()), 0, offset, NOBODY, -1)


def _framed(body: bytes, num_records: int, offset: int, producer: bytes, sequence: int) -> bytes:
    tail = _TAIL.pack(crc32(body), len(body), num_records, offset, producer, sequence)
    return MAGIC + struct.pack("<I", crc32(tail)) + tail + body


def decode_head(data: bytes | memoryview, at: int = 0) -> Head | None:
    """The head at a place; None if its checksum does not hold.

    Raises:
        struct.error: fewer bytes than a head has.
    """
    magic, crc, *fields = HEAD.unpack_from(data, at)
    if magic != MAGIC or crc32(memoryview(data)[at + 8 : at + HEAD.size]) != crc:
        return None
    return Head(*fields)


def decode_records(body: bytes, num_records: int) -> list[Record]:
    """Records of a body whose checksum holds."""
    times = np.frombuffer(body, "<i8", num_records).tolist()
    lengths = np.frombuffer(body, "<u4", 2 * num_records, 8 * num_records)
    bounds = accumulate(lengths.tolist(), initial=16 * num_records)
    cuts = [body[start:end] for start, end in pairwise(bounds)]
    return list(records_of(zip(cuts[:num_records], cuts[num_records:], times, strict=True)))


def decode_producers(body: bytes) -> dict[bytes, int]:
    """Last sequence numbers of a frame without records."""
    return dict(_PRODUCER.iter_unpack(body))
