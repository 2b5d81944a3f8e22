"""Cold starts that belong to a roll-out: pods of a new revision in place of pods of an older one.

The first pod of a revision that another one preceded begins a roll-out. Its pods are as many as pods of other
revisions were alive then (or, where their ends are unknown, had served within the keep-alive), one at least when it
began without a request; they begin within ten minutes. On Kubernetes three pods or more of one function that begin
within two minutes without any request under way count as well, whatever their revision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from nonet.coldstart.advising.history import History

WINDOW_US = 600_000_000
TOGETHER_US = 120_000_000
_END_MARGIN_US = 5_000_000


def find_rollouts(history: History, starts: pl.DataFrame, keep_alive_us: int) -> pl.Series:
    """Which starts belong to a roll-out, bool (starts,)."""
    found = np.zeros(starts.height, bool)
    numbered = starts.select("f", "function", "at_us", "revision", "trigger_us", "in_flight", "gap_us").with_row_index(
        "row"
    )
    pods = {str(name): part for (name,), part in history.pods.group_by(["function"])}
    told = pl.concat([frame.select("function", "revision") for frame in (numbered, history.pods)]).drop_nulls()
    changing = told.group_by("function").agg(pl.col("revision").n_unique()).filter(pl.col("revision") > 1)
    for (name,), own in numbered.filter(pl.col("function").is_in(changing["function"].implode())).group_by(
        ["function"]
    ):
        found[_of_function(own.sort("at_us"), pods.get(str(name)), keep_alive_us)] = True
    if history.num_requests and "k8s" in history.formats:
        for _, own in numbered.filter(pl.col("trigger_us").is_null() & (pl.col("in_flight") == 0)).group_by(["f"]):
            found[_recreated(own.sort("at_us"))] = True
    return pl.Series("rollout", found)


def _of_function(own: pl.DataFrame, pods: pl.DataFrame | None, keep_alive_us: int) -> list[int]:
    """Rows of one function's starts that belong to a roll-out."""
    firsts = own.filter(pl.col("revision").is_not_null()).group_by("revision").agg(pl.col("at_us").min())
    rows: list[int] = []
    for revision, since_us in firsts.iter_rows():
        earlier = firsts.filter((pl.col("at_us") < since_us) & (pl.col("revision") != revision)).height > 0
        if pods is None:
            replaced = _num_active(own.filter(pl.col("at_us") == since_us), keep_alive_us)
        else:
            replaced = _num_alive(pods, revision, since_us, keep_alive_us)
        if not earlier and not replaced:
            continue
        mine = own.filter((pl.col("revision") == revision) & (pl.col("at_us") <= since_us + WINDOW_US))
        unasked = int(mine["trigger_us"].head(1).is_null().any())
        rows += mine["row"].head(max(replaced, unasked)).to_list()
    return rows


def _num_alive(pods: pl.DataFrame, revision: str, moment_us: int, keep_alive_us: int) -> int:
    """Pods of other revisions that were alive at a moment, as far as can be told."""
    by_use = pl.col("last_us") >= moment_us - keep_alive_us - _END_MARGIN_US
    by_end = pl.col("end_us") >= moment_us - _END_MARGIN_US
    alive = pl.coalesce(by_end, by_use, pl.lit(value=True))
    return pods.filter((pl.col("revision") != revision) & (pl.col("create_us") < moment_us) & alive).height


def _num_active(first: pl.DataFrame, keep_alive_us: int) -> int:
    """Where no pods are known: requests under way at a moment, or one pod that was still idle."""
    in_flight, gap_us = int(first["in_flight"][0]), int(first["gap_us"][0])
    return max(in_flight, int(0 <= gap_us <= keep_alive_us))


def _recreated(own: pl.DataFrame) -> list[int]:
    """Rows of three or more starts within two minutes of each other, none of them asked for."""
    at_us = own["at_us"].to_numpy()
    first = np.searchsorted(at_us, at_us - TOGETHER_US)
    last = np.searchsorted(at_us, at_us + TOGETHER_US, side="right")
    return own["row"].to_numpy()[last - first >= 3].tolist()
