"""Bytes in, blocks of whole lines out: plain files, standard input and compressed files, without a Python step a line.

Compression is told by the first bytes, never by the file name. Memory is bounded by one block plus the longest line
(at most `max_line_bytes`); a longer line is cut there, its pieces follow one another and no byte is lost.
"""

from __future__ import annotations

import datetime
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.logs.reading import _line_kernels as kernels
from nonet.logs.reading.compression import ByteStream, open_stream

BLOCK_BYTES = 4 << 20
MAX_LINE_BYTES = 64 << 20

_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_FIRST_READ_BYTES = 16  # enough to tell a byte-order mark, whatever the block size

Source = str | os.PathLike[str] | BinaryIO


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a log, as bytes.

    Attributes:
        buffer: uint8, shape (number of bytes,); ends with a newline unless `at_end` or `is_cut`.
        offset_bytes: where `buffer[0]` stands in the (decompressed) stream.
        first_line: number of the first line, counted from 1.
        is_cut: the last line is longer than the limit and goes on in the next block (which then has the same
            `first_line`).
        at_end: the stream ended; no block follows.
    """

    buffer: NDArray[np.uint8]
    offset_bytes: int
    first_line: int
    is_cut: bool = False
    at_end: bool = False


class OpenedSource:
    """An opened source of decompressed bytes.

    Attributes:
        name: the path, or "standard input".
        num_bytes: size on disk for progress bars; None for pipes.
        modified: when the file was last written (local time, no zone); now for pipes.
        stream: its decompressed bytes.

    Raises:
        InputError: see `open_blocks`.
    """

    def __init__(self, source: Source) -> None:
        self._raw, self.name = _open_raw(source)
        self._owns_raw = isinstance(source, str | os.PathLike) and str(source) != "-"
        self.num_bytes: int | None = None
        self.modified = datetime.datetime.now()
        try:
            if self._owns_raw:
                status = os.fstat(self._raw.fileno())
                if stat.S_ISREG(status.st_mode):
                    self.num_bytes = status.st_size
                    self.modified = datetime.datetime.fromtimestamp(status.st_mtime)
            self.stream: ByteStream = open_stream(self._raw, self.name)
        except BaseException:
            self.close()
            raise

    @property
    def bytes_read(self) -> int:
        """Bytes taken from the disk or the pipe so far (compressed bytes for archives)."""
        return self.stream.bytes_read

    def close(self) -> None:
        """Close the file; standard input and streams handed in stay open."""
        if self._owns_raw:
            with suppress(OSError):
                self._raw.close()


class BlockReader(Iterator[Block]):
    """The iterator behind `open_blocks`; also a context manager.

    A damaged or truncated archive delivers every byte that could be read and raises `InputError` after that.

    Attributes:
        name, num_bytes, modified: see `OpenedSource`.
        has_bom: a UTF-8 byte-order mark was skipped (the stream's first 3 bytes belong to no line).
    """

    def __init__(self, source: Source, block_bytes: int, max_line_bytes: int) -> None:
        if block_bytes < 1 or max_line_bytes < 1:
            raise InputError(f"block and line sizes must be at least 1 byte, got {block_bytes} and {max_line_bytes}")
        self._source = OpenedSource(source)
        self.name = self._source.name
        self.num_bytes = self._source.num_bytes
        self.modified = self._source.modified
        self._stream = self._source.stream
        self._block_bytes = block_bytes
        self._max_line_bytes = max_line_bytes
        self.has_bom = False
        self._buffer: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._used = 0  # bytes of _buffer that hold data
        self._checked = 0  # bytes in front that were delivered before and are held back: whole lines
        self._ended = False
        self._started = False
        self._offset_bytes = 0
        self._line = 1
        self._last: Block | None = None
        self._blocks = self._run()

    def __enter__(self) -> BlockReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> BlockReader:
        return self

    def __next__(self) -> Block:
        return next(self._blocks)

    @property
    def bytes_read(self) -> int:
        """Bytes taken from the disk or the pipe so far (compressed bytes for archives)."""
        return self._source.bytes_read

    def close(self) -> None:
        """Close the file; standard input and streams handed in stay open."""
        self._source.close()

    def peek(self, num_bytes: int) -> NDArray[np.uint8]:
        """Whole lines among the next `num_bytes`, one at least if there is any; nothing is consumed."""
        wanted = num_bytes
        while True:
            if self._used < wanted and not self._ended:
                self._fill(wanted - self._used)
            if self._ended and self._used <= num_bytes:
                return self._buffer[: self._used]
            end = kernels.last_newline(self._buffer, 0, min(num_bytes, self._used)) + 1
            if end == 0:  # the first line is longer than what was asked for
                end = kernels.last_newline(self._buffer, 0, self._used) + 1
            if end > 0:
                return self._buffer[:end]
            if self._ended or self._used > self._max_line_bytes:
                return self._buffer[: self._used]
            wanted = 2 * self._used

    def hold_back(self, num_bytes: int) -> None:
        """Deliver the last `num_bytes` (whole lines) of the current block again, at the start of the next one."""
        block = self._last
        if block is None or block.is_cut or block.at_end or not 0 <= num_bytes <= len(block.buffer):
            raise ValueError(
                "hold_back: needs a current block that is neither cut nor the last, and no more than its bytes"
            )
        kept = block.buffer[len(block.buffer) - num_bytes :]
        self._buffer = np.concatenate((kept, self._buffer[: self._used]))
        self._used += num_bytes
        self._checked = num_bytes
        self._offset_bytes -= num_bytes
        self._line -= kernels.count_newlines(kept)
        self._last = None

    def _run(self) -> Iterator[Block]:
        while True:
            block = self._cut_overlong() or self._take_lines()
            if block is not None:
                self._last = block
                yield block
            elif self._ended:
                break
            else:
                self._fill(self._block_bytes)
        if self._used:
            yield self._deliver(self._used, at_end=True)
        self.close()
        if self._stream.failure:
            line = self._line - 1
            raise InputError(f"{self.name}: {self._stream.failure} after line {line:,}; everything before it was read")

    def _fill(self, num_bytes: int) -> None:
        """Append up to `num_bytes` from the stream; fewer only at its end."""
        wanted = max(num_bytes, 1 if self._started else _FIRST_READ_BYTES)
        if self._used + wanted > len(self._buffer):
            grown = np.empty(max(self._used + wanted, 2 * self._used), np.uint8)
            grown[: self._used] = self._buffer[: self._used]
            self._buffer = grown
        goal = self._used + wanted
        view = memoryview(self._buffer)  # type: ignore[arg-type]
        while self._used < goal:
            count = self._stream.readinto(view[self._used : goal])
            if count == 0:
                self._ended = True
                break
            self._used += count
        if not self._started:
            self._started = True
            self._skip_bom()

    def _skip_bom(self) -> None:
        head = self._buffer[: min(3, self._used)].tobytes()
        if head[:2] in _UTF16_BOMS:
            raise InputError(f"{self.name}: the text is UTF-16; convert it first, e.g. iconv -f UTF-16 -t UTF-8")
        if head == _UTF8_BOM:
            self.has_bom = True
            self._buffer = self._buffer[3:]
            self._used -= 3
            self._offset_bytes = 3

    def _cut_overlong(self) -> Block | None:
        """The block up to the limit of the first line that is too long, if there is one."""
        if self._used - self._checked <= self._max_line_bytes:
            return None
        start = kernels.find_overlong_line(self._buffer, self._checked, self._used, self._max_line_bytes)
        return self._deliver(start + self._max_line_bytes, is_cut=True) if start >= 0 else None

    def _take_lines(self) -> Block | None:
        """All complete lines at hand, if there is a new one."""
        end = kernels.last_newline(self._buffer, self._checked, self._used) + 1
        return self._deliver(end) if end > 0 else None

    def _deliver(self, end: int, is_cut: bool = False, at_end: bool = False) -> Block:
        buffer = self._buffer[:end]
        block = Block(buffer, self._offset_bytes, self._line, is_cut, at_end)
        self._offset_bytes += end
        self._line += kernels.count_newlines(buffer) + (at_end and int(buffer[-1]) != 0x0A)
        self._buffer = self._buffer[end : self._used]
        self._used -= end
        self._checked = 0
        return block


def open_blocks(source: Source, *, block_bytes: int = BLOCK_BYTES, max_line_bytes: int = MAX_LINE_BYTES) -> BlockReader:
    r"""Open a log and iterate over blocks of whole lines.

    Args:
        source: a path, "-" for standard input, or a binary stream.
        block_bytes: how much is read at a time; the lines delivered do not depend on it.
        max_line_bytes: a longer line is cut into pieces of this size (`Block.is_cut`); nothing is lost.

    Raises:
        InputError: missing file, directory, no permission, UTF-16 text, zip archive; while iterating: a damaged
            archive, after everything that could be read was delivered.

    >>> import io
    >>> [bytes(block.buffer) for block in open_blocks(io.BytesIO(b"one\ntwo\nlast"))]
    [b'one\ntwo\n', b'last']
    """
    return BlockReader(source, block_bytes, max_line_bytes)


def _open_raw(source: Source) -> tuple[BinaryIO, str]:
    if not isinstance(source, str | os.PathLike):
        return source, str(getattr(source, "name", "stream"))
    if str(source) == "-":
        return sys.stdin.buffer, "standard input"
    path = Path(source)
    try:
        return path.open("rb", buffering=0), str(path)
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a directory; give a log file in it") from None
    except PermissionError:
        raise InputError(f"{path}: permission denied; the file is not readable for this user") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be opened ({error})") from None


@contextmanager
def rereadable(source: str | Path) -> Iterator[Path]:
    """A path that can be read more than once; standard input ("-") is spooled to a temporary file.

    Raises:
        InputError: there is no room for the spool.
    """
    if str(source) != "-":
        yield Path(source)
        return
    with tempfile.NamedTemporaryFile(prefix="nonet-stdin-") as spool:
        try:
            shutil.copyfileobj(sys.stdin.buffer, spool)
            spool.flush()
        except OSError as error:
            raise InputError(f"standard input: cannot be spooled to {spool.name} ({error.strerror})") from error
        yield Path(spool.name)


def name_of(source: str | Path) -> str:
    """What a source is called in reports."""
    return "standard input" if str(source) == "-" else str(source)
