"""Calls of a shard as bytes: names, numbers, texts and arrays. Nothing in them is executed.

    length of the header, uint32 | MessagePack header | arrays, one after the other

An array stands in the header as a map of its type and shape.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

import msgspec
import numpy as np

from nonet.common.errors import InputError

_LENGTH = struct.Struct("<Q")
_KINDS = frozenset("biuf")


def encode(value: Any) -> bytes:
    """Bytes of a value: None, numbers, texts, bytes, arrays of numbers, and lists, tuples and maps of them.

    >>> decode(encode({"op": "lookup", "args": [np.arange(3), 1.5]}))["args"][0].tolist()
    [0, 1, 2]
    """
    buffers: list[bytes] = []

    def described(one: Any) -> Any:
        if isinstance(one, np.ndarray):
            if one.dtype.kind not in _KINDS:
                raise InputError(f"an array of {one.dtype} cannot travel; give numbers")
            little = np.ascontiguousarray(one, one.dtype.newbyteorder("<"))
            buffers.append(little.tobytes())
            return {"$": [little.dtype.str, list(one.shape)]}
        if isinstance(one, np.generic):
            return one.item()
        if isinstance(one, list | tuple):
            return [described(part) for part in one]
        if isinstance(one, dict):
            return {key: described(part) for key, part in one.items()}
        return one

    header = msgspec.msgpack.encode(described(value))
    return b"".join([struct.pack("<I", len(header)), header, *buffers])


def decode(frame: bytes | memoryview) -> Any:
    """The inverse of `encode`; tuples have become lists.

    Raises:
        InputError: no such bytes.
    """
    view = memoryview(frame)
    try:
        (length,) = struct.unpack_from("<I", view)
        header = msgspec.msgpack.decode(view[4 : 4 + length])
    except (struct.error, msgspec.DecodeError) as error:
        raise InputError(f"not a call of a shard: {error}") from error
    at = 4 + length

    def restored(one: Any) -> Any:
        nonlocal at
        if isinstance(one, dict) and set(one) == {"$"}:
            dtype, shape = np.dtype(one["$"][0]), one["$"][1]
            if dtype.kind not in _KINDS:
                raise InputError(f"an array is announced as {dtype}, no number")
            size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
            if at + size > len(view):
                raise InputError("a call of a shard is cut short")
            array = np.frombuffer(view[at : at + size], dtype).reshape(shape).copy()
            at += size
            return array
        if isinstance(one, list):
            return [restored(part) for part in one]
        if isinstance(one, dict):
            return {key: restored(part) for key, part in one.items()}
        return one

    return restored(header)


def send(connection: socket.socket, value: Any) -> None:
    """Write one value to a stream."""
    frame = encode(value)
    connection.sendall(_LENGTH.pack(len(frame)))
    connection.sendall(frame)


def receive(connection: socket.socket) -> Any:
    """Read one value from a stream.

    Raises:
        ConnectionError: the other side is gone.
    """
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    return decode(_exactly(connection, length))


def _exactly(connection: socket.socket, size: int) -> memoryview:
    buffer = memoryview(bytearray(size))
    taken = 0
    while taken < size:
        got = connection.recv_into(buffer[taken:])
        if not got:
            raise ConnectionError("the other side closed the connection")
        taken += got
    return buffer
