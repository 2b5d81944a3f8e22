"""Streams of decompressed bytes behind one `readinto`, told apart by their magic bytes.

A stream never raises for damaged data: it ends there and says why in `failure`, so that what was readable is used.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, Protocol

import zstandard

from nonet.common.errors import InputError

_CHUNK_BYTES = 256 << 10
# zstandard gives all output of a call at once; 4 bytes can stand for 128 KiB, so 2 KiB of input bound a call to 64 MiB.
_ZSTD_CHUNK_BYTES = 2 << 10


class ByteStream(Protocol):
    """Decompressed bytes."""

    @property
    def compression(self) -> str:
        """Name of the coding, "plain" for none."""
        ...

    @property
    def bytes_read(self) -> int:
        """Bytes taken from the underlying file."""
        ...

    @property
    def failure(self) -> str:
        """Why the stream ended early ("" when it did not); known only after `readinto` returned 0."""
        ...

    def readinto(self, view: memoryview) -> int:
        """Fill `view` from the front; the number of bytes written, 0 only at the end."""
        ...


class _Raw:
    """The underlying file with its first bytes put back, counting what is read; a read error becomes the end."""

    def __init__(self, raw: BinaryIO, head: bytes) -> None:
        self._raw = raw
        self._head = head
        self.bytes_read = len(head)
        self.failure = ""

    def readinto(self, view: memoryview) -> int:
        if self._head:
            count = min(len(view), len(self._head))
            view[:count] = self._head[:count]
            self._head = self._head[count:]
            return count
        try:
            count = self._raw.readinto(view) or 0  # type: ignore[attr-defined]
        except OSError as error:
            self.failure = f"reading failed ({error.strerror})"
            return 0
        self.bytes_read += count
        return count

    def read(self, num_bytes: int) -> bytes:
        chunk = bytearray(num_bytes)
        return bytes(chunk[: self.readinto(memoryview(chunk))])


class PlainStream:
    """Bytes as they are."""

    compression = "plain"

    def __init__(self, raw: _Raw) -> None:
        self._raw = raw

    @property
    def bytes_read(self) -> int:
        """See `ByteStream`."""
        return self._raw.bytes_read

    @property
    def failure(self) -> str:
        """See `ByteStream`."""
        return self._raw.failure

    def readinto(self, view: memoryview) -> int:
        """See `ByteStream`."""
        return self._raw.readinto(view)


class _GzipStep:
    """One gzip member."""

    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(wbits=31)
        self._damage: zlib.error | None = None

    def step(self, data: bytes, max_bytes: int) -> bytes:
        if self._damage is not None:
            raise self._damage
        before = self._decompressor.copy()
        data = self._decompressor.unconsumed_tail + data
        try:
            return self._decompressor.decompress(data, max_bytes)
        except zlib.error as damage:
            self._damage = damage
        # The call that meets the damage gives nothing: go up to it byte by byte, and fail with the next call.
        pieces = []
        with suppress(zlib.error):
            for byte in data:
                pieces.append(before.decompress(bytes((byte,))))  # noqa: PERF401
        return b"".join(pieces)

    @property
    def needs_input(self) -> bool:
        return self._damage is None and not self._decompressor.unconsumed_tail

    @property
    def eof(self) -> bool:
        return self._damage is None and self._decompressor.eof

    @property
    def unused(self) -> bytes:
        return self._decompressor.unused_data


class _BoundedStep:
    """One bzip2 or xz stream."""

    def __init__(self, decompressor: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._decompressor = decompressor

    def step(self, data: bytes, max_bytes: int) -> bytes:
        return self._decompressor.decompress(data, max_bytes)

    @property
    def needs_input(self) -> bool:
        return self._decompressor.needs_input

    @property
    def eof(self) -> bool:
        return self._decompressor.eof

    @property
    def unused(self) -> bytes:
        return self._decompressor.unused_data


class _ZstdStep:
    """One zstd frame; output is not bounded by the library, so input goes in small pieces."""

    needs_input = True

    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor().decompressobj()

    def step(self, data: bytes, max_bytes: int) -> bytes:
        return self._decompressor.decompress(data)

    @property
    def eof(self) -> bool:
        return bool(self._decompressor.eof)

    @property
    def unused(self) -> bytes:
        return self._decompressor.unused_data


_Step = _GzipStep | _BoundedStep | _ZstdStep


class DecompressedStream:
    """A compressed file of one or more frames (members) one after another; zero padding at the end is accepted."""

    def __init__(self, raw: _Raw, compression: str, new_step: Callable[[], _Step], chunk_bytes: int) -> None:
        self.compression = compression
        self.failure = ""
        self._raw = raw
        self._new_step = new_step
        self._chunk_bytes = chunk_bytes
        self._step: _Step | None = new_step()
        self._input = b""
        self._output = memoryview(b"")

    @property
    def bytes_read(self) -> int:
        """See `ByteStream`."""
        return self._raw.bytes_read

    def readinto(self, view: memoryview) -> int:
        """See `ByteStream`."""
        while not self._output and self._step is not None:
            self._advance(len(view))
        count = min(len(view), len(self._output))
        view[:count] = self._output[:count]
        self._output = self._output[count:]
        return count

    def _advance(self, max_bytes: int) -> None:
        step = self._step
        if step is None:
            return
        if step.needs_input and not self._input:
            self._input = self._raw.read(self._chunk_bytes)
            if not self._input:
                self._end(self._raw.failure or f"the {self.compression} data ends early (truncated file)")
                return
        data, self._input = self._input[: self._chunk_bytes], self._input[self._chunk_bytes :]
        try:
            self._output = memoryview(step.step(data, max_bytes))
        except (zlib.error, OSError, lzma.LZMAError, zstandard.ZstdError, EOFError, ValueError) as error:
            self._end(f"the {self.compression} data is damaged ({error})")
            return
        if step.eof:
            self._input = step.unused + self._input
            self._next_frame()

    def _next_frame(self) -> None:
        while True:
            self._input = self._input.lstrip(b"\0")
            if self._input:
                self._step = self._new_step()
                return
            self._input = self._raw.read(self._chunk_bytes)
            if not self._input:
                self._end(self._raw.failure)
                return

    def _end(self, failure: str) -> None:
        self._step = None
        self.failure = failure


def _bzip2_step() -> _Step:
    return _BoundedStep(bz2.BZ2Decompressor())


def _xz_step() -> _Step:
    return _BoundedStep(lzma.LZMADecompressor(format=lzma.FORMAT_XZ))


_MAGIC: tuple[tuple[bytes, str, Callable[[], _Step], int], ...] = (
    (b"\x1f\x8b\x08", "gzip", _GzipStep, _CHUNK_BYTES),
    (b"\x28\xb5\x2f\xfd", "zstd", _ZstdStep, _ZSTD_CHUNK_BYTES),
    (b"BZh", "bzip2", _bzip2_step, _CHUNK_BYTES),
    (b"\xfd7zXZ\0", "xz", _xz_step, _CHUNK_BYTES),
)
_HEAD_BYTES = 6


def open_stream(raw: BinaryIO, name: str) -> ByteStream:
    """Tell the coding of `raw` by its first bytes and decompress it.

    Raises:
        InputError: a zip archive (it may hold several files; unpack it first), or a file whose first read fails.
    """
    head = b""
    try:
        while len(head) < _HEAD_BYTES and (more := raw.read(_HEAD_BYTES - len(head))):
            head += more
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror})") from None
    if head.startswith(b"PK\x03\x04"):
        raise InputError(f"{name}: a zip archive; unpack it first, or pipe it: unzip -p {name} | ... -")
    source = _Raw(raw, head)
    for magic, compression, new_step, chunk_bytes in _MAGIC:
        if head.startswith(magic):
            return DecompressedStream(source, compression, new_step, chunk_bytes)
    return PlainStream(source)
