"""Lines of text from any source, the step before header matching: plain text here, envelopes and tables beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nonet.logs.reading import _line_kernels
from nonet.logs.reading._record_kernels import has_high_bytes, invalid_utf8
from nonet.logs.reading.sources import BlockReader

Int64s = NDArray[np.int64]
SAMPLE_LINES = 1000


@dataclass(slots=True)
class Lines:
    """Consecutive texts as spans of one buffer, each with the input lines it was made of.

    Attributes:
        buffer: uint8; a text and the next one are contiguous but for the line ends between them.
        starts, ends: int64, one a text; the line end is not in it.
        numbers: int64, number (from 1) of the first input line of the text.
        num_sources: int64, how many input lines make the text (more than one for pieces that were put together).
        is_decoded: bool, False for a line that is kept as it is because it does not have the form of its envelope.
        names, field_starts, field_ends: other fields of the envelope, int32 (texts, fields), -1 for absent.
        times_us: int64 from the envelope, or None.
        is_last_open: the last text may be continued by the next lines, so it may be held back.
        invalid_utf8: int64, which of the input lines of the texts are not UTF-8, one count a text; None for none.
        is_cut: the last text is a piece of a line over the length limit.
    """

    buffer: NDArray[np.uint8]
    starts: Int64s
    ends: Int64s
    numbers: Int64s
    num_sources: Int64s
    is_decoded: NDArray[np.bool_]
    names: tuple[str, ...]
    field_starts: NDArray[np.int32]
    field_ends: NDArray[np.int32]
    times_us: Int64s | None = None
    is_last_open: bool = True
    invalid_utf8: Int64s | None = None
    is_cut: bool = False

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(slots=True)
class LineCounts:
    """Lines and rows without the form of their source, all kept; see `ReadReport`."""

    invalid_json: int = 0
    invalid_cri: int = 0
    missing_field: int = 0
    invalid_rows: int = 0


class LineSource(Protocol):
    """Iterates over `Lines`.

    Contract: every input line is in exactly one text; after `hold_back(first)` the texts from `first` on of the
    `Lines` just delivered come again at the start of the next ones, nothing else comes twice.
    """

    @property
    def name(self) -> str:
        """Name of the source, for messages."""
        ...

    @property
    def joins_lines(self) -> bool:
        """Whether a message can go on in the next text."""
        ...

    @property
    def counts(self) -> LineCounts:
        """What did not have the form of the source so far."""
        ...

    def __iter__(self) -> Iterator[Lines]: ...

    def hold_back(self, first: int) -> None:
        """Deliver the texts from number `first` of the current `Lines` again, with the next ones."""
        ...


def invalid_per_line(buffer: NDArray[np.uint8], starts: Int64s, ends: Int64s) -> Int64s | None:
    """1 for every line that is not UTF-8; None when all are."""
    if not has_high_bytes(buffer):
        return None
    return invalid_utf8(buffer, starts, ends)


@dataclass(slots=True)
class TextLines:
    """Lines of plain text, straight from the blocks (nothing is copied)."""

    blocks: BlockReader
    joins_lines: bool = True
    counts: LineCounts = field(default_factory=LineCounts)
    _current: Lines | None = None

    @property
    def name(self) -> str:
        """See `LineSource`."""
        return self.blocks.name

    def __iter__(self) -> Iterator[Lines]:
        for block in self.blocks:
            starts, ends = _line_kernels.split_lines(block.buffer)
            none = np.empty((len(starts), 0), np.int32)
            self._current = Lines(
                block.buffer,
                starts,
                ends,
                numbers=block.first_line + np.arange(len(starts), dtype=np.int64),
                num_sources=np.ones(len(starts), np.int64),
                is_decoded=np.ones(len(starts), np.bool_),
                names=(),
                field_starts=none,
                field_ends=none,
                is_last_open=not (block.at_end or block.is_cut),
                invalid_utf8=invalid_per_line(block.buffer, starts, ends),
                is_cut=block.is_cut,
            )
            yield self._current

    def hold_back(self, first: int) -> None:
        """See `LineSource`."""
        if self._current is not None and first < len(self._current):
            self.blocks.hold_back(len(self._current.buffer) - int(self._current.starts[first]))


def cut(buffer: NDArray[np.uint8], starts: list[int], ends: list[int]) -> list[bytes]:
    """Spans of a buffer as Python bytes."""
    data = buffer.tobytes()
    return [data[start:end] for start, end in zip(starts, ends, strict=True)]


def sample_lines(sample: NDArray[np.uint8]) -> list[bytes]:
    """The first `SAMPLE_LINES` lines of a buffer."""
    starts, ends = _line_kernels.split_lines(sample)
    return cut(sample, starts[:SAMPLE_LINES].tolist(), ends[:SAMPLE_LINES].tolist())


def as_array(data: bytes) -> NDArray[np.uint8]:
    """Bytes as a writable array: kernels are compiled for those only."""
    return np.frombuffer(bytearray(data), np.uint8)


def joined(lines: Sequence[bytes]) -> tuple[NDArray[np.uint8], Int64s, Int64s]:
    """Lines in one buffer, a newline between them, with their spans."""
    lengths = np.array([len(line) for line in lines], np.int64)
    ends = np.cumsum(lengths + 1) - 1
    return as_array(b"\n".join(lines)), ends - lengths, ends
