"""One minute of SPES for all functions at once: what was called, what to load, what to unload.

The state is a struct of arrays over F functions; see `SpesState`. Minutes count from the start of the simulation,
calls of the training days lie at negative minutes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

UNKNOWN, WARM, REGULAR, APPRO_REGULAR, DENSE, SUCCESSIVE, PULSED, POSSIBLE, CORRELATED = range(9)
MAX_WINDOWS = 5
HISTORY = 64
ADAPT_AFTER = 5
EARLY_MINUTES = 2
MAX_DEVIATION = 2.0
DENSE_UPPER = 5
DISCRETE_ABOVE = 10


class SpesState(NamedTuple):
    """Arrays over functions.

    Attributes:
        kind: int8 (F,) class.
        give_up: int64 (F,) idle minutes before unloading.
        loaded: uint8 (F,).
        wait, last_call: int64 (F,) minutes since the last minute with a call; that minute.
        deviation: float64 (F,) standard deviation of training waits.
        predicted, num_predicted: float64 (F, 5), int64 (F,) predicted waits.
        discrete: uint8 (F,).
        modes, mode_counts, num_modes: int64 (F, 5), (F, 5), (F,).
        left, right, num_windows: float64 (F, 5), (F, 5), int64 (F,) minutes in which the next call is expected.
        history, num_seen: int64 (F, 64) ring of waits seen online, (F,) how many.
        link_at, link_from, link_lag: CSR (F + 1,), (L,), (L,) of announcing functions.
    """

    kind: np.ndarray
    give_up: np.ndarray
    loaded: np.ndarray
    wait: np.ndarray
    last_call: np.ndarray
    deviation: np.ndarray
    predicted: np.ndarray
    num_predicted: np.ndarray
    discrete: np.ndarray
    modes: np.ndarray
    mode_counts: np.ndarray
    num_modes: np.ndarray
    left: np.ndarray
    right: np.ndarray
    num_windows: np.ndarray
    history: np.ndarray
    num_seen: np.ndarray
    link_at: np.ndarray
    link_from: np.ndarray
    link_lag: np.ndarray


@njit(cache=True, nogil=True)
def spes_minute(state: SpesState, counts: np.ndarray, minute: int) -> None:
    """Take in the calls (F,) of `minute` and set `loaded` to what holds from the next minute on."""
    num_functions = len(state.kind)
    for f in range(num_functions):
        if counts[f] > 0:
            state.loaded[f] = 1
            if state.wait[f] > 0:
                state.history[f, state.num_seen[f] % HISTORY] = state.wait[f]
                state.num_seen[f] += 1
                if state.num_seen[f] >= ADAPT_AFTER:
                    adapt(state, f)
            state.wait[f] = 0
            state.last_call[f] = minute
            expect(state, f)
    for f in range(num_functions):
        if counts[f] == 0 and state.kind[f] != WARM:
            state.wait[f] += 1
            soon = is_expected(state, f, minute)
            if state.loaded[f] == 1 and not soon and state.wait[f] >= state.give_up[f]:
                state.loaded[f] = 0
            elif soon:
                state.loaded[f] = 1


@njit(cache=True, nogil=True)
def expect(state: SpesState, f: int) -> None:
    """Set the windows of the next call from the last one."""
    after = state.last_call[f] + 1.0
    if state.kind[f] == REGULAR:
        slack = min(state.deviation[f], MAX_DEVIATION)
        state.left[f, 0] = after + state.predicted[f, 0] - slack
        state.right[f, 0] = after + state.predicted[f, 0] + slack
        state.num_windows[f] = 1
    elif state.num_predicted[f] == 0:
        state.num_windows[f] = 0
    elif state.discrete[f] == 1:
        for k in range(state.num_predicted[f]):
            state.left[f, k] = state.right[f, k] = after + state.predicted[f, k]
        state.num_windows[f] = state.num_predicted[f]
    else:
        state.left[f, 0] = after + state.predicted[f, 0]
        state.right[f, 0] = after + state.predicted[f, 1]
        state.num_windows[f] = 1


@njit(cache=True, nogil=True)
def is_expected(state: SpesState, f: int, minute: int) -> bool:
    """Whether a call is expected within two minutes of `minute`; a regular function may miss calls."""
    if state.kind[f] == REGULAR and state.right[f, 0] <= minute:
        step = state.predicted[f, 0] + 1.0
        state.left[f, 0] += step
        state.right[f, 0] += step
    if state.kind[f] == CORRELATED:
        for k in range(state.link_at[f], state.link_at[f + 1]):
            if is_announced(state, state.link_from[k], state.link_lag[k], minute):
                return True
        return False
    return in_windows(state, f, 0, minute)


@njit(cache=True, nogil=True)
def is_announced(state: SpesState, source: int, lag: int, minute: int) -> bool:
    """Whether `source` was called at most `lag` minutes ago, or is expected to be, give or take two minutes."""
    if state.last_call[source] + lag >= minute - EARLY_MINUTES:
        return True
    return state.kind[source] != CORRELATED and in_windows(state, source, lag, minute)


@njit(cache=True, nogil=True)
def in_windows(state: SpesState, f: int, lag: int, minute: int) -> bool:
    """Whether `minute` lies within two minutes of a window of f, its end moved by `lag`."""
    for k in range(state.num_windows[f]):
        if state.left[f, k] <= minute + EARLY_MINUTES and state.right[f, k] + lag >= minute - EARLY_MINUTES:
            return True
    return False


@njit(cache=True, nogil=True)
def adapt(state: SpesState, f: int) -> None:
    """Move the predictions of f towards the waits seen online."""
    seen = state.history[f, : min(state.num_seen[f], HISTORY)]
    if state.kind[f] == REGULAR:
        median = np.median(seen)
        if abs(median - state.predicted[f, 0]) > max(1.0, state.deviation[f]):
            state.predicted[f, 0] = (state.predicted[f, 0] + median) / 2
    elif state.kind[f] == DENSE:
        if abs(seen.min() - state.predicted[f, 0]) > 1:
            state.predicted[f, 0] = seen.min()
        if abs(seen.max() - state.predicted[f, 1]) > 1 and seen.max() <= DENSE_UPPER:
            state.predicted[f, 1] = seen.max()
    elif state.kind[f] == POSSIBLE or state.kind[f] == UNKNOWN:
        adapt_modes(state, f, seen)


@njit(cache=True, nogil=True)
def adapt_modes(state: SpesState, f: int, seen: np.ndarray) -> None:
    """Waits repeated online take the place of trained modes that are rarer; an unknown function may become possible."""
    ordered = np.sort(seen)
    first = 0
    while first < len(ordered):
        last = first
        while last < len(ordered) and ordered[last] == ordered[first]:
            last += 1
        if last - first >= 2:
            insert_mode(state, f, ordered[first], last - first)
        first = last
    if state.num_modes[f] > 0:
        state.kind[f] = POSSIBLE
        predict_from_modes(state, f)


@njit(cache=True, nogil=True)
def insert_mode(state: SpesState, f: int, value: int, count: int) -> None:
    """Keep the five most frequent modes, ordered by count, older ones first."""
    num = state.num_modes[f]
    for k in range(num):
        if state.modes[f, k] == value:
            if count <= state.mode_counts[f, k]:
                return
            for j in range(k, num - 1):
                state.modes[f, j] = state.modes[f, j + 1]
                state.mode_counts[f, j] = state.mode_counts[f, j + 1]
            num -= 1
            break
    at = num
    while at > 0 and state.mode_counts[f, at - 1] < count:
        at -= 1
    if at < MAX_WINDOWS:
        for j in range(min(num, MAX_WINDOWS - 1), at, -1):
            state.modes[f, j] = state.modes[f, j - 1]
            state.mode_counts[f, j] = state.mode_counts[f, j - 1]
        state.modes[f, at] = value
        state.mode_counts[f, at] = count
        num = min(num + 1, MAX_WINDOWS)
    state.num_modes[f] = num


@njit(cache=True, nogil=True)
def predict_from_modes(state: SpesState, f: int) -> None:
    """An interval when the modes lie within ten minutes, else each of them."""
    num = state.num_modes[f]
    modes = np.sort(state.modes[f, :num])
    if modes[-1] - modes[0] <= DISCRETE_ABOVE:
        state.discrete[f] = 0
        state.predicted[f, 0] = modes[0]
        state.predicted[f, 1] = modes[-1]
        state.num_predicted[f] = 2
    else:
        state.discrete[f] = 1
        for k in range(num):
            state.predicted[f, k] = modes[k]
        state.num_predicted[f] = num


@njit(cache=True, nogil=True)
def spes_replay(state: SpesState, counts: np.ndarray, cold: np.ndarray, wasted: np.ndarray) -> None:
    """Run minutes 0.. of counts (F, M) through the state.

    Adds to `cold` (F,) the minutes with calls that found the function not loaded, and to `wasted` (F,) the minutes it
    was loaded, at their start, without a call.
    """
    num_functions, num_minutes = counts.shape
    for minute in range(num_minutes):
        for f in range(num_functions):
            if counts[f, minute] > 0:
                cold[f] += 1 - state.loaded[f]
            else:
                wasted[f] += state.loaded[f]
        spes_minute(state, counts[:, minute], minute)
