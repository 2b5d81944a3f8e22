"""Search of a user mask's automaton over a block of lines."""

from __future__ import annotations

import numpy as np
from numba import njit

from nonet.common.kernels import inlined_kernel, kernel

LINE_START = 256  # in place of the byte before
STEPS_A_BYTE = 32  # beyond this a line is left to RE2, so that the whole search stays linear
LEFT, SHORT = -1, -2


@inlined_kernel
def _step(steps, state, byte):
    """The encoded step of a state over a byte; unsigned, so that no check for negative indices is compiled in."""
    return steps[(np.uint64(state) << np.uint64(8)) | np.uint64(byte)]


@inlined_kernel
def _next_start(buf, i, end, start, steps):
    """Where the next match may begin after the search from i failed, having read up to `end`.

    While the automaton stays in the state of its first byte, a search from a later byte that leads to the same state
    takes the same way and fails as well. Only where no state depends on the byte before.
    """
    state = _step(steps, start, buf[i]) >> 1
    i += 1
    while i < end and _step(steps, state, buf[i]) >> 1 == state and _step(steps, start, buf[i]) >> 1 == state:
        i += 1
    return i


@inlined_kernel
def _is_banned(buf, start, stop, place, beside, bans):
    """Whether one of the bans of an automaton stands at a place of the line [start, stop)."""
    row = 0
    for at in range(2, len(beside), 2):
        first, length = place + beside[at], beside[at + 1]
        if first >= start and first + length <= stop:
            i = 0
            while i < length and bans[((row + i) << 8) | np.int64(buf[first + i])]:
                i += 1
            if i == length:
                return True
        row += length
    return False


@kernel
def search_line(
    buf, start, stop, start_states, steps, at_end, can_start, beside, bans, max_matches, out_starts, out_ends, out
):
    """Matches of the automaton in one line.

    Args:
        buf: uint8.
        start, stop: of the line.
        start_states, steps, at_end, can_start, beside, bans: see `mask_automaton.Automaton`.
        max_matches: a line with more is left to RE2.
        out_starts, out_ends: int64 outputs.
        out: where to go on in them.

    Returns:
        Where the outputs end now; `LEFT` when the line is left to RE2, `SHORT` when the outputs are too short.
    """
    looks_back = len(start_states) > 1
    lead, trail = beside[0], beside[1]
    first_out = out
    budget = (stop - start + 32) * STEPS_A_BYTE
    i = start
    while i < stop:
        if not can_start[buf[i]]:
            i += 1
            continue
        if len(bans) and _is_banned(buf, start, stop, i + lead, beside, bans):
            i += 1
            continue
        state = start_states[0]
        if looks_back:
            state = start_states[LINE_START if i == start else buf[i - 1]]
        last, k = np.int64(-1), i
        while state > 0 and k < stop:
            step = _step(steps, state, buf[k])
            if step & 1:
                last = k
            state = step >> 1
            k += 1
        if state > 0 and at_end[state]:
            last = stop
        budget -= k - i
        if state < 0 or budget < 0 or out - first_out >= max_matches:
            return LEFT
        if last - trail > i + lead:
            if out >= len(out_starts):
                return SHORT
            out_starts[out], out_ends[out] = i + lead, last - trail
            out, i = out + 1, last - trail - lead
        elif not looks_back and k > i + 2:
            i = _next_start(buf, i, k, start_states[0], steps)
        else:
            i += 1
    return out


@njit(cache=True, nogil=True)
def search(
    buf, starts, stops, start_states, steps, at_end, can_start, beside, bans, max_matches, out_starts, out_ends, out_at
):
    """`search_line` for many lines.

    Args:
        buf: uint8.
        starts, stops: int64 (lines,).
        start_states, steps, at_end, can_start, beside, bans, max_matches: see `search_line`.
        out_starts, out_ends: int64 outputs.
        out_at: int64 output (lines + 1,); line i has spans [out_at[i], out_at[i + 1]).

    Returns:
        bool (lines,), which lines are left to RE2 (no spans are given for them); length 0 when the outputs are too
        short.
    """
    left = np.zeros(len(starts), np.bool_)
    out = 0
    out_at[0] = 0
    for line in range(len(starts)):
        start, stop = starts[line], stops[line]
        end = search_line(
            buf,
            start,
            stop,
            start_states,
            steps,
            at_end,
            can_start,
            beside,
            bans,
            max_matches,
            out_starts,
            out_ends,
            out,
        )
        if end == SHORT:
            return left[:0]
        if end == LEFT:
            left[line] = True
        else:
            out = end
        out_at[line + 1] = out
    return left


@kernel
def merge_spans(starts, ends, owners, new_starts, new_ends, new_owner, out_starts, out_ends, out_owners):
    """Merge sorted disjoint spans with new ones, without the new ones that overlap an old one.

    Args:
        starts, ends, owners: int64, the old spans.
        new_starts, new_ends: int64, the new ones, none of them empty.
        new_owner: what goes into `out_owners` for them.
        out_starts, out_ends, out_owners: int64 outputs, as long as both together.

    Returns:
        How many spans there are in the outputs.
    """
    out = old = 0
    for new in range(len(new_starts)):
        while old < len(starts) and ends[old] <= new_starts[new]:
            out_starts[out], out_ends[out], out_owners[out] = starts[old], ends[old], owners[old]
            out, old = out + 1, old + 1
        if old == len(starts) or new_ends[new] <= starts[old]:
            out_starts[out], out_ends[out], out_owners[out] = new_starts[new], new_ends[new], new_owner
            out += 1
    while old < len(starts):
        out_starts[out], out_ends[out], out_owners[out] = starts[old], ends[old], owners[old]
        out, old = out + 1, old + 1
    return out
