"""Lines of a file, block by block in bounded memory, each bad one with its place.

Plain, gzip (`.gz`) and zstd (`.zst`) files are read alike. Memory is a few times the size of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa

from nonet.common.errors import InputError

BLOCK_BYTES = 4 << 20
MAX_LINE_BYTES = 1 << 20
_SHOWN = 20


@dataclass(slots=True)
class BadLines:
    """What to do with bad lines: raise at the first, or leave them out, count them and keep the first twenty.

    Args:
        policy: "raise" or "skip".
    """

    policy: Literal["raise", "skip"] = "raise"
    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, path: Path, line: int, reason: str) -> None:
        """Take note of one.

        Raises:
            InputError: by the policy "raise".
        """
        message = f"{path}, line {line}: {reason}"
        if self.policy == "raise":
            raise InputError(f"{message}; mend the line, or skip bad lines")
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(message)


def read_blocks(path: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Whole lines in blocks, each ending with a newline; CRLF becomes LF.

    Args:
        path: file, compressed or not.
        block_bytes: of uncompressed text at a time.

    Raises:
        InputError: not there, damaged, or a line is longer than 1 MiB.
    """
    rest, lines = b"", 0
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            while chunk := stream.read(block_bytes):
                text = rest + chunk
                end = text.rfind(b"\n") + 1
                block, rest = text[:end], text[end:]
                if len(rest) > MAX_LINE_BYTES:
                    at = lines + block.count(b"\n") + 1
                    raise InputError(f"{path}, line {at}: longer than {MAX_LINE_BYTES:,} bytes; is this a text file?")
                if block:
                    lines += block.count(b"\n")
                    yield block.replace(b"\r\n", b"\n")
    except (OSError, EOFError, pa.ArrowInvalid) as error:
        reason = error.strerror if isinstance(error, FileNotFoundError) else error
        raise InputError(f"{path}: cannot be read after line {lines}: {reason}") from error
    if rest:
        yield rest.rstrip(b"\r") + b"\n"


def first_line(path: Path) -> str:
    """The first line of a file, without its end; "" for an empty one.

    Raises:
        InputError: as `read_blocks`, or it is no UTF-8.
    """
    for block in read_blocks(path, 1 << 16):
        try:
            return block.split(b"\n", 1)[0].decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}, line 1: no UTF-8 text: {error.reason}") from error
    return ""
