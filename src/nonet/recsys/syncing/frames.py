"""Messages of the sync as bytes: a checksum, a small MessagePack header, then the arrays as they are in memory.

    b"NRS1" | crc32 of the rest, uint32 | length of the header, uint32 | header | body

All numbers are little-endian. A frame that was cut or changed on its way is refused; nothing in it is executed.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError

NUM_BUCKETS = 1024
_MAGIC = b"NRS1"
_HEAD = struct.Struct("<4sII")
_encoder = msgspec.msgpack.Encoder()

Header = TypeVar("Header")
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class CorruptFrameError(InputError):
    """A message was cut or changed on its way."""


def pack(header: msgspec.Struct, *body: NDArray[Any] | bytes) -> bytes:
    """One frame.

    Args:
        header: a tagged struct.
        body: arrays (C order) and bytes, one after the other.
    """
    head = _encoder.encode(header)
    parts = [struct.pack("<I", len(head)), head]
    parts += [part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes() for part in body]
    rest = b"".join(parts)
    return b"".join((_MAGIC, struct.pack("<I", zlib.crc32(rest)), rest))


def unpack(frame: bytes, kinds: type[Header] | Any) -> tuple[Header, memoryview]:
    """Header and body of a frame.

    Args:
        frame: what `pack` made.
        kinds: a struct, or a union of tagged ones.

    Raises:
        CorruptFrameError: no frame, the checksum differs, or the header is of another kind.
    """
    if len(frame) < _HEAD.size:
        raise CorruptFrameError(f"sync message of {len(frame)} bytes: cut short; send it again")
    magic, crc, head_bytes = _HEAD.unpack_from(frame)
    if magic != _MAGIC:
        raise CorruptFrameError(f"sync message starts with {bytes(magic)!r}, not {_MAGIC!r}; is it a publisher's?")
    view = memoryview(frame)
    if zlib.crc32(view[8:]) != crc:
        raise CorruptFrameError(f"sync message of {len(frame)} bytes: the checksum differs; send it again")
    try:
        header: Header = msgspec.msgpack.decode(view[_HEAD.size : _HEAD.size + head_bytes], type=kinds)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptFrameError(f"sync message: unknown header ({error}); do both sides have one version?") from error
    return header, view[_HEAD.size + head_bytes :]


def mask_bytes(mask: Bools) -> bytes:
    """A set of buckets in 128 bytes; none for the set of all.

    >>> len(mask_bytes(np.ones(1024, bool))), len(mask_bytes(np.arange(1024) < 3))
    (0, 128)
    """
    return b"" if mask.all() else np.packbits(mask).tobytes()


def mask_of(packed: bytes) -> Bools:
    """The inverse of `mask_bytes`.

    Raises:
        CorruptFrameError: neither 0 nor 128 bytes.
    """
    if not packed:
        return np.ones(NUM_BUCKETS, bool)
    if len(packed) != NUM_BUCKETS // 8:
        raise CorruptFrameError(f"a set of buckets has {len(packed)} bytes, not {NUM_BUCKETS // 8}")
    return np.unpackbits(np.frombuffer(packed, np.uint8)).astype(bool)
