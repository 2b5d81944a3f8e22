"""The running state of SPES, made from the classes that it learnt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nonet.coldstart.simulating import spes_classes as classes
from nonet.coldstart.simulating._spes_kernels import HISTORY, MAX_WINDOWS, SpesState, expect, is_expected
from nonet.coldstart.simulating.spes_classes import GIVE_UP_MINUTES, SpesClass


def make_state(found: Sequence[SpesClass], last_call_minute: np.ndarray) -> SpesState:
    """The state at minute 0, as if the rules had run before.

    Args:
        found: classes of F functions.
        last_call_minute: int64 (F,), minute of each function's last call before minute 0, far below 0 = never.
    """
    num = len(found)
    links = [one.links for one in found]
    pairs = np.array([pair for each in links for pair in each], np.int64).reshape(-1, 2)
    state = SpesState(
        kind=np.array([one.kind for one in found], np.int8),
        give_up=np.array([GIVE_UP_MINUTES[one.kind] for one in found], np.int64),
        loaded=np.zeros(num, np.uint8),
        wait=-1 - last_call_minute.astype(np.int64),
        last_call=last_call_minute.astype(np.int64),
        deviation=np.array([one.deviation for one in found], np.float64),
        predicted=_table([one.predicted for one in found], np.float64),
        num_predicted=np.array([len(one.predicted) for one in found], np.int64),
        discrete=np.array([one.discrete for one in found], np.uint8),
        modes=_table([one.modes for one in found], np.int64),
        mode_counts=_table([one.mode_counts for one in found], np.int64),
        num_modes=np.array([len(one.modes) for one in found], np.int64),
        left=np.zeros((num, MAX_WINDOWS)),
        right=np.zeros((num, MAX_WINDOWS)),
        num_windows=np.zeros(num, np.int64),
        history=np.zeros((num, HISTORY), np.int64),
        num_seen=np.zeros(num, np.int64),
        link_at=np.concatenate([[0], np.cumsum([len(each) for each in links])]).astype(np.int64),
        link_from=pairs[:, 0].copy(),
        link_lag=pairs[:, 1].copy(),
    )
    _bring_up_to_date(state)
    return state


def _bring_up_to_date(state: SpesState) -> None:
    """Windows from the last calls, moved on for regular functions that missed some, and what they load."""
    for f in range(len(state.kind)):
        expect(state, f)
        if state.kind[f] == classes.REGULAR and state.right[f, 0] < 0:
            period = state.predicted[f, 0] + 1
            missed = np.ceil(-state.right[f, 0] / period)
            state.left[f, 0] += missed * period
            state.right[f, 0] += missed * period
    for f in range(len(state.kind)):
        is_warm = state.kind[f] == classes.WARM
        state.loaded[f] = is_warm or state.wait[f] < state.give_up[f] or is_expected(state, f, -1)


def _table(rows: Sequence[Sequence[float]], dtype: type) -> np.ndarray:
    table: np.ndarray = np.zeros((len(rows), MAX_WINDOWS), dtype)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return table
