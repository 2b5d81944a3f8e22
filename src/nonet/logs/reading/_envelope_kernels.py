"""Compiled loops over enveloped lines: CRI headers, chains of partial lines, and the copy of texts into one buffer."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nonet.common.kernels import kernel
from nonet.logs.reading._json_kernels import ESCAPED, write_unescaped
from nonet.logs.reading._line_kernels import Bytes

NUM_STREAMS = 3  # stdout, stderr, anything else
_SPACE = 0x20


@kernel
def stream_number(buffer: Bytes, start: int, end: int) -> int:
    """0 for stdout, 1 for stderr, 2 for anything else."""
    if end - start != 6 or buffer[start] != 0x73 or buffer[start + 1] != 0x74 or buffer[start + 2] != 0x64:
        return 2
    if buffer[start + 3] == 0x6F and buffer[start + 4] == 0x75 and buffer[start + 5] == 0x74:
        return 0
    return 1 if buffer[start + 3] == 0x65 and buffer[start + 4] == 0x72 and buffer[start + 5] == 0x72 else 2


@njit(cache=True, nogil=True)
def split_cri(
    buffer: Bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    """Split `<time> <stdout|stderr> <P|F>[:more tags] <text>` at its single blanks; a missing text is empty.

    Returns:
        int32 (lines, 3, 3): spans of time, stream and text with kind 1, all 0 for other lines; bool: the line is one;
        bool: it is partial (P); int64: number of its stream.
    """
    spans = np.zeros((starts.size, 3, 3), np.int32)
    streams = np.zeros(starts.size, np.int64)
    valid = np.zeros(starts.size, np.bool_)
    partial = np.zeros(starts.size, np.bool_)
    for line in range(starts.size):
        end = ends[line]
        time_end = starts[line]
        while time_end < end and buffer[time_end] != _SPACE:
            time_end += 1
        stream_end = time_end + 7
        if time_end - starts[line] < 10 or stream_end + 2 > end or buffer[stream_end] != _SPACE:
            continue
        tag = buffer[stream_end + 1]
        tag_end = stream_end + 2
        if tag_end < end and buffer[tag_end] == 0x3A:
            while tag_end < end and buffer[tag_end] != _SPACE:
                tag_end += 1
        stream = stream_number(buffer, time_end + 1, stream_end)
        if stream == 2 or tag not in (0x50, 0x46) or (tag_end < end and buffer[tag_end] != _SPACE):
            continue
        valid[line] = True
        partial[line] = tag == 0x50
        streams[line] = stream
        spans[line, :, 2] = 1
        spans[line, 0, 0], spans[line, 0, 1] = starts[line], time_end
        spans[line, 1, 0], spans[line, 1, 1] = time_end + 1, stream_end
        spans[line, 2, 0], spans[line, 2, 1] = min(tag_end + 1, end), end
    return spans, valid, partial, streams


@kernel
def ends_with_escaped_newline(buffer: Bytes, start: int, end: int) -> bool:
    r"""Whether a JSON string ends with the escape `\\n` (an odd number of backslashes before the n)."""
    if end - start < 2 or buffer[end - 1] != 0x6E:
        return False
    count = 0
    i = end - 2
    while i >= start and buffer[i] == 0x5C:
        count += 1
        i -= 1
    return count % 2 == 1


@njit(cache=True, nogil=True)
def split_docker(
    buffer: Bytes, logs: NDArray[np.int32], streams: NDArray[np.int32], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which docker lines are partial (no newline at the end of their text), and their stream; takes the newline off
    `logs`.

    `logs`, `streams`: int32 (lines, 3), spans and kinds of the members.
    """
    partial = np.zeros(valid.size, np.bool_)
    stream_of = np.full(valid.size, 2, np.int64)
    for line in range(valid.size):
        if not valid[line]:
            continue
        stream_of[line] = stream_number(buffer, streams[line, 0], streams[line, 1])
        if ends_with_escaped_newline(buffer, logs[line, 0], logs[line, 1]):
            logs[line, 1] -= 2
        else:
            partial[line] = True
    return partial, stream_of


@njit(cache=True, nogil=True)
def chain_partials(
    lengths: NDArray[np.int64],
    valid: NDArray[np.bool_],
    partial: NDArray[np.bool_],
    stream_of: NDArray[np.int64],
    max_bytes: int,
    flush: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Chain the pieces of each stream up to the one that is not partial; chains are numbered in order of completion.

    A chain that reaches `max_bytes` is complete; `flush` completes the open ones at the end.

    Returns:
        firsts: int64 (chains,), the first line of each; following: int64 (lines,), the next piece or -1; owners:
        int64 (lines,), the chain of each line, -1 for lines of open chains.
    """
    num_lines = lengths.size
    firsts = np.empty(num_lines, np.int64)
    following = np.full(num_lines, -1, np.int64)
    owners = np.full(num_lines, -1, np.int64)
    first = np.full(NUM_STREAMS, -1, np.int64)
    last = np.full(NUM_STREAMS, -1, np.int64)
    size = np.zeros(NUM_STREAMS, np.int64)
    count = 0
    for line in range(num_lines + (NUM_STREAMS if flush else 0)):
        stream = line - num_lines
        if line < num_lines:
            stream = stream_of[line]
            if not valid[line]:
                firsts[count] = line
                owners[line] = count
                count += 1
                continue
            if first[stream] < 0:
                first[stream] = line
                size[stream] = 0
            else:
                following[last[stream]] = line
            last[stream] = line
            size[stream] += lengths[line]
            if partial[line] and size[stream] < max_bytes:
                continue
        elif first[stream] < 0:
            continue
        piece = first[stream]
        firsts[count] = piece
        while piece >= 0:
            owners[piece] = count
            piece = following[piece]
        count += 1
        first[stream] = -1
    return firsts[:count], following, owners


@kernel
def _copy(buffer: Bytes, start: int, end: int, kind: int, out: Bytes, position: int) -> int:
    if kind == ESCAPED:
        return write_unescaped(buffer, start, end, out, position)
    for i in range(end - start):
        out[position + i] = buffer[start + i]
    return position + end - start


@njit(cache=True, nogil=True)
def gather_texts(
    buffer: Bytes,
    texts: NDArray[np.int32],
    firsts: NDArray[np.int64],
    following: NDArray[np.int64],
    fields: NDArray[np.int32],
) -> tuple[Bytes, NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Copy the texts of all chains, a newline after each, then the fields of their first lines, into one new buffer.

    Args:
        texts: int32 (lines, 3): start, end and JSON kind (only ESCAPED matters) of each line's text.
        firsts, following: the chains, see `chain_partials`.
        fields: int32 (lines, fields, 3) likewise; kind 0 is absent.

    Returns:
        the buffer; starts and ends of the texts, int64 (chains,); starts and ends of the fields, int32 (chains,
        fields), -1 for absent.
    """
    size = firsts.size
    for line in range(texts.shape[0]):
        size += texts[line, 1] - texts[line, 0]
    for line in firsts:
        for k in range(fields.shape[1]):
            size += fields[line, k, 1] - fields[line, k, 0]
    out = np.empty(size, np.uint8)
    starts = np.empty(firsts.size, np.int64)
    ends = np.empty(firsts.size, np.int64)
    field_starts = np.full((firsts.size, fields.shape[1]), -1, np.int32)
    field_ends = np.full((firsts.size, fields.shape[1]), -1, np.int32)
    position = 0
    for chain in range(firsts.size):
        starts[chain] = position
        piece = firsts[chain]
        while piece >= 0:
            position = _copy(buffer, texts[piece, 0], texts[piece, 1], texts[piece, 2], out, position)
            piece = following[piece]
        ends[chain] = position
        out[position] = 0x0A
        position += 1
    for chain in range(firsts.size):
        line = firsts[chain]
        for k in range(fields.shape[1]):
            if fields[line, k, 2] != 0:
                field_starts[chain, k] = position
                position = _copy(buffer, fields[line, k, 0], fields[line, k, 1], fields[line, k, 2], out, position)
                field_ends[chain, k] = position
    return out[:position], starts, ends, field_starts, field_ends
